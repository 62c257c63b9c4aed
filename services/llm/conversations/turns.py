"""The engine of chats that belong to a conversation (CONTRACT 4.3): load, generate, store. It knows no transport.

What the user said is stored before generation, the answer before its end goes out to the client: whoever has seen an
answer complete will find it in the conversation, whatever happens to this process. Chats without a conversation go
straight to the generation engine and touch no database.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import orjson

from services.llm.conversations.content import check_storable
from services.llm.conversations.history import compose, draft_of, title_of
from services.llm.conversations.item_store import Draft
from services.llm.conversations.received import Received
from services.llm.conversations.turn_keeper import TurnKeeper
from services.llm.conversations.turn_store import Run
from services.llm.generation.answer import Chunk
from services.llm.generation.completion import Engine
from services.llm.generation.pictures import Pictures
from services.llm.generation.request import check_chat, conversation_of
from services.llm.models.catalog import Catalog
from services.llm.providers.provider import Json
from services.runtime.errors import NotFound, NotImplementedYet, Unavailable

Wish = Callable[[str], Awaitable[str | None]]
"""Something that a user has set, None when it is not."""


async def nothing(_user_id: str) -> None:
    """The `Wish` of users whom nobody asks."""


@dataclass
class Turn:
    """One turn of a conversation."""

    keeper: TurnKeeper
    run: Run
    request: Json
    """What is asked of the model."""
    pictures: Pictures
    title: str | None
    project_id: str
    trimmed: bool
    received: Received
    stored: bool
    started: float = field(default_factory=time.monotonic)
    settled: bool = False

    @property
    def marks(self) -> Json:
        """What an answer in a conversation has besides OpenAI's members."""
        named = {"conversation": {"id": self.run.conversation_id, "title": self.title}}
        return {**named, "trimmed": True} if self.trimmed else named

    async def settle(self) -> None:
        """Store what was received, if it is to be stored, and free the conversation. Raises `Unavailable`."""
        self.settled = True
        await self.keeper.settle(self.run, self._answer() if self.stored else None)

    def _answer(self) -> Draft | None:
        seconds, reasoning = time.monotonic() - self.started, bool(self.request.get("store_reasoning"))
        return self.received.draft(model=self.request["model"], seconds=seconds, reasoning=reasoning)


class Turns:
    """Chats, in conversations and without; without a keeper, which only tests are, there are no conversations.
    `profile` is what models are told about a user."""

    def __init__(self, engine: Engine, catalog: Catalog, keeper: TurnKeeper | None, *, profile: Wish = nothing) -> None:
        self._engine = engine
        self._catalog = catalog
        self._keeper = keeper
        self._profile = profile

    async def chat(self, body: Json, *, user_id: str, deadline: float) -> Json:
        """A whole `chat.completion`, which is stored when this returns."""
        if body.get("conversation") is None:
            return await self._engine.chat(body, deadline=deadline)
        async with self._turn(body, user_id) as turn:
            answer = await self._engine.generate(
                turn.request, deadline=deadline, project_id=turn.project_id, pictures=turn.pictures
            )
            turn.received.take_whole(answer)
            await turn.settle()
        return {**answer, **turn.marks}

    def stream_chat(self, body: Json, *, user_id: str, deadline: float) -> AsyncGenerator[list[Chunk], None]:
        """The chunks of a `chat.completion`, as `Engine.stream_chat`; the last ones come when it is stored."""
        if body.get("conversation") is None:
            return self._engine.stream_chat(body, deadline=deadline)
        return self._stream(body, user_id, deadline)

    async def _stream(self, body: Json, user_id: str, deadline: float) -> AsyncGenerator[list[Chunk], None]:
        async with self._turn(body, user_id) as turn:
            held: list[Chunk] = []  # what may be the end
            stream = self._engine.stream(
                turn.request,
                deadline=deadline,
                project_id=turn.project_id,
                pictures=turn.pictures,
                spent=turn.received.spend,
            )
            async with aclosing(stream) as batches:
                async for batch in batches:
                    for chunk in batch:
                        turn.received.take(chunk.data)
                    if not batch:
                        yield batch
                        continue
                    held += (_marked(chunk, turn.marks) for chunk in batch)
                    if not turn.received.finished:
                        yield held
                        held = []
            await turn.settle()
            yield held

    @asynccontextmanager
    async def _turn(self, body: Json, user_id: str) -> AsyncIterator[Turn]:
        """A turn that is settled at the end, however it ends."""
        check_chat(body)
        keeper = self._keeper
        if keeper is None:
            raise NotImplementedYet(
                "This server keeps no conversations; leave out 'conversation'", param="conversation"
            )
        with keeper.attending():
            turn = await self._begin(keeper, body, user_id)
            try:
                await turn.pictures.add(turn.request["messages"])
                yield turn
            finally:
                if not turn.settled:
                    with suppress(Unavailable):  # it is tried again, and why the turn failed is what counts
                        await turn.settle()

    async def _begin(self, keeper: TurnKeeper, body: Json, user_id: str) -> Turn:
        """Take the conversation, put the request together, and store what is new."""
        run = Run(user_id, conversation_of(body))
        stored = body.get("store") is not False
        model = self._catalog.get(body["model"])
        model.route.check_allowance()  # a message that cannot be answered now is not stored
        pictures = self._engine.pictures()
        await pictures.require(body["messages"])
        window, profile = model.context_window, await self._profile(user_id)
        missing = NotFound("There is no such conversation", code="conversation_not_found", param="conversation")
        async with keeper.opening(run, missing) as opening:
            past = await opening.past(window=window)
            prompt = compose(body, (opening.instruction, profile or ""), past, window=window)
            if stored:
                check_storable(body["messages"])
                await opening.add([draft_of(message) for message in prompt.new], title_of(prompt.messages))
            return Turn(
                keeper=keeper,
                run=replace(run, after=opening.last_position),
                request={**body, "messages": prompt.messages},
                pictures=pictures,
                title=opening.title,
                project_id=opening.project_id,
                trimmed=prompt.trimmed,
                received=Received(),
                stored=stored,
            )


def _marked(chunk: Chunk, marks: Json) -> Chunk:
    """A chunk that says, when it is one that ends a choice, in which conversation the answer is."""
    if not any(choice.get("finish_reason") for choice in chunk.data["choices"]):
        return chunk
    data = {**chunk.data, **marks}
    return Chunk(orjson.dumps(data), data)
