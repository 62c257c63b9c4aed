"""API keys at the gateway: who asks the auth room, what becomes of its answers, and odd or doubled credentials."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from edge_backend import key
from jan.llm.v1 import models_pb2, models_pb2_grpc

from services.runtime.limits import Limit
from tests.rest.edge_rig import UNAUTHORIZED, UNAVAILABLE, Rig, error, get, raw, refused, running

CONFLICT = (401, "auth_error", "conflicting_credentials")


def good_key(rig: Rig, **claims: Any) -> str:
    return key(token=rig.keys.token(auth_method="api_key", sid="key_1", **{**Limit(100).claims(), **claims}))


@pytest.mark.parametrize("header", ["X-API-Key: {}", "Authorization: Bearer {}", "authorization: bEARER   {}"])
async def test_a_key_becomes_a_token_before_a_service_sees_it(http: httpx.AsyncClient, rig: Rig, header: str) -> None:
    name, _, value = header.format(good_key(rig, sub="usr_7")).partition(": ")
    answer = await http.post("/v1/chat/completions", headers={name: value})
    received = answer.json()["received"]
    assert received["authorization"].startswith("Bearer ey")
    assert "x-api-key" not in received
    assert answer.headers["x-auth-method"] == "api_key"
    assert answer.headers["x-user-id"] == answer.headers["x-principal-id"] == "usr_7"


async def test_a_key_works_over_grpc(channel: grpc.aio.Channel, rig: Rig) -> None:
    stub = models_pb2_grpc.ModelServiceStub(channel)
    for name, value in (("x-api-key", good_key(rig)), ("authorization", f"Bearer {good_key(rig)}")):
        call = stub.ListModels(models_pb2.ListModelsRequest(), metadata=((name, value),))
        assert "x-api-key" not in json.loads((await call).data[0].owned_by)
        assert dict(await call.initial_metadata())["x-auth-method"] == "api_key"


async def test_a_key_beginning_with_sk_and_a_hyphen_is_a_key(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/models", headers={"authorization": "Bearer sk-whatever"})
    assert answer.json()["error"]["message"] == "There is no such key for 127.0.0.1"


async def test_only_requests_with_a_key_ask_the_auth_room(http: httpx.AsyncClient, rig: Rig) -> None:
    before = await rig.counter("http.edge.ext_authz.ok") + await rig.counter("http.edge.ext_authz.denied")
    for headers in (rig.bearer(), {}, {"authorization": "Basic x"}, {"authorization": "Bearer x"}, {"x-api-key": ""}):
        await http.get("/v1/models", headers=headers)
    for path in ("/healthz", "/readyz", "/nope", "/.well-known/jwks.json", "/v1/public/x"):
        await http.get(path, headers={"x-api-key": "sk_x"})
    await http.post("/auth/guest-login", headers={"authorization": "Bearer sk_x"})
    assert await rig.counter("http.edge.ext_authz.ok") + await rig.counter("http.edge.ext_authz.denied") == before
    await http.get("/v1/models", headers={"x-api-key": good_key(rig)})
    assert await rig.counter("http.edge.ext_authz.ok") + await rig.counter("http.edge.ext_authz.denied") == before + 1


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ({"fail": "Unauthenticated"}, UNAUTHORIZED),
        ({"fail": "PermissionDenied"}, (403, "permission_error", "forbidden")),
        (
            {"fail": "RateLimited", "with": {"message": "day", "code": "insufficient_quota", "retry_after": 70}},
            (429, "rate_limit_error", "insufficient_quota"),
        ),
        ({"fail": "Unavailable"}, UNAVAILABLE),
        ({"raise": True}, (500, "internal_error", "server_error")),
    ],
)
@pytest.mark.parametrize("content_type", ["", "application/json", "application/grpc"])
async def test_a_refusal_of_the_auth_room_reaches_rest_as_it_is(
    http: httpx.AsyncClient, script: dict[str, Any], expected: tuple[int, str, str], content_type: str
) -> None:
    headers = {"x-api-key": key(**script), "content-type": content_type, "x-request-id": "mine"}
    answer = await http.post("/v1/notes", headers=headers)
    assert error(answer) == expected
    assert "secret" not in answer.text
    assert answer.headers.get("www-authenticate") == ("Bearer" if expected[0] == 401 else None)
    assert answer.headers.get("retry-after") == {429: "70", 503: "1"}.get(expected[0])
    assert not {"x-user-id", "x-principal-id"} & set(answer.headers)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ({"fail": "Unauthenticated"}, (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHORIZED")),
        ({"fail": "PermissionDenied"}, (grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN")),
        ({"fail": "RateLimited"}, (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMIT_EXCEEDED")),
        ({"fail": "Unavailable"}, (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")),
    ],
)
async def test_a_refusal_of_the_auth_room_is_a_status_with_details_over_grpc(
    channel: grpc.aio.Channel, http: httpx.AsyncClient, script: dict[str, Any], expected: tuple[grpc.StatusCode, str]
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await models_pb2_grpc.ModelServiceStub(channel).ListModels(
            models_pb2.ListModelsRequest(), metadata=(("x-api-key", key(**script)),)
        )
    code, reason, message = refused(failed.value)
    assert ((code, reason), message) == (expected, f"It is {script['fail']}")
    headers = {"content-type": "application/proto", "connect-protocol-version": "1", "x-api-key": key(**script)}
    answer = await http.post("/jan.llm.v1.ModelService/ListModels", headers=headers)
    assert answer.json() == {"code": expected[0].name.lower(), "message": message}
    assert not [name for name in answer.headers if name.startswith(("grpc-", "x-grpc-"))]


@pytest.fixture
def proxied() -> Iterator[Rig]:
    """A gateway behind a proxy of ours."""
    with running(trusted_proxies=1) as rig:
        yield rig


async def test_behind_a_proxy_everybody_is_told_the_address_that_it_names(proxied: Rig) -> None:
    headers = {"x-forwarded-for": "6.6.6.6, 192.0.2.7", "x-edge-address": "6.6.6.6"}
    async with httpx.AsyncClient(base_url=proxied.url, headers=headers) as http:
        guest = json.loads((await http.post("/auth/guest-login")).json()["username"])
        unknown = await http.get("/v1/models", headers={"x-api-key": "sk_unknown"})
    assert guest["x-edge-address"] == "192.0.2.7"
    assert unknown.json()["error"]["message"] == "There is no such key for 192.0.2.7"


async def test_without_the_auth_room_keys_are_503_and_tokens_pass(proxied: Rig) -> None:
    proxied.auth.stop()
    api_key = good_key(proxied)
    async with httpx.AsyncClient(base_url=proxied.url, timeout=20) as http:
        answer = await http.get("/v1/models", headers={"x-api-key": api_key})
        assert error(answer) == UNAVAILABLE
        assert answer.headers["retry-after"] == "1"
        assert (await http.get("/v1/models", headers=proxied.bearer())).status_code == 200
    async with grpc.aio.insecure_channel(proxied.target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await models_pb2_grpc.ModelServiceStub(channel).ListModels(
                models_pb2.ListModelsRequest(), metadata=(("x-api-key", api_key),)
            )
    assert refused(failed.value)[:2] == (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")
    proxied.auth.start()


async def test_what_a_key_was_exchanged_for_is_verified(http: httpx.AsyncClient, rig: Rig) -> None:
    expired = key(token=rig.keys.token(exp=1))
    assert error(await http.get("/v1/models", headers={"x-api-key": expired}))[0] == 401
    forged = key(token="forged")
    assert error(await http.get("/v1/models", headers={"x-api-key": forged})) == UNAUTHORIZED


async def test_a_token_beside_a_key_is_compared_by_the_auth_room(http: httpx.AsyncClient, rig: Rig) -> None:
    answer = await http.get("/v1/models", headers={"x-api-key": good_key(rig), **rig.bearer()})
    assert error(answer) == CONFLICT


async def test_two_credentials_of_a_kind_are_refused_before_one_of_them_wins(rig: Rig) -> None:
    good, other = rig.bearer()["authorization"], "Bearer x"
    for path in ("/v1/models", "/v1/chat/completions", "/auth/me", "/llm/v1/models"):
        for pair in (
            [("authorization", good), ("authorization", other)],
            [("Authorization", other), ("authorization", good)],
            [("authorization", good), ("authorization", good)],
            [("authorization", f"{good}, {other}")],
            [("authorization", f"Bearer {good_key(rig)}"), ("authorization", good)],
        ):
            status, head, body = await raw(rig.settings.gateway_port, get(path, pair))
            assert (path, status, body["error"]["code"]) == (path, 401, "conflicting_credentials")
            assert "www-authenticate: Bearer" in head


async def test_of_two_keys_none_counts(rig: Rig) -> None:
    for pair in ([good_key(rig), "sk_x"], ["sk_x", good_key(rig)], [good_key(rig), good_key(rig)], ["", good_key(rig)]):
        request = get("/v1/models", [("x-api-key", each) for each in pair])
        status, _, body = await raw(rig.settings.gateway_port, request)
        assert (status, body["error"]["code"]) == (401, "unauthorized")


async def test_two_credentials_over_http2_are_refused_too(rig: Rig) -> None:
    async with httpx.AsyncClient(base_url=rig.url, http1=False, http2=True) as http:
        good = rig.bearer()["authorization"]
        answer = await http.get("/v1/models", headers=[("authorization", good), ("authorization", "Bearer x")])
        assert error(answer) == CONFLICT
    async with grpc.aio.insecure_channel(rig.target) as channel:
        twice = (("authorization", good), ("authorization", "Bearer x"))
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await models_pb2_grpc.ModelServiceStub(channel).ListModels(models_pb2.ListModelsRequest(), metadata=twice)
    assert refused(failed.value)[:2] == (grpc.StatusCode.UNAUTHENTICATED, "CONFLICTING_CREDENTIALS")


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Basic dXNlcjpwYXNz", "Token x", "x", "Bearer x y", "Bearer a.b.c", "sk_bare",
     "Bearer " + "a" * 9000, "Bearer " + "sk_" + "a" * 9000, "Bearer sk_", "Bearer é", "Bearer\tsk_x", "Bearer ...",
     "Bearer eyJhbGciOiJub25lIn0.e30.", "Negotiate x;y=z", "Bearer \"x\""],
)  # fmt: skip
async def test_an_odd_credential_is_401(http: httpx.AsyncClient, value: str) -> None:
    assert error(await http.get("/v1/models", headers={"authorization": value.encode()})) == UNAUTHORIZED


@pytest.mark.parametrize("value", ["x", "Bearer sk_x", "sk_" + "a" * 9000, "é", "{}", "sk_test_7b7d"])
async def test_an_odd_key_is_refused_without_a_fault(http: httpx.AsyncClient, value: str) -> None:
    status, _, code = error(await http.get("/v1/models", headers={"x-api-key": value.encode()}))
    assert (status, code) in ((401, "unauthorized"), (500, "server_error") if value == "sk_test_7b7d" else None)


async def test_services_are_told_the_client_s_address_and_by_nobody_else(http: httpx.AsyncClient, rig: Rig) -> None:
    forged = {"x-edge-address": "6.6.6.6", "x-forwarded-for": "6.6.6.6", "x-real-ip": "6.6.6.6"}
    received = (await http.post("/v1/chat/completions", headers={**forged, **rig.bearer()})).json()["received"]
    assert received["x-edge-address"] == "127.0.0.1"
    guest = json.loads((await http.post("/auth/guest-login", headers=forged)).json()["username"])
    assert guest["x-edge-address"] == "127.0.0.1"
