"""Images in PostgreSQL: what is stored, under which ids, and who may read it. The bytes are elsewhere, see `blobs.py`.

Whoever adds or takes a reference locks the row of the object first, so an object goes with its last reference and never
with one that has just come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.runtime.db import Connection, Database, Row
from services.runtime.errors import NotFound, UpstreamFailed
from services.runtime.image_header import ImageHeader
from services.runtime.pages import Listing, Page


@dataclass(frozen=True)
class Bringer:
    """Who brings an image, and what is said about it."""

    user_id: str
    filename: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Stored:
    """Bytes that the store has under `key`, and what they are."""

    key: str
    sha256: bytes
    size: int
    header: ImageHeader


class MediaStore:
    """Rows have id, key, sha256, mime, bytes, filename, deduped and created_at, as the user who asks sees them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, user_id: str, page: Page) -> Listing:
        """Images of a user, by the time they came. Raises `InvalidRequest` for a cursor that is none."""
        text = """
            WITH head AS (
                SELECT count(*)::int AS total_count, max(created_at) FILTER (WHERE media_id = $2) AS after_at
                FROM media_references WHERE user_id = $1
            )
            SELECT head.total_count, head.after_at, page.*
            FROM head LEFT JOIN LATERAL (
                SELECT r.media_id AS id, o.mime, o.bytes, r.filename, r.created_at
                FROM media_references r JOIN media m ON m.id = r.media_id JOIN media_objects o USING (sha256)
                WHERE r.user_id = $1 AND (r.created_at, r.media_id) {beyond} (coalesce(head.after_at, '{start}'), $2)
                ORDER BY r.created_at {direction}, r.media_id {direction} LIMIT $3 OFFSET $4
            ) page ON true
            ORDER BY page.created_at {direction}, page.id {direction}
        """
        rows = await self._database.fetch(page.sql(text), user_id, page.after, page.limit + 1, page.offset)
        return page.cut(rows)

    async def find(self, user_id: str, media_ids: Sequence[str]) -> dict[str, Row]:
        """Those of these images that a user can read, by id."""
        rows = await self._database.fetch(f"{_SEEN} WHERE r.user_id = $1 AND r.media_id = ANY($2)", user_id, media_ids)
        return {row["id"]: row for row in rows}

    async def shown(self, media_id: str) -> Row | None:
        """An image for whoever has a signed URL of it: id, key, sha256, mime and bytes, and no `filename`."""
        return await self._database.fetchrow(
            """
            SELECT m.id, o.key, o.sha256, o.mime, o.bytes, NULL AS filename
            FROM media m JOIN media_objects o USING (sha256) WHERE m.id = $1
            """,
            media_id,
        )

    async def pending(self, user_id: str, media_ids: Sequence[str]) -> list[str]:
        """Those of these ids that were given to a user and whose bytes have not been seen yet."""
        rows = await self._database.fetch(
            "SELECT id FROM media_uploads WHERE user_id = $1 AND id = ANY($2) AND expires_at > now()",
            *(user_id, media_ids),
        )
        return [row["id"] for row in rows]

    async def take(self, bringer: Bringer, sha256: bytes, upload_id: str | None) -> Row | None:
        """Give a reference to an object that is here, which counts as used; None when it is not. With `upload_id` that
        id, which was given out before, means it from now on. Raises `NotFound` when it does so no more."""
        async with self._database.transaction() as connection:
            return await _take(connection, bringer, sha256, upload_id)

    async def expect(self, key: str) -> None:
        """Say that an object is about to come under `key`, so that it is found if nothing more happens."""
        await self._database.execute(
            "INSERT INTO media_leftovers (key, until) VALUES ($1, now() + interval '1 hour')", key
        )

    async def create(self, bringer: Bringer, media_id: str, stored: Stored, upload_id: str | None) -> Row | None:
        """Make the row of an object that has come, under an id of its own, with its first reference; None when the same
        bytes are here by now. Raises `NotFound` as `take`."""
        async with self._database.transaction() as connection:
            if not await _insert_object(connection, media_id, stored):
                return None
            await _settle(connection, stored.key)
            await connection.execute("INSERT INTO media (id, sha256) VALUES ($1, $2)", media_id, stored.sha256)
            if upload_id is not None and not await _claim(connection, bringer, upload_id):
                raise _absent()
            await _refer(connection, bringer, media_id, deduped=False)
            return await _seen(connection, bringer, media_id)

    async def replace(self, sha256: bytes, lost: str, key: str) -> bool:
        """Point an object at the new `key` when the store has lost what it had; False when somebody else was faster."""
        async with self._database.transaction() as connection:
            changed = await connection.fetchval(
                "UPDATE media_objects SET key = $3 WHERE sha256 = $1 AND key = $2 RETURNING true", *(sha256, lost, key)
            )
            if changed:
                await _settle(connection, key)
            return bool(changed)

    async def forget(self, key: str) -> None:
        """The object under `key` is gone for good."""
        await self._database.execute("DELETE FROM media_leftovers WHERE key = $1", key)

    async def release(self, user_id: str, media_id: str) -> str | None:
        """Take a user's reference, or announced upload, away. Returns the key of the object when that was the last
        reference: its row is gone, and the object is a leftover. Raises `NotFound`."""
        async with self._database.transaction() as connection:
            if await _claim(connection, Bringer(user_id), media_id):
                return None
            sha256 = await _locked(connection, media_id)
            if sha256 is None or not await _unrefer(connection, user_id, media_id):
                raise _absent()
            return await _drop_unread(connection, sha256)


_SEEN = """
    SELECT r.media_id AS id, o.key, o.sha256, o.mime, o.bytes, r.filename, r.deduped, r.created_at
    FROM media_references r JOIN media m ON m.id = r.media_id JOIN media_objects o USING (sha256)
"""


async def _take(connection: Connection, bringer: Bringer, sha256: bytes, upload_id: str | None) -> Row | None:
    media_id = await connection.fetchval(
        "UPDATE media_objects SET used_at = now() WHERE sha256 = $1 RETURNING media_id", sha256
    )
    if media_id is None:
        return None
    if upload_id is not None:
        if not await _claim(connection, bringer, upload_id):
            raise _absent()
        await connection.execute("INSERT INTO media (id, sha256) VALUES ($1, $2)", upload_id, sha256)
        media_id = upload_id
    await _refer(connection, bringer, media_id, deduped=True)
    return await _seen(connection, bringer, media_id)


async def _insert_object(connection: Connection, media_id: str, stored: Stored) -> bool:
    header = stored.header
    inserted = await connection.fetchval(
        """
        INSERT INTO media_objects (sha256, media_id, key, mime, bytes, width, height)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (sha256) DO NOTHING RETURNING true
        """,
        *(stored.sha256, media_id, stored.key, header.mime, stored.size, header.width, header.height),
    )
    return bool(inserted)


async def _settle(connection: Connection, key: str) -> None:
    """What was expected has come. If it took so long that the sweeper may have removed it, it has not."""
    expected = await connection.fetchval(
        "DELETE FROM media_leftovers WHERE key = $1 AND until > clock_timestamp() RETURNING true", key
    )
    if not expected:
        raise UpstreamFailed("The object store took too long; try again", code="storage_error")


async def _claim(connection: Connection, bringer: Bringer, upload_id: str) -> bool:
    """Whether the upload still waited for its bytes; it does not any more."""
    return bool(
        await connection.fetchval(
            "DELETE FROM media_uploads WHERE id = $1 AND user_id = $2 RETURNING true", upload_id, bringer.user_id
        )
    )


async def _refer(connection: Connection, bringer: Bringer, media_id: str, *, deduped: bool) -> None:
    """What was said when a user brought it first stays."""
    await connection.execute(
        """
        INSERT INTO media_references (media_id, user_id, filename, label, deduped) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (media_id, user_id) DO NOTHING
        """,
        *(media_id, bringer.user_id, bringer.filename, bringer.label, deduped),
    )


async def _seen(connection: Connection, bringer: Bringer, media_id: str) -> Row:
    row = await connection.fetchrow(f"{_SEEN} WHERE r.user_id = $1 AND r.media_id = $2", bringer.user_id, media_id)
    if row is None:
        raise AssertionError("a reference that was made in this transaction is seen in it")
    return row


async def _locked(connection: Connection, media_id: str) -> bytes | None:
    found: bytes | None = await connection.fetchval(
        """
        SELECT o.sha256 FROM media_objects o JOIN media m USING (sha256) WHERE m.id = $1 FOR UPDATE OF o
        """,
        media_id,
    )
    return found


async def _unrefer(connection: Connection, user_id: str, media_id: str) -> bool:
    return bool(
        await connection.fetchval(
            "DELETE FROM media_references WHERE media_id = $1 AND user_id = $2 RETURNING true", *(media_id, user_id)
        )
    )


async def _drop_unread(connection: Connection, sha256: bytes) -> str | None:
    key: str | None = await connection.fetchval(
        """
        WITH dropped AS (
            DELETE FROM media_objects WHERE sha256 = $1 AND NOT EXISTS (
                SELECT FROM media m JOIN media_references r ON r.media_id = m.id WHERE m.sha256 = $1
            ) RETURNING key
        )
        INSERT INTO media_leftovers (key, until) SELECT key, now() FROM dropped RETURNING key
        """,
        sha256,
    )
    return key


def _absent() -> NotFound:
    return NotFound("There is no such image")
