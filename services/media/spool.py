"""Bytes on their way in wait in a file, not in memory: counted, hashed and bounded as they arrive, gone in every case.

A spool's file is named after the process that writes it, so that `sweep` knows those of processes that were killed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO, ParamSpec, Self, TypeVar

from services.runtime import ids
from services.runtime.config import ConfigError
from services.runtime.errors import TooLarge, UpstreamFailed

_BATCH = 64 * 1024  # bytes that are worth a trip to another thread
_OLD = 3600.0  # seconds; nothing arrives for so long

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True)
class Spooled:
    """What arrived, whole."""

    path: Path
    size: int
    """Bytes."""
    sha256: bytes


class Spool:
    """A temporary file in `directory`, which `prepare` has made, for at most `largest` bytes. The context removes it,
    even when its task was cancelled while another thread writes."""

    def __init__(self, directory: Path, *, largest: int) -> None:
        self._file = _HashedFile(directory / f"{_process()}.{ids.new_id('in')}")
        self.largest = largest
        self._size = 0
        self._batch: list[bytes] = []
        self._batch_size = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._batch.clear()
        await _in_thread(self._file.remove)

    async def feed(self, piece: bytes) -> None:
        """Take the next bytes. Raises `TooLarge`, and `UpstreamFailed` when the disk does not take them."""
        self._size += len(piece)
        if self._size > self.largest:
            raise too_large(self.largest)
        self._batch.append(piece)
        self._batch_size += len(piece)
        if self._batch_size >= _BATCH:
            await self._flush()

    async def finish(self) -> Spooled:
        """What has arrived; it is on the disk until the context ends."""
        await self._flush()
        return Spooled(self._file.path, self._size, self._file.sha256.digest())

    async def _flush(self) -> None:
        batch, self._batch, self._batch_size = self._batch, [], 0
        await _in_thread(self._file.write, batch)


class _HashedFile:
    """The file behind a spool, made by the first write. Its lock keeps a write that nobody waits for any more apart
    from the removal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sha256 = hashlib.sha256()
        self._lock = Lock()
        self._file: BinaryIO | None = None
        self._removed = False

    def write(self, batch: list[bytes]) -> None:
        with self._lock:
            if self._removed:
                return
            file = self._file = self._file or self._make()
            for piece in batch:
                self.sha256.update(piece)
                left = memoryview(piece)
                while left:
                    left = left[file.write(left) :]

    def remove(self) -> None:
        with self._lock:
            self._removed = True
            if self._file is not None:
                self._file.close()
                self.path.unlink(missing_ok=True)

    def _make(self) -> BinaryIO:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        return os.fdopen(descriptor, "wb", buffering=0)


def too_large(largest: int) -> TooLarge:
    """The error for what has more than `largest` bytes."""
    return TooLarge(f"The image is larger than {readable(largest)}")


def readable(size: int) -> str:
    """A size as people say it, exactly: `20MB`, `64KB`, `1000 bytes`."""
    for unit, name in ((1024 * 1024, "MB"), (1024, "KB")):
        if size % unit == 0:
            return f"{size // unit}{name}"
    return f"{size} bytes"


def prepare(directory: Path) -> None:
    """Make the directory of spools, and remove what is left in it. Raises `ConfigError`."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(directory)
    except OSError as error:
        raise ConfigError(f"{directory} cannot hold images that arrive: {error.strerror}; see DATA_DIR") from error


def sweep(directory: Path, *, clock: Callable[[], float] = time.time) -> int:
    """Remove what killed processes have left in `directory`; returns how many files. It blocks: for a thread."""
    removed = 0
    for path in directory.glob("*.in_*"):
        with suppress(FileNotFoundError):
            if _is_left(path, clock()):
                path.unlink()
                removed += 1
    return removed


def _is_left(path: Path, now: float) -> bool:
    """Only those of this machine and container can be asked whether they live. The others are known by their age."""
    writer = path.name.partition(".in_")[0]
    place, _, process = writer.partition(".")
    if place == _place():
        pid, _, start = process.partition("-")
        return _started(pid) != start
    return now - path.stat().st_mtime > _OLD


def _process() -> str:
    """Names this process among all that ever ran on any machine with this directory."""
    return f"{_place()}.{os.getpid()}-{_started('self')}"


def _place() -> str:
    """The boot of this machine and the container: inside of them a process number and its start are unique."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    return f"{boot}-{os.stat('/proc/self/ns/pid').st_ino:x}"


def _started(pid: str) -> str:
    """When a process started, in ticks since the boot; empty when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rpartition(")")[2].split()[19]


async def _in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return await asyncio.to_thread(work, *args, **kwargs)
    except OSError as error:
        raise UpstreamFailed("The server cannot store this now", code="storage_error") from error
