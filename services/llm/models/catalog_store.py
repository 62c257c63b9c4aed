"""Provider models and catalog rows in PostgreSQL. Every change is one transaction that is written to the audit log and
told to all processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from services.llm.models import registry
from services.llm.models.offers import Offer
from services.llm.models.registry import Registry
from services.llm.providers.provider import Json
from services.runtime import audit
from services.runtime.audit import Change
from services.runtime.db import Connection, Database
from services.runtime.errors import NotFound
from services.runtime.vault import Vault


class Totals(NamedTuple):
    """What a model was used for so far."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class CatalogStore:
    """Everything raises `Unavailable` when the database is not there."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def load(self, connection: Connection | None = None) -> Registry:
        """All that the database says about models."""
        return await registry.load(connection or self._database, self._vault)

    async def changes(self) -> int:
        """How many changes of administrators there have been."""
        return await registry.count(self._database)

    async def remember(self, offers: Sequence[Offer]) -> None:
        """Keep models that were seen for the first time."""
        async with self._database.transaction() as connection:
            await _keep(connection, offers)

    async def change_model(self, offer: Offer, changes: Json, *, enabled: bool | None, change: Change) -> None:
        """Set members of a model; None takes one away. Raises `NotFound` when its provider was deleted meanwhile."""
        async with self._database.transaction() as connection:
            await _keep(connection, [offer])
            found = await connection.fetchval("SELECT changes FROM provider_models WHERE id = $1 FOR UPDATE", offer.id)
            if found is None:
                raise NotFound("There is no such model")
            await connection.execute(
                """
                UPDATE provider_models SET changes = $2, enabled = coalesce($3, enabled), updated_at = now()
                WHERE id = $1
                """,
                *(offer.id, _merged(orjson.loads(found), changes), enabled),
            )
            await audit.record(connection, change, "provider_model.update", [offer.id])
            await registry.announce(connection)

    async def toggle_models(self, offers: Sequence[Offer], *, enabled: bool, change: Change) -> int:
        """Switch models on or off, and return how many were not so before."""
        async with self._database.transaction() as connection:
            await _keep(connection, offers)
            rows = await connection.fetch(
                "SELECT id, enabled FROM provider_models WHERE id = ANY($1) ORDER BY id FOR UPDATE",
                [offer.id for offer in offers],
            )
            usual = {offer.id: offer.by_default for offer in offers}
            changed = [
                row["id"] for row in rows if enabled != (usual[row["id"]] if row["enabled"] is None else row["enabled"])
            ]
            await connection.execute(
                "UPDATE provider_models SET enabled = $2, updated_at = now() WHERE id = ANY($1)", changed, enabled
            )
            await audit.record(connection, change, _switched("provider_model", enabled=enabled), changed)
            await registry.announce(connection)
        return len(changed)

    async def change_catalog(
        self, model_id: str, described: Json, changes: Json, *, enabled: bool | None, change: Change
    ) -> None:
        """Set members of a catalog row; `described` is what they are before the first change."""
        async with self._database.transaction() as connection:
            await _keep_catalogs(connection, [model_id])
            found = await connection.fetchval("SELECT changes FROM catalogs WHERE model_id = $1 FOR UPDATE", model_id)
            await connection.execute(
                """
                UPDATE catalogs SET changes = $2, enabled = coalesce($3, enabled), updated_at = now()
                WHERE model_id = $1
                """,
                *(model_id, _merged(orjson.loads(found) or described, changes), enabled),
            )
            await audit.record(connection, change, "catalog.update", [model_id])
            await registry.announce(connection)

    async def toggle_catalogs(self, model_ids: Sequence[str], *, enabled: bool, change: Change) -> int:
        """Switch catalog rows on or off, and return how many were not so before."""
        async with self._database.transaction() as connection:
            await _keep_catalogs(connection, model_ids)
            rows = await connection.fetch(
                "SELECT model_id, enabled FROM catalogs WHERE model_id = ANY($1) ORDER BY model_id FOR UPDATE",
                list(model_ids),
            )
            changed = [row["model_id"] for row in rows if row["enabled"] != enabled]
            await connection.execute(
                "UPDATE catalogs SET enabled = $2, updated_at = now() WHERE model_id = ANY($1)", changed, enabled
            )
            await audit.record(connection, change, _switched("catalog", enabled=enabled), changed)
            await registry.announce(connection)
        return len(changed)

    async def totals(self, model_ids: Sequence[str]) -> dict[str, Totals]:
        """What these models were used for so far, all users together."""
        rows = await self._database.fetch(
            """
            SELECT model, requests, prompt_tokens, completion_tokens FROM model_totals WHERE model = ANY($1)
            """,
            list(model_ids),
        )
        return {row["model"]: Totals(row["requests"], row["prompt_tokens"], row["completion_tokens"]) for row in rows}


async def _keep(connection: Connection, offers: Sequence[Offer]) -> None:
    """Rows are made in one order, so that two processes which do it at once do not wait for each other for ever. There
    are none for a provider that was deleted meanwhile: nothing would ever take them away."""
    rows = sorted(
        (each.id, each.entry.id, each.model_id, each.upstream_id, bool(each.entry.made_id)) for each in offers
    )
    if not rows:
        return
    await connection.execute(
        """
        INSERT INTO provider_models (id, provider_id, model_id, upstream_id)
        SELECT id, provider_id, model_id, upstream_id
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[])
            AS seen (id, provider_id, model_id, upstream_id, made)
        WHERE NOT made OR EXISTS (SELECT FROM providers WHERE providers.id = seen.provider_id FOR KEY SHARE)
        ON CONFLICT (id) DO NOTHING
        """,
        *(list(column) for column in zip(*rows, strict=True)),
    )


async def _keep_catalogs(connection: Connection, model_ids: Sequence[str]) -> None:
    await connection.execute(
        "INSERT INTO catalogs (model_id) SELECT * FROM unnest($1::text[]) ON CONFLICT (model_id) DO NOTHING",
        sorted(model_ids),
    )


def _merged(said: Json, changes: Json) -> str:
    """JSON of all members that are not None."""
    merged = {name: value for name, value in (said | changes).items() if value is not None}
    return orjson.dumps(merged).decode()


def _switched(noun: str, *, enabled: bool) -> str:
    return f"{noun}.{'enable' if enabled else 'disable'}"
