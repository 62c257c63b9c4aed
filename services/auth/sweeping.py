"""What a room does every few minutes: forget what has expired."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from services.runtime.errors import Unavailable

INTERVAL = 300.0  # seconds
log = logging.getLogger(__name__)


class Sweeper:
    """Runs `chores` one after the other, at once and then every `INTERVAL`. One that finds the database gone is tried
    again the next time; any other failure is logged, for the rest have to be done all the same."""

    def __init__(self, chores: Sequence[Callable[[], Awaitable[object]]]) -> None:
        self._chores = chores
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the background."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop at once."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            for chore in self._chores:
                await _do(chore)
            await asyncio.sleep(INTERVAL)


async def _do(chore: Callable[[], Awaitable[object]]) -> None:
    name = getattr(chore, "__qualname__", repr(chore))
    try:
        await chore()
    except Unavailable as error:
        log.warning("sweep_put_off", extra={"chore": name, "reason": error.message})
    except Exception:
        log.exception("sweep_failed", extra={"chore": name})
