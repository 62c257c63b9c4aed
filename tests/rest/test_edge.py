"""The gateway as clients meet it: real Envoy, real grpc.aio servers behind it. What there is and who may read it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.runtime import edge, envoy_admin
from tests.rest.edge_rig import (
    NO_ROUTE,
    UNAUTHORIZED,
    Rig,
    error,
    validated,
)

# --- configuration


def test_envoy_accepts_the_written_configuration(rig: Rig) -> None:
    assert validated(rig.settings, rig.config) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"trusted_proxies": 2, "cors_allowed_origins": ("*",), "bind_address": "0.0.0.0"},
        {"rate_limit_mode": "off"},
        {"rate_limit_mode": "enforce", "rate_limit_service": "ratelimit:8081"},
        {"oidc_issuer_url": "https://login.test", "oidc_client_id": "jan"},
    ],
)
def test_envoy_accepts_a_configuration_with_host_names_and_other_settings(
    rig: Rig, tmp_path: Path, change: dict[str, Any]
) -> None:
    settings = dataclasses.replace(rig.settings, data_dir=tmp_path, **change)
    config = edge.write(settings, {"auth": ["auth:9000"], "worker": ["llm-api:9000"]}, tmp_path)
    assert validated(settings, config) == ""


async def test_statistics_come_from_the_admin_socket(rig: Rig) -> None:
    status, body = await envoy_admin.ask(rig.run_dir, "/stats/prometheus")
    assert status == 200
    assert b"envoy_http_downstream_rq_total" in body


# --- health, keys, unknown paths


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/healthz", "gateway"),
        ("/llm/healthz", "llm-api"),
        ("/api/llm/healthz", "llm-api"),
        ("/notes/healthz", "notes-api"),
    ],
)
async def test_health_names_the_service(http: httpx.AsyncClient, path: str, service: str) -> None:
    answer = await http.get(path)
    assert answer.json() == {"status": "ok", "service": service}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["server"] == "jan-server"


async def test_a_direct_port_serves_its_own_service_and_nothing_else(rig: Rig) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{rig.settings.llm_api_port}") as direct:
        assert (await direct.get("/healthz")).json()["service"] == "llm-api"
        assert (await direct.get("/readyz")).json() == {"status": "ready"}
        assert (await direct.get("/v1/models", headers=rig.bearer())).status_code == 200
        assert (await direct.get("/llm/v1/models", headers=rig.bearer())).status_code == 200
        assert error(await direct.get("/v1/models")) == UNAUTHORIZED
        assert error(await direct.get("/v1/notes", headers=rig.bearer())) == NO_ROUTE
        assert error(await direct.get("/notes/v1/notes", headers=rig.bearer())) == NO_ROUTE


async def test_readiness_asks_the_backend(http: httpx.AsyncClient) -> None:
    for path in ("/readyz", "/llm/readyz", "/notes/readyz"):
        assert (await http.get(path)).json() == {"status": "ready"}


async def test_keys_are_served_cacheable_and_without_credentials(http: httpx.AsyncClient, rig: Rig) -> None:
    answer = await http.get("/.well-known/jwks.json")
    assert answer.json() == json.loads(rig.keys.jwks.read_text())
    assert answer.headers["cache-control"] == "public, max-age=300"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nope",
        "/v1/models/",
        "/v1/chat",
        "/V1/models",
        "/v1",
        "/auth/guest-login/",
        "/v1/models/dflt/",
        "/v1/models/a/b/",
        "/v1/models/a%2F",
        "/v1/notes/1/",
    ],
)
async def test_an_unknown_path_is_404_with_or_without_a_credential(
    http: httpx.AsyncClient, rig: Rig, method: str, path: str
) -> None:
    assert error(await http.request(method, path)) == NO_ROUTE
    assert error(await http.request(method, path, headers=rig.bearer())) == NO_ROUTE


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/v1/models"), ("GET", "/v1/chat/completions"), ("GET", "/auth/guest-login"), ("POST", "/healthz")],
)
async def test_a_method_that_a_path_lacks_is_404(http: httpx.AsyncClient, method: str, path: str) -> None:
    assert error(await http.request(method, path)) == NO_ROUTE


async def test_an_error_names_the_path_but_not_the_query(http: httpx.AsyncClient) -> None:
    answer = await http.get("/nope", params={"key": "secret"})
    assert answer.json()["error"]["message"] == "Unknown request URL: GET /nope"


# --- aliases


@pytest.mark.parametrize(
    "path", ["/v1/models", "/llm/v1/models", "/api/llm/v1/models", "/auth/me", "/llm/auth/me", "/v1/users/me",
             "/notes/v1/notes", "/llm/v1/notes", "/notes/v1/models"],
)  # fmt: skip
async def test_an_alias_needs_the_credential_that_its_path_needs(http: httpx.AsyncClient, rig: Rig, path: str) -> None:
    assert error(await http.get(path)) == UNAUTHORIZED
    assert (await http.get(path, headers=rig.bearer())).status_code == 200


async def test_generation_works_behind_every_prefix(http: httpx.AsyncClient, rig: Rig) -> None:
    for prefix in ("", "/llm", "/api/llm"):
        answer = await http.post(f"{prefix}/v1/chat/completions", json={"a": 1}, headers=rig.bearer())
        assert answer.json()["size"] == len('{"a":1}')


@pytest.mark.parametrize("path", ["/auth/guest-login", "/llm/auth/guest-login", "/api/llm/auth/guest-login"])
async def test_a_public_method_needs_no_credential_and_sees_a_token_only(http: httpx.AsyncClient, path: str) -> None:
    headers = {"authorization": "Bearer whatever", "x-api-key": "sk_x"}
    answer = await http.post(path, headers=headers, content=b'{"ignored":true}')
    assert answer.status_code == 201
    received = json.loads(answer.json()["username"])
    assert received["authorization"] == "Bearer whatever"
    assert "x-api-key" not in received
    assert not {"x-auth-method", "x-user-id", "x-principal-id"} & set(answer.headers)


# --- CORS


async def test_a_preflight_needs_no_credential(http: httpx.AsyncClient) -> None:
    asks = {"origin": "https://app.test", "access-control-request-method": "POST"}
    answer = await http.options("/v1/chat/completions", headers=asks)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.test"
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    assert answer.headers["access-control-max-age"] == "3600"
    assert answer.headers["x-request-id"].startswith("req_")


async def test_another_origin_is_not_allowed(http: httpx.AsyncClient, rig: Rig) -> None:
    asks = {"origin": "https://evil.test", "access-control-request-method": "POST"}
    answers = [
        await http.options("/v1/chat/completions", headers=asks),
        await http.get("/v1/models", headers={"origin": "https://evil.test", **rig.bearer()}),
    ]
    assert not [each for each in answers if "access-control-allow-origin" in each.headers]


async def test_answers_and_errors_can_be_read_by_an_allowed_origin(http: httpx.AsyncClient, rig: Rig) -> None:
    origin = {"origin": "https://app.test"}
    for answer in (
        await http.get("/v1/models", headers={**origin, **rig.bearer()}),
        await http.get("/v1/models", headers=origin),
        await http.get("/v1/models/missing", headers={**origin, **rig.bearer()}),
        await http.post("/v1/notes", content="{", headers={**origin, **rig.bearer()}),
    ):
        assert answer.headers["access-control-allow-origin"] == "https://app.test"
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
    for path in ("/nope", "/healthz", "/.well-known/jwks.json"):
        assert (await http.get(path, headers=origin)).headers["access-control-allow-origin"] == "*"
