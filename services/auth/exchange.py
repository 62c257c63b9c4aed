"""What a request with an API key is exchanged for at the gateway: the short token that every service knows to verify.

A key's token is made once and handed out for half its life, so that whoever verifies it, the gateway first, pays for
its signature once. Which credential counts when there are two is decided here (CONTRACT 3.1).
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

from services.auth.api_key_store import ApiKeyStore
from services.auth.known_keys import KnownKeys
from services.auth.quota import Quota
from services.auth.tokens import KEY_TTL, TokenIssuer
from services.runtime import limits
from services.runtime.config import Settings
from services.runtime.db import Row
from services.runtime.errors import Unauthenticated
from services.runtime.identity import Identity
from services.runtime.watch import Watch

KEYS = ("sk_", "sk-")
"""What a bearer token begins with that is an API key."""


@dataclass(frozen=True, slots=True)
class Presented:
    """The credentials of a request: an API key, and the JWT beside it, if any."""

    key: str
    token: str


@dataclass(frozen=True, slots=True)
class Passed:
    """What to send on as `authorization`, and whether the database was asked for it."""

    authorization: str
    asked: bool = False


class Exchange:
    """Exchanges keys. `verify` is that of `TokenVerifier`; `hears` says whether changes of keys arrive here."""

    def __init__(
        self,
        settings: Settings,
        store: ApiKeyStore,
        issuer: TokenIssuer,
        quota: Quota,
        *,
        verify: Callable[[str], Identity],
        hears: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._store = store
        self._issuer = issuer
        self._quota = quota
        self._verify = verify
        self._clock = clock
        self._keys = KnownKeys(self._load, hears=hears, clock=clock)

    def follow(self, watch: Watch) -> None:
        """Keep up with changes of keys, in whichever process."""
        self._keys.follow(watch)

    def forget(self, key_id: str) -> None:
        """A key was changed by this process: do not wait to hear of it."""
        self._keys.forget(key_id)

    async def authorize(self, authorization: str, x_api_key: str, address: str) -> Passed:
        """Exchange the credentials in these headers of a client at `address`. Raises `Unauthenticated` for those that
        are not valid or contradict each other, `RateLimited` for a client that guesses keys or a key that has used up
        its day, `Unavailable` when only the database could tell."""
        given = presented(authorization, x_api_key)
        if not given.key:  # an empty header; the gateway verifies what else there is
            return Passed(authorization)
        key = self._keys.remembered(given.key)
        asked = key is None
        if key is None:
            key = await self._keys.find(given.key, address)
        if given.token:
            if self._verify(given.token).user_id != key.row["user_id"]:
                raise _conflict()
            return Passed(authorization, asked)
        row = key.row
        limit = limits.limit_of(
            self._settings, tier=row["tier"], per_minute=row["requests_per_minute"], per_day=row["requests_per_day"]
        )
        self._quota.take(row["id"], limit)
        if key.renew_at <= self._clock():
            key.authorization = f"Bearer {self._token(row, limit)}"
            key.renew_at = self._clock() + KEY_TTL / 2
        return Passed(key.authorization, asked)

    def _token(self, row: Row, limit: limits.Limit) -> str:
        owner = {"id": row["user_id"], **{name: row[name] for name in ("username", "is_guest", "roles")}}
        scopes = [scope for scope in row["scopes"] if scope != "admin" or "admin" in row["roles"]]
        return self._issuer.key_token(owner, row["id"], scopes, limit)

    async def _load(self, secret_hash: bytes) -> Row | None:
        day = self._quota.today()
        row = await self._store.find(secret_hash, day)
        if row is not None:
            self._quota.learn(row["id"], day, row["requests"])
        return row


def presented(authorization: str, x_api_key: str) -> Presented:
    """The credentials in these headers. Raises `Unauthenticated` for two different keys, and for no credential."""
    scheme, _, value = authorization.partition(" ")
    bearer = value.strip() if scheme.lower() == "bearer" else ""
    if authorization and not bearer:
        raise Unauthenticated("The header 'authorization' must be 'Bearer <token>'")
    if not bearer.startswith(KEYS):
        return Presented(x_api_key.strip(), bearer)
    if x_api_key and not hmac.compare_digest(bearer.encode(), x_api_key.strip().encode()):
        raise _conflict()
    return Presented(bearer, "")


def _conflict() -> Unauthenticated:
    return Unauthenticated("The request carries two credentials of different users", code="conflicting_credentials")
