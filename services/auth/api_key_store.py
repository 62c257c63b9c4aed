"""API keys in PostgreSQL. What changes a key tells every auth process in the same transaction, so that none goes on
believing what it remembers of it (`exchange.py`)."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from services.auth.tokens import KEY_TTL
from services.runtime import ids
from services.runtime.db import Connection, Database, Row
from services.runtime.errors import InvalidRequest, NotFound, Unauthenticated
from services.runtime.pages import Listing, Page
from services.runtime.revocation import revoke

CHANNEL = "api_keys"

_SHAPE = re.compile(r"sk_[a-z0-9_]{1,20}_[0-9a-f]{48}")
_BELIEVED = 3600.0  # seconds, more than a key's token is good for with any AUTH_CLOCK_SKEW that makes sense
_LOOKUP = 1.5  # seconds that a request may wait for its key; the gateway waits for 2


@dataclass(frozen=True)
class Secret:
    """A new key's secret, and what is kept of it."""

    text: str = field(repr=False)
    prefix: str

    @property
    def suffix(self) -> str:
        return self.text[-4:]


def new_secret(prefix: str) -> Secret:
    """A secret of 192 random bits."""
    return Secret(f"{prefix}_{secrets.token_hex(24)}", prefix)


def digest(secret: str) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def well_formed(secret: str) -> bool:
    """Whether `new_secret` can have made it, with whichever prefix."""
    return _SHAPE.fullmatch(secret) is not None


@dataclass(frozen=True)
class Change:
    """What to change of a key; None stays. Scopes can only become fewer, and nothing undoes a revocation."""

    name: str | None = None
    scopes: Sequence[str] | None = None
    tier: str | None = None
    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    revoked: bool = False


class ApiKeyStore:
    """Every method is one transaction. Keys are found by their owner, except by those whose names begin with `any_`,
    which are for administrators. `skew` is the tolerated difference between clocks, in seconds."""

    def __init__(self, database: Database, *, skew: float) -> None:
        self._database = database
        self._skew = skew

    async def create(
        self, user_id: str, secret: Secret, *, name: str, scopes: Sequence[str], ttl: float, most: int
    ) -> Row:
        """Make a key of `ttl` seconds. Raises `InvalidRequest` when the account has `most` active ones already."""
        async with self._database.transaction() as connection:
            await _lock_account(connection, user_id)
            row = await connection.fetchrow(
                """
                INSERT INTO api_keys (id, user_id, secret_hash, name, prefix, suffix, scopes, expires_at)
                SELECT $1, $2, $3, $4, $5, $6, $7, $8
                WHERE (
                    SELECT count(*) FROM api_keys WHERE user_id = $2 AND revoked_at IS NULL AND expires_at > now()
                ) < $9
                RETURNING id, user_id, name, prefix, suffix, scopes, tier, requests_per_minute, requests_per_day,
                    created_at, expires_at, last_used_at, revoked_at
                """,
                *(ids.new_id("key"), user_id, digest(secret.text), name, secret.prefix, secret.suffix),
                *(list(scopes), datetime.now(UTC) + timedelta(seconds=ttl), most),
            )
        if row is None:
            raise InvalidRequest(
                f"An account may have {most} active API keys; revoke one first", code="api_key_limit_exceeded"
            )
        return row

    async def page(self, user_id: str, page: Page) -> Listing:
        """The keys of an account. Raises `InvalidRequest` for a cursor that is none."""
        return await self._page("user_id = $1", user_id, page)

    async def any_page(self, user_id: str, page: Page) -> Listing:
        """The keys of all accounts, or of one. Raises `InvalidRequest` for a cursor that is none."""
        return await self._page("($1 = '' OR user_id = $1)", user_id, page)

    async def _page(self, whose: str, user_id: str, page: Page) -> Listing:
        text = f"""
            WITH head AS (
                SELECT count(*)::int AS total_count, max(created_at) FILTER (WHERE id = $2) AS after_at
                FROM api_keys WHERE {whose}
            )
            SELECT head.total_count, head.after_at, page.*
            FROM head LEFT JOIN LATERAL (
                SELECT id, user_id, name, prefix, suffix, scopes, tier, requests_per_minute, requests_per_day,
                    created_at, expires_at, last_used_at, revoked_at
                FROM api_keys
                WHERE {whose} AND (created_at, id) {{beyond}} (coalesce(head.after_at, '{{start}}'), $2)
                ORDER BY created_at {{direction}}, id {{direction}} LIMIT $3 OFFSET $4
            ) page ON true
            ORDER BY page.created_at {{direction}}, page.id {{direction}}
        """  # noqa: S608  # `whose` is one of the two conditions above
        rows = await self._database.fetch(page.sql(text), user_id, page.after, page.limit + 1, page.offset)
        return page.cut(rows)

    async def update(self, user_id: str, key_id: str, change: Change) -> Row:
        """Change a key of an account and return it. Raises `NotFound`, and `InvalidRequest` for a scope it lacks."""
        return await self._update("id = $1 AND user_id = $2", key_id, user_id, change)

    async def any_update(self, key_id: str, change: Change) -> Row:
        """Change whosever key and return it. Raises as `update` does."""
        return await self._update("id = $1 AND $2 = ''", key_id, "", change)

    async def _update(self, which: str, key_id: str, user_id: str, change: Change) -> Row:
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                f"SELECT scopes FROM api_keys WHERE {which} FOR UPDATE",  # noqa: S608  # one of two conditions above
                *(key_id, user_id),
            )
            if row is None:
                raise NotFound("There is no such API key")
            if change.scopes is not None:
                _check_narrower(change.scopes, row["scopes"])
            if change.revoked:
                await revoke(connection, [key_id], until=datetime.now(UTC).timestamp() + KEY_TTL + self._skew)
            return await _write(connection, key_id, change)

    async def find(self, secret_hash: bytes, day: date) -> Row | None:
        """The active key with that digest, its owner (`username`, `roles`, `is_guest`) and its `requests` of `day`."""
        return await self._database.fetchrow(
            """
            SELECT k.id, k.user_id, k.scopes, k.tier, k.requests_per_minute, k.requests_per_day, k.expires_at,
                u.username, u.roles, u.is_guest, coalesce(d.requests, 0) AS requests
            FROM api_keys k
            JOIN users u ON u.id = k.user_id
            LEFT JOIN api_key_usage d ON d.key_id = k.id AND d.day = $2
            WHERE k.secret_hash = $1 AND k.revoked_at IS NULL AND k.expires_at > now()
            """,
            *(secret_hash, day),
            within=_LOOKUP,
        )


async def revoke_all(connection: Connection, user_id: str) -> None:
    """Revoke every key of an account."""
    revoked = await connection.fetch(
        """
        WITH revoked AS (
            UPDATE api_keys SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL RETURNING id
        )
        SELECT id, pg_notify($2, id) FROM revoked
        """,
        *(user_id, CHANNEL),
    )
    if revoked:
        await revoke(connection, [key["id"] for key in revoked], until=datetime.now(UTC).timestamp() + _BELIEVED)


async def _lock_account(connection: Connection, user_id: str) -> None:
    """Let nobody else make a key for this account until the transaction ends, so that none is counted twice."""
    if await connection.fetchrow("SELECT id FROM users WHERE id = $1 FOR NO KEY UPDATE", user_id) is None:
        raise Unauthenticated("The account of this token no longer exists")


def _check_narrower(wanted: Sequence[str], held: Sequence[str]) -> None:
    further = [scope for scope in wanted if scope not in held]
    if further:
        raise InvalidRequest(f"The key does not have the scope '{further[0]}'; make a new one", param="scopes")


async def _write(connection: Connection, key_id: str, change: Change) -> Row:
    row = await connection.fetchrow(
        """
        WITH told AS (SELECT pg_notify($8, $1))
        UPDATE api_keys SET
            name = coalesce($2, name),
            scopes = coalesce($3, scopes),
            tier = coalesce($4, tier),
            requests_per_minute = coalesce($5, requests_per_minute),
            requests_per_day = coalesce($6, requests_per_day),
            revoked_at = CASE WHEN $7 THEN coalesce(revoked_at, now()) ELSE revoked_at END
        FROM told WHERE id = $1
        RETURNING id, user_id, name, prefix, suffix, scopes, tier, requests_per_minute, requests_per_day,
            created_at, expires_at, last_used_at, revoked_at
        """,
        *(key_id, change.name, None if change.scopes is None else list(change.scopes), change.tier),
        *(change.requests_per_minute, change.requests_per_day, change.revoked, CHANNEL),
    )
    if row is None:
        raise AssertionError("a row that this transaction has locked is gone")
    return row
