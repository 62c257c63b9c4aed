"""Runs the programs of all users on this machine: a few at once, each in its session, none for too long."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TypeVar

from services.mcp.sandbox.engine import SECONDS, Program, Ran
from services.mcp.sandbox.interpreter import Interpreter
from services.mcp.sandbox.sessions import Session, Sessions
from services.mcp.tool import ToolFailed

AT_ONCE = max(1, min(4, os.cpu_count() or 1))
"""Programs that run at once."""
WAITING = 8
"""Programs that wait; more are refused."""
OF_USER = 3
"""Programs of one user that run or wait."""
RESIDENT = 1536 * 1024 * 1024
"""Bytes of memory; sessions that nobody uses are ended when all of them together have more."""
_SHORTEST = 0.5  # seconds that are worth beginning for
_GRACE = 15.0  # seconds after which a program that could not be stopped is stopped with this process
_SWEEP = 60.0
_STUCK = 70  # our exit status then

Result = TypeVar("Result")


class Runner:
    """Runs programs in interpreters that `opener` makes; `ready` raises `ToolFailed` while that cannot be done."""

    def __init__(
        self,
        opener: Callable[[], Interpreter],
        ready: Callable[[], None] = lambda: None,
        *,
        most_resident: int = RESIDENT,
    ) -> None:
        self._opener = opener
        self._ready = ready
        self._most_resident = most_resident
        self._threads = ThreadPoolExecutor(AT_ONCE + 2)
        self._sessions = Sessions(self._open, self._close)
        self._places = asyncio.Semaphore(AT_ONCE)
        self._users: Counter[str] = Counter()

    async def run(self, program: Program, *, seconds: float) -> Ran:
        """As `Sandbox.run`, with the time that is left for everything."""
        until = _now() + seconds
        self._ready()
        async with self._counted(program.user_id):
            session = await self._sessions.claim(program.user_id, program.session_id)
            try:
                async with session.turn, self._places:
                    return await self._run(session, program.code, min(SECONDS, until - _now()))
            finally:
                await self._sessions.release(session)
                await self._shrink()

    async def sweep(self) -> None:
        """End what nobody uses, for ever."""
        while True:
            await asyncio.sleep(_SWEEP)
            await self._sessions.expire()

    async def aclose(self) -> None:
        """End everything."""
        await self._sessions.aclose()
        self._threads.shutdown(wait=False)

    async def _run(self, session: Session, code: str, seconds: float) -> Ran:
        if seconds < _SHORTEST:
            raise ToolFailed("sandbox_busy", "The program had to wait for too long; try again in a while")
        if not session.interpreter.alive:  # the program before this one has ended it
            raise ToolFailed("session_not_found", "The session has ended: run the program without session_id")
        cancelled, started = Event(), _now()
        last_resort = asyncio.get_running_loop().call_later(seconds + _GRACE, os._exit, _STUCK)
        try:
            ran = await self._in_thread(
                lambda: session.interpreter.run(code, seconds=seconds, cancelled=cancelled), cancelled
            )
        finally:
            last_resort.cancel()
        kept = session.id if session.interpreter.alive else None
        return replace(ran, seconds=_now() - started, session_id=kept)

    async def _in_thread(self, work: Callable[[], Result], cancelled: Event) -> Result:
        """What `work` says. Cancelled, it is told so and waited for: its thread and session are taken until it ends."""
        working = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            cancelled.set()
            await asyncio.wait({working})
            raise

    async def _open(self) -> Interpreter:
        opened: list[Interpreter] = []
        try:
            await self._in_thread(lambda: opened.append(self._opener()), Event())
        except asyncio.CancelledError:
            for interpreter in opened:
                await self._close(interpreter)
            raise
        return opened[0]

    async def _close(self, interpreter: Interpreter) -> None:
        await self._in_thread(interpreter.close, Event())

    async def _shrink(self) -> None:
        while await asyncio.to_thread(_resident) > self._most_resident and await self._sessions.end_oldest():
            pass

    @asynccontextmanager
    async def _counted(self, user_id: str) -> AsyncIterator[None]:
        if self._users[user_id] >= OF_USER or self._users.total() >= AT_ONCE + WAITING:
            raise ToolFailed("sandbox_busy", "Too many programs run at the moment; try again in a while")
        self._users[user_id] += 1
        try:
            yield
        finally:
            self._users[user_id] -= 1
            self._users += Counter()  # drops those at zero


def _now() -> float:
    return asyncio.get_running_loop().time()


def _resident() -> int:
    """Bytes that this process and those under it hold (proc_pid_stat(5))."""
    parents, pages = {}, {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            fields = file.read_text(errors="replace").rpartition(")")[2].split()
            parents[int(file.parent.name)], pages[int(file.parent.name)] = int(fields[1]), int(fields[21])
    ours = {os.getpid()}
    while grown := {process for process, parent in parents.items() if parent in ours} - ours:
        ours |= grown
    return sum(pages.get(process, 0) for process in ours) * os.sysconf("SC_PAGE_SIZE")
