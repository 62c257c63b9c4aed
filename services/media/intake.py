"""Bounds what is in memory of all uploads that arrive at the same time: a piece is read when there is a place for it.

A client that is slow does not keep its place while it is waited for: it takes none from those that are fast, and what
it waits for may be that others on its connection are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

from services.runtime.errors import RequestTimeout

AT_ONCE = 16
"""Pieces, of up to 128 KiB each."""
PATIENCE = 0.5
"""Seconds for a piece, after which a client is slow. A busy server needs a part of them for itself."""
SILENCE = 60.0
"""Seconds after which it is given up."""

T = TypeVar("T")


class Intake:
    """Shared by all uploads of a process."""

    def __init__(self, *, at_once: int = AT_ONCE, patience: float = PATIENCE, silence: float = SILENCE) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._patience = patience
        self._silence = silence

    async def pieces(self, source: AsyncIterator[T]) -> AsyncGenerator[T, None]:
        """The pieces of one upload. A place is held from before a piece is read until the next one is asked for; for a
        slow client, from when the piece is there. Raises `RequestTimeout` when the client is silent for too long."""
        loop, is_fast = asyncio.get_running_loop(), True
        while True:
            place = _Place(self._places)
            try:
                if is_fast:
                    await place.take()
                    place.leave_in(self._patience)
                asked = loop.time()
                piece = await self._next(source)
                is_fast = loop.time() - asked < self._patience
                if piece is None:
                    return
                await place.take()
                yield piece
                del piece  # not to be kept while the next one is waited for
            finally:
                place.leave()

    async def _next(self, source: AsyncIterator[T]) -> T | None:
        try:
            async with asyncio.timeout(self._silence):
                return await anext(source, None)
        except TimeoutError as error:
            raise RequestTimeout("The upload was not received in time") from error


class _Place:
    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._is_held = False
        self._end: asyncio.TimerHandle | None = None

    async def take(self) -> None:
        """Wait for it, unless it is held; then it stays."""
        self._keep()
        if not self._is_held:
            await self._places.acquire()
            self._is_held = True

    def leave_in(self, seconds: float) -> None:
        """Leave it then, unless it is taken again before."""
        self._end = asyncio.get_running_loop().call_later(seconds, self.leave)

    def leave(self) -> None:
        self._keep()
        if self._is_held:
            self._is_held = False
            self._places.release()

    def _keep(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
