"""Wiring of one machine: which processes `jan-server up` runs, in which order, and what it says when they are ready."""

from __future__ import annotations

import json
import shutil
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from services import __version__
from services.runtime.config import Settings
from services.runtime.machine import check_ports, locked, remove_sockets, socket_directory
from services.runtime.postgres import EmbeddedPostgres
from services.runtime.supervisor import Process, Supervisor, accepts

SOCKETS = "run"


async def up(settings: Settings) -> None:
    """Run the whole server until a signal stops it. Raises `StartError` in one line when it cannot start."""
    with ExitStack() as stack:
        lock = stack.enter_context(locked(settings.data_dir))
        check_ports(_ports(settings), settings.bind_address)
        run_dir = socket_directory(settings.data_dir, SOCKETS)
        stack.callback(remove_sockets, settings.data_dir, SOCKETS)
        database, url = [], settings.database_url
        if not url:
            postgres = EmbeddedPostgres(settings.data_dir)
            await postgres.initialise()
            stack.callback(postgres.close)
            database, url = [[postgres.process()]], postgres.url
        stages = [*database, *_stages(settings, run_dir, url)]
        supervisor = Supervisor(stages, shutdown_timeout=settings.shutdown_timeout, keep_open=(lock,))
        await supervisor.run(started=lambda: _announce(settings))


def _ports(settings: Settings) -> dict[str, int]:
    return {
        "GATEWAY_PORT": settings.gateway_port,
        "LLM_API_PORT": settings.llm_api_port,
        "METRICS_PORT": settings.metrics_port,
    }


def _stages(settings: Settings, run_dir: Path, url: str) -> list[list[Process]]:
    counters = settings.data_dir.absolute() / "metrics"
    shutil.rmtree(counters, ignore_errors=True)
    counters.mkdir()
    env = {
        "DATA_DIR": str(settings.data_dir.absolute()),
        "DATABASE_URL": url,
        "PROMETHEUS_MULTIPROC_DIR": str(counters),
    }
    auth, workers = run_dir / "auth.sock", [run_dir / f"worker-{index}.sock" for index in range(settings.workers)]
    metrics = ("--metrics-port", str(settings.metrics_port))
    return [
        [Process(name="migrate", command=_command("migrate"), env=env, one_shot=True)],
        [
            _room("auth", auth, env, "auth", *metrics),
            *(_room(path.stem, path, env, "llm") for path in workers),
        ],
        [_gateway(settings, run_dir, auth, workers, env)],
    ]


def _room(name: str, path: Path, env: dict[str, str], *arguments: str) -> Process:
    command = _command("serve", *arguments, "--listen", f"unix:{path}")
    return Process(name=name, command=command, env=env, ready=lambda: accepts(path))


def _gateway(settings: Settings, run_dir: Path, auth: Path, workers: list[Path], env: dict[str, str]) -> Process:
    sockets = ("--auth", f"unix:{auth}", "--worker", *(f"unix:{path}" for path in workers))
    return Process(
        name="gateway",
        command=_command("gateway", "--run-dir", str(run_dir), *sockets),
        env=env,
        ready=lambda: accepts((_reachable(settings), settings.gateway_port)),
    )


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "services", *arguments]


def _reachable(settings: Settings) -> str:
    """An address of this machine that the gateway answers on."""
    return "127.0.0.1" if settings.bind_address in ("0.0.0.0", "::") else settings.bind_address  # noqa: S104


def _announce(settings: Settings) -> None:
    base = f"http://localhost:{settings.gateway_port}"
    try:
        models = _models(base)
    except OSError as error:  # the server works, but not from here: say so instead of failing
        models = [f"(not asked: {error})"]
    chat = next((name for name in models if name not in NOT_FOR_CHAT), "jan-demo")
    print(BANNER.format(version=__version__, base=base, models=", ".join(models), model=chat), flush=True)  # noqa: T201


def _models(base: str) -> list[str]:
    """What `GET /v1/models` lists, asked the way a client would."""
    login = urllib.request.Request(f"{base}/auth/guest-login", method="POST")  # noqa: S310  # our own address
    with urllib.request.urlopen(login, timeout=5) as answer:  # noqa: S310
        token = json.load(answer)["access_token"]
    asked = urllib.request.Request(f"{base}/v1/models", headers={"Authorization": f"Bearer {token}"})  # noqa: S310
    with urllib.request.urlopen(asked, timeout=5) as answer:  # noqa: S310
        return [row["id"] for row in json.load(answer)["data"]]


NOT_FOR_CHAT = ("all-minilm-l6-v2",)
BANNER = """
Jan Server {version} is up: {base}   (Ctrl-C stops it)
Models: {models}

  TOKEN=$(curl -s -X POST {base}/auth/guest-login | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')
  curl {base}/v1/chat/completions -H "Authorization: Bearer $TOKEN" \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

  # pip install openai
  import httpx, openai
  token = httpx.post("{base}/auth/guest-login").json()["access_token"]
  client = openai.OpenAI(base_url="{base}/v1", api_key=token)
  chunks = client.chat.completions.create(
      model="{model}", stream=True, messages=[{{"role": "user", "content": "Hello!"}}]
  )
  for chunk in chunks:
      print(chunk.choices[0].delta.content or "", end="")
"""
