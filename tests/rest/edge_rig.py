"""A gateway for tests: real Envoy in front of stand-ins for the rooms (edge_backend.py), and how to talk to it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import edge_backend
import grpc
import httpx
from edge_backend import AUDIENCE, ISSUER, Keys
from google.rpc import error_details_pb2, status_pb2

from services.runtime import edge, envoy_admin
from services.runtime.api import APIS, Api
from services.runtime.config import Settings
from tests.rest.server import free_ports

# What takes long by nature takes less long in tests.
IMPATIENT = {
    "request_headers_timeout: 10s": "request_headers_timeout: 0.3s",
    "request_timeout: 300s": "request_timeout: 4s",
    "timeout: 7s": "timeout: 2s",  # of a generation: STREAM_TIMEOUT and five seconds
}
UNAUTHORIZED = (401, "auth_error", "unauthorized")
NO_ROUTE = (404, "not_found_error", "route_not_found")
TOO_LARGE = (413, "size_error", "max_size_exceeded")
UNAVAILABLE = (503, "upstream_error", "service_unavailable")


class Backend:
    """A stand-in in its own process, on a unix socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start()

    def start(self) -> None:
        """Return when it serves."""
        argv = [sys.executable, edge_backend.__file__, str(self.path)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout
        assert self.process.stdout.readline() == b"ready\n"

    def stop(self) -> None:
        """Return when it has ended."""
        self.process.communicate()

    def restart(self) -> None:
        """Another process on the same socket."""
        self.stop()
        self.start()


@dataclasses.dataclass
class Rig:
    """A gateway that runs. `keys` sign our tokens; `log` is Envoy's, with the access log."""

    settings: Settings
    run_dir: Path
    config: Path
    keys: Keys
    auth: Backend
    workers: list[Backend]
    log: Path
    notes_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.gateway_port}"

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.settings.gateway_port}"

    def bearer(self, **claims: Any) -> dict[str, str]:
        """The header of a caller whose token has these claims, beside what every good one has."""
        return {"authorization": f"Bearer {self.keys.token(**claims)}"}

    async def counter(self, name: str) -> int:
        """One of Envoy's statistics."""
        _, body = await envoy_admin.ask(self.run_dir, f"/stats?filter=^{name}$")
        return int(body.decode().strip().rpartition(": ")[2] or 0)


@contextmanager
def running(workers: int = 1, *, replacing: Mapping[str, str] | None = None, **settings: Any) -> Iterator[Rig]:
    """A gateway with these settings in front of one auth room and some workers. `replacing` changes texts of its
    configuration."""
    with tempfile.TemporaryDirectory(prefix="edge") as folder:
        run_dir = Path(folder)
        gateway, llm, notes = free_ports(3)
        found = Settings(
            data_dir=run_dir / "data",
            gateway_port=gateway,
            llm_api_port=llm,
            metrics_port=notes,  # which nobody needs here
            auth_issuer=ISSUER,
            auth_audience=AUDIENCE,
            cors_allowed_origins=("https://app.test",),
            stream_timeout=2.0,
        )
        found = dataclasses.replace(found, **settings)
        keys = Keys(run_dir / "data" / "keys" / "jwks.json")
        backends = [Backend(run_dir / f"{name}.sock") for name in ("auth", *(f"w{n}" for n in range(workers)))]
        apis = (*APIS, Api("notes-api", "METRICS_PORT", ("/notes",), {"worker": (edge_backend.NOTES,)}))
        auth, *others = (f"unix:{each.path}" for each in backends)
        config = edge.write(found, {"auth": [auth], "worker": others}, run_dir, apis=apis)
        _replace(config, {**IMPATIENT, **(replacing or {})})
        try:
            with envoy(found, config, run_dir) as log:
                yield Rig(found, run_dir, config, keys, backends[0], backends[1:], log, notes)
        finally:
            for backend in backends:
                backend.stop()


@contextmanager
def envoy(settings: Settings, config: Path, run_dir: Path) -> Iterator[Path]:
    """Envoy with a configuration, ready; its log."""
    log = run_dir / "envoy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(edge.command(settings, config, concurrency=2), stdout=output, stderr=output)
        try:
            asyncio.run(_until_ready(run_dir, process))
            yield log
        finally:
            process.terminate()
            process.wait()


def _replace(config: Path, replacing: Mapping[str, str]) -> None:
    text = config.read_text()
    for before, after in replacing.items():
        assert before in text
        text = text.replace(before, after)
    config.write_text(text)


async def _until_ready(run_dir: Path, process: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(20):
        while not await envoy_admin.is_ready(run_dir):
            assert process.poll() is None, (run_dir / "envoy.log").read_text()[-2000:]


def validated(settings: Settings, config: Path) -> str:
    """Envoy's complaints about a configuration; empty when it would start."""
    argv = [*edge.command(settings, config), "--mode", "validate"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def error(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, type and code, after looking at what every error has."""
    body = answer.json()["error"]
    assert answer.headers["content-type"] == "application/json"
    assert body["message"]
    assert body["request_id"] == answer.headers["x-request-id"]
    assert set(body) == {"type", "code", "message", "param", "request_id"}
    for internal in ("x-error-json", "x-http-status", "x-grpc-status", "grpc-status", "grpc-message"):
        assert internal not in answer.headers
    assert not [name for name in answer.headers if name.startswith(("x-edge-", "grpc-"))]
    return answer.status_code, body["type"], body["code"]


async def raw(port: int, request: bytes, *, drip: bytes = b"") -> tuple[int, str, dict[str, Any]]:
    """Status, head and JSON body of the answer to bytes that no HTTP library tidied up. `drip` follows, slowly."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(8):
        answer = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
        while drip and not (await asyncio.wait([answer], timeout=0.2))[0]:
            writer.write(drip)
        head = (await answer).decode()
        length = re.search(r"content-length: (\d+)", head)
        assert length
        body = await reader.readexactly(int(length[1]))
    writer.close()
    return int(head.split()[1]), head, json.loads(body)


def get(target: str, headers: dict[str, str] | Sequence[tuple[str, str]] = ()) -> bytes:
    """A GET request, byte by byte."""
    pairs = headers.items() if isinstance(headers, dict) else headers
    lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return f"GET {target} HTTP/1.1\r\nhost: x\r\n{lines}\r\n".encode()


async def chat(http: httpx.AsyncClient, rig: Rig, **script: Any) -> httpx.Response:
    """What the stand-in answers to a script."""
    return await http.post("/v1/chat/completions", json=script, headers=rig.bearer())


def refused(call: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str, str]:
    """Code, ErrorInfo's reason and message of a failed gRPC call, after looking at what its details repeat."""
    trailing = dict(call.trailing_metadata() or ()) | dict(call.initial_metadata() or ())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, status.message) == (call.code().value[0], call.details())
    assert info.domain == "jan.server"
    return call.code(), info.reason, call.details() or ""
