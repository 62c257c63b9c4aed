"""What an OpenAI chat body becomes on its way to Anthropic, and what is refused or reported as lost."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from services.llm.providers.anthropic.request import dropped, request
from services.llm.providers.anthropic.schema import narrowed
from services.runtime.errors import InvalidRequest

HELLO = [{"role": "user", "content": "Hello"}]
HELLO_TURN = {"role": "user", "content": [{"type": "text", "text": "Hello"}]}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Weather now", "parameters": {"type": "object", "properties": {}}},
}
WEATHER_TOOL = {
    "name": "weather",
    "description": "Weather now",
    "input_schema": {"type": "object", "properties": {}},
}
TIME = {"type": "function", "function": {"name": "time"}}
TIME_TOOL = {"name": "time", "input_schema": {"type": "object", "properties": {}}}
OLD, LAST_SAMPLED, CURRENT = "claude-sonnet-4-5-20250929", "claude-sonnet-4-6", "claude-opus-5"


def body(**fields: Any) -> dict[str, Any]:
    return {"model": OLD, "messages": HELLO, **fields}


def asked(**fields: Any) -> dict[str, Any]:
    return request(body(**fields), stream=False)


def call(identifier: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


def messages_of(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    return asked(messages=list(messages))["messages"]


def test_a_plain_request_says_no_more_than_it_must():
    assert asked() == {"model": OLD, "max_tokens": 4096, "messages": [HELLO_TURN]}


def test_streaming_is_asked_for_only_when_wanted():
    assert request(body(stream=False), stream=True)["stream"] is True
    assert "stream" not in request(body(stream=True), stream=False)


def test_a_full_conversation_with_parallel_tool_calls():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather in Oslo and Rome?"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [call("call_1", "weather", '{"city": "Oslo"}'), call("call_2", "weather", "")],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "Snow"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "Sun"}]},
        {"role": "developer", "content": [{"type": "text", "text": "Answer in French."}]},
        {"role": "user", "content": "Well?"},
    ]
    assert asked(messages=messages, tools=[WEATHER]) == {
        "model": OLD,
        "max_tokens": 4096,
        "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Answer in French."}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Weather in Oslo and Rome?"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me look."},
                    {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}},
                    {"type": "tool_use", "id": "call_2", "name": "weather", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "Snow"}]},
                    {"type": "tool_result", "tool_use_id": "call_2", "content": [{"type": "text", "text": "Sun"}]},
                    {"type": "text", "text": "Well?"},
                ],
            },
        ],
        "tools": [WEATHER_TOOL],
    }


def test_images_and_files_become_blocks():
    parts = [
        {"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,QUJD", "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}},
    ]
    assert messages_of({"role": "user", "content": parts}) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "QUJD"}},
                {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
                {
                    "type": "document",
                    "title": "a.pdf",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "QUJD"},
                },
            ],
        }
    ]


def test_blank_text_which_the_api_refuses_is_left_out():
    blank = {"type": "text", "text": " \n"}
    assert messages_of({"role": "user", "content": [blank, {"type": "text", "text": "Hello"}]}) == [HELLO_TURN]
    assert messages_of(*HELLO, {"role": "assistant", "content": ""}) == [HELLO_TURN]


def test_only_system_messages_become_the_users_turn():
    assert asked(messages=[{"role": "system", "content": "Hello"}]) == {
        "model": OLD,
        "max_tokens": 4096,
        "messages": [HELLO_TURN],
    }


def test_tool_ids_of_other_providers_are_respelled_on_both_sides():
    turns = messages_of(
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call("functions.weather:0", "weather", "{}")]},
        {"role": "tool", "tool_call_id": "functions.weather:0", "content": ""},
    )
    assert turns[1]["content"] == [{"type": "tool_use", "id": "functions_weather_0", "name": "weather", "input": {}}]
    assert turns[2]["content"] == [{"type": "tool_result", "tool_use_id": "functions_weather_0"}]


def test_signed_thoughts_go_back_first_and_unchanged():
    thought = {"type": "thinking", "thinking": "Hm", "signature": "c2ln"}
    turns = messages_of(
        *HELLO,
        {
            "role": "assistant",
            "content": "So",
            "reasoning_content": "Hm",
            "thinking_blocks": [thought],
            "tool_calls": [call("call_1", "weather", "{}")],
        },
    )
    assert [block["type"] for block in turns[1]["content"]] == ["thinking", "text", "tool_use"]
    assert turns[1]["content"][0] == thought


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        ({"role": "user", "content": [{"type": "input_audio"}]}, "messages[0].content[0]", "invalid_parameter"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text", "invalid_parameter"),
        ({"role": "user", "content": 7}, "messages[0].content", "invalid_parameter"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://example.org/a.png"}}]},
            "messages[0].content[0].image_url.url",
            "invalid_url",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,abc"}}]},
            "messages[0].content[0].image_url.url",
            "invalid_data_url",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/tiff;base64,QQ=="}}]},
            "messages[0].content[0].image_url.url",
            "unsupported_media_type",
        ),
        (
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "file_1"}}]},
            "messages[0].content[0]",
            None,
        ),
        (
            {"role": "assistant", "tool_calls": [call("call_1", "weather", "{")]},
            "messages[0].tool_calls[0].function.arguments",
            "invalid_parameter",
        ),
        (
            {"role": "assistant", "tool_calls": [call("call_1", "weather", "[1]")]},
            "messages[0].tool_calls[0].function.arguments",
            "invalid_parameter",
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "custom", "custom": {}}]},
            "messages[0].tool_calls[0]",
            None,
        ),
        ({"role": "assistant", "function_call": {"name": "f"}}, "messages[0].function_call", None),
        ({"role": "tool", "content": "x"}, "messages[0].tool_call_id", None),
        ({"role": "function", "content": "x"}, "messages[0].role", None),
        (
            {"role": "system", "content": [{"type": "image_url", "image_url": "https://x/y"}]},
            "messages[0].content",
            None,
        ),
        ({"role": "user", "content": ""}, "messages", None),
    ],
)
def test_what_cannot_be_said_names_its_place(message: dict[str, Any], param: str, code: str | None):
    with pytest.raises(InvalidRequest) as refused:
        asked(messages=[message])
    assert refused.value.param == param
    assert refused.value.code == (code or "invalid_parameter")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": "Hello"}, "messages"),
        ({"messages": []}, "messages"),
        ({"n": 2}, "n"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"stop": 7}, "stop"),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
        ({"thinking": True}, "thinking"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": "sometimes"}, "tool_choice"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": [TIME]}}},
            "tool_choice.allowed_tools.tools",
        ),
    ],
)
def test_parameters_without_counterpart_that_would_change_the_answer_are_refused(fields: dict[str, Any], param: str):
    with pytest.raises(InvalidRequest) as refused:
        asked(**fields)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", None),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "weather"}}, {"type": "tool", "name": "weather"}),
    ],
)
def test_tool_choice(choice: Any, expected: Any):
    assert asked(tools=[WEATHER], tool_choice=choice).get("tool_choice") == expected


def test_parallel_tool_calls_can_be_switched_off():
    serial = asked(tools=[WEATHER], parallel_tool_calls=False)
    assert serial["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    forced = asked(tools=[WEATHER], parallel_tool_calls=False, tool_choice="required")
    assert forced["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert asked(tools=[WEATHER], parallel_tool_calls=False, tool_choice="none")["tool_choice"] == {"type": "none"}


def test_an_allow_list_offers_only_the_allowed_tools():
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TIME]}}
    result = asked(tools=[WEATHER, TIME], tool_choice=choice)
    assert (result["tools"], result["tool_choice"]) == ([TIME_TOOL], {"type": "any"})


def test_strict_tools_have_their_schema_narrowed():
    parameters = {"type": "object", "properties": {"days": {"type": "integer", "minimum": 1}}, "required": ["days"]}
    tool = {"type": "function", "function": {"name": "forecast", "strict": True, "parameters": parameters}}
    assert asked(tools=[tool])["tools"] == [
        {
            "name": "forecast",
            "strict": True,
            "input_schema": {
                "type": "object",
                "properties": {"days": {"type": "integer", "description": "{minimum: 1}"}},
                "required": ["days"],
                "additionalProperties": False,
            },
        }
    ]


def test_anthropics_own_server_tools_pass():
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    assert asked(tools=[search])["tools"] == [search]


def test_tools_of_the_history_are_declared_when_the_request_has_none():
    history = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call("a", "time", "{}"), call("b", "time", "{}")]},
        {"role": "tool", "tool_call_id": "a", "content": "noon"},
        {"role": "tool", "tool_call_id": "b", "content": "noon"},
    ]
    result = asked(messages=history)
    assert (result["tools"], result["tool_choice"]) == ([TIME_TOOL], {"type": "none"})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 0.2}, {"temperature": 0.2}),
        ({"temperature": 1.8}, {"temperature": 1}),
        ({"temperature": 0.2, "top_p": 0.5}, {"temperature": 0.2}),
        ({"top_p": 0.5, "top_k": 40}, {"top_p": 0.5, "top_k": 40}),
        ({"top_p": 1}, {}),
        ({"max_tokens": 10}, {"max_tokens": 10}),
        ({"max_tokens": 10, "max_completion_tokens": 20}, {"max_tokens": 20}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["END", "\n"]}, {"stop_sequences": ["END"]}),
        ({"user": "u"}, {"metadata": {"user_id": "u"}}),
        ({"user": "u", "safety_identifier": "s"}, {"metadata": {"user_id": "s"}}),
        ({"cache_control": {"type": "ephemeral"}}, {"cache_control": {"type": "ephemeral"}}),
        ({"n": 1, "seed": 1, "logprobs": True, "conversation": "conv_1"}, {}),
    ],
)
def test_parameters(fields: dict[str, Any], expected: dict[str, Any]):
    assert asked(**fields) == {"model": OLD, "max_tokens": 4096, "messages": [HELLO_TURN], **expected}


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        (
            OLD,
            {"reasoning_effort": "low"},
            {"max_tokens": 6144, "thinking": {"type": "enabled", "budget_tokens": 2048}},
        ),
        (OLD, {"reasoning_effort": "none"}, {"max_tokens": 4096, "thinking": {"type": "disabled"}}),
        (
            OLD,
            {"reasoning_effort": "high", "max_completion_tokens": 5000, "temperature": 0.3},
            {"max_tokens": 5000, "thinking": {"type": "enabled", "budget_tokens": 4999}},
        ),
        (OLD, {"reasoning_effort": "high", "max_completion_tokens": 1024}, {"max_tokens": 1024}),
        (
            OLD,
            {"thinking": {"type": "enabled", "budget_tokens": 2000}, "top_k": 5},
            {"max_tokens": 6096, "thinking": {"type": "enabled", "budget_tokens": 2000}},
        ),
        (
            "kimi-k2",
            {"reasoning_effort": "minimal"},
            {"max_tokens": 5120, "thinking": {"type": "enabled", "budget_tokens": 1024}},
        ),
        (LAST_SAMPLED, {"temperature": 0.3}, {"max_tokens": 20480, "temperature": 0.3}),
        (CURRENT, {"temperature": 0.3}, {"max_tokens": 20480}),
        (CURRENT, {"reasoning_effort": "none"}, {"max_tokens": 4096, "thinking": {"type": "disabled"}}),
        (
            CURRENT,
            {"reasoning_effort": "medium"},
            {
                "max_tokens": 12288,
                "thinking": {"type": "adaptive", "display": "summarized"},
                "output_config": {"effort": "medium"},
            },
        ),
    ],
)
def test_reasoning_effort_in_the_words_of_the_models_generation(
    model: str, fields: dict[str, Any], expected: dict[str, Any]
):
    assert asked(model=model, **fields) == {"model": model, "messages": [HELLO_TURN], **expected}


@pytest.mark.parametrize(
    ("model", "takes_budget"),
    [
        ("claude-3-7-sonnet-20250219", True),
        ("claude-sonnet-4-20250514", True),
        ("claude-opus-4-0", True),
        ("claude-4-opus-20250514", True),
        ("claude-opus-4-1@20250805", True),
        ("claude-haiku-4-5", True),
        ("claude-opus-4-6", False),
        ("claude-opus-4-10", False),
        ("claude-haiku-5-5", False),
        ("claude-mythos-preview", False),
    ],
)
def test_the_generation_of_a_model_is_told_by_its_name(model: str, takes_budget: bool):
    assert (asked(model=model, reasoning_effort="low")["thinking"]["type"] == "enabled") is takes_budget


def test_a_forced_tool_rules_thinking_out_but_not_effort():
    forced = {"tools": [WEATHER], "tool_choice": "required", "reasoning_effort": "low"}
    assert "thinking" not in asked(**forced)
    assert dropped(body(**forced)) == ["reasoning_effort"]
    current = asked(model=CURRENT, **forced)
    assert ("thinking" in current, current["output_config"]) == (False, {"effort": "low"})
    assert dropped(body(model=CURRENT, **forced)) == []


def test_a_tool_round_whose_thoughts_are_lost_goes_on_without_thinking():
    round_ = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call("a", "weather", "{}")]},
        {"role": "tool", "tool_call_id": "a", "content": "Snow"},
    ]
    fields = {"messages": round_, "tools": [WEATHER], "reasoning_effort": "low"}
    assert "thinking" not in asked(**fields)
    assert dropped(body(**fields)) == ["reasoning_effort"]
    assert "thinking" in asked(**fields | {"messages": [*round_, *HELLO]})


def test_a_json_schema_becomes_a_structured_output():
    schema = {"type": "object", "properties": {"name": {"type": "string", "pattern": "^a"}}, "required": ["name"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": schema}}
    assert asked(response_format=wanted)["output_config"] == {
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"name": {"type": "string", "description": '{pattern: "^a"}'}},
                "required": ["name"],
                "additionalProperties": False,
            },
        }
    }


def test_a_json_object_can_only_be_asked_for_in_words():
    wish = {"type": "text", "text": "Answer with one valid JSON object and nothing else."}
    assert asked(response_format={"type": "json_object"})["system"] == [wish]
    assert "system" not in asked(response_format={"type": "text"})


def test_schemas_keep_what_can_be_enforced_and_tell_the_rest():
    assert narrowed(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Order",
            "description": "An order",
            "minProperties": 1,
            "properties": {
                "at": {"type": "string", "format": "date-time"},
                "code": {"type": ["string", "null"], "format": "iban"},
                "lines": {"type": "array", "items": {"$ref": "#/$defs/Line", "description": "lost"}, "minItems": 2},
                "tags": {"type": "array", "items": True, "minItems": 1},
                "kind": {"oneOf": [{"const": "a"}, {"enum": ["b", "c"]}]},
            },
            "additionalProperties": True,
            "$defs": {"Line": {"type": "object"}},
        }
    ) == {
        "title": "Order",
        "description": "An order\n\n{minProperties: 1}",
        "properties": {
            "at": {"type": "string", "format": "date-time"},
            "code": {"type": ["string", "null"], "description": '{format: "iban"}'},
            "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}, "description": "{minItems: 2}"},
            "tags": {"type": "array", "items": True, "minItems": 1},
            "kind": {"anyOf": [{"const": "a"}, {"enum": ["b", "c"]}]},
        },
        "additionalProperties": False,
        "$defs": {"Line": {"type": "object", "properties": {}, "additionalProperties": False}},
    }


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"temperature": 0.2, "top_k": 4, "user": "u", "stop": "END", "stream_options": {}, "n": 1}, []),
        ({"logprobs": False, "presence_penalty": 0, "logit_bias": {}, "modalities": ["text"], "store": False}, []),
        (
            {"seed": 0, "logprobs": True, "top_logprobs": 3, "frequency_penalty": 0.1, "min_p": 0.1},
            ["frequency_penalty", "logprobs", "min_p", "seed", "top_logprobs"],
        ),
        ({"temperature": 0.2, "top_p": 0.5}, ["top_p"]),
        ({"temperature": 0.2, "top_p": 1}, []),
        ({"stop": ["\n", "END"]}, ["stop"]),
        ({"model": CURRENT, "temperature": 0.2, "top_p": 0.5, "top_k": 4}, ["temperature", "top_k", "top_p"]),
        ({"reasoning_effort": "low", "temperature": 0.2}, ["temperature"]),
        ({"reasoning_effort": "low", "max_tokens": 100}, ["reasoning_effort"]),
        ({"reasoning_effort": "none"}, []),
    ],
)
def test_dropped_parameters_are_named(fields: dict[str, Any], expected: list[str]):
    assert dropped(body(**fields)) == expected


def test_translating_leaves_the_callers_body_alone():
    original = body(
        messages=[*HELLO, *HELLO, {"role": "assistant", "content": "x", "tool_calls": [call("a", "weather", "{}")]}],
        tools=[WEATHER],
        parallel_tool_calls=False,
        reasoning_effort="high",
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    )
    before = deepcopy(original)
    request(original, stream=True)
    assert original == before
