"""Signing in at the external identity provider: OpenID Connect, authorization code flow with PKCE (RFC 7636).

The secrets of a sign-in wait in PostgreSQL under its `state`, not in a cookie: it may end in another process or browser
window than it began, once, and within ten minutes.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

from services.auth.discovery import Discovery, Endpoints
from services.auth.id_token import NotValid, ProviderTokens, UnknownKey
from services.auth.login_store import Login, LoginStore
from services.auth.provider import ProviderClient, ProviderFailed
from services.auth.redirects import allowed_redirect
from services.runtime.config import Settings
from services.runtime.db import Database, Row
from services.runtime.errors import InvalidRequest, Unauthenticated, Unavailable, UpstreamFailed
from services.runtime.identity import EXTERNAL_JWKS, Identity, KeyFile, Provider, external_identity, roles_at
from services.runtime.vault import Vault

_PROFILE = {"preferred_username", "name", "email", "email_verified"}

Welcome = Callable[[Identity], Awaitable[Row]]
"""Makes or updates the account of an external person and returns it."""


@asynccontextmanager
async def opened(
    settings: Settings, provider: Provider, *, database: Database, vault: Vault, welcome: Welcome
) -> AsyncIterator[ExternalLogin]:
    """Sign-ins with `provider`, whose keys are kept current for every service meanwhile. A provider that is down is no
    obstacle."""
    path = settings.data_dir / "keys" / EXTERNAL_JWKS
    client = ProviderClient(secure=settings.environment == "production")
    discovery = Discovery(provider.issuer, client, path, interval=settings.jwks_refresh_interval)
    discovery.prepare()
    tokens = ProviderTokens(KeyFile(path), provider, client_id=settings.oidc_client_id, skew=settings.auth_clock_skew)
    following = asyncio.create_task(discovery.follow())
    try:
        yield ExternalLogin(
            settings,
            discovery,
            client,
            provider=provider,
            tokens=tokens,
            logins=LoginStore(database, vault),
            welcome=welcome,
        )
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await client.close()


class ExternalLogin:
    """Sign-ins with one provider. `start` sends the browser there, `complete` receives it back."""

    def __init__(
        self,
        settings: Settings,
        discovery: Discovery,
        client: ProviderClient,
        *,
        provider: Provider,
        tokens: ProviderTokens,
        logins: LoginStore,
        welcome: Welcome,
    ) -> None:
        self._settings = settings
        self._discovery = discovery
        self._client = client
        self._provider = provider
        self._tokens = tokens
        self._logins = logins
        self._welcome = welcome

    async def start(self, redirect_url: str) -> tuple[str, str]:
        """The address at the provider to send the browser to, and the state that will come back. Raises
        `InvalidRequest` (`invalid_redirect_url`) or, while the provider is not reachable, `Unavailable`."""
        target = allowed_redirect(redirect_url, self._settings.redirect_origins)
        try:
            endpoints = await self._discovery.endpoints()
        except ProviderFailed as error:
            raise Unavailable("The identity provider cannot be reached; try again shortly") from error
        state, login = _random(), Login(nonce=_random(), verifier=_random(), redirect_url=target)
        await self._logins.put(state, login)
        query = {
            "client_id": self._settings.oidc_client_id,
            "redirect_uri": self._settings.callback,
            "response_type": "code",
            "scope": _scope(self._settings.oidc_scopes),
            "state": state,
            "nonce": login.nonce,
            "code_challenge": _challenge(login.verifier),
            "code_challenge_method": "S256",
        }
        joint = "&" if urlsplit(endpoints.authorization).query else "?"
        return f"{endpoints.authorization}{joint}{urlencode(query)}", state

    async def complete(self, code: str, state: str, error: str, error_description: str) -> tuple[Row, str]:
        """The account that was signed in, and where the browser goes on to. Raises `InvalidRequest` (`access_denied`,
        `missing_code_or_state`), `Unauthenticated` (`invalid_state`) or `UpstreamFailed` (`oidc_exchange_failed`)."""
        if error:
            if state:
                await self._logins.take(state)
            said = f"{error}: {error_description}" if error_description else error
            raise InvalidRequest(f"The identity provider refused the sign-in ({said[:300]})", code="access_denied")
        if not code or not state:
            raise InvalidRequest("The sign-in needs both 'code' and 'state'", code="missing_code_or_state")
        login = await self._logins.take(state)
        if login is None:
            raise Unauthenticated("This sign-in is unknown, over or too old; begin a new one", code="invalid_state")
        try:
            person = await self._exchange(code, login)
        except (ProviderFailed, UnknownKey, NotValid) as failure:
            raise UpstreamFailed(
                "The identity provider did not confirm the sign-in; begin a new one", code="oidc_exchange_failed"
            ) from failure
        return await self._welcome(person), login.redirect_url

    async def _exchange(self, code: str, login: Login) -> Identity:
        """Who the code stands for, by all rules of OpenID Connect."""
        endpoints = await self._discovery.endpoints()
        answer = await self._redeem(endpoints, code, login.verifier)
        id_token, access_token = str(answer.get("id_token", "")), str(answer.get("access_token", ""))
        claims = await self._verified(partial(self._tokens.id_token, id_token, nonce=login.nonce))
        person = await self._person(claims, access_token, endpoints)
        try:
            return external_identity(person, id_token, self._provider)
        except (ValueError, TypeError) as error:
            raise NotValid(f"claims of odd types: {error!r}") from error

    async def _redeem(self, endpoints: Endpoints, code: str, verifier: str) -> dict[str, Any]:
        """The tokens for the code (RFC 6749, 4.1.3)."""
        client_id, secret = self._settings.oidc_client_id, self._settings.oidc_client_secret
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._settings.callback,
            "code_verifier": verifier,
            "client_id": client_id,
        }
        if secret and endpoints.basic_login:
            return await self._client.post(endpoints.token, form, login=(client_id, secret))
        return await self._client.post(endpoints.token, form | ({"client_secret": secret} if secret else {}))

    async def _verified(self, verify: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A key that is not known may be new: it is looked for once."""
        try:
            return verify()
        except UnknownKey:
            await self._discovery.refetch()
            return verify()

    async def _person(self, claims: dict[str, Any], access_token: str, endpoints: Endpoints) -> dict[str, Any]:
        """The claims of the ID token with what it does not tell: some providers put roles into the access token only
        (Keycloak), others leave all but the subject to userinfo (OpenID Connect Core, 5.4)."""
        person = claims
        if self._lacks_something(person):
            read = partial(self._tokens.access_token, access_token, subject=claims["sub"])
            person = self._with(person, await self._verified(read))
        if self._lacks_something(person) and endpoints.userinfo:
            told = await self._client.get(endpoints.userinfo, bearer=access_token)
            if told.get("sub") != claims["sub"]:  # OpenID Connect Core, 5.3.2
                raise NotValid("userinfo is about somebody else")
            person = self._with(person, told)
        return person

    def _lacks_something(self, person: dict[str, Any]) -> bool:
        return roles_at(person, self._provider.roles_claim) is None or _PROFILE.isdisjoint(person)

    def _with(self, person: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
        """Adds name and address if there is neither, and roles if there are none."""
        path = self._provider.roles_claim
        wanted = _PROFILE if _PROFILE.isdisjoint(person) else set()
        if roles_at(person, path) is None and roles_at(told, path) is not None:
            wanted = wanted | {path.partition(".")[0]}
        return person | {name: value for name, value in told.items() if name in wanted}


def _scope(scopes: str) -> str:
    words = scopes.replace(",", " ").split()
    return " ".join(words if "openid" in words else ["openid", *words])


def _random() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def _challenge(verifier: str) -> str:
    """RFC 7636, 4.2."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
