"""Generations in conversations, in PostgreSQL: who makes an answer now, what was said before, what came of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import orjson

from services.llm.conversations.history import Past
from services.llm.conversations.item_store import Draft, append, known
from services.llm.providers.provider import Json
from services.runtime.db import Connection, Database, Row
from services.runtime.errors import Conflict, NotFound
from services.runtime.watch import LOCKS, Watch

log = logging.getLogger("jan.turns")
_JSON = ("content", "tool_calls", "output")
_SMALLEST = 4  # tokens of a message, whatever it says (token_counts.py)


@dataclass(frozen=True, slots=True)
class Run:
    """One generation in a conversation of a user."""

    user_id: str
    conversation_id: str
    id: UUID = field(default_factory=uuid4)
    after: int = -1
    """The position of the last item before its answer; below all of them while that is not known."""


class Opening:
    """A conversation that a run has taken, in the transaction that takes it."""

    def __init__(self, connection: Connection, run: Run, row: Row, *, largest: int) -> None:
        self.title: str | None = row["title"]
        self.project_id: str = row["project_id"] or ""
        self.instruction: str = (row["instruction"] or "").strip()
        self.last_position: int = row["last_position"]
        self._connection = connection
        self._run = run
        self._largest = largest

    async def past(self, *, before: int = 2**63 - 1, window: int = 0) -> Past:
        """The items before a position: all of them, or the last ones, about as many as a context window of so many
        tokens can hold and no more bytes than a request may have."""
        most = window // _SMALLEST + 1 if window else None
        rows = await self._connection.fetch(
            """
            SELECT * FROM (
                SELECT near.*, sum(size) OVER (ORDER BY position DESC) - size AS before, count(*) OVER () AS near
                FROM (
                    SELECT id, position, type, role, content, tool_calls, tool_call_id, name, arguments, output,
                        call_id, model, size
                    FROM items WHERE conversation_id = $1 AND position < $2 AND type <> 'reasoning'
                    ORDER BY position DESC LIMIT $3
                ) near
            ) measured
            WHERE before = 0 OR before + size <= $4
            ORDER BY position DESC
            """,
            *(self._run.conversation_id, before, most, self._largest),
        )
        whole = not rows or len(rows) == rows[0]["near"] != most
        return Past([_item(row) for row in reversed(rows)], whole=whole)

    async def target(self, item_id: str) -> Json | None:
        """An item of the conversation, with the position `asked_at` of the last message of the user up to it."""
        row = await self._connection.fetchrow(
            """
            SELECT i.id, i.position, i.type, i.role, i.model, asked.position AS asked_at
            FROM items i LEFT JOIN LATERAL (
                SELECT position FROM items
                WHERE conversation_id = $1 AND position <= i.position AND role = 'user' AND type = 'message'
                ORDER BY position DESC LIMIT 1
            ) asked ON true
            WHERE i.id = $2 AND i.conversation_id = $1
            """,
            *(self._run.conversation_id, known(item_id)),
        )
        return dict(row) if row is not None else None

    async def answer_to(self, position: int) -> str | None:
        """The model of the last answer to the message at that position."""
        model: str | None = await self._connection.fetchval(
            """
            SELECT model FROM items
            WHERE conversation_id = $1 AND model IS NOT NULL AND position > $2 AND position < coalesce((
                SELECT min(position) FROM items
                WHERE conversation_id = $1 AND position > $2 AND role = 'user' AND type = 'message'
            ), 9223372036854775807)
            ORDER BY position DESC LIMIT 1
            """,
            *(self._run.conversation_id, position),
        )
        return model

    async def add(self, drafts: Sequence[Draft], title: str | None) -> None:
        """Store what is new, and a title where there is none."""
        if drafts:
            rows = await append(self._connection, self._run.user_id, self._run.conversation_id, drafts)
            self.last_position = rows[-1]["position"]
        if title is not None and not self.title:
            await self._connection.execute(
                "UPDATE conversations SET title = $2 WHERE id = $1", self._run.conversation_id, title
            )
            self.title = title


class TurnStore:
    """The conversations of all processes. Everything raises `Unavailable` when the database is not there. `largest` is
    how many bytes of a conversation a model is sent at most."""

    def __init__(self, database: Database, watch: Watch, *, largest: int) -> None:
        self._database = database
        self._watch = watch
        self._largest = largest

    @property
    def reachable(self) -> bool:
        """Whether others can see that this process lives; without that they would take its conversations."""
        return self._watch.connected

    @asynccontextmanager
    async def opening(self, run: Run, missing: NotFound) -> AsyncIterator[Opening]:
        """Take a conversation for `run`, unless the block raises, until `keep`, `replace` or `free`. Raises `missing`,
        or `Conflict` (`conversation_busy`) while somebody else has it who lives."""
        if "\0" in run.conversation_id:
            raise missing
        async with self._database.transaction() as connection:
            row = await self._take(connection, run)
            if row is None:
                raise missing
            if not row["taken"]:
                message = "Another answer is being generated in this conversation"
                raise Conflict(message, code="conversation_busy", param="conversation", retry_after=1)
            yield Opening(connection, run, row, largest=self._largest)

    async def keep(self, run: Run, answer: Draft) -> None:
        """Store the answer of a run and free its conversation. May be repeated. Does nothing when the conversation has
        been deleted, or taken over while the database was away and gone on with: there the answer would stand behind
        somebody else's question."""
        async with self._database.transaction() as connection:
            belongs = await connection.fetchval(
                """
                WITH place AS (
                    SELECT id, last_position FROM conversations WHERE id = $1 FOR NO KEY UPDATE
                ), freed AS (
                    DELETE FROM generations g USING place WHERE g.conversation_id = place.id AND g.run = $2
                    RETURNING true
                )
                SELECT EXISTS (SELECT FROM freed) OR last_position = $3 FROM place
                """,
                *(run.conversation_id, run.id, run.after),
            )
            if belongs:
                await append(connection, run.user_id, run.conversation_id, [answer])
            else:
                log.warning("turn_overtaken", extra={"conversation_id": run.conversation_id})

    async def replace(self, run: Run, answer: Draft, *, after: int) -> None:
        """Put the answer of a run in the place of all that stands behind the item at position `after`, and free its
        conversation. Raises `NotFound` when that has been deleted, `Conflict` when the item has, or when somebody else
        has taken the conversation over."""
        async with self._database.transaction() as connection:
            if await connection.fetchrow(_LOCK, run.conversation_id, run.user_id) is None:
                raise NotFound("The conversation was deleted while its answer was generated")
            if not await connection.fetchval(f"{_FREE} RETURNING true", run.conversation_id, run.id):
                raise Conflict("Somebody else went on with this conversation while the answer was generated")
            await _remove(connection, run.conversation_id, after)
            await append(connection, run.user_id, run.conversation_id, [answer])

    async def free(self, run: Run) -> None:
        """Let others generate in this conversation, unless one of them has taken it over."""
        await self._database.execute(_FREE, run.conversation_id, run.id)

    async def _take(self, connection: Connection, run: Run) -> Row | None:
        """A dead process is told by its advisory lock, as in services/runtime/idempotency_store.py. Like everybody who
        changes a conversation this takes its row first, so that nobody waits for each other."""
        return await connection.fetchrow(
            """
            WITH owned AS (
                SELECT c.id, c.title, c.project_id, c.last_position, p.instruction
                FROM conversations c LEFT JOIN projects p ON p.id = c.project_id
                WHERE c.id = $1 AND c.user_id = $2
                FOR NO KEY UPDATE OF c
            ), taken AS (
                INSERT INTO generations AS found (conversation_id, holder, run)
                SELECT id, $3, $4 FROM owned
                ON CONFLICT (conversation_id) DO UPDATE SET holder = excluded.holder, run = excluded.run
                WHERE found.holder <> $3 AND pg_try_advisory_xact_lock_shared($5, found.holder)
                RETURNING true
            )
            SELECT title, project_id, last_position, instruction, EXISTS (SELECT FROM taken) AS taken FROM owned
            """,
            *(run.conversation_id, run.user_id, self._watch.number, run.id, LOCKS),
        )


_LOCK = "SELECT id FROM conversations WHERE id = $1 AND user_id = $2 FOR NO KEY UPDATE"
_FREE = "DELETE FROM generations WHERE conversation_id = $1 AND run = $2"


async def _remove(connection: Connection, conversation_id: str, after: int) -> None:
    """Remove all items behind the one at that position."""
    count = await connection.fetchval(
        """
        WITH gone AS (
            DELETE FROM items WHERE conversation_id = $1 AND position > $2 RETURNING 1
        ), counted AS (
            UPDATE conversations SET item_count = item_count - (SELECT count(*) FROM gone) WHERE id = $1
        )
        SELECT count(*) FROM items WHERE conversation_id = $1 AND position = $2
        """,
        *(conversation_id, after),
    )
    if not count:
        raise Conflict("The message was deleted while its answer was generated")


def _item(row: Row) -> dict[str, Any]:
    item = dict(row)
    item |= {name: orjson.loads(item[name]) for name in _JSON if item[name] is not None}
    return item
