"""Shares in PostgreSQL, each found by its owner, or by anybody who knows its slug.

The copy is made inside the database, as JSON in the shape of `jan.llm.v1.SharedItem`.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass

from services.runtime import ids
from services.runtime.db import Connection, Database, Row
from services.runtime.errors import Gone, NotFound, TooLarge
from services.runtime.pages import Listing, Page

SLUG = 22
"""Characters of a slug, which are 131 random bits."""
_BASE62 = string.digits + string.ascii_letters
# What readers see of a conversation: what users and models say. Prompts, tools and reasoning are the owner's.
_SHOWN = """type = 'message' AND role IN ('user', 'assistant') AND content::text NOT IN ('null', '""')"""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is shared of a conversation, and how. No `item_id`: everything; no `title`: that of the conversation, and
    the empty one is none; `expires_in` is in seconds, None for ever."""

    item_id: str = ""
    title: str | None = None
    expires_in: int | None = None
    read_only: bool = True
    allow_feedback: bool = False
    include_images: bool = True


def new_slug() -> str:
    """The end of an address that nobody can guess."""
    return "".join(secrets.choice(_BASE62) for _ in range(SLUG))


class ShareStore:
    """Lists show the newest shares first; one that was revoked is a cursor all the same. `largest` is how many bytes of
    content a share may have."""

    def __init__(self, database: Database, *, largest: int) -> None:
        self._database = database
        self._largest = largest

    async def create(self, user_id: str, conversation_id: str, terms: Terms) -> Row:
        """Copy a conversation as it is now. Raises `NotFound`, and `TooLarge` for one that no reader could load."""
        async with self._database.transaction() as connection:
            title = await _lock_conversation(connection, user_id, conversation_id)
            if terms.item_id:
                await _check_item(connection, conversation_id, terms.item_id)
            title = (title if terms.title is None else terms.title) or None
            row = await _copy(connection, user_id, conversation_id, terms=terms, title=title, largest=self._largest)
        if row is None:
            raise TooLarge(f"This is more than {self._largest} bytes; share one message, or leave out the images")
        return row

    async def page(
        self, user_id: str, page: Page, *, include_revoked: bool, conversation_id: str | None = None
    ) -> Listing:
        """The shares of a user, or of one conversation. Raises `InvalidRequest` for a cursor that is none."""
        whose = "user_id = $1" if conversation_id is None else "user_id = $1 AND conversation_id = $6"
        more = () if conversation_id is None else (conversation_id,)
        text = f"""
            WITH head AS (
                SELECT
                    (SELECT count(*)::int FROM shares WHERE {whose} AND ($5 OR revoked_at IS NULL)) AS total_count,
                    (SELECT created_at FROM shares WHERE {whose} AND id = $2) AS after_at
            )
            SELECT head.total_count, head.after_at, page.*
            FROM head LEFT JOIN LATERAL (
                SELECT id, slug, conversation_id, item_id, title, read_only, allow_feedback, view_count,
                    created_at, expires_at, revoked_at
                FROM shares
                WHERE {whose} AND ($5 OR revoked_at IS NULL)
                    AND (created_at, id) {{beyond}} (coalesce(head.after_at, '{{start}}'), $2)
                ORDER BY created_at {{direction}}, id {{direction}} LIMIT $3 OFFSET $4
            ) page ON true
            ORDER BY page.created_at {{direction}}, page.id {{direction}}
        """  # noqa: S608  # `whose` is one of the two conditions above
        args = (user_id, page.after, page.limit + 1, page.offset, include_revoked)
        return page.cut(await self._database.fetch(page.sql(text), *args, *more))

    async def revoke(self, user_id: str, share_id: str, conversation_id: str | None = None) -> None:
        """End a share, which must be of that conversation if one is named. Raises `NotFound`."""
        row = await self._database.fetchrow(
            """
            UPDATE shares SET
                revoked_at = coalesce(revoked_at, now()),
                updated_at = CASE WHEN revoked_at IS NULL THEN now() ELSE updated_at END
            WHERE id = $1 AND user_id = $2 AND ($3::text IS NULL OR conversation_id = $3)
            RETURNING id
            """,
            *(share_id, user_id, conversation_id),
        )
        if row is None:
            raise NotFound("There is no such share")

    async def read(self, slug: str) -> Row:
        """What anybody may see of a share, and its `id`. Raises `NotFound`, and `Gone` once it has ended."""
        row = await self._database.fetchrow(
            """
            SELECT id, slug, user_id, title, read_only, allow_feedback, created_at, expires_at, revoked_at,
                coalesce(expires_at <= now(), false) AS expired,
                CASE WHEN revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) THEN items END AS items
            FROM shares WHERE slug = $1
            """,
            slug,
        )
        if row is None:
            raise NotFound("There is no such share")
        if row["revoked_at"] is not None:
            raise Gone("This share was revoked", code="share_revoked")
        if row["expired"]:
            raise Gone("This share has expired", code="share_expired")
        return row

    async def count_views(self, views: Mapping[str, int]) -> None:
        """Add what was read, by the ids of shares. The rows are locked in one order, as other processes do, too."""
        await self._database.execute(
            """
            WITH seen AS (
                SELECT shares.id, views.number
                FROM shares JOIN unnest($1::text[], $2::int[]) AS views (id, number) USING (id)
                ORDER BY shares.id FOR NO KEY UPDATE OF shares
            )
            UPDATE shares SET view_count = view_count + seen.number FROM seen WHERE shares.id = seen.id
            """,
            *(list(views), list(views.values())),
        )


async def _lock_conversation(connection: Connection, user_id: str, conversation_id: str) -> str | None:
    """The title of a conversation that nobody deletes until the transaction ends: its deletion finds the new share."""
    row = await connection.fetchrow(
        "SELECT title FROM conversations WHERE id = $1 AND user_id = $2 FOR KEY SHARE", *(conversation_id, user_id)
    )
    if row is None:
        raise NotFound("There is no such conversation")
    title: str | None = row["title"]
    return title


async def _check_item(connection: Connection, conversation_id: str, item_id: str) -> None:
    shown = await connection.fetchval(
        f"SELECT true FROM items WHERE id = $1 AND conversation_id = $2 AND {_SHOWN}",  # noqa: S608  # as above
        *(item_id, conversation_id),
    )
    if not shown:
        raise NotFound("There is no such message of the user or the model in this conversation", param="item_id")


async def _copy(
    connection: Connection,
    user_id: str,
    conversation_id: str,
    *,
    terms: Terms,
    title: str | None,
    largest: int,
) -> Row | None:
    """A new share of what users and models say, or of one message and the one before; None if that is too large."""
    return await connection.fetchrow(
        f"""
        WITH chosen AS (
            SELECT id, type, role, position, created_at,
                CASE WHEN $5 OR json_typeof(content) <> 'array' THEN content ELSE (
                    SELECT coalesce(json_agg(part ORDER BY nth), '[]')
                    FROM json_array_elements(content) WITH ORDINALITY AS parts (part, nth)
                    WHERE part->>'type' IS NULL OR part->>'type' NOT IN ('image_url', 'input_image')
                ) END AS content
            FROM items
            WHERE conversation_id = $4 AND {_SHOWN}
                AND ($6 = '' OR position <= (SELECT position FROM items WHERE id = $6))
            ORDER BY position DESC
            LIMIT CASE WHEN $6 <> '' THEN 2 END
        ), measured AS (
            SELECT coalesce(sum(octet_length(content::text)), 0) AS bytes FROM chosen
        )
        INSERT INTO shares (
            id, slug, user_id, conversation_id, item_id, title, expires_at, read_only, allow_feedback, items
        )
        SELECT $1, $2, $3, $4, nullif($6, ''), $7, now() + make_interval(secs => $8), $9, $10,
            coalesce(
                json_agg(
                    json_build_object(
                        'id', id, 'type', type, 'role', role, 'content', content,
                        'created_at', floor(extract(epoch FROM created_at))::bigint
                    )
                    ORDER BY position
                ) FILTER (WHERE id IS NOT NULL),
                '[]'
            )
        FROM measured LEFT JOIN chosen ON true
        WHERE measured.bytes <= $11  -- before anything is put together: PostgreSQL has no text of a gigabyte
        GROUP BY measured.bytes
        RETURNING id, slug, conversation_id, item_id, title, read_only, allow_feedback, view_count,
            created_at, expires_at, revoked_at
        """,  # noqa: S608  # as above
        *(ids.new_id("shr"), new_slug(), user_id, conversation_id, terms.include_images, terms.item_id, title),
        *(terms.expires_in, terms.read_only, terms.allow_feedback, largest),
    )
