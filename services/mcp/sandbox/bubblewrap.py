"""Python in namespaces of its own, by bubblewrap (https://github.com/containers/bubblewrap): it sees the system's
programs, read-only, and two small file systems in memory; no network, no other process, nothing of anybody's.

What happens inside is `guest/jan_loop.py`. Its answers are read as those of an enemy.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select
from selectors import EVENT_READ, DefaultSelector
from threading import Event
from typing import IO, Any, TextIO

import orjson

from services.mcp.sandbox.engine import DISK, FILE, FILES, MEMORY, OUTPUT, PICTURE_BYTES, File, Ran, chosen, shown
from services.mcp.sandbox.failure import out_of_time, raised
from services.mcp.sandbox.interpreter import CannotStart

_GUEST = Path(__file__).with_name("guest")
_PROGRAMS = ("jan_loop.py", "jan_confine.py", "jan_figures.py")
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_MOST_SAID = 1024 * 1024  # bytes of the head of an answer
_LOOK_UP = 0.05  # seconds between two looks whether a program is to be stopped
_ENDING = 2.0
_PIECE = 64 * 1024


class Bubblewrap:
    """An `Interpreter`. Raises `CannotStart` without `program`."""

    def __init__(self, program: str = "bwrap") -> None:
        found = shutil.which(program)
        if found is None:
            raise CannotStart("bubblewrap is not installed")
        asked, self._questions = os.pipe()
        self._answers, said = os.pipe()
        os.set_blocking(self._questions, False)  # what runs inside may choose not to read
        news, told = os.pipe()
        with _guest_files() as files:
            command = [found, "--info-fd", str(told), *_walls(files), _python(), "-I", "-u", "/opt/jan/jan_loop.py"]
            try:
                self._process = subprocess.Popen(
                    [*command, str(asked), str(said), str(MEMORY), str(FILE), str(FILES)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=(told, asked, said, *files.values()),
                    env={},
                    cwd="/",
                    start_new_session=True,
                    **_as_nobody(),
                )
            finally:
                for descriptor in (told, asked, said):
                    os.close(descriptor)
        with os.fdopen(news) as info:
            self._inner = _child(info)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def run(self, code: str, *, seconds: float, cancelled: Event) -> Ran:
        conversation = _Conversation(self._answers, self._process.stdout, self._process.stderr)
        until = time.monotonic() + seconds
        self._send(code.encode(), until, cancelled)
        answered = conversation.listen(until, cancelled)
        if not answered:
            self.close()
        stdout, stderr = shown(conversation.heard(1)), shown(conversation.heard(2))
        if answered:
            status, files = conversation.answer()
            return Ran(stdout, stderr, raised(status, stderr), files)
        stopped = time.monotonic() >= until
        return Ran(stdout, stderr, out_of_time(seconds) if stopped else "InterpreterStopped: it ended itself", ())

    def close(self) -> None:
        """Kill what runs inside first, so that bubblewrap itself sees its end: nobody else may."""
        if self._inner and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self._inner, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDING)
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        for descriptor in (self._questions, self._answers):
            with suppress(OSError):
                os.close(descriptor)
        self._questions = self._answers = -1

    def _send(self, code: bytes, until: float, cancelled: Event) -> None:
        question = memoryview(struct.pack("<I", len(code)) + code)
        with suppress(BrokenPipeError):
            while question and time.monotonic() < until and not cancelled.is_set():
                if select([], [self._questions], [], _LOOK_UP)[1]:
                    question = question[os.write(self._questions, question) :]


def probe(program: str = "bwrap") -> None:
    """See whether bubblewrap works here. Raises `CannotStart` with the reason."""
    interpreter = Bubblewrap(program)
    try:
        ran = interpreter.run("print(6 * 7)", seconds=10, cancelled=Event())
    finally:
        interpreter.close()
    if (ran.stdout, ran.error) != ("42\n", None):
        raise CannotStart(f"bubblewrap does not work here: {ran.stderr.strip() or ran.error}")


class _Conversation:
    """What comes out of the sandbox while one program runs: two streams of output, of which the beginnings are kept,
    and the answer."""

    def __init__(self, answers: int, *outputs: IO[bytes] | None) -> None:
        self._sources = {answers: 0}
        self._sources |= {each.fileno(): number for number, each in enumerate(outputs, start=1) if each is not None}
        self._buffers = {0: bytearray(), 1: bytearray(), 2: bytearray()}
        self._limits = {0: 4 + _MOST_SAID + PICTURE_BYTES + FILE, 1: OUTPUT + 1, 2: OUTPUT + 1}

    def listen(self, until: float, cancelled: Event) -> bool:
        """Whether an answer came before the time was up, the interpreter ended or said too much."""
        with DefaultSelector() as selector:
            for source in self._sources:
                selector.register(source, EVENT_READ)
            while not self._complete():
                if cancelled.is_set() or time.monotonic() >= until or len(selector.get_map()) < len(self._sources):
                    return False
                self._take(selector, _LOOK_UP)
            while self._take(selector, 0):  # what was written before the answer
                pass
        return True

    def heard(self, stream: int) -> bytes:
        return bytes(self._buffers[stream])

    def answer(self) -> tuple[int, list[File]]:
        """Exit status and files."""
        head = self._head()
        at, files = 4 + self._length(), []
        for name, size in _listed(head):
            data = bytes(self._buffers[0][at : at + size]) if size is not None else None
            files.append(File(name, data if data is None or len(data) == size else None))
            at += size or 0
        status = head.get("status")
        return status if isinstance(status, int) else 1, chosen(files)

    def _take(self, selector: DefaultSelector, patience: float) -> bool:
        took = False
        for key, _ in selector.select(patience):
            piece = os.read(key.fd, _PIECE)
            took = took or bool(piece)
            if not piece:
                selector.unregister(key.fd)
            kept = self._buffers[self._sources[key.fd]]
            kept += piece[: max(0, self._limits[self._sources[key.fd]] - len(kept))]
        return took

    def _complete(self) -> bool:
        said = self._buffers[0]
        if len(said) < 4 or len(said) < 4 + self._length():
            return False
        wanted = 4 + self._length() + sum(size or 0 for _, size in _listed(self._head()))
        return len(said) >= min(wanted, self._limits[0])

    def _length(self) -> int:
        length: int = struct.unpack_from("<I", self._buffers[0])[0]
        return min(length, _MOST_SAID)

    def _head(self) -> dict[str, Any]:
        try:
            head = orjson.loads(bytes(self._buffers[0][4 : 4 + self._length()]))
        except orjson.JSONDecodeError:
            return {}
        return head if isinstance(head, dict) else {}


def _listed(head: dict[str, Any]) -> Iterator[tuple[str, int | None]]:
    """The files of an answer, as far as they are any."""
    files = head.get("files")
    for each in files if isinstance(files, list) else ():
        match each:
            case [str() as name, (None | int()) as size] if size is None or 0 <= size <= FILE:
                yield name, size
            case _:
                return


@contextmanager
def _guest_files() -> Iterator[dict[str, int]]:
    """Descriptors of the programs inside: their paths need not be readable for whom the sandbox runs as."""
    files = {name: os.open(_GUEST / name, os.O_RDONLY) for name in _PROGRAMS}
    try:
        yield files
    finally:
        for descriptor in files.values():
            os.close(descriptor)


def _walls(files: dict[str, int]) -> list[str]:
    """How bubblewrap is asked to shut a program in. There is no /proc: by it a program could write into the memory of
    bubblewrap's own process inside, which no filter holds."""
    walls = ["--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    walls += ["--cap-add", "CAP_SYS_ADMIN"]  # to limit the number of files; `jan_confine.py` drops it
    walls += ["--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--ro-bind", "/usr", "/usr"]
    for path in _SYSTEM:
        if os.path.islink(path):
            walls += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            walls += ["--ro-bind", path, path]
    if not _python().startswith("/usr/"):
        walls += ["--ro-bind", os.path.realpath(sys.base_prefix), os.path.realpath(sys.base_prefix)]
    for device in ("null", "zero", "full", "random", "urandom"):  # `--dev` would cost us the right to set limits
        walls += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    for path, size in (("/dev/shm", FILE), ("/tmp", DISK // 2), ("/work", DISK)):  # noqa: S108  # in the sandbox
        walls += ["--size", str(size), "--tmpfs", path]
    for name, descriptor in files.items():
        walls += ["--ro-bind-data", str(descriptor), f"/opt/jan/{name}"]
    walls += ["--remount-ro", "/", "--chdir", "/work", "--clearenv"]
    for variable, value in _ENVIRONMENT.items():
        walls += ["--setenv", variable, value]
    return walls


_ENVIRONMENT = {
    "HOME": "/tmp",  # noqa: S108  # in the sandbox
    "LANG": "C.UTF-8",
    "PATH": "/usr/bin",
    "MPLBACKEND": "module://jan_figures",
    "OPENBLAS_NUM_THREADS": "1",
}


def _child(info: TextIO) -> int:
    """The first process inside, of what `--info-fd` says; 0 when bubblewrap has not come so far."""
    said = ""
    while not said.endswith("}\n") and (line := info.readline()):
        said += line
    return int(orjson.loads(said)["child-pid"]) if said else 0


def _python() -> str:
    """The system's Python, which anybody can read, else the one that runs this."""
    return shutil.which("python3", path="/usr/local/bin:/usr/bin") or os.path.realpath(sys.executable)


def _as_nobody() -> dict[str, Any]:
    """Root becomes nobody first: some limits do not hold for root."""
    return {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
