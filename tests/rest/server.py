"""The whole server as a test meets it: `jan-server up` as a child process, on ports and in a directory of its own.

    with JanServer(tmp_path, WORKERS="2") as server:     # up when /readyz says so, stopped with Ctrl-C at the end
        server.get("/auth/me", server.token())
        os.kill(server.children()["worker-0"], signal.SIGKILL)

Its settings are the ones given and nothing else: what the environment of the tests holds does not reach it.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx

COMMAND = Path(sys.executable).with_name("jan-server")
PATIENCE = 30.0
SANDBOX = Path(__file__).parents[2] / ".data/sandbox"  # compiled once for all tests, which takes a minute
# Below those that the kernel hands out for outgoing connections; each process of pytest-xdist has ports of its own.
_PORTS = range(
    15000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")),
    32000,
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
)


class JanServer:
    """One server. It may be started again after it has ended, on the same data and the same ports."""

    def __init__(self, folder: Path, **settings: str) -> None:
        gateway, direct, media, mcp, metrics = free_ports(5)
        self.port, self.llm_port, self.media_port, self.mcp_port = gateway, direct, media, mcp
        self.metrics_port = metrics
        self.data_dir = folder / "data"
        self.settings = {
            "DATA_DIR": str(self.data_dir),
            "GATEWAY_PORT": str(gateway),
            "LLM_API_PORT": str(direct),
            "MEDIA_API_PORT": str(media),
            "MCP_TOOLS_HTTP_PORT": str(mcp),
            "METRICS_PORT": str(metrics),
            "JAN_PROVIDER_CONFIGS_FILE": str(folder / "providers.yml"),
            "JAN_DEFAULT_NODE_SETUP": "false",
            "SHUTDOWN_TIMEOUT": "5s",
            "SANDBOX_CACHE_DIR": str(SANDBOX),
            "WORKERS": "1",
            **settings,
        }
        folder.mkdir(exist_ok=True)
        (folder / "providers.yml").touch()  # one that is named has to exist
        self._folder = folder
        self._stdout, self._stderr = folder / "stdout", folder / "stderr"
        self._stdout.touch()
        self._stderr.touch()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.kill()
        elif not self._ended():
            assert self.stop() == 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def out(self) -> str:
        """All that it has written to standard output: the banner and the access log."""
        return self._stdout.read_text(errors="replace")

    @property
    def errors(self) -> str:
        """All that it has written to standard error: everybody's log."""
        return self._stderr.read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.launch()
        try:
            eventually(lambda: self.is_ready() or self._ended())
            assert not self._ended(), f"jan-server ended: {self.errors}"
        except BaseException:
            self.kill()
            raise

    def launch(self) -> None:
        """Start it and do not wait."""
        environ = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        with self._stdout.open("ab") as out, self._stderr.open("ab") as errors:
            self._process = subprocess.Popen(
                [COMMAND, "up"],
                env=environ | self.settings,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )

    def wait(self) -> int:
        """Its exit status, when it ends by itself in time."""
        try:
            return self._process.wait(PATIENCE)
        finally:
            self.kill()

    def stop(self) -> int:
        """Press Ctrl-C and return the exit status."""
        self._process.send_signal(signal.SIGINT)
        return self.wait()

    def kill(self) -> None:
        """kill -9, after which nothing of it must be left."""
        self._process.kill()
        self._process.wait()

    def get(self, path: str, token: str = "") -> httpx.Response:
        """What the gateway answers, to the bearer of `token` or to a stranger."""
        return httpx.get(self.url + path, headers={"authorization": f"Bearer {token}"} if token else {})

    def is_ready(self) -> bool:
        with suppress(httpx.TransportError):
            return self.get("/readyz").status_code == 200
        return False

    def token(self) -> str:
        """The access token of a new guest."""
        answer = httpx.post(f"{self.url}/auth/guest-login")
        assert answer.status_code == 201, answer.text
        return str(answer.json()["access_token"])

    def access_log(self) -> list[dict[str, Any]]:
        """The lines about requests, as far as the gateway has written them."""
        lines = [line for line in self.out.splitlines() if line.startswith("{")]
        return [line for line in map(json.loads, lines) if line["logger"] == "access"]

    def children(self) -> dict[str, int]:
        """The living processes that the supervisor runs: postgres, auth, worker-0..., gateway, and their numbers."""
        return {name: pid for pid in _children_of(self.pid) if (name := _name_of(pid))}

    def serves(self, name: str) -> bool:
        """Whether that process answers on its socket."""
        with socket.socket(socket.AF_UNIX) as probe:
            return not probe.connect_ex(str((self.data_dir / "run" / name).resolve().with_suffix(".sock")))

    def tree(self) -> list[int]:
        """Every process of this server."""
        return [self.pid, *descendants_of(self.pid)]

    def _ended(self) -> bool:
        return self._process.poll() is not None


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on."""
    found: list[int] = []
    for port in random.sample(_PORTS, 500):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


def eventually(condition: Callable[[], Any], within: float = PATIENCE) -> Any:
    """What `condition` returns as soon as that is true. It looks again and again: only for what no event tells, such as
    a line in the log of another process."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still not so after {within} s"
        time.sleep(0.02)
    return value


def wait_for_end(pids: Iterable[int], within: float = PATIENCE) -> None:
    """Wait until all these processes have ended."""
    deadline = time.monotonic() + within
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            left = max(0.0, deadline - time.monotonic())
            ended, _, _ = select.select([descriptor], [], [], left)
            assert ended, f"process {pid} ({_command_of(pid)}) still runs after {within} s"
        finally:
            os.close(descriptor)


def _children_of(pid: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == pid and fields[0] != "Z":
                    yield int(entry.name)


def descendants_of(pid: int) -> Iterator[int]:
    """The children of a process, theirs, and so on."""
    for child in _children_of(pid):
        yield child
        yield from descendants_of(child)


def _command_of(pid: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return []


def _name_of(pid: int) -> str:
    command = _command_of(pid)
    if "--listen" in command:
        return Path(command[command.index("--listen") + 1]).stem
    return {"postgres": "postgres", "envoy": "gateway"}.get(Path(command[0]).name if command else "", "")
