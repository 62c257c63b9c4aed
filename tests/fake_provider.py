"""An OpenID Connect provider that does as a test says, honest or not, as the transport of an httpx client.

provider = FakeProvider()
client = ProviderClient(secure=True, transport=httpx.MockTransport(provider.answer))
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER, CLIENT_ID, CLIENT_SECRET = "https://id.test/realms/home", "jan", "a secret: with & odd signs"
MAKERS: dict[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "PS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


class ProviderKey:
    """A key pair of the provider, and tokens that it signs."""

    def __init__(self, algorithm: str = "ES256", kid: str = "key-1") -> None:
        self.algorithm, self.kid = algorithm, kid
        self.private = MAKERS[algorithm]()

    def jwk(self, **members: Any) -> dict[str, Any]:
        """The public half as the provider lists it; a member that is None is left out."""
        jwk = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.private.public_key(), as_dict=True)
        jwk.pop("key_ops", None)
        jwk |= {"kid": self.kid, "use": "sig", "alg": self.algorithm, **members}
        return {name: value for name, value in jwk.items() if value is not None}

    def sign(self, **claims: Any) -> str:
        """A token of `ISSUER` about alice for `CLIENT_ID`; a claim that is None is left out."""
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": CLIENT_ID, "sub": "alice", "iat": now, "exp": now + 300, **claims}
        said = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(said, self.private, algorithm=self.algorithm, headers={"kid": self.kid})


class FakeProvider:
    """Its documents are plain values that a test may change; `asked` is what it was asked for."""

    def __init__(self) -> None:
        self.key = ProviderKey()
        self.down = False
        self.asked: list[httpx.Request] = []
        self.configuration: dict[str, Any] = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/authorize",
            "token_endpoint": f"{ISSUER}/token",
            "userinfo_endpoint": f"{ISSUER}/userinfo",
            "jwks_uri": f"{ISSUER}/keys",
        }
        self.key_set: Any = {"keys": [self.key.jwk()]}
        self.tokens: Any = {}
        self.userinfo: Any = {"sub": "alice"}
        self.instead: Callable[[httpx.Request], httpx.Response] | None = None

    def answer(self, request: httpx.Request) -> httpx.Response:
        """What it answers."""
        self.asked.append(request)
        if self.down:
            raise httpx.ConnectError("refused", request=request)
        if self.instead is not None:
            return self.instead(request)
        path = request.url.path.removeprefix(urlsplit(ISSUER).path)
        documents = {
            "/.well-known/openid-configuration": self.configuration,
            "/keys": self.key_set,
            "/token": self.tokens,
            "/userinfo": self.userinfo,
        }
        return httpx.Response(200, json=documents[path])

    def transport(self) -> httpx.MockTransport:
        """The way to it."""
        return httpx.MockTransport(self.answer)

    def paths(self) -> list[str]:
        """The ends of the paths that were asked for."""
        return [request.url.path.rpartition("/")[2] for request in self.asked]

    def form(self) -> dict[str, str]:
        """The last form that was sent."""
        (sent,) = [request for request in self.asked[-2:] if request.method == "POST"]
        return {name: value for name, (value,) in parse_qs(sent.content.decode()).items()}
