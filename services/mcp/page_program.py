"""The program that finds the readable text in what a web server sent: a web page, a PDF, text.

In: a line of JSON (`page.Request`), then the bytes. Out: JSON (`page.Page`), or `{"error": …}`.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from contextlib import suppress
from dataclasses import asdict
from io import BytesIO

import trafilatura
from charset_normalizer import from_bytes
from lxml import etree, html  # type: ignore[import-untyped]  # the library is not annotated
from pypdf import PdfReader
from pypdf.errors import PyPdfError

from services.mcp.page import Page, Request

MEMORY = 1024 * 1024 * 1024
CPU_SECONDS = 20
MOST_PAGES = 200
"""Of a PDF."""

_HTML = {"text/html", "application/xhtml+xml"}
_TEXT = re.compile(r"text/.*|application/(.*\+)?(json|xml|yaml|javascript|x-ndjson)")
_TOLD = ("author", "date", "description", "sitename", "language")
_SPACE = re.compile(r"\s+")


class Unreadable(Exception):
    """There is no text in it that could be read; the message is for people."""


def read(data: bytes, request: Request) -> Page:
    """The page in `data`. Raises `Unreadable`."""
    mime = request.mime or _guess(data)
    if mime in _HTML:
        return _web_page(data, request)
    if mime == "application/pdf":
        return _pdf(data, request)
    if _TEXT.fullmatch(mime):
        text = _decoded(data, request.charset)
        return Page("", text[: request.most], text[: request.most] if request.markdown else None)
    raise Unreadable(f"Content of the type {mime} cannot be read as text")


def _guess(data: bytes) -> str:
    if data.startswith(b"%PDF-"):
        return "application/pdf"
    if data[:1024].lstrip().lower().startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "text/html"
    return "application/octet-stream" if b"\0" in data[:1024] else "text/plain"


def _web_page(data: bytes, request: Request) -> Page:
    text = _decoded(data, request.charset or _declared(data))
    about = trafilatura.extract_metadata(text, default_url=request.url)
    told = about.as_dict() if about is not None else {}
    named = {name: str(told[name]) for name in _TOLD if told.get(name)}
    readable = trafilatura.extract(text, url=request.url, include_comments=False) or ""
    if not readable:  # nothing that looks like an article: all words, then
        readable = _all_words(text)
    marked = None
    if request.markdown:
        marked = trafilatura.extract(text, url=request.url, output_format="markdown", include_links=True) or readable
        marked = marked[: request.most]
    return Page(str(told.get("title") or ""), readable[: request.most], marked, named)


def _all_words(text: str) -> str:
    try:
        tree = html.document_fromstring(text.encode(), parser=html.HTMLParser(encoding="utf-8"))
    except etree.ParserError:  # an empty document
        return ""
    for hidden in tree.xpath("//script|//style|//noscript|//template|//head"):
        hidden.getparent().remove(hidden)
    return _SPACE.sub(" ", tree.text_content()).strip()


def _pdf(data: bytes, request: Request) -> Page:
    try:
        reader = PdfReader(BytesIO(data))
        texts, length = [], 0
        for page in reader.pages[:MOST_PAGES]:
            texts.append(page.extract_text())
            length += len(texts[-1])
            if length > request.most:
                break
        title = str((reader.metadata and reader.metadata.title) or "")
        pages = len(reader.pages)
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unreadable("The PDF is damaged or encrypted") from error
    text = "\n\n".join(texts).strip()[: request.most]
    return Page(title, text, text if request.markdown else None, {"pages": pages})


def _declared(data: bytes) -> str:
    """The charset that an HTML page declares about itself."""
    found = re.search(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{1,40})", data[:4096], re.IGNORECASE)
    return found[1].decode() if found else ""


def _decoded(data: bytes, charset: str) -> str:
    """The text in `data`: as it is declared when that fits, else in UTF-8, else in what it looks like."""
    for name in filter(None, (charset, "utf-8-sig")):
        with suppress(LookupError, UnicodeDecodeError):
            return data.decode(name)
    best = from_bytes(data[: 256 * 1024]).best()
    return data.decode(best.encoding if best is not None else "latin-1", "replace")


def main() -> None:
    """The program."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    request = Request(**json.loads(sys.stdin.buffer.readline()))
    try:
        said = asdict(read(sys.stdin.buffer.read(), request))
    except (Unreadable, MemoryError) as error:
        said = {"error": str(error) or "It takes too much memory to read"}
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main()
