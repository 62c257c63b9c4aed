"""What the sweeper asks of PostgreSQL. Each statement does one small batch and leaves alone what others work on, so any
number of processes may run them, and any of them may die."""

from __future__ import annotations

from collections.abc import Sequence

from services.runtime.db import Database

BATCH = 500
_PATIENCE = 60.0  # seconds for a statement that reads much; nobody waits for it


class SweepStore:
    """Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, chore: str, *, every: float) -> bool:
        """Whether it falls to the caller: nobody has begun it in the last `every` seconds."""
        return bool(
            await self._database.fetchval(
                """
                UPDATE media_chores SET begun_at = now()
                WHERE name = $1 AND begun_at <= now() - make_interval(secs => $2) RETURNING true
                """,
                *(chore, every),
            )
        )

    async def claim_part(self, *, every: float) -> str | None:
        """The part of the object store, as a prefix of keys, that waits longest for its check, if one does."""
        part: str | None = await self._database.fetchval(
            """
            UPDATE media_chores SET begun_at = now() WHERE name = (
                SELECT name FROM media_chores WHERE name LIKE '%/' AND begun_at <= now() - make_interval(secs => $1)
                ORDER BY begun_at, name LIMIT 1 FOR UPDATE SKIP LOCKED
            ) RETURNING name
            """,
            every,
        )
        return part

    async def expire(self, *, days: int) -> int:
        """Remove objects that nobody has brought for so long and that no conversation or share shows, with every id and
        reference; returns how many of a batch. Who brings one at this moment keeps it: its row is locked, or newer."""
        rows = await self._database.fetch(
            """
            WITH expired AS (
                SELECT o.sha256 FROM media_objects o
                WHERE o.used_at < now() - make_interval(days => $1) AND NOT EXISTS (
                    SELECT FROM media m JOIN media_in_use u ON u.media_id = m.id WHERE m.sha256 = o.sha256
                )
                ORDER BY o.used_at LIMIT $2 FOR UPDATE OF o SKIP LOCKED
            ), dropped AS (
                DELETE FROM media_objects o USING expired WHERE o.sha256 = expired.sha256 RETURNING o.key
            )
            INSERT INTO media_leftovers (key, until) SELECT key, now() FROM dropped
            ON CONFLICT (key) DO UPDATE SET until = now() RETURNING key
            """,
            *(days, BATCH),
            within=_PATIENCE,
        )
        return len(rows)

    async def drop_uploads(self) -> int:
        """Remove a batch of uploads whose time is over; returns how many. What came for them is a leftover since they
        were announced."""
        rows = await self._database.fetch(
            """
            DELETE FROM media_uploads WHERE id IN (
                SELECT id FROM media_uploads WHERE expires_at <= now()
                ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
            ) RETURNING id
            """,
            BATCH,
        )
        return len(rows)

    async def leftovers(self, *, besides: Sequence[str]) -> list[str]:
        """Keys of a batch of objects that nothing will ever ask for. What is about to get its row after all is locked
        here, or too late there (`media_store.py`)."""
        rows = await self._database.fetch(
            """
            SELECT key FROM media_leftovers l
            WHERE until <= now() AND key <> ALL($1) AND NOT EXISTS (SELECT FROM media_objects o WHERE o.key = l.key)
            ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED
            """,
            *(besides, BATCH),
        )
        return [row["key"] for row in rows]

    async def forget(self, key: str) -> None:
        """The object under `key` is gone."""
        await self._database.execute("DELETE FROM media_leftovers WHERE key = $1", key)

    async def disown(self, keys: Sequence[str]) -> list[str]:
        """Make leftovers of those objects that no row knows; returns their keys."""
        rows = await self._database.fetch(
            """
            INSERT INTO media_leftovers (key, until) SELECT key, now() FROM unnest($1::text[]) AS listed (key)
            WHERE NOT EXISTS (SELECT FROM media_objects o WHERE o.key = listed.key) AND NOT EXISTS (
                SELECT FROM media_uploads u WHERE listed.key LIKE 'images/%' AND u.id = substr(listed.key, 8)
            )
            ON CONFLICT DO NOTHING RETURNING key
            """,
            keys,
            within=_PATIENCE,
        )
        return [row["key"] for row in rows]

    async def expected(self, first_byte: int) -> list[str]:
        """Keys that the object store must have, of objects whose hash begins so."""
        rows = await self._database.fetch(
            "SELECT key FROM media_objects WHERE sha256 >= $1 AND sha256 < $2",
            *(bytes([first_byte]), bytes([first_byte + 1]) if first_byte < 255 else b"\xff" * 33),
            within=_PATIENCE,
        )
        return [row["key"] for row in rows]

    async def stored(self, keys: Sequence[str]) -> list[str]:
        """Those of these keys that an object still has."""
        rows = await self._database.fetch("SELECT key FROM media_objects WHERE key = ANY($1)", keys)
        return [row["key"] for row in rows]

    async def installation(self) -> str:
        """The id that tells this database from every other."""
        return str(await self._database.fetchval("SELECT id FROM media_installation"))
