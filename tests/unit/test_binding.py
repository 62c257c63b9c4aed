"""What reaches a method: of a gRPC call its message, of a REST call its path and its body or query (CONTRACT 0.1)."""

from __future__ import annotations

import random
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
from google.api import annotations_pb2, http_pb2, httpbody_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, struct_pb2
from jan.llm.v1 import chat_pb2, items_pb2

from services.runtime import binding, httpbody
from services.runtime.binding import Reader, reader
from services.runtime.errors import InvalidRequest
from services.runtime.transcoder import descriptor_set

RULES = {
    "Create": http_pb2.HttpRule(post="/v1/notes", body="*"),
    "Update": http_pb2.HttpRule(
        patch="/v1/notes/{id}",
        body="*",
        additional_bindings=[http_pb2.HttpRule(post="/v1/notes/{id}", body="*")],
    ),
    "Find": http_pb2.HttpRule(get="/v1/notes"),
    "Get": http_pb2.HttpRule(
        get="/v1/notes/{id}", additional_bindings=[http_pb2.HttpRule(get="/v1/titles/{title}/notes/{id}")]
    ),
    "Upload": http_pb2.HttpRule(put="/v1/notes/{id}/file", body="file"),
    "Internal": http_pb2.HttpRule(),
}
STRING, MESSAGE = {"type": "TYPE_STRING"}, {"type": "TYPE_MESSAGE"}
FIELDS = {
    "id": STRING,
    "title": STRING,
    "count": {"type": "TYPE_INT32"},
    "size": {"type": "TYPE_UINT32"},
    "done": {"type": "TYPE_BOOL"},
    "ratio": {"type": "TYPE_DOUBLE"},
    "tags": STRING | {"label": "LABEL_REPEATED"},
    "parent": MESSAGE | {"type_name": ".binding_test.Note"},
    "children": MESSAGE | {"type_name": ".binding_test.Note", "label": "LABEL_REPEATED"},
    "extra": MESSAGE | {"type_name": ".google.protobuf.Value"},
    "file": MESSAGE | {"type_name": ".google.api.HttpBody"},
}


def _notes() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="binding_test.proto", package="binding_test", syntax="proto3")
    file.dependency[:] = [each.DESCRIPTOR.name for each in (annotations_pb2, httpbody_pb2, struct_pb2)]
    note = file.message_type.add(name="Note")
    for number, (name, kind) in enumerate(FIELDS.items(), 1):
        note.field.add(name=name, number=number, **({"label": "LABEL_OPTIONAL"} | kind))
    note.oneof_decl.add(name="_title")
    note.field[1].proto3_optional, note.field[1].oneof_index = True, 0
    service = file.service.add(name="Notes")
    for name, rule in RULES.items():
        method = service.method.add(name=name, input_type=".binding_test.Note", output_type=".binding_test.Note")
        if rule.WhichOneof("pattern"):
            method.options.Extensions[annotations_pb2.http].CopyFrom(rule)
    return file


descriptor_pool.Default().AddSerializedFile(_notes().SerializeToString())
Note: Any = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName("binding_test.Note"))


def note_reader(method: str) -> Reader:
    return reader(f"/binding_test.Notes/{method}", Note.FromString)


@cache
def _sent(method: str) -> Any:
    """The class of the messages that the gateway sends: of the very descriptors that it has."""
    notes = descriptor_pool.Default().FindFileByName("binding_test.proto")
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_set([notes], [], secret="x").file:
        pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMethodByName(f"binding_test.Notes.{method}").input_type)


def wire(method: str, body: bytes = b"", **variables: str) -> bytes:
    """The bytes that the gateway makes of a REST call."""
    message = _sent(method)(**{f"{name}_x": value for name, value in variables.items()})
    for carrier in (field.name for field in message.DESCRIPTOR.fields if field.name.endswith("_body_x")):
        getattr(message, carrier).content_type = "application/x-www-form-urlencoded"
        getattr(message, carrier).data = body
    return bytes(message.SerializeToString())


def create(body: bytes) -> Any:
    return note_reader("Create")(wire("Create", body), "/v1/notes")


def find(query: str) -> Any:
    return note_reader("Find")(wire("Find"), f"/v1/notes?{query}")


def carrying(body: httpbody_pb2.HttpBody) -> bytes:
    """The bytes of a message with nothing but that body."""
    return bytes(binding._Carrier(raw_body={"data": body.data}).SerializeToString())


def refused(read: Any, *arguments: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as error:
        read(*arguments)
    return error.value


def test_members_without_a_field_go_where_the_message_has_room_for_them() -> None:
    read = reader("/jan.llm.v1.ConversationService/RegenerateItem", items_pb2.RegenerateItemRequest.FromString)
    body = httpbody_pb2.HttpBody(data=b'{"model": "m", "top_k": 5, "extra": {"seed": 1}}')
    asked = read(carrying(body), "/v1/conversations/conv_1/items/msg_1/regenerate")
    assert json_format.MessageToDict(asked) == {"model": "m", "extra": {"top_k": 5.0, "seed": 1.0}}
    body.data = b'{"extra": 5}'
    assert refused(read, carrying(body), "/").param == "extra"


# --- gRPC


@pytest.mark.parametrize("method", RULES)
def test_a_grpc_call_is_its_message(method: str) -> None:
    sent = Note(id="n", title="t", tags=["a"], parent=Note(count=-1))
    assert note_reader(method)(sent.SerializeToString(), None) == sent


@pytest.mark.parametrize("method", RULES)
@pytest.mark.parametrize("path", [None, "/v1/notes"])
def test_bytes_that_are_no_message_are_refused(method: str, path: str | None) -> None:
    assert refused(note_reader(method), b"\xff\xff", path).code == "invalid_parameter"


def test_a_method_without_a_rest_face_reads_nothing_but_messages() -> None:
    sent = Note(title="t")
    assert note_reader("Internal")(sent.SerializeToString(), "/v1/notes?title=other") == sent


def test_a_method_that_takes_bytes_gets_them() -> None:
    service = chat_pb2.DESCRIPTOR.services_by_name["ChatService"].full_name
    read = reader(f"/{service}/CreateChatCompletionHttp", httpbody_pb2.HttpBody.FromString)
    sent = httpbody_pb2.HttpBody(content_type="text/plain", data=b"{")
    assert read(sent.SerializeToString(), "/v1/chat/completions?data=x") == sent


@pytest.mark.parametrize("path", ["", "?", "nonsense", "/v1/notes?%zz=%", "/v1/notes?" + "a." * 1000 + "b=1"])
def test_a_grpc_client_that_claims_to_be_rest_does_no_harm(path: str) -> None:
    """The gateway removes that header; a client on a socket of ours might still send it."""
    sent = Note(title="t", tags=["a"])
    for method in ("Create", "Find", "Update"):
        assert note_reader(method)(sent.SerializeToString(), path) == sent


def forged(field: bytes) -> bytes:
    """A body that is no HttpBody, in the field where the gateway puts one."""
    tag = wire("Create", b"")[:5]
    return tag + bytes([len(field)]) + field


def test_a_forged_body_is_refused_or_empty() -> None:
    assert note_reader("Create")(forged(b"\x08\x05"), "/v1/notes") == Note()
    for field in (b"\x0a\x02\xff\xff", b"\x0a\x01", b"\xff"):
        assert refused(note_reader("Create"), forged(field), "/v1/notes").kind.http == 400


def test_noise_is_read_or_refused_and_nothing_else() -> None:
    noise, whole = random.Random(1), b'{"title":"t","count":-5,"tags":["a"],"parent":{"done":true},"extra":[1,{"a":2}]}'
    for _ in range(2000):
        body = bytearray(whole)
        body[noise.randrange(len(body))] = noise.choice(b'{}[]",:0123456789eE.-tfn\\u\xff\x00 ')
        sent = bytearray(wire("Update", bytes(body), id="n"))
        if noise.random() < 0.5:
            sent[noise.randrange(len(sent))] = noise.randrange(256)
        with suppress(InvalidRequest):
            note_reader("Update")(bytes(sent), "/v1/notes/n")


# --- bodies


def test_a_body_is_the_message() -> None:
    body = b'{"title":"t","count":-5,"tags":["a"],"parent":{"done":true},"extra":[1,null],"unknown":{"x":1}}'
    expected = {"title": "t", "count": -5, "tags": ["a"], "parent": {"done": True}, "extra": [1.0, None]}
    assert json_format.MessageToDict(create(body)) == expected


def test_no_body_is_an_empty_one() -> None:
    assert create(b"") == create(b"{}") == Note()


def test_a_message_read_from_a_body_carries_no_trace_of_it() -> None:
    assert create(b'{"title":"t"}').SerializeToString() == Note(title="t").SerializeToString()


NO_JSON = {
    "half an object": b'{"title": "t"',
    "words": b"hello",
    "only spaces": b"  ",
    "a trailing comma": b'{"title": "t",}',
    "single quotes": b"{'title': 't'}",
    "names without quotes": b'{title: "t"}',
    "a comment": b'{} // "t"',
    "bytes after the end": b"{}x",
    "two values": b"{}{}",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "UTF-8 that is none": b'{"title": "\xff\xfe"}',
    "a naked NUL": b'{"title": "a\0b"}',
    "NaN": b'{"ratio": NaN}',
    "a number without end": b'{"ratio": 1e999}',
    "a leading zero": b'{"count": 01}',
    "half a surrogate pair": b'{"title": "\\ud800"}',
    "nesting without end": b"[" * 100_000,
    "nesting that is too deep": b'{"extra":' + b"[" * 300 + b"]" * 300 + b"}",
    "a form": b"title=t",
}


@pytest.mark.parametrize("name", NO_JSON)
def test_what_is_no_json_is_refused(name: str) -> None:
    error = refused(create, NO_JSON[name])
    assert (error.code, error.param) == ("invalid_json", None)


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b'"x"', b"true"])
def test_json_that_is_no_object_is_refused(body: bytes) -> None:
    assert refused(create, body).code == "invalid_parameter"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"count": "5"}', "count"),
        (b'{"count": 5.0}', "count"),
        (b'{"count": 2147483648}', "count"),
        (b'{"count": 100000000000000000000000}', "count"),
        (b'{"size": -1}', "size"),
        (b'{"done": "true"}', "done"),
        (b'{"title": 5}', "title"),
        (b'{"parent": {"tags": ["a", 1]}}', "parent.tags[1]"),
        (b'{"children": [{}, {"children": [{"done": 1}]}]}', "children[1].children[0].done"),
    ],
)
def test_a_wrong_value_is_named(body: bytes, param: str) -> None:
    error = refused(create, body)
    assert (error.code, error.param) == ("invalid_parameter", param)


def test_the_query_of_a_method_with_a_body_is_not_read() -> None:
    assert note_reader("Create")(wire("Create", b"{}"), "/v1/notes?title=t&count=x") == Note()


def test_the_path_wins_over_the_body() -> None:
    read = note_reader("Update")
    for body in (b'{"id":"other","title":"t"}', b'{"id":5,"title":"t"}', b'{"id":null,"title":"t"}'):
        assert read(wire("Update", body, id="n"), "/v1/notes/n?id=another") == Note(id="n", title="t")
    assert read(wire("Update", b'{"parent":{"id":"p"}}', id="n"), "/v1/notes/n").parent.id == "p"


def test_null_is_absent_where_something_is_made_and_empties_where_it_is_changed() -> None:
    made, changed = create(b'{"title":null}'), note_reader("Update")(wire("Update", b'{"title":null}', id="n"), "/")
    assert (made.HasField("title"), changed.HasField("title"), changed.title) == (False, True, "")
    assert not note_reader("Update")(wire("Update", b"{}", id="n"), "/").HasField("title")


def test_a_raw_body_stays_raw() -> None:
    sent = Note(id="n", file=httpbody_pb2.HttpBody(content_type="image/png", data=b"\x89PNG"))
    read = note_reader("Upload")(sent.SerializeToString(), "/v1/notes/n/file?id=x&title=t&file=x&file.data=x")
    assert read == Note(id="n", title="t", file=sent.file)


# --- queries


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {}),
        ("title=a%20b+c%2B%26%C3%BC", {"title": "a b c+&ü"}),
        ("title=", {}),
        ("title=&count=&done=&tags=&parent.title=", {}),
        ("title", {}),
        ("count=5&size=4294967295", {"count": 5, "size": 2**32 - 1}),
        ("count=-5", {"count": -5}),
        ("ratio=1", {"ratio": 1.0}),
        ("ratio=-2.5e-1", {"ratio": -0.25}),
        ("done=true", {"done": True}),
        ("done=false", {}),
        ("title=5&id=n", {"title": "5", "id": "n"}),
        ("title=a&title=b", {"title": "b"}),
        ("tags=a&tags=b", {"tags": ["a", "b"]}),
        ("tags[]=a&tags%5B%5D=b&tags=c", {"tags": ["a", "b", "c"]}),
        ("parent.title=t&parent.parent.count=3", {"parent": {"title": "t", "parent": {"count": 3}}}),
        ("unknown=1&utm_source=x&Title=t&=x&&.=1&..=2&parent.=3&.title=4", {}),
        ("parent=x&children=x&children.title=x&extra=x&extra.string_value=x&title.x=y", {}),
    ],
)
def test_a_query_is_the_message(query: str, expected: dict[str, Any]) -> None:
    assert json_format.MessageToDict(find(query)) == expected


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("count=x", "count"),
        ("count=5.0", "count"),
        ("count=1e3", "count"),
        ("count=+5", "count"),
        ("count=%2B5", "count"),
        ("count=0x10", "count"),
        ("count=5_0", "count"),
        ("count=%D9%A5", "count"),
        ("count=2147483648", "count"),
        ("count=" + "9" * 5000, "count"),
        ("size=-1", "size"),
        ("ratio=nan", "ratio"),
        ("ratio=Infinity", "ratio"),
        ("ratio=1e999", "ratio"),
        ("done=1", "done"),
        ("done=True", "done"),
        ("parent.parent.size=x", "parent.parent.size"),
        ("parent." * 5000 + "size=1", ".".join(["parent"] * 31)),
    ],
)
def test_a_wrong_parameter_is_named(query: str, param: str) -> None:
    error = refused(find, query)
    assert (error.code, error.param) == ("invalid_parameter", param)


def test_a_query_that_is_no_text_is_refused() -> None:
    assert refused(find, "title=%ff%fe").code == "invalid_parameter"


def test_the_body_of_a_method_without_one_is_not_read() -> None:
    assert note_reader("Find")(wire("Find", b'{"title":'), "/v1/notes?title=t") == Note(title="t")


def test_the_path_wins_over_the_query() -> None:
    read = note_reader("Get")
    assert read(wire("Get", id="n"), "/v1/notes/n?id=other&id[]=x&title=t") == Note(id="n", title="t")


def test_what_the_path_of_another_rule_has_is_a_parameter_here() -> None:
    read = note_reader("Get")
    assert read(wire("Get", id="n"), "/v1/notes/n?title=t&id=other") == Note(id="n", title="t")
    assert read(wire("Get", id="n", title="t"), "/v1/titles/t/notes/n?title=other") == Note(id="n", title="t")


def test_bodies_of_typed_methods_are_read_as_those_of_raw_ones() -> None:
    body = b'{"title":"t"}'
    assert create(body).title == httpbody.parse_object(httpbody_pb2.HttpBody(data=body))["title"]
