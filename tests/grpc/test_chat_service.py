"""ChatService and what stands in front of every method, over a real connection and a scripted upstream."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
import pytest_asyncio
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc import StatusCode
from jan.llm.v1 import chat_pb2, chat_pb2_grpc, completions_pb2, embeddings_pb2, models_pb2, models_pb2_grpc

from tests.fake_upstream import (
    RESET,
    STALL,
    STREAM_HEAD,
    USAGE,
    Act,
    FakeUpstream,
    answer,
    chunk,
    completion,
    status,
    stream,
)
from tests.grpc.rig import SECONDS, Rig, details, running

Request = chat_pb2.CreateChatCompletionRequest
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
TYPED = json_format.ParseDict(BODY, Request())
REST = (("x-envoy-original-path", "/v1/chat/completions"),)


@pytest.fixture
def upstream() -> Any:
    with FakeUpstream() as server:
        yield server


@pytest_asyncio.fixture
async def rig(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Rig]:
    file = tmp_path / "providers.yml"
    file.write_text(f"providers: {{default: [{{name: fake, url: '{upstream.url}', models: [m]}}]}}")
    async with running(tmp_path, "llm", jan_provider_configs_file=file) as rig:
        yield rig


@pytest.fixture
def chat(rig: Rig) -> Any:
    return chat_pb2_grpc.ChatServiceStub(rig.channel)


def http(**members: Any) -> HttpBody:
    return HttpBody(content_type="application/x-www-form-urlencoded", data=orjson.dumps({**BODY, **members}))


async def refused(call: Any) -> grpc.aio.AioRpcError:
    """The error that a call, unary or streamed, ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        _ = [each async for each in call] if hasattr(call, "__aiter__") else await call
    return error.value


# Typed


async def test_a_typed_answer_is_openai_s(rig: Rig, chat: Any, upstream: FakeUpstream) -> None:
    said = await chat.CreateChatCompletion(TYPED, metadata=rig.signed_in, timeout=SECONDS)
    assert json_format.MessageToDict(said, preserving_proto_field_name=True) == {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 1760000000,
        "model": "m",
        "choices": [{"message": {"role": "assistant", "content": "Hello world"}, "finish_reason": "stop"}],
        "usage": USAGE,
    }
    assert upstream.posts[0].body == BODY


async def test_a_typed_stream_ends_with_the_usage_that_was_asked_for(rig: Rig, chat: Any) -> None:
    request = Request(stream_options=chat_pb2.StreamOptions(include_usage=True))
    request.MergeFrom(TYPED)
    chunks = [each async for each in chat.StreamChatCompletion(request, metadata=rig.signed_in, timeout=SECONDS)]
    assert "".join(choice.delta.content.string_value for each in chunks for choice in each.choices) == "Hello world"
    assert [each.choices[0].finish_reason for each in chunks[:-1]] == ["", "", "stop"]
    assert (list(chunks[-1].choices), chunks[-1].usage.total_tokens) == ([], USAGE["total_tokens"])
    assert {(each.id, each.model) for each in chunks} == {("chatcmpl-fake", "m")}


async def test_typed_tokens_come_as_they_are_made(rig: Rig, chat: Any, upstream: FakeUpstream) -> None:
    gate = upstream.gate()
    upstream.script(stream("a", "b", gate=gate))
    call = chat.StreamChatCompletion(TYPED, metadata=rig.signed_in, timeout=SECONDS)
    for word in ("a", "b"):
        gate.release()
        assert (await call.read()).choices[0].delta.content.string_value == word
    gate.release(3)
    assert (await call.read()).choices[0].finish_reason == "stop"
    assert await call.read() is grpc.aio.EOF


async def test_text_completions_and_embeddings_are_typed_too(rig: Rig, chat: Any) -> None:
    options = {"metadata": rig.signed_in, "timeout": SECONDS}
    request = json_format.ParseDict({"model": "m", "prompt": "Hi"}, completions_pb2.CreateCompletionRequest())
    whole = await chat.CreateCompletion(request, **options)
    parts = [each async for each in chat.StreamCompletion(request, **options)]
    vectors = await chat.CreateEmbeddings(
        json_format.ParseDict({"model": "m", "input": ["a", "b"]}, embeddings_pb2.CreateEmbeddingsRequest()), **options
    )
    assert (whole.object, whole.choices[0].text) == ("text_completion", "Hello world")
    assert "".join(choice.text for each in parts for choice in each.choices) == "Hello world"
    assert [list(each.embedding) for each in vectors.data] == [[0.5, -1.0], [0.5, -1.0]]


# The REST face


async def test_the_rest_face_answers_one_json_body(rig: Rig, chat: Any) -> None:
    call = chat.CreateChatCompletionHttp(http(), metadata=rig.signed_in, timeout=SECONDS)
    (body,) = [each async for each in call]
    assert (body.content_type, orjson.loads(body.data)) == ("application/json", completion("Hello world", model="m"))


async def test_the_rest_face_streams_whole_events_and_says_done(rig: Rig, chat: Any) -> None:
    call = chat.CreateChatCompletionHttp(http(stream=True), metadata=rig.signed_in, timeout=SECONDS)
    bodies = [each async for each in call]
    assert {each.content_type for each in bodies} == {"text/event-stream"}
    assert all(each.data.startswith(b"data: ") and each.data.endswith(b"\n\n") for each in bodies)
    *events, done, end = b"".join(each.data for each in bodies).split(b"\n\n")
    assert (done, end) == (b"data: [DONE]", b"")
    assert [orjson.loads(each.removeprefix(b"data: ")) for each in events] == [
        chunk({"role": "assistant", "content": "Hello"}, model="m"),
        chunk({"content": " world"}, model="m"),
        chunk({}, finish_reason="stop", model="m"),
    ]


async def test_a_stream_that_breaks_ends_with_an_error_event_and_no_done(
    rig: Rig, chat: Any, upstream: FakeUpstream
) -> None:
    gate = upstream.gate()
    upstream.script([*stream("Hello")[:2], gate, RESET])
    metadata = (*rig.signed_in, ("x-request-id", "my-id"))
    call = chat.CreateChatCompletionHttp(http(stream=True), metadata=metadata, timeout=SECONDS)
    assert b"Hello" in (await call.read()).data
    gate.release()
    last = await call.read()
    assert orjson.loads(last.data.removeprefix(b"data: ")) == {
        "error": {
            "type": "upstream_error",
            "code": "upstream_error",
            "message": "The model provider broke off the connection",
            "param": None,
            "request_id": "my-id",
        }
    }
    assert await call.read() is grpc.aio.EOF


@pytest.mark.parametrize(
    ("data", "code", "param"),
    [
        (b"", "INVALID_PARAMETER", "model"),
        (b"{", "INVALID_JSON", ""),
        (b"{}{}", "INVALID_JSON", ""),
        (b'{"model": NaN}', "INVALID_JSON", ""),
        (b"\xff", "INVALID_JSON", ""),
        (b"[]", "INVALID_PARAMETER", ""),
        (orjson.dumps({**BODY, "stream": "yes"}), "INVALID_PARAMETER", "stream"),
    ],
)
async def test_a_body_that_is_wrong_is_refused(rig: Rig, chat: Any, data: bytes, code: str, param: str) -> None:
    call = chat.CreateChatCompletionHttp(HttpBody(data=data), metadata=rig.signed_in, timeout=SECONDS)
    error = await refused(call)
    info = details(error)["ErrorInfo"]
    assert (error.code(), info.reason, info.metadata["param"]) == (StatusCode.INVALID_ARGUMENT, code, param)


# Errors


async def test_a_wrong_parameter_is_named_in_the_details(rig: Rig, chat: Any) -> None:
    request = Request(temperature=3)
    request.MergeFrom(TYPED)
    metadata = (*rig.signed_in, ("x-request-id", "my-id"))
    error = await refused(chat.CreateChatCompletion(request, metadata=metadata, timeout=SECONDS))
    message = "Parameter 'temperature' must be a number from 0 to 2"
    assert (error.code(), error.details()) == (StatusCode.INVALID_ARGUMENT, message)
    violation = error_details_pb2.BadRequest.FieldViolation(field="temperature", description=message)
    assert details(error) == {
        "ErrorInfo": error_details_pb2.ErrorInfo(
            reason="INVALID_PARAMETER",
            domain="jan.server",
            metadata={"type": "invalid_request_error", "request_id": "my-id", "param": "temperature"},
        ),
        "BadRequest": error_details_pb2.BadRequest(field_violations=[violation]),
    }


async def test_a_rate_limit_says_when_to_come_again(rig: Rig, chat: Any, upstream: FakeUpstream) -> None:
    upstream.script(status(429, headers={"retry-after": "7"}))
    error = await refused(chat.CreateChatCompletion(TYPED, metadata=rig.signed_in, timeout=SECONDS))
    found = details(error)
    assert (error.code(), found["ErrorInfo"].reason) == (StatusCode.RESOURCE_EXHAUSTED, "UPSTREAM_RATE_LIMITED")
    assert found["RetryInfo"].retry_delay.seconds == 7


async def test_a_model_that_is_not_there_is_not_found(rig: Rig, chat: Any) -> None:
    error = await refused(
        chat.CreateChatCompletion(Request(model="x", messages=TYPED.messages), metadata=rig.signed_in)
    )
    assert (error.code(), details(error)["ErrorInfo"].reason) == (StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")


@pytest.mark.parametrize("letter", ["x", "中", "😀"])
async def test_a_long_message_of_the_provider_still_reaches_the_client(
    rig: Rig, chat: Any, upstream: FakeUpstream, letter: str
) -> None:
    upstream.script(status(400, {"error": {"message": letter * 5000, "param": "p" * 5000}}))
    error = await refused(chat.CreateChatCompletion(TYPED, metadata=(*rig.signed_in, *REST), timeout=SECONDS))
    assert error.code() == StatusCode.INVALID_ARGUMENT
    assert (error.details() or "").startswith(letter * 50)
    assert details(error)["ErrorInfo"].reason == "INVALID_PARAMETER"


async def test_the_gateway_gets_the_finished_rest_answer(rig: Rig, chat: Any) -> None:
    call = chat.CreateChatCompletionHttp(HttpBody(data=b"{"), metadata=(*rig.signed_in, *REST), timeout=SECONDS)
    metadata = dict((await refused(call)).trailing_metadata() or ())
    assert metadata["x-http-status"] == "400"
    assert orjson.loads(metadata["x-error-json"])["error"]["code"] == "invalid_json"


async def test_a_typed_stream_that_breaks_ends_with_a_status(rig: Rig, chat: Any, upstream: FakeUpstream) -> None:
    gate = upstream.gate()
    upstream.script([*stream("Hello")[:2], gate, RESET])
    call = chat.StreamChatCompletion(TYPED, metadata=rig.signed_in, timeout=SECONDS)
    assert (await call.read()).choices[0].delta.content.string_value == "Hello"
    gate.release()
    error = await refused(call.read())
    assert (error.code(), details(error)["ErrorInfo"].reason) == (StatusCode.UNAVAILABLE, "UPSTREAM_ERROR")


# Identity


@pytest.mark.parametrize("authorization", ["", "Bearer forged", "Basic dXNlcjpwYXNz", "Bearer sk_live_0123"])
async def test_without_a_good_token_nothing_is_asked(
    rig: Rig, chat: Any, upstream: FakeUpstream, authorization: str
) -> None:
    metadata = (("authorization", authorization),) if authorization else ()
    for call in (
        chat.CreateChatCompletion(TYPED, metadata=metadata, timeout=SECONDS),
        chat.StreamChatCompletion(TYPED, metadata=metadata, timeout=SECONDS),
        chat.CreateChatCompletionHttp(http(), metadata=metadata, timeout=SECONDS),
    ):
        error = await refused(call)
        assert (error.code(), details(error)["ErrorInfo"].reason) == (StatusCode.UNAUTHENTICATED, "UNAUTHORIZED")
    assert upstream.requests == []


async def test_identity_headers_are_not_believed(rig: Rig, chat: Any) -> None:
    metadata = (("x-user-id", "usr_1"), ("x-principal-id", "usr_1"), ("x-auth-method", "jwt"))
    error = await refused(chat.CreateChatCompletion(TYPED, metadata=metadata, timeout=SECONDS))
    assert error.code() == StatusCode.UNAUTHENTICATED


# Deadlines and cancellation


CALLS = ["CreateChatCompletion", "StreamChatCompletion", "CreateChatCompletionHttp"]
STALLS: dict[str, Act] = {"before the head": [STALL], "after the head": [STREAM_HEAD, STALL]}


@pytest.mark.parametrize("act", STALLS.values(), ids=STALLS.keys())
@pytest.mark.parametrize("method", CALLS)
async def test_the_client_s_deadline_ends_the_upstream_call(
    rig: Rig, chat: Any, upstream: FakeUpstream, method: str, act: Act
) -> None:
    upstream.script(act)
    request = http(stream=True) if method.endswith("Http") else TYPED
    error = await refused(getattr(chat, method)(request, metadata=rig.signed_in, timeout=0.3))
    assert error.code() == StatusCode.DEADLINE_EXCEEDED
    await asyncio.to_thread(upstream.wait_for_hang_up, within=1)


async def test_the_longest_life_of_a_call_holds_without_a_deadline(tmp_path: Path, upstream: FakeUpstream) -> None:
    file = tmp_path / "providers.yml"
    file.write_text(f"providers: {{default: [{{name: fake, url: '{upstream.url}', models: [m]}}]}}")
    upstream.script([STALL])
    async with running(tmp_path, "llm", jan_provider_configs_file=file, stream_timeout=0.2) as rig:
        chat = chat_pb2_grpc.ChatServiceStub(rig.channel)
        error = await refused(chat.CreateChatCompletion(TYPED, metadata=rig.signed_in))
    assert (error.code(), details(error)["ErrorInfo"].reason) == (StatusCode.DEADLINE_EXCEEDED, "UPSTREAM_TIMEOUT")


@pytest.mark.parametrize("method", CALLS)
async def test_a_client_that_cancels_ends_the_upstream_call_within_a_second(
    rig: Rig, chat: Any, upstream: FakeUpstream, method: str
) -> None:
    upstream.script([*stream("Hello")[:2], STALL])
    request = http(stream=True) if method.endswith("Http") else TYPED
    call = getattr(chat, method)(request, metadata=rig.signed_in, timeout=SECONDS)
    reading = asyncio.ensure_future(call.read() if hasattr(call, "read") else call)
    await asyncio.to_thread(upstream.wait_for_posts, 1)
    if method != "CreateChatCompletion":
        await reading  # the first token is through
    call.cancel()
    await asyncio.to_thread(upstream.wait_for_hang_up, within=1)
    with suppress(asyncio.CancelledError):
        await reading


async def test_a_hundred_streams_at_once_are_all_served(rig: Rig, chat: Any) -> None:
    async def read() -> str:
        call = chat.StreamChatCompletion(TYPED, metadata=rig.signed_in, timeout=SECONDS)
        chunks = [each async for each in call]
        return "".join(choice.delta.content.string_value for each in chunks for choice in each.choices)

    assert await asyncio.gather(*(read() for _ in range(100))) == ["Hello world"] * 100


async def test_a_large_request_and_answer_pass(rig: Rig, chat: Any, upstream: FakeUpstream) -> None:
    text = "x" * (20 * 1024 * 1024)
    upstream.script(answer(completion(text)))
    body = http(messages=[{"role": "user", "content": text}])
    call = chat.CreateChatCompletionHttp(body, metadata=rig.signed_in, timeout=SECONDS)
    said = orjson.loads((await call.read()).data)
    assert said["choices"][0]["message"]["content"] == text
    assert upstream.posts[0].body["messages"][0]["content"] == text


# Models


async def test_models_are_listed_and_read_by_id(rig: Rig) -> None:
    models = models_pb2_grpc.ModelServiceStub(rig.channel)
    options = {"metadata": rig.signed_in, "timeout": SECONDS}
    listed = await models.ListModels(models_pb2.ListModelsRequest(), **options)
    assert (listed.object, [each.id for each in listed.data]) == ("list", ["all-minilm-l6-v2", "m"])
    one = await models.GetModel(models_pb2.GetModelRequest(id="m"), **options)
    assert one == next(each for each in listed.data if each.id == "m")
    assert (one.object, one.owned_by) == ("model", "custom")


async def test_a_rule_of_the_proto_names_its_field(rig: Rig) -> None:
    models = models_pb2_grpc.ModelServiceStub(rig.channel)
    error = await refused(models.GetModel(models_pb2.GetModelRequest(), metadata=rig.signed_in, timeout=SECONDS))
    info = details(error)["ErrorInfo"]
    assert (error.code(), info.reason, info.metadata["param"]) == (
        StatusCode.INVALID_ARGUMENT,
        "INVALID_PARAMETER",
        "id",
    )
