"""The process that all sandboxed programs of an installation run under, whichever server process was asked:

    python -m services.mcp.sandbox.host <directory> <compiled> <engines>

It is started by the first server process that needs it (`local.py`), ends with it, and listens on a socket in
`directory`. Every connection carries one question, and breaking it off stops the program:

    question   a line of JSON: {"user_id", "session_id", "code", "seconds"}
    answer     a full stop when it has read that; then length (uint32, little endian), JSON, and the bytes of the
               files with a size, in order
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson

from services.mcp.sandbox import bubblewrap, meeting_point
from services.mcp.sandbox.bubblewrap import Bubblewrap
from services.mcp.sandbox.engine import Program
from services.mcp.sandbox.interpreter import CannotStart, Interpreter
from services.mcp.sandbox.preparation import Preparation
from services.mcp.sandbox.runner import Runner
from services.mcp.tool import ToolFailed
from services.runtime import config, logs

MOST_ASKED = 8 * 1024 * 1024
"""Bytes of a question."""
_NICENESS = 10

log = logging.getLogger("jan.sandbox")

Opener = Callable[[], Interpreter]


class Door:
    """The socket: reads questions, writes answers."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            with suppress(ConnectionError, ValueError):  # who asks has left, or is none of us
                question = orjson.loads(await reader.readline())
                writer.write(meeting_point.HEARD)
                answering = asyncio.create_task(self._answer(question))
                await _until_either(answering, asyncio.create_task(reader.read()))
                if not answering.cancelled():
                    writer.write(answering.result())
                    await writer.drain()
        finally:
            writer.close()

    async def _answer(self, question: dict[str, Any]) -> bytes:
        program = Program(question["code"], question["user_id"], question["session_id"])
        try:
            ran = await self._runner.run(program, seconds=question["seconds"])
        except ToolFailed as failure:
            return _packed({"failure": {"code": failure.code, "message": failure.message}})
        except Exception:  # of the sandbox itself: this process goes on, with the others' sessions
            log.exception("sandbox_failed")
            return _packed({"failure": {"code": "sandbox_unavailable", "message": "The sandbox failed; try again"}})
        files = [[file.name, None if file.data is None else len(file.data)] for file in ran.files]
        head = asdict(replace(ran, files=())) | {"files": files}
        return _packed(head, [file.data for file in ran.files if file.data is not None])


async def _until_either(answering: asyncio.Task[bytes], leaving: asyncio.Task[bytes]) -> None:
    """Wait for the answer; nobody left to hear it, end it. Both have ended then."""
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        answering.cancel()
        leaving.cancel()
        await asyncio.wait({answering, leaving})


def _packed(head: dict[str, Any], bodies: Sequence[bytes] = ()) -> bytes:
    said = orjson.dumps(head)
    return b"".join((struct.pack("<I", len(said)), said, *bodies))


def opener(engines: Sequence[str], cache: Path) -> tuple[Opener, Preparation | None]:
    """How interpreters are made by the first of these engines that works here, and what it needs before."""
    if "bubblewrap" in engines:
        try:
            bubblewrap.probe()
        except (CannotStart, OSError) as error:
            log.info("bubblewrap_not_used", extra={"reason": str(error)})
        else:
            return Bubblewrap, None
    return lambda: _wasm(cache), Preparation(cache)


def _wasm(cache: Path) -> Interpreter:
    # Loaded with the first session: the package need not be there, and a process that only waits stays small.
    from services.mcp.sandbox.wasm import Wasm

    return Wasm(cache)


async def main(directory: Path, cache: Path, engines: Sequence[str]) -> None:
    """Serve until standard input ends, which it does when the server process that started this one does."""
    if not _only_one(directory):
        return  # another server process has started one
    open_one, preparation = opener(engines, cache)
    runner = Runner(open_one, preparation.require if preparation else lambda: None)
    with suppress(ToolFailed):
        if preparation:
            preparation.begin()
    door = await asyncio.start_unix_server(Door(runner).serve, sock=meeting_point.listen(directory), limit=MOST_ASKED)
    sweeping = asyncio.create_task(runner.sweep())
    print("ready", flush=True)  # noqa: T201  # who started this waits for it
    try:
        await asyncio.to_thread(sys.stdin.buffer.read)
    finally:
        door.close()
        sweeping.cancel()
        if preparation:
            await preparation.aclose()
        await runner.aclose()


def _only_one(directory: Path) -> bool:
    """Whether this process is the host of `directory`, from now until it ends."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(directory / "host.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _come_last() -> None:
    """Programs of users are what this machine can do without, when it is busy or out of memory."""
    os.nice(_NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    _come_last()
    settings = config.load()
    logs.configure("sandbox", level=settings.log_level, style=settings.log_format)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server decides when we end
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(",")))
    os._exit(0)  # a program that cannot be stopped would hold us up
