"""The sandbox's host for tests: a process that outlives the event loops of single tests, with Python compiled once for
all runs of the tests (a minute, in `.data/sandbox`)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest

from services.mcp.sandbox.bubblewrap import Bubblewrap
from services.mcp.sandbox.interpreter import CannotStart

ROOT = Path(__file__).parents[1]
COMPILED = ROOT / ".data" / "sandbox"
SECRET = "hunter2-of-the-server"


@pytest.fixture(scope="session")
def compiled_python() -> Path:
    """Where Python on WebAssembly lies compiled."""
    subprocess.run([sys.executable, "-P", "-m", "services.mcp.sandbox.wasm", str(COMPILED)], check=True, timeout=900)
    return COMPILED


@contextmanager
def host(directory: Path, compiled: Path, engine: str) -> Iterator[subprocess.Popen[bytes]]:
    """A host that has `SECRET` in its environment, ended as a server process ends it."""
    command = [sys.executable, "-P", "-m", "services.mcp.sandbox.host", str(directory), str(compiled), engine]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment()) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.stdin.close()
        assert process.wait(10) in (0, -9)


def bubblewrap_works() -> bool:
    """Whether this machine has it and allows it."""
    try:
        interpreter = Bubblewrap()
    except CannotStart:
        return False
    ran = interpreter.run("print(1)", seconds=10, cancelled=Event())
    interpreter.close()
    return ran.stdout == "1\n"


def _environment() -> dict[str, str]:
    path = {Path(found).parent for found in (shutil.which("bwrap"), sys.executable) if found}
    return {"JAN_SECRET": SECRET, "PATH": ":".join(map(str, path)), "HOME": str(Path.home())}
