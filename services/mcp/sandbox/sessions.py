"""The sessions of the sandbox on this machine: an interpreter each, few at a time, ended when nobody uses them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from services.mcp.sandbox.interpreter import Interpreter
from services.mcp.tool import ToolFailed
from services.runtime.ids import new_id

MOST = 16
"""Sessions there are at once."""
MOST_OF_USER = 4
IDLE = 15 * 60.0
"""Seconds after which a session that nobody uses ends."""
PREFIX = "pyses"
"""Of the ids that are given out here."""


@dataclass
class Session:
    """Variables and files of a user, and who uses them now."""

    id: str
    user_id: str
    interpreter: Interpreter
    used_at: float
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a program runs in it."""
    claims: int = 0
    """Calls that use it or wait for it."""


class Sessions:
    """Opens sessions with `opened` and ends them with `closed`, both of which may take a while."""

    def __init__(
        self,
        opened: Callable[[], Awaitable[Interpreter]],
        closed: Callable[[Interpreter], Awaitable[None]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._opened = opened
        self._closed = closed
        self._clock = clock
        self._sessions: dict[tuple[str, str], Session] = {}
        self._opening = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    async def claim(self, user_id: str, session_id: str) -> Session:
        """The session of this user with this id, to be given back with `release`; without an id a new one. A name of
        the user's own begins a session when there is none of it. Raises `ToolFailed`: `session_not_found` for an id of
        ours that this user has no session of, `sandbox_busy` when all sessions are in use."""
        await self.expire()
        async with self._opening:
            session = self._sessions.get((user_id, session_id))
            if session is None and session_id.startswith(f"{PREFIX}_"):
                raise ToolFailed("session_not_found", _NOT_FOUND)
            if session is None:
                session = await self._begin(user_id, session_id or new_id(PREFIX))
            session.claims += 1
            return session

    async def release(self, session: Session) -> None:
        """Give it back. It is gone if its interpreter has ended."""
        session.claims -= 1
        session.used_at = self._clock()
        if not session.interpreter.alive:
            await self._end(session)

    async def expire(self) -> None:
        """End those that nobody has used for `IDLE`."""
        for session in self._idle():
            if self._clock() - session.used_at >= IDLE:
                await self._end(session)

    async def end_oldest(self) -> bool:
        """End the one that is unused for longest; false when all are in use."""
        idle = self._idle()
        if idle:
            await self._end(idle[0])
        return bool(idle)

    async def aclose(self) -> None:
        """End all."""
        for session in list(self._sessions.values()):
            await self._end(session)

    async def _begin(self, user_id: str, session_id: str) -> Session:
        own = [session for session in self._sessions.values() if session.user_id == user_id]
        if len(own) >= MOST_OF_USER:
            await self._make_room([session for session in self._idle() if session.user_id == user_id])
        if len(self._sessions) >= MOST:
            await self._make_room(self._idle())
        session = Session(session_id, user_id, await self._opened(), self._clock())
        self._sessions[user_id, session_id] = session
        return session

    async def _make_room(self, idle: list[Session]) -> None:
        if not idle:
            raise ToolFailed("sandbox_busy", "Too many programs run at the moment; try again in a while")
        await self._end(idle[0])

    def _idle(self) -> list[Session]:
        idle = (session for session in self._sessions.values() if session.claims == 0)
        return sorted(idle, key=lambda session: session.used_at)

    async def _end(self, session: Session) -> None:
        if self._sessions.pop((session.user_id, session.id), None) is not None:
            await self._closed(session.interpreter)


_NOT_FOUND = (
    "There is no such session (any more): a session ends 15 minutes after its last program, when a program crashes it "
    "or runs out of time, and when the server restarts. Run the program without session_id, with all that it needs"
)
