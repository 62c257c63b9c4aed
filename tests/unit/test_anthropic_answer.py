"""What a whole Anthropic message becomes as an OpenAI chat completion."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from services.llm.providers.anthropic.answer import completion

USAGE = {"input_tokens": 10, "output_tokens": 5}


def message(*content: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "id": "msg_01ABC",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-5",
        "content": list(content),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": USAGE,
        **fields,
    }


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def translated(*content: dict[str, Any], **fields: Any) -> dict[str, Any]:
    whole = completion(message(*content, **fields), created=1700000000)
    ChatCompletion.model_validate(whole)
    return whole


def test_text():
    assert translated(text("Hello "), text("there")) == {
        "id": "chatcmpl-01ABC",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "claude-opus-5",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello there", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def test_tool_calls_carry_the_signed_thoughts_that_led_to_them():
    thoughts = [
        {"type": "thinking", "thinking": "Look it up", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "eA=="},
    ]
    calls = [
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo", "days": 2}},
        {"type": "tool_use", "id": "toolu_2", "name": "time", "input": {}},
    ]
    choice = translated(*thoughts, *calls, stop_reason="tool_use")["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "Look it up",
        "tool_calls": [
            {
                "id": "toolu_1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city":"Oslo","days":2}'},
            },
            {"id": "toolu_2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
        ],
        "thinking_blocks": thoughts,
    }


def test_thoughts_without_tool_calls_need_no_signature():
    thought = {"type": "thinking", "thinking": "Easy", "signature": "c2ln"}
    assert translated(thought, text("4"))["choices"][0]["message"] == {
        "role": "assistant",
        "content": "4",
        "refusal": None,
        "reasoning_content": "Easy",
    }


def test_blocks_of_server_tools_are_left_out():
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    answer = translated(search, found, text("Found"))["choices"][0]["message"]
    assert answer == {"role": "assistant", "content": "Found", "refusal": None}


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_stop_reasons(stop_reason: str, finish_reason: str):
    assert translated(text("x"), stop_reason=stop_reason)["choices"][0]["finish_reason"] == finish_reason


def test_a_refusal_is_explained():
    details = {"type": "refusal", "category": "bio", "explanation": "Not this."}
    choice = translated(stop_reason="refusal", stop_details=details)["choices"][0]
    assert (choice["message"]["refusal"], choice["message"]["content"]) == ("Not this.", "")


def test_usage_counts_cached_tokens_as_prompt_tokens():
    counts = {
        "input_tokens": 10,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 30,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 4},
    }
    assert translated(text("x"), usage=counts)["usage"] == {
        "prompt_tokens": 140,
        "completion_tokens": 7,
        "total_tokens": 147,
        "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
