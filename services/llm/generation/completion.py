"""The generation engine: from a checked request to an answer, whole or as it is made. It knows no transport.

It finds the route of the model, lets the routing try its endpoints, and hands on what `answer.py` makes of their words.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import orjson

from services.llm.accounting.accounting import Accounting
from services.llm.generation.answer import CHAT, TEXT, Assembly, Chunk, Shape, mended
from services.llm.generation.pictures import Gallery, Pictures
from services.llm.generation.request import check_chat, check_completion, forwarded
from services.llm.models.catalog import Catalog
from services.llm.models.routing import Endpoint, first_success
from services.llm.providers.legacy import from_chat, to_chat
from services.llm.providers.provider import Json, Provider, TextProvider
from services.runtime.errors import ApiError
from services.runtime.pacing import Pacer

Spent = Callable[[Json], None]
"""Is told OpenAI's `usage` of an answer."""


@dataclass(frozen=True)
class _Task:
    """A request that has been checked."""

    body: Json
    shape: Shape
    deadline: float
    pictures: Pictures
    project_id: str = ""
    spent: Spent | None = None

    async def asked_of(self, endpoint: Endpoint) -> Json:
        """The request as that endpoint gets it."""
        request = endpoint.addressed(forwarded(self.body))
        if not self.pictures:
            return request
        messages = await self.pictures.shown(request["messages"], by_url=endpoint.upstream.fetches_images)
        return {**request, "messages": messages}


class Engine:
    """Runs generations on the upstreams of a catalog; images that requests name are in the gallery."""

    def __init__(self, catalog: Catalog, pacer: Pacer, accounting: Accounting, gallery: Gallery) -> None:
        self._catalog = catalog
        self._pacer = pacer
        self._accounting = accounting
        self._gallery = gallery

    def pictures(self) -> Pictures:
        """For the images that one request names."""
        return Pictures(self._gallery)

    async def chat(self, body: Json, *, deadline: float) -> Json:
        """A whole `chat.completion`."""
        check_chat(body)
        task = _Task(body, CHAT, deadline, self.pictures())
        await task.pictures.require(body["messages"])
        return await self._answer(task)

    async def generate(self, body: Json, *, deadline: float, project_id: str, pictures: Pictures) -> Json:
        """As `chat`, for a request that has been checked and whose images have been found, accounted to a project if it
        is done for one."""
        return await self._answer(_Task(body, CHAT, deadline, pictures, project_id))

    async def text(self, body: Json, *, deadline: float) -> Json:
        """A whole `text_completion`."""
        check_completion(body)
        return await self._answer(_Task(body, TEXT, deadline, self.pictures()))

    def stream_chat(self, body: Json, *, deadline: float) -> AsyncGenerator[list[Chunk], None]:
        """The chunks of a `chat.completion` in batches; an empty batch marks silence. Raises before the first batch for
        what a plain answer would raise, later when the stream breaks."""
        check_chat(body)
        return self._stream(_Task(body, CHAT, deadline, self.pictures()), named=body["messages"])

    def stream(
        self, body: Json, *, deadline: float, project_id: str, pictures: Pictures, spent: Spent
    ) -> AsyncGenerator[list[Chunk], None]:
        """As `stream_chat`, for a request as `generate` takes it; `spent` is told at the end what it has cost."""
        return self._stream(_Task(body, CHAT, deadline, pictures, project_id, spent))

    def stream_text(self, body: Json, *, deadline: float) -> AsyncGenerator[list[Chunk], None]:
        """As `stream_chat`, for a `text_completion`."""
        check_completion(body)
        return self._stream(_Task(body, TEXT, deadline, self.pictures()))

    async def _answer(self, task: _Task) -> Json:
        async def ask(endpoint: Endpoint) -> Json:
            request = await task.asked_of(endpoint)
            with endpoint.upstream.lease(task.deadline):
                answer = await _whole(endpoint.upstream.provider, request, task.shape, task.deadline)
                answer = mended(answer, task.body, task.shape, endpoint.upstream.name)
                endpoint.spend(answer["usage"])
                return answer

        model = self._catalog.get(task.body["model"])
        answer = await first_success(model.route, ask, deadline=task.deadline)
        self._accounting.spent(model.id, answer["usage"], project_id=task.project_id)
        return answer

    async def _stream(self, task: _Task, *, named: Sequence[Json] = ()) -> AsyncGenerator[list[Chunk], None]:
        """`named` are messages whose images are still to be found."""

        async def begin(endpoint: Endpoint) -> tuple[Assembly, list[Chunk], AsyncGenerator[list[Chunk], None]]:
            assembly = Assembly(task.body, task.shape, endpoint.upstream.name)
            stream = _attempt(endpoint, await task.asked_of(endpoint), assembly, task.deadline)
            try:
                return assembly, await _first(stream), stream
            except BaseException:
                await stream.aclose()
                raise

        await task.pictures.require(named)
        model = self._catalog.get(task.body["model"])
        with self._pacer.stream():
            assembly, first, rest = await first_success(model.route, begin, deadline=task.deadline)
            try:
                async with aclosing(rest):
                    yield first
                    async for chunks in rest:
                        yield chunks
            finally:  # what was generated has been spent, also when the client left
                self._accounting.spent(model.id, assembly.spent(), project_id=task.project_id)
                if task.spent is not None:
                    task.spent(assembly.spent())


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
