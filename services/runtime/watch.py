"""The one connection to PostgreSQL that a process keeps for itself: what it is told through it, and that it lives.

    watch.on("revocations", heard, resume)     # heard(payload) for every NOTIFY, resume(connection) after every gap
    await watch.start()

A connection that breaks, or that says nothing for `BEAT`, is made anew; `resume` then reads what was missed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # see db.py

from services.runtime.db import DEADLINE, Connection
from services.runtime.errors import Unavailable

BEAT = 2.0
_SILENCE = 15  # seconds after which PostgreSQL gives up a machine that vanished, and with it the lock
LOCKS = 0x6A616E  # the class of our advisory locks, "jan"
_PAUSES = (0.1, 0.2, 0.5, 1.0)
_LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, Unavailable)

Heard = Callable[[str], None]
Resume = Callable[[Connection], Awaitable[None]]
log = logging.getLogger("jan.watch")


class Watch:
    """LISTENs on channels. `number` is the process's own: while the process lives and is connected it holds the
    advisory lock (`LOCKS`, `number`), so that others can find out whether it died."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._subscribers: list[tuple[str, Heard, Resume]] = []
        self._connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.number = secrets.randbelow(2**31)

    @property
    def connected(self) -> bool:
        """Whether nothing can be missed right now."""
        return self._connected.is_set()

    def on(self, channel: str, heard: Heard, resume: Resume) -> None:
        """Call `heard` with the payload of every NOTIFY on `channel`, and `resume` once before and after every gap."""
        self._subscribers.append((channel, heard, resume))

    async def start(self) -> None:
        """Connect, and wait for that for some seconds; without a database go on trying."""
        self._task = asyncio.create_task(self._run())
        with suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE):
                await self._connected.wait()

    async def close(self) -> None:
        """Disconnect for good."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._session()
            except Exception as error:  # whatever it is: a process that no longer listens must know that, and try again
                failures = 0 if self.connected else failures + 1
                self._connected.clear()
                expected = isinstance(error, _LOST)
                log.warning("watch_lost", extra={"reason": repr(error)}, exc_info=None if expected else error)
            await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])

    async def _session(self) -> None:
        """Listen until the connection breaks, which raises."""
        raw: Any = await asyncpg.connect(self._url, timeout=DEADLINE, command_timeout=DEADLINE)
        ended = asyncio.Event()
        raw.add_termination_listener(lambda _connection: ended.set())
        try:
            await raw.execute(f"SET idle_session_timeout = '{_SILENCE}s'")
            held = await self._hold(raw)
            for channel, heard, _ in self._subscribers:
                await raw.add_listener(channel, _listener(heard))
            for _, _, resume in self._subscribers:
                await resume(Connection(raw))
            self._connected.set()
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(BEAT if held else _PAUSES[0]):
                        await ended.wait()
                held = held or await self._hold(raw)
                await raw.execute("SELECT", timeout=BEAT)
        finally:
            raw.terminate()

    async def _hold(self, raw: Any) -> bool:
        """Take the lock, unless the database has not noticed yet that our connection before this one is dead: then it
        is held all the same, and there is more to catch up with than that."""
        return bool(await raw.fetchval("SELECT pg_try_advisory_lock($1, $2)", LOCKS, self.number))


def _listener(heard: Heard) -> Callable[[Any, int, str, str], None]:
    def listener(_connection: Any, _pid: int, _channel: str, payload: str) -> None:
        heard(payload)

    return listener
