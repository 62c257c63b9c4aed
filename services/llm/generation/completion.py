"""The generation engine: from a checked request to an answer, whole or as it is made. It knows no transport.

It finds the route of the model, lets the routing try its endpoints, and hands on what `answer.py` makes of their words.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import orjson

from services.llm.accounting.accounting import Accounting
from services.llm.generation.answer import CHAT, TEXT, Assembly, Chunk, Shape, mended
from services.llm.generation.request import check_chat, check_completion, forwarded
from services.llm.models.catalog import Catalog
from services.llm.models.routing import Endpoint, first_success
from services.llm.providers.legacy import from_chat, to_chat
from services.llm.providers.provider import Json, Provider, TextProvider
from services.runtime.errors import ApiError
from services.runtime.pacing import Pacer

Spent = Callable[[Json], None]
"""Is told OpenAI's `usage` of an answer."""


class Engine:
    """Runs generations on the upstreams of a catalog."""

    def __init__(self, catalog: Catalog, pacer: Pacer, accounting: Accounting) -> None:
        self._catalog = catalog
        self._pacer = pacer
        self._accounting = accounting

    async def chat(self, body: Json, *, deadline: float) -> Json:
        """A whole `chat.completion`."""
        check_chat(body)
        return await self._answer(body, CHAT, deadline)

    async def generate(self, body: Json, *, deadline: float, project_id: str) -> Json:
        """As `chat`, for a request that has been checked, accounted to a project if it is done for one."""
        return await self._answer(body, CHAT, deadline, project_id)

    async def text(self, body: Json, *, deadline: float) -> Json:
        """A whole `text_completion`."""
        check_completion(body)
        return await self._answer(body, TEXT, deadline)

    def stream_chat(self, body: Json, *, deadline: float) -> AsyncGenerator[list[Chunk], None]:
        """The chunks of a `chat.completion` in batches; an empty batch marks silence. Raises before the first batch for
        what a plain answer would raise, later when the stream breaks."""
        check_chat(body)
        return self._stream(body, CHAT, deadline)

    def stream(
        self, body: Json, *, deadline: float, project_id: str, spent: Spent
    ) -> AsyncGenerator[list[Chunk], None]:
        """As `stream_chat`, for a request that has been checked; `spent` is told at the end what it has cost."""
        return self._stream(body, CHAT, deadline, project_id, spent)

    def stream_text(self, body: Json, *, deadline: float) -> AsyncGenerator[list[Chunk], None]:
        """As `stream_chat`, for a `text_completion`."""
        check_completion(body)
        return self._stream(body, TEXT, deadline)

    async def _answer(self, body: Json, shape: Shape, deadline: float, project_id: str = "") -> Json:
        async def ask(endpoint: Endpoint) -> Json:
            with endpoint.upstream.lease(deadline):
                answer = await _whole(endpoint.upstream.provider, endpoint.addressed(request), shape, deadline)
                answer = mended(answer, body, shape, endpoint.upstream.name)
                endpoint.spend(answer["usage"])
                return answer

        request = forwarded(body)
        model = self._catalog.get(body["model"])
        answer = await first_success(model.route, ask, deadline=deadline)
        self._accounting.spent(model.id, answer["usage"], project_id=project_id)
        return answer

    async def _stream(
        self, body: Json, shape: Shape, deadline: float, project_id: str = "", spent: Spent | None = None
    ) -> AsyncGenerator[list[Chunk], None]:
        async def begin(endpoint: Endpoint) -> tuple[Assembly, list[Chunk], AsyncGenerator[list[Chunk], None]]:
            assembly = Assembly(body, shape, endpoint.upstream.name)
            stream = _attempt(endpoint, endpoint.addressed(request), assembly, deadline)
            try:
                return assembly, await _first(stream), stream
            except BaseException:
                await stream.aclose()
                raise

        request = forwarded(body)
        model = self._catalog.get(body["model"])
        with self._pacer.stream():
            assembly, first, rest = await first_success(model.route, begin, deadline=deadline)
            try:
                async with aclosing(rest):
                    yield first
                    async for chunks in rest:
                        yield chunks
            finally:  # what was generated has been spent, also when the client left
                self._accounting.spent(model.id, assembly.spent(), project_id=project_id)
                if spent is not None:
                    spent(assembly.spent())


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
        finally:
            if begun and endpoint.allowance is not None:
                endpoint.spend(assembly.spent())
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
