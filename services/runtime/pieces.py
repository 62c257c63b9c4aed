"""Requests that are streams, above all bodies over REST (`stream google.api.HttpBody`): counted, and read to their very
end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from services.runtime import call
from services.runtime.errors import RequestTimeout, TooLarge

PATIENCE = 10.0
# The library ends the iterator of a client that has gone just as it ends that of one who is through, and cancels the
# call a moment later.
_MOMENT = 0.01


class Pieces:
    """The messages of a request as they come. Of a body over REST the first one has the content type, and is empty when
    the body is; each has some 128 KiB at most.

    Raises `TooLarge` with the piece that makes a body longer than `largest` bytes, and `RequestTimeout` when the
    deadline of the call comes before the end. For a client that has gone there is no end: the call is cancelled.
    """

    def __init__(self, messages: AsyncIterator[Any], largest: int | None) -> None:
        self._messages = aiter(messages)
        self._largest = largest
        self._size = 0
        self._ended = False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            async with asyncio.timeout_at(call.current().deadline):
                piece = await self._next()
        except TimeoutError as error:
            raise RequestTimeout("The request was not received in time.") from error
        if self._largest is not None and self._size > self._largest:
            raise TooLarge(f"The request body is larger than {self._largest} bytes.")
        return piece

    async def skip(self, *, patience: float = PATIENCE) -> None:
        """Read the rest of a body, up to twice the limit and for `patience` seconds: many clients look for an answer
        only when they have sent all, and lose what is answered before."""
        largest = self._largest or 0
        with suppress(TimeoutError, StopAsyncIteration):
            async with asyncio.timeout(patience):
                while self._size <= 2 * largest:
                    await self._next()

    async def _next(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        try:
            piece = await anext(self._messages)
        except StopAsyncIteration:
            self._ended = True
            await asyncio.sleep(_MOMENT)
            raise
        if self._largest is not None:
            self._size += len(piece.data)
        return piece
