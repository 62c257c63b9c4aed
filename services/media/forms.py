"""Forms with a file (`multipart/form-data`, RFC 7578), read as they arrive: the file goes to a spool, the rest is
small.

The door to the library `multipart`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import multipart  # type: ignore[import-untyped]  # ships no marker; this module is where its types begin

from services.media.spool import Spool, too_large
from services.runtime.errors import InvalidRequest, TooLarge

FILE = "file"
_LONGEST_FIELD = 16 * 1024  # bytes
_PARTS = 64
_AROUND = 1024 * 1024
"""Bytes that a form may have beside its file."""

Begin = Callable[[Mapping[str, str]], None]


@dataclass
class Form:
    """What a form says; its file is in the spool."""

    fields: dict[str, str] = field(default_factory=dict)
    """Of a name that comes twice the last value."""
    filename: str = ""
    """As the client calls the file; empty when it does not."""


def is_form(content_type: str) -> bool:
    """Whether a body of this type is a form."""
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


async def read_form(
    content_type: str, pieces: AsyncIterator[bytes], spool: Spool, *, begin: Begin | None = None
) -> Form:
    """Read a form with one part `file`. `begin` is told the fields before the file when its first bytes come, and may
    raise. Raises `InvalidRequest`, for a form that is broken or not whole too, and `TooLarge`."""
    reader = _Reader(content_type, spool, begin)
    async for piece in pieces:
        await reader.feed(piece)
        del piece  # not to be kept while the next one is waited for
    return reader.end()


class _Reader:
    def __init__(self, content_type: str, spool: Spool, begin: Begin | None) -> None:
        with _readable():
            _, options = multipart.parse_options_header(content_type)
            self._parser = multipart.PushMultipartParser(options.get("boundary", ""), max_segment_count=_PARTS)
        self._spool = spool
        self._begin = begin
        self._form = Form()
        self._part: multipart.MultipartSegment | None = None
        self._value = bytearray()
        self._has_file = False
        self._left = spool.largest + _AROUND

    async def feed(self, piece: bytes) -> None:
        self._left -= len(piece)
        if self._left < 0:
            raise too_large(self._spool.largest)
        for event in self._events(piece):
            if isinstance(event, multipart.MultipartSegment):
                self._start(event)
            elif event is None:
                self._finish()
            elif self._is_file:
                await self._spool.feed(bytes(event))
            elif self._is_field:
                self._append(event)

    def end(self) -> Form:
        with _readable():
            self._parser.close()
        if not self._has_file:
            raise InvalidRequest(f"The form has no part '{FILE}'", param=FILE)
        return self._form

    @property
    def _is_file(self) -> bool:
        return self._part is not None and self._part.name == FILE

    @property
    def _is_field(self) -> bool:
        """Files of other names are passed over."""
        return self._part is not None and not self._is_file and self._part.filename is None

    def _events(self, piece: bytes) -> Iterator[multipart.MultipartSegment | bytes | bytearray | None]:
        if piece:  # an empty one would end it
            with _readable():
                yield from self._parser.parse(piece)

    def _start(self, part: multipart.MultipartSegment) -> None:
        self._part = part
        if not self._is_file:
            return
        if self._has_file:
            raise InvalidRequest(f"The form has several parts '{FILE}'", param=FILE)
        self._has_file = True
        self._form.filename = part.filename or ""
        if self._begin is not None:
            self._begin(self._form.fields)

    def _append(self, data: bytes | bytearray) -> None:
        self._value += data
        if len(self._value) > _LONGEST_FIELD:
            name = self._part.name if self._part is not None else None
            raise TooLarge(f"A field of the form is larger than {_LONGEST_FIELD // 1024}KB", param=name)

    def _finish(self) -> None:
        if self._part is not None and self._is_field:
            name = self._part.name or ""
            try:
                self._form.fields[name] = self._value.decode()
            except UnicodeDecodeError as error:
                raise InvalidRequest(f"The field '{name}' of the form is not UTF-8", param=name or None) from error
        self._value.clear()
        self._part = None


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except multipart.MultipartError as error:
        raise InvalidRequest(f"The form cannot be read: {error.args[0]}") from error  # what follows is Python's
