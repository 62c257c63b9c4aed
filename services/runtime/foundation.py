"""What every room of a process stands on: the database, what is told through it, who verifies tokens."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from services.runtime import db, vault
from services.runtime.config import Settings
from services.runtime.db import Database
from services.runtime.grants import Grants
from services.runtime.identity import EXTERNAL_JWKS, JWKS, KeyFile, Provider, TokenVerifier
from services.runtime.metrics import Metrics
from services.runtime.neighbours import Neighbours
from services.runtime.revocation import DenyList
from services.runtime.status import Check
from services.runtime.vault import Vault
from services.runtime.watch import Watch


@dataclass(frozen=True)
class Storage:
    """The database of the installation, and what belongs to it."""

    database: Database
    watch: Watch
    """Not started yet: rooms say first what they want to hear."""
    vault: Vault
    grants: Grants


@dataclass(frozen=True)
class Foundation:
    """What a room is furnished with. Whatever it opens, `stack` closes; what it needs to be ready goes to `checks`."""

    settings: Settings
    metrics: Metrics
    stack: AsyncExitStack
    verifier: TokenVerifier
    storage: Storage | None
    """None only in tests of rooms that need no database."""
    neighbours: Neighbours
    checks: dict[str, Check] = field(default_factory=dict)


async def lay(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> Foundation:
    """The foundation of this process, closed by `stack`. Raises `ConfigError` for settings that cannot be used."""
    denied = DenyList()
    keys = settings.data_dir / "keys"
    storage = await _storage(settings, stack) if settings.database_url else None
    verifier = TokenVerifier(
        KeyFile(keys / JWKS),
        issuer=settings.issuer,
        audience=settings.auth_audience,
        skew=settings.auth_clock_skew,
        external=_external(settings),
        grants=storage.grants if storage is not None else None,
        denies=denied.denies if storage is not None else lambda token_id, session_id: False,
    )
    elsewhere = {"llm": settings.llm_service, "media": settings.media_service, "mcp": settings.mcp_service}
    neighbours = Neighbours(elsewhere)
    stack.push_async_callback(neighbours.close)
    foundation = Foundation(settings, metrics, stack, verifier, storage, neighbours)
    foundation.checks["signing keys"] = verifier.ready
    if storage is not None:
        denied.follow(storage.watch)
        foundation.checks.update({"database": storage.database.ready, "revoked tokens": denied.ready})
    return foundation


async def _storage(settings: Settings, stack: AsyncExitStack) -> Storage:
    database = await db.connect(settings.database_url)
    stack.push_async_callback(database.close)
    sealed = vault.load(settings)
    return Storage(database, Watch(settings.database_url), sealed, Grants(sealed.key("grants")))


def _external(settings: Settings) -> tuple[Provider, KeyFile] | None:
    provider = provider_of(settings)
    return (provider, KeyFile(settings.data_dir / "keys" / EXTERNAL_JWKS)) if provider is not None else None


def provider_of(settings: Settings) -> Provider | None:
    """The external identity provider, if there is one."""
    if not settings.oidc_issuer_url:
        return None
    return Provider(
        issuer=settings.oidc_issuer_url,
        audience=settings.external_audience,
        roles_claim=settings.oidc_roles_claim,
        admin_role=settings.oidc_admin_role,
    )
