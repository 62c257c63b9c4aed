"""Which tools were called by whom, written behind each second: whoever calls a tool does not wait for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from services.runtime.db import Database
from services.runtime.errors import Unavailable

PAUSE = 1.0
"""Seconds between two writes."""
MOST = 50_000
"""Calls that may wait for a database that is away; more are not kept."""

log = logging.getLogger("jan.tools")


class Called(NamedTuple):
    """One call."""

    user_id: str
    tool: str
    request_id: str
    outcome: str
    """`completed`, or the code of the failure."""
    duration_ms: int
    at: datetime


class CallAudit:
    """The calls of this process on their way into the database. A process that is killed loses those of a second."""

    def __init__(
        self,
        database: Database,
        *,
        pause: float = PAUSE,
        most: int = MOST,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._pause = pause
        self._most = most
        self._now = now
        self._waiting: list[Called] = []
        self._lost = 0
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def record(self, *, user_id: str, tool: str, request_id: str, outcome: str, seconds: float) -> None:
        """Keep a call that ended now."""
        if len(self._waiting) >= self._most:
            self._lost += 1
            return
        self._waiting.append(Called(user_id, tool, request_id, outcome, round(seconds * 1000), self._now()))

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._write_for_ever())

    async def close(self) -> None:
        """Write what is left."""
        self._ending.set()
        if self._task is not None:
            await self._task

    async def _write_for_ever(self) -> None:
        ending = False
        while not ending:
            with suppress(TimeoutError):
                ending = await asyncio.wait_for(self._ending.wait(), self._pause)
            try:
                await self._write()
            except Unavailable:
                log.warning("tool_calls_not_written", extra={"waiting": len(self._waiting)})
            except Exception:  # one that nobody thought of must not end the writing
                log.exception("tool calls not written")

    async def _write(self) -> None:
        if self._lost:
            log.warning("tool_calls_lost", extra={"calls": self._lost})
            self._lost = 0
        while batch := self._waiting[:5000]:
            await self._database.execute(
                """
                INSERT INTO tool_calls (user_id, tool, request_id, outcome, duration_ms, created_at)
                SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::timestamptz[])
                """,
                *map(list, zip(*batch, strict=True)),
            )
            del self._waiting[: len(batch)]
