"""scrape: the readable text of one page of the web."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import Message

from services.mcp.page import Page, PageReader, Request
from services.mcp.tool import Calling, Description, Json, Result, ToolFailed
from services.runtime.errors import ApiError
from services.runtime.fetched import Answer, Limits
from services.runtime.outgoing import Fetcher

SECONDS = 20.0
"""For fetching a page."""
MOST = 10 * 1024 * 1024
"""Bytes of a page, unpacked."""

_ACCEPT = "text/html,application/xhtml+xml,application/pdf;q=0.9,text/*;q=0.8,application/json;q=0.8,*/*;q=0.1"
DESCRIPTION = Description(
    name="scrape",
    title="Read a web page",
    text=(
        "Fetches one public web page (or PDF, JSON or text file) and returns its readable text, without menus and "
        "advertisements. Use it for pages that a search has found or that the user has named."
    ),
    category="search",
    input_schema={
        "type": "object",
        "properties": {
            "url": {"type": "string", "minLength": 1, "maxLength": 4096, "description": "Address, http or https."},
            "includeMarkdown": {"type": "boolean", "default": False, "description": "Whether to add it as Markdown."},
            "include_markdown": {"type": "boolean", "default": False, "description": "The same."},
        },
        "required": ["url"],
    },
    output_schema={
        "type": "object",
        "properties": {
            "source_url": {"type": "string"},
            "title": {"type": "string"},
            "text": {"type": "string"},
            "text_preview": {"type": "string"},
            "markdown": {"type": "string"},
            "metadata": {"type": "object"},
            "cache_status": {"type": "string"},
            "fetched_at": {"type": "string"},
        },
        "required": ["source_url", "title", "text", "text_preview", "metadata", "cache_status", "fetched_at"],
    },
    annotations={"readOnlyHint": True, "openWorldHint": True},
)


class Scrape:
    """Fetches by `fetcher`, which says who asks and goes nowhere it must not; texts are cut at `most_text` characters,
    previews at `most_preview`."""

    def __init__(
        self,
        fetcher: Fetcher,
        reader: PageReader,
        *,
        most_text: int = 50_000,
        most_preview: int = 5_000,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._fetcher = fetcher
        self._reader = reader
        self._most_text = most_text
        self._most_preview = most_preview
        self._now = now

    @property
    def description(self) -> Description:
        return DESCRIPTION

    async def run(self, arguments: Json, calling: Calling) -> Result:
        """A page of CONTRACT 11.2. Raises `ToolFailed` with the codes of CONTRACT 10, and `unreadable`."""
        markdown = arguments["includeMarkdown"] or arguments["include_markdown"]
        seconds = min(SECONDS, calling.deadline - asyncio.get_running_loop().time())
        limits = Limits(seconds=max(0.0, seconds), most=MOST, unpack=True)
        with _as_tool():
            async with self._fetcher.get(
                arguments["url"], param="url", limits=limits, headers={"accept": _ACCEPT}
            ) as answer:
                answer.require_success()
                data = b"".join([piece async for piece in answer.body])
        page = await self._reader.read(data, _request(answer, markdown=markdown, most=self._most_text))
        return self._told(str(answer.url), answer, page)

    def _told(self, url: str, answer: Answer, page: Page) -> Result:
        told: Json = {
            "source_url": url,
            "title": page.title,
            "text": page.text,
            "text_preview": page.text[: self._most_preview],
            "metadata": {"content_type": answer.headers.get("content-type", ""), **page.metadata},
            "cache_status": "live",
            "fetched_at": self._now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return Result(told if page.markdown is None else {**told, "markdown": page.markdown})


def _request(answer: Answer, *, markdown: bool, most: int) -> Request:
    header = Message()
    header["content-type"] = answer.headers.get("content-type", "")
    said = "content-type" in answer.headers
    return Request(
        url=str(answer.url),
        mime=header.get_content_type() if said else "",
        charset=str(header.get_content_charset() or ""),
        markdown=markdown,
        most=most,
    )


@contextmanager
def _as_tool() -> Iterator[None]:
    """What goes wrong on the way to a page is what the model is told."""
    try:
        yield
    except ApiError as error:
        raise ToolFailed(error.code, error.message) from error
