"""Which content and metadata are kept, as given, and which are refused by name."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2
from jan.llm.v1 import items_pb2

from services.llm.conversations import content
from services.llm.conversations.content import (
    MOST_CHARACTERS,
    MOST_PARTS,
    check_storable,
    content_of,
    draft,
    metadata_of,
)
from services.runtime.errors import InvalidRequest
from services.runtime.typed_json import DEEPEST, fill

TEXT = {"type": "text", "text": "hello"}
JAN_ID = "jan_" + "0" * 26


def value(given: Any) -> struct_pb2.Value:
    return json_format.ParseDict(given, struct_pb2.Value())


def nested(depth: int, inner: Any) -> Any:
    for _ in range(depth):
        inner = {"a": inner}
    return inner


@pytest.mark.parametrize(
    "given",
    [
        "",
        "text \U0001f600 \u2028 \"'\\",
        "x" * MOST_CHARACTERS,
        [TEXT],
        [TEXT] * MOST_PARTS,
        [{"type": "text", "text": "x" * (MOST_CHARACTERS // 2)}] * 2,
        [
            {"type": "input_text", "text": ""},
            {"type": "output_text", "text": "b"},
            {"type": "refusal", "refusal": "no"},
        ],
        [{"type": "image_url", "image_url": {"url": "https://a.test/b.png", "detail": "low"}}],
        [{"type": "image_url", "image_url": {"url": JAN_ID}}],
        [{"type": "input_image", "image_url": "data:image/png;base64," + "A" * 2 * MOST_CHARACTERS}],
        [{**TEXT, "annotations": [{"start": 1, "end": 2.5, "note": None, "sure": True}], "index": 2**53}],
    ],
    ids=lambda given: str(given)[:60],
)
def test_content_is_kept_as_it_was_given(given: Any) -> None:
    kept = content_of(value(given), "content")
    assert kept == given
    assert type(kept) is type(given)


def test_whole_numbers_stay_whole() -> None:
    (part,) = content_of(value([{**TEXT, "index": 3, "score": 0.5, "huge": 1e300}]), "content")
    assert [type(part[name]) for name in ("index", "score", "huge")] == [int, float, float]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        (None, "content"),
        (5, "content"),
        (True, "content"),
        (TEXT, "content"),
        ([], "content"),
        ("x" * (MOST_CHARACTERS + 1), "content"),
        ([TEXT] * (MOST_PARTS + 1), "content"),
        ([TEXT, {"type": "text", "text": "x" * MOST_CHARACTERS}], "content"),
        ([{**TEXT, "smuggled": ["x" * MOST_CHARACTERS]}], "content"),
        ("a\0b", "content"),
        (["text"], "content[0]"),
        ([None], "content[0]"),
        ([TEXT, [TEXT]], "content[1]"),
        ([{}], "content[0].type"),
        ([{"type": "video"}], "content[0].type"),
        ([{"type": ["text"]}], "content[0].type"),
        ([{"type": "text"}], "content[0].text"),
        ([{"type": "text", "text": 5}], "content[0].text"),
        ([{"type": "refusal", "text": "no"}], "content[0].refusal"),
        ([TEXT, {"type": "text", "text": "\0"}], "content[1].text"),
        ([{**TEXT, "a": [{"b": "\0"}]}], "content[0].a[0].b"),
        ([{**TEXT, "\0": 1}], "content[0].\0"),
        ([{"type": "image_url"}], "content[0].image_url"),
        ([{"type": "image_url", "image_url": {}}], "content[0].image_url.url"),
        ([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}], "content[0].image_url.url"),
        ([{"type": "input_image", "image_url": "javascript:alert(1)"}], "content[0].image_url"),
        ([{"type": "input_image", "image_url": 5}], "content[0].image_url"),
    ],
    ids=lambda given: str(given)[:60],
)
def test_what_is_no_content_is_refused_by_its_path(given: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        content_of(value(given), "content")
    assert error.value.param == param
    assert len(error.value.message) < 300


def test_content_that_is_not_set_is_required() -> None:
    with pytest.raises(InvalidRequest, match="required") as error:
        draft(items_pb2.NewItem(role="user"), "items[3].")
    assert error.value.param == "items[3].content"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_are_refused(number: float) -> None:
    given = value([{**TEXT, "score": 1}])
    given.list_value.values[0].struct_value.fields["score"].number_value = number
    with pytest.raises(InvalidRequest) as error:
        content_of(given, "content")
    assert error.value.param == "content[0].score"


@pytest.mark.parametrize("innermost", ["x", {}, []])
def test_what_is_kept_can_be_shown_again(innermost: Any) -> None:
    """`typed_json`, which has a limit of its own, makes the shown item of it."""
    deepest = DEEPEST if innermost == "x" else DEEPEST - 1
    kept = content_of(value([{**TEXT, "more": nested(deepest - 2, innermost)}]), "content")
    item = items_pb2.Item()
    fill(item, {"content": kept})
    assert json_format.MessageToDict(items_pb2.Item.FromString(item.SerializeToString()))["content"] == kept
    with pytest.raises(InvalidRequest, match="levels deep"):
        content_of(value([{**TEXT, "more": nested(deepest - 1, innermost)}]), "content")


def test_a_draft_has_what_the_message_says_and_defaults_for_the_rest() -> None:
    bare = draft(items_pb2.NewItem(role="user", content=value("a")))
    assert (bare.role, bare.content, bare.type, bare.content_type) == ("user", "a", "message", "text")
    assert (bare.status, bare.metadata, bare.tool_call_id) == ("completed", {}, None)
    full = draft(
        items_pb2.NewItem(
            role="tool", content=value("a"), content_type="markdown", metadata={"k": "v"}, tool_call_id="call_1"
        )
    )
    assert (full.content_type, full.metadata, full.tool_call_id) == ("markdown", {"k": "v"}, "call_1")
    assert bare.id.startswith("msg_")
    assert bare.id != full.id


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"content_type": "\0"}, "item.content_type"),
        ({"tool_call_id": "a\0"}, "item.tool_call_id"),
        ({"metadata": {"k": "\0"}}, "item.metadata.k"),
        ({"content": value("\0")}, "item.content"),
    ],
)
def test_no_field_of_a_message_has_the_character_that_postgresql_lacks(fields: dict[str, Any], param: str) -> None:
    message = items_pb2.NewItem(**{"role": "user", "content": value("a"), **fields})
    with pytest.raises(InvalidRequest) as error:
        draft(message, "item.")
    assert error.value.param == param


@pytest.mark.parametrize("given", [{}, {"k" * 64: "v" * 512}, {str(n): "" for n in range(16)}, {"ü\n": "\t"}])
def test_metadata_within_its_bounds_is_kept(given: dict[str, str]) -> None:
    assert metadata_of(json_format.ParseDict(given, struct_pb2.Struct())) == given


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"a": "x", "b": 5}, "metadata.b"),
        ({"a": None}, "metadata.a"),
        ({"a": {"b": "x"}}, "metadata.a"),
        ({"a": "\0"}, "metadata.a"),
        ({"": "x"}, "metadata[]"),
        ({"a": "x" * 513}, "metadata[a]"),
        ({str(n): "" for n in range(17)}, "metadata"),
    ],
    ids=lambda given: str(given)[:60],
)
def test_metadata_out_of_bounds_is_refused_by_its_key(given: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        metadata_of(json_format.ParseDict(given, struct_pb2.Struct()))
    assert error.value.param == param


def test_a_line_has_no_control_characters() -> None:
    assert content.line(" Łódź \U0001f600 ", "title") == " Łódź \U0001f600 "
    for wrong in ("\0", "\n", "\x1b", "\x7f", "\x9f"):
        with pytest.raises(InvalidRequest) as error:
            content.line(f"a{wrong}b", "title")
        assert error.value.param == "title"


AUDIO = {"type": "input_audio", "input_audio": {"data": "x" * MOST_CHARACTERS, "format": "wav"}}


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "function", "name": "f", "content": "1"}, "messages[1].role"),
        ({"role": "user", "content": "a\0"}, "messages[1].content"),
        ({"role": "user", "content": [{"type": "text", "text": "\0"}]}, "messages[1].content[0].text"),
        ({"role": "user", "content": "a", "x\0": 1}, "messages[1]"),
        ({"role": "user", "content": "x" * (MOST_CHARACTERS + 1)}, "messages[1].content"),
        ({"role": "tool", "content": [TEXT, {**TEXT, "text": "x" * MOST_CHARACTERS}]}, "messages[1].content"),
        ({"role": "user", "content": [TEXT] * (MOST_PARTS + 1)}, "messages[1].content"),
    ],
)
def test_a_message_that_no_conversation_can_keep_is_named(message: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        check_storable([{"role": "user", "content": "\\u0000"}, message])
    assert error.value.param == param


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "x" * MOST_CHARACTERS},
        {"role": "user", "content": [TEXT, AUDIO]},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": "x" * MOST_CHARACTERS * 2}}]},
        {"role": "system", "content": "\0" * MOST_CHARACTERS * 2},
    ],
)
def test_what_is_no_text_or_not_kept_may_be_longer(message: Any) -> None:
    check_storable([message])
