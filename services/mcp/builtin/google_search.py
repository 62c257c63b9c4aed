"""google_search: results of the first engine that gives some, older ones when none does, never invented ones."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from services.mcp.search.engine import Engine, EngineFailed, Hit, Query
from services.mcp.tool import Calling, Description, Json, Result
from services.runtime.breaker import FAILURES_TO_OPEN, Breaker

SECONDS = 10.0
"""For one engine."""
REMEMBERED = 256
"""Searches whose results are kept for times when no engine answers."""
OLDEST = 24 * 3600.0
"""Seconds that they are kept."""

_OFFLINE = "Searching is switched off"
_HOST = {"type": "string", "minLength": 1, "maxLength": 253, "pattern": r"^[A-Za-z0-9.-]+$"}
DESCRIPTION = Description(
    name="google_search",
    title="Web search",
    text=(
        "Searches the web and returns titles, addresses and snippets of pages. Use it for facts that are recent or "
        "that you are not sure of; read pages that look right with `scrape`."
    ),
    category="search",
    input_schema={
        "type": "object",
        "properties": {
            "q": {"type": "string", "minLength": 1, "maxLength": 2048, "description": "What to search for."},
            "num": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10, "description": "Results wanted."},
            "gl": {"type": "string", "maxLength": 8, "description": "Country to search from, such as `de`."},
            "hl": {"type": "string", "maxLength": 16, "description": "Language of the results, such as `en`."},
            "location": {"type": "string", "maxLength": 256, "description": "Place to search from, in words."},
            "location_hint": {"type": "string", "maxLength": 256, "description": "The same, without `location`."},
            "tbs": {
                "type": "string",
                "maxLength": 64,
                "description": "Time filter, such as `qdr:w`: the last week.",
            },
            "page": {"type": "integer", "minimum": 1, "maximum": 100, "default": 1, "description": "Page of results."},
            "autocorrect": {"type": "boolean", "default": True, "description": "Whether typing errors are corrected."},
            "domain_allow_list": {
                "type": "array",
                "items": _HOST,
                "maxItems": 50,
                "default": [],
                "description": "Domains that results may come from.",
            },
            "offline_mode": {"type": "boolean", "default": False, "description": "Whether to ask no engine."},
        },
        "required": ["q"],
    },
    output_schema={
        "type": "object",
        "properties": {
            "query": {"type": "string"},
            "engine": {"type": "string"},
            "live": {"type": "boolean"},
            "cache_status": {"type": "string", "enum": ["live", "cached", "offline"]},
            "metadata": {"type": "object"},
            "results": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "position": {"type": "integer"},
                        "title": {"type": "string"},
                        "source_url": {"type": "string"},
                        "snippet": {"type": "string"},
                        "fetched_at": {"type": "string"},
                        "cache_status": {"type": "string"},
                    },
                    "required": ["position", "title", "source_url", "snippet", "fetched_at", "cache_status"],
                },
            },
            "citations": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["query", "engine", "live", "cache_status", "metadata", "results", "citations"],
    },
    annotations={"readOnlyHint": True, "openWorldHint": True},
)


@dataclass(frozen=True)
class Found:
    """What an engine found, and when."""

    engine: str
    hits: Sequence[Hit]
    at: datetime


class GoogleSearch:
    """Asks `engines` in turn; one that keeps failing is left alone for a while. `domains` are where results may come
    from besides what a call says, `location` where a call without one searches from. `now` gives the time in UTC."""

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        domains: Sequence[str] = (),
        location: str = "",
        longest_snippet: int = 5000,
        offline: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engines = engines
        self._domains = domains
        self._location = location
        self._longest_snippet = longest_snippet
        self._offline = offline
        self._now = now
        self._breakers: dict[str, Breaker] = {}
        self._remembered: OrderedDict[Query, Found] = OrderedDict()

    @property
    def description(self) -> Description:
        return DESCRIPTION

    async def run(self, arguments: Json, calling: Calling) -> Result:
        """Results of CONTRACT 11.2. That no engine answered is a result, too, which says so."""
        query = self._query(arguments)
        if self._offline or arguments["offline_mode"] or not self._engines:
            return self._without(query, [_OFFLINE if self._engines else "No search engine is configured"])
        reasons = []
        for engine in self._engines:
            try:
                found = await self._asked(engine, query, calling.deadline)
            except EngineFailed as error:
                reasons.append(str(error))
            else:
                self._remember(query, found)
                return self._told(query, found, "live", {"failed": reasons} if reasons else {})
        return self._without(query, reasons)

    def _query(self, arguments: Json) -> Query:
        domains = dict.fromkeys(each.lower().strip(".") for each in (*arguments["domain_allow_list"], *self._domains))
        return Query(
            text=arguments["q"],
            count=arguments["num"],
            page=arguments["page"],
            country=arguments.get("gl", "").lower(),
            language=arguments.get("hl", "").lower(),
            location=arguments.get("location") or arguments.get("location_hint") or self._location,
            times=arguments.get("tbs", ""),
            autocorrect=arguments["autocorrect"],
            domains=tuple(domains),
        )

    async def _asked(self, engine: Engine, query: Query, deadline: float) -> Found:
        loop = asyncio.get_running_loop()
        breaker = self._breakers.setdefault(engine.name, Breaker(loop.time))
        if not breaker.closed:
            raise EngineFailed(f"{engine.name} has failed several times and is left alone for a moment")
        probing = breaker.failures >= FAILURES_TO_OPEN
        try:
            hits = await engine.search(query, seconds=max(0.0, min(SECONDS, deadline - loop.time())))
        except EngineFailed:
            breaker.failed(probing=probing)
            raise
        breaker.succeeded()
        return Found(engine.name, list(_allowed(hits, query.domains))[: query.count], self._now())

    def _remember(self, query: Query, found: Found) -> None:
        self._remembered[query] = found
        self._remembered.move_to_end(query)
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)

    def _without(self, query: Query, reasons: Sequence[str]) -> Result:
        """Older results of the same search, or none; either way the reason."""
        metadata = {"reason": "; ".join(reasons)}
        found = self._remembered.get(query)
        if found is not None and (self._now() - found.at).total_seconds() < OLDEST:
            return self._told(query, found, "cached", metadata)
        return self._told(query, Found("offline", (), self._now()), "offline", metadata)

    def _told(self, query: Query, found: Found, status: str, metadata: dict[str, Any]) -> Result:
        at = found.at.strftime("%Y-%m-%dT%H:%M:%SZ")
        results = [
            {
                "position": position,
                "title": hit.title,
                "source_url": hit.url,
                "snippet": hit.snippet[: self._longest_snippet],
                "fetched_at": at,
                "cache_status": status,
            }
            for position, hit in enumerate(found.hits, 1)
        ]
        return Result(
            {
                "query": query.text,
                "engine": found.engine,
                "live": status == "live",
                "cache_status": status,
                "metadata": metadata,
                "results": results,
                "citations": [hit.url for hit in found.hits],
            }
        )


def _allowed(hits: Iterable[Hit], domains: Sequence[str]) -> Iterable[Hit]:
    """The engine was told, and is not believed."""
    for hit in hits:
        host = _host(hit.url)
        if not domains or any(host == domain or host.endswith(f".{domain}") for domain in domains):
            yield hit


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").strip(".")
    except ValueError:  # half an IPv6 address
        return ""
