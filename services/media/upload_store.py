"""Announced uploads in PostgreSQL: ids that were given out and whose bytes have not been seen yet."""

from __future__ import annotations

from datetime import datetime, timedelta

from services.media.media_store import Bringer
from services.runtime.db import Database

_GRACE = timedelta(hours=1)  # for what was begun before its time was over


class UploadStore:
    """Every method is one transaction. An upload whose time is over is absent."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, media_id: str, bringer: Bringer, *, mime: str, key: str, expires_at: datetime) -> None:
        """Give out an id. What comes under `key` is a leftover when nobody can send anything there any more: until then
        it can come again, also after the image was made of it."""
        async with self._database.transaction() as connection:
            await connection.execute(
                """
                INSERT INTO media_uploads (id, user_id, mime, filename, label, expires_at)
                VALUES ($1, $2, $3, $4, $5, $6)
                """,
                *(media_id, bringer.user_id, mime, bringer.filename, bringer.label, expires_at),
            )
            await connection.execute(
                "INSERT INTO media_leftovers (key, until) VALUES ($1, $2)", key, expires_at + _GRACE
            )

    async def find(self, media_id: str, user_id: str) -> Bringer | None:
        """Who announced it, and what was said about it; None when this user has not, or the image was made by now."""
        row = await self._database.fetchrow(
            """
            SELECT user_id, filename, label FROM media_uploads WHERE id = $1 AND user_id = $2 AND expires_at > now()
            """,
            *(media_id, user_id),
        )
        return Bringer(**row) if row is not None else None

    async def waits(self, media_id: str) -> bool:
        """Whether its bytes are still waited for."""
        return bool(
            await self._database.fetchval(
                "SELECT true FROM media_uploads WHERE id = $1 AND expires_at > now()", media_id
            )
        )

    async def remove(self, media_id: str, user_id: str) -> None:
        """The id is worth nothing any more."""
        await self._database.execute("DELETE FROM media_uploads WHERE id = $1 AND user_id = $2", media_id, user_id)
