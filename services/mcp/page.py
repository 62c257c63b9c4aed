"""Readable text of web pages, PDFs and text files. What is parsed comes from strangers, so it is parsed by a process of
its own (`page_program.py`) with little memory and time: a parser that loops or eats memory takes nobody with it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from services.mcp.tool import ToolFailed

AT_ONCE = 4
"""Pages that one server process reads at once; more wait."""

_COMMAND = (sys.executable, "-P", "-m", "services.mcp.page_program")


@dataclass(frozen=True)
class Request:
    """What is said about the bytes of a page."""

    url: str
    mime: str
    """Media type without parameters, in lower case; empty when the server said none."""
    charset: str
    markdown: bool
    most: int
    """Characters of each text wanted."""


@dataclass(frozen=True)
class Page:
    """What can be read of it."""

    title: str
    text: str
    markdown: str | None = None
    metadata: Mapping[str, str | int] = field(default_factory=dict)


class PageReader:
    """Reads pages, `AT_ONCE` at a time."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)

    async def read(self, data: bytes, request: Request) -> Page:
        """The page in `data`. Raises `ToolFailed` (`unreadable`). Cancelled, it ends the process."""
        async with self._places:
            said = await _said(orjson.dumps(asdict(request)) + b"\n" + data)
        if "error" in said:
            raise ToolFailed("unreadable", str(said["error"]))
        return Page(**said)


async def _said(question: bytes) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *_COMMAND, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=_environment(), start_new_session=True
    )
    try:
        answer, _ = await process.communicate(question)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode != 0:
        raise ToolFailed("unreadable", "The page cannot be read: reading it takes too much time or memory")
    said: dict[str, Any] = orjson.loads(answer)
    return said


def _environment() -> dict[str, str]:
    """What the program needs of ours, which is no secret."""
    return {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "PYTHONPATH") if name in os.environ}
