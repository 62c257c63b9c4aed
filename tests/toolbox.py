"""Tools that tests can see through, and what a registry needs besides."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from services.mcp.registry import Registry
from services.mcp.tool import Calling, Description, Result, ToolFailed
from services.runtime.errors import NotFound, Unavailable

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "words": {"type": "string", "minLength": 1},
        "times": {"type": "integer", "minimum": 1, "default": 1},
        "approved": {"type": "boolean"},
        "more": {"type": "object"},
    },
    "required": ["words"],
}


class Echo:
    """Says what it is asked, as often as wanted; with the words `fail` and others it fails."""

    def __init__(self, name: str = "echo", *, provider: str = "builtin", output_schema: Any = None) -> None:
        self.description = Description(
            name=name,
            title="Echo",
            text="Says it again.",
            category="test",
            input_schema=SCHEMA,
            output_schema=output_schema,
            annotations={"readOnlyHint": True},
            provider=provider,
        )
        self.asked: list[tuple[dict[str, Any], Calling]] = []

    async def run(self, arguments: dict[str, Any], calling: Calling) -> Result:
        self.asked.append((arguments, calling))
        match arguments["words"]:
            case "fail":
                raise ToolFailed("too_quiet", "It did not hear that")
            case "not found":
                raise NotFound("There is no such thing", code="media_not_found")
            case "break":
                raise RuntimeError("a secret cause")
            case "image":
                return Result(content=[{"type": "image", "data": "AAAA", "mimeType": "image/png"}])
            case "surrogate":
                return Result({"said": "\ud800"})
        return Result({"said": arguments["words"] * arguments.get("times", 1), "nothing": None})


class Patient:
    """Says how far it is, then waits until it is told to end."""

    def __init__(self, steps: Sequence[float] = ()) -> None:
        self.description = Description(
            name="wait", title="Wait", text="Waits.", category="test", input_schema={"type": "object"}
        )
        self.steps = steps
        self.running = asyncio.Event()
        self.enough = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def run(self, _arguments: dict[str, Any], calling: Calling) -> Result:
        for step in self.steps:
            await calling.progress(step, 4.0, f"step {step:g}")
        self.running.set()
        try:
            await self.enough.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Result({"waited": True})


class Shelf:
    """Where the rows of tools are kept in place of a database, which may be `away`."""

    def __init__(self, **rows: dict[str, Any]) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.set(**rows)
        self.away = False
        self.remembered: list[str] = []
        self.loaded = asyncio.Event()

    def set(self, **rows: dict[str, Any]) -> None:
        untouched = {
            "enabled": True,
            "description": None,
            "category": None,
            "disallowed_keywords": [],
            "require_approval_for": [],
        }
        for name, row in rows.items():
            self.rows[name] = {**untouched, **row, "name": name}

    async def remember(self, tools: Sequence[Description]) -> None:
        self._look()
        self.remembered += [tool.name for tool in tools]

    async def load(self, _connection: object = None) -> list[dict[str, Any]]:
        self._look()
        self.loaded.set()
        return list(self.rows.values())

    def _look(self) -> None:
        if self.away:
            raise Unavailable("The database is not reachable")


class Ledger:
    """Remembers what was recorded."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []

    def record(self, *, user_id: str, tool: str, request_id: str, outcome: str, seconds: float) -> None:
        assert request_id == "req_1"
        assert seconds >= 0
        self.calls.append((user_id, tool, outcome))


def registry(*tools: Any, shelf: Shelf | None = None, ledger: Ledger | None = None, seconds: float = 20) -> Registry:
    """A registry of these tools that needs no database; not started."""
    store: Any = shelf or Shelf()
    audit: Any = ledger or Ledger()
    return Registry(tools, store, audit, seconds=seconds)


def calling(user_id: str = "usr_1", *, seconds: float = 20) -> Calling:
    """Somebody who calls."""
    return Calling(user_id, "a token", asyncio.get_running_loop().time() + seconds, "req_1")
