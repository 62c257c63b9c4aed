"""The bridge: tools of other MCP servers as tools of this one (CONTRACT 11.3).

Every process finds them for itself. What a server has is looked up at the start, when the server says that it changed,
when a call finds it broken, and from time to time. One that cannot be reached hides its own tools until it is back.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from services.mcp.bridge_file import Provider
from services.mcp.bridge_session import (
    Offered,
    PeerFailed,
    PeerUnreached,
    Session,
    connected,
    keep_secrets_out_of_logs,
)
from services.mcp.tool import Calling, Description, Json, Progress, Result, Tool, ToolFailed

DEEPEST = 24
"""Levels of a schema. Deeper ones break gRPC clients, which read no more than a hundred levels of messages."""
CALLS = 100
"""Calls to one server at the same time; more wait for their turn."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
Offer = Callable[[str, Sequence[Tool]], Awaitable[None]]

log = logging.getLogger("jan.tools")


@dataclass(frozen=True)
class Pace:
    """When a server is looked at, in seconds."""

    refresh: float = 60.0
    """Between two looks at one that is well."""
    recovery: float = 15.0
    """Between two looks at one that is not."""
    shortest: float = 1.0
    """Between two looks, however often the server says that it changed."""


class Bridge:
    """All other servers. `offer` takes the tools of one, in the place of those that it had."""

    def __init__(self, providers: Sequence[Provider], offer: Offer, pace: Pace = Pace()) -> None:
        self._remotes = [Remote(provider, offer, pace) for provider in providers]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to look, in the background."""
        if self._remotes:
            keep_secrets_out_of_logs()
        self._tasks = [asyncio.create_task(remote.run()) for remote in self._remotes]

    async def close(self) -> None:
        """Say goodbye to all of them."""
        for remote, task in zip(self._remotes, self._tasks, strict=True):
            remote.ending = True
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Remote:
    """One other server, as this process sees it."""

    def __init__(self, provider: Provider, offer: Offer, pace: Pace) -> None:
        self._provider = provider
        self._offer = offer
        self._pace = pace
        self._session: Session | None = None
        self._known = asyncio.Event()
        """Set unless a session is just being made: then it is not known whether there will be one."""
        self._turns = asyncio.Semaphore(CALLS)
        self._hidden = True
        self._left_out: set[str] = set()
        self.ending = False
        """Set before `run` is cancelled: what breaks in the SDK at that moment takes the place of the cancellation."""

    async def run(self) -> None:
        """Keep what is offered in step with what the server has, until the end."""
        failures = 0
        fault: Exception | None = None
        while not self.ending:
            try:
                if fault is not None:
                    await self._wait(failures, fault)
                async with connected(self._provider) as session:
                    tools = await self._look(session)
                    self._session, failures, fault = session, 0, None
                    self._known.set()
                    await self._show(tools)
                    await self._keep(session)
            except Exception as error:  # whatever it is, the server is looked at again
                self._session, failures, fault = None, failures + 1, error

    async def call(self, name: str, arguments: Json, calling: Calling) -> Result:
        """Have a tool run there. Raises `ToolFailed`. It is asked again only if it certainly was not asked yet."""
        until = min(calling.deadline, asyncio.get_running_loop().time() + self._provider.timeout)
        try:
            async with asyncio.timeout_at(until), self._turns:
                return await self._called(name, arguments, calling.progress)
        except TimeoutError as error:
            raise self._failed("tool_timeout", "It did not answer in time") from error
        except PeerFailed as error:
            raise self._failed(error.code, str(error)) from error

    async def _called(self, name: str, arguments: Json, progress: Progress, *, tries: int = 2) -> Result:
        session = await self._present()
        try:
            return await session.call(name, arguments, progress)
        except PeerUnreached:
            self._forget(session)
            if tries == 1:
                raise
        except PeerFailed:
            session.changed.set()  # have a look at what is the matter
            raise
        return await self._called(name, arguments, progress, tries=tries - 1)

    async def _present(self) -> Session:
        """The session, when it is known whether there is one."""
        await self._known.wait()
        if self._session is None:
            raise PeerUnreached("It cannot be reached")
        return self._session

    def _forget(self, session: Session) -> None:
        """Have another session made, unless that was done already."""
        if self._session is session:
            self._session = None
            self._known.clear()
            session.changed.set()

    async def _keep(self, session: Session) -> None:
        """Look at the server again and again, until the session is gone. Raises `PeerFailed` and `TimeoutError`."""
        try:
            while self._session is session:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pace.refresh):
                        await session.changed.wait()
                        await asyncio.sleep(self._pace.shortest if self._session is session else 0)
                if self._session is session:
                    await self._show(await self._look(session))
        except Exception:
            self._forget(session)
            raise
        finally:
            with suppress(TimeoutError):  # what runs in it still may end well
                async with asyncio.timeout(self._provider.timeout):
                    await session.idle.wait()

    async def _look(self, session: Session) -> list[Tool]:
        """What the server has now. Raises `PeerFailed` and `TimeoutError`."""
        session.changed.clear()
        async with asyncio.timeout(self._provider.timeout):
            return list(self._usable(await session.tools()))

    async def _show(self, tools: Sequence[Tool]) -> None:
        await self._offer(self._provider.name, tools)
        if self._hidden:
            log.info("mcp_provider_available", extra={"provider": self._provider.name, "tools": len(tools)})
        self._hidden = False

    async def _wait(self, failures: int, fault: Exception) -> None:
        """Wait for the next try; after the last one the tools are hidden."""
        if failures <= self._provider.retries:
            self._known.clear()
            await asyncio.sleep(self._provider.retry_delay)
            return
        self._known.set()
        if not self._hidden or failures == self._provider.retries + 1:
            log.warning("mcp_provider_unavailable", extra={"provider": self._provider.name, "reason": _reason(fault)})
        if not self._hidden:
            self._hidden = True
            await self._offer(self._provider.name, [])
        await asyncio.sleep(self._pace.recovery)

    def _usable(self, offered: Sequence[Offered]) -> Iterator[Tool]:
        """The tools that are wanted and fit; what does not is logged once."""
        wanted = self._provider.tools
        left_out = dict.fromkeys(set(wanted or ()) - {tool.name for tool in offered}, "it has no such tool")
        seen: set[str] = set()
        for tool in offered:
            if wanted is not None and tool.name not in wanted:
                continue
            if (fault := "its name is taken" if tool.name in seen else _fault(self._provider, tool)) is not None:
                left_out[tool.name] = fault
                continue
            seen.add(tool.name)
            yield RemoteTool(_description(self._provider, tool), tool.name, self)
        for name in sorted(left_out.keys() - self._left_out):
            fields = {"provider": self._provider.name, "tool": name[:200], "reason": left_out[name]}
            log.warning("mcp_tool_left_out", extra=fields)
        self._left_out = set(left_out)

    def _failed(self, code: str, reason: str) -> ToolFailed:
        return ToolFailed(code, f"The tools of {self._provider.name!r} are on another server. {reason}")


class RemoteTool:
    """A tool of another server."""

    def __init__(self, description: Description, name: str, remote: Remote) -> None:
        self.description = description
        self._name = name
        self._remote = remote

    async def run(self, arguments: Json, calling: Calling) -> Result:
        """What the server says, as it says it. Raises `ToolFailed`."""
        return await self._remote.call(self._name, arguments, calling)


def _description(provider: Provider, tool: Offered) -> Description:
    output = tool.output_schema
    return Description(
        name=f"{provider.name}_{tool.name}",
        title=_storable(tool.title),
        text=_storable(f"[{provider.name}] {tool.text}"),
        category="bridge",
        input_schema=tool.input_schema,
        output_schema=output if output is not None and output.get("type") == "object" else None,
        annotations=tool.annotations,
        provider=provider.name,
    )


def _fault(provider: Provider, tool: Offered) -> str | None:
    """Why it cannot be offered here."""
    if not _NAME.fullmatch(f"{provider.name}_{tool.name}"):
        return "its name has other than 1 to 128 of A-Z, a-z, 0-9, _, - and . with the provider's name before it"
    if not isinstance(tool.input_schema.get("properties", {}), dict) or tool.input_schema.get("type") != "object":
        return "its schema is not of an object"
    if _deeper(tool.input_schema, DEEPEST) or _deeper(tool.output_schema, DEEPEST):
        return f"its schema has more than {DEEPEST} levels"
    return None


def _deeper(value: Any, levels: int) -> bool:
    """Whether a value has more levels than that."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(levels == 0 or _deeper(each, levels - 1) for each in inside if isinstance(each, dict | list))


def _storable(text: str) -> str:
    """Without the one character that PostgreSQL does not store."""
    return text.replace("\0", "")


def _reason(error: Exception) -> str:
    """For the log. Errors that are not ours may tell contents or an address."""
    return str(error) if isinstance(error, PeerFailed) else type(error).__name__
