"""Whether a database answers at all, judged by what its queries get.

A database that stopped refuses connections, which everybody learns at once. One that hangs says nothing: without this
each caller would find that out for itself, by waiting for its whole deadline. It looks silent when questions have
waited for `PATIENCE` and none was answered; then one caller looks for a sign of life, and while there is none all
others are told at once, those that wait already, too. A query that is merely slow costs one such look and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

PATIENCE = 1.0
"""Seconds without any answer after which it looks silent."""
PAUSE = 1.0
"""Seconds between two looks at one that is silent."""


class Pulse:
    """That of one pool. `look` asks for a sign of life: it returns whether there was one, and does not raise."""

    def __init__(self, look: Callable[[], Awaitable[bool]], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._clock = clock
        self._looking = asyncio.Lock()
        self._questions = 0
        self._hang_ups: set[Callable[[], None]] = set()
        self._heard_at = 0.0
        self._gone = False
        self._next_look = 0.0

    @contextmanager
    def asking(self, hang_up: Callable[[], None]) -> Iterator[None]:
        """Around every question to the database. Errors are answers, too, but not that time is over. `hang_up` has to
        end the question with an error; it is called when the database is found to be gone."""
        begun = self._clock()
        self._hang_ups.add(hang_up)
        with self.waiting():
            try:
                yield
            except (TimeoutError, asyncio.CancelledError) as error:
                self._gone |= isinstance(error, TimeoutError) and self._heard_at <= begun
                raise
            except BaseException:
                self._heard()
                raise
            finally:
                self._hang_ups.discard(hang_up)
            self._heard()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what waits for the database, perhaps, and whose end says nothing about it."""
        if not self._questions:
            self._heard_at = self._clock()
        self._questions += 1
        try:
            yield
        finally:
            self._questions -= 1

    async def beats(self) -> bool:
        """Whether it makes sense to ask. Takes no time unless it looks silent, and then, of one caller, that of a
        look."""
        if not self._silent:
            return True
        if self._gone and (self._looking.locked() or self._clock() < self._next_look):
            return False
        async with self._looking:
            if self._silent and self._clock() >= self._next_look:
                await self._feel()
        return not self._silent

    async def _feel(self) -> None:
        if await self._look():
            self._heard()
        else:
            self._gone, self._next_look = True, self._clock() + PAUSE
            for hang_up in tuple(self._hang_ups):
                hang_up()

    def _heard(self) -> None:
        self._heard_at, self._gone = self._clock(), False

    @property
    def _silent(self) -> bool:
        return self._gone or (self._questions > 0 and self._clock() - self._heard_at > PATIENCE)
