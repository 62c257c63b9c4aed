"""The engine of an answer that is given anew (CONTRACT 6.2): it takes the place of the old one, or nothing changes."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

from services.llm.conversations.history import compose
from services.llm.conversations.item_store import Draft
from services.llm.conversations.received import Received
from services.llm.conversations.turn_keeper import TurnKeeper
from services.llm.conversations.turn_store import Opening, Run
from services.llm.conversations.turns import Wish, nothing
from services.llm.generation.completion import Engine
from services.llm.generation.request import OURS, check_sampling
from services.llm.models.catalog import Catalog
from services.llm.providers.names import is_for_chat
from services.llm.providers.provider import Json
from services.runtime.errors import InvalidRequest, NotFound, Unavailable

_FIXED = {*OURS, "messages", "model", "n", "stream", "stream_options"}


@dataclass(frozen=True)
class Anew:
    """An answer to give anew."""

    run: Run
    request: Json
    project_id: str
    asked_at: int
    """Position of the message that it answers."""


class Regenerator:
    """Works as `Turns`; the conversation changes when the new answer is there, and then at once. `selected` is the
    model that a user has selected."""

    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        keeper: TurnKeeper,
        *,
        selected: Wish = nothing,
        profile: Wish = nothing,
    ) -> None:
        self._engine = engine
        self._catalog = catalog
        self._keeper = keeper
        self._selected = selected
        self._profile = profile

    async def regenerate(self, run: Run, item_id: str, given: Json, *, deadline: float) -> str:
        """The id of the new item. `given` are parameters of a chat request, the model among them if the caller wants a
        certain one.

        Raises `NotFound`, `InvalidRequest` for an item that is neither an answer nor a message of the user, `Conflict`
        as a chat does, and what generation raises.
        """
        with self._keeper.attending():
            anew = await self._begin(run, item_id, given)
            started = time.monotonic()
            try:
                pictures = self._engine.pictures()
                await pictures.add(anew.request["messages"])
                answer = await self._engine.generate(
                    anew.request, deadline=deadline, project_id=anew.project_id, pictures=pictures
                )
                draft = _draft(answer, given, seconds=time.monotonic() - started)
                await self._keeper.replace(run, draft, after=anew.asked_at)
            except BaseException:
                with suppress(Unavailable):
                    await self._keeper.settle(run, None)
                raise
        return draft.id

    async def _begin(self, run: Run, item_id: str, given: Json) -> Anew:
        selected, profile = await self._selected(run.user_id), await self._profile(run.user_id)
        async with self._keeper.opening(run, NotFound("There is no such conversation")) as opening:
            target = await opening.target(item_id)
            if target is None:
                raise NotFound("There is no such item")
            asked_at = _asked_at(target)
            replaced = target["model"] or await opening.answer_to(asked_at)
            model = given.get("model") or self._usual(replaced, selected)
            check_sampling({**given, "model": model})
            request = {name: value for name, value in given.items() if name not in _FIXED} | {"model": model}
            request["messages"] = await self._messages(opening, request, asked_at, profile)
            return Anew(run, request, opening.project_id, asked_at)

    async def _messages(self, opening: Opening, request: Json, asked_at: int, profile: str | None) -> list[Json]:
        window = self._catalog.get(request["model"]).context_window
        past = await opening.past(before=asked_at + 1, window=window)
        body = {**request, "messages": []}
        return compose(body, (opening.instruction, profile or ""), past, window=window).messages

    def _usual(self, *wanted: str | None) -> str:
        """The first of these models that there is, or else the first that is listed and made for chats."""
        for name in wanted:
            with suppress(NotFound):
                if name:
                    return self._catalog.get(name).id
        listed = [model.id for model in self._catalog.models()]
        return next((name for name in listed if is_for_chat(name)), listed[0])


def _asked_at(target: Json) -> int:
    """The position of the message that the target answers, or is. Raises `InvalidRequest` where there is none."""
    answers = target["role"] == "assistant" and target["type"] == "message"
    asks = target["role"] == "user" and target["type"] == "message"
    if not (answers or asks) or target["asked_at"] is None:
        raise InvalidRequest(
            "Only an answer to a message of the user, or such a message, can be regenerated", param="item_id"
        )
    return int(target["asked_at"])


def _draft(answer: Json, given: Json, *, seconds: float) -> Draft:
    received = Received()
    received.take_whole(answer)
    reasoning = given.get("store_reasoning") is True
    draft = received.draft(model=answer["model"], seconds=seconds, reasoning=reasoning)
    if draft is None:
        raise AssertionError("a whole answer has an end")
    return draft
