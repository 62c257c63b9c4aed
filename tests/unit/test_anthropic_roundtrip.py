"""Streamed or whole, a message becomes the same completion, wherever its stream happens to be cut."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from services.llm.providers.anthropic.answer import completion
from services.llm.providers.anthropic.stream import StreamTranslator

Json = dict[str, Any]
CREATED = 1700000000


@pytest.mark.parametrize("seed", range(60))
def test_the_accumulated_stream_equals_the_whole_answer(seed: int):
    message = message_by(random.Random(seed))
    translator = StreamTranslator(created=CREATED, provider="claude")
    chunks = [chunk for event in events_of(message, random.Random(seed)) for chunk in translator.feed(event)]
    assert accumulated([orjson.loads(chunk) for chunk in chunks]) == completion(message, created=CREATED)


def message_by(chance: random.Random) -> Json:
    """Some message: thoughts, texts with awkward characters, tool calls and server tools in a plausible order."""
    words = "".join(chance.choices('ab \n"\\é🙂\u2028', k=chance.randint(1, 40)))
    calls = [tool_call(number, chance) for number in range(chance.randint(0, 3))]
    thoughts = [
        {"type": "thinking", "thinking": words[::-1], "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "eA=="},
    ][: chance.randint(0, 2)]
    search = [{"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": words}}]
    texts = [{"type": "text", "text": piece} for piece in pieces(words, chance)][: chance.randint(0, 3)]
    refused = {"type": "refusal", "category": None, "explanation": "No."}
    reason = "tool_use" if calls else chance.choice(["end_turn", "max_tokens", "refusal", "stop_sequence"])
    return {
        "id": f"msg_{chance.randint(0, 10**9)}",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-5",
        "content": [*thoughts, *search[: chance.randint(0, 1)], *texts, *calls],
        "stop_reason": reason,
        "stop_sequence": None,
        "stop_details": refused if reason == "refusal" else None,
        "usage": {
            "input_tokens": chance.randint(0, 99),
            "cache_read_input_tokens": chance.randint(0, 99),
            "cache_creation_input_tokens": chance.randint(0, 99),
            "output_tokens": chance.randint(1, 99),
            "output_tokens_details": {"thinking_tokens": chance.randint(0, 9)},
        },
    }


def tool_call(number: int, chance: random.Random) -> Json:
    arguments = chance.choice([{}, {"city": "Oslo"}, {"deep": {"list": [1, 2.5, None, "é"]}}])
    return {"type": "tool_use", "id": f"toolu_{number}", "name": "weather", "input": arguments}


def events_of(message: Json, chance: random.Random) -> Iterator[Json]:
    """The stream of `message`, cut into deltas at places that `chance` chooses."""
    usage = message["usage"]
    first = {name: count for name, count in usage.items() if name.endswith("input_tokens")}
    yield {
        "type": "message_start",
        "message": message | {"content": [], "stop_reason": None, "usage": first | {"output_tokens": 1}},
    }
    yield {"type": "ping"}
    for index, block in enumerate(message["content"]):
        opened, deltas = _opened(block, chance)
        yield {"type": "content_block_start", "index": index, "content_block": opened}
        yield from ({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
        yield {"type": "content_block_stop", "index": index}
    stop = {name: message.get(name) for name in ("stop_reason", "stop_sequence", "stop_details")}
    last = {name: count for name, count in usage.items() if name.startswith("output")}
    yield {"type": "message_delta", "delta": stop, "usage": last}
    yield {"type": "message_stop"}


def _opened(block: Json, chance: random.Random) -> tuple[Json, list[Json]]:
    kind = block["type"]
    if kind == "text":
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"], chance)]
        return block | {"text": ""}, deltas
    if kind == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"], chance)]
        signature = {"type": "signature_delta", "signature": block["signature"]}
        return block | {"thinking": "", "signature": ""}, [*deltas, signature]
    if kind in ("tool_use", "server_tool_use"):
        text = orjson.dumps(block["input"]).decode() if block["input"] else ""
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces(text, chance)]]
        return block | {"input": {}}, deltas
    return block, []


def pieces(text: str, chance: random.Random) -> list[str]:
    """`text` in pieces of one to eight characters."""
    cut: list[str] = []
    while text:
        size = chance.randint(1, 8)
        cut.append(text[:size])
        text = text[size:]
    return cut


def accumulated(chunks: list[Json]) -> Json:
    """The `chat.completion` a client pieces together from chunks."""
    message: Json = {"content": ""}
    calls: dict[int, Json] = {}
    reason = usage = None
    for chunk in chunks:
        usage = chunk.get("usage", usage)
        for choice in chunk["choices"]:
            reason = choice["finish_reason"] or reason
            for name, value in choice["delta"].items():
                if name == "tool_calls":
                    _add_calls(calls, value)
                elif name in ("content", "reasoning_content"):
                    message[name] = message.get(name, "") + value
                else:
                    message[name] = value
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
        message["content"] = message["content"] or None
    return {
        **{name: chunks[0][name] for name in ("id", "created", "model")},
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
        "usage": usage,
    }


def _add_calls(calls: dict[int, Json], deltas: list[Json]) -> None:
    for delta in deltas:
        if "id" in delta:
            calls[delta["index"]] = {name: delta[name] for name in ("id", "type", "function")}
        else:
            calls[delta["index"]]["function"]["arguments"] += delta["function"]["arguments"]
