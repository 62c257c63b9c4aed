"""`jan-demo`, the built-in model: no AI, but every feature of chat can be tried with it offline.

`demo_reply.py` decides what is said; here it is measured in tokens, cut, and put into OpenAI's shapes, word by word.
A token of this model is up to twelve characters of a word with the white space before it.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
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
        choices = [choice for several in zip(*map(_choices, range(len(answers)), answers), strict=True) for choice in several]
        chunks = (orjson.dumps({**frame, "choices": [choice]}) for choice in choices)
        for size in self._portions(len(choices)):
            if not remaining(deadline):
                raise UpstreamTimeout(f"{MODEL_ID} could not finish in time.")
            yield [next(chunks) for _ in range(size)]
            await asyncio.sleep(self._word_delay)
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
