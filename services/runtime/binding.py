"""What a call says, as the message of its method: protobuf from gRPC clients, JSON and query parameters from REST.

Over REST a message arrives with the variables of its path and with the body as it came (transcoder.py); the query is in
the path that the client asked for. With a body `*` in its http rule a method reads the body, otherwise the query. A
variable of the path wins over a member or a parameter of its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import Any
from urllib.parse import parse_qsl

from google.api import httpbody_pb2
from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError

from services.runtime.errors import InvalidRequest
from services.runtime.httpbody import parse_object
from services.runtime.routes import http_rules, verb_and_path
from services.runtime.transcoder import HTTP_BODY, RAW_BODY, path_variables
from services.runtime.typed_json import MOST, clear, fill, refuse_many

STRUCT = "google.protobuf.Struct"
LIMIT = "limit"  # of a list: whatever number it is, it is brought into range (CONTRACT 0.3)
_LARGE = re.compile(r"^(-?)0*[0-9]{10,}$")

Reader = Callable[[bytes, str | None], Any]
"""Makes the request of a call from its bytes and, over REST, the path and query that the client sent."""


def reader(method: str, decode: Callable[[bytes], Any]) -> Reader:
    """The reader for `/package.Service/Method`, whose messages `decode` reads. It raises `InvalidRequest`."""

    def read(data: bytes, path: str | None) -> Any:
        return _decoded(decode, data)

    described = descriptor_pool.Default().FindMethodByName(method[1:].replace("/", "."))
    rules = http_rules(described.GetOptions())
    if not rules or described.input_type.full_name == HTTP_BODY:
        return read
    variables, updates = path_variables(rules), any(verb_and_path(each)[0] == "PATCH" for each in rules)

    def read_rest(data: bytes, path: str | None) -> Any:
        message = _decoded(decode, data)
        if path is None:
            return message
        carrier = _decoded(_Carrier.FromString, data)
        message.DiscardUnknownFields()
        if carrier.HasField("raw_body"):
            members = parse_object(carrier.raw_body)
            if len(carrier.raw_body.data) > MOST:  # below there is no room for so many
                refuse_many(members)
        else:
            members = _query(message.DESCRIPTOR, path.partition("?")[2])
        in_path = {name for name in variables if getattr(message, name)}  # a variable is never empty
        members = {name: value for name, value in members.items() if name not in in_path}
        fill(message, _gathered(message.DESCRIPTOR, members))
        if updates:
            clear(message, members)
        return message

    return read_rest


def _gathered(kind: Descriptor, members: dict[str, Any]) -> dict[str, Any]:
    """For a message that has `extra`, the members that it has no field for are put there."""
    extra, given = kind.fields_by_name.get("extra"), members.get("extra", {})
    free = extra is not None and extra.message_type is not None and extra.message_type.full_name == STRUCT
    if not free or not isinstance(given, dict):
        return members
    unknown = {name: value for name, value in members.items() if name not in kind.fields_by_name}
    return {**members, "extra": {**given, **unknown}} if unknown else members


def _decoded(decode: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return decode(data)
    except DecodeError as error:
        raise InvalidRequest("The request is not a message of the type that this method takes") from error


def _carrier() -> Any:
    """The class of a message with nothing but a body in the field that the gateway adds."""
    file = FileDescriptorProto(name="carrier.proto", syntax="proto3", dependency=[httpbody_pb2.DESCRIPTOR.name])
    file.message_type.add(name="Carrier", field=[RAW_BODY])
    pool = descriptor_pool.DescriptorPool()
    for each in (any_pb2.DESCRIPTOR.serialized_pb, httpbody_pb2.DESCRIPTOR.serialized_pb, file.SerializeToString()):
        pool.AddSerializedFile(each)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Carrier"))


_Carrier = _carrier()


def _query(kind: Descriptor, query: str) -> dict[str, Any]:
    """The parameters of a query as the JSON that they stand for. Empty ones and those of no field are left out."""
    members: dict[str, Any] = {}
    for name, text in _parameters(query):
        *outer, last = name.removesuffix("[]").split(".")
        holder, within = _inside(kind, outer), members
        field = holder.fields_by_name.get(last) if holder else None
        if field is None or field.message_type is not None:
            continue
        for each in outer:
            within = within.setdefault(each, {})
        value = _TEXTS.get(field.type, str)(text if last != LIMIT else _LARGE.sub(r"\g<1>2147483647", text))
        if field.is_repeated:
            within.setdefault(last, []).append(value)
        else:
            within[last] = value
    return members


def _parameters(query: str) -> Iterable[tuple[str, str]]:
    try:
        return parse_qsl(query, errors="strict") if query else ()
    except UnicodeDecodeError as error:
        raise InvalidRequest("The query is not percent-encoded UTF-8") from error


def _inside(kind: Descriptor | None, names: Collection[str]) -> Descriptor | None:
    """The type of the message at the end of these fields, if each of them is one message of ours."""
    for name in names:
        field = kind.fields_by_name.get(name) if kind else None
        kind = field.message_type if field and not field.is_repeated else None
        kind = None if kind and kind.full_name.startswith("google.") else kind
    return kind


def _integer(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?[0-9]{1,10}", text) else text


def _number(text: str) -> float | str:
    return float(text) if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?", text) else text


def _boolean(text: str) -> bool | str:
    return {"true": True, "false": False}.get(text, text)


# What is no such value stays text, which the field then refuses by its name.
_TEXTS: dict[int, Callable[[str], Any]] = {
    FieldDescriptor.TYPE_BOOL: _boolean,
    FieldDescriptor.TYPE_DOUBLE: _number,
    FieldDescriptor.TYPE_INT32: _integer,
    FieldDescriptor.TYPE_UINT32: _integer,
}
