"""An answer that is stored late, after the database was away: only where it belongs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from services.llm.conversations.conversation_store import Change, ConversationStore
from services.llm.conversations.item_store import Draft, ItemStore
from services.llm.conversations.turn_store import Run, TurnStore
from services.runtime.db import Database
from services.runtime.errors import NotFound
from services.runtime.pages import Page
from services.runtime.watch import Watch

USER = "usr_1"
LARGEST = 1_000_000
ANSWER = Draft(role="assistant", content="an answer")
EVERYTHING = Page(limit=100, order="asc")


@dataclass(frozen=True)
class Scene:
    """A conversation and what its turns are stored with."""

    database: Database
    turns: TurnStore
    items: ItemStore
    conversation_id: str

    async def begin(self, *said: str) -> Run:
        """A run that has taken the conversation and stored these messages."""
        run = Run(USER, self.conversation_id)
        async with self.turns.opening(run, NotFound("gone")) as opening:
            await opening.add([Draft(role="user", content=each) for each in said], None)
            return replace(run, after=opening.last_position)

    async def crash(self) -> None:
        """What a crash of the database does to the mark of who generates."""
        await self.database.execute("DELETE FROM generations")

    async def said(self) -> Sequence[str]:
        found = await self.items.page(USER, self.conversation_id, EVERYTHING)
        return [row["content"].strip('"') for row in found.rows]


@pytest.fixture
async def scene(database: Database, database_url: str) -> Scene:
    made, _ = await ConversationStore(database).create(USER, Change(), [])
    turns = TurnStore(database, Watch(database_url), largest=LARGEST)
    return Scene(database, turns, ItemStore(database, largest=LARGEST), made["id"])


async def test_a_late_answer_is_stored_when_nobody_has_gone_on(scene: Scene) -> None:
    run = await scene.begin("a question")
    await scene.crash()
    await scene.turns.keep(run, ANSWER)
    assert await scene.said() == ["a question", "an answer"]


async def test_a_late_answer_is_not_stored_behind_somebody_else_s_question(scene: Scene) -> None:
    late = await scene.begin("a question")
    await scene.crash()
    other = await scene.begin("another one")
    await scene.turns.keep(late, ANSWER)
    await scene.turns.keep(other, Draft(role="assistant", content="its answer"))
    assert await scene.said() == ["a question", "another one", "its answer"]


async def test_a_turn_that_was_overtaken_does_not_free_the_conversation(scene: Scene) -> None:
    late = await scene.begin("a question")
    await scene.crash()
    await scene.begin("another one")
    await scene.turns.keep(late, ANSWER)
    assert await scene.database.fetchval("SELECT count(*) FROM generations") == 1


async def test_items_that_clients_add_meanwhile_do_not_keep_an_answer_out(scene: Scene) -> None:
    run = await scene.begin("a question")
    await scene.items.append(USER, scene.conversation_id, [Draft(role="user", content="a note")])
    await scene.turns.keep(run, ANSWER)
    assert await scene.said() == ["a question", "a note", "an answer"]


async def test_the_answer_to_a_repeated_question_belongs_behind_it(scene: Scene) -> None:
    await scene.begin("a question")
    await scene.crash()
    repeated = await scene.begin()
    await scene.crash()
    await scene.turns.keep(repeated, ANSWER)
    assert await scene.said() == ["a question", "an answer"]


async def test_an_answer_is_kept_once(scene: Scene) -> None:
    run = await scene.begin("a question")
    await scene.turns.keep(run, ANSWER)
    await scene.turns.keep(run, ANSWER)
    assert await scene.said() == ["a question", "an answer"]


async def test_an_answer_for_a_deleted_conversation_is_nobody_s(scene: Scene) -> None:
    run = await scene.begin("a question")
    await ConversationStore(scene.database).delete(USER, scene.conversation_id)
    await scene.turns.keep(run, ANSWER)
    assert await scene.database.fetchval("SELECT count(*) FROM items") == 0
