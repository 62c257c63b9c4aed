"""The generation engine: from a checked request to an answer, whole or as it is made. It knows no transport.

It finds the route of the model, lets the routing try its endpoints, and hands on what `answer.py` makes of their words.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson

from services.llm.answer import CHAT, TEXT, Assembly, Chunk, Shape, mended
from services.llm.catalog import Catalog
from services.llm.providers.legacy import from_chat, to_chat
from services.llm.providers.provider import Json, Provider, TextProvider
from services.llm.request import check_chat, check_completion, forwarded
from services.llm.routing import Endpoint, first_success
from services.runtime.errors import ApiError
from services.runtime.metrics import Metrics
from services.runtime.pacing import Pacer


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
                return mended(answer, body, shape, endpoint.upstream.name)

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


def _tokens(count: object) -> int:
    """An upstream's number for the metrics, or 0 when it is none."""
    return count if isinstance(count, int) and count > 0 else 0
