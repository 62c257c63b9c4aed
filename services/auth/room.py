"""The wiring of this room: signing keys and stores -> accounts, sessions, API keys -> servicers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from jan.auth.v1 import api_keys_pb2_grpc, auth_pb2_grpc

from services.auth.accounts import AuthServicer
from services.auth.admin import FirstAdmin
from services.auth.api_key_store import ApiKeyStore
from services.auth.api_keys import KeyServicer
from services.auth.exchange import Exchange
from services.auth.gateway import SERVICE as AUTHORIZATION
from services.auth.gateway import GatewayServicer, add_authorization
from services.auth.login import PasswordLogin
from services.auth.oidc import ExternalLogin, opened
from services.auth.passwords import Passwords
from services.auth.quota import Quota
from services.auth.sessions import Sessions
from services.auth.signing import KeyRing
from services.auth.store import AccountStore
from services.auth.sweeping import Sweeper
from services.auth.tokens import TokenIssuer
from services.runtime import idempotency_store
from services.runtime.config import ConfigError, Settings
from services.runtime.foundation import Foundation, Storage, provider_of
from services.runtime.revocation import Revocations
from services.runtime.server import Mounted


async def furnish(foundation: Foundation) -> list[Mounted]:
    """The services of this room, ready to be mounted. Raises `ConfigError` without a database."""
    storage = foundation.storage
    if storage is None:
        raise ConfigError("the auth room needs DATABASE_URL")
    keys = _signing_keys(foundation.settings)
    issuer = _issuer(foundation.settings, keys)
    accounts = AccountStore(storage.database)
    return [
        await _accounts(foundation, storage, accounts, keys, issuer),
        *_api_keys(foundation, storage, accounts, issuer),
    ]


def _signing_keys(settings: Settings) -> KeyRing:
    keys = KeyRing(settings.data_dir / "keys", settings.auth_signing_alg)
    keys.prepare(Path(settings.auth_signing_key_file) if settings.auth_signing_key_file else None)
    return keys


def _issuer(settings: Settings, keys: KeyRing) -> TokenIssuer:
    return TokenIssuer(
        keys, issuer=settings.issuer, audience=settings.auth_audience, ttl=settings.auth_access_token_ttl
    )


async def _accounts(
    foundation: Foundation, storage: Storage, accounts: AccountStore, keys: KeyRing, issuer: TokenIssuer
) -> Mounted:
    settings, database, passwords = foundation.settings, storage.database, Passwords()
    login = PasswordLogin(database, accounts, passwords)
    ttl, skew = settings.auth_refresh_token_ttl, settings.auth_clock_skew
    sessions = Sessions(database, accounts, issuer=issuer, verifier=foundation.verifier, refresh_ttl=ttl, skew=skew)
    first_admin = FirstAdmin(database, passwords, email=settings.admin_email, password=settings.admin_password)
    await first_admin.make()
    sweeper = Sweeper(
        [
            first_admin.make,
            sessions.sweep,
            login.sweep,
            Revocations(database).sweep,
            partial(idempotency_store.sweep, database),
        ]
    )
    sweeper.start()
    foundation.stack.push_async_callback(sweeper.close)
    external = await _sign_in_elsewhere(foundation, storage, accounts)
    servicer = AuthServicer(
        settings, accounts, sessions=sessions, login=login, passwords=passwords, keys=keys, external=external
    )
    return Mounted("jan.auth.v1.AuthService", auth_pb2_grpc.add_AuthServiceServicer_to_server, servicer)


async def _sign_in_elsewhere(foundation: Foundation, storage: Storage, accounts: AccountStore) -> ExternalLogin | None:
    provider = provider_of(foundation.settings)
    if provider is None:
        return None
    logins = opened(
        foundation.settings, provider, database=storage.database, vault=storage.vault, welcome=accounts.welcome
    )
    return await foundation.stack.enter_async_context(logins)


def _api_keys(foundation: Foundation, storage: Storage, accounts: AccountStore, issuer: TokenIssuer) -> list[Mounted]:
    settings, watch = foundation.settings, storage.watch
    store = ApiKeyStore(storage.database, skew=settings.auth_clock_skew)
    quota = Quota(storage.database, enforce=settings.rate_limits == "enforce")
    quota.start()
    foundation.stack.push_async_callback(quota.close)
    exchange = Exchange(
        settings, store, issuer, quota, verify=foundation.verifier.verify, hears=lambda: watch.connected
    )
    exchange.follow(watch)
    keys = KeyServicer(settings, store, welcome=accounts.welcome, forget=exchange.forget)
    gateway = GatewayServicer(exchange, foundation.metrics)
    return [
        Mounted("jan.auth.v1.KeyService", api_keys_pb2_grpc.add_KeyServiceServicer_to_server, keys),
        Mounted(AUTHORIZATION, add_authorization, gateway, internal=True),
    ]
