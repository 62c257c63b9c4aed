"""Anthropic messages as OpenAI chat completions: what the whole answer and the stream of it have in common.

Thinking reaches the caller as `reasoning_content`. When tools are called, the message also carries `thinking_blocks`,
the signed originals, which the model wants back with the tool results.
"""

from __future__ import annotations

import orjson

from services.llm.providers.provider import Json

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",  # the turn was cut and could be continued: anything but a clean end
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
THOUGHTS = ("thinking", "redacted_thinking")


def completion(message: Json, *, created: int) -> Json:
    """The `chat.completion` object for a Messages API answer. `created` is Unix seconds."""
    choice = {
        "index": 0,
        "message": _message(message),
        "logprobs": None,
        "finish_reason": finish_reason(message.get("stop_reason")),
    }
    return {
        "id": completion_id(message),
        "object": "chat.completion",
        "created": created,
        "model": message["model"],
        "choices": [choice],
        "usage": usage(message.get("usage") or {}),
    }


def completion_id(message: Json) -> str:
    """Their id under OpenAI's prefix: `msg_` names conversation items here."""
    return "chatcmpl-" + str(message["id"]).removeprefix("msg_")


def finish_reason(stop_reason: str | None) -> str:
    return _FINISH_REASONS.get(stop_reason or "", "stop")


def explanation(stop: Json) -> str | None:
    """Why the model refused, if it did and says so; `stop` is what carries `stop_details`."""
    details = stop.get("stop_details")
    return details.get("explanation") if isinstance(details, dict) else None


def usage(counts: Json) -> Json:
    """OpenAI's usage object; its `prompt_tokens` include what was read from or written to the cache, theirs do not."""
    read = counts.get("cache_read_input_tokens") or 0
    written = counts.get("cache_creation_input_tokens") or 0
    prompt = (counts.get("input_tokens") or 0) + read + written
    output = counts.get("output_tokens") or 0
    thinking = (counts.get("output_tokens_details") or {}).get("thinking_tokens") or 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": thinking},
    }


def _message(message: Json) -> Json:
    blocks = message["content"]
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    calls = [_tool_call(block) for block in blocks if block["type"] == "tool_use"]
    thoughts = [block for block in blocks if block["type"] in THOUGHTS]
    reasoning = "".join(block.get("thinking") or "" for block in thoughts)
    answer: Json = {
        "role": "assistant",
        "content": text if text or not calls else None,
        "refusal": explanation(message),
    }
    if reasoning:
        answer["reasoning_content"] = reasoning
    if calls:
        answer["tool_calls"] = calls
    if calls and thoughts:
        answer["thinking_blocks"] = thoughts
    return answer


def _tool_call(block: Json) -> Json:
    arguments = orjson.dumps(block.get("input") or {}).decode()
    return {"id": block["id"], "type": "function", "function": {"name": block["name"], "arguments": arguments}}
