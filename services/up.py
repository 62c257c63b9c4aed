"""Wiring of one machine: which processes `jan-server up` runs, and in which order."""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

from services.llm.providers import entries
from services.runtime import envoy_admin
from services.runtime.api import APIS
from services.runtime.config import LOOPBACK, Settings
from services.runtime.machine import check_ports, locked, remove_sockets, socket_directory
from services.runtime.postgres import EmbeddedPostgres, enough_connections
from services.runtime.supervisor import Process, Supervisor, accepts

SOCKETS = "run"
OTHERS = 3
"""Processes beside the workers that may use the database: the room of identity, and commands of an operator."""


async def up(settings: Settings) -> None:
    """Run the whole server until a signal stops it. Raises `StartError` or `ConfigError` in one line when it cannot
    start."""
    with ExitStack() as stack:
        lock = stack.enter_context(locked(settings.data_dir))
        check_ports(_ports(settings))
        if settings.jan_provider_configs:  # every worker would say the same about it, and later
            entries.read(settings.jan_provider_configs_file, settings.jan_provider_config_set)
        run_dir = socket_directory(settings.data_dir, SOCKETS)
        stack.callback(remove_sockets, settings.data_dir, SOCKETS)
        database, url = [], settings.database_url
        if not url:
            postgres = EmbeddedPostgres(
                settings.data_dir, max_connections=enough_connections(settings.workers + OTHERS)
            )
            await postgres.initialise()
            stack.callback(postgres.close)
            database, url = [[postgres.process()]], postgres.url
        stages = [*database, *_stages(settings, run_dir, url)]
        supervisor = Supervisor(stages, shutdown_timeout=settings.shutdown_timeout, keep_open=(lock,))
        await supervisor.run()


def _ports(settings: Settings) -> dict[str, tuple[str, int]]:
    return {
        "GATEWAY_PORT": (settings.bind_address, settings.gateway_port),
        **{each.port_variable: (settings.bind_address, each.port(settings)) for each in APIS},
        "METRICS_PORT": (LOOPBACK, settings.metrics_port),
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
    metrics = ("--metrics-port", str(settings.metrics_port), "--envoy-admin", str(run_dir))
    return [
        [Process(name="migrate", command=_command("migrate"), env=env, one_shot=True)],
        [
            _room("auth", auth, env, "auth", *metrics),
            *(_room(path.stem, path, env, "llm", "media", "mcp", "--auth", f"unix:{auth}") for path in workers),
        ],
        [_gateway(settings, run_dir, auth, workers, env)],
        [Process(name="hello", command=_command("hello"), one_shot=True)],
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
        ready=lambda: envoy_admin.is_ready(run_dir),
        drain=lambda: envoy_admin.drain(run_dir),
    )


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "services", *arguments]  # -P: not a `services` of the working directory
