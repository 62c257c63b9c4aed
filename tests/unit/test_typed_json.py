"""JSON into messages: the right types or a refusal that names the member to blame."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, struct_pb2
from jan.llm.v1 import chat_pb2

from services.runtime.errors import InvalidRequest
from services.runtime.typed_json import DEEPEST, MOST, clear, fill, refuse_many

SCALARS = {"text": "STRING", "flag": "BOOL", "ratio": "DOUBLE", "small": "INT32", "count": "UINT32", "wide": "INT64"}


def _things() -> Any:
    """A message with a field of every kind: each scalar plain, `maybe_…` and in `many_…`, and all that hold others."""
    file = descriptor_pb2.FileDescriptorProto(name="typed_json_test.proto", package="typed_json_test", syntax="proto3")
    file.dependency.append(struct_pb2.DESCRIPTOR.name)
    thing = file.message_type.add(name="Thing")
    kinds: dict[str, dict[str, str]] = {name: {"type": f"TYPE_{scalar}"} for name, scalar in SCALARS.items()}
    kinds["child"] = {"type": "TYPE_MESSAGE", "type_name": ".typed_json_test.Thing"}
    for free in ("Value", "Struct", "ListValue"):
        kinds[f"free_{free.lower()}"] = {"type": "TYPE_MESSAGE", "type_name": f".google.protobuf.{free}"}
    for name, kind in kinds.items():
        _add(thing, name, "TYPE_OPTIONAL", kind)
        _add(thing, f"many_{name}", "TYPE_REPEATED", kind)
        if "type_name" not in kind:
            thing.oneof_decl.add(name=f"_maybe_{name}")
            field = _add(thing, f"maybe_{name}", "TYPE_OPTIONAL", kind)
            field.proto3_optional, field.oneof_index = True, len(thing.oneof_decl) - 1
    for name in ("text", "small", "child", "free_value"):
        entry = thing.nested_type.add(name=f"Of{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add(entry, "key", "TYPE_OPTIONAL", {"type": "TYPE_STRING"})
        _add(entry, "value", "TYPE_OPTIONAL", kinds[name])
        map_ = {"type": "TYPE_MESSAGE", "type_name": f".typed_json_test.Thing.{entry.name}"}
        _add(thing, f"of_{name}", "TYPE_REPEATED", map_)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("typed_json_test.Thing"))


def _add(message: Any, name: str, label: str, kind: dict[str, str]) -> Any:
    return message.field.add(name=name, number=len(message.field) + 1, label=label.replace("TYPE", "LABEL"), **kind)


Thing = _things()


def filled(members: dict[str, Any]) -> Any:
    message = Thing()
    fill(message, members)
    return message


def refused(members: dict[str, Any]) -> str | None:
    """The parameter to blame."""
    with pytest.raises(InvalidRequest) as error:
        filled(members)
    assert error.value.code == "invalid_parameter"
    assert f"'{error.value.param}'" in error.value.message
    return error.value.param


GOOD: list[dict[str, Any]] = [
    {"text": "a\0ü\u2028\U0001f600", "flag": True, "ratio": 1.5, "small": -(2**31), "count": 2**32 - 1},
    {"maybe_text": "", "maybe_flag": False, "maybe_ratio": 0.0, "maybe_small": 0, "maybe_count": 0},
    {"many_text": ["a", ""], "many_flag": [True, False], "many_ratio": [1.0, -2.5], "many_small": [2**31 - 1, -1]},
    {"child": {"child": {"text": "deep"}}, "many_child": [{"text": "a"}, {}]},
    {"of_text": {"a": "b", "": ""}, "of_small": {"a.b": 1}, "of_child": {"x": {"small": 3}, "y": {}}},
    {"free_value": {"a": [1.0, None, True, "x", {}, []]}},
    {"free_value": "text"},
    {"free_value": False},
    {"free_struct": {"a": {"b": [None]}, "c": 2.5}, "free_listvalue": [1.0, [2.0], {"a": None}]},
    {"many_free_value": [None, 1.0, "x", []], "of_free_value": {"a": None, "b": {"c": 1.0}}},
    {"many_free_struct": [{}, {"a": 1.0}], "many_free_listvalue": [[], [None]]},
]


@pytest.mark.parametrize("members", GOOD, ids=str)
def test_a_message_says_what_its_json_said(members: dict[str, Any]) -> None:
    message = filled(members)
    assert json_format.MessageToDict(message, preserving_proto_field_name=True) == members
    assert Thing.FromString(message.SerializeToString()) == message


def test_empty_objects_and_arrays_are_seen() -> None:
    message = filled({"child": {}, "free_struct": {}, "free_value": {}, "many_text": [], "of_text": {}})
    assert {field.name for field, _ in message.ListFields()} == {"child", "free_struct", "free_value"}
    assert message.free_value.WhichOneof("kind") == "struct_value"


def test_whole_numbers_are_numbers() -> None:
    message = filled({"ratio": 3, "maybe_ratio": 2**60, "many_ratio": [1, 2]})
    assert (message.ratio, message.maybe_ratio, list(message.many_ratio)) == (3.0, 2.0**60, [1.0, 2.0])


def test_null_is_absent_but_in_a_free_value() -> None:
    names = [*(f"{prefix}{name}" for name in SCALARS for prefix in ("", "maybe_", "many_"))]
    assert filled(dict.fromkeys([*names, "child", "many_child", "of_text", "free_struct", "free_listvalue"])) == Thing()
    assert filled({"free_value": None}).free_value.HasField("null_value")


def test_members_that_are_no_field_are_ignored() -> None:
    assert filled({"nothing": 1, "Text": "x", "maybeText": "x", "": 0, "__class__": {}, "FromString": []}) == Thing()
    assert filled({"wide": "no form in JSON", "many_wide": 1, "maybe_wide": {}}) == Thing()


NO = {
    "text": [5, 1.5, True, [], {}, ["a"]],
    "flag": [0, 1, "true", "", [], {}],
    "ratio": ["1.5", "", True, [], {}, float("inf"), float("nan")],
    "small": ["5", 5.0, 1.5, True, [], {}, 2**31, -(2**31) - 1, 1e30],
    "count": ["5", 5.0, False, -1, 2**32, 2**64],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in NO.items() for value in values])
def test_nothing_is_taken_for_what_it_is_not(name: str, value: Any) -> None:
    assert refused({name: value}) == name
    assert refused({f"maybe_{name}": value}) == f"maybe_{name}"
    assert refused({f"many_{name}": [value]}) == f"many_{name}[0]"


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"many_text": "a"}, "many_text"),
        ({"many_text": {}}, "many_text"),
        ({"many_text": ["a", None]}, "many_text[1]"),
        ({"child": []}, "child"),
        ({"child": "x"}, "child"),
        ({"child": {"child": {"flag": 1}}}, "child.child.flag"),
        ({"many_child": {}}, "many_child"),
        ({"many_child": [{}, None]}, "many_child[1]"),
        ({"many_child": [{}, {"many_child": [{"text": 1}]}]}, "many_child[1].many_child[0].text"),
        ({"of_text": []}, "of_text"),
        ({"of_text": {"k": 5}}, "of_text.k"),
        ({"of_text": {"k": None}}, "of_text.k"),
        ({"of_small": {"k": "5"}}, "of_small.k"),
        ({"of_child": {"k": 5}}, "of_child.k"),
        ({"of_child": {"k": {"flag": "no"}}}, "of_child.k.flag"),
        ({"free_struct": []}, "free_struct"),
        ({"free_listvalue": {}}, "free_listvalue"),
        ({"many_free_value": 1}, "many_free_value"),
    ],
)
def test_the_path_to_the_blame_is_given(members: dict[str, Any], param: str) -> None:
    assert refused(members) == param


def test_a_real_request_names_its_members() -> None:
    with pytest.raises(InvalidRequest) as error:
        fill(chat_pb2.CreateChatCompletionRequest(), {"messages": [{"role": "user", "name": 5}]})
    assert error.value.param == "messages[0].name"


@pytest.mark.parametrize("around", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_what_is_taken_can_be_sent_on_and_what_is_nested_deeper_is_refused(around: Any) -> None:
    value: Any = 1.0
    for _ in range(DEEPEST):
        value = around(value)
    message = filled({"child": {"child": {"free_value": value}}})
    assert Thing.FromString(message.SerializeToString()) == message
    assert refused({"free_value": around(value)}) == "free_value"
    assert refused({"many_free_value": [around(value)]}) == "many_free_value[0]"
    assert refused({"child": {"free_struct": {"a": value}}}) == "child.free_struct"
    assert refused({"free_listvalue": [value]}) == "free_listvalue"


def test_messages_within_messages_have_an_end() -> None:
    members: dict[str, Any] = {"text": "inmost"}
    for _ in range(DEEPEST):
        members = {"child": members}
    message = filled(members)
    assert Thing.FromString(message.SerializeToString()) == message
    for _ in range(1000):
        members = {"child": members}
    assert refused(members) == ".".join(["child"] * (DEEPEST + 1))


def test_an_error_repeats_no_long_name() -> None:
    assert refused({"of_text": {"k" * 100_000: 5}}) == "of_text." + "k" * 64
    assert refused({"of_child": {"k" * 100_000: {"flag": 5}}}) == "of_child." + "k" * 64 + ".flag"


def test_an_update_empties_what_is_null_and_can_be() -> None:
    members = {
        "maybe_text": None,
        "maybe_small": None,
        "child": None,
        "free_struct": None,
        "text": None,
        "many_text": None,
        "maybe_flag": None,
    }
    message = filled(members)
    clear(message, {**members, "nothing": None})
    assert {field.name for field, _ in message.ListFields()} == {"maybe_text", "maybe_small", "child", "free_struct"}
    assert message.ByteSize() == Thing(maybe_text="", maybe_small=0, child=Thing(), free_struct={}).ByteSize()


def test_many_values_are_refused_before_they_are_read() -> None:
    refuse_many({"many": [0] * (MOST - 2), "text": "," * MOST})
    for members in ({"many": [0] * MOST}, {"many": [[0] * 1000] * 1000}, {"free": {str(n): {} for n in range(MOST)}}):
        with pytest.raises(InvalidRequest, match="100,000 values"):
            refuse_many(members)
