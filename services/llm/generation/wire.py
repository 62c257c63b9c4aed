"""Between OpenAI's JSON and the typed messages of `jan.llm.v1`.

Members that a message does not know go into its `extra`, and come from there, so that nothing is lost on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from google.protobuf import struct_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from jan.llm.v1 import chat_pb2, completions_pb2, embeddings_pb2, items_pb2

from services.llm.providers.provider import Json
from services.runtime.errors import UpstreamFailed

M = TypeVar("M", bound=Message)
Setter = Callable[[Any, Any], None]


def chat_body(request: chat_pb2.CreateChatCompletionRequest) -> Json:
    """The OpenAI chat request that a typed one stands for."""
    return _body(request)


def regeneration_body(request: items_pb2.RegenerateItemRequest) -> Json:
    """The parameters of the chat request that a typed one stands for."""
    body = _body(request)
    for name in ("conversation_id", "item_id"):
        body.pop(name, None)
    return body


def completion_body(request: completions_pb2.CreateCompletionRequest) -> Json:
    """The OpenAI text completion request that a typed one stands for."""
    return _body(request)


def embeddings_body(request: embeddings_pb2.CreateEmbeddingsRequest) -> Json:
    """The OpenAI embeddings request that a typed one stands for."""
    return _body(request)


def chat_completion(answer: Json) -> chat_pb2.ChatCompletion:
    """The typed form of a whole answer."""
    with _openai_shape():
        return _message(chat_pb2.ChatCompletion(), answer)


def chat_chunk(chunk: Json) -> chat_pb2.ChatCompletionChunk:
    """The typed form of one chunk."""
    with _openai_shape():
        return _message(chat_pb2.ChatCompletionChunk(), chunk)


def completion(answer: Json) -> completions_pb2.Completion:
    """The typed form of a text completion or a part of one."""
    with _openai_shape():
        return _message(completions_pb2.Completion(), answer)


def embeddings(answer: Json) -> embeddings_pb2.CreateEmbeddingsResponse:
    """The typed form of an embeddings answer; base64 vectors go into their own field."""
    with _openai_shape():
        rows = [
            {**row, "embedding": [], "embedding_base64": row["embedding"]} if isinstance(row["embedding"], str) else row
            for row in answer["data"]
        ]
        return _message(embeddings_pb2.CreateEmbeddingsResponse(), {**answer, "data": rows})


def _body(request: Message) -> Json:
    body = _json(request)
    body.pop("stream", None)  # the method called says whether the answer is streamed
    body.pop("request_id", None)  # between the caller and the door
    return body


def _json(message: Message) -> Json:
    """A message as JSON: fields that are set, under their own names, and the members of `extra` beside them."""
    body: Json = {}
    for field, value in message.ListFields():
        if field.name == "extra":
            body = {**plain_struct(value), **body}
        elif field.message_type is None:
            body[field.name] = list(value) if field.is_repeated else value
        elif field.message_type.GetOptions().map_entry:
            body[field.name] = {key: _whole(each) for key, each in value.items()}
        elif field.is_repeated:
            body[field.name] = [_plain(each) for each in value]
        else:
            body[field.name] = _plain(value)
    return body


def _plain(value: Message) -> Any:
    if isinstance(value, struct_pb2.Value):
        return _plain_value(value)
    if isinstance(value, struct_pb2.Struct):
        return plain_struct(value)
    return _json(value)


def plain_struct(struct: struct_pb2.Struct) -> Json:
    """A free object as JSON; whole numbers are integers."""
    return {name: _plain_value(value) for name, value in struct.fields.items()}


def _plain_value(value: struct_pb2.Value) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            return plain_struct(value.struct_value)
        case "list_value":
            return [_plain_value(each) for each in value.list_value.values]
        case "number_value":
            return _whole(value.number_value)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None


def _whole(value: Any) -> Any:
    """Numbers in a Struct are doubles; `top_k: 40.0` would be refused where `40` is meant."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


@contextmanager
def _openai_shape() -> Iterator[None]:
    """A value of another type than OpenAI's is the provider's fault."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UpstreamFailed("The model provider's answer does not have OpenAI's shape") from error


def _message(message: M, data: Json) -> M:
    """Fill a message from JSON by its own fields; null is the same as absent."""
    setters = _setters(message.DESCRIPTOR)
    for name, value in data.items():
        if value is None:
            continue
        setter = setters.get(name)
        if setter is not None:
            setter(message, value)
        elif "extra" in setters:
            _value(message.extra.fields[name], value)  # type: ignore[attr-defined]  # checked by the setters
    return message


_known: dict[str, dict[str, Setter]] = {}


def _setters(descriptor: Any) -> dict[str, Setter]:
    """How each field of a message type is set; worked out once per type."""
    found = _known.get(descriptor.full_name)
    if found is None:
        found = _known[descriptor.full_name] = {field.name: _setter(field) for field in descriptor.fields}
    return found


def _setter(field: FieldDescriptor) -> Setter:
    name, inner = field.name, field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        return lambda message, value: getattr(message, name).update(value)
    if field.is_repeated:
        if inner is None:
            return lambda message, value: getattr(message, name).extend(value)
        fill = _filler(inner)

        def add_all(message: Any, value: Any) -> None:
            rows = getattr(message, name)
            for each in value:
                fill(rows.add(), each)

        return add_all
    if inner is None:
        return lambda message, value: setattr(message, name, value)
    fill = _filler(inner)

    def fill_one(message: Any, value: Any) -> None:
        target = getattr(message, name)
        target.SetInParent()
        fill(target, value)

    return fill_one


def _filler(inner: Descriptor) -> Setter:
    if inner.full_name == "google.protobuf.Value":
        return _value
    if inner.full_name == "google.protobuf.Struct":
        return _struct
    return _message


def _struct(target: struct_pb2.Struct, value: Json) -> None:
    for name, each in value.items():
        _value(target.fields[name], each)


def _value(target: struct_pb2.Value, value: Any) -> None:
    if value is None:
        target.null_value = struct_pb2.NULL_VALUE
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int | float):
        target.number_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, list):
        target.list_value.SetInParent()
        for each in value:
            _value(target.list_value.values.add(), each)
    else:
        target.struct_value.SetInParent()
        _struct(target.struct_value, value)
