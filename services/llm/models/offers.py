"""What each provider offers: the models of the providers file, those of its own list, and those it once had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Any

from services.llm.models.registry import KnownModel, Registry
from services.llm.providers.description import Description, describe
from services.llm.providers.entries import Address, Entry, ListedModel
from services.llm.providers.provider import Json
from services.runtime import ids

LONGEST_ID = 256
MOST_LISTED = 20_000
"""Rows of one list: what goes on longer is no list of models, and every process would keep it in memory."""


@dataclass(frozen=True)
class Listed:
    """A row of a provider's own list."""

    id: str
    created: int
    """When the model was made, in Unix seconds, as the provider says; 0 when it does not."""
    row: Json
    description: Description


def listed(rows: Sequence[Json]) -> list[Listed]:
    """The rows whose ids can be asked for, `MOST_LISTED` at most."""
    known = (row for row in rows if 0 < len(row["id"]) <= LONGEST_ID and row["id"].isprintable())
    return [_listed(row) for row in islice(known, MOST_LISTED)]


def _listed(row: Json) -> Listed:
    created = row.get("created")
    known = created if type(created) is int and 0 < created < 2**32 else 0
    return Listed(row["id"], known, row, describe(row["id"], row))


@dataclass(frozen=True)
class Offer:
    """One model of one provider; `addresses` are those that have it now."""

    id: str
    entry: Entry
    model_id: str
    upstream_id: str
    description: Description
    created: int
    addresses: tuple[Address, ...]
    available: bool
    known: KnownModel | None
    by_name: bool
    """Whether the configuration names it."""

    @property
    def changes(self) -> Mapping[str, Any]:
        """What administrators have said about it."""
        return self.known.changes if self.known else {}

    @property
    def enabled(self) -> bool:
        """Whether it can be called, as far as this provider's row says."""
        if self.known is not None and self.known.enabled is not None:
            return self.known.enabled
        return self.by_default

    @property
    def by_default(self) -> bool:
        """Whether it can be called before an administrator has said anything."""
        return self.by_name or self.entry.auto_enable_new_models

    @property
    def callable(self) -> bool:
        """Whether requests may go to it now."""
        return self.available and self.enabled and self.entry.active


@lru_cache(maxsize=10_000)
def unlisted(model_id: str, named: ListedModel | None = None) -> Description:
    """What is known of a model that no list of its provider has."""
    return describe(model_id, {}, named)


@lru_cache(maxsize=10_000)
def _key(provider_id: str, model_id: str) -> str:
    return ids.derived_id("pm", provider_id, model_id)


def model_key(entry: Entry, model_id: str) -> str:
    """The id of the row of a provider's model."""
    return _key(entry.id, model_id)


def offers_of(entry: Entry, lists: Mapping[str, Sequence[Listed]], registry: Registry) -> list[Offer]:
    """All models of a provider, whose addresses' lists are in `lists`: first those the file names, last those gone."""
    found: dict[str, Offer] = {}
    for offer in _now(entry, lists, registry):
        twin = found.setdefault(offer.model_id, offer)
        if twin is not offer and twin.upstream_id == offer.upstream_id:
            found[offer.model_id] = replace(twin, addresses=(*twin.addresses, *offer.addresses))
    gone = [known for known in registry.models_of(entry.id) if known.model_id not in found]
    return [*found.values(), *(_gone(entry, known) for known in gone)]


def _now(entry: Entry, lists: Mapping[str, Sequence[Listed]], registry: Registry) -> Iterator[Offer]:
    rows = {row.id: row for address in entry.addresses for row in lists.get(address.url, ())}
    for model in entry.models:
        row = rows.get(model.upstream_id)
        description = describe(model.id, row.row, model) if row else unlisted(model.id, model)
        yield _offer(entry, model.id, model.upstream_id, description, registry, entry.addresses, by_name=True)
    named = {model.upstream_id for model in entry.models}
    for address in entry.addresses:
        for row in lists.get(address.url, ()):
            if row.id not in named:
                yield _offer(entry, row.id, row.id, row.description, registry, (address,), created=row.created)


def _offer(
    entry: Entry,
    model_id: str,
    upstream_id: str,
    description: Description,
    registry: Registry,
    addresses: tuple[Address, ...],
    *,
    by_name: bool = False,
    created: int = 0,
) -> Offer:
    key = model_key(entry, model_id)
    known = registry.models.get(key)
    return Offer(
        id=key,
        entry=entry,
        model_id=model_id,
        upstream_id=upstream_id,
        description=description,
        created=created or (known.created_at if known else 0),
        addresses=addresses,
        available=True,
        known=known,
        by_name=by_name,
    )


def _gone(entry: Entry, known: KnownModel) -> Offer:
    return Offer(
        id=known.id,
        entry=entry,
        model_id=known.model_id,
        upstream_id=known.upstream_id,
        description=unlisted(known.model_id),
        created=known.created_at,
        addresses=(),
        available=False,
        known=known,
        by_name=False,
    )
