"""Accounts and sessions in PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.runtime import ids
from services.runtime.db import Database, Row


class AccountStore:
    """Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_guest(self, refresh_hash: bytes, *, session_ttl: float) -> tuple[Row, str]:
        """Make a guest with a session and its first refresh token; return the account and the session's id."""
        user_id, session_id = ids.new_id("usr"), ids.new_id("ses")
        user = await self._database.fetchrow(
            """
            WITH account AS (
                INSERT INTO users (id, username, is_guest, roles) VALUES ($1, $2, true, ARRAY['guest'])
                RETURNING id, username, email, full_name, is_guest, roles, created_at
            ), session AS (
                INSERT INTO sessions (id, user_id, expires_at) SELECT $3, id, $4 FROM account RETURNING id
            ), token AS (
                INSERT INTO refresh_tokens (token_hash, session_id) SELECT $5, id FROM session
            )
            SELECT id, username, email, full_name, is_guest, roles, created_at FROM account
            """,
            user_id,
            f"guest-{user_id[-8:]}",
            session_id,
            datetime.now(UTC) + timedelta(seconds=session_ttl),
            refresh_hash,
        )
        if user is None:
            raise AssertionError("an INSERT that returns its row returned none")
        return user, session_id

    async def find(self, user_id: str) -> Row | None:
        """The account of that id."""
        return await self._database.fetchrow(
            "SELECT id, username, email, full_name, is_guest, roles, created_at FROM users WHERE id = $1", user_id
        )
