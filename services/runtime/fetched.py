"""What came from a URL that a user named: its body is cut off at a limit, whatever the server says or packs."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from services.runtime.errors import TooLarge, UpstreamFailed
from services.runtime.urls import Url

_PIECE = 64 * 1024


@dataclass(frozen=True)
class Limits:
    """What an answer may cost."""

    seconds: float
    """For all of it: look-up, connection, redirects, the last byte."""
    most: int
    """Bytes of the body, unpacked."""
    cut: bool = False
    """What is beyond `most`: dropped, or refused (`TooLarge`)."""
    unpack: bool = False
    """Whether the body may come as gzip. Otherwise one that is encoded is refused."""


@dataclass(frozen=True)
class Answer:
    """What the server said. Its body can be read once, inside the block that asked."""

    url: Url
    """Where it came from in the end."""
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: AsyncGenerator[bytes, None]
    """In pieces of at most 64 KiB. Raises `TooLarge`, `UpstreamTimeout` (`fetch_timeout`), `UpstreamFailed`
    (`fetch_failed`) when it ends before its time."""

    def require_success(self) -> None:
        """Raise `UpstreamFailed` (`fetch_failed`) unless the status is 2xx."""
        if not 200 <= self.status < 300:
            raise failed(f"The server of the URL answered with status {self.status}.")


def body(
    pieces: AsyncGenerator[bytes, None], headers: Mapping[str, str], limits: Limits
) -> AsyncGenerator[bytes, None]:
    """The pieces of an answer as they came, unpacked and limited. Raises as `Answer.body` says."""
    return _limited(_unpacked(pieces, headers, limits), headers, limits)


async def _unpacked(
    pieces: AsyncGenerator[bytes, None], headers: Mapping[str, str], limits: Limits
) -> AsyncGenerator[bytes, None]:
    """The body as it was meant."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    async with aclosing(pieces):
        if encoding in ("", "identity"):
            async for piece in pieces:
                yield piece
        elif limits.unpack and encoding in ("gzip", "x-gzip"):
            async for piece in _gunzipped(pieces, limits.most):
                yield piece
        else:
            raise failed("The server of the URL sent its answer in an encoding that was not asked for.")


async def _gunzipped(pieces: AsyncGenerator[bytes, None], most: int) -> AsyncGenerator[bytes, None]:
    """Never more at once than a piece, however small it was packed."""
    packer, packed = zlib.decompressobj(zlib.MAX_WBITS | 16), 0
    async for piece in pieces:
        packed += len(piece)
        if packed > most + _PIECE:  # any amount can be packed that unpacks to nothing
            raise _too_large(most)
        for unpacked in _steps(packer, piece):
            yield unpacked
        if packer.eof:
            return
    raise failed("The server of the URL broke off its answer.")


def _steps(packer: zlib._Decompress, piece: bytes) -> Iterator[bytes]:
    while not packer.eof:
        try:
            unpacked = packer.decompress(piece, _PIECE)
        except zlib.error as error:
            raise failed("The server of the URL sent something that cannot be unpacked.") from error
        if unpacked:
            yield unpacked
        piece = packer.unconsumed_tail
        if not piece and len(unpacked) < _PIECE:
            return


async def _limited(
    pieces: AsyncGenerator[bytes, None], headers: Mapping[str, str], limits: Limits
) -> AsyncGenerator[bytes, None]:
    left = limits.most
    async with aclosing(pieces):
        if not limits.cut and int(headers.get("content-length", 0)) > left:
            raise _too_large(limits.most)
        async for piece in pieces:
            if len(piece) > left and not limits.cut:
                raise _too_large(limits.most)
            if left:
                yield piece[:left]
            left = max(0, left - len(piece))
            if limits.cut and not left:
                return


def failed(message: str) -> UpstreamFailed:
    """The error for a server that is at fault."""
    return UpstreamFailed(message, code="fetch_failed")


def _too_large(most: int) -> TooLarge:
    limit = f"{most // 1024**2}MB" if most % 1024**2 == 0 else f"{most} bytes"
    return TooLarge(f"What the URL leads to is larger than {limit}.")
