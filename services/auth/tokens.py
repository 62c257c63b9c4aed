"""Access tokens (signed JWTs) and refresh tokens (random, stored hashed). The only place that signs."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import jwt

from services.auth.keys import KeyRing
from services.runtime import ids
from services.runtime.db import Row

GUEST_TTL = 300


@dataclass(frozen=True)
class AccessToken:
    """A signed token and its life in seconds."""

    text: str
    expires_in: int


class TokenIssuer:
    """Signs access tokens with the current key."""

    def __init__(self, keys: KeyRing, *, issuer: str, audience: str, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock

    def access_token(self, user: Row, session_id: str, *, ttl: int = GUEST_TTL) -> AccessToken:
        """A token for `user` in `session_id`, with the claims of CONTRACT 3.1."""
        now = int(self._clock())
        key = self._keys.current
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": user["id"],
            "iat": now,
            "nbf": now,
            "exp": now + ttl,
            "jti": ids.new_id("tok"),
            "sid": session_id,
            "preferred_username": user["username"],
            "guest": user["is_guest"],
            "roles": list(user["roles"]),
        }
        text = jwt.encode(claims, key.private, algorithm=key.algorithm, headers={"kid": key.kid})
        return AccessToken(text, ttl)


def new_refresh_token() -> str:
    """A token of 256 random bits."""
    return f"rt_{secrets.token_urlsafe(32)}"


def digest(refresh_token: str) -> bytes:
    """What is stored of a refresh token."""
    return hashlib.sha256(refresh_token.encode()).digest()
