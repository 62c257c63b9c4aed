"""Grants: what a room acts under for a user who is not there, such as the owner of a page that a stranger reads.

A grant is a JWT that lives for seconds, signed with a secret that only the processes of this installation share. The
gateway does not know it, so from outside it opens nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jwt

from services.runtime import ids

ISSUER = "jan-server/rooms"
LIFE = 60
_ALGORITHM = "HS256"


class Grants:
    """Makes grants and reads them. `clock` gives Unix seconds."""

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock

    def act_for(self, user_id: str, *, life: int = LIFE) -> str:
        """A token of `life` seconds that does what this user may do, nothing that needs an administrator."""
        now = int(self._clock())
        claims = {
            "iss": ISSUER,
            "aud": ISSUER,
            "sub": user_id,
            "iat": now,
            "exp": now + life,
            "jti": ids.new_id("grant"),
            "roles": ["user"],
        }
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM)

    def claims(self, token: str) -> dict[str, Any]:
        """What a grant says. Raises `jwt.PyJWTError` for what is none of ours, or too old."""
        required = ["exp", "iat", "sub", "jti"]
        claims: dict[str, Any] = jwt.decode(
            token,
            self._secret,
            algorithms=[_ALGORITHM],
            issuer=ISSUER,
            audience=ISSUER,
            options={"require": required},
        )
        return claims
