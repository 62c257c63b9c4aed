"""Search engines, against servers that speak as Serper and SearXNG document it, and as broken ones do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from services.mcp.search.engine import Engine, EngineFailed, Hit, Query
from services.mcp.search.searxng import SearXNG
from services.mcp.search.serper import Serper
from services.runtime.addresses import Guard
from services.runtime.outgoing import Fetcher

ORGANIC = [
    {"title": "One", "link": "https://example.com/1", "snippet": "first", "position": 1, "date": "today"},
    {"title": "No snippet", "link": "https://example.com/2", "position": 2},
    {"title": "No address", "position": 3},
    {"link": "https://example.com/4"},
    {"title": "Script", "link": "javascript:alert(1)"},
    "no row",
]
RESULTS = [
    {"title": "One", "url": "https://example.com/1", "content": "first", "engine": "ddg"},
    {"title": 1, "url": 2},
]


class Site:
    """A web server that answers every request with `status` and `body`, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status, self.body = 200, b"{}"
        self.line, self.headers, self.sent = "", dict[str, str](), b""
        self.silent = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.line = head[0]
        self.headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        self.sent = await reader.readexactly(int(self.headers.get("content-length", 0)))
        if self.silent:
            await reader.read()
        else:
            writer.write(f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(self.body)}\r\n\r\n".encode() + self.body)
        writer.close()

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.line.split()[1]).query)


Make = Callable[[Fetcher, str], Engine]


def serper(fetcher: Fetcher, url: str) -> Engine:
    return Serper(fetcher, base_url=url, api_key="secret")


def searxng(fetcher: Fetcher, url: str) -> Engine:
    return SearXNG(fetcher, base_url=f"{url}/")


@asynccontextmanager
async def asking(make: Make) -> AsyncIterator[tuple[Engine, Site]]:
    site = Site()
    fetcher = Fetcher(Guard(["127.0.0.1"]), user_agent="test")
    async with await asyncio.start_server(site.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield make(fetcher, f"http://127.0.0.1:{port}"), site
    fetcher.close()


async def test_serper_is_asked_in_its_words_and_only_real_results_are_taken() -> None:
    async with asking(serper) as (engine, site):
        site.body = orjson.dumps({"searchParameters": {}, "organic": ORGANIC, "answerBox": {"answer": "42"}})
        query = Query("jan", 5, 2, "de", "de", "Berlin", "qdr:w", autocorrect=False, domains=("example.com",))
        hits = await engine.search(query, seconds=5)
    assert hits == [Hit("One", "https://example.com/1", "first"), Hit("No snippet", "https://example.com/2", "")]
    assert site.line.startswith("POST /search ")
    assert site.headers["x-api-key"] == "secret"
    assert orjson.loads(site.sent) == {
        "q": "jan (site:example.com)",
        "num": 5,
        "page": 2,
        "autocorrect": False,
        "gl": "de",
        "hl": "de",
        "location": "Berlin",
        "tbs": "qdr:w",
    }


async def test_searxng_is_asked_in_its_words_and_only_real_results_are_taken() -> None:
    async with asking(searxng) as (engine, site):
        site.body = orjson.dumps({"query": "jan", "results": RESULTS})
        hits = await engine.search(Query("jan & co", 5, 2, "de", "de", "Berlin", "qdr:w"), seconds=5)
    assert hits == [Hit("One", "https://example.com/1", "first")]
    assert site.line.startswith("GET /search?")
    expected = {"q": "jan & co", "format": "json", "pageno": "2", "language": "de-DE", "time_range": "week"}
    assert site.query == {name: [value] for name, value in expected.items()}


@pytest.mark.parametrize("make", [serper, searxng])
@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b"<html>", "not JSON"),
        (200, b"[]", "no object"),
        (403, b"", "refused the credentials"),
        (429, b"", "too often"),
        (500, b"secret", "status 500"),
        (302, b"", "status 302"),
        (200, b" " * (5 * 1024 * 1024), "could not be reached"),
    ],
    ids=["HTML", "array", "forbidden", "too often", "broken", "redirect", "huge"],
)
async def test_what_is_no_answer_is_a_failure_with_a_reason(make: Make, status: int, body: bytes, reason: str) -> None:
    async with asking(make) as (engine, site):
        site.status, site.body = status, body
        with pytest.raises(EngineFailed, match=reason) as failed:
            await engine.search(Query("jan"), seconds=5)
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize("make", [serper, searxng])
async def test_rows_of_any_other_kind_are_no_results(make: Make) -> None:
    async with asking(make) as (engine, site):
        site.body = orjson.dumps({"organic": {"a": 1}, "results": "none"})
        assert await engine.search(Query("jan"), seconds=5) == []


@pytest.mark.parametrize("make", [serper, searxng])
async def test_an_engine_that_does_not_answer_is_waited_for_as_long_as_there_is_time(make: Make) -> None:
    async with asking(make) as (engine, site):
        site.silent = True
        with pytest.raises(EngineFailed, match="in time"):
            await engine.search(Query("jan"), seconds=0.05)


@pytest.mark.parametrize("make", [serper, searxng])
async def test_an_engine_that_is_not_there_is_a_failure_that_names_no_address(make: Make) -> None:
    async with asking(make) as (engine, _):
        pass
    with pytest.raises(EngineFailed, match="could not be reached") as failed:
        await engine.search(Query("jan"), seconds=5)
    assert "127.0.0.1" not in str(failed.value)
