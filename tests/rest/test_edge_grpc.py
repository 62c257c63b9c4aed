"""gRPC, gRPC-Web and Connect through the gateway."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import sys
import urllib.parse
from pathlib import Path

import grpc
import httpx
import pytest
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from jan.auth.v1 import auth_pb2, auth_pb2_grpc
from jan.llm.v1 import chat_pb2, chat_pb2_grpc, models_pb2

from tests.rest.edge_rig import NO_ROUTE, Rig, error, refused

BUF = Path(sys.executable).parent / "buf"


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
    assert json.loads(answer.username)["authorization"] == "Bearer x"


async def test_grpc_callers_get_grpc_statuses(channel: grpc.aio.Channel, rig: Rig) -> None:
    missing = chat_pb2.CreateChatCompletionRequest(model="missing")
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await chat_pb2_grpc.ChatServiceStub(channel).CreateChatCompletion(missing, metadata=tuple(rig.bearer().items()))
    assert refused(failed.value) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", "No model 'missing'")


async def test_what_the_gateway_refuses_has_details_too(channel: grpc.aio.Channel, rig: Rig) -> None:
    expired, good = rig.bearer(exp=1), rig.bearer()
    for method, metadata, expected in (
        ("ListModels", {}, (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHORIZED")),
        ("ListModels", {"authorization": "Bearer x"}, (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHORIZED")),
        ("ListModels", rig.bearer(aud="other"), (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHORIZED")),
        ("ListModels", expired, (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")),
        ("Nope", good, (grpc.StatusCode.UNIMPLEMENTED, "ROUTE_NOT_FOUND")),
    ):
        call = channel.unary_unary(f"/jan.llm.v1.ModelService/{method}")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(b"", metadata=tuple(metadata.items()))
        code, reason, message = refused(failed.value)
        assert ((code, reason), bool(message)) == (expected, True)
        assert not [name for name, _ in failed.value.initial_metadata() or () if name == "x-http-status"]


async def test_a_message_that_is_too_large_is_no_rate_limit(rig: Rig) -> None:
    unlimited = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(rig.target, options=unlimited) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/jan.llm.v1.ChatService/CreateChatCompletion"
        )
        for compression in (None, grpc.Compression.Gzip):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call(bytes(34 * 1024 * 1024), metadata=tuple(rig.bearer().items()), compression=compression)
            expected = (grpc.StatusCode.OUT_OF_RANGE, "MAX_SIZE_EXCEEDED", "The message is too large.")
            assert refused(failed.value) == expected


async def test_a_grpc_path_exists_only_for_grpc(http: httpx.AsyncClient, rig: Rig) -> None:
    for path in ("/jan.llm.v1.ModelService/ListModels", "/jan.auth.v1.AuthService/GetJwks"):
        assert error(await http.post(path, json={}, headers=rig.bearer())) == NO_ROUTE
        assert error(await http.post(path, json={})) == NO_ROUTE


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


async def grpc_web(http: httpx.AsyncClient, path: str, message: bytes, **headers: str) -> httpx.Response:
    framed = b"\0" + struct.pack(">I", len(message)) + message
    return await http.post(path, content=framed, headers={"content-type": "application/grpc-web+proto", **headers})


async def test_grpc_web_works(http: httpx.AsyncClient, rig: Rig) -> None:
    answer = await grpc_web(http, "/jan.llm.v1.ModelService/ListModels", b"", **rig.bearer())
    assert answer.headers["content-type"].startswith("application/grpc-web")
    length = struct.unpack(">I", answer.content[1:5])[0]
    assert models_pb2.ListModelsResponse.FromString(answer.content[5 : 5 + length]).object == "list"
    assert b"grpc-status:0" in answer.content[5 + length :]


async def test_grpc_web_callers_get_grpc_statuses(http: httpx.AsyncClient, rig: Rig) -> None:
    missing = models_pb2.GetModelRequest(id="missing").SerializeToString()
    answer = await grpc_web(http, "/jan.llm.v1.ModelService/GetModel", missing, **rig.bearer())
    assert "5" in (answer.headers.get("grpc-status"), answer.text.partition("grpc-status:")[2][:1])


async def test_a_refusal_over_grpc_web_is_what_it_is_over_grpc(http: httpx.AsyncClient, rig: Rig) -> None:
    for method, headers, status, words in (
        ("ListModels", {}, "16", "A credential is needed: send 'Authorization: Bearer <token>'."),
        ("ListModels", {"x-api-key": "sk_x"}, "16", "There is no such key for 127.0.0.1"),
        ("ListModels", rig.bearer(exp=1), "16", "The access token has expired. Refresh it and try again."),
        ("Nope", rig.bearer(), "12", "There is no such method."),
    ):
        answer = await grpc_web(http, f"/jan.llm.v1.ModelService/{method}", b"", **headers)
        assert (answer.status_code, answer.headers["grpc-status"], answer.content) == (200, status, b"")
        assert answer.headers["content-type"].startswith("application/grpc-web")
        assert urllib.parse.unquote(answer.headers["grpc-message"]) == words
        details = base64.b64decode(answer.headers["grpc-status-details-bin"] + "==")
        assert status_pb2.Status.FromString(details).message == words
        assert not {"x-http-status", "x-grpc-status"} & set(answer.headers)


async def test_grpc_is_post(http: httpx.AsyncClient, rig: Rig) -> None:
    for path in ("/jan.llm.v1.ModelService/ListModels", "/grpc.health.v1.Health/Check"):
        answer = await http.get(path, headers={"content-type": "application/grpc", **rig.bearer()})
        assert (answer.headers["grpc-status"], answer.headers["grpc-message"]) == ("12", "There is no such method.")


async def test_connect_callers_get_errors_as_connect_has_them(http: httpx.AsyncClient) -> None:
    for path, type_, expected in (
        ("/jan.llm.v1.ModelService/ListModels", "application/proto", (401, "unauthenticated")),
        ("/jan.llm.v1.ChatService/StreamChatCompletion", "application/connect+proto", (401, "unauthenticated")),
        ("/jan.llm.v1.ModelService/Nope", "application/proto", (404, "unimplemented")),
    ):
        headers = {"content-type": type_, "connect-protocol-version": "1"}
        answer = await http.post(path, headers=headers)
        assert (path, answer.status_code, answer.json()["code"]) == (path, *expected)
        assert set(answer.json()) == {"code", "message"}
        assert answer.json()["message"]
        assert answer.headers["content-type"] == "application/json"
        assert not {"x-http-status", "x-edge-connect"} & set(answer.headers)
