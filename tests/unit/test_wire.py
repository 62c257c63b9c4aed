"""Between OpenAI's JSON and typed messages: nothing is lost either way, whole numbers stay whole."""

from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from jan.llm.v1 import chat_pb2, completions_pb2, embeddings_pb2

from services.llm.generation import wire
from services.runtime.errors import UpstreamFailed
from tests.fake_upstream import USAGE, chunk, completion

NESTED = {"a": [1, 2.5, "x", True, None, {"b": {}}, []], "whole": 40, "big": 2**52}


def sample(field: FieldDescriptor, depth: int) -> Any:
    """A JSON value for a field, different from its default."""
    inner = field.message_type
    if inner is None:
        return {"string": "text", "bool": True, "double": 0.5, "float": 0.25}.get(_KINDS[field.type], 7)
    if inner.GetOptions().map_entry:
        return {"key": sample(inner.fields_by_name["value"], depth)}
    if inner.full_name in ("google.protobuf.Struct", "google.protobuf.Value"):
        return NESTED
    return filled(inner, depth - 1)


_KINDS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_INT32: "int32",
}


def filled(descriptor: Descriptor, depth: int = 6) -> dict[str, Any]:
    """JSON with every field of a message set, and two members that it does not know where it can hold them."""
    body: dict[str, Any] = {}
    for field in descriptor.fields:
        if field.name == "extra":
            body |= {"vendor_extra": NESTED, "top_k": 40}
        elif depth:
            map_field = field.message_type is not None and field.message_type.GetOptions().map_entry
            value = sample(field, depth)
            body[field.name] = [value, value] if field.is_repeated and not map_field else value
    return body


REQUESTS = [
    (chat_pb2.CreateChatCompletionRequest, wire.chat_body),
    (completions_pb2.CreateCompletionRequest, wire.completion_body),
    (embeddings_pb2.CreateEmbeddingsRequest, wire.embeddings_body),
]


@pytest.mark.parametrize(("kind", "read"), REQUESTS, ids=[kind.__name__ for kind, _ in REQUESTS])
def test_every_field_of_a_request_reaches_the_engine(kind: type[Message], read: Any) -> None:
    body = filled(kind.DESCRIPTOR)
    message = wire._message(kind(), body)  # the way back, tested below
    del body["request_id"]  # between the caller and the door
    body.pop("stream", None)
    assert read(message) == body


def test_a_request_written_by_another_client_reads_the_same() -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "logit_bias": {"50256": -100},
        "max_tokens": 5,
        "temperature": 0.0,
        "stop": ["a"],
        "n": 0,
    }
    typed = json_format.ParseDict(body, chat_pb2.CreateChatCompletionRequest())
    assert wire.chat_body(typed) == body


def test_whole_numbers_stay_whole() -> None:
    request = chat_pb2.CreateChatCompletionRequest(logit_bias={"1": -100}, max_tokens=5, seed=-1, temperature=1)
    request.extra.update({"top_k": 40, "min_p": 0.5, "huge": 1e300})
    body = wire.chat_body(request)
    assert body == {
        "logit_bias": {"1": -100},
        "max_tokens": 5,
        "seed": -1,
        "temperature": 1.0,
        "top_k": 40,
        "min_p": 0.5,
        "huge": 1e300,
    }
    assert (type(body["top_k"]), type(body["logit_bias"]["1"]), type(body["max_tokens"])) == (int, int, int)


def test_the_method_called_says_whether_an_answer_is_streamed() -> None:
    request = chat_pb2.CreateChatCompletionRequest(model="m", stream=True)
    request.extra.update({"stream": True})
    assert wire.chat_body(request) == {"model": "m"}


def test_a_field_wins_over_an_extra_of_its_name() -> None:
    request = chat_pb2.CreateChatCompletionRequest(model="m")
    request.extra.update({"model": "other", "top_k": 1})
    assert wire.chat_body(request) == {"model": "m", "top_k": 1}


def test_a_zero_that_was_set_is_sent_and_one_that_was_not_is_not() -> None:
    request = chat_pb2.CreateChatCompletionRequest(temperature=0, logprobs=False)
    assert wire.chat_body(request) == {"temperature": 0.0, "logprobs": False}


def test_a_null_content_stays_null() -> None:
    message = chat_pb2.ChatMessage(role="assistant", content={"null_value": None})
    request = chat_pb2.CreateChatCompletionRequest(messages=[message])
    assert wire.chat_body(request) == {"messages": [{"role": "assistant", "content": None}]}


ANSWERS = [
    (chat_pb2.ChatCompletion, wire.chat_completion),
    (chat_pb2.ChatCompletionChunk, wire.chat_chunk),
    (completions_pb2.Completion, wire.completion),
    (embeddings_pb2.CreateEmbeddingsResponse, wire.embeddings),
]


@pytest.mark.parametrize(("kind", "typed"), ANSWERS, ids=[kind.__name__ for kind, _ in ANSWERS])
def test_every_member_of_an_answer_reaches_the_client(kind: type[Message], typed: Any) -> None:
    answer = filled(kind.DESCRIPTOR)
    message = typed(answer)
    assert isinstance(message, kind)
    assert wire._json(message) == answer


def test_null_is_the_same_as_absent() -> None:
    typed = wire.chat_chunk({**chunk({"content": None, "role": "assistant"}), "service_tier": None, "x": None})
    choice = typed.choices[0]
    assert not choice.delta.HasField("content")
    assert not choice.HasField("finish_reason")
    assert not typed.HasField("service_tier")
    assert not typed.HasField("extra")


def test_a_whole_answer_reads_as_openai_s() -> None:
    answer = completion("Hello", service_tier="default")
    assert json_format.MessageToDict(wire.chat_completion(answer), preserving_proto_field_name=True) == {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 1760000000,
        "model": "fake",
        "choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": USAGE,
        "service_tier": "default",
    }


def test_base64_vectors_have_a_field_of_their_own() -> None:
    row = {"object": "embedding", "index": 1}
    rows = [{**row, "embedding": "AAAAPw=="}, {**row, "embedding": [0.5]}]
    typed = wire.embeddings({"object": "list", "data": rows, "model": "m", "usage": {"prompt_tokens": 1}})
    assert [(each.embedding_base64, list(each.embedding)) for each in typed.data] == [("AAAAPw==", []), ("", [0.5])]


ODD: list[dict[str, Any]] = [
    {"choices": "Hi"},
    {"choices": {"0": {}}},
    {"choices": ["Hi"]},
    {"choices": [{"message": "Hi"}]},
    {"choices": [{"message": {"tool_calls": "f"}}]},
    {"choices": [{"index": -1}]},
    {"choices": [{"index": "0"}]},
    {"choices": [{"logprobs": []}]},
    {"created": "today"},
    {"id": 5},
    {"usage": 7},
    {"usage": {"prompt_tokens": "5"}},
]


@pytest.mark.parametrize("answer", ODD, ids=str)
def test_an_answer_of_another_shape_is_the_provider_s_fault(answer: dict[str, Any]) -> None:
    with pytest.raises(UpstreamFailed, match="does not have OpenAI's shape"):
        wire.chat_completion(answer)


@pytest.mark.parametrize("answer", [{}, {"data": None}, {"data": ["x"]}, {"data": [{"index": 0}]}, {"data": 5}])
def test_embeddings_of_another_shape_are_the_provider_s_fault(answer: dict[str, Any]) -> None:
    with pytest.raises(UpstreamFailed, match="does not have OpenAI's shape"):
        wire.embeddings(answer)
