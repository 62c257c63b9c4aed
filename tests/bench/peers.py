"""The peers: other gateways, each installed once into a folder of its own in the cache, set up as a plain pass-through.

Fair means: one worker, no database, no access log, no outside call, and the key check a normal user would have on.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.bench.targets import Plan, Scene, UnavailableError, floor, free_port, jan, jan_key

_INSTALL_SECONDS = 600
_KEY = "sk-bench"
_PORTKEY_PACKAGE = {
    "private": True,
    "dependencies": {"@portkey-ai/gateway": "1.15.2"},
    # From 1.14 on its HTTP server hands out immutable headers and every stream of this gateway answers 500.
    "overrides": {"@hono/node-server": "1.13.8"},
}


def _install(command: list[str], folder: Path, log: Path) -> None:
    with log.open("wb") as out:
        try:
            done = subprocess.run(command, cwd=folder, stdout=out, stderr=out, timeout=_INSTALL_SECONDS)
        except subprocess.TimeoutExpired:
            raise UnavailableError(f"{' '.join(command)} took longer than {_INSTALL_SECONDS} s") from None
    if done.returncode != 0:
        raise UnavailableError(f"{' '.join(command)} failed:\n{log.read_text(errors='replace')[-800:]}")


def _environment_with(requirement: str, folder: Path) -> Path:
    """The `bin` folder of a virtual environment that holds `requirement`, made on first use."""
    programs, ready = folder / "bin", folder / "installed"
    if not ready.exists():
        print(f"bench: installing {requirement} into {folder} (once)", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _install([sys.executable, "-m", "venv", str(folder)], folder, folder / "venv.log")
        _install([str(programs / "pip"), "install", "--quiet", requirement], folder, folder / "pip.log")
        ready.touch()
    return programs


def _version(programs: Path, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run(
        [str(programs / "python"), "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def litellm(scene: Scene) -> Plan:
    """LiteLLM's proxy with a master key, as its quick start shows it."""
    programs = _environment_with("litellm[proxy]", scene.cache / "litellm")
    config, port = scene.folder / "litellm.yaml", free_port()
    model = {"model": "openai/bench", "api_base": f"http://127.0.0.1:{scene.upstream_port}/v1", "api_key": _KEY}
    settings = {
        "model_list": [{"model_name": "bench", "litellm_params": model}],
        "general_settings": {"master_key": _KEY},
        "litellm_settings": {"telemetry": False},
    }
    config.write_text(json.dumps(settings))  # JSON is YAML
    listen = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    environment = {
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PATH": f"{programs}:{os.environ['PATH']}",
    }
    return Plan(
        name="litellm",
        version=f"LiteLLM {_version(programs, 'litellm')}",
        port=port,
        command=[str(programs / "litellm"), *listen],
        folder=scene.folder,
        environment=environment,
        headers=lambda: {"authorization": f"Bearer {_KEY}"},
    )


def portkey(scene: Scene) -> Plan:
    """Portkey's open gateway; the request names the provider, as its documentation shows it."""
    if not shutil.which("npm"):
        raise UnavailableError("portkey: npm is not installed")
    folder = scene.cache / "portkey"
    package = folder / "node_modules" / "@portkey-ai" / "gateway"
    if not package.exists():
        print(f"bench: installing {package.name} into {folder} (once)", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text(json.dumps(_PORTKEY_PACKAGE))
        _install(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], folder, folder / "npm.log")
    port = free_port()
    headers = {
        "authorization": f"Bearer {_KEY}",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{scene.upstream_port}/v1",
    }
    return Plan(
        name="portkey",
        version=f"Portkey {json.loads((package / 'package.json').read_text())['version']}",
        port=port,
        command=["node", str(package / "build" / "start-server.js"), f"--port={port}", "--headless"],
        folder=folder,
        environment={"NODE_ENV": "production"},
        headers=lambda: headers,
    )


def sglang_router(scene: Scene) -> Plan:
    """The Rust router, one upstream, round robin, default health checks."""
    programs = _environment_with("sglang-router", scene.cache / "sglang-router")
    port = free_port()
    options = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--worker-urls": f"http://127.0.0.1:{scene.upstream_port}",
        "--policy": "round_robin",
        "--prometheus-port": str(free_port()),
        "--log-level": "warn",
        "--max-concurrent-requests": "4096",
    }
    return Plan(
        name="sglang-router",
        version=f"sglang-router {_version(programs, 'sglang-router')}",
        port=port,
        command=[
            str(programs / "python"),
            "-m",
            "sglang_router.launch_router",
            *(word for pair in options.items() for word in pair),
        ],
        folder=scene.folder,
    )


PEERS: dict[str, Callable[[Scene], Plan]] = {"sglang-router": sglang_router, "portkey": portkey, "litellm": litellm}
TARGETS: dict[str, Callable[[Scene], Plan]] = {"floor": floor, "jan": jan, "jan-key": jan_key} | PEERS
