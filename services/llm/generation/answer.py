"""What an answer must be, whatever the upstream sent (CONTRACT 4.2): for whole answers, and chunk by chunk."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from services.llm.generation import token_counts
from services.llm.providers.failures import embedded_failure
from services.llm.providers.provider import Json
from services.runtime import ids
from services.runtime.errors import ApiError, UpstreamFailed


@dataclass(frozen=True)
class Shape:
    """What tells chat completions and text completions apart."""

    answer: str
    chunk: str
    prefix: str


CHAT = Shape("chat.completion", "chat.completion.chunk", "chatcmpl")
TEXT = Shape("text_completion", "text_completion", "cmpl")


class Chunk(NamedTuple):
    """One stream event: its JSON bytes, and the same parsed."""

    raw: bytes
    data: Json


def mended(answer: Json, body: Json, shape: Shape, upstream: str) -> Json:
    """An upstream's whole answer with all that CONTRACT 4.2 promises. Raises `UpstreamFailed` when it is none."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise UpstreamFailed(f"Provider '{upstream}' answered without choices")
    if not all(_is_choice(each, shape) for each in choices):
        raise UpstreamFailed(f"Provider '{upstream}' sent an answer of another shape than OpenAI's")
    answer["model"] = body["model"]
    answer["object"] = shape.answer
    answer.setdefault("created", int(time.time()))
    if not answer.get("id"):
        answer["id"] = ids.new_id(shape.prefix)
    if not answer.get("usage") or not isinstance(answer["usage"], dict):
        texts = [text for each in choices for text in _texts(each["message"] if shape is CHAT else each)]
        answer["usage"] = token_counts.estimated_usage(_prompt_tokens(body, shape), "\n".join(texts))
    return answer


class Assembly:
    """The state of one stream: what it is called, what it has cost, whether it is complete."""

    def __init__(self, body: Json, shape: Shape, upstream: str) -> None:
        self._body = body
        self._model = body["model"]
        self.shape = shape
        self._upstream = upstream
        options = body.get("stream_options") or {}
        self._usage_wanted = bool(options.get("include_usage"))
        # Usage comes in a chunk of its own, unless the client asked vLLM for the running count on every chunk.
        self._usage_moved = self._usage_wanted and not options.get("continuous_usage_stats")
        self._id = ""
        self._created = 0
        self._usage: Json | None = None
        self._text: list[str] = []
        self._open: set[int] = set()
        self._finished: set[int] = set()

    def take(self, batch: list[bytes]) -> tuple[list[Chunk], ApiError | None]:
        """Chunks for the client, and the failure that stands behind them: what came before it still counts."""
        chunks: list[Chunk] = []
        for payload in batch:
            try:
                chunk = self._chunk(payload, self._parsed(payload))
            except ApiError as error:
                return chunks, error
            if chunk is not None:
                chunks.append(chunk)
        return chunks, None

    @property
    def complete(self) -> bool:
        """Whether every choice asked for has its `finish_reason`."""
        return len(self._finished) >= (self._body.get("n") or 1) and not self._open - self._finished

    def finish(self) -> list[Chunk]:
        """What comes after the last chunk. Raises `UpstreamFailed` when the answer was cut off before its end."""
        if not self._id:
            raise UpstreamFailed(f"Provider '{self._upstream}' sent an empty stream")
        if not self._finished or self._open - self._finished:
            raise UpstreamFailed(f"Provider '{self._upstream}' ended the stream before the answer was complete")
        if not self._usage_wanted:
            return []
        data = {
            "id": self._id,
            "object": self.shape.chunk,
            "created": self._created,
            "model": self._model,
            "choices": [],
            "usage": self.spent(),
        }
        return [Chunk(orjson.dumps(data), data)]

    def spent(self) -> Json:
        """What the answer cost so far: the upstream's word, or an estimate marked as one."""
        if self._usage is None:
            self._usage = token_counts.estimated_usage(_prompt_tokens(self._body, self.shape), "".join(self._text))
        return self._usage

    def _parsed(self, payload: bytes) -> Json:
        try:
            data = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise UpstreamFailed(f"Provider '{self._upstream}' sent an event that is not JSON") from error
        if not isinstance(data, dict):
            raise UpstreamFailed(f"Provider '{self._upstream}' sent an event that is not an object")
        if data.get("error"):
            raise embedded_failure(self._upstream, data["error"])
        return data

    def _chunk(self, payload: bytes, data: Json) -> Chunk | None:
        choices = data.get("choices")
        whole = choices is not None
        if data.get("usage") and isinstance(data["usage"], dict):
            self._usage = data["usage"]
            if not choices:
                return None  # the usage chunk, which `finish` sends when it is wanted
            if self._usage_moved:
                data["usage"], whole = None, False
        try:
            for choice in choices or ():
                self._note(choice)
        except (AttributeError, TypeError) as error:
            raise UpstreamFailed(f"Provider '{self._upstream}' sent a chunk of another shape than OpenAI's") from error
        if not self._id:
            self._id = data.get("id") or ids.new_id(self.shape.prefix)
            self._created = data.get("created") or int(time.time())
        if data.get("id") == self._id and data.get("model") == self._model and whole:
            return Chunk(payload, data)  # nothing to mend: the upstream's own bytes go out
        data.update(id=self._id, model=self._model, choices=choices or [])
        data.setdefault("object", self.shape.chunk)
        data.setdefault("created", self._created)
        return Chunk(orjson.dumps(data), data)

    def _note(self, choice: Json) -> None:
        index = choice.get("index", 0)
        self._open.add(index)
        if choice.get("finish_reason"):
            self._finished.add(index)
        texts = _texts(choice.get("delta") or choice)
        if self._usage is None:
            self._text += texts


def _is_choice(choice: object, shape: Shape) -> bool:
    return isinstance(choice, dict) and (shape is TEXT or isinstance(choice.get("message"), dict))


def _texts(said: Json) -> list[str]:
    """What a message, a delta or a text choice says, to be counted: its texts, whatever else an upstream put there."""
    found = [said.get("reasoning_content"), said.get("content"), said.get("text")]
    calls = said.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            found += function.get("name"), function.get("arguments")
    return [text for text in found if isinstance(text, str)]


def _prompt_tokens(body: Json, shape: Shape) -> int:
    """About how many tokens were asked; 0 for a request that cannot be counted, which must not break its answer."""
    try:
        if shape is CHAT:
            return token_counts.estimate_prompt(body["messages"], tools=body.get("tools"))
        return token_counts.estimate_tokens(str(body["prompt"]))
    except (AttributeError, TypeError, RecursionError):  # parameters that nobody checks, or nested too deep
        return 0
