"""How an image is handed out over HTTP: the part that is asked for, what the client has already, and the headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from services.runtime.errors import NotSatisfiable

_RANGE = re.compile(r"([0-9]*)-([0-9]*)")
_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_UNSAFE_IN_QUOTES = re.compile(r"[^ !#$&\'()+,.0-9;=@A-Z\[\]^_`a-z{}~-]")
_LONGEST = 18  # digits that a position is read from; no file is as long
_RFC_8187 = "!#$&+-.^_`|~"


@dataclass(frozen=True)
class File:
    """What is known of an image that is to be handed out."""

    sha256: bytes
    mime: str
    size: int
    """Bytes; there is at least one."""
    filename: str | None = None
    """As the user named it: any text."""

    @property
    def etag(self) -> str:
        """Its strong entity tag: the same bytes have the same."""
        return f'"{self.sha256.hex()}"'


@dataclass(frozen=True)
class Part:
    """Bytes from `start` up to, not including, `end`."""

    start: int
    end: int


@dataclass(frozen=True)
class Answer:
    """What goes out: status, headers (names in lower case), and which bytes, None for none."""

    status: int
    headers: Mapping[str, str]
    part: Part | None


def answer(file: File, method: str, asked: Mapping[str, str | bytes], *, seconds: int | None) -> Answer:
    """The answer to a GET or HEAD with the headers `asked` (RFC 9110, 13.2.2). `seconds` are left of a signed URL; None
    for a reader who has shown a credential. Raises `NotSatisfiable`."""
    always = {"etag": file.etag, "cache-control": cache_control(seconds)}
    if has_already(_text(asked, "if-none-match"), file.etag):
        return Answer(304, always, None)
    part = None
    if method == "GET" and ("if-range" not in asked or _text(asked, "if-range") == file.etag):
        part = part_asked_for(_text(asked, "range"), file.size)
    sent = part or Part(0, file.size)
    headers = always | {
        "content-type": file.mime,
        "content-length": str(sent.end - sent.start),
        "content-disposition": disposition(file.filename),
        "accept-ranges": "bytes",
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "cross-origin",  # links to images may be on any page, on isolated ones too
    }
    if part is not None:
        headers["content-range"] = f"bytes {part.start}-{part.end - 1}/{file.size}"
    return Answer(206 if part else 200, headers, None if method == "HEAD" else sent)


def _text(asked: Mapping[str, str | bytes], name: str) -> str:
    value = asked.get(name, "")
    return value if isinstance(value, str) else ""


def part_asked_for(header: str, size: int) -> Part | None:
    """The part of a file of `size` bytes that a `Range` header asks for; None for all of it, as without the header,
    with one that is malformed and with one that asks for several (RFC 9110, 14.2). Raises `NotSatisfiable`."""
    unit, _, text = header.partition("=")
    ranges = [each.strip(" \t") for each in text.split(",")]
    ranges = [each for each in ranges if each]
    found = _RANGE.fullmatch(ranges[0]) if len(ranges) == 1 and unit.strip().lower() == "bytes" else None
    if found is None or found[0] == "-":
        return None
    first, last = (_position(each) for each in found.groups())
    if first is None:
        start, end = max(0, size - (last or 0)), size
    else:
        start, end = first, size if last is None else min(last + 1, size)
        if last is not None and last < first:
            return None
    if start >= size:
        raise NotSatisfiable(size)
    return Part(start, end)


def _position(digits: str) -> int | None:
    if not digits:
        return None
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= _LONGEST else 10**_LONGEST


def has_already(if_none_match: str, etag: str) -> bool:
    """Whether an `If-None-Match` header names `etag`, by weak comparison (RFC 9110, 13.1.2)."""
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)


def cache_control(seconds: int | None) -> str:
    """No cache that others share keeps an image. With a signed URL it is fresh for `seconds`, as long as the URL; what
    a credential gave must be asked for again, for it may have been revoked."""
    return "private, no-cache" if seconds is None else f"private, max-age={max(0, seconds)}"


def disposition(filename: str | None) -> str:
    """`Content-Disposition` of an image that is shown, with its name for those who save it (RFC 6266, RFC 8187).
    Nothing in the name gets out of its place; what ASCII lacks is an underscore for old clients."""
    name = "".join(each if each.isprintable() and each not in "/\\" else "_" for each in filename or "")
    if not name:
        return "inline"
    plain = _UNSAFE_IN_QUOTES.sub("_", name)
    exact = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe=_RFC_8187, errors='replace')}"
    return f'inline; filename="{plain}"{exact}'
