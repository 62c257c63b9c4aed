"""What administrators have said about providers and models, and which models there have been: the database's part of
the catalog, as every process has it in memory. Whoever changes it tells all processes by `announce`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import orjson

from services.llm.providers.entries import Address, Entry
from services.llm.providers.provider import Json
from services.runtime.db import Connection, Database, Row
from services.runtime.vault import Unreadable, Vault

CHANNEL = "models"
_BY = " read by "
PURPOSE = "model provider"
log = logging.getLogger("jan.models")


@dataclass(frozen=True)
class KnownModel:
    """A model that a provider offers or has offered. `enabled` is None until an administrator says so; `changes` has
    members of `jan.llm.v1.ProviderModel`."""

    id: str
    provider_id: str
    model_id: str
    upstream_id: str
    enabled: bool | None
    changes: Json
    created_at: int
    updated_at: int


@dataclass(frozen=True)
class KnownCatalog:
    """What is said about a model, whoever offers it. `changes` has members of `jan.llm.v1.AdminCatalog`: none, or all
    that describe the model."""

    enabled: bool
    changes: Json
    created_at: int
    updated_at: int


@dataclass(frozen=True)
class MadeProvider:
    """A provider that an administrator has made."""

    entry: Entry
    key_hint: str | None
    created_at: int
    updated_at: int


@dataclass(frozen=True)
class Registry:
    """All of it. Without a database it is empty."""

    changes: int = -1
    """How many changes of administrators are in it; -1 when it was never read."""
    providers: Mapping[str, MadeProvider] = field(default_factory=dict)
    models: Mapping[str, KnownModel] = field(default_factory=dict)
    catalogs: Mapping[str, KnownCatalog] = field(default_factory=dict)

    def models_of(self, provider_id: str) -> Sequence[KnownModel]:
        """The models of a provider, by id."""
        return self._by_provider.get(provider_id, ())

    @cached_property
    def _by_provider(self) -> Mapping[str, Sequence[KnownModel]]:
        found: dict[str, list[KnownModel]] = {}
        for each in self.models.values():
            found.setdefault(each.provider_id, []).append(each)
        return found


async def count(source: Database | Connection) -> int:
    """How many changes there have been. Raises `Unavailable`."""
    return int(await source.fetchval("SELECT count FROM model_changes"))


async def load(source: Database | Connection, vault: Vault) -> Registry:
    """Read it. Raises `Unavailable`."""
    changes = await count(source)  # first: what comes in between is then read again, and not missed
    providers = await source.fetch(
        """
        SELECT id, name, vendor, endpoints, api_key, key_hint, active, metadata, created_at, updated_at
        FROM providers ORDER BY id
        """
    )
    models = await source.fetch(
        """
        SELECT id, provider_id, model_id, upstream_id, enabled, changes, created_at, updated_at
        FROM provider_models ORDER BY id
        """
    )
    catalogs = await source.fetch("SELECT model_id, enabled, changes, created_at, updated_at FROM catalogs")
    return Registry(
        changes,
        {row["id"]: _provider(row, vault) for row in providers},
        {row["id"]: KnownModel(**_plain(row)) for row in models},
        {(said := _plain(row)).pop("model_id"): KnownCatalog(**said) for row in catalogs},
    )


async def announce(connection: Connection, provider_ids: Sequence[str] = (), *, read_by: str = "") -> None:
    """As the last part of a transaction: count the change, and tell every process to read the registry again when it
    commits, and the model lists of these providers, but for the process that has just read them."""
    await connection.execute("UPDATE model_changes SET count = count + 1")
    for provider_id in provider_ids or ("",):
        await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, f"{provider_id}{_BY}{read_by}")


def heard(payload: str) -> tuple[str, str]:
    """Of which provider the lists are to be read, '' for none, and which process has done so already."""
    provider_id, _, read_by = payload.partition(_BY)
    return provider_id, read_by


def _provider(row: Row, vault: Vault) -> MadeProvider:
    """A provider whose key cannot be read is not active until it gets a new one."""
    api_key, readable = "", True
    if row["api_key"] is not None:
        try:
            api_key = vault.open(row["api_key"], purpose=PURPOSE, about=row["id"].encode()).decode()
        except Unreadable:
            readable = False
            remedy = "set MODEL_PROVIDER_SECRET as it was, or give the provider its key anew"
            log.warning("provider_key_unreadable", extra={"provider": row["name"], "remedy": remedy})
    entry = Entry(
        name=row["name"],
        type=row["vendor"],
        addresses=tuple(Address(**each) for each in orjson.loads(row["endpoints"])),
        api_key=api_key,
        made_id=row["id"],
        active=row["active"] and readable,
        metadata=orjson.loads(row["metadata"]),
    )
    return MadeProvider(entry, row["key_hint"], seconds(row["created_at"]), seconds(row["updated_at"]))


def _plain(row: Row) -> Json:
    """The columns, JSON read and times as Unix seconds."""
    plain = dict(row)
    plain["changes"] = orjson.loads(plain["changes"])
    for name in ("created_at", "updated_at"):
        plain[name] = seconds(plain[name])
    return plain


def seconds(moment: datetime) -> int:
    """Unix seconds."""
    return int(moment.timestamp())
