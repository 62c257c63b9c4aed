"""The chat engine: from a checked request to an answer, whole or as it is made. It knows no transport.

It promises OpenAI's answer whatever the upstream does: the requested model's name, one id for all chunks, `choices` in
every chunk, usage that is there, and an error where an answer is not complete (CONTRACT 4.2).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from services.llm import usage
from services.llm.catalog import Catalog
from services.llm.providers.legacy import from_chat, to_chat
from services.llm.providers.openai import embedded_error
from services.llm.providers.provider import Json, Provider, TextProvider
from services.llm.request import check_chat, check_completion, forwarded
from services.llm.routing import Endpoint, first_success
from services.runtime import ids
from services.runtime.errors import ApiError, UpstreamFailed
from services.runtime.metrics import Metrics
from services.runtime.pacing import Pacer


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


class Engine:
    """Runs generations on the upstreams of a catalog."""

    def __init__(self, catalog: Catalog, pacer: Pacer, metrics: Metrics) -> None:
        self._catalog = catalog
        self._pacer = pacer
        self._metrics = metrics

    async def chat(self, body: Json, *, deadline: float) -> Json:
        """A whole `chat.completion`."""
        check_chat(body)
        return await self._answer(body, CHAT, deadline)

    async def text(self, body: Json, *, deadline: float) -> Json:
        """A whole `text_completion`."""
        check_completion(body)
        return await self._answer(body, TEXT, deadline)

    def stream_chat(self, body: Json, *, deadline: float) -> AsyncGenerator[list[Chunk], None]:
        """The chunks of a `chat.completion` in batches; an empty batch marks silence. Raises before the first batch for
        what a plain answer would raise, later when the stream breaks."""
        check_chat(body)
        return self._stream(body, CHAT, deadline)

    def stream_text(self, body: Json, *, deadline: float) -> AsyncGenerator[list[Chunk], None]:
        """As `stream_chat`, for a `text_completion`."""
        check_completion(body)
        return self._stream(body, TEXT, deadline)

    async def _answer(self, body: Json, shape: Shape, deadline: float) -> Json:
        async def ask(endpoint: Endpoint) -> Json:
            with endpoint.upstream.lease(deadline):
                answer = await _whole(endpoint.upstream.provider, {**request, "model": endpoint.model}, shape, deadline)
                return _mended(answer, body, shape, endpoint.upstream.name)

        request = forwarded(body)
        route = self._catalog.route(body["model"])
        answer = await first_success(route, ask, deadline=deadline)
        self._count(answer["model"], answer["usage"])
        return answer

    async def _stream(self, body: Json, shape: Shape, deadline: float) -> AsyncGenerator[list[Chunk], None]:
        async def begin(endpoint: Endpoint) -> tuple[Assembly, list[Chunk], AsyncGenerator[list[Chunk], None]]:
            assembly = Assembly(body, shape, endpoint.upstream.name)
            stream = _attempt(endpoint, {**request, "model": endpoint.model}, assembly, deadline)
            try:
                return assembly, await _first(stream), stream
            except BaseException:
                await stream.aclose()
                raise

        request = forwarded(body)
        route = self._catalog.route(body["model"])
        with self._pacer.stream():
            assembly, first, rest = await first_success(route, begin, deadline=deadline)
            try:
                async with aclosing(rest):
                    yield first
                    async for chunks in rest:
                        yield chunks
            finally:  # what was generated has been spent, also when the client left
                self._count(body["model"], assembly.spent())

    def _count(self, model: str, spent: Json) -> None:
        prompt, completion = (spent.get(name) for name in ("prompt_tokens", "completion_tokens"))
        self._metrics.tokens(model, _tokens(prompt), _tokens(completion))


async def _whole(provider: Provider, body: Json, shape: Shape, deadline: float) -> Json:
    if shape is CHAT:
        return await provider.chat(body, deadline=deadline)
    if isinstance(provider, TextProvider):
        return await provider.complete(body, deadline=deadline)
    return from_chat(await provider.chat(to_chat(body), deadline=deadline))


def _mended(answer: Json, body: Json, shape: Shape, upstream: str) -> Json:
    """An upstream's whole answer with all that CONTRACT 4.2 promises. Raises `UpstreamFailed` when it is none."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise UpstreamFailed(f"Provider '{upstream}' answered without choices")
    answer["model"] = body["model"]
    answer["object"] = shape.answer
    answer.setdefault("created", int(time.time()))
    if not answer.get("id"):
        answer["id"] = ids.new_id(shape.prefix)
    if not answer.get("usage") or not isinstance(answer["usage"], dict):
        try:
            answer["usage"] = usage.estimated_usage(_prompt_tokens(body), usage.answer_text(answer))
        except (AttributeError, TypeError) as error:
            raise UpstreamFailed(f"Provider '{upstream}' sent an answer of another shape than OpenAI's") from error
    return answer


async def _attempt(
    endpoint: Endpoint, request: Json, assembly: Assembly, deadline: float
) -> AsyncGenerator[list[Chunk], None]:
    """One try at one endpoint. The lease lasts as long as the stream, so that a late break counts against it."""
    begun, failure = False, None
    with endpoint.upstream.lease(deadline):
        try:
            async with aclosing(_batches(endpoint.upstream.provider, request, assembly.shape, deadline)) as batches:
                async for batch in batches:
                    chunks, failure = assembly.take(batch)
                    if failure is not None and not begun:
                        raise failure  # nothing has gone out yet: another try may succeed
                    if chunks or not batch:
                        yield chunks
                        begun = begun or bool(chunks)
                    if failure is not None:
                        raise failure
        except ApiError as error:
            # A connection that breaks after the end of the answer took nothing from it.
            if error is failure or not assembly.complete:
                raise
        if chunks := assembly.finish():
            yield chunks


async def _first(stream: AsyncGenerator[list[Chunk], None]) -> list[Chunk]:
    async for chunks in stream:
        if chunks:
            return chunks
    raise AssertionError("a stream without chunks is not complete")


def _batches(provider: Provider, body: Json, shape: Shape, deadline: float) -> AsyncGenerator[list[bytes], None]:
    if shape is CHAT:
        return provider.stream_chat(body, deadline=deadline)
    if isinstance(provider, TextProvider):
        return provider.stream_complete(body, deadline=deadline)
    return _text_from_chat(provider.stream_chat(to_chat(body), deadline=deadline))


async def _text_from_chat(batches: AsyncGenerator[list[bytes], None]) -> AsyncGenerator[list[bytes], None]:
    async with aclosing(batches):
        async for batch in batches:
            yield [orjson.dumps(from_chat(orjson.loads(payload))) for payload in batch]


class Assembly:
    """The state of one stream: what it is called, what it has cost, whether it is complete."""

    def __init__(self, body: Json, shape: Shape, upstream: str) -> None:
        self._body = body
        self._model = body["model"]
        self.shape = shape
        self._upstream = upstream
        self._usage_wanted = bool((body.get("stream_options") or {}).get("include_usage"))
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
            self._usage = usage.estimated_usage(_prompt_tokens(self._body), "".join(self._text))
        return self._usage

    def _parsed(self, payload: bytes) -> Json:
        try:
            data = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise UpstreamFailed(f"Provider '{self._upstream}' sent an event that is not JSON") from error
        if not isinstance(data, dict):
            raise UpstreamFailed(f"Provider '{self._upstream}' sent an event that is not an object")
        if data.get("error"):
            raise embedded_error(self._upstream, data["error"])
        return data

    def _chunk(self, payload: bytes, data: Json) -> Chunk | None:
        choices = data.get("choices")
        if data.get("usage") and isinstance(data["usage"], dict):
            self._usage = data["usage"]
            if not choices:
                return None  # the usage chunk, which `finish` sends when it is wanted
        try:
            for choice in choices or ():
                self._note(choice)
        except (AttributeError, TypeError) as error:
            raise UpstreamFailed(f"Provider '{self._upstream}' sent a chunk of another shape than OpenAI's") from error
        if not self._id:
            self._id = data.get("id") or ids.new_id(self.shape.prefix)
            self._created = data.get("created") or int(time.time())
        if data.get("id") == self._id and data.get("model") == self._model and choices is not None:
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
        if self._usage is None:
            said = choice.get("delta") or choice
            text = said.get("content") or said.get("text") or said.get("reasoning_content")
            if isinstance(text, str):
                self._text.append(text)
            for call in said.get("tool_calls") or ():
                function = call.get("function") or {}
                self._text += (function.get("name") or "", function.get("arguments") or "")


def _prompt_tokens(body: Json) -> int:
    if "messages" in body:
        return usage.estimate_prompt(body["messages"], tools=body.get("tools"))
    return usage.estimate_tokens(str(body.get("prompt", "")))


def _tokens(count: object) -> int:
    """An upstream's number for the metrics, or 0 when it is none."""
    return count if isinstance(count, int) and count > 0 else 0
