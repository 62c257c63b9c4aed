"""Who is asking: verification of access tokens, the same in every service. Nobody trusts identity headers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import orjson

from services.runtime.errors import Unauthenticated

ALGORITHMS = ["ES256", "RS256", "EdDSA"]
CACHED_TOKENS = 10_000
LONGEST_TOKEN = 8192

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified principal."""

    user_id: str
    username: str
    roles: tuple[str, ...]
    is_guest: bool
    auth_method: str
    """`jwt` or `api_key`."""
    scopes: tuple[str, ...]
    expires_at: float
    token: str = field(repr=False)

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles


class KeyFile:
    """The public keys that the auth service publishes as a file; read anew when it changes, so that keys can rotate."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._modified = 0.0
        self._keys: dict[str, jwt.PyJWK] = {}

    def find(self, kid: str) -> jwt.PyJWK | None:
        """The key of that id, or None."""
        try:
            modified = self._path.stat().st_mtime
            if modified != self._modified:
                keys = jwt.PyJWKSet.from_dict(orjson.loads(self._path.read_bytes())).keys
                self._keys = {key.key_id: key for key in keys if key.key_id}
                self._modified = modified
        except (OSError, ValueError, jwt.PyJWTError) as error:
            log.warning("the key file cannot be read", extra={"path": str(self._path), "reason": str(error)})
        return self._keys.get(kid)

    @property
    def ready(self) -> bool:
        """Whether there is any key to verify with."""
        self.find("")
        return bool(self._keys)


class TokenVerifier:
    """Verifies access tokens and remembers those that were good, so that the hot path pays for a signature once."""

    def __init__(
        self, keys: KeyFile, *, issuer: str, audience: str, skew: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._skew = skew
        self._clock = clock
        self._known: dict[str, Identity] = {}

    async def ready(self) -> bool:
        """Whether there is any key to verify with."""
        return self._keys.ready

    def verify(self, token: str) -> Identity:
        """The principal that `token` was issued to. Raises `Unauthenticated` (`unauthorized` or `token_expired`)."""
        known = self._known.get(token)
        if known is None:
            known = self._verify(token)
            if len(self._known) >= CACHED_TOKENS:
                self._known.clear()
            self._known[token] = known
        elif known.expires_at + self._skew <= self._clock():
            del self._known[token]
            raise Unauthenticated("The access token has expired", code="token_expired")
        return known

    def _verify(self, token: str) -> Identity:
        if len(token) > LONGEST_TOKEN:
            raise Unauthenticated("The access token is not valid")
        try:
            key = self._keys.find(jwt.get_unverified_header(token).get("kid", ""))
            if key is None:
                raise Unauthenticated("The access token is not valid")
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._skew,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
            return _identity(claims, token)
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("The access token has expired", code="token_expired") from error
        except (jwt.PyJWTError, TypeError, ValueError) as error:  # the last two from claims of odd types
            raise Unauthenticated("The access token is not valid") from error


def _identity(claims: dict[str, Any], token: str) -> Identity:
    if not claims["sub"]:
        raise ValueError("an empty subject")
    roles = tuple(str(role) for role in claims.get("roles") or ())
    scopes = claims.get("scopes") or (["read", "write", "admin"] if "admin" in roles else ["read", "write"])
    return Identity(
        user_id=str(claims["sub"]),
        username=str(claims.get("preferred_username") or ""),
        roles=roles,
        is_guest=bool(claims.get("guest")),
        auth_method=str(claims.get("auth_method") or "jwt"),
        scopes=tuple(str(scope) for scope in scopes),
        expires_at=float(claims["exp"]),
        token=token,
    )
