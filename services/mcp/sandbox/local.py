"""The sandbox of this machine, seen from a server process: `host.py` runs the programs, for all server processes of an
installation, so that a session is found whichever of them is asked.
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from services.mcp.sandbox import meeting_point
from services.mcp.sandbox.engine import FILE, PICTURE_BYTES, SECONDS, File, Program, Ran
from services.mcp.sandbox.preparation import compiled
from services.mcp.tool import ToolFailed

log = logging.getLogger("jan.sandbox")

ENGINES = ("bubblewrap", "wasm")
_STARTING = 20.0  # seconds that starting the host may take
_ENDING = 5.0
_TRIES = 50  # asking a host that another process is starting or ending
_PAUSE = 0.1
_ALONGSIDE = 15.0  # seconds that asking may take beyond the running itself
_ANSWERING = 1.0  # seconds of that for the answer
_MOST_SAID = 4 * 1024 * 1024
_KEPT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "HOME", "TMPDIR", "LOG_LEVEL", "LOG_FORMAT")


class LocalSandbox:
    """A `Sandbox` with sessions. It keeps its things in `directory`; what is compiled can be kept elsewhere."""

    def __init__(self, directory: Path, *, cache: Path | None = None, engines: Sequence[str] = ENGINES) -> None:
        self._directory = directory.absolute()
        self._cache = (cache or directory / "compiled").absolute()
        self._engines = engines
        self._starting = asyncio.Lock()
        self._host: Process | None = None

    async def run(self, program: Program, *, deadline: float) -> Ran:
        """As `Sandbox.run`."""
        seconds = min(SECONDS + _ALONGSIDE, deadline - _now()) - _ANSWERING
        question = {
            "user_id": program.user_id,
            "session_id": program.session_id,
            "code": program.code,
            "seconds": seconds,
        }
        try:
            async with asyncio.timeout_at(max(deadline, _now())):
                return await self._asked(orjson.dumps(question) + b"\n")
        except TimeoutError as error:
            raise ToolFailed("sandbox_busy", "The sandbox did not answer in time; try again in a while") from error
        except (OSError, EOFError) as error:
            raise ToolFailed(
                "sandbox_unavailable", "The sandbox broke off, and its sessions are gone; try again"
            ) from error

    async def prepare(self) -> None:
        """Begin with what has to be done once per installation, if it has not been done, so that the first program need
        not wait for it. What goes wrong is told to who runs that."""
        try:
            if not compiled(self._cache).exists():
                _, writer = await self._connected()
                writer.close()
        except (ToolFailed, OSError) as error:  # TimeoutError is one
            log.warning("sandbox_not_prepared", extra={"reason": str(error)})

    async def aclose(self) -> None:
        """End the host if this process has started it, and all sessions with it."""
        if self._host is None or self._host.stdin is None:
            return
        self._host.stdin.close()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_ENDING):
                    await self._host.wait()
        finally:
            with suppress(ProcessLookupError):
                self._host.kill()
            await self._host.wait()

    async def _asked(self, question: bytes) -> Ran:
        reader, writer = await self._heard(question)
        try:
            (length,) = struct.unpack("<I", await reader.readexactly(4))
            said: dict[str, Any] = orjson.loads(await reader.readexactly(length))
            if "failure" in said:
                raise ToolFailed(said["failure"]["code"], said["failure"]["message"])
            files = [
                File(name, await reader.readexactly(size) if size is not None else None) for name, size in said["files"]
            ]
        finally:
            writer.close()
        return Ran(**{**said, "files": files})

    async def _heard(self, question: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a host that has read the question. One that ends before that has run nothing, so another can
        be asked."""
        for _ in range(_TRIES):
            reader, writer = await self._connected()
            try:
                writer.write(question)
                await writer.drain()
                await reader.readexactly(len(meeting_point.HEARD))
            except (OSError, EOFError):
                writer.close()
                await asyncio.sleep(_PAUSE)
            except BaseException:
                writer.close()
                raise
            else:
                return reader, writer
        raise _does_not_start()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the host, which is started when there is none."""
        with suppress(OSError):
            return await self._connect()
        async with self._starting:
            for _ in range(_TRIES):
                with suppress(OSError):
                    return await self._connect()
                if not await self._start():
                    await asyncio.sleep(_PAUSE)  # until the host that another process is starting listens
        raise _does_not_start()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await meeting_point.connect(self._directory, limit=_MOST_SAID + FILE + PICTURE_BYTES)

    async def _start(self) -> bool:
        """Start a host; false when there is one already."""
        await self.aclose()
        self._host = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "services.mcp.sandbox.host"),
            *(str(self._directory), str(self._cache), ",".join(self._engines)),
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
            stdin=PIPE,  # it ends when this does
            stdout=PIPE,
        )
        if self._host.stdout is None:
            raise _does_not_start()
        async with asyncio.timeout(_STARTING):
            if await self._host.stdout.readline() == b"ready\n":
                return True
            if await self._host.wait() != 0:
                raise _does_not_start()
            return False


def _does_not_start() -> ToolFailed:
    return ToolFailed("sandbox_unavailable", "The sandbox does not start; the log of the server says more")


def _now() -> float:
    return asyncio.get_running_loop().time()
