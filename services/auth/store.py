"""Accounts in PostgreSQL."""

from __future__ import annotations

from services.auth.session_store import Term
from services.runtime import ids
from services.runtime.db import Connection, Database, Row, UniqueViolation
from services.runtime.errors import AlreadyExists, Conflict
from services.runtime.identity import Identity


class AccountStore:
    """Every method is one statement, or a part of the transaction of the connection that it is given."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_guest(self, first: Term) -> tuple[Row, str]:
        """Make a guest with a session; return the account and the session's id."""
        user_id, session_id = ids.new_id("usr"), ids.new_id("ses")
        user = await self._database.fetchrow(
            """
            WITH account AS (
                INSERT INTO users (id, username, is_guest, roles) VALUES ($1, $2, true, ARRAY['guest'])
                RETURNING id, username, email, full_name, is_guest, roles, created_at
            ), session AS (
                INSERT INTO sessions (id, user_id, expires_at, access_until) SELECT $3, id, $4, $5 FROM account
                RETURNING id
            ), token AS (
                INSERT INTO refresh_tokens (token_hash, session_id) SELECT $6, id FROM session
            )
            SELECT id, username, email, full_name, is_guest, roles, created_at FROM account
            """,
            user_id,
            f"guest-{user_id[-8:]}",
            session_id,
            first.expires_at,
            first.access_until,
            first.refresh_hash,
        )
        return returned(user), session_id

    async def find(self, user_id: str) -> Row | None:
        """The account of that id."""
        return await self._database.fetchrow(
            "SELECT id, username, email, full_name, is_guest, roles, created_at FROM users WHERE id = $1", user_id
        )

    async def by_email(self, email: str) -> Row | None:
        """The account with that mail address, however it is written, and its `password_hash`."""
        return await self._database.fetchrow(
            """
            SELECT id, username, email, full_name, is_guest, roles, created_at, password_hash
            FROM users WHERE lower(email) = lower($1)
            """,
            email,
        )

    async def secrets_of(self, user_id: str) -> Row | None:
        """How that account signs in: its `password_hash`, and `issuer` when that is at the external provider."""
        return await self._database.fetchrow("SELECT password_hash, issuer FROM users WHERE id = $1", user_id)

    async def welcome(self, caller: Identity) -> Row:
        """The account of a person of the external provider, made at first use, with what her token says now; what it
        does not say stays. A mail address is noted only when no other account has it."""
        if caller.external is None:
            raise ValueError("a caller who is not from the external provider")
        person = caller.external
        for email in (person.email or None, None):
            try:
                user = await self._database.fetchrow(
                    """
                    INSERT INTO users (id, username, email, full_name, is_guest, roles, issuer, subject)
                    VALUES ($1, $2, $3, $4, false, $5, $6, $7)
                    ON CONFLICT (id) DO UPDATE SET roles = excluded.roles, updated_at = now(),
                        email = coalesce(excluded.email, users.email),
                        full_name = coalesce(excluded.full_name, users.full_name),
                        username = CASE excluded.username WHEN excluded.subject THEN users.username
                            ELSE excluded.username END
                    RETURNING id, username, email, full_name, is_guest, roles, created_at
                    """,
                    caller.user_id,
                    caller.username,
                    email,
                    person.full_name or None,
                    list(caller.roles),
                    person.issuer,
                    person.subject,
                )
            except UniqueViolation:
                continue
            return returned(user)
        raise Conflict("This person of the external provider has an account under another id")

    async def upgrade(
        self,
        connection: Connection,
        user_id: str,
        *,
        email: str,
        username: str,
        full_name: str | None,
        password_hash: str | None,
    ) -> bool:
        """Make an account with a mail address of a guest; False when it is none. Raises `AlreadyExists`."""
        try:
            changed = await connection.execute(
                """
                UPDATE users SET email = $2, username = $3, full_name = $4, password_hash = $5,
                    is_guest = false, roles = ARRAY['user'], updated_at = now()
                WHERE id = $1 AND is_guest
                """,
                user_id,
                email,
                username,
                full_name,
                password_hash,
            )
        except UniqueViolation as error:
            raise AlreadyExists("Another account has this mail address", code="email_taken", param="email") from error
        return changed == "UPDATE 1"

    async def set_password(self, connection: Connection, user_id: str, password_hash: str, *, old: str | None) -> bool:
        """Keep the hash of a new password, while the account has the `old` one; else somebody was faster: False."""
        changed = await connection.execute(
            """
            UPDATE users SET password_hash = $2, updated_at = now()
            WHERE id = $1 AND password_hash IS NOT DISTINCT FROM $3
            """,
            user_id,
            password_hash,
            old,
        )
        return changed == "UPDATE 1"

    async def replace_hash(self, user_id: str, *, old: str, new: str) -> None:
        """Keep another hash of the same password, unless somebody has set another password meanwhile."""
        await self._database.execute(
            "UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2", user_id, old, new
        )


def returned(row: Row | None) -> Row:
    """The row that a statement with RETURNING always has."""
    if row is None:
        raise AssertionError("a statement that returns its row returned none")
    return row
