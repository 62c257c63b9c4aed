"""What was used, counted in memory and written behind: whoever counts waits for nobody.

Written is about every second and when the process stops. What a process that is killed had not written yet, a second's
worth, is lost. A database that is away loses nothing as long as no more than `MOST` different sums are waiting; a write
whose end nobody learned of is repeated, and may count twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

from services.llm.accounting.usage_store import Heading, Sums, UsageStore
from services.runtime.errors import Unavailable

PAUSE = 1.0
"""Seconds between two writes."""
MOST = 50_000
"""Sums that may wait; one is about a user's hour with a model, and takes half a kilobyte."""
BATCH = 5_000
"""Sums that are written at once, which takes a fraction of a query's deadline."""

log = logging.getLogger(__name__)


class UsageLedger:
    """The usage of one process on its way into the database."""

    def __init__(
        self,
        store: UsageStore,
        *,
        most: int = MOST,
        batch: int = BATCH,
        pause: float = PAUSE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._most = most
        self._batch = batch
        self._pause = pause
        self._clock = clock
        self._waiting: dict[tuple[Heading, int], Sums] = {}
        self._lost = 0
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def count(self, heading: Heading, prompt_tokens: int, completion_tokens: int) -> None:
        """Add one answer to the sums of this hour. Takes about a microsecond and does not raise."""
        self._add((heading, int(self._clock() // 3600)), Sums(1, prompt_tokens, completion_tokens))

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._write_for_ever())

    async def close(self) -> None:
        """Write what is left; when that fails, say how much it was."""
        self._ending.set()
        if self._task is not None:
            await self._task  # cancelled while it writes, it could not know whether that was done
        try:
            await self.flush()
        except Unavailable:
            log.warning("usage_lost", extra={"requests": sum(sums.requests for sums in self._waiting.values())})

    async def flush(self) -> None:
        """Write what waits. Raises `Unavailable`; then the rest goes on waiting, for the next time."""
        if self._lost:
            log.warning("usage_lost", extra={"requests": self._lost, "reason": "more waits than is kept"})
            self._lost = 0
        for _ in range(0, len(self._waiting), self._batch):
            await self._write(dict(islice(self._waiting.items(), self._batch)))

    async def _write(self, batch: dict[tuple[Heading, int], Sums]) -> None:
        for key in batch:
            del self._waiting[key]
        try:
            await self._store.add([(heading, hour, sums) for (heading, hour), sums in batch.items()])
        except BaseException:
            for key, sums in batch.items():
                self._add(key, sums)
            raise

    async def _write_for_ever(self) -> None:
        while not self._ending.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), self._pause)
            try:
                await self.flush()
            except Unavailable:
                log.warning("usage_not_written", extra={"remedy": "kept and written later"})
            except Exception:  # one that nobody thought of must not end the writing
                log.exception("usage not written")

    def _add(self, key: tuple[Heading, int], more: Sums) -> None:
        sums = self._waiting.get(key)
        if sums is not None:
            more = Sums(sums[0] + more[0], sums[1] + more[1], sums[2] + more[2])
        elif len(self._waiting) >= self._most:
            self._lost += more.requests
            return
        self._waiting[key] = more
