"""Every tool there is, as administrators allow it: which are offered, what is said about them, what they may be asked.

Whoever calls a tool calls it here, so that limits, filters and the audit hold on every way in.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.mcp.arguments import fitting
from services.mcp.call_audit import CallAudit
from services.mcp.filters import Filters, compiled
from services.mcp.tool import Calling, Description, Json, Result, Tool, ToolFailed, failed
from services.mcp.tool_store import CHANNEL, ToolStore
from services.runtime.db import Connection, Row
from services.runtime.errors import ApiError, Unavailable
from services.runtime.watch import Watch

RELOAD_PAUSE = 1.0
"""Seconds until changes that could not be read are tried again."""
_OWN = ""
"""The group of the tools that are built in; no other server has this name."""

_CODE = re.compile(r"[a-z0-9_]{1,64}")

log = logging.getLogger("jan.tools")


class UnknownTool(Exception):
    """There is no tool of that name."""


@dataclass(frozen=True)
class Setting:
    """What administrators have set about a tool."""

    enabled: bool = True
    description: str | None = None
    category: str | None = None
    filters: Filters = field(default_factory=Filters)


class Registry:
    """The tools of this process. `seconds` is how long one may run."""

    def __init__(self, tools: Sequence[Tool], store: ToolStore, audit: CallAudit, *, seconds: float) -> None:
        self._groups: dict[str, dict[str, Tool]] = {_OWN: {tool.description.name: tool for tool in tools}}
        self._store = store
        self._audit = audit
        self._seconds = seconds
        self._settings: Mapping[str, Setting] = {}
        self._remembered: dict[str, Description] = {}
        self._news = asyncio.Event()
        self._reading = asyncio.Lock()

    async def start(self) -> None:
        """Learn what administrators have set, and let them know of tools that are new. Without the database that is
        done as soon as it is back; until then what was set last holds."""
        try:
            await self._catch_up()
        except Unavailable:
            log.warning("tools_without_database", extra={"remedy": "what administrators have set holds later"})
            self._news.set()

    def follow(self, watch: Watch) -> None:
        """Hear what administrators change, in whichever process."""
        watch.on(CHANNEL, lambda _payload: self._news.set(), self.reload)

    async def run(self) -> None:
        """Take over what is heard, for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._catch_up()
            except Exception as error:  # whatever it is: the news must not be lost, nor any after them
                log.warning("tools_not_reloaded", extra={"reason": repr(error)})
                await asyncio.sleep(RELOAD_PAUSE)
                self._news.set()

    async def reload(self, connection: Connection | None = None) -> None:
        """Take over what is set now. Raises `Unavailable`."""
        async with self._reading:  # one after the other, so that what was read last holds
            self._settings = {row["name"]: _setting(row) for row in await self._store.load(connection)}

    async def offer(self, provider: str, tools: Sequence[Tool]) -> None:
        """Make these the tools of another server, in the place of those that it had. What has a name that is taken by
        another provider is left out."""
        taken = {name for group, named in self._groups.items() if group != provider for name in named}
        self._groups[provider] = {tool.description.name: tool for tool in tools if tool.description.name not in taken}
        await self.start()

    async def _catch_up(self) -> None:
        said = {tool.description.name: tool.description for tool in self._all()}
        await self._store.remember([each for name, each in said.items() if self._remembered.get(name) != each])
        self._remembered = said
        await self.reload()

    def offered(self) -> list[Description]:
        """What users can call, by name, as they are told about it."""
        known = (self._told(tool.description) for tool in self._all() if self._of(tool).enabled)
        return sorted(known, key=lambda description: description.name)

    def find(self, name: str) -> Tool | None:
        """The tool of that name, enabled or not."""
        return next((group[name] for group in self._groups.values() if name in group), None)

    async def call(self, name: str, arguments: Json, calling: Calling) -> Result:
        """Have a tool run. Whatever goes wrong in it is a result. Raises `UnknownTool` and `WrongArguments`."""
        tool = self.find(name)
        if tool is None:
            raise UnknownTool(name)
        if name in self._groups[_OWN] and self._of(tool).enabled:  # others judge by themselves what they are asked
            arguments = fitting(arguments, tool.description.input_schema)
        started, outcome = time.monotonic(), "cancelled"
        try:
            result = await self._allowed(tool, arguments, calling)
            outcome = _outcome(result)
            if result.failure and name not in self._groups[_OWN] and tool.description.output_schema is not None:
                return replace(result, structured=None)  # it would not fit the schema of the other server's tool
        finally:
            self._audit.record(
                user_id=calling.user_id,
                tool=name,
                request_id=calling.request_id,
                outcome=outcome,
                seconds=time.monotonic() - started,
            )
        return result

    async def _allowed(self, tool: Tool, arguments: Json, calling: Calling) -> Result:
        setting = self._of(tool)
        if not setting.enabled:
            return failed("tool_disabled", "An administrator has switched this tool off")
        if not setting.filters.empty:  # arguments may be megabytes: a thread reads them
            refused = await asyncio.to_thread(setting.filters.refusal, arguments)
            if refused is not None:
                return refused
        result = await self._run(tool, arguments, calling)
        if result.structured is None or result.is_error:
            return result
        kept = setting.filters.without_disallowed(result.structured)
        return result if kept is result.structured else Result(kept)

    async def _run(self, tool: Tool, arguments: Json, calling: Calling) -> Result:
        now = asyncio.get_running_loop().time()
        until = min(calling.deadline, now + self._seconds)
        try:
            async with asyncio.timeout_at(until):
                return await tool.run(arguments, replace(calling, deadline=until))
        except ToolFailed as failure:
            return failed(failure.code, failure.message)
        except ApiError as error:  # of another room
            return failed(error.code, error.message)
        except TimeoutError:
            return failed("tool_timeout", f"The tool did not end within {round(until - now)} seconds")
        except Exception:
            log.exception("tool failed", extra={"tool": tool.description.name, "request_id": calling.request_id})
            return failed("tool_failed", "The tool failed; the log of the server has the cause")

    def _told(self, description: Description) -> Description:
        setting = self._settings.get(description.name, Setting())
        return replace(
            description,
            text=setting.description or description.text,
            category=setting.category or description.category,
        )

    def _of(self, tool: Tool) -> Setting:
        return self._settings.get(tool.description.name, Setting())

    def _all(self) -> Iterator[Tool]:
        return (tool for group in self._groups.values() for tool in group.values())


def _setting(row: Row) -> Setting:
    return Setting(
        enabled=row["enabled"],
        description=row["description"],
        category=row["category"],
        filters=compiled(row["disallowed_keywords"], row["require_approval_for"]),
    )


def _outcome(result: Result) -> str:
    if not result.is_error:
        return "completed"
    if result.failure:
        return result.failure
    error = (result.structured or {}).get("error")
    code = error.get("code") if isinstance(error, dict) else None  # another server's tool can say whatever it likes
    return code if isinstance(code, str) and _CODE.fullmatch(code) else "failed"
