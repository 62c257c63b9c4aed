"""Native gRPC, gRPC-Web and reflection through the gateway and the direct port: the same chat, the same errors."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from jan.auth.v1 import auth_pb2, auth_pb2_grpc
from jan.llm.v1 import chat_pb2, chat_pb2_grpc, models_pb2, models_pb2_grpc

from tests.fake_upstream import RESET, STALL, USAGE, FakeUpstream, answer, chunk, completion, sse, status, stream
from tests.rest.server import JanServer

BUF = Path(sys.executable).with_name("buf")
HELLO = [{"role": "user", "content": "Hello!"}]
HALF = stream("Hello", " world")[:2]  # its head and the first word


def request(model: str = "fake", **members: Any) -> chat_pb2.CreateChatCompletionRequest:
    return ParseDict({"model": model, "messages": HELLO, **members}, chat_pb2.CreateChatCompletionRequest())


@pytest.fixture(params=["gateway", "direct port"])
async def channel(request: pytest.FixtureRequest, server: JanServer) -> AsyncIterator[grpc.aio.Channel]:
    port = server.port if request.param == "gateway" else server.llm_port
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


@pytest.fixture
async def chat(channel: grpc.aio.Channel) -> chat_pb2_grpc.ChatServiceStub:
    return chat_pb2_grpc.ChatServiceStub(channel)


@pytest.fixture
def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"), ("x-request-id", "from-grpc"))


def details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """The rich details of an error, by the name of their type."""
    found = {}
    for each in rpc_status.from_call(error).details:  # type: ignore[arg-type, union-attr]
        name = each.TypeName().rpartition(".")[2]
        message = getattr(error_details_pb2, name)()
        assert each.Unpack(message)
        found[name] = MessageToDict(message, preserving_proto_field_name=True)
    return found


async def test_a_guest_signs_in_and_asks(channel: grpc.aio.Channel, upstream: FakeUpstream) -> None:
    login = await auth_pb2_grpc.AuthServiceStub(channel).GuestLogin(auth_pb2.GuestLoginRequest())
    metadata = (("authorization", f"Bearer {login.access_token}"),)
    asked = await chat_pb2_grpc.ChatServiceStub(channel).CreateChatCompletion(request(), metadata=metadata)
    assert asked.choices[0].message.content.string_value == "Hello world"
    me = await auth_pb2_grpc.AuthServiceStub(channel).GetMe(auth_pb2.GetMeRequest(), metadata=metadata)
    assert me.data.id == login.user_id


async def test_a_whole_answer_has_every_field(chat: Any, bearer: Any, upstream: FakeUpstream) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Łódź"}'}}
    whole = completion("", system_fingerprint="fp_1")
    whole["choices"][0] |= {
        "message": {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hm"},
        "finish_reason": "tool_calls",
    }
    upstream.script(answer(whole))
    calling = chat.CreateChatCompletion(request(temperature=0.5, n=1, stop=["."], seed=7), metadata=bearer)
    choice = (await calling).choices[0]
    assert MessageToDict(choice.message.tool_calls[0], preserving_proto_field_name=True) == call
    assert choice.message.reasoning_content == "hm"
    assert (await calling).usage.total_tokens == USAGE["total_tokens"]
    initial = dict(await calling.initial_metadata())
    assert (initial["x-request-id"], initial["x-auth-method"]) == ("from-grpc", "jwt")
    assert upstream.posts[0].body == {
        "model": "fake", "messages": HELLO, "temperature": 0.5, "n": 1, "stop": ["."], "seed": 7,
    }  # fmt: skip


async def test_a_stream_arrives_word_by_word(chat: Any, bearer: Any, upstream: FakeUpstream) -> None:
    gate = upstream.gate()
    upstream.script(stream("Hello", " world", gate=gate))
    chunks = aiter(chat.StreamChatCompletion(request(stream_options={"include_usage": True}), metadata=bearer))
    said = []
    for _ in range(2):
        gate.release()
        said.append((await anext(chunks)).choices[0].delta.content.string_value)
    gate.release(5)
    finish, usage = [each async for each in chunks]
    assert said == ["Hello", " world"]
    assert finish.choices[0].finish_reason == "stop"
    assert (len(usage.choices), usage.usage.total_tokens) == (0, USAGE["total_tokens"])


async def test_a_wrong_parameter_is_named(chat: Any, bearer: Any, upstream: FakeUpstream) -> None:
    wrong = request()
    wrong.messages.add(role="king")
    for call in (chat.CreateChatCompletion(wrong, metadata=bearer), chat.StreamChatCompletion(wrong, metadata=bearer)):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await (call if isinstance(call, grpc.aio.UnaryUnaryCall) else anext(aiter(call)))
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        found = details(refused.value)
        assert found["ErrorInfo"]["reason"] == "INVALID_PARAMETER"
        assert found["ErrorInfo"]["domain"] == "jan.server"
        assert found["ErrorInfo"]["metadata"]["request_id"] == "from-grpc"
        assert found["ErrorInfo"]["metadata"]["type"] == "invalid_request_error"
        assert found["BadRequest"]["field_violations"][0]["field"] == "messages[1].role"
    assert upstream.posts == []


async def test_a_limit_of_the_upstream_says_when_to_come_back(chat: Any, bearer: Any, upstream: FakeUpstream) -> None:
    upstream.script(status(429, headers={"retry-after": "7"}))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await chat.CreateChatCompletion(request(), metadata=bearer)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    found = details(refused.value)
    assert (found["ErrorInfo"]["reason"], found["RetryInfo"]["retry_delay"]) == ("UPSTREAM_RATE_LIMITED", "7s")


async def test_an_unknown_model_is_not_found(chat: Any, bearer: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as missing:
        await chat.CreateChatCompletion(request("nobody"), metadata=bearer)
    assert missing.value.code() == grpc.StatusCode.NOT_FOUND
    assert missing.value.details() == "The model 'nobody' does not exist"
    assert details(missing.value)["ErrorInfo"]["reason"] == "MODEL_NOT_FOUND"


async def test_a_stream_that_breaks_ends_with_a_status(
    chat: Any, bearer: Any, upstream: FakeUpstream, fragile_model: str
) -> None:
    gate = upstream.gate()
    upstream.script([*HALF, gate, RESET])
    chunks = aiter(chat.StreamChatCompletion(request(fragile_model), metadata=bearer))
    assert (await anext(chunks)).choices[0].delta.content.string_value == "Hello"
    gate.release()
    with pytest.raises(grpc.aio.AioRpcError) as broken:
        await anext(chunks)
    assert broken.value.code() == grpc.StatusCode.UNAVAILABLE
    assert details(broken.value)["ErrorInfo"]["reason"] == "UPSTREAM_ERROR"


async def test_nobody_gets_in_without_a_token(chat: Any) -> None:
    for metadata in ((), (("authorization", "Bearer wrong"),)):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await chat.CreateChatCompletion(request(), metadata=metadata)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_a_deadline_reaches_the_upstream(chat: Any, bearer: Any, upstream: FakeUpstream) -> None:
    upstream.script([STALL])
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await chat.CreateChatCompletion(request(), metadata=bearer, timeout=0.5)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.to_thread(upstream.wait_for_hang_up, within=1)


async def test_cancelling_a_call_frees_the_upstream(chat: Any, bearer: Any, upstream: FakeUpstream) -> None:
    upstream.script([STALL])
    asking = chat.CreateChatCompletion(request(), metadata=bearer)
    await asyncio.to_thread(upstream.wait_for_posts, 1)
    asking.cancel()
    await asyncio.to_thread(upstream.wait_for_hang_up, within=1)


async def test_cancelling_a_stream_frees_the_upstream(chat: Any, bearer: Any, upstream: FakeUpstream) -> None:
    upstream.script([*HALF, STALL])
    asking = chat.StreamChatCompletion(request(), metadata=bearer)
    assert (await anext(aiter(asking))).choices[0].delta.content.string_value == "Hello"
    asking.cancel()
    await asyncio.to_thread(upstream.wait_for_hang_up, within=1)


async def test_models_with_slashes_are_found(channel: grpc.aio.Channel, bearer: Any) -> None:
    models = models_pb2_grpc.ModelServiceStub(channel)
    listed = await models.ListModels(models_pb2.ListModelsRequest(), metadata=bearer)
    assert "org/team/fake" in [each.id for each in listed.data]
    found = await models.GetModel(models_pb2.GetModelRequest(id="org/team/fake"), metadata=bearer)
    assert found.id == "org/team/fake"


async def test_a_message_of_twenty_megabytes_passes(chat: Any, bearer: Any, upstream: FakeUpstream) -> None:
    large = "x" * 20_000_000
    asked = request()
    asked.messages.add(role="user").content.string_value = large
    await chat.CreateChatCompletion(asked, metadata=bearer)
    assert upstream.posts[0].body["messages"][1]["content"] == large


async def test_health_needs_no_token(channel: grpc.aio.Channel) -> None:
    answered = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answered.status == health_pb2.HealthCheckResponse.SERVING


# --- what people debug with


async def buf_curl(url: str, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *arguments, url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


@pytest.mark.parametrize("port", ["port", "llm_port"])
async def test_buf_curl_lists_services_and_chats(
    server: JanServer, token: str, upstream: FakeUpstream, port: str
) -> None:
    base = f"http://127.0.0.1:{getattr(server, port)}"
    listed = await buf_curl(base, "--list-services")
    assert {"jan.llm.v1.ChatService", "jan.llm.v1.ModelService", "jan.auth.v1.AuthService"} <= set(listed.split())
    asked = ("-H", f"authorization: Bearer {token}", "-d", json.dumps({"model": "fake", "messages": HELLO}))
    whole = json.loads(await buf_curl(f"{base}/jan.llm.v1.ChatService/CreateChatCompletion", *asked))
    assert whole["choices"][0]["message"]["content"] == "Hello world"
    upstream.script(sse(chunk({"content": "Hello"}), chunk({}, finish_reason="stop"), "[DONE]"))
    chunks = await buf_curl(f"{base}/jan.llm.v1.ChatService/StreamChatCompletion", *asked)
    assert '"Hello"' in chunks
    assert '"stop"' in chunks


def frames(body: bytes) -> list[tuple[int, bytes]]:
    """The frames of a gRPC-Web body: flags and message."""
    found = []
    while body:
        flags, length = struct.unpack(">BI", body[:5])
        found.append((flags, body[5 : 5 + length]))
        body = body[5 + length :]
    return found


def test_browsers_chat_over_grpc_web(rest: httpx.Client, upstream: FakeUpstream) -> None:
    def call(method: str, message: bytes) -> httpx.Response:
        framed = struct.pack(">BI", 0, len(message)) + message
        headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
        return rest.post(f"/jan.llm.v1.ChatService/{method}", content=framed, headers=headers)

    *messages, trailers = frames(call("StreamChatCompletion", request().SerializeToString()).content)
    chunks = [chat_pb2.ChatCompletionChunk.FromString(data) for flags, data in messages if flags == 0]
    assert [each.choices[0].delta.content.string_value for each in chunks] == ["Hello", " world", ""]
    assert trailers[0] == 0x80
    assert b"grpc-status:0" in trailers[1]
    refused = call("CreateChatCompletion", request("nobody").SerializeToString())
    assert "grpc-status:5" in refused.text or refused.headers["grpc-status"] == "5"
