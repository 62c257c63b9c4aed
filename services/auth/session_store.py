"""Sessions and their refresh tokens in PostgreSQL. A session that ends takes its access tokens with it: they are denied
in the same transaction, for as long as anybody might still believe them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.runtime import ids
from services.runtime.db import Connection, Database, Row
from services.runtime.errors import Unauthenticated
from services.runtime.revocation import revoke

_SIGNING = 60  # seconds, more than pass between the moment that a term begins and the signature of its access token


@dataclass(frozen=True)
class Term:
    """How a session goes on: with which refresh token, until when, and until when its access tokens are believed."""

    refresh_hash: bytes
    expires_at: datetime
    access_until: datetime


def term(refresh_hash: bytes, *, session_ttl: float, access_ttl: float) -> Term:
    """A term that begins now. `access_ttl`, in seconds, includes how far the clocks of verifiers may be behind."""
    now = datetime.now(UTC)
    return Term(
        refresh_hash,
        expires_at=now + timedelta(seconds=session_ttl),
        access_until=now + timedelta(seconds=access_ttl + _SIGNING),
    )


async def begin(database: Database, user_id: str, first: Term, *, password_hash: str | None = None) -> str:
    """Make a session and return its id. With `password_hash` only while the account has that one: else whoever knows an
    old password could slip in while it is changed. Raises `Unauthenticated`."""
    session_id = ids.new_id("ses")
    made = await database.execute(
        """
        WITH account AS (
            SELECT id FROM users WHERE id = $2 AND ($6::text IS NULL OR password_hash = $6) FOR SHARE
        ), session AS (
            INSERT INTO sessions (id, user_id, expires_at, access_until) SELECT $1, id, $3, $4 FROM account
            RETURNING id
        )
        INSERT INTO refresh_tokens (token_hash, session_id) SELECT $5, id FROM session
        """,
        session_id,
        user_id,
        first.expires_at,
        first.access_until,
        first.refresh_hash,
        password_hash,
    )
    if made != "INSERT 0 1":
        raise Unauthenticated("The account has changed just now; sign in again", code="invalid_credentials")
    return session_id


async def begin_without_refresh(connection: Connection, user_id: str, until: datetime) -> str:
    """Make a session for one access token, believed until then."""
    session_id = ids.new_id("ses")
    await connection.execute(
        "INSERT INTO sessions (id, user_id, expires_at, access_until) VALUES ($1, $2, $3, $3)",
        session_id,
        user_id,
        until,
    )
    return session_id


async def lock(connection: Connection, refresh_hash: bytes) -> Row | None:
    """The living session that a refresh token was made for, spent or not. Nobody else changes it until the transaction
    ends."""
    return await connection.fetchrow(
        """
        SELECT id, user_id FROM sessions
        WHERE id = (SELECT session_id FROM refresh_tokens WHERE token_hash = $1)
            AND revoked_at IS NULL AND expires_at > now()
        FOR UPDATE
        """,
        refresh_hash,
    )


async def spend(connection: Connection, refresh_hash: bytes) -> bool:
    """Use up a refresh token; False when that was done before."""
    spent = await connection.execute(
        "UPDATE refresh_tokens SET spent_at = now() WHERE token_hash = $1 AND spent_at IS NULL", refresh_hash
    )
    return spent == "UPDATE 1"


async def renew(connection: Connection, session_id: str, user_id: str, following: Term) -> Row | None:
    """Give a living session its next term; return the account as it is now, or None when the session has ended."""
    return await connection.fetchrow(
        """
        WITH session AS (
            UPDATE sessions SET expires_at = $3, access_until = greatest(access_until, $4)
            WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at > now()
            RETURNING id, user_id
        ), token AS (
            INSERT INTO refresh_tokens (token_hash, session_id) SELECT $5, id FROM session
        )
        SELECT users.id, username, email, full_name, is_guest, roles, users.created_at
        FROM users JOIN session ON users.id = session.user_id
        """,
        session_id,
        user_id,
        following.expires_at,
        following.access_until,
        following.refresh_hash,
    )


async def end(connection: Connection, session_id: str, user_id: str) -> None:
    """End a session of an account, if it has not ended yet."""
    ended = await connection.fetch(
        """
        UPDATE sessions SET revoked_at = now() WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL
        RETURNING id, access_until
        """,
        session_id,
        user_id,
    )
    await _deny(connection, ended)


async def end_of_refresh_token(connection: Connection, refresh_hash: bytes) -> None:
    """End the session that a refresh token was made for, if there is one."""
    ended = await connection.fetch(
        """
        UPDATE sessions SET revoked_at = now()
        WHERE id = (SELECT session_id FROM refresh_tokens WHERE token_hash = $1) AND revoked_at IS NULL
        RETURNING id, access_until
        """,
        refresh_hash,
    )
    await _deny(connection, ended)


async def end_all(connection: Connection, user_id: str, *, but: str = "") -> None:
    """End every session of an account, save one."""
    ended = await connection.fetch(
        """
        UPDATE sessions SET revoked_at = now() WHERE user_id = $1 AND id <> $2 AND revoked_at IS NULL
        RETURNING id, access_until
        """,
        user_id,
        but,
    )
    await _deny(connection, ended)


async def sweep(database: Database, *, session_ttl: float, batch: int = 10_000) -> None:
    """Delete the sessions that are over, and refresh tokens spent so long ago that they had expired anyway. However
    many they are, no statement deletes more than a `batch`, which it has time for."""
    while await _delete_sessions(database, batch) == batch:
        pass
    while await _delete_spent(database, batch, session_ttl) == batch:
        pass


async def _delete_sessions(database: Database, most: int) -> int:
    deleted = await database.execute(
        """
        DELETE FROM sessions
        WHERE id IN (SELECT id FROM sessions WHERE expires_at < now() AND access_until < now() LIMIT $1)
        """,
        most,
    )
    return int(deleted.removeprefix("DELETE "))


async def _delete_spent(database: Database, most: int, session_ttl: float) -> int:
    deleted = await database.execute(
        """
        DELETE FROM refresh_tokens WHERE token_hash IN (
            SELECT token_hash FROM refresh_tokens WHERE spent_at < now() - $2 * interval '1 second' LIMIT $1
        )
        """,
        most,
        float(session_ttl),
    )
    return int(deleted.removeprefix("DELETE "))


async def _deny(connection: Connection, ended: Sequence[Row]) -> None:
    if ended:
        until = max(session["access_until"] for session in ended).timestamp()
        await revoke(connection, [session["id"] for session in ended], until=until)
