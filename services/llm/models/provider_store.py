"""Providers that administrators have made, in PostgreSQL; their API keys are encrypted. Every change is one transaction
that is written to the audit log and told to all processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import orjson

from services.llm.models import registry
from services.llm.models.registry import PURPOSE
from services.llm.providers.entries import Address
from services.llm.providers.provider import Json
from services.runtime import audit, ids
from services.runtime.audit import Change
from services.runtime.db import Connection, Database, UniqueViolation
from services.runtime.errors import Conflict, NotFound
from services.runtime.vault import Vault

_SHORTEST_TO_SHOW, _SHOWN = 12, 4


@dataclass(frozen=True)
class Wanted:
    """What a provider is to be; None stays as it is. An empty API key is none."""

    name: str | None = None
    vendor: str | None = None
    addresses: Sequence[Address] | None = None
    api_key: str | None = None
    active: bool | None = None
    metadata: Json | None = None


class ProviderStore:
    """Everything raises `Unavailable` when the database is not there."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def create(self, wanted: Wanted, change: Change) -> str:
        """Make a provider and return its id. Raises `Conflict` for a name that another one has."""
        provider_id = ids.new_id("prov")
        async with self._database.transaction() as connection:
            await _insert(connection, provider_id, wanted, *self._sealed(provider_id, wanted.api_key or ""))
            await audit.record(connection, change, "provider.create", [provider_id])
            await registry.announce(connection, [provider_id])
        return provider_id

    async def update(self, provider_id: str, wanted: Wanted, change: Change) -> None:
        """Change a provider. Raises `NotFound`, and `Conflict` for a name that another one has."""
        sealed, hint = self._sealed(provider_id, wanted.api_key or "")
        async with self._database.transaction() as connection:
            await _update(connection, provider_id, wanted, sealed, hint)
            await audit.record(connection, change, "provider.update", [provider_id])
            await registry.announce(connection, [provider_id])

    async def delete(self, provider_id: str, change: Change) -> None:
        """Delete a provider with its models. Raises `NotFound`."""
        async with self._database.transaction() as connection:
            if not await connection.fetchval("DELETE FROM providers WHERE id = $1 RETURNING true", provider_id):
                raise missing()
            await connection.execute("DELETE FROM provider_models WHERE provider_id = $1", provider_id)
            await audit.record(connection, change, "provider.delete", [provider_id])
            await registry.announce(connection)

    async def synced(self, provider_id: str, change: Change, *, read_by: str) -> None:
        """Write down that somebody had its models read by a process, and have all others do so."""
        async with self._database.transaction() as connection:
            await audit.record(connection, change, "provider.sync", [provider_id])
            await registry.announce(connection, [provider_id], read_by=read_by)

    def _sealed(self, provider_id: str, api_key: str) -> tuple[bytes | None, str | None]:
        """What is stored of a key, and what is shown of it."""
        if not api_key:
            return None, None
        sealed = self._vault.seal(api_key.encode(), purpose=PURPOSE, about=provider_id.encode())
        return sealed, f"…{api_key[-_SHOWN:]}" if len(api_key) >= _SHORTEST_TO_SHOW else "…"


def missing() -> NotFound:
    """The error for a provider that does not exist."""
    return NotFound("There is no such provider")


def taken() -> Conflict:
    """The error for a name that another provider has."""
    return Conflict("There is a provider with this name already", param="name")


async def _insert(
    connection: Connection, provider_id: str, wanted: Wanted, sealed: bytes | None, hint: str | None
) -> None:
    try:
        await connection.execute(
            """
            INSERT INTO providers (id, name, vendor, endpoints, api_key, key_hint, active, metadata)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            """,
            *(provider_id, wanted.name, wanted.vendor, _endpoints(wanted), sealed, hint),
            *(wanted.active is not False, orjson.dumps(wanted.metadata or {}).decode()),
        )
    except UniqueViolation as error:
        raise taken() from error


async def _update(
    connection: Connection, provider_id: str, wanted: Wanted, sealed: bytes | None, hint: str | None
) -> None:
    metadata = None if wanted.metadata is None else orjson.dumps(wanted.metadata).decode()
    try:
        found = await connection.fetchval(
            """
            UPDATE providers SET
                name = coalesce($2, name),
                vendor = coalesce($3, vendor),
                endpoints = coalesce($4, endpoints),
                api_key = CASE WHEN $9 THEN $5 ELSE api_key END,
                key_hint = CASE WHEN $9 THEN $6 ELSE key_hint END,
                active = coalesce($7, active),
                metadata = coalesce($8, metadata),
                updated_at = now()
            WHERE id = $1 RETURNING true
            """,
            *(provider_id, wanted.name, wanted.vendor, _endpoints(wanted), sealed, hint),
            *(wanted.active, metadata, wanted.api_key is not None),
        )
    except UniqueViolation as error:
        raise taken() from error
    if not found:
        raise missing()


def _endpoints(wanted: Wanted) -> str | None:
    return None if wanted.addresses is None else orjson.dumps([asdict(each) for each in wanted.addresses]).decode()
