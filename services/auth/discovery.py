"""What the external provider says about itself (OpenID Connect Discovery 1.0), and its keys as a file for everybody.

    DATA_DIR/keys/external.json    public keys of OIDC_ISSUER_URL, replaced atomically; read by every service and Envoy

The file survives a provider that is down, and our own restarts: tokens that were good stay good.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from services.auth.provider import ProviderClient, ProviderFailed
from services.runtime.identity import algorithms

REFETCH_PAUSE = 5.0  # seconds between two looks for a key that an ID token names and we do not know
_BACK_OFF = (1.0, 2.0, 5.0, 10.0, 30.0)
_PUBLIC = ("kty", "kid", "use", "alg", "crv", "x", "y", "n", "e")  # a private or shared key has others besides

log = logging.getLogger("jan.oidc")


@dataclass(frozen=True)
class Endpoints:
    """Where the provider is asked for what."""

    authorization: str
    token: str
    keys: str
    userinfo: str
    """Empty when it has none."""
    basic_login: bool
    """Whether a client gives its secret as HTTP Basic; otherwise in the form."""


class Discovery:
    """The provider of one issuer. `follow` keeps its keys current."""

    def __init__(self, issuer: str, client: ProviderClient, path: Path, *, interval: float) -> None:
        self._issuer = issuer
        self._client = client
        self._path = path
        self._interval = interval
        self._endpoints: Endpoints | None = None
        self._refreshing, self._refetching = asyncio.Lock(), asyncio.Lock()
        self._refetched = float("-inf")
        self._well: bool | None = None

    def prepare(self) -> None:
        """Make the file if there is none; keys of another issuer, from before the setting was changed, are dropped."""
        try:
            known = orjson.loads(self._path.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            known = None
        if not isinstance(known, dict) or known.get("issuer") != self._issuer:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write([])

    async def follow(self) -> None:
        """Read keys and endpoints at once and then every `interval`, sooner after a failure. Ends when cancelled."""
        failures = 0
        while True:
            try:
                await self.refresh()
                failures = 0
            except ProviderFailed:
                failures += 1
            except Exception:  # one that nobody thought of must not leave us with yesterday's keys
                failures += 1
                log.exception("provider not understood")
            pause = _BACK_OFF[min(failures, len(_BACK_OFF)) - 1] if failures else self._interval
            await asyncio.sleep(min(pause, self._interval))

    async def endpoints(self) -> Endpoints:
        """As last said, or asked for now. Raises `ProviderFailed`."""
        if self._endpoints is None:
            await self.refetch()
        if self._endpoints is None:
            raise ProviderFailed(f"{self._issuer} has not said anything yet")
        return self._endpoints

    async def refresh(self) -> None:
        """Read endpoints and keys; what was known stays when that fails. Raises `ProviderFailed`."""
        try:
            async with self._refreshing:
                endpoints = self._understood(await self._client.get(_well_known(self._issuer)))
                keys = public_keys(await self._client.get(endpoints.keys))
                self._write(keys)
                self._endpoints = endpoints
        except ProviderFailed as error:
            self._say(well=False, reason=str(error))
            raise
        except OSError as error:
            self._say(well=False, reason=repr(error))
            raise ProviderFailed(f"{self._path} cannot be written") from error
        self._say(well=True, keys=[key["kid"] for key in keys])

    async def refetch(self) -> None:
        """The same out of turn, but not as often as strangers may want it. Raises `ProviderFailed`."""
        clock = asyncio.get_running_loop().time
        async with self._refetching:  # those who wait here get what the first of them got
            if clock() - self._refetched >= REFETCH_PAUSE:
                try:
                    await self.refresh()
                finally:
                    self._refetched = clock()

    def _understood(self, document: Mapping[str, Any]) -> Endpoints:
        if document.get("issuer") != self._issuer:  # RFC 8414, 3.3
            said = str(document.get("issuer"))[:200]
            raise ProviderFailed(f"OIDC_ISSUER_URL is {self._issuer}, and the server there calls itself {said}")
        methods = document.get("token_endpoint_auth_methods_supported")
        endpoints = Endpoints(
            authorization=str(document.get("authorization_endpoint", "")),
            token=str(document.get("token_endpoint", "")),
            keys=str(document.get("jwks_uri", "")),
            userinfo=str(document.get("userinfo_endpoint", "")),
            basic_login=not isinstance(methods, list) or "client_secret_basic" in methods,
        )
        for url in (endpoints.authorization, endpoints.token, endpoints.keys):
            self._client.check(url)
        return endpoints

    def _write(self, keys: Sequence[Mapping[str, str]]) -> None:
        """Replace the file if that changes it: whoever reads it looks at its time of change."""
        content = orjson.dumps({"issuer": self._issuer, "keys": keys})
        if self._path.exists() and self._path.read_bytes() == content:
            return
        scratch = self._path.with_suffix(".new")
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._path)

    def _say(self, *, well: bool, **fields: object) -> None:
        """One line when things become good or bad, not one per attempt."""
        if well != self._well:
            self._well = well
            log.log(
                logging.INFO if well else logging.WARNING,
                "provider_ready" if well else "provider_failed",
                extra={"issuer": self._issuer, **fields},
            )


def public_keys(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """The keys of a JSON Web Key Set that can verify signatures, with their public members only. Raises
    `ProviderFailed` when there is none: so empty a set is a mistake, and would make every token worthless."""
    listed = document.get("keys")
    found = [
        {name: str(jwk[name]) for name in _PUBLIC if name in jwk}
        for jwk in (listed if isinstance(listed, list) else ())
        if isinstance(jwk, dict) and jwk.get("kid") and algorithms(jwk)
    ]
    if not found:
        raise ProviderFailed("the key set holds no public key with an id that can verify signatures")
    return found


def _well_known(issuer: str) -> str:
    return f"{issuer.rstrip('/')}/.well-known/openid-configuration"
