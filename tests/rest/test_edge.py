"""The gateway as clients meet it: real Envoy, real grpc.aio servers behind it."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hmac
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import edge_backend
import grpc
import httpx
import jwt
import pytest
from edge_backend import AUDIENCE, ISSUER, Keys
from grpc_health.v1 import health_pb2, health_pb2_grpc
from jan.auth.v1 import auth_pb2, auth_pb2_grpc
from jan.llm.v1 import chat_pb2, chat_pb2_grpc, models_pb2, models_pb2_grpc

from services.runtime import edge, envoy_admin
from services.runtime.config import Settings
from tests.fake_upstream import STALL, FakeUpstream, stream
from tests.rest.server import JanServer

BUF = Path(sys.executable).parent / "buf"


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


class Backend:
    """A stand-in in its own process, on a unix socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start()

    def start(self) -> None:
        argv = [sys.executable, edge_backend.__file__, str(self.path)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout
        assert self.process.stdout.readline() == b"ready\n"

    def stop(self) -> None:
        self.process.communicate()

    def restart(self) -> None:
        self.stop()
        self.start()


@dataclasses.dataclass
class Rig:
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
        return {"authorization": f"Bearer {self.keys.token(**claims)}"}


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="edge") as folder:
        run_dir = Path(folder)
        gateway, llm, notes = free_ports(3)
        settings = Settings(
            data_dir=run_dir / "data",
            gateway_port=gateway,
            llm_api_port=llm,
            auth_issuer=ISSUER,
            auth_audience=AUDIENCE,
            cors_allowed_origins=("https://app.test",),
            stream_timeout=2.0,
        )
        keys = Keys(run_dir / "data" / "keys" / "jwks.json")
        auth, *workers = (Backend(run_dir / f"{name}.sock") for name in ("auth", "w0", "w1"))
        rooms = (*edge.ROOMS, edge.Room("notes-api", lambda _: notes, ("/notes",), {"worker": (edge_backend.NOTES,)}))
        endpoints = {"auth": [f"unix:{auth.path}"], "worker": [f"unix:{each.path}" for each in workers]}
        config = edge.write(settings, endpoints, run_dir, rooms=rooms)
        impatient(config)
        log = run_dir / "envoy.log"
        with log.open("wb") as output:
            envoy = subprocess.Popen(edge.command(settings, config), stdout=output, stderr=output)
            try:
                asyncio.run(until_ready(run_dir, envoy))
                yield Rig(settings, run_dir, config, keys, auth, workers, log, notes)
            finally:
                envoy.terminate()
                envoy.wait()
                for backend in (auth, *workers):
                    backend.stop()


def impatient(config: Path) -> None:
    """What takes long by nature takes less long in tests."""
    text = config.read_text()
    for before, after in (
        ("request_headers_timeout: 10s", "request_headers_timeout: 0.3s"),
        ("request_timeout: 300s", "request_timeout: 4s"),
        ("timeout: 7s", "timeout: 2s"),  # of a generation: STREAM_TIMEOUT and five seconds
    ):
        assert before in text
        text = text.replace(before, after)
    config.write_text(text)


async def until_ready(run_dir: Path, envoy: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(20):
        while not await envoy_admin.is_ready(run_dir):
            assert envoy.poll() is None, "Envoy did not start"


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=rig.url, timeout=20) as client:
        yield client


@pytest.fixture
async def channel(rig: Rig) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(rig.target) as channel:
        yield channel


def error(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, type and code, after looking at what every error has."""
    body = answer.json()["error"]
    assert answer.headers["content-type"] == "application/json"
    assert body["message"]
    assert body["request_id"] == answer.headers["x-request-id"]
    assert set(body) == {"type", "code", "message", "param", "request_id"}
    for internal in ("x-error-json", "x-http-status", "grpc-status", "grpc-message"):
        assert internal not in answer.headers
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


def get(target: str, headers: dict[str, str] | None = None) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    return f"GET {target} HTTP/1.1\r\nhost: x\r\n{lines}\r\n".encode()


UNAUTHORIZED = (401, "auth_error", "unauthorized")
NO_ROUTE = (404, "not_found_error", "route_not_found")
TOO_LARGE = (413, "size_error", "max_size_exceeded")
UNAVAILABLE = (503, "upstream_error", "service_unavailable")


async def chat(client: httpx.AsyncClient, rig: Rig, **script: Any) -> httpx.Response:
    return await client.post("/v1/chat/completions", json=script, headers=rig.bearer())


# --- configuration


def test_envoy_accepts_the_written_configuration(rig: Rig) -> None:
    done = subprocess.run(
        [*edge.command(rig.settings, rig.config), "--mode", "validate"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_envoy_accepts_a_configuration_with_host_names_and_several_proxies(rig: Rig, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        rig.settings, data_dir=tmp_path, trusted_proxies=2, cors_allowed_origins=("*",), bind_address="0.0.0.0"
    )
    config = edge.write(settings, {"auth": ["auth:9000"], "worker": ["llm-api:9000"]}, tmp_path)
    done = subprocess.run(
        [*edge.command(settings, config), "--mode", "validate"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


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
async def test_health_names_the_service(client: httpx.AsyncClient, path: str, service: str) -> None:
    answer = await client.get(path)
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


async def test_readiness_asks_the_backend(client: httpx.AsyncClient) -> None:
    for path in ("/readyz", "/llm/readyz", "/notes/readyz"):
        assert (await client.get(path)).json() == {"status": "ready"}


async def test_keys_are_served_cacheable_and_without_credentials(client: httpx.AsyncClient, rig: Rig) -> None:
    answer = await client.get("/.well-known/jwks.json")
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
    client: httpx.AsyncClient, rig: Rig, method: str, path: str
) -> None:
    assert error(await client.request(method, path)) == NO_ROUTE
    assert error(await client.request(method, path, headers=rig.bearer())) == NO_ROUTE


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/v1/models"), ("GET", "/v1/chat/completions"), ("GET", "/auth/guest-login"), ("POST", "/healthz")],
)
async def test_a_method_that_a_path_lacks_is_404(client: httpx.AsyncClient, method: str, path: str) -> None:
    assert error(await client.request(method, path)) == NO_ROUTE


async def test_an_error_names_the_path_but_not_the_query(client: httpx.AsyncClient) -> None:
    answer = await client.get("/nope", params={"key": "secret"})
    assert answer.json()["error"]["message"] == "Unknown request URL: GET /nope"


# --- aliases


@pytest.mark.parametrize(
    "path", ["/v1/models", "/llm/v1/models", "/api/llm/v1/models", "/auth/me", "/llm/auth/me", "/v1/users/me",
             "/notes/v1/notes", "/llm/v1/notes", "/notes/v1/models"],
)  # fmt: skip
async def test_an_alias_needs_the_credential_that_its_path_needs(
    client: httpx.AsyncClient, rig: Rig, path: str
) -> None:
    assert error(await client.get(path)) == UNAUTHORIZED
    assert (await client.get(path, headers=rig.bearer())).status_code == 200


async def test_generation_works_behind_every_prefix(client: httpx.AsyncClient, rig: Rig) -> None:
    for prefix in ("", "/llm", "/api/llm"):
        answer = await client.post(f"{prefix}/v1/chat/completions", json={"a": 1}, headers=rig.bearer())
        assert answer.json()["size"] == len('{"a":1}')


@pytest.mark.parametrize("path", ["/auth/guest-login", "/llm/auth/guest-login", "/api/llm/auth/guest-login"])
async def test_a_public_method_never_sees_a_credential(client: httpx.AsyncClient, path: str) -> None:
    headers = {"authorization": "Bearer whatever", "x-api-key": "sk_x"}
    answer = await client.post(path, headers=headers, content=b'{"ignored":true}')
    assert answer.status_code == 201
    received = json.loads(answer.json()["username"])
    assert not {"authorization", "x-api-key"} & set(received)
    assert not {"x-auth-method", "x-user-id", "x-principal-id"} & set(answer.headers)


# --- identity


async def test_an_authenticated_answer_says_who_asked(client: httpx.AsyncClient, rig: Rig) -> None:
    for answer in (
        await client.get("/v1/models", headers=rig.bearer(sub="usr_7")),
        await client.get("/v1/models/missing", headers=rig.bearer(sub="usr_7")),
        await client.post("/v1/notes", headers=rig.bearer(sub="usr_7"), content=b"{"),
    ):
        assert answer.headers["x-user-id"] == answer.headers["x-principal-id"] == "usr_7"
        assert answer.headers["x-auth-method"] == "jwt"


async def test_the_claim_auth_method_becomes_the_header(client: httpx.AsyncClient, rig: Rig) -> None:
    answer = await client.get("/v1/models", headers=rig.bearer(auth_method="api_key"))
    assert answer.headers["x-auth-method"] == "api_key"


def _forged(rig: Rig) -> dict[str, str]:
    good = rig.keys.token()
    head, payload, signature = good.split(".")
    other = Keys(rig.run_dir / "other" / "jwks.json")
    admin = base64.urlsafe_b64encode(json.dumps({"iss": ISSUER, "aud": AUDIENCE, "sub": "usr_2", "exp": 9e9}).encode())
    return {
        "another key with our kid": other.token(),
        "changed payload": f"{head}.{admin.decode().rstrip('=')}.{signature}",
        "no signature": f"{head}.{payload}.",
        "alg none": jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "sub": "usr_1", "exp": 2**31}, "", algorithm="none"),
        "HS256 with the public key": _hs256(payload, rig.keys.jwks.read_bytes()),
        "wrong audience": rig.keys.token(aud="other"),
        "no audience": rig.keys.token(aud=None),
        "wrong issuer": rig.keys.token(iss="https://evil.test"),
        "no issuer": rig.keys.token(iss=None),
        "no expiry": rig.keys.token(exp=None),
        "not yet": rig.keys.token(nbf=int(time.time()) + 3600),
        "garbage": "garbage",
    }


def _hs256(payload: str, secret: bytes) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT","kid":"k1"}').decode()
    signature = hmac.digest(secret, f"{head}.{payload}".encode(), "sha256")
    return f"{head}.{payload}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


async def test_a_token_that_is_not_ours_is_refused_everywhere(
    client: httpx.AsyncClient, channel: grpc.aio.Channel, rig: Rig
) -> None:
    for what, token in _forged(rig).items():
        answer = await client.get("/v1/models", headers={"authorization": f"Bearer {token}"})
        assert (what, error(answer)) == (what, UNAUTHORIZED)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert not {"x-auth-method", "x-user-id", "x-principal-id"} & set(answer.headers)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await models_pb2_grpc.ModelServiceStub(channel).ListModels(
                models_pb2.ListModelsRequest(), metadata=(("authorization", f"Bearer {token}"),)
            )
        assert (what, refused.value.code()) == (what, grpc.StatusCode.UNAUTHENTICATED)


async def test_an_expired_token_says_so(client: httpx.AsyncClient, rig: Rig) -> None:
    answer = await client.get("/v1/models", headers=rig.bearer(exp=int(time.time()) - 120))
    assert error(answer) == (401, "auth_error", "token_expired")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_clocks_may_differ_by_the_skew(client: httpx.AsyncClient, rig: Rig) -> None:
    answer = await client.get("/v1/models", headers=rig.bearer(exp=int(time.time()) - 30))
    assert answer.status_code == 200


async def test_a_token_counts_only_in_the_authorization_header(client: httpx.AsyncClient, rig: Rig) -> None:
    token = rig.keys.token()
    assert error(await client.get("/v1/models", params={"access_token": token})) == UNAUTHORIZED
    assert error(await client.get("/v1/models", headers={"authorization": f"Basic {token}"})) == UNAUTHORIZED
    assert (await client.get("/v1/models", headers={"authorization": f"bearer {token}"})).status_code == 200


async def test_headers_that_carry_identity_inside_are_removed(client: httpx.AsyncClient, rig: Rig) -> None:
    forged = dict.fromkeys(
        ["X-User-ID", "X-User-Roles", "X-Principal-Id", "X-Principal-Roles", "X-Auth-Method", "X-Scopes",
         "X-Consumer-Username", "X-Gateway-Auth", "X-Http-Status", "X-Error-Json", "X-Edge-Port", "X-Edge-Anything",
         "X-Envoy-Original-Path", "X-Envoy-Max-Retries", "X_User_Id"],
        "forged",
    )  # fmt: skip
    guest = json.loads((await client.post("/auth/guest-login", headers=forged)).json()["username"])
    user = (await client.post("/v1/chat/completions", headers={**forged, **rig.bearer()})).json()["received"]
    for received in (guest, user):
        assert not [name for name, value in received.items() if value == "forged"]


async def test_services_get_the_token_to_verify_it_again(client: httpx.AsyncClient, rig: Rig) -> None:
    headers = rig.bearer()
    answer = await client.post("/v1/chat/completions", headers=headers)
    assert answer.json()["received"]["authorization"] == headers["authorization"]


async def test_a_new_signing_key_counts_as_soon_as_its_file_is_there(client: httpx.AsyncClient, rig: Rig) -> None:
    old = rig.bearer()
    rig.keys.rotate("k2")
    async with asyncio.timeout(15):
        while (await client.get("/v1/models", headers=rig.bearer())).status_code != 200:
            pass
    assert (await client.get("/v1/models", headers=old)).status_code == 200
    assert (await client.get("/.well-known/jwks.json")).json() == json.loads(rig.keys.jwks.read_text())


# --- paths

TRICKS = [
    "/v1/public%2F..%2Fnotes", "/v1/public/..%2fnotes", "/v1/public/%2e%2e/notes", "/v1/public/x/../../notes",
    "//v1/notes", "/v1//notes", "/v1/public%2F%2E%2E%2Fnotes", "/v1/public/..%5cnotes", "/v1/public/..\\notes",
    "/healthz/../v1/notes", "/healthz%2F..%2Fv1%2Fnotes", "/auth/guest-login/../../v1/notes", "/v1/./notes",
    "/llm/../v1/notes", "/readyz%2f..%2fv1%2fnotes", "/v1/no%74es", "/.well-known/jwks.json/../../v1/notes",
]  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
async def test_no_spelling_of_a_path_gets_around_authentication(rig: Rig, trick: str) -> None:
    status, _, body = await raw(rig.settings.gateway_port, get(trick))
    assert (status, body["error"]["code"]) in ((401, "unauthorized"), (404, "route_not_found"))


async def test_a_public_pattern_is_public(rig: Rig) -> None:
    for target, id_ in (("/v1/public/x/../y", "y"), ("/v1/public/%252e%252e%252fnotes", "%2e%2e%2fnotes")):
        status, _, body = await raw(rig.settings.gateway_port, get(target))
        assert (status, body["id"]) == (200, id_)


@pytest.mark.parametrize("written", ["org/model", "org%2Fmodel", "hf.co/a/b:Q4_K_M", "a%20b", "jan-v1"])
async def test_a_model_id_may_hold_slashes(client: httpx.AsyncClient, rig: Rig, written: str) -> None:
    answer = await client.get(f"/v1/models/{written}", headers=rig.bearer())
    assert answer.json()["id"] == written.replace("%2F", "/").replace("%20", " ")


@pytest.mark.parametrize("query", ["id=slow", "id=a&id=b", "%69d=slow", "title=x&i%64=slow", "Id=slow", "id_=slow"])
async def test_the_id_in_the_path_wins_over_the_query(rig: Rig, query: str) -> None:
    for path in ("/v1/models/plain", "/llm/v1/models/plain", "/v1/notes/plain", "/v1/public/plain"):
        status, _, body = await raw(rig.settings.gateway_port, get(f"{path}?{query}", rig.bearer()))
        assert (path, status, body["id"]) == (path, 200, "plain")


@pytest.mark.parametrize("body", ['{"id":"slow"}', '{"title":"x","id":"slow"}', '{"id":"plain","id":"slow"}'])
async def test_the_id_in_the_path_wins_over_the_body(client: httpx.AsyncClient, rig: Rig, body: str) -> None:
    answer = await client.put("/v1/notes/plain", content=body, headers=rig.bearer())
    assert (answer.json()["id"], answer.json()["title"]) == ("plain", "x" if "title" in body else "")


async def test_an_id_elsewhere_is_a_query_parameter_like_any_other(client: httpx.AsyncClient, rig: Rig) -> None:
    assert (await client.get("/v1/notes", params={"id": "x"}, headers=rig.bearer())).json()["id"] == "x"


# --- request ids


@pytest.mark.parametrize("sent", ["a", "abc-DEF_1.2:3", "x" * 128, "3f1b2c8e-1111-4222-8333-444455556666"])
async def test_a_good_request_id_is_kept_everywhere(client: httpx.AsyncClient, rig: Rig, sent: str) -> None:
    headers = {"x-request-id": sent, **rig.bearer()}
    answer = await client.post("/v1/chat/completions", headers=headers)
    assert answer.json()["received"]["x-request-id"] == sent
    assert answer.headers.get_list("x-request-id") == [sent]
    refused = await client.get("/v1/models", headers={"x-request-id": sent})
    assert refused.json()["error"]["request_id"] == sent
    assert refused.headers.get_list("x-request-id") == [sent]


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, "é".encode(), "a/b", "a,b", '"', "{}", "%s"])
async def test_another_request_id_is_replaced_everywhere(client: httpx.AsyncClient, rig: Rig, sent: Any) -> None:
    headers = {"x-request-id": sent, **rig.bearer()}
    answer = await client.post("/v1/chat/completions", headers=headers)
    made = answer.headers["x-request-id"]
    assert made.startswith("req_")
    assert made[4:].isalnum()
    assert len(made) >= 20
    assert answer.json()["received"]["x-request-id"] == made
    assert "x-edge-request-id" not in answer.json()["received"]


# --- errors


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("InvalidRequest", (400, "invalid_request_error", "invalid_parameter")),
        ("Unauthenticated", UNAUTHORIZED),
        ("PermissionDenied", (403, "permission_error", "forbidden")),
        ("NotFound", (404, "not_found_error", "not_found")),
        ("MethodNotAllowed", (405, "invalid_request_error", "method_not_allowed")),
        ("RequestTimeout", (408, "timeout_error", "request_timeout")),
        ("Conflict", (409, "conflict_error", "conflict")),
        ("TooLarge", TOO_LARGE),
        ("RateLimited", (429, "rate_limit_error", "rate_limit_exceeded")),
        ("Internal", (500, "internal_error", "server_error")),
        ("NotImplementedYet", (501, "not_implemented_error", "not_implemented")),
        ("UpstreamFailed", (502, "upstream_error", "upstream_error")),
        ("Unavailable", UNAVAILABLE),
        ("UpstreamTimeout", (504, "timeout_error", "upstream_timeout")),
    ],
)
async def test_an_error_of_a_service_keeps_its_status_and_words(
    client: httpx.AsyncClient, rig: Rig, name: str, expected: tuple[int, str, str]
) -> None:
    answer = await chat(client, rig, fail=name, **{"with": {"message": 'It "is" é', "param": "messages[0]"}})
    assert error(answer) == expected
    assert answer.json()["error"]["message"] == 'It "is" é'
    assert answer.json()["error"]["param"] == "messages[0]"
    assert answer.headers.get("www-authenticate") == ("Bearer" if name == "Unauthenticated" else None)


async def test_retry_after_of_a_service_is_kept(client: httpx.AsyncClient, rig: Rig) -> None:
    answer = await chat(client, rig, fail="RateLimited", **{"with": {"message": "slow", "retry_after": 7}})
    assert answer.headers["retry-after"] == "7"


async def test_a_typed_method_fails_in_the_same_words(client: httpx.AsyncClient, rig: Rig) -> None:
    answer = await client.get("/v1/models/missing", headers=rig.bearer())
    assert error(answer) == (404, "not_found_error", "model_not_found")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("UNKNOWN", (500, "internal_error", "server_error")),
        ("INTERNAL", (500, "internal_error", "server_error")),
        ("DEADLINE_EXCEEDED", (504, "timeout_error", "upstream_timeout")),
        ("UNAVAILABLE", UNAVAILABLE),
        ("UNIMPLEMENTED", (501, "not_implemented_error", "not_implemented")),
    ],
)
async def test_an_error_without_an_envelope_gets_one(
    client: httpx.AsyncClient, rig: Rig, code: str, expected: tuple[int, str, str]
) -> None:
    assert error(await chat(client, rig, bare=code)) == expected


async def test_an_unexpected_exception_leaks_nothing(client: httpx.AsyncClient, rig: Rig) -> None:
    answer = await chat(client, rig, **{"raise": True})
    assert error(answer) == (500, "internal_error", "server_error")
    assert "secret" not in answer.text


@pytest.mark.parametrize("body", ["{", '{"title":', "nope", '{"title":"x"} x', "{}{}"])
async def test_a_body_that_is_not_json_is_invalid_json(client: httpx.AsyncClient, rig: Rig, body: str) -> None:
    answer = await client.post("/v1/notes", content=body, headers=rig.bearer())
    assert error(answer) == (400, "invalid_request_error", "invalid_json")
    assert "\n" not in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [('{"count":"abc"}', "count"), ('{"count":-1}', "count"), ('{"done":3}', "done"), ('{"tags":[{}]}', "tags"),
     ('{"title":{}}', "title"), ("[1]", None),
     ('{"title":[]}', None)],
)  # fmt: skip
async def test_a_value_of_the_wrong_type_is_named(
    client: httpx.AsyncClient, rig: Rig, body: str, param: str | None
) -> None:
    answer = await client.post("/v1/notes", content=body, headers=rig.bearer())
    assert error(answer) == (400, "invalid_request_error", "invalid_parameter")
    assert answer.json()["error"]["param"] == param


async def test_a_wrong_query_parameter_is_named_and_an_unknown_one_ignored(client: httpx.AsyncClient, rig: Rig) -> None:
    answer = await client.get("/v1/notes", params={"count": "abc"}, headers=rig.bearer())
    assert error(answer) == (400, "invalid_request_error", "invalid_parameter")
    assert answer.json()["error"]["param"] == "count"
    assert (await client.get("/v1/notes", params={"what": "ever"}, headers=rig.bearer())).status_code == 200


async def test_a_large_typed_answer_passes(client: httpx.AsyncClient, rig: Rig) -> None:
    answer = await client.post("/v1/notes", json={"title": "x" * 20_000_000}, headers=rig.bearer())
    assert len(answer.json()["title"]) == 20_000_000


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/x-www-form-urlencoded", "text/plain", "", "application/grpc",
     "application/grpc+json", "application/grpc-web", "application/grpc-web-text", "application/proto",
     "application/connect+proto"],
)  # fmt: skip
async def test_json_is_read_whatever_its_content_type(client: httpx.AsyncClient, rig: Rig, content_type: str) -> None:
    headers = {"content-type": content_type, "connect-protocol-version": "1", **rig.bearer()}
    answer = await client.post("/v1/notes", content='{"title":"x","extra":{"a":[1,null]}}', headers=headers)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"id": "", "title": "x", "count": 0, "done": False, "tags": [], "extra": {"a": [1, None]}}


async def test_errors_are_envelopes_whatever_the_content_type(client: httpx.AsyncClient, rig: Rig) -> None:
    grpc_ = {"content-type": "application/grpc"}
    refused = await client.post("/v1/chat/completions", headers=grpc_)
    assert error(refused) == UNAUTHORIZED
    assert refused.headers["www-authenticate"] == "Bearer"
    expired = await client.post("/v1/notes", headers={**grpc_, **rig.bearer(exp=1)})
    assert error(expired) == (401, "auth_error", "token_expired")
    wrong = await client.post("/v1/notes", content="{", headers={**grpc_, **rig.bearer()})
    assert error(wrong) == (400, "invalid_request_error", "invalid_json")
    missing = await client.get("/v1/models/missing", headers={**grpc_, **rig.bearer()})
    assert error(missing) == (404, "not_found_error", "model_not_found")


async def test_headers_that_steer_grpc_do_not_pass(client: httpx.AsyncClient, rig: Rig) -> None:
    steering = {
        "grpc-timeout": "1n", "grpc-encoding": "gzip", "grpc-accept-encoding": "x-sent", "grpc-anything": "1",
        "grpc-internal-encoding-request": "gzip", "connect-timeout-ms": "1", "connect-protocol-version": "1",
        "te": "x-sent",
    }  # fmt: skip
    answer = await client.post("/v1/chat/completions", json={}, headers={**steering, **rig.bearer()})
    received = answer.json()["received"]
    assert not [name for name in received if name.startswith(("connect-", "x-edge-"))]
    assert not [name for name in steering if "x-sent" in received.get(name, "")]
    assert not {"grpc-anything", "grpc-timeout", "grpc-encoding"} & set(received)
    guest = await client.post("/auth/guest-login", headers=steering)
    assert (guest.status_code, "grpc-anything" in guest.json()["username"]) == (201, False)
    assert (await client.get("/v1/models", headers={**steering, **rig.bearer()})).status_code == 200


async def test_the_server_says_201_and_204(client: httpx.AsyncClient, rig: Rig) -> None:
    assert (await client.post("/auth/guest-login")).status_code == 201
    assert (await chat(client, rig, status=201)).status_code == 201
    deleted = await client.delete("/v1/notes/1", headers=rig.bearer())
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert not {"content-type", "content-length", "x-http-status"} & set(deleted.headers)


async def test_headers_that_are_too_large_are_431(rig: Rig) -> None:
    async with httpx.AsyncClient(base_url=rig.url) as client:
        answer = await client.get("/healthz", headers={"x": "a" * 70_000})
    assert error(answer) == (431, "size_error", "max_size_exceeded")


@pytest.mark.parametrize(
    "request_", [b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\nbad header: x\r\n\r\n"]
)
async def test_a_request_that_is_not_http_is_400(rig: Rig, request_: bytes) -> None:
    status, head, body = await raw(rig.settings.gateway_port, request_)
    assert (status, body["error"]["code"]) == (400, "invalid_parameter")
    assert f"x-request-id: {body['error']['request_id']}" in head


async def test_headers_that_come_too_slowly_are_408(rig: Rig) -> None:
    status, _, body = await raw(rig.settings.gateway_port, b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
    assert (status, body["error"]["code"]) == (408, "request_timeout")


async def test_a_body_that_comes_too_slowly_is_408(rig: Rig) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in rig.bearer().items())
    head = f"POST /v1/notes HTTP/1.1\r\nhost: x\r\n{lines}content-length: 1000\r\n\r\n".encode()
    status, _, body = await raw(rig.settings.gateway_port, head + b"{", drip=b" ")
    assert (status, body["error"]["code"]) == (408, "request_timeout")


async def test_a_generation_that_lasts_too_long_is_504(client: httpx.AsyncClient, rig: Rig) -> None:
    assert error(await chat(client, rig, hang=True)) == (504, "timeout_error", "upstream_timeout")


# --- streams and bodies


async def test_a_stream_passes_event_by_event(client: httpx.AsyncClient, rig: Rig) -> None:
    body = {"stream": 5, "hang": True}
    async with client.stream("POST", "/v1/chat/completions", json=body, headers=rig.bearer()) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-accel-buffering"] == "no"
        assert await anext(answer.aiter_raw()) == b'data: {"n": 0}\n\n'


async def test_a_stream_that_is_cut_off_does_not_end_well(client: httpx.AsyncClient, rig: Rig) -> None:
    body = {"stream": 1, "hang": True}
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post("/v1/chat/completions", json=body, headers=rig.bearer())


async def test_a_stream_is_exact_to_the_byte(client: httpx.AsyncClient, rig: Rig) -> None:
    answer = await chat(client, rig, stream=3)
    assert answer.text == 'data: {"n": 0}\n\ndata: {"n": 1}\n\ndata: {"n": 2}\n\ndata: [DONE]\n\n'


async def test_a_body_just_under_the_limit_passes(client: httpx.AsyncClient, rig: Rig) -> None:
    body = b"x" * (rig.settings.max_body_bytes - 1024)
    answer = await client.post("/v1/chat/completions", content=body, headers=rig.bearer())
    assert answer.json()["size"] == len(body)


async def test_a_declared_length_over_the_limit_is_refused_before_the_upload(rig: Rig) -> None:
    declared = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 41943040\r\n\r\n"
    status, _, body = await raw(rig.settings.gateway_port, declared)
    assert (status, body["error"]["code"]) == (413, "max_size_exceeded")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/notes"])
async def test_forty_megabytes_in_chunks_are_413(rig: Rig, path: str) -> None:
    curl = await asyncio.create_subprocess_exec(
        "curl", "-s", "-X", "POST", f"{rig.url}{path}", "-T", "-", "-H", "Expect:",
        "-H", f"authorization: {rig.bearer()['authorization']}", "-w", "%{http_code}",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await curl.communicate(b'{"title":"' + b"x" * 40 * 1024 * 1024 + b'"}')
    assert output.endswith(b"413")
    assert b"max_size_exceeded" in output


async def test_http2_without_tls_works(rig: Rig) -> None:
    async with httpx.AsyncClient(base_url=rig.url, http1=False, http2=True) as client:
        answer = await chat(client, rig, stream=2)
        assert answer.http_version == "HTTP/2"
        assert answer.text.endswith("data: [DONE]\n\n")
        assert error(await client.get("/nope")) == NO_ROUTE


# --- CORS


async def test_a_preflight_needs_no_credential(client: httpx.AsyncClient) -> None:
    asks = {"origin": "https://app.test", "access-control-request-method": "POST"}
    answer = await client.options("/v1/chat/completions", headers=asks)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.test"
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    assert answer.headers["access-control-max-age"] == "3600"
    assert answer.headers["x-request-id"].startswith("req_")


async def test_another_origin_is_not_allowed(client: httpx.AsyncClient, rig: Rig) -> None:
    asks = {"origin": "https://evil.test", "access-control-request-method": "POST"}
    answers = [
        await client.options("/v1/chat/completions", headers=asks),
        await client.get("/v1/models", headers={"origin": "https://evil.test", **rig.bearer()}),
    ]
    assert not [each for each in answers if "access-control-allow-origin" in each.headers]


async def test_answers_and_errors_can_be_read_by_an_allowed_origin(client: httpx.AsyncClient, rig: Rig) -> None:
    origin = {"origin": "https://app.test"}
    for answer in (
        await client.get("/v1/models", headers={**origin, **rig.bearer()}),
        await client.get("/v1/models", headers=origin),
        await client.get("/v1/models/missing", headers={**origin, **rig.bearer()}),
        await client.post("/v1/notes", content="{", headers={**origin, **rig.bearer()}),
    ):
        assert answer.headers["access-control-allow-origin"] == "https://app.test"
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
    for path in ("/nope", "/healthz", "/.well-known/jwks.json"):
        assert (await client.get(path, headers=origin)).headers["access-control-allow-origin"] == "*"


# --- gRPC


async def test_native_grpc_works_on_the_same_port(channel: grpc.aio.Channel, rig: Rig) -> None:
    stub = chat_pb2_grpc.ChatServiceStub(channel)
    metadata = (*rig.bearer(sub="usr_9").items(), ("x-request-id", "mine"), ("x-user-id", "forged"))
    call = stub.CreateChatCompletion(chat_pb2.CreateChatCompletionRequest(), metadata=metadata)
    received = json.loads((await call).id)
    assert received["x-request-id"] == "mine"
    assert "x-user-id" not in received
    answered = dict(await call.initial_metadata())
    assert answered["x-request-id"] == "mine"
    assert (answered["x-user-id"], answered["x-auth-method"]) == ("usr_9", "jwt")
    chunks = stub.StreamChatCompletion(chat_pb2.CreateChatCompletionRequest(), metadata=metadata)
    assert [chunk.id async for chunk in chunks] == ["0", "1", "2"]


async def test_a_public_grpc_method_needs_no_credential(channel: grpc.aio.Channel) -> None:
    metadata = (("authorization", "Bearer x"),)
    answer = await auth_pb2_grpc.AuthServiceStub(channel).GuestLogin(auth_pb2.GuestLoginRequest(), metadata=metadata)
    assert "authorization" not in json.loads(answer.username)


async def test_grpc_callers_get_grpc_statuses(channel: grpc.aio.Channel, rig: Rig) -> None:
    stub = chat_pb2_grpc.ChatServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.CreateChatCompletion(chat_pb2.CreateChatCompletionRequest())
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert refused.value.details() == "Jwt is missing"
    with pytest.raises(grpc.aio.AioRpcError) as missing:
        await stub.CreateChatCompletion(
            chat_pb2.CreateChatCompletionRequest(model="missing"), metadata=tuple(rig.bearer().items())
        )
    assert missing.value.code() == grpc.StatusCode.NOT_FOUND
    assert missing.value.details() == "No model 'missing'"
    unknown = channel.unary_unary("/jan.llm.v1.ChatService/Nope")
    with pytest.raises(grpc.aio.AioRpcError) as unimplemented:
        await unknown(b"", metadata=tuple(rig.bearer().items()))
    assert unimplemented.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_grpc_path_exists_only_for_grpc(client: httpx.AsyncClient, rig: Rig) -> None:
    for path in ("/jan.llm.v1.ModelService/ListModels", "/jan.auth.v1.AuthService/GetJwks"):
        assert error(await client.post(path, json={}, headers=rig.bearer())) == NO_ROUTE
        assert error(await client.post(path, json={})) == NO_ROUTE


async def test_grpc_health_is_public_on_every_port(rig: Rig) -> None:
    for port in (rig.settings.gateway_port, rig.settings.llm_api_port, rig.notes_port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def buf_curl(url: str, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *arguments, url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_reflection_is_enough_to_call_a_method(rig: Rig) -> None:
    assert "jan.llm.v1.ChatService" in await buf_curl(rig.url, "--list-services")
    token = rig.bearer()["authorization"]
    answer = await buf_curl(f"{rig.url}/jan.llm.v1.ModelService/ListModels", "-H", f"authorization: {token}")
    assert json.loads(answer)["object"] == "list"


async def grpc_web(client: httpx.AsyncClient, path: str, message: bytes, **headers: str) -> httpx.Response:
    framed = b"\0" + struct.pack(">I", len(message)) + message
    return await client.post(path, content=framed, headers={"content-type": "application/grpc-web+proto", **headers})


async def test_grpc_web_works(client: httpx.AsyncClient, rig: Rig) -> None:
    answer = await grpc_web(client, "/jan.llm.v1.ModelService/ListModels", b"", **rig.bearer())
    assert answer.headers["content-type"].startswith("application/grpc-web")
    length = struct.unpack(">I", answer.content[1:5])[0]
    assert models_pb2.ListModelsResponse.FromString(answer.content[5 : 5 + length]).object == "list"
    assert b"grpc-status:0" in answer.content[5 + length :]


async def test_grpc_web_callers_get_grpc_statuses(client: httpx.AsyncClient, rig: Rig) -> None:
    refused = await grpc_web(client, "/jan.llm.v1.ModelService/ListModels", b"")
    assert refused.headers["grpc-status"] == "16"
    missing = models_pb2.GetModelRequest(id="missing").SerializeToString()
    answer = await grpc_web(client, "/jan.llm.v1.ModelService/GetModel", missing, **rig.bearer())
    assert "5" in (answer.headers.get("grpc-status"), answer.text.partition("grpc-status:")[2][:1])


async def test_connect_callers_get_errors_as_connect_has_them(client: httpx.AsyncClient) -> None:
    for path, type_, expected in (
        ("/jan.llm.v1.ModelService/ListModels", "application/proto", (401, "unauthenticated")),
        ("/jan.llm.v1.ChatService/StreamChatCompletion", "application/connect+proto", (401, "unauthenticated")),
        ("/jan.llm.v1.ModelService/Nope", "application/proto", (404, "unimplemented")),
    ):
        headers = {"content-type": type_, "connect-protocol-version": "1"}
        answer = await client.post(path, headers=headers)
        assert (path, answer.status_code, answer.json()["code"]) == (path, *expected)
        assert set(answer.json()) == {"code", "message"}
        assert answer.json()["message"]
        assert answer.headers["content-type"] == "application/json"
        assert not {"x-http-status", "x-edge-connect"} & set(answer.headers)


# --- the log, and a worker that dies


async def test_the_access_log_tells_what_happened_but_no_secret(client: httpx.AsyncClient, rig: Rig) -> None:
    headers = {"x-request-id": "logged", **rig.bearer(sub="usr_5")}
    await client.get("/v1/notes", params={"title": "query-secret"}, headers=headers)
    line = await logged(client, rig, "logged")
    text = rig.log.read_text()
    assert (line["method"], line["path"], line["status"], line["sub"]) == ("GET", "/v1/notes", 200, "usr_5")
    assert line["upstream"].endswith(".sock")
    assert line["attempts"] == 1
    assert "query-secret" not in text
    assert headers["authorization"].split(".")[-1] not in text


async def logged(client: httpx.AsyncClient, rig: Rig, request_id: str) -> dict[str, Any]:
    """The access log's line of a request, as soon as it is written."""
    async with asyncio.timeout(10):
        while f'"request_id":"{request_id}"' not in rig.log.read_text():
            await client.get("/healthz")
    lines = rig.log.read_text().splitlines()
    return dict(json.loads(next(line for line in lines if f'"request_id":"{request_id}"' in line)))


async def test_the_access_log_has_a_grpc_status_only_for_grpc(
    client: httpx.AsyncClient, channel: grpc.aio.Channel, rig: Rig
) -> None:
    headers = {"x-request-id": "log-429", **rig.bearer()}
    await client.post("/v1/chat/completions", json={"fail": "RateLimited"}, headers=headers)
    await client.get("/v1/models", headers={"x-request-id": "log-401"})
    missing = chat_pb2.CreateChatCompletionRequest(model="missing")
    metadata = (("x-request-id", "log-grpc"), *rig.bearer().items())
    with pytest.raises(grpc.aio.AioRpcError):
        await chat_pb2_grpc.ChatServiceStub(channel).CreateChatCompletion(missing, metadata=metadata)
    for request_id, status, grpc_status in (("log-429", 429, None), ("log-401", 401, None), ("log-grpc", 200, 5)):
        line = await logged(client, rig, request_id)
        assert (request_id, line["status"], line.get("grpc_status")) == (request_id, status, grpc_status)


async def test_envoy_warns_of_nothing(rig: Rig) -> None:
    lines = [json.loads(line) for line in rig.log.read_text().splitlines()]
    assert [line for line in lines if line["logger"] != "access"] == []


def first_to_end(backends: list[Backend]) -> Backend:
    """The backend whose process ends first, noticed by its output, which ends with it."""
    ended, _, _ = select.select([each.process.stdout for each in backends], [], [], 5)
    return next(each for each in backends if each.process.stdout in ended)


async def test_the_other_worker_serves_when_one_dies(client: httpx.AsyncClient, rig: Rig) -> None:
    dying = await chat(client, rig, die=True)
    assert error(dying) == UNAVAILABLE
    assert dying.headers["retry-after"] == "1"
    dead = await asyncio.to_thread(first_to_end, rig.workers)
    answers = [await client.get("/v1/models", headers=rig.bearer()) for _ in range(50)]
    answers += [await chat(client, rig) for _ in range(50)]
    assert {each.status_code for each in answers} == {200}
    dead.restart()


async def test_a_server_that_hangs_is_given_up_quickly(client: httpx.AsyncClient, rig: Rig) -> None:
    os.kill(rig.auth.process.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(20):
            while not await is_down(rig):  # noqa: ASYNC110  # Envoy knows, and has to be asked
                await asyncio.sleep(0.1)
        started = time.monotonic()
        refused = await client.get("/auth/me", headers=rig.bearer())
        assert error(refused) == UNAVAILABLE
        assert refused.headers["retry-after"] == "1"
        connect = {"content-type": "application/proto", "connect-protocol-version": "1", **rig.bearer()}
        refused = await client.post("/jan.auth.v1.AuthService/GetMe", headers=connect)
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert time.monotonic() - started < 1
    finally:
        os.kill(rig.auth.process.pid, signal.SIGCONT)
    async with asyncio.timeout(20):
        while await is_down(rig):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def is_down(rig: Rig) -> bool:
    """Whether Envoy knows that the auth room is ill."""
    _, body = await envoy_admin.ask(rig.run_dir, "/clusters")
    health = [line for line in body.splitlines() if line.startswith(b"auth::") and b"::health_flags::" in line]
    return any(b"/failed_active_hc" in line for line in health)


def test_without_memory_every_request_is_503(rig: Rig, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="edge") as folder:
        gateway, llm = free_ports(2)
        settings = dataclasses.replace(rig.settings, data_dir=tmp_path, gateway_port=gateway, llm_api_port=llm)
        config = edge.write(settings, {"auth": ["unix:/nowhere"], "worker": ["unix:/nowhere"]}, Path(folder))
        assert "max_heap_size_bytes: 2147483648" in config.read_text()
        config.write_text(config.read_text().replace("max_heap_size_bytes: 2147483648", "max_heap_size_bytes: 1000"))
        envoy = subprocess.Popen(edge.command(settings, config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            asyncio.run(until_ready(Path(folder), envoy))
            deadline = time.monotonic() + 10
            while (answer := httpx.get(f"http://127.0.0.1:{gateway}/healthz")).status_code == 200:
                assert time.monotonic() < deadline
            assert error(answer) == UNAVAILABLE
        finally:
            envoy.terminate()
            envoy.wait()


def test_a_stream_that_lasts_too_long_ends_with_an_error_event(tmp_path: Path, upstream: FakeUpstream) -> None:
    provider = {"name": "fake", "type": "openai", "url": upstream.url, "models": ["fake"]}
    (tmp_path / "providers.yml").write_text(json.dumps({"providers": {"default": [provider]}}))
    head, word, *_ = stream("Hello")
    upstream.script([head, word, STALL])
    body = {"model": "fake", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    with JanServer(tmp_path, STREAM_TIMEOUT="2s") as server:
        headers = {"authorization": f"Bearer {server.token()}"}
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=20)
    last = answer.text.strip().rpartition("data: ")[2]
    assert json.loads(last)["error"]["type"] == "timeout_error"
