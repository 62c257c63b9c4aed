"""Idempotency keys in PostgreSQL: who runs a call now, and what it answered, encrypted."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from services.runtime.db import Database
from services.runtime.errors import Conflict
from services.runtime.recording import Answer, pack, unpack
from services.runtime.vault import Unreadable, Vault
from services.runtime.watch import LOCKS, Watch

PURPOSE = "idempotency"
SWEEP = 1000
_TRIES = 3
log = logging.getLogger("jan.idempotency")

# An attempt takes the row when there is none, or one that binds nobody any more: it has expired, or it has no answer
# and the process that was to give one is dead, as its advisory lock tells. The lock is tried in shared mode so that two
# who try at once do not take each other for the holder. One's own are alive, also when the lock was just lost.
CLAIM = """
    INSERT INTO idempotency_keys AS found (scope, fingerprint, holder, run, expires_at)
    VALUES ($1, $2, $3, $4, now() + interval '24 hours')
    ON CONFLICT (scope) DO UPDATE SET
        fingerprint = excluded.fingerprint, holder = excluded.holder, run = excluded.run, answer = NULL,
        expires_at = excluded.expires_at
    WHERE found.expires_at <= now()
        OR (found.answer IS NULL AND found.holder <> $3 AND pg_try_advisory_xact_lock_shared($5, found.holder))
    RETURNING true
"""
FIND = "SELECT fingerprint, run, answer FROM idempotency_keys WHERE scope = $1"
KEEP = """
    UPDATE idempotency_keys SET answer = $3, expires_at = now() + interval '24 hours'
    WHERE scope = $1 AND run = $2
"""
FREE = "DELETE FROM idempotency_keys WHERE scope = $1 AND run = $2"
EXPIRE = """
    DELETE FROM idempotency_keys
    WHERE scope IN (SELECT scope FROM idempotency_keys WHERE expires_at <= now() LIMIT $1 FOR UPDATE SKIP LOCKED)
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call with a key: `scope` is whose key it is and for what, `fingerprint` what is asked, both SHA-256."""

    scope: bytes
    fingerprint: bytes
    run: UUID = field(default_factory=uuid4)


class AnswerStore:
    """The rows of all processes. Everything raises `Unavailable` when the database is not there."""

    def __init__(self, database: Database, watch: Watch, vault: Vault) -> None:
        self._database = database
        self._watch = watch
        self._vault = vault

    @property
    def reachable(self) -> bool:
        """Whether others can see that this process lives; without that they would take its keys."""
        return self._watch.connected

    async def claim(self, attempt: Attempt) -> Answer | None:
        """The answer to this very request, or None when it is for the caller to give and to `keep` or `free`. Raises
        `Conflict` when the key was used for another request, or when the first one still runs."""
        for _ in range(_TRIES):
            if await self._take(attempt):
                return None
            row = await self._database.fetchrow(FIND, attempt.scope)
            if row is None:
                continue  # freed in between
            if row["fingerprint"] != attempt.fingerprint:
                raise Conflict("This idempotency key was used for another request", code="idempotency_key_reuse")
            if row["answer"] is None:
                break
            try:
                return await asyncio.to_thread(self._open, attempt.scope, row["answer"])
            except Unreadable:
                log.warning("idempotency_answer_unreadable", extra={"remedy": "DATA_SECRET has changed; it runs anew"})
                await self._database.execute(FREE, attempt.scope, row["run"])
        message = "The first request with this idempotency key is still running"
        raise Conflict(message, code="idempotency_in_progress", retry_after=1)

    async def keep(self, attempt: Attempt, answer: Answer) -> None:
        """Keep the answer for 24 h, unless the key has been taken over."""
        sealed = await asyncio.to_thread(self._seal, attempt.scope, answer)
        await self._database.execute(KEEP, attempt.scope, attempt.run, sealed)

    async def free(self, attempt: Attempt) -> None:
        """Make the key as good as new, unless it has been taken over."""
        await self._database.execute(FREE, attempt.scope, attempt.run)

    async def _take(self, attempt: Attempt) -> bool:
        arguments = (attempt.scope, attempt.fingerprint, self._watch.number, attempt.run, LOCKS)
        return bool(await self._database.fetchval(CLAIM, *arguments))

    def _seal(self, scope: bytes, answer: Answer) -> bytes:
        return self._vault.seal(pack(answer), purpose=PURPOSE, about=scope)

    def _open(self, scope: bytes, sealed: bytes) -> Answer:
        return unpack(self._vault.open(sealed, purpose=PURPOSE, about=scope))


async def sweep(database: Database) -> None:
    """Delete what has expired, little by little."""
    while await database.execute(EXPIRE, SWEEP) == f"DELETE {SWEEP}":
        pass
