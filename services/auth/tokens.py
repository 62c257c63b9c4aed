"""Access tokens (signed JWTs) and refresh tokens (random, stored hashed). The only place that signs."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jwt

from services.auth.signing import KeyRing
from services.runtime import ids
from services.runtime.db import Row
from services.runtime.limits import Limit

GUEST_TTL = 300
KEY_TTL = 60


@dataclass(frozen=True)
class AccessToken:
    """A signed token and its life in seconds."""

    text: str
    expires_in: int


class TokenIssuer:
    """Signs access tokens with the current key. `ttl` is the life of a token in seconds, except a guest's."""

    def __init__(
        self,
        keys: KeyRing,
        *,
        issuer: str,
        audience: str,
        ttl: float = GUEST_TTL,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._ttl = max(1, round(ttl))
        self._clock = clock

    @property
    def longest(self) -> int:
        """The longest life of a token, unless its maker asks for another."""
        return max(self._ttl, GUEST_TTL)

    def access_token(self, user: Row, session_id: str, *, ttl: int | None = None) -> AccessToken:
        """A token for `user` in `session_id`, with the claims of CONTRACT 3.1."""
        life = ttl or (GUEST_TTL if user["is_guest"] else self._ttl)
        return AccessToken(self._sign(user, session_id, life), life)

    def key_token(self, owner: Row, key_id: str, scopes: Sequence[str], limit: Limit) -> str:
        """The token of `KEY_TTL` seconds that an API key of `owner` is exchanged for."""
        return self._sign(owner, key_id, KEY_TTL, auth_method="api_key", scopes=list(scopes), **limit.claims())

    def _sign(self, user: Row, session_id: str, life: int, **more: object) -> str:
        now = int(self._clock())
        key = self._keys.current
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": user["id"],
            "iat": now,
            "nbf": now,
            "exp": now + life,
            "jti": ids.new_id("tok"),
            "sid": session_id,
            "preferred_username": user["username"],
            "guest": user["is_guest"],
            "roles": list(user["roles"]),
            **more,
        }
        return jwt.encode(claims, key.private, algorithm=key.algorithm, headers={"kid": key.kid})


def new_refresh_token() -> str:
    """A token of 256 random bits."""
    return f"rt_{secrets.token_urlsafe(32)}"


def digest(refresh_token: str) -> bytes:
    """What is stored of a refresh token."""
    return hashlib.sha256(refresh_token.encode()).digest()
