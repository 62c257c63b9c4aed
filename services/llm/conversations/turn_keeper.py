"""What has to be done for a turn whoever leaves: its answer is stored and its conversation freed, by tasks that do not
end when a client hangs up, and that the stop of the server waits for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any

from services.llm.conversations.item_store import Draft
from services.llm.conversations.turn_store import Opening, Run, TurnStore
from services.runtime.errors import ApiError, NotFound, Unavailable

GRACE = 5.0  # seconds that a stop waits for a database that is not there
_AGAIN = 1.0  # seconds between attempts to tell a database that went away
log = logging.getLogger("jan.turns")

Work = Callable[[], Awaitable[None]]


class TurnKeeper:
    """The turns that run in this process."""

    def __init__(self, store: TurnStore) -> None:
        self._store = store
        self._open: set[asyncio.Future[None]] = set()

    @asynccontextmanager
    async def opening(self, run: Run, missing: NotFound) -> AsyncIterator[Opening]:
        """Take a conversation as `TurnStore.opening`. When nobody can know whether that came through, it is freed."""
        if not self._store.reachable:
            raise Unavailable("Conversations need the database, which is not reachable right now; try again shortly")
        try:
            async with self._store.opening(run, missing) as opening:
                yield opening
        except BaseException as error:
            if isinstance(error, Unavailable) or not isinstance(error, ApiError):
                self._start(self._tell_at_last(partial(self._store.free, run)))
            raise

    @contextmanager
    def attending(self) -> Iterator[None]:
        """A turn under way, whose end the stop waits for."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open.add(turn)
        try:
            yield
        finally:
            self._open.discard(turn)
            turn.cancel()  # wakes whoever waits, and does nothing when the stop has given up

    async def settle(self, run: Run, answer: Draft | None) -> None:
        """Keep the answer of a run, if there is one, and free its conversation. Returns when that is done for good;
        raises `Unavailable` when it has to be tried again, which goes on without the caller."""
        await asyncio.shield(self._start(self._settle(run, answer)))

    async def replace(self, run: Run, answer: Draft, *, after: int) -> None:
        """Replace as `TurnStore.replace`, also when the caller is cancelled meanwhile."""
        await asyncio.shield(self._start(self._store.replace(run, answer, after=after)))

    async def close(self) -> None:
        """Wait for what is under way, `GRACE` seconds at most."""
        until = asyncio.get_running_loop().time() + GRACE
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while self._open:
                    await asyncio.wait(self._open)
        for each in tuple(self._open):
            log.error("turn_lost", extra={"reason": "the database was not reachable"})
            each.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._open.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Future[None]) -> None:
        self._open.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever waited, if anybody did

    async def _settle(self, run: Run, answer: Draft | None) -> None:
        free = partial(self._store.free, run)
        work = free if answer is None else partial(self._store.keep, run, answer)
        try:
            await work()
        except Unavailable as error:
            log.warning("turn_not_stored", extra={"reason": error.message, "remedy": "it is tried again"})
            self._start(self._tell_at_last(work))
            raise
        except Exception:  # what cannot be stored must not keep its conversation busy for ever
            self._start(self._tell_at_last(free))
            raise

    async def _tell_at_last(self, work: Work) -> None:
        """Until the database has heard it. There are never many of these: without the database no turn begins."""
        while True:
            with suppress(Unavailable):
                return await work()
            await asyncio.sleep(_AGAIN)
