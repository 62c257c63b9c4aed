"""The two C programs of this folder: compiled into the cache when their source is newer, then run."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CHAT_PATH = "/v1/chat/completions"


class LoadError(Exception):
    """The load generator could not run, or the answers were not what was asked for."""


@dataclass(frozen=True)
class Load:
    """One shape of traffic: how many connections send how many requests, and what they ask for."""

    connections: int
    requests: int
    tokens: int = 0  # content chunks per stream; 0: not a stream
    pace_ms: int = 0  # between tokens, or before the answer that is not a stream
    ramp_ms: int = 0
    hangup_every: int = 0
    seconds: int = 120

    def body(self) -> bytes:
        """The chat completion request; the fake upstream reads `pace=` out of the message."""
        text = f"Tell me about foxes. pace={self.pace_ms}ms" if self.pace_ms else "Tell me about foxes."
        asked: dict[str, Any] = {"model": "bench", "messages": [{"role": "user", "content": text}]}
        if self.tokens:
            asked |= {"stream": True, "max_tokens": self.tokens}
        return json.dumps(asked).encode()

    def options(self) -> list[str]:
        """The same, as `load` wants it on its command line."""
        numbers = {
            "--connections": self.connections,
            "--requests": self.requests,
            "--ramp-ms": self.ramp_ms,
            "--hangup-every": self.hangup_every,
            "--seconds": self.seconds,
        }
        stream = ["--stream", "--tokens", str(self.tokens)] if self.tokens else []
        return [word for option, value in numbers.items() for word in (option, str(value))] + stream


@dataclass(frozen=True)
class LoadReport:
    """What `load` saw; latencies in milliseconds over the answers that were right."""

    requests: int
    ok: int
    hung_up: int
    open: int
    unfinished: int
    tokens: int
    wall_s: float
    errors: dict[str, int]
    first_error: str
    latency_ms: dict[str, float]
    ttft_ms: dict[str, float]

    @property
    def failed(self) -> int:
        """Requests that got a wrong answer or none."""
        return sum(self.errors.values()) + self.unfinished


def compiled(name: str, cache: Path) -> Path:
    """The program made of `<name>.c`, compiled now if the source changed since last time."""
    source, program = HERE / f"{name}.c", cache / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(source)], check=True)
    return program


@contextmanager
def upstream(port: int, cache: Path) -> Iterator[int]:
    """The fake upstream on `port`, yielding its process id, stopped at the end."""
    process = subprocess.Popen([str(compiled("upstream", cache)), str(port)])
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def http_request(body: bytes, headers: dict[str, str]) -> bytes:
    """The bytes of one POST to the chat endpoint."""
    lines = [f"POST {CHAT_PATH} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()] + [f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def start_load(port: int, load: Load, headers: dict[str, str], cache: Path) -> subprocess.Popen[str]:
    """The load generator, running; its one line of standard output is for `read_report`."""
    request = cache / f"request-{port}.http"
    request.write_bytes(http_request(load.body(), headers))
    command = [str(compiled("load", cache)), "--port", str(port), "--request", str(request), *load.options()]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def read_report(process: subprocess.Popen[str], *, timeout_seconds: float) -> LoadReport:
    """Waits for the generator's report; raises LoadError when there is none."""
    try:
        out, _ = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise LoadError(f"the load generator did not end within {timeout_seconds:.0f} s") from None
    if process.returncode != 0:
        raise LoadError(f"the load generator ended with status {process.returncode}")
    return LoadReport(**json.loads(out))


def run_load(port: int, load: Load, headers: dict[str, str], cache: Path) -> LoadReport:
    """Sends the whole load and waits for it."""
    return read_report(start_load(port, load, headers, cache), timeout_seconds=load.seconds + 30)
