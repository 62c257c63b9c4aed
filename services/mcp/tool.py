"""What a tool is: a name, a schema, and something that runs in a user's name and says what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

Json = dict[str, Any]


class ToolFailed(Exception):
    """A tool could not do it. The model is told `code` and message: they hold nothing that is not for the user."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


OURS = "builtin"
"""The provider of the tools that are built in; no other server can have this name."""


@dataclass(frozen=True)
class Description:
    """What models and people are told about a tool (MCP, "Tool")."""

    name: str
    """1 to 128 of `[A-Za-z0-9_.-]`."""
    title: str
    text: str
    """What it does and when to use it, for the model."""
    category: str
    input_schema: Json
    """JSON Schema 2020-12 of an object."""
    output_schema: Json | None = None
    annotations: Mapping[str, Any] = field(default_factory=dict)
    """Hints of MCP: readOnlyHint, destructiveHint, idempotentHint, openWorldHint."""
    provider: str = OURS


@dataclass(frozen=True)
class Result:
    """What a tool says. Without `content` it is its structure, as JSON text."""

    structured: Json | None = None
    content: Sequence[Json] = ()
    is_error: bool = False
    failure: str = ""
    """The code, when it is this server that says why it failed, and not the tool itself."""

    @property
    def blocks(self) -> list[Json]:
        """Content blocks of MCP."""
        if self.content or self.structured is None:
            return list(self.content)
        return [{"type": "text", "text": orjson.dumps(self.structured).decode()}]


def failed(code: str, message: str) -> Result:
    """The result that says so (CONTRACT 11.1)."""
    structured = {"error": {"code": code, "message": message}}
    return Result(structured, [{"type": "text", "text": message}], is_error=True, failure=code)


Progress = Callable[[float, float | None, str | None], Awaitable[None]]
"""Tells the caller how far a tool is: how much is done, of how much, and what it does."""


async def _untold(_done: float, _total: float | None, _words: str | None) -> None:
    """For callers who did not ask."""


@dataclass(frozen=True)
class Calling:
    """In whose name a tool runs, and until when."""

    user_id: str
    token: str = field(repr=False)
    """The credential of the user, for other rooms."""
    deadline: float
    """On the event loop's clock."""
    request_id: str = ""
    progress: Progress = field(default=_untold, repr=False)


class Tool(Protocol):
    """Something that a model can have done. Its arguments fit its schema, with the defaults of the schema filled in."""

    @property
    def description(self) -> Description:
        """What it is."""
        ...

    async def run(self, arguments: Json, calling: Calling) -> Result:
        """Do it. Raises `ToolFailed`; cancelled, it stops at once and leaves nothing running."""
        ...
