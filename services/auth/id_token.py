"""Tokens that the external provider hands to us at a sign-in, verified: OpenID Connect Core 1.0, 3.1.3.7."""

from __future__ import annotations

import hmac
from typing import Any

import jwt

from services.runtime.identity import KeyFile, Provider


class UnknownKey(Exception):
    """The token names a key that is not in the key set, or an algorithm that is not the key's."""


class NotValid(Exception):
    """The token is not one that the provider made for us, now, for this sign-in. The message is for the log."""


class ProviderTokens:
    """Verifies with the provider's published keys. Every method raises `UnknownKey` or `NotValid`."""

    def __init__(self, keys: KeyFile, provider: Provider, *, client_id: str, skew: float) -> None:
        self._keys = keys
        self._provider = provider
        self._client_id = client_id
        self._skew = skew

    def id_token(self, token: str, *, nonce: str) -> dict[str, Any]:
        """The claims of an ID token that was made for this client and the sign-in with this `nonce`."""
        claims = self._claims(token, audience=self._client_id)
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if claims.get("azp", self._client_id if len(audiences) == 1 else None) != self._client_id:
            raise NotValid("the ID token was made for another client")
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise NotValid("the ID token was made for another sign-in")
        return claims

    def access_token(self, token: str, *, subject: str) -> dict[str, Any]:
        """The claims of the access token that came with an ID token about `subject`; none when it is not a JWT of this
        provider. Its audience is not looked at: nothing is allowed by it, it only tells roles, and we got it first."""
        try:
            said = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, TypeError):
            return {}
        if said.get("iss") != self._provider.issuer:
            return {}
        claims = self._claims(token, audience=None)
        if claims["sub"] != subject:
            raise NotValid("the access token is about somebody else")
        return claims

    def _claims(self, token: str, *, audience: str | None) -> dict[str, Any]:
        required = ["iss", "sub", "exp", *(["aud", "iat"] if audience is not None else [])]
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.find(str(header.get("kid", "")), str(header.get("alg", "")))
            if key is None:
                raise UnknownKey(f"kid {str(header.get('kid'))[:100]!r}, alg {str(header.get('alg'))[:20]!r}")
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=self._provider.issuer,
                audience=audience,
                leeway=self._skew,
                options={"require": required, "verify_aud": audience is not None},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:  # the last two from claims of odd types
            raise NotValid(repr(error)) from error
        if not claims["sub"]:
            raise NotValid("an empty subject")
        return claims
