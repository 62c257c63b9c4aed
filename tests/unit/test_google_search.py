"""google_search: engines in turn, real results only, domains enforced, and the truth when there is nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import pytest

from services.mcp.builtin.google_search import DESCRIPTION, OLDEST, GoogleSearch
from services.mcp.search.engine import EngineFailed, Hit, Query
from services.mcp.tool import Calling
from services.runtime.breaker import FAILURES_TO_OPEN

HITS = [
    Hit("One", "https://example.com/1", "first"),
    Hit("Two", "https://sub.example.org/2", "second"),
    Hit("Three", "https://notexample.com/3", "third"),
]
DEFAULTS: dict[str, Any] = {
    "q": "jan",
    "num": 10,
    "page": 1,
    "autocorrect": True,
    "domain_allow_list": [],
    "offline_mode": False,
}


class Index:
    """An engine that finds `hits`, or fails while `broken`."""

    def __init__(self, name: str = "one", hits: Sequence[Hit] = HITS, *, broken: bool = False) -> None:
        self.name = name
        self.hits = hits
        self.broken = broken
        self.asked: list[Query] = []

    async def search(self, query: Query, *, seconds: float) -> Sequence[Hit]:
        self.asked.append(query)
        if self.broken:
            raise EngineFailed(f"{self.name} is ill")
        return self.hits


class Calendar:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 20, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


async def found(search: GoogleSearch, **arguments: Any) -> dict[str, Any]:
    """What a search says, which must be what its schema promises."""
    calling = Calling("usr_1", "token", asyncio.get_running_loop().time() + 60)
    result = await search.run({**DEFAULTS, **arguments}, calling)
    assert result.structured is not None
    jsonschema.validate(result.structured, DESCRIPTION.output_schema or {})
    return result.structured


async def test_results_are_numbered_dated_and_cited() -> None:
    said = await found(GoogleSearch([Index(hits=HITS[:1])], now=Calendar()))
    row = {
        "position": 1,
        "title": "One",
        "source_url": "https://example.com/1",
        "snippet": "first",
        "fetched_at": "2026-11-20T00:00:00Z",
        "cache_status": "live",
    }
    assert said == {
        "query": "jan",
        "engine": "one",
        "live": True,
        "cache_status": "live",
        "metadata": {},
        "results": [row],
        "citations": ["https://example.com/1"],
    }


async def test_the_engine_hears_everything_that_the_caller_said() -> None:
    engine = Index()
    search = GoogleSearch([engine], domains=["ours.example"], location="Hanoi")
    await found(search, num=3, page=2, gl="DE", hl="de", tbs="qdr:w", domain_allow_list=["Example.COM."])
    assert engine.asked == [
        Query("jan", 3, 2, "de", "de", "Hanoi", "qdr:w", domains=("example.com", "ours.example")),
    ]
    assert engine.asked[0].restricted == "jan (site:example.com OR site:ours.example)"


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "Hanoi"), ({"location_hint": "Berlin"}, "Berlin"), ({"location": "Rome", "location_hint": "Berlin"}, "Rome")],
)
async def test_a_place_of_the_call_wins_over_a_hint_and_that_over_the_operators(
    given: dict[str, str], expected: str
) -> None:
    engine = Index()
    await found(GoogleSearch([engine], location="Hanoi"), **given)
    assert engine.asked[0].location == expected


async def test_results_from_other_domains_are_dropped_whatever_the_engine_says() -> None:
    said = await found(GoogleSearch([Index()]), domain_allow_list=["example.com", "example.org"])
    assert said["citations"] == ["https://example.com/1", "https://sub.example.org/2"]


async def test_there_are_never_more_results_than_asked_for_nor_longer_snippets() -> None:
    said = await found(GoogleSearch([Index()], longest_snippet=3), num=2)
    assert [row["snippet"] for row in said["results"]] == ["fir", "sec"]


async def test_when_the_first_engine_fails_the_next_one_is_asked_and_that_is_said() -> None:
    said = await found(GoogleSearch([Index(broken=True), Index("two")]))
    assert (said["engine"], said["live"], said["metadata"]) == ("two", True, {"failed": ["one is ill"]})


async def test_when_all_fail_there_are_no_results_and_the_reasons() -> None:
    said = await found(GoogleSearch([Index(broken=True), Index("two", broken=True)]))
    assert (said["live"], said["cache_status"], said["results"], said["citations"]) == (False, "offline", [], [])
    assert said["metadata"]["reason"] == "one is ill; two is ill"


async def test_when_all_fail_the_same_search_gets_its_older_results_with_their_date() -> None:
    engine, clock = Index(), Calendar()
    search = GoogleSearch([engine], now=clock)
    await found(search)
    engine.broken, clock.now = True, clock.now + timedelta(hours=1)
    said = await found(search)
    assert (said["live"], said["cache_status"], len(said["results"])) == (False, "cached", 3)
    assert {row["fetched_at"] for row in said["results"]} == {"2026-11-20T00:00:00Z"}
    assert (await found(search, q="other"))["results"] == []


async def test_results_that_are_too_old_are_none() -> None:
    engine, clock = Index(), Calendar()
    search = GoogleSearch([engine], now=clock)
    await found(search)
    engine.broken, clock.now = True, clock.now + timedelta(seconds=OLDEST)
    assert (await found(search))["cache_status"] == "offline"


@pytest.mark.parametrize(
    ("search", "arguments", "reason"),
    [
        (GoogleSearch([]), {}, "No search engine is configured"),
        (GoogleSearch([Index()], offline=True), {}, "Searching is switched off"),
        (GoogleSearch([Index()]), {"offline_mode": True}, "Searching is switched off"),
    ],
    ids=["no engine", "operator", "caller"],
)
async def test_offline_nobody_is_asked_and_nothing_is_invented(
    search: GoogleSearch, arguments: dict[str, Any], reason: str
) -> None:
    said = await found(search, **arguments)
    assert (said["cache_status"], said["results"], said["metadata"]) == ("offline", [], {"reason": reason})


async def test_an_engine_that_keeps_failing_is_left_alone() -> None:
    engine = Index(broken=True)
    search = GoogleSearch([engine])
    for _ in range(FAILURES_TO_OPEN):
        await found(search)
    assert "left alone" in (await found(search))["metadata"]["reason"]
    assert len(engine.asked) == FAILURES_TO_OPEN
