"""Results of a SearXNG (https://docs.searxng.org/dev/search_api.html): GET /search with `format=json`, which its
operator must have switched on."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from services.mcp.search.answers import failure, hits, json_object, limits
from services.mcp.search.engine import Hit, Query
from services.runtime.errors import ApiError
from services.runtime.outgoing import Fetcher

_TIMES = {"qdr:d": "day", "qdr:w": "week", "qdr:m": "month", "qdr:y": "year"}


class SearXNG:
    """Asks the SearXNG at `base_url`; `fetcher` must be allowed to go there."""

    name = "searxng"

    def __init__(self, fetcher: Fetcher, *, base_url: str) -> None:
        self._fetcher = fetcher
        self._url = f"{base_url.rstrip('/')}/search"

    async def search(self, query: Query, *, seconds: float) -> Sequence[Hit]:
        """What it finds, as `Engine.search`. It knows neither places nor counts."""
        language = "-".join(filter(None, (query.language, query.country.upper()))) if query.language else ""
        asked = {
            "q": query.restricted,
            "format": "json",
            "pageno": query.page,
            "language": language,
            "time_range": _TIMES.get(query.times, ""),
        }
        url = f"{self._url}?{urlencode({name: value for name, value in asked.items() if value})}"
        try:
            async with self._fetcher.get(url, param="q", limits=limits(seconds)) as answer:
                body = await json_object(answer, "SearXNG")
        except ApiError as error:
            raise failure("SearXNG", error) from error
        return list(hits(body.get("results"), url="url", snippet="content"))
