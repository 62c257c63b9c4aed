"""Who is asking: verification of access tokens, the same in every service. Nobody trusts identity headers."""

from __future__ import annotations

import base64
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import orjson

from services.runtime.errors import Unauthenticated
from services.runtime.grants import ISSUER as GRANTS
from services.runtime.grants import Grants

# What a public key may sign with when it does not say; no shared secrets.
ALGORITHMS = {
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("RSA", ""): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
}
NO_ACCESS_TOKEN = {"at_hash", "c_hash", "events"}  # claims of other tokens of a provider, for the same audience
JWKS, EXTERNAL_JWKS = "jwks.json", "external.json"  # in DATA_DIR/keys; the auth room writes both
CACHED_TOKENS = 10_000
LONGEST_TOKEN = 8192
LONGEST_SUBJECT = 255  # OpenID Connect Core, 2
LONGEST_NAME = 254  # of a mail address; longer names are cut

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
    token_id: str = ""
    """`jti`, or a digest of a token that has none; of an external token always a digest, which is never one of ours."""
    session_id: str = ""
    """`sid`: the session, or the API key, that the token was made for; empty for external tokens."""
    external: External | None = None
    """Who it is at the external provider, when the token is from there."""

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles


@dataclass(frozen=True, slots=True)
class External:
    """A person as the external identity provider knows her."""

    issuer: str
    subject: str
    email: str
    full_name: str


@dataclass(frozen=True)
class Provider:
    """An external identity provider (OpenID Connect) whose access tokens are believed."""

    issuer: str
    audience: str
    roles_claim: str
    """Dotted path of the claim that lists the roles."""
    admin_role: str
    """The role there that makes an administrator here."""


class KeyFile:
    """The public keys that the auth service publishes as a file; read anew when it changes, so that keys can rotate."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._modified = 0
        self._keys: dict[tuple[str, str], jwt.PyJWK] = {}

    def find(self, kid: str, algorithm: str) -> jwt.PyJWK | None:
        """The key of that id, if it may sign with that algorithm; else None."""
        try:
            modified = self._path.stat().st_mtime_ns
            if modified != self._modified:
                self._keys = dict(_usable(orjson.loads(self._path.read_bytes())["keys"]))
                self._modified = modified
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            log.warning("the key file cannot be read", extra={"path": str(self._path), "reason": repr(error)})
        return self._keys.get((kid, algorithm))

    @property
    def ready(self) -> bool:
        """Whether there is any key to verify with."""
        self.find("", "")
        return bool(self._keys)


def algorithms(jwk: dict[str, Any]) -> tuple[str, ...]:
    """What a JSON Web Key may sign with; nothing when it is a shared secret or of a kind that we do not know."""
    able = ALGORITHMS.get((str(jwk.get("kty")), str(jwk.get("crv", ""))), ())
    return tuple(each for each in able if jwk.get("alg", each) == each and jwk.get("use", "sig") == "sig")


def _usable(jwks: Sequence[dict[str, Any]]) -> Iterator[tuple[tuple[str, str], jwt.PyJWK]]:
    """The keys that can be used, by id and algorithm; one that is damaged does not take the others with it."""
    for jwk in jwks:
        for algorithm in algorithms(jwk):
            with suppress(jwt.PyJWTError):
                yield (str(jwk.get("kid", "")), algorithm), jwt.PyJWK(jwk, algorithm)


class TokenVerifier:
    """Verifies access tokens, ours and those of an external provider, and remembers those that were good, so that the
    hot path pays for a signature once. `grants` are what rooms of this server act under for users who are not there;
    `denies` tells of token and session ids whether they are revoked."""

    def __init__(
        self,
        keys: KeyFile,
        *,
        issuer: str,
        audience: str,
        skew: float,
        external: tuple[Provider, KeyFile] | None = None,
        grants: Grants | None = None,
        denies: Callable[[str, str], bool] = lambda token_id, session_id: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._grants = grants
        self._issuer = issuer
        self._audience = audience
        self._skew = skew
        self._external = external
        self._denies = denies
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
        if self._denies(known.token_id, known.session_id):
            raise Unauthenticated("The access token has been revoked")
        return known

    def _verify(self, token: str) -> Identity:
        if len(token) > LONGEST_TOKEN:
            raise Unauthenticated("The access token is not valid")
        try:
            header, said = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})
            if self._external is not None and said.get("iss") == self._external[0].issuer:
                return self._verify_external(token, header, *self._external)
            if self._grants is not None and said.get("iss") == GRANTS:
                return _identity(self._grants.claims(token), token)
            claims = self._claims(token, _key(self._keys, header), self._issuer, self._audience, "iat")
            return _identity(claims, token)
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("The access token has expired", code="token_expired") from error
        except (jwt.PyJWTError, TypeError, ValueError) as error:  # the last two from claims of odd types
            raise Unauthenticated("The access token is not valid") from error

    def _verify_external(self, token: str, header: dict[str, Any], provider: Provider, keys: KeyFile) -> Identity:
        claims = self._claims(token, _key(keys, header), provider.issuer, provider.audience)
        if not NO_ACCESS_TOKEN.isdisjoint(claims) or claims.get("typ") == "ID":  # the latter from Keycloak
            raise ValueError("an ID token or a logout token")
        return external_identity(claims, token, provider)

    def _claims(self, token: str, key: jwt.PyJWK, issuer: str, audience: str, *required: str) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            audience=audience,
            issuer=issuer,
            leeway=self._skew,
            options={"require": ["exp", "iss", "aud", "sub", *required]},
        )
        if not claims["sub"]:
            raise ValueError("an empty subject")
        return claims


def external_user_id(issuer: str, subject: str) -> str:
    """The account of a person of an external provider: the same in every process without looking it up."""
    digest = hashlib.sha256(f"{issuer}\n{subject}".encode()).digest()
    return f"usr_{base64.b32hexencode(digest[:16]).decode().rstrip('=').lower()}"


def _key(keys: KeyFile, header: dict[str, Any]) -> jwt.PyJWK:
    key = keys.find(str(header.get("kid", "")), str(header.get("alg", "")))
    if key is None:
        raise ValueError("an unknown key")
    return key


def _identity(claims: dict[str, Any], token: str) -> Identity:
    roles = tuple(str(role) for role in claims.get("roles") or ())
    scopes = claims.get("scopes")
    if scopes is None:  # an empty list is that of a key which may do nothing (any more)
        scopes = _scopes(roles)
    return Identity(
        user_id=str(claims["sub"]),
        username=str(claims.get("preferred_username") or ""),
        roles=roles,
        is_guest=bool(claims.get("guest")),
        auth_method=str(claims.get("auth_method") or "jwt"),
        scopes=tuple(str(scope) for scope in scopes),
        expires_at=float(claims["exp"]),
        token=token,
        token_id=_token_id(claims, token),
        session_id=str(claims.get("sid") or ""),
    )


def external_identity(claims: dict[str, Any], token: str, provider: Provider) -> Identity:
    """Who it is that verified claims of the provider are about. Claims about identity inside this system, such as
    scopes or being a guest, are not the provider's to make. Raises ValueError or TypeError for claims of odd types."""
    roles = ("user", "admin") if provider.admin_role in (roles_at(claims, provider.roles_claim) or ()) else ("user",)
    subject = str(claims["sub"])
    if len(subject) > LONGEST_SUBJECT or not subject.isprintable():
        raise ValueError("a subject that OpenID Connect does not allow")
    email = "" if claims.get("email_verified") is False else _printable(claims.get("email"))
    return Identity(
        user_id=external_user_id(provider.issuer, subject),
        username=_printable(claims.get("preferred_username")) or email or subject,
        roles=roles,
        is_guest=False,
        auth_method="jwt",
        scopes=_scopes(roles),
        expires_at=float(claims["exp"]),
        token=token,
        token_id=hashlib.sha256(f"{provider.issuer}\n{claims.get('jti') or token}".encode()).hexdigest(),
        external=External(provider.issuer, subject, email, _printable(claims.get("name"))),
    )


def _printable(claim: object) -> str:
    """A claim that people read, without what a database or a terminal would stumble over."""
    return "".join(filter(str.isprintable, str(claim or "")))[:LONGEST_NAME]


def roles_at(claims: dict[str, Any], path: str) -> list[Any] | None:
    """The roles at a dotted path of the claims, where one role may stand alone; None when there is nothing there."""
    value: Any = claims
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if value is None or isinstance(value, list):
        return value
    return [value]


def _scopes(roles: Sequence[str]) -> tuple[str, ...]:
    """All that a JWT may do: what its roles allow."""
    return ("read", "write", "admin") if "admin" in roles else ("read", "write")


def _token_id(claims: dict[str, Any], token: str) -> str:
    return str(claims.get("jti") or "") or hashlib.sha256(token.encode()).hexdigest()
