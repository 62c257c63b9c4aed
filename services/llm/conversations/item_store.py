"""The items of conversations in PostgreSQL.

Whoever adds, changes or deletes items first takes the row of their conversation, which orders writers: positions follow
the order of commits, so a reader that goes on behind the last item it saw misses none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from services.runtime import ids
from services.runtime.db import Connection, Database, Row
from services.runtime.errors import NotFound
from services.runtime.pages import Listing, Order, Page

# Behind which position a list begins. The first item has position 1.
_START: Mapping[Order, int] = {"asc": 0, "desc": 2**63 - 1}


@dataclass(frozen=True, slots=True)
class Draft:
    """An item to store: the columns of its row, where `content`, `usage` and their like are plain JSON."""

    role: str
    content: Any = None
    type: str = "message"
    content_type: str = "text"
    status: str = "completed"
    metadata: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    usage: Mapping[str, int] | None = None
    finish_reason: str | None = None
    latency_ms: int | None = None
    tool_calls: Sequence[Mapping[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: Any = None
    call_id: str | None = None
    reasoning_content: str | None = None
    id: str = field(default_factory=lambda: ids.new_id("msg"))


@dataclass(frozen=True, slots=True)
class ItemChange:
    """What to change of an item; None stays."""

    content: Any = None
    metadata: Mapping[str, str] | None = None


async def append(
    where: Database | Connection, user_id: str, conversation_id: str, drafts: Sequence[Draft]
) -> list[Row]:
    """Add items to the end of a conversation, all or none, and return them. Raises `NotFound` without the conversation.

    One statement, so it needs no transaction and may be part of one, in which it holds the row of the conversation.
    """
    rows = await where.fetch(
        """
        WITH place AS (
            UPDATE conversations SET
                last_position = last_position + $3, item_count = item_count + $3, updated_at = clock_timestamp()
            WHERE id = $1 AND user_id = $2
            RETURNING id, last_position - $3 AS before, updated_at
        )
        INSERT INTO items (
            id, conversation_id, position, type, role, content, content_type, status, metadata, model, usage,
            finish_reason, latency_ms, tool_calls, tool_call_id, name, arguments, output, call_id, reasoning_content,
            created_at, updated_at
        )
        SELECT
            new.id, place.id, place.before + new.number, new.type, new.role, new.content, new.content_type, new.status,
            new.metadata, new.model, new.usage, new.finish_reason, new.latency_ms, new.tool_calls, new.tool_call_id,
            new.name, new.arguments, new.output, new.call_id, new.reasoning_content, place.updated_at, place.updated_at
        FROM place, ROWS FROM (
            json_to_recordset($4) AS (
                id text, type text, role text, content json, content_type text, status text, metadata json,
                model text, usage json, finish_reason text, latency_ms integer, tool_calls json, tool_call_id text,
                name text, arguments text, output json, call_id text, reasoning_content text
            )
        ) WITH ORDINALITY AS new (
            id, type, role, content, content_type, status, metadata, model, usage, finish_reason, latency_ms,
            tool_calls, tool_call_id, name, arguments, output, call_id, reasoning_content, number
        )
        ORDER BY new.number
        RETURNING id, position, type, role, content, content_type, status, metadata, model, usage, finish_reason,
            latency_ms, tool_calls, tool_call_id, name, arguments, output, call_id, reasoning_content, created_at,
            updated_at
        """,
        *(conversation_id, user_id, len(drafts), orjson.dumps(drafts).decode()),
    )
    if not rows:
        raise NotFound("There is no such conversation")
    return rows


class ItemStore:
    """Every method is one transaction. A conversation of another user is as absent as one that does not exist: both
    raise `NotFound`. `largest` is how many bytes of items are read at once."""

    def __init__(self, database: Database, *, largest: int) -> None:
        self._database = database
        self._largest = largest

    async def append(self, user_id: str, conversation_id: str, drafts: Sequence[Draft]) -> list[Row]:
        """Add items to the end of a conversation, all or none, and return them."""
        return await append(self._database, user_id, known(conversation_id), drafts)

    async def page(self, user_id: str, conversation_id: str, page: Page) -> Listing:
        """The items of a conversation: fewer than the page has room for when together they would be too large. Raises
        `InvalidRequest` for a cursor that is none."""
        rows = await self._database.fetch(
            page.sql(
                """
                WITH head AS (
                    SELECT id AS conversation_id, item_count AS total_count,
                        (SELECT position FROM items WHERE id = $3 AND conversation_id = $1) AS after_at
                    FROM conversations WHERE id = $1 AND user_id = $2
                )
                SELECT head.total_count, head.after_at, page.*
                FROM head LEFT JOIN LATERAL (
                    SELECT near.*, sum(size) OVER (ORDER BY position {direction}) - size AS before,
                        count(*) OVER () AS near
                    FROM (
                        SELECT id, position, type, role, content, content_type, status, metadata, model, usage,
                            finish_reason, latency_ms, tool_calls, tool_call_id, name, arguments, output, call_id,
                            reasoning_content, created_at, updated_at, size
                        FROM items
                        WHERE conversation_id = head.conversation_id AND position {beyond} coalesce(head.after_at, $6)
                        ORDER BY position {direction} LIMIT $4 OFFSET $5
                    ) near
                ) page ON page.before = 0 OR page.before + page.size <= $7
                ORDER BY page.position {direction}
                """
            ),
            *(known(conversation_id), user_id, page.after, page.limit + 1, page.offset, _START[page.order]),
            self._largest,
        )
        if not rows:
            raise NotFound("There is no such conversation")
        found = page.cut(rows)
        return replace(found, has_more=(rows[0]["near"] or 0) > len(found.rows))

    async def get(self, user_id: str, conversation_id: str, item_id: str) -> Row:
        """One item."""
        row = await self._database.fetchrow(
            """
            SELECT i.id, i.position, i.type, i.role, i.content, i.content_type, i.status, i.metadata, i.model, i.usage,
                i.finish_reason, i.latency_ms, i.tool_calls, i.tool_call_id, i.name, i.arguments, i.output, i.call_id,
                i.reasoning_content, i.created_at, i.updated_at
            FROM items i JOIN conversations c ON c.id = i.conversation_id
            WHERE i.id = $3 AND c.id = $1 AND c.user_id = $2
            """,
            *(known(conversation_id), user_id, known(item_id)),
        )
        return _found(row)

    async def update(self, user_id: str, conversation_id: str, item_id: str, change: ItemChange) -> Row:
        """Change an item in its place and return it."""
        row = await self._database.fetchrow(
            """
            WITH place AS (
                UPDATE conversations SET updated_at = clock_timestamp()
                WHERE id = $1 AND user_id = $2 AND EXISTS (SELECT FROM items WHERE id = $3 AND conversation_id = $1)
                RETURNING id, updated_at
            )
            UPDATE items i SET
                content = coalesce($4, i.content), metadata = coalesce($5, i.metadata), updated_at = place.updated_at
            FROM place WHERE i.id = $3 AND i.conversation_id = place.id
            RETURNING i.id, i.position, i.type, i.role, i.content, i.content_type, i.status, i.metadata, i.model,
                i.usage, i.finish_reason, i.latency_ms, i.tool_calls, i.tool_call_id, i.name, i.arguments, i.output,
                i.call_id, i.reasoning_content, i.created_at, i.updated_at
            """,
            *(known(conversation_id), user_id, known(item_id)),
            *(None if each is None else orjson.dumps(each).decode() for each in (change.content, change.metadata)),
        )
        return _found(row)

    async def delete(self, user_id: str, conversation_id: str, item_id: str) -> None:
        """Delete an item, and the outputs of the tools that it calls."""
        async with self._database.transaction() as connection:
            await _take(connection, user_id, known(conversation_id))
            count = await _delete(connection, conversation_id, known(item_id))
            if not count:
                raise NotFound("There is no such item")
            await connection.execute(
                """
                UPDATE conversations SET item_count = item_count - $2, updated_at = clock_timestamp() WHERE id = $1
                """,
                *(conversation_id, count),
            )


async def _take(connection: Connection, user_id: str, conversation_id: str) -> None:
    """Let nobody else change this conversation until the transaction ends."""
    row = await connection.fetchrow(
        "SELECT id FROM conversations WHERE id = $1 AND user_id = $2 FOR NO KEY UPDATE", conversation_id, user_id
    )
    if row is None:
        raise NotFound("There is no such conversation")


async def _delete(connection: Connection, conversation_id: str, item_id: str) -> int:
    """How many items were deleted. Models give the ids of their calls out again, so an output belongs to the nearest
    item before it that holds calls."""
    rows = await connection.fetch(
        """
        WITH target AS (
            SELECT id, position, ARRAY(SELECT call ->> 'id' FROM json_array_elements(tool_calls) call) AS calls
            FROM items WHERE id = $2 AND conversation_id = $1
        ), reach AS (
            SELECT target.position AS low, min(next.position) AS high
            FROM target LEFT JOIN items next
                ON next.conversation_id = $1 AND next.position > target.position AND next.tool_calls IS NOT NULL
            WHERE cardinality(target.calls) > 0
            GROUP BY target.position
        )
        DELETE FROM items i USING target LEFT JOIN reach ON true
        WHERE i.conversation_id = $1 AND (
            i.id = target.id
            OR i.role = 'tool' AND i.position > reach.low AND (reach.high IS NULL OR i.position < reach.high)
                AND coalesce(i.tool_call_id, i.call_id) = ANY (target.calls)
        )
        RETURNING i.id
        """,
        *(conversation_id, item_id),
    )
    return len(rows)


def known(id_: str) -> str:
    """An id that may exist. Raises `NotFound` for text that PostgreSQL does not have."""
    if "\0" in id_:
        raise NotFound("There is no such conversation or item")
    return id_


def _found(row: Row | None) -> Row:
    if row is None:
        raise NotFound("There is no such item")
    return row
