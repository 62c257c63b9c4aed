"""Envoy's admin interface, on its private socket: readiness, statistics, draining. Imports nothing heavy."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from pathlib import Path

SOCKET = "admin.sock"
ACTIVE = "http.edge.downstream_rq_active"


async def is_ready(run_dir: Path) -> bool:
    """Whether Envoy serves: its configuration is loaded and its listeners are open."""
    return (await ask(run_dir, "/ready"))[0] == 200


async def drain(run_dir: Path) -> None:
    """Close the listeners and wait until the last running request has ended. The caller bounds the wait."""
    await ask(run_dir, "/drain_listeners?graceful&skip_exit", method="POST")
    while await _active(run_dir):  # noqa: ASYNC110  # another process knows, and has to be asked
        await asyncio.sleep(0.1)


async def ask(run_dir: Path, path: str, *, method: str = "GET") -> tuple[int, bytes]:
    """Status and body of one call; status 0 when nobody answers. `/stats/prometheus` are the metrics."""
    return await asyncio.to_thread(_ask, str(run_dir / SOCKET), method, path)


async def _active(run_dir: Path) -> int:
    """How many requests run; 0 when Envoy does not answer any more."""
    status, body = await ask(run_dir, f"/stats?format=json&filter=^{ACTIVE}$")
    rows = json.loads(body)["stats"] if status == 200 else []
    return sum(int(row.get("value", 0)) for row in rows if row.get("name") == ACTIVE)


def _ask(address: str, method: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("envoy", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(5)
    try:
        connection.sock.connect(address)
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
