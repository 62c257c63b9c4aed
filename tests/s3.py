"""Object stores that tests talk to, a process each: rclone, which checks signatures, and moto, which takes forms."""

from __future__ import annotations

import ctypes
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import pytest

from services.runtime.config import Settings

BUCKET = "pictures"
KEY, SECRET = "jantest", secrets.token_hex(16)
BIN = Path(sys.executable).parent
_START = 30.0  # seconds
_MEMORY = Path("/dev/shm")


class S3Server:
    """A server that can be stopped and started again at the same address. `folder` holds a directory per bucket."""

    def __init__(self, command: list[str], folder: Path, port: int) -> None:
        self._command = command
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"

    def start(self) -> Self:
        """Return when it accepts connections."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=_die_with_us
        )
        end = time.monotonic() + _START
        while not _accepts(self._port):
            assert self._process.poll() is None, "the object store ended"
            assert time.monotonic() < end, "the object store does not answer"
            self._process.poll()
        return self

    def stop(self) -> None:
        """Return when it is gone."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """It accepts connections and says nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """After `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def settings(self, **more: Any) -> dict[str, Any]:
        """What leads a server of ours to this store, as fields of `Settings`."""
        return {
            "media_storage_backend": "s3",
            "media_s3_endpoint": self.url,
            "media_s3_bucket": BUCKET,
            "media_s3_access_key_id": KEY,
            "media_s3_secret_access_key": SECRET,
            **more,
        }

    def configured(self, **more: Any) -> Settings:
        """The same as `Settings`."""
        return Settings(**self.settings(**more))


def rclone(folder: Path) -> S3Server:
    """It knows one pair of keys and refuses every other signature. Not started yet."""
    (folder / BUCKET).mkdir(parents=True)
    port = _free_port()
    command = [str(BIN / "rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}"]
    command += ["--config", str(folder / "none.conf"), "--vfs-cache-mode", "off", str(folder)]
    return S3Server(command, folder, port)


def moto(folder: Path) -> S3Server:
    """It takes forms and believes every signature. Its bucket has to be made. Not started yet."""
    port = _free_port()
    return S3Server([str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(port)], folder, port)


@pytest.fixture(scope="session")
def rclone_server() -> Iterator[S3Server]:
    """One for all tests, which use keys of their own. It keeps objects in memory if it can, for it syncs every one."""
    with TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        yield from _running(rclone(Path(folder)))


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One for all tests."""
    yield from _running(moto(tmp_path_factory.mktemp("moto")))


def _running(server: S3Server) -> Iterator[S3Server]:
    try:
        yield server.start()
    finally:
        server.stop()


def _die_with_us() -> None:
    """In the child: tests that are killed leave no server behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.1):
        return True
    return False
