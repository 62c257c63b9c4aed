"""`jan-demo`, the built-in model: no AI, but every feature of chat can be tried with it offline.

`demo_reply.py` decides what is said; here it is measured in tokens, cut, and put into OpenAI's shapes, word by word.
A token of this model is up to twelve characters of a word with the white space before it.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import orjson

from services.llm.providers.demo_reply import Call, Reply, images_of, reply_to, text_of
from services.llm.providers.provider import Json, remaining
from services.runtime import ids
from services.runtime.errors import InvalidRequest, UpstreamTimeout

MODEL_ID = "jan-demo"
_TOKEN = re.compile(r"\s*\S{1,12}|\s+")


class DemoProvider:
    """A `Provider` that repeats what it is told; the same request always gets the same words.

    Streams pause `word_delay` seconds after each word, and at most `longest_delay` altogether: long answers come
    several words at a time.
    """

    def __init__(
        self, *, word_delay: float = 0.015, longest_delay: float = 1.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._word_delay = word_delay
        self._longest_delay = longest_delay
        self._clock = clock

    async def chat(self, body: Json, *, deadline: float) -> Json:
        """One whole `chat.completion`, at once. Raises `InvalidRequest` for a `tool_choice` or limit it cannot meet."""
        answers = _answers(body)
        choices = [
            {"index": index, "message": answer.message(), "logprobs": None, "finish_reason": answer.finish_reason}
            for index, answer in enumerate(answers)
        ]
        return {**self._envelope(body, "chat.completion"), "choices": choices, "usage": _usage(body, answers)}

    async def stream_chat(self, body: Json, *, deadline: float) -> AsyncGenerator[list[bytes], None]:
        """The same answer in chunks. Raises what `chat` raises, and `UpstreamTimeout` past `deadline`."""
        answers = _answers(body)
        usage_wanted = bool((body.get("stream_options") or {}).get("include_usage"))
        frame = self._envelope(body, "chat.completion.chunk") | ({"usage": None} if usage_wanted else {})
        side_by_side = zip(*(_choices(index, answer) for index, answer in enumerate(answers)), strict=True)
        choices = list(chain.from_iterable(side_by_side))
        chunks = (orjson.dumps({**frame, "choices": [choice]}) for choice in choices)
        for number, size in enumerate(self._portions(len(choices))):
            await asyncio.sleep(self._word_delay if number else 0)
            if not remaining(deadline):
                raise UpstreamTimeout(f"{MODEL_ID} could not finish in time.")
            yield [next(chunks) for _ in range(size)]
        if usage_wanted:
            yield [orjson.dumps({**frame, "choices": [], "usage": _usage(body, answers)})]

    async def embed(self, body: Json, *, deadline: float) -> Json:
        """Always raises `InvalidRequest`: echoes have no meaning to measure."""
        raise InvalidRequest(f"{MODEL_ID} makes no embeddings: use all-minilm-l6-v2.", param="model")

    async def list_models(self, *, deadline: float) -> list[Json]:
        """The one model."""
        return [{"id": MODEL_ID, "object": "model", "created": 1_735_689_600, "owned_by": "jan"}]

    def _envelope(self, body: Json, kind: str) -> Json:
        model = body.get("model", MODEL_ID)
        return {"id": ids.new_id("chatcmpl"), "object": kind, "created": int(self._clock()), "model": model}

    def _portions(self, chunks: int) -> Iterator[int]:
        """How many chunks go out between two pauses."""
        pauses = max(1, int(self._longest_delay / self._word_delay)) if self._word_delay else chunks
        size = math.ceil(chunks / pauses)
        yield from (min(size, chunks - start) for start in range(0, chunks, size))


@dataclass(frozen=True)
class _MeasuredCall:
    id: str
    name: str
    arguments: list[str]


@dataclass(frozen=True)
class _Answer:
    """One choice in tokens, already cut to the request's limits."""

    reasoning: list[str]
    content: list[str]
    calls: list[_MeasuredCall]
    finish_reason: str

    @property
    def tokens(self) -> int:
        return len(self.reasoning) + len(self.content) + sum(1 + len(call.arguments) for call in self.calls)

    def message(self) -> Json:
        message: Json = {"role": "assistant", "content": "".join(self.content), "refusal": None}
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if self.calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = [_call(call, "".join(call.arguments)) for call in self.calls]
        return message

    def deltas(self) -> Iterator[Json]:
        """The message piece by piece: the role, then one token each."""
        yield {"role": "assistant", "content": None if self.calls and not self.content else "", "refusal": None}
        yield from ({"reasoning_content": token} for token in self.reasoning)
        yield from ({"content": token} for token in self.content)
        for index, call in enumerate(self.calls):
            yield {"tool_calls": [{"index": index, **_call(call, "")}]}
            for token in call.arguments:
                yield {"tool_calls": [{"index": index, "function": {"arguments": token}}]}


def _answers(body: Json) -> list[_Answer]:
    """All choices: the same words `n` times."""
    count = _whole_number(body, "n", most=128) or 1
    limit = _whole_number(body, "max_completion_tokens") or _whole_number(body, "max_tokens")
    reply = _stopped(reply_to(body), body.get("stop"))
    return [_measured(reply, limit, f"{len(body['messages'])}:{choice}") for choice in range(count)]


def _measured(reply: Reply, limit: int | None, place: str) -> _Answer:
    left = sys.maxsize if limit is None else limit
    whole = _Answer(_tokens(reply.reasoning), _tokens(reply.content), _measured_calls(reply.calls, place), "stop")
    if whole.tokens <= left:
        return replace(whole, finish_reason="tool_calls" if whole.calls else "stop")
    reasoning = whole.reasoning[:left]
    left -= len(reasoning)
    content = whole.content[:left]
    left -= len(content)
    calls: list[_MeasuredCall] = []
    for call in whole.calls:
        if left > 0:
            calls.append(replace(call, arguments=call.arguments[: left - 1]))
            left -= 1 + len(calls[-1].arguments)
    return _Answer(reasoning, content, calls, "length")


def _measured_calls(calls: tuple[Call, ...], place: str) -> list[_MeasuredCall]:
    """The calls with ids that differ within a conversation, and are the same when the request is."""
    measured = []
    for index, call in enumerate(calls):
        digest = hashlib.sha256(f"{place}:{index}:{call.name}:{call.arguments}".encode()).hexdigest()
        measured.append(_MeasuredCall(f"call_{digest[:24]}", call.name, _tokens(call.arguments)))
    return measured


def _stopped(reply: Reply, stop: Any) -> Reply:
    """`reply` up to the first stop sequence in its content, after which nothing follows."""
    sequences = [stop] if isinstance(stop, str) else stop or []
    found = [at for sequence in sequences if sequence and (at := reply.content.find(sequence)) >= 0]
    return replace(reply, content=reply.content[: min(found)], calls=()) if found else reply


def _choices(index: int, answer: _Answer) -> Iterator[Json]:
    for delta in answer.deltas():
        yield {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
    yield {"index": index, "delta": {}, "logprobs": None, "finish_reason": answer.finish_reason}


def _call(call: _MeasuredCall, arguments: str) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _usage(body: Json, answers: list[_Answer]) -> Json:
    """Exact counts; in a prompt, an image is one token, and so is the name of a called tool."""
    prompt = sum(_prompt_tokens(message) for message in body["messages"])
    completion = sum(answer.tokens for answer in answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "completion_tokens_details": {"reasoning_tokens": sum(len(answer.reasoning) for answer in answers)},
    }


def _prompt_tokens(message: Json) -> int:
    content = message.get("content")
    arguments = [(call.get("function") or {}).get("arguments") or "" for call in message.get("tool_calls") or ()]
    return len(_tokens(text_of(content))) + len(images_of(content)) + sum(1 + len(_tokens(each)) for each in arguments)


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _whole_number(body: Json, name: str, *, most: int = 2**31 - 1) -> int | None:
    value = body.get(name)
    if value is not None and (type(value) is not int or not 1 <= value <= most):
        raise InvalidRequest(f"`{name}` is a whole number from 1 to {most}.", param=name)
    return value
