"""What a model is sent in a conversation: order, repetition, calls of tools, and what is left out for want of room."""

from typing import Any

import pytest

from services.llm.conversations.history import LONGEST_TITLE, Past, Prompt, compose, draft_of, replayed, title_of
from services.llm.generation.token_counts import estimate_prompt
from services.runtime.errors import InvalidRequest

EMPTY = {"content": None, "tool_calls": None, "tool_call_id": None, "name": None}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Hanoi"}'}}
OUTPUT = {"role": "tool", "content": "30 °C", "tool_call_id": "call_1"}


def item(role: str, content: Any = None, **members: Any) -> dict[str, Any]:
    """A stored item."""
    return {**EMPTY, "id": "msg_1", "type": "message", "role": role, "content": content, **members}


def stored_call(call_id: str = "call_1", **members: Any) -> dict[str, Any]:
    made = {"type": "function_call", "name": "weather", "arguments": "{}", "call_id": call_id, "output": None}
    return item("assistant", **{**made, **members})


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def composed(
    messages: list[Any], items: list[Any], *, standing: tuple[str, ...] = (), window: int = 0, **members: Any
) -> Prompt:
    return compose({"model": "m", "messages": messages, **members}, standing, Past(items), window=window)


TALK = [item("user", "One"), item("assistant", "1"), item("user", "Two"), item("assistant", "2")]

# Order


def test_instructions_come_first_then_what_was_said_then_what_is_new() -> None:
    given = [user("Three"), {"role": "developer", "content": "Be brief"}, {"role": "system", "content": "In English"}]
    assert composed(given, TALK, standing=("Count", "", "Friendly")) == Prompt(
        messages=[
            {"role": "system", "content": "Count"},
            {"role": "system", "content": "Friendly"},
            {"role": "developer", "content": "Be brief"},
            {"role": "system", "content": "In English"},
            *(user("One"), assistant("1"), user("Two"), assistant("2"), user("Three")),
        ],
        new=[user("Three")],
        trimmed=False,
    )


def test_new_messages_pass_with_all_that_they_have() -> None:
    message = {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}], "name": "Ann", "x": 1}
    assert composed([message], []).messages[0] is message


def test_a_stored_media_id_stays_as_it_is() -> None:
    content = [{"type": "image_url", "image_url": {"url": "jan_01k9x4zzzzzzzzzzzzzzzzzzzz"}}]
    assert replayed([item("user", content)]) == [{"role": "user", "content": content}]


def test_parts_of_the_responses_api_become_those_of_chats() -> None:
    given = [
        {"type": "input_text", "text": "a"},
        {"type": "output_text", "text": "b", "annotations": []},
        {"type": "input_image", "image_url": "https://example.com/c.png"},
        {"type": "refusal", "refusal": "d"},
    ]
    assert replayed([item("user", given)])[0]["content"] == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b"},
        {"type": "image_url", "image_url": {"url": "https://example.com/c.png"}},
        {"type": "refusal", "refusal": "d"},
    ]


# What is stored already


def test_a_message_that_still_waits_for_an_answer_is_not_new() -> None:
    prompt = composed([user("Three")], [*TALK, item("user", "Three")])
    assert (prompt.messages[-1], prompt.new) == (user("Three"), [])
    assert prompt.messages.count(user("Three")) == 1


def test_a_message_that_was_answered_is_new_again() -> None:
    assert composed([user("Two")], TALK).new == [user("Two")]


def test_a_message_in_other_words_is_new() -> None:
    assert composed([user("Three!")], [*TALK, item("user", "Three")]).new == [user("Three!")]


def test_what_follows_a_message_that_waits_is_new() -> None:
    assert composed([user("Three"), user("Four")], [*TALK, item("user", "Three")]).new == [user("Four")]


def test_outputs_of_tools_are_not_stored_twice_either() -> None:
    items = [item("user", "Weather?"), item("assistant", "", tool_calls=[CALL]), item(**OUTPUT)]
    prompt = composed([OUTPUT, user("And?")], items)
    assert prompt.new == [user("And?")]
    assert [each["role"] for each in prompt.messages] == ["user", "assistant", "tool", "user"]


def test_the_same_message_is_known_by_its_stored_form() -> None:
    given = {"role": "user", "content": [{"type": "input_text", "text": "Hi"}], "refusal": None}
    draft = draft_of(given)
    assert composed([given], [item(draft.role, draft.content)]).new == []


# Calls of tools


def test_stored_calls_and_outputs_are_replayed_as_messages() -> None:
    items = [
        item("user", "Weather?"),
        item("assistant", "", tool_calls=[CALL]),
        item(**OUTPUT),
        item("assistant", "Hot"),
    ]
    assert composed([user("Thanks")], items).messages == [
        user("Weather?"),
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        OUTPUT,
        assistant("Hot"),
        user("Thanks"),
    ]


def test_items_of_calls_become_one_message_and_its_outputs() -> None:
    items = [
        item("user", "Weather?"),
        item("assistant", "Let me see"),
        stored_call("call_1"),
        stored_call("call_2"),
        item("tool", type="function_call_output", call_id="call_1", output={"celsius": 30}),
        item("tool", type="function_call_output", call_id="call_2", output="cold"),
        item("assistant", type="reasoning", content="Hm"),
        item("assistant", type="mcp_call", id="mcp_1", name="search", arguments="{}", call_id=None, output="found"),
    ]
    function = {"name": "weather", "arguments": "{}"}
    calls = [{"id": name, "type": "function", "function": function} for name in ("call_1", "call_2")]
    search = {"id": "mcp_1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
    assert replayed(items) == [
        user("Weather?"),
        {"role": "assistant", "content": "Let me see", "tool_calls": calls},
        {"role": "tool", "content": '{"celsius":30}', "tool_call_id": "call_1"},
        {"role": "tool", "content": "cold", "tool_call_id": "call_2"},
        {"role": "assistant", "content": None, "tool_calls": [search]},
        {"role": "tool", "content": "found", "tool_call_id": "mcp_1"},
    ]


def test_a_call_is_answered_by_a_new_message() -> None:
    items = [item("user", "Weather?"), item("assistant", "", tool_calls=[CALL])]
    assert composed([OUTPUT], items).messages[1:] == [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        OUTPUT,
    ]


def test_a_call_that_nobody_answered_is_left_out() -> None:
    other = {**CALL, "id": "call_2"}
    items = [item("user", "Weather?"), item("assistant", "One moment", tool_calls=[CALL, other]), item(**OUTPUT)]
    assert composed([user("So?")], items).messages[1]["tool_calls"] == [CALL]
    items[2] = item("assistant", "", tool_calls=[other])
    assert composed([user("So?")], items).messages == [user("Weather?"), assistant("One moment"), user("So?")]


def test_an_output_without_its_call_is_left_out() -> None:
    assert composed([user("So?")], [item(**OUTPUT), item("user", "Hi")]).messages == [user("Hi"), user("So?")]


# What does not fit


def test_the_oldest_turns_are_left_out_whole() -> None:
    window = estimate_prompt([user("Two"), assistant("2"), user("Three")])
    prompt = composed([user("Three")], TALK, window=window + 1, max_tokens=1)
    assert (prompt.messages, prompt.trimmed) == ([user("Two"), assistant("2"), user("Three")], True)


def test_a_history_that_fits_exactly_stays_whole() -> None:
    every = [user("One"), assistant("1"), user("Two"), assistant("2"), user("Three")]
    size = estimate_prompt(every)
    assert composed([user("Three")], TALK, window=size + 1, max_tokens=1) == Prompt(
        every, [user("Three")], trimmed=False
    )
    assert composed([user("Three")], TALK, window=size, max_tokens=1).trimmed


def test_a_turn_is_not_cut_between_a_call_and_its_output() -> None:
    turn = [
        item("user", "Weather?"),
        item("assistant", "", tool_calls=[CALL]),
        item(**OUTPUT),
        item("assistant", "Hot"),
    ]
    whole = estimate_prompt(replayed(turn))
    for window in range(20, whole + 40):
        roles = [each["role"] for each in composed([user("So?")], turn, window=window).messages]
        assert roles in (["user"], ["user", "assistant", "tool", "assistant", "user"])


def test_the_calls_that_are_answered_now_are_never_left_out() -> None:
    items = [*TALK, item("user", "Weather?"), item("assistant", "", tool_calls=[CALL])]
    needed = estimate_prompt([user("Weather?"), {"role": "assistant", "content": None, "tool_calls": [CALL]}, OUTPUT])
    prompt = composed([OUTPUT], items, window=needed)
    assert (prompt.trimmed, [each["role"] for each in prompt.messages]) == (True, ["user", "assistant", "tool"])
    with pytest.raises(InvalidRequest):
        composed([OUTPUT], items, window=needed - 1)


def test_a_history_that_begins_in_the_middle_of_a_turn_goes_on_with_the_next_one() -> None:
    past = Past([item(**OUTPUT), item("assistant", "Hot"), item("user", "Two"), item("assistant", "2")], whole=False)
    prompt = compose({"messages": [user("Three")]}, (), past, window=1000)
    assert prompt == Prompt([user("Two"), assistant("2"), user("Three")], [user("Three")], trimmed=True)


def test_what_is_new_must_fit_by_itself() -> None:
    with pytest.raises(InvalidRequest) as error:
        composed([user("word " * 100)], TALK, window=100)
    assert (error.value.code, error.value.param) == ("context_length_exceeded", "messages")


def test_a_message_that_is_repeated_must_fit_as_well() -> None:
    with pytest.raises(InvalidRequest):
        composed([user("word " * 100)], [item("user", "word " * 100)], window=100)


def test_instructions_and_tools_take_their_room() -> None:
    every = estimate_prompt(replayed(TALK)) + estimate_prompt([user("Three")]) + 1
    assert not composed([user("Three")], TALK, window=every, max_tokens=1).trimmed
    assert composed([user("Three")], TALK, window=every, max_tokens=1, standing=("Be brief",)).trimmed
    assert composed([user("Three")], TALK, window=every, max_tokens=1, tools=[{"type": "function"}]).trimmed


def test_room_is_kept_for_the_answer() -> None:
    size = estimate_prompt(replayed(TALK)) + estimate_prompt([user("Three")])
    assert composed([user("Three")], TALK, window=size).trimmed
    assert not composed([user("Three")], TALK, window=size * 8 // 7 + 1).trimmed
    assert composed([user("Three")], TALK, window=size + 19, max_tokens=20).trimmed
    assert not composed([user("Three")], TALK, window=size * 2, max_completion_tokens=10**6).trimmed


# Titles


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("Hello", "Hello"),
        ("  Two\n\n lines\t here ", "Two lines here"),
        ("a\0b\x1b[1m", "ab[1m"),
        ("\x07 bell\x08 \x00 rings\r\n", "bell rings"),
        ([{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "What is it?"}], "What is it?"),
        ([{"type": "input_text", "text": "Hi"}], "Hi"),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 59 + "…"),
        ("word " * 20, "word " * 11 + "word…"),
        ("a" * 59 + " b", "a" * 59 + "…"),
        ("👩‍👩‍👧 family", "👩‍👩‍👧 family"),
    ],
)
def test_a_title_is_the_first_text_of_the_user_on_one_line(content: Any, title: str) -> None:
    assert title_of([assistant("Welcome"), {"role": "user", "content": content}, user("more")]) == title
    assert len(title) <= LONGEST_TITLE


@pytest.mark.parametrize("content", ["", " \n", None, [], [{"type": "image_url", "image_url": {"url": "x"}}]])
def test_without_a_text_there_is_no_title(content: Any) -> None:
    assert title_of([assistant("Welcome"), {"role": "user", "content": content}]) is None
