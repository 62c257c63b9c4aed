"""Signing in with a password, and setting one: guessing is slow, and soon refused."""

from __future__ import annotations

import hashlib

from services.auth import session_store
from services.auth.guesses import client_of
from services.auth.passwords import Passwords
from services.auth.store import AccountStore
from services.runtime.db import Database, Row
from services.runtime.errors import PermissionDenied, RateLimited, Unauthenticated, Unavailable
from services.runtime.identity import Identity

FAILURES, WINDOW = 10, 15 * 60
"""How many wrong passwords are heard out, within how many seconds, for one account from one network address."""


class PasswordLogin:
    """Every attempt counts as a failure until it has succeeded, so that many at once are not heard out either."""

    def __init__(self, database: Database, accounts: AccountStore, passwords: Passwords) -> None:
        self._database = database
        self._accounts = accounts
        self._passwords = passwords

    async def sign_in(self, email: str, password: str, *, address: str) -> Row:
        """The account with that mail address and its `password_hash`, if the password is right. Raises
        `Unauthenticated` (`invalid_credentials`), `RateLimited`, or `Unavailable` when too many sign in at once."""
        user = await self._accounts.by_email(email)
        # Known accounts count by id: PostgreSQL and Python do not agree on all spellings of one address.
        attempt = await self._begin_attempt(user["id"] if user else email.lower(), address)
        fits = await self._judged(attempt, password, user["password_hash"] if user else None)
        if user is None or not fits:
            raise Unauthenticated("Mail address and password do not fit together", code="invalid_credentials")
        await self._forget_attempts(attempt)
        return await self._modernised(user, password)

    async def set_password(self, caller: Identity, new: str, current: str, *, address: str) -> None:
        """Set the caller's password and end its other sessions. Raises `Unauthenticated` (`invalid_credentials`) when
        there is a password and `current` is not it (any more), `RateLimited`, `Unavailable`, and `PermissionDenied` for
        external persons."""
        known = await self._accounts.secrets_of(caller.user_id)
        if caller.external is not None or (known is not None and known["issuer"] is not None):
            raise PermissionDenied("This account signs in at the external identity provider; it has no password here")
        if known is None:
            raise Unauthenticated("The account of this token no longer exists")
        if known["password_hash"] is not None:
            attempt = await self._begin_attempt(caller.user_id, address)
            if not await self._judged(attempt, current, known["password_hash"]):
                raise Unauthenticated("'current_password' is not the password", code="invalid_credentials")
            await self._forget_attempts(attempt)
        hashed = await self._passwords.hash(new)
        async with self._database.transaction() as connection:
            if not await self._accounts.set_password(connection, caller.user_id, hashed, old=known["password_hash"]):
                raise Unauthenticated("The password has been changed just now", code="invalid_credentials")
            await session_store.end_all(connection, caller.user_id, but=caller.session_id)

    async def sweep(self) -> None:
        """Forget failures that are too old to count."""
        await self._database.execute("DELETE FROM login_failures WHERE until < now()")

    async def _modernised(self, user: Row, password: str) -> Row:
        """The account, with a hash as they are made today."""
        if not self._passwords.is_outdated(user["password_hash"]):
            return user
        fresh = await self._passwords.hash(password)
        await self._accounts.replace_hash(user["id"], old=user["password_hash"], new=fresh)
        return {**user, "password_hash": fresh}

    async def _judged(self, attempt: bytes, password: str, hashed: str | None) -> bool:
        """Whether the password fits. An attempt that nobody had time to judge has not failed."""
        try:
            return await self._passwords.fits(password, hashed)
        except Unavailable:
            await self._take_back(attempt)
            raise

    async def _begin_attempt(self, account: str, address: str) -> bytes:
        """Count an attempt, and return what it is counted under."""
        who = hashlib.sha256(f"{account}\n{client_of(address)}".encode()).digest()
        counted = await self._database.fetchrow(
            """
            INSERT INTO login_failures AS known (who, failures, until) VALUES ($1, 1, now() + $2 * interval '1 second')
            ON CONFLICT (who) DO UPDATE SET
                failures = CASE WHEN known.until > now() THEN known.failures + 1 ELSE 1 END,
                until = CASE WHEN known.until > now() THEN known.until ELSE excluded.until END
            RETURNING failures, extract(epoch FROM until - now())::float AS seconds_left
            """,
            who,
            float(WINDOW),
        )
        if counted is not None and counted["failures"] > FAILURES:
            raise RateLimited("Too many wrong passwords; try again later", retry_after=counted["seconds_left"])
        return who

    async def _take_back(self, who: bytes) -> None:
        await self._database.execute(
            """
            WITH gone AS (DELETE FROM login_failures WHERE who = $1 AND failures <= 1)
            UPDATE login_failures SET failures = failures - 1 WHERE who = $1 AND failures > 1
            """,
            who,
        )

    async def _forget_attempts(self, who: bytes) -> None:
        await self._database.execute("DELETE FROM login_failures WHERE who = $1", who)
