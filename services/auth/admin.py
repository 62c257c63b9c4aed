"""Administrators: the first one from the settings, further ones by the operator's command, nobody else."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta

from services.auth import api_key_store, session_store
from services.auth.passwords import Passwords
from services.auth.signing import LONGEST_LIFE
from services.auth.store import returned
from services.auth.tokens import TokenIssuer
from services.runtime import ids
from services.runtime.config import SHORTEST_PASSWORD, ConfigError
from services.runtime.db import Connection, Database, Row
from services.runtime.errors import Unavailable

LONGEST_PASSWORD = 1024  # what a sign-in takes
_LOCK = 0x61646D  # "adm"; migrations have another
log = logging.getLogger(__name__)


class FirstAdmin:
    """The administrator of ADMIN_EMAIL and ADMIN_PASSWORD, made when there is none."""

    def __init__(self, database: Database, passwords: Passwords, *, email: str, password: str) -> None:
        self._database = database
        self._passwords = passwords
        self._email = email
        self._password = password

    async def make(self) -> None:
        """Make it; of processes that start together one does. Without the settings nothing is done, and without a
        database it is left to the next time. Raises `ConfigError` when somebody external has the address."""
        if not self._email:
            return
        try:
            if not await _exists(self._database):
                await self._make(await self._passwords.hash(self._password))
        except Unavailable as error:
            log.warning("first_admin_put_off", extra={"reason": error.message})

    async def _make(self, hashed: str) -> None:
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            if not await _exists(connection):
                await _make(connection, self._email, hashed)
                log.info("first_admin_made")


async def create(database: Database, passwords: Passwords, *, email: str, password: str) -> bool:
    """Make an administrator with that mail address, and tell whether the account is a new one. An account that is there
    gains the role; with a `password` that is not empty it gets that one, and loses its sessions and API keys. Raises
    `ConfigError`."""
    if not re.fullmatch(r"[^@\s\0]+@[^@\s\0]+", email):
        raise ConfigError(f"{email!r} is no mail address")
    if password and not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise ConfigError(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
    hashed = await passwords.hash(password) if password else None
    async with database.transaction() as connection:
        user = await _make(connection, email, hashed)
    return bool(user["is_new"])


async def token(database: Database, issuer: TokenIssuer, *, email: str, ttl: float, skew: float) -> str:
    """An access token of an administrator for `ttl` seconds. Raises `ConfigError` for everybody else."""
    if ttl > LONGEST_LIFE:
        raise ConfigError("a token for longer than a year cannot be made")
    user = await database.fetchrow(
        "SELECT id, username, is_guest, roles FROM users WHERE lower(email) = lower($1)", email
    )
    if user is None or "admin" not in user["roles"]:
        raise ConfigError(f"{email} is no administrator; `jan-server admin create --email {email}` makes one")
    life = max(1, round(ttl))
    async with database.transaction() as connection:
        until = datetime.now(UTC) + timedelta(seconds=life + skew)
        session_id = await session_store.begin_without_refresh(connection, user["id"], until)
    return issuer.access_token(user, session_id, ttl=life).text


async def _exists(queries: Database | Connection) -> bool:
    return bool(await queries.fetchval("SELECT EXISTS (SELECT FROM users WHERE 'admin' = ANY (roles))"))


async def _make(connection: Connection, email: str, password_hash: str | None) -> Row:
    """Whoever has the address gains the role. A new password ends the sessions that were begun without it, and the API
    keys: the address may have been taken by somebody who is not meant."""
    known = await connection.fetchrow("SELECT id, issuer FROM users WHERE lower(email) = lower($1) FOR UPDATE", email)
    if known is None and password_hash is None:
        raise ConfigError(f"there is no account {email} yet: give its password on standard input")
    if known is not None and known["issuer"] is not None:
        raise ConfigError(f"{email} signs in at the external identity provider, which gives the role: OIDC_ADMIN_ROLE")
    made = await connection.fetchrow(
        """
        INSERT INTO users AS known (id, username, email, is_guest, roles, password_hash)
        VALUES ($1, $2, $3, false, ARRAY['user', 'admin'], $4)
        ON CONFLICT (lower(email)) WHERE email IS NOT NULL DO UPDATE SET
            roles = excluded.roles, updated_at = now(),
            password_hash = coalesce(excluded.password_hash, known.password_hash)
        RETURNING id, id = $1 AS is_new
        """,
        ids.new_id("usr"),
        email.partition("@")[0],
        email,
        password_hash,
    )
    user = returned(made)
    if not user["is_new"] and password_hash is not None:
        await session_store.end_all(connection, user["id"])
        await api_key_store.revoke_all(connection, user["id"])
    return user
