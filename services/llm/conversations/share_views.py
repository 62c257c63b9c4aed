"""How often shares are read, counted in memory and written together: readers wait for no write."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from services.runtime.errors import Unavailable

PAUSE = 1.0
"""Seconds between two writes."""

log = logging.getLogger(__name__)


class Views:
    """The views of one process on their way to `write`. What a process that is killed has not written yet is lost; what
    waits while the database is away is little, for then nothing can be read either."""

    def __init__(self, write: Callable[[Mapping[str, int]], Awaitable[None]], *, pause: float = PAUSE) -> None:
        self._write = write
        self._pause = pause
        self._waiting: Counter[str] = Counter()
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def count(self, share_id: str) -> None:
        """One view more."""
        self._waiting[share_id] += 1

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._write_for_ever())

    async def close(self) -> None:
        """Write what is left, if the database is there."""
        self._ending.set()
        if self._task is not None:
            await self._task  # cancelled while it writes, it could not know whether that was done
        await self._flush()

    async def _write_for_ever(self) -> None:
        while not self._ending.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), self._pause)
            await self._flush()

    async def _flush(self) -> None:
        views, self._waiting = self._waiting, Counter()
        try:
            if views:
                await self._write(views)
        except Unavailable:
            self._waiting.update(views)
        except Exception:  # one that nobody thought of must not end the writing
            log.exception("views not written")
