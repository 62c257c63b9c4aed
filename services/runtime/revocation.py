"""Access tokens that are refused although they have not expired: each process has the whole list in memory.

The list is bounded by the life of tokens: an entry is dropped when the last token it may be about has expired.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from services.runtime.db import Connection, Database
from services.runtime.errors import Unavailable
from services.runtime.watch import Watch

CHANNEL = "revocations"
_SWEEP = 1000  # additions between two looks for what has expired


class DenyList:
    """What is revoked, as far as this process has been told."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self._added = 0
        self._loaded = False

    def follow(self, watch: Watch) -> None:
        """Keep up with what `Revocations.add` writes, in whichever process."""
        watch.on(CHANNEL, self._heard, self._load)

    async def ready(self) -> bool:
        """Whether the list has been read."""
        return self._loaded

    def denies(self, *subjects: str) -> bool:
        """Whether one of these token, session or key ids is revoked. Raises `Unavailable` before the list has been
        read: a token that might be revoked is not believed."""
        if not self._loaded:
            raise Unavailable("The list of revoked tokens is not there yet; try again shortly")
        return any(subject in self._until for subject in subjects)

    def _heard(self, payload: str) -> None:
        until, _, subject = payload.partition(" ")
        self._add(subject, float(until))

    async def _load(self, connection: Connection) -> None:
        rows = await connection.fetch("SELECT subject, expires_at FROM revocations WHERE expires_at > now()")
        for row in rows:
            self._add(row["subject"], row["expires_at"].timestamp())
        self._loaded = True

    def _add(self, subject: str, until: float) -> None:
        self._until[subject] = max(until, self._until.get(subject, 0.0))
        self._added += 1
        if self._added >= _SWEEP:
            self._added = 0
            now = self._clock()
            self._until = {each: until for each, until in self._until.items() if until > now}


class Revocations:
    """Writes the list; every process, this one too, is told within moments."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, subjects: Iterable[str], *, until: float) -> None:
        """Revoke token, session or key ids; `until`, in Unix seconds, is when the last token concerned has expired."""
        async with self._database.transaction() as connection:
            await revoke(connection, subjects, until=until)

    async def sweep(self) -> None:
        """Forget what has expired."""
        await self._database.execute("DELETE FROM revocations WHERE expires_at < now()")


async def revoke(connection: Connection, subjects: Iterable[str], *, until: float) -> None:
    """The same as a part of a transaction: told when that commits."""
    await connection.execute(
        """
        WITH added AS (
            INSERT INTO revocations (subject, expires_at)
            SELECT DISTINCT subject, $2::timestamptz FROM unnest($1::text[]) AS subject ORDER BY subject
            ON CONFLICT (subject) DO UPDATE SET expires_at = greatest(revocations.expires_at, excluded.expires_at)
            RETURNING subject, expires_at
        )
        SELECT pg_notify($3, extract(epoch FROM expires_at) || ' ' || subject) FROM added
        """,
        list(subjects),
        datetime.fromtimestamp(until, UTC),
        CHANNEL,
    )
