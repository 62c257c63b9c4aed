"""Conversations in PostgreSQL. What deletes one revokes its shares in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from services.llm.conversations.item_store import Draft, append, known
from services.runtime import ids
from services.runtime.db import Connection, Database, Row
from services.runtime.errors import NotFound
from services.runtime.pages import Listing, Page

BATCH = 100
"""Conversations that are deleted in one transaction when all are."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which conversations to list; empty texts and None exclude none."""

    project_id: str = ""
    referrer: str = ""
    search: str = ""
    """A part of the title, letter case aside."""
    is_archived: bool | None = None

    def conditions(self, first: int) -> tuple[str, list[str]]:
        """The filters that are given as SQL, and their arguments, which are numbered from `first`."""
        texts, args = list[str](), list[str]()
        for value, text in (
            (self.project_id, "project_id = ${}"),
            (self.referrer, "referrer = ${}"),
            (self.search, "strpos(lower(title), lower(${})) > 0"),
        ):
            if value:
                texts.append(text.format(first + len(args)))
                args.append(value)
        if self.is_archived is not None:
            texts.append("is_archived" if self.is_archived else "NOT is_archived")
        return "".join(f" AND {text}" for text in texts), args


@dataclass(frozen=True, slots=True)
class Change:
    """What to change of a conversation; None stays, an empty text removes."""

    title: str | None = None
    metadata: Mapping[str, str] | None = None
    project_id: str | None = None
    referrer: str | None = None
    is_archived: bool | None = None


class ConversationStore:
    """Every method is one transaction, except `delete_all`. A conversation of another user is as absent as one that
    does not exist: both raise `NotFound`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, user_id: str, given: Change, drafts: Sequence[Draft]) -> tuple[Row, list[Row]]:
        """Make a conversation with these items; return both. Raises `NotFound` (`project_not_found`)."""
        async with self._database.transaction() as connection:
            await _check_project(connection, user_id, given.project_id)
            row = await connection.fetchrow(
                """
                INSERT INTO conversations (id, user_id, title, metadata, project_id, referrer)
                VALUES ($1, $2, nullif($3, ''), $4, nullif($5, ''), nullif($6, ''))
                RETURNING id, title, metadata, project_id, referrer, is_archived, item_count, created_at, updated_at
                """,
                *(ids.new_id("conv"), user_id, given.title, orjson.dumps(given.metadata or {}).decode()),
                *(given.project_id, given.referrer),
            )
            created = _found(row)
            if not drafts:
                return created, []
            items = await append(connection, user_id, created["id"], drafts)
        return {**created, "item_count": len(items), "updated_at": items[-1]["updated_at"]}, items

    async def page(self, user_id: str, filters: Filters, page: Page) -> Listing:
        """Conversations of a user. Raises `InvalidRequest` for a cursor that is none.

        A cursor need not pass the filters, so that one that was archived in the meantime still leads on.
        """
        which, args = filters.conditions(5)
        text = f"""
            WITH head AS (
                SELECT (SELECT count(*)::int FROM conversations WHERE user_id = $1{which}) AS total_count,
                    (SELECT updated_at FROM conversations WHERE id = $2 AND user_id = $1) AS after_at
            )
            SELECT head.total_count, head.after_at, page.*
            FROM head LEFT JOIN LATERAL (
                SELECT id, title, metadata, project_id, referrer, is_archived, item_count, created_at, updated_at
                FROM conversations
                WHERE user_id = $1{which} AND (updated_at, id) {{beyond}} (coalesce(head.after_at, '{{start}}'), $2)
                ORDER BY updated_at {{direction}}, id {{direction}} LIMIT $3 OFFSET $4
            ) page ON true
            ORDER BY page.updated_at {{direction}}, page.id {{direction}}
        """  # noqa: S608  # `which` is made of the conditions above
        rows = await self._database.fetch(page.sql(text), user_id, page.after, page.limit + 1, page.offset, *args)
        return page.cut(rows)

    async def get(self, user_id: str, conversation_id: str) -> Row:
        """One conversation."""
        row = await self._database.fetchrow(
            """
            SELECT id, title, metadata, project_id, referrer, is_archived, item_count, created_at, updated_at
            FROM conversations WHERE id = $1 AND user_id = $2
            """,
            *(known(conversation_id), user_id),
        )
        return _found(row)

    async def update(self, user_id: str, conversation_id: str, change: Change) -> Row:
        """Change a conversation and return it. Raises `NotFound` also for the project (`project_not_found`)."""
        async with self._database.transaction() as connection:
            await _check_project(connection, user_id, change.project_id)
            row = await connection.fetchrow(
                """
                UPDATE conversations SET
                    title = nullif(coalesce($3, title), ''),
                    metadata = coalesce($4, metadata),
                    project_id = nullif(coalesce($5, project_id), ''),
                    referrer = nullif(coalesce($6, referrer), ''),
                    is_archived = coalesce($7, is_archived),
                    updated_at = clock_timestamp()
                WHERE id = $1 AND user_id = $2
                RETURNING id, title, metadata, project_id, referrer, is_archived, item_count, created_at, updated_at
                """,
                *(known(conversation_id), user_id, change.title),
                None if change.metadata is None else orjson.dumps(change.metadata).decode(),
                *(change.project_id, change.referrer, change.is_archived),
            )
        return _found(row)

    async def delete(self, user_id: str, conversation_id: str) -> None:
        """Delete a conversation with its items."""
        if not await self.delete_many(user_id, [conversation_id]):
            raise NotFound("There is no such conversation")

    async def delete_many(self, user_id: str, conversation_ids: Sequence[str]) -> set[str]:
        """Delete those of these conversations that the user has, with their items, and return their ids."""
        possible = [each for each in conversation_ids if "\0" not in each]
        async with self._database.transaction() as connection:
            gone = await _delete(connection, user_id, possible)
            await _revoke_shares(connection, user_id, gone)
        return set(gone)

    async def delete_all(self, user_id: str) -> int:
        """Delete all conversations of a user, a batch at a time, and return how many there were.

        When it breaks off, some are left; repeating is safe.
        """
        count = 0
        while batch := await self._oldest(user_id):
            count += len(await self.delete_many(user_id, batch))
        return count

    async def _oldest(self, user_id: str) -> list[str]:
        rows = await self._database.fetch(
            "SELECT id FROM conversations WHERE user_id = $1 ORDER BY updated_at, id LIMIT $2", user_id, BATCH
        )
        return [row["id"] for row in rows]


async def _delete(connection: Connection, user_id: str, conversation_ids: Sequence[str]) -> list[str]:
    """The ids of those that there were. Their rows are taken in one order, for two deletions of the same ones not to
    wait for each other."""
    rows = await connection.fetch(
        """
        WITH taken AS (
            SELECT id FROM conversations WHERE user_id = $1 AND id = ANY ($2) ORDER BY id FOR UPDATE
        )
        DELETE FROM conversations c USING taken WHERE c.id = taken.id AND c.user_id = $1
        RETURNING c.id
        """,
        *(user_id, conversation_ids),
    )
    return [row["id"] for row in rows]


async def _revoke_shares(connection: Connection, user_id: str, conversation_ids: Sequence[str]) -> None:
    """Whoever shares a conversation holds its row meanwhile, so after the deletion every share of it is seen."""
    await connection.execute(
        """
        WITH taken AS (
            SELECT id FROM shares WHERE conversation_id = ANY ($2) AND user_id = $1 AND revoked_at IS NULL
            ORDER BY id FOR NO KEY UPDATE
        )
        UPDATE shares SET revoked_at = now(), updated_at = now() FROM taken WHERE shares.id = taken.id
        """,
        *(user_id, conversation_ids),
    )


async def _check_project(connection: Connection, user_id: str, project_id: str | None) -> None:
    """Nobody deletes the project until the transaction ends. Raises `NotFound` when the user has none of that id."""
    if not project_id:
        return
    if "\0" not in project_id and await connection.fetchrow(
        "SELECT id FROM projects WHERE id = $1 AND user_id = $2 FOR KEY SHARE", project_id, user_id
    ):
        return
    raise NotFound("There is no such project", code="project_not_found", param="project_id")


def _found(row: Row | None) -> Row:
    if row is None:
        raise NotFound("There is no such conversation")
    return row
