"""What Anthropic's stream events become as OpenAI chunks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletionChunk

from services.llm.providers.anthropic.stream import StreamTranslator
from services.runtime.errors import ApiError, RateLimited, Unavailable, UpstreamFailed

CREATED = 1700000000
SHARED = {"id": "chatcmpl-01", "object": "chat.completion.chunk", "created": CREATED, "model": "claude-opus-5"}
START = {
    "type": "message_start",
    "message": {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-5",
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 25, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 0},
    },
}
TEXT = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
STOP = {"type": "message_stop"}


def delta(index: int, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def hello(words: str = "Hello") -> dict[str, Any]:
    return delta(0, type="text_delta", text=words)


def opened(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def closed(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def ended(stop_reason: str, **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason, "stop_sequence": None}, "usage": usage}


def translator() -> StreamTranslator:
    return StreamTranslator(created=CREATED, provider="claude")


def streamed(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every chunk of a stream, each one valid for OpenAI's SDK."""
    under_test = translator()
    chunks = [orjson.loads(chunk) for event in events for chunk in under_test.feed(event)]
    chunks += [orjson.loads(chunk) for chunk in under_test.finish()]
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
    return chunks


def chunk(finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": fields, "logprobs": None, "finish_reason": finish_reason}
    return {**SHARED, "choices": [choice]}


ROLE = chunk(role="assistant", content="", refusal=None)


def usage_chunk(prompt: int, cached: int, output: int, *, thinking: int = 0) -> dict[str, Any]:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": thinking},
    }
    return {**SHARED, "choices": [], "usage": usage}


def deltas(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [choice["delta"] for each in chunks for choice in each["choices"]]


def test_text_with_the_role_first_and_the_usage_last():
    events = [START, TEXT, {"type": "ping"}, hello(), hello(" there"), closed(0), ended("end_turn", output_tokens=6)]
    assert streamed([*events, STOP]) == [
        ROLE,
        chunk(content="Hello"),
        chunk(content=" there"),
        chunk("stop"),
        usage_chunk(30, 5, 6),
    ]


def test_parallel_tool_calls_are_numbered_by_call_not_by_block():
    events = [
        START,
        TEXT,
        hello("Let me look"),
        closed(0),
        opened(1, type="tool_use", id="toolu_1", name="weather", input={}),
        delta(1, type="input_json_delta", partial_json=""),
        delta(1, type="input_json_delta", partial_json='{"city"'),
        delta(1, type="input_json_delta", partial_json=':"Oslo"}'),
        closed(1),
        opened(2, type="tool_use", id="toolu_2", name="time", input={}),
        delta(2, type="input_json_delta", partial_json=""),
        closed(2),
        ended("tool_use", output_tokens=9),
        STOP,
    ]
    weather = {"index": 0, "id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    time = {"index": 1, "id": "toolu_2", "type": "function", "function": {"name": "time", "arguments": ""}}
    assert streamed(events) == [
        ROLE,
        chunk(content="Let me look"),
        chunk(tool_calls=[weather]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"city"'}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": ':"Oslo"}'}}]),
        chunk(tool_calls=[time]),
        chunk(tool_calls=[{"index": 1, "function": {"arguments": "{}"}}]),
        chunk("tool_calls"),
        usage_chunk(30, 5, 9),
    ]


def test_thinking_is_reasoning_and_its_signature_follows_a_tool_call():
    events = [
        START,
        opened(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="Look "),
        delta(0, type="thinking_delta", thinking="it up"),
        delta(0, type="signature_delta", signature="c2ln"),
        closed(0),
        opened(1, type="redacted_thinking", data="eA=="),
        closed(1),
        opened(2, type="tool_use", id="toolu_1", name="time", input={"zone": "UTC"}),
        closed(2),
        ended("tool_use", output_tokens=9, output_tokens_details={"thinking_tokens": 4}),
        STOP,
    ]
    chunks = streamed(events)
    assert deltas(chunks)[1:3] == [{"reasoning_content": "Look "}, {"reasoning_content": "it up"}]
    assert deltas(chunks)[4] == {"tool_calls": [{"index": 0, "function": {"arguments": '{"zone":"UTC"}'}}]}
    assert deltas(chunks)[5] == {
        "thinking_blocks": [
            {"type": "thinking", "thinking": "Look it up", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "eA=="},
        ]
    }
    assert chunks[-1] == usage_chunk(30, 5, 9, thinking=4)


def test_thinking_before_plain_text_carries_no_signature():
    events = [
        START,
        opened(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="Easy"),
        delta(0, type="signature_delta", signature="c2ln"),
        closed(0),
        opened(1, type="text", text=""),
        delta(1, type="text_delta", text="4"),
        closed(1),
        ended("end_turn", output_tokens=3),
        STOP,
    ]
    assert deltas(streamed(events))[1:] == [{"reasoning_content": "Easy"}, {"content": "4"}, {}]


def test_a_refusal_is_explained_before_the_finish_reason():
    stop = {"stop_reason": "refusal", "stop_details": {"type": "refusal", "category": None, "explanation": "No."}}
    chunks = streamed([START, {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 0}}, STOP])
    assert chunks[1:3] == [chunk(refusal="No."), chunk("content_filter")]


def test_counts_that_are_left_out_later_keep_their_first_value():
    later = ended("end_turn", input_tokens=40, cache_read_input_tokens=None, output_tokens=8)
    assert streamed([START, TEXT, hello(), closed(0), later, STOP])[-1] == usage_chunk(45, 5, 8)


def test_what_is_not_known_makes_no_chunk():
    events = [
        {"type": "future_event"},
        closed(0),
        START,
        opened(0, type="server_tool_use", id="srvtoolu_1", name="web_search", input={}),
        delta(0, type="input_json_delta", partial_json='{"query":"x"}'),
        closed(0),
        opened(1, type="web_search_tool_result", tool_use_id="srvtoolu_1", content=[]),
        closed(1),
        delta(2, type="citations_delta", citation={}),
        delta(2, type="future_delta"),
        ended("end_turn", output_tokens=1),
        STOP,
        {"type": "ping"},
    ]
    assert streamed(events) == [ROLE, chunk("stop"), usage_chunk(30, 5, 1)]


def test_a_stop_reason_without_message_stop_is_a_complete_answer():
    assert streamed([START, TEXT, hello(), closed(0), ended("max_tokens", output_tokens=1)])[-2] == chunk("length")


@pytest.mark.parametrize("events", [[], [START], [START, TEXT, hello()], [START, TEXT, hello(), closed(0)]])
def test_a_cut_stream_is_never_a_clean_finish(events: list[dict[str, Any]]):
    under_test = translator()
    for event in events:
        under_test.feed(event)
    assert not under_test.complete
    with pytest.raises(UpstreamFailed, match="broke off"):
        under_test.finish()


def test_a_stream_without_its_beginning_is_no_answer():
    with pytest.raises(UpstreamFailed, match="began in the middle"):
        translator().feed(hello())
    headless = translator()
    headless.feed(ended("end_turn", output_tokens=1))
    with pytest.raises(UpstreamFailed, match="broke off"):
        headless.finish()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", Unavailable),
        ("rate_limit_error", RateLimited),
        ("api_error", UpstreamFailed),
        ("something_new", UpstreamFailed),
    ],
)
def test_an_error_event_raises_what_happened(kind: str, expected: type[ApiError]):
    under_test = translator()
    under_test.feed(START)
    with pytest.raises(expected):
        under_test.feed({"type": "error", "error": {"type": kind, "message": "sorry"}})
