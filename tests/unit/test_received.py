"""What is kept of an answer, from chunks and from whole ones, whatever an upstream puts into them."""

from typing import Any

import pytest

from services.llm.conversations.item_store import Draft
from services.llm.conversations.received import Received
from tests.fake_upstream import USAGE, chunk, completion


def kept(*chunks: dict[str, Any], reasoning: bool = False) -> dict[str, Any] | None:
    """What of the item is not as it is without saying."""
    received = Received()
    for each in chunks:
        received.take(each)
    draft = received.draft(model="m", seconds=1.2344, reasoning=reasoning)
    return None if draft is None else told(draft)


def told(draft: Draft) -> dict[str, Any]:
    usual = Draft(role="assistant", id=draft.id)
    names = ("content", "status", "model", "usage", "finish_reason", "latency_ms", "tool_calls", "reasoning_content")
    return {name: getattr(draft, name) for name in names if getattr(draft, name) != getattr(usual, name)}


END = chunk({}, finish_reason="stop")
DONE = {"model": "m", "latency_ms": 1234, "finish_reason": "stop"}


def test_the_texts_of_chunks_are_joined() -> None:
    assert kept(chunk({"role": "assistant", "content": "Hello"}), chunk({"content": " world"}), END) == {
        **DONE,
        "content": "Hello world",
    }


def test_without_an_end_it_is_incomplete() -> None:
    assert kept(chunk({"content": "Hel"})) == {
        "model": "m",
        "latency_ms": 1234,
        "content": "Hel",
        "status": "incomplete",
    }


def test_where_nothing_was_said_there_is_nothing_to_keep() -> None:
    assert kept() is None
    assert kept(chunk({"role": "assistant", "content": ""})) is None
    assert kept(chunk({"reasoning_content": "Hm"})) is None
    assert kept(chunk({"reasoning_content": "Hm"}), reasoning=True) is not None


def test_an_answer_may_be_empty() -> None:
    assert kept(END) == {**DONE, "content": ""}


def test_parts_of_calls_are_joined_by_their_index() -> None:
    def part(index: int, **members: Any) -> dict[str, Any]:
        return chunk({"tool_calls": [{"index": index, **members}]})

    said = kept(
        part(0, id="call_1", type="function", function={"name": "a", "arguments": ""}),
        part(1, id="call_2", function={"name": "b", "arguments": "{"}),
        part(0, function={"arguments": '{"x":1}'}),
        part(1, function={"arguments": "}"}),
        chunk({}, finish_reason="tool_calls"),
    )
    assert said is not None
    assert said["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "a", "arguments": '{"x":1}'}},
        {"id": "call_2", "type": "function", "function": {"name": "b", "arguments": "{}"}},
    ]


@pytest.mark.parametrize(
    "delta",
    [
        *({"content": value} for value in (5, {}, [5], None)),
        *(
            {"tool_calls": value}
            for value in (5, "x", [5], [{}], [{"index": []}], [{"function": 5}], [{"function": {"name": 5}}])
        ),
        {"reasoning_content": 5},
    ],
)
def test_what_has_another_shape_than_openai_s_breaks_nothing(delta: Any) -> None:
    assert kept(chunk({"content": "a"}), chunk(delta), END, reasoning=True) is not None


def test_an_answer_is_finished_when_every_choice_that_has_begun_is() -> None:
    received = Received()
    seen = []
    for index, reason in ((0, None), (0, "stop"), (1, None), (1, "stop")):
        received.take(chunk({}, index=index, finish_reason=reason))
        seen.append(received.finished)
    assert seen == [False, True, False, True]


def test_a_whole_answer_is_taken_at_once() -> None:
    received = Received()
    received.take_whole(completion("Hello"))
    draft = received.draft(model="m", seconds=1.2344, reasoning=False)
    assert draft is not None
    assert told(draft) == {**DONE, "content": "Hello", "usage": USAGE}


def test_a_whole_answer_without_a_reason_has_ended_all_the_same() -> None:
    answer = completion("Hello")
    answer["choices"][0]["finish_reason"] = None
    received = Received()
    received.take_whole(answer)
    draft = received.draft(model="m", seconds=1, reasoning=False)
    assert draft is not None
    assert (draft.status, draft.finish_reason) == ("completed", "stop")


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({}, None),
        ({"prompt_tokens": "5"}, None),
        ({"prompt_tokens": -1, "completion_tokens": 2**31, "total_tokens": 7.5}, None),
        ({**USAGE, "estimated": True, "details": {}}, USAGE),
    ],
)
def test_of_a_usage_the_counts_are_kept(usage: Any, counts: Any) -> None:
    received = Received()
    received.take(END)
    received.spend(usage)
    draft = received.draft(model="m", seconds=1, reasoning=False)
    assert draft is not None
    assert draft.usage == counts


def test_text_is_kept_as_postgresql_can_have_it() -> None:
    said = kept(chunk({"content": "a\0b", "reasoning_content": "\0c"}), END, reasoning=True)
    assert said is not None
    assert (said["content"], said["reasoning_content"]) == ("ab", "c")


def test_a_refusal_is_what_was_said() -> None:
    said = kept(chunk({"refusal": "I would rather not"}), END)
    assert said is not None
    assert said["content"] == "I would rather not"
