"""scrape: what is readable of a page, in whatever charset; clear failures for what is not."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import jsonschema
import pytest
import pytest_asyncio
from pypdf import PdfWriter

from services.mcp import page
from services.mcp.builtin.scrape import DESCRIPTION, Scrape
from services.mcp.page import PageReader
from services.mcp.tool import Calling, ToolFailed
from services.runtime.addresses import Guard
from services.runtime.outgoing import Fetcher

ARTICLE = """<!doctype html><html lang="en"><head><title>On tea</title><meta name="author" content="Ada Lovelace">
<style>p {{color: red}}</style><script>alert('no')</script></head><body><nav><a href="/">Home</a></nav><article>
<h1>On tea</h1><p>{text}</p><p>The second paragraph says that <b>green tea</b> is drunk all over the world, and has
a <a href="https://example.com/tea">link</a> to more about it.</p></article><footer>Imprint</footer></body></html>"""
TEXT = "Tea is an aromatic drink made by pouring hot water over cured leaves of the tea plant, at any time of the day."


class Site:
    """A web server that answers every request with `head` and `body`."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 200, "content-type: text/html; charset=utf-8\r\n", b""
        self.asked = ""
        self.silent = False
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked = (await reader.readuntil(b"\r\n\r\n")).decode()
        if self.silent:
            await reader.read()
        head = f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(self.body)}\r\n{self.headers}\r\n"
        writer.write(head.encode() + self.body)
        writer.close()

    def answers(self, body: bytes, mime: str) -> None:
        self.body, self.headers = body, f"content-type: {mime}\r\n" if mime else ""


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    async with await asyncio.start_server(site.serve, "127.0.0.1", 0) as server:
        site.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/tea"
        yield site


@pytest_asyncio.fixture
async def scrape() -> AsyncIterator[Scrape]:
    fetcher = Fetcher(Guard(["127.0.0.1"]), user_agent="jan-server/test")
    now = datetime(2026, 11, 20, tzinfo=UTC)
    yield Scrape(fetcher, PageReader(), most_text=2000, most_preview=20, now=lambda: now)
    fetcher.close()


async def read(scrape: Scrape, url: str, *, seconds: float = 30, **arguments: Any) -> dict[str, Any]:
    """What scraping says, which must be what its schema promises."""
    calling = Calling("usr_1", "token", asyncio.get_running_loop().time() + seconds)
    defaults = {"includeMarkdown": False, "include_markdown": False}
    result = await scrape.run({**defaults, "url": url, **arguments}, calling)
    assert result.structured is not None
    jsonschema.validate(result.structured, DESCRIPTION.output_schema or {})
    return result.structured


async def test_an_article_is_its_text_without_menus_and_scripts(site: Site, scrape: Scrape) -> None:
    site.body = ARTICLE.format(text=TEXT).encode()
    said = await read(scrape, site.url)
    assert (said["source_url"], said["title"], said["cache_status"]) == (site.url, "On tea", "live")
    assert said["fetched_at"] == "2026-11-20T00:00:00Z"
    assert TEXT in said["text"]
    assert not any(word in said["text"] for word in ("alert", "Imprint", "color"))
    assert said["text_preview"] == said["text"][:20]
    assert said["metadata"]["author"] == "Ada Lovelace"
    assert said["metadata"]["content_type"] == "text/html; charset=utf-8"
    assert "markdown" not in said
    assert "user-agent: jan-server/test" in site.asked.lower()


@pytest.mark.parametrize("name", ["includeMarkdown", "include_markdown"])
async def test_markdown_comes_when_it_is_asked_for(site: Site, scrape: Scrape, name: str) -> None:
    site.body = ARTICLE.format(text=TEXT).encode()
    said = await read(scrape, site.url, **{name: True})
    assert "[link](https://example.com/tea)" in said["markdown"]


@pytest.mark.parametrize(
    ("mime", "declared", "encoding"),
    [
        ("text/html; charset=iso-8859-1", "", "iso-8859-1"),
        ("text/html", '<meta charset="windows-1252">', "windows-1252"),
        ("text/html", '<meta http-equiv="Content-Type" content="text/html; charset=shift_jis">', "shift_jis"),
        ("text/html; charset=unheard-of", "", "utf-8"),
        ("text/html; charset=utf-8", "", "utf-16"),
        ("", "", "utf-8"),
    ],
    ids=["header", "meta", "http-equiv", "unknown", "lie", "nothing said"],
)
async def test_text_is_read_in_the_charset_it_has(
    site: Site, scrape: Scrape, mime: str, declared: str, encoding: str
) -> None:
    words = (
        "お茶は世界中で飲まれています。" * 9 if encoding == "shift_jis" else "Crème brûlée à la carte, für Gäste. " * 9
    )
    site.answers(ARTICLE.replace("<title>", f"{declared}<title>").format(text=words).encode(encoding), mime)
    assert words.strip()[:30] in (await read(scrape, site.url))["text"]


@pytest.mark.parametrize("mime", ["application/json", "text/plain; charset=utf-8", "application/ld+json", "text/csv"])
async def test_data_and_plain_text_are_passed_through(site: Site, scrape: Scrape, mime: str) -> None:
    site.answers(b'{"a": [1, 2, "<b>"]}', mime)
    assert (await read(scrape, site.url, includeMarkdown=True))["text"] == '{"a": [1, 2, "<b>"]}'


async def test_a_page_without_an_article_is_all_its_words(site: Site, scrape: Scrape) -> None:
    site.body = b"<html><body><script>no()</script><div>Short</div>\n\n<div>words</div></body></html>"
    assert (await read(scrape, site.url))["text"].split() == ["Short", "words"]


async def test_long_text_is_cut(site: Site, scrape: Scrape) -> None:
    site.answers(b"x" * 5000, "text/plain")
    assert len((await read(scrape, site.url))["text"]) == 2000


async def test_packed_pages_are_unpacked(site: Site, scrape: Scrape) -> None:
    site.answers(gzip.compress(ARTICLE.format(text=TEXT).encode()), "text/html\r\ncontent-encoding: gzip")
    assert TEXT in (await read(scrape, site.url))["text"]


async def test_the_title_and_the_length_of_a_pdf_are_told(site: Site, scrape: Scrape) -> None:
    writer, file = PdfWriter(), BytesIO()
    writer.add_blank_page(100, 100)
    writer.add_metadata({"/Title": "On tea"})
    writer.write(file)
    site.answers(file.getvalue(), "application/pdf")
    said = await read(scrape, site.url)
    assert (said["title"], said["metadata"]["pages"]) == ("On tea", 1)


@pytest.mark.parametrize(
    ("body", "mime"),
    [(b"%PDF-1.7 broken", "application/pdf"), (b"\x89PNG\r\n", "image/png"), (b"\0\1\2", "")],
    ids=["broken PDF", "image", "bytes"],
)
async def test_what_has_no_text_is_unreadable(site: Site, scrape: Scrape, body: bytes, mime: str) -> None:
    site.answers(body, mime)
    with pytest.raises(ToolFailed) as failed:
        await read(scrape, site.url)
    assert failed.value.code == "unreadable"


@pytest.mark.parametrize("body", [b"", b"<", b"<html>", b"<p>" * 100_000, b"<!--" * 10_000, b"\xff\xfe\0"])
async def test_no_page_is_too_odd_to_be_answered(site: Site, scrape: Scrape, body: bytes) -> None:
    site.body = body
    try:
        assert (await read(scrape, site.url))["source_url"] == site.url
    except ToolFailed as failed:
        assert failed.code == "unreadable"  # noqa: PT017 - either is an answer


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ftp://example.com/", "invalid_url"),
        ("file:///etc/passwd", "invalid_url"),
        ("http://10.0.0.1/", "url_not_allowed"),
        ("http://169.254.169.254/latest/meta-data", "url_not_allowed"),
        ("http://[::1]/", "url_not_allowed"),
    ],
)
async def test_it_goes_nowhere_it_must_not(scrape: Scrape, url: str, code: str) -> None:
    with pytest.raises(ToolFailed) as failed:
        await read(scrape, url)
    assert failed.value.code == code


@pytest.mark.parametrize(
    ("status", "headers", "code"),
    [
        (404, "", "fetch_failed"),
        (302, "location: /tea\r\n", "fetch_failed"),
        (302, "location: http://10.0.0.1/\r\n", "url_not_allowed"),
    ],
    ids=["not found", "loop", "away"],
)
async def test_servers_that_fail_loop_or_lead_astray_are_told_of(
    site: Site, scrape: Scrape, status: int, headers: str, code: str
) -> None:
    site.status, site.headers = status, headers
    with pytest.raises(ToolFailed) as failed:
        await read(scrape, site.url)
    assert failed.value.code == code


async def test_a_server_that_says_nothing_is_waited_for_no_longer_than_there_is_time(
    site: Site, scrape: Scrape
) -> None:
    site.silent = True
    with pytest.raises(ToolFailed) as failed:
        await read(scrape, site.url, seconds=0.1)
    assert failed.value.code == "fetch_timeout"


async def test_a_page_that_is_too_large_is_refused(site: Site, scrape: Scrape) -> None:
    site.answers(gzip.compress(b"x" * 11 * 1024 * 1024), "text/plain\r\ncontent-encoding: gzip")
    with pytest.raises(ToolFailed) as failed:
        await read(scrape, site.url)
    assert failed.value.code == "max_size_exceeded"


async def test_a_reader_that_is_no_longer_waited_for_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_COMMAND", ("sleep", "3600"))
    reading = asyncio.create_task(PageReader().read(b"", page.Request("", "", "", markdown=False, most=1)))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reading, 0.2)


async def test_a_reader_that_dies_makes_the_page_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_COMMAND", ("false",))
    with pytest.raises(ToolFailed, match="time or memory"):
        await PageReader().read(b"", page.Request("", "", "", markdown=False, most=1))
