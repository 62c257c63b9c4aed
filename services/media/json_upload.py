"""A JSON body whose `source.data_url` is far longer than all the rest, read as it arrives.

The reader follows the structure of the JSON just so far as to know where it is. The value of `source.data_url` goes to
the spool piece by piece, a mark takes its place, and what remains is small and parsed by the usual parser at the end.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import orjson
from google.api.httpbody_pb2 import HttpBody

from services.media.data_url import PARAM, DataUrl
from services.media.spool import Spool
from services.runtime.errors import ApiError, InvalidRequest, TooLarge
from services.runtime.httpbody import DEEPEST, parse_object

MOST = 256 * 1024
"""Bytes of everything but the data URL."""
_DIVERTED = ["source", "data_url"]
_STRUCTURE = re.compile(rb'["{}\[\],:]')
# Characters and whole escapes of a string. It stops at the closing quote, an escape that is cut off, or a wrong one.
_CHARACTERS = re.compile(rb'[^"\\]*(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\]*)*')
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_CONTROL = re.compile(rb"[\x00-\x1f]")
_ESCAPE = 6  # characters of the longest


async def read_upload(pieces: AsyncIterator[bytes], spool: Spool) -> tuple[dict[str, Any], bool]:
    """The members of the body, and whether the bytes of `source.data_url` are in the spool now; its member is empty
    then. It is decoded only if `source.type` asks for it, wherever that stands.

    Raises `InvalidRequest` (`invalid_json`, `invalid_data_url`) and `TooLarge`.
    """
    reader = _Reader(spool)
    async for piece in pieces:
        await reader.feed(piece)
        del piece  # not to be kept while the next one is waited for
    return reader.end()


class _Reader:
    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._rest = bytearray()
        self._where = _Where()
        self._mark = secrets.token_hex(16)
        self._string: _Diverted | bytearray | None = None
        self._carried = b""
        self._diverted: _Diverted | None = None

    async def feed(self, piece: bytes) -> None:
        piece, at = self._carried + piece, 0
        self._carried = b""
        while at < len(piece):
            at = self._between(piece, at) if self._string is None else await self._within(piece, at)

    def end(self) -> tuple[dict[str, Any], bool]:
        if self._string is not None:
            raise _invalid_json("a string does not end")
        members = parse_object(HttpBody(data=bytes(self._rest)))
        source = members.get("source")
        if self._diverted is None or not isinstance(source, dict) or source.get("data_url") != self._mark:
            return members, False
        source["data_url"] = ""
        if source.get("type") != "data_url":
            return members, False
        self._diverted.end()
        return members, True

    def _between(self, piece: bytes, at: int) -> int:
        """Up to the beginning of the next string."""
        while found := _STRUCTURE.search(piece, at):
            self._keep(piece[at : found.end()])
            at = found.end()
            if found[0] == b'"':
                self._begin()
                return at
            self._where.step(found[0])
        self._keep(piece[at:])
        return len(piece)

    def _begin(self) -> None:
        if not self._where.is_value(_DIVERTED):
            self._string = bytearray()
            return
        if self._diverted is not None:
            raise InvalidRequest(f"Parameter '{PARAM}' is given twice", param=PARAM)
        self._string = self._diverted = _Diverted(self._spool)
        self._keep(self._mark.encode())

    async def _within(self, piece: bytes, at: int) -> int:
        """Up to the end of a string, or of what can be told of it."""
        characters = _CHARACTERS.match(piece, at)
        end = characters.end() if characters else at
        if isinstance(self._string, _Diverted):
            await self._string.feed(piece[at:end])
        elif self._string is not None:
            self._keep(piece[at:end])
            if self._where.expects_name:
                self._string += piece[at:end]
        if end == len(piece):
            return end
        if piece[end : end + 1] == b'"':
            self._keep(b'"')
            self._finish()
            return end + 1
        if len(piece) - end >= _ESCAPE:
            raise _invalid_json("a string has a wrong escape")
        self._carried = piece[end:]
        return len(piece)

    def _finish(self) -> None:
        if isinstance(self._string, _Diverted):
            self._where.leave()
        elif self._string is not None and self._where.expects_name:
            self._where.name = _text(bytes(self._string))
        self._string = None

    def _keep(self, data: bytes) -> None:
        self._rest += data
        if len(self._rest) > MOST:
            raise TooLarge(f"Without '{PARAM}' the body is larger than {MOST // 1024}KB")


class _Where:
    """Where in a JSON text the reader is: the name of the member that it is in, for every level of objects. Of wrong
    JSON it makes something wrong, which the parser finds out."""

    def __init__(self) -> None:
        self._levels: list[str | None] = []  # None: an array
        self.expects_name = False
        self.name = ""

    def step(self, character: bytes) -> None:
        if character in b"{[":
            if len(self._levels) == DEEPEST:
                raise _invalid_json(f"it is nested more than {DEEPEST} levels deep")
            self._levels.append("" if character == b"{" else None)
            self.expects_name = character == b"{"
        elif character in b"}]":
            if self._levels:
                self._levels.pop()
            self.expects_name = False
        elif self._levels and self._levels[-1] is not None:
            if character == b":":
                self._levels[-1] = self.name
            self.expects_name = character == b","

    def leave(self) -> None:
        """The value of the member has come."""
        self._levels[-1] = ""

    def is_value(self, path: list[str]) -> bool:
        """Whether what comes is the value of that member."""
        return not self.expects_name and self._levels == path


class _Diverted:
    """A string on its way to the spool. What is wrong with it is said at the end, if anybody wants it at all."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._url = DataUrl()
        self._error: ApiError | None = None

    async def feed(self, raw: bytes) -> None:
        if _CONTROL.search(raw):
            raise _invalid_json("a string has a control character")
        if self._error is None:
            try:
                await self._spool.feed(self._url.feed(_ascii(raw)))
            except (InvalidRequest, TooLarge) as error:
                self._error = error

    def end(self) -> None:
        if self._error is not None:
            raise self._error
        self._url.end()


def _ascii(raw: bytes) -> bytes:
    """Whole characters of a JSON string, as they are meant. What is not ASCII breaks a data URL anyway."""
    if b"\\" not in raw or _NOT_ASCII.search(raw):
        return raw
    return _text(raw).encode("ascii", "replace")


def _text(raw: bytes) -> str:
    with suppress(orjson.JSONDecodeError):
        return str(orjson.loads(b'"%b"' % raw))
    return "\N{REPLACEMENT CHARACTER}"


def _invalid_json(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The body is not valid JSON: {reason}", code="invalid_json")
