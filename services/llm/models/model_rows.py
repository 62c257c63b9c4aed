"""Models, catalog rows and providers as the API shows them: what providers say, under what administrators have said."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from jan.llm.v1 import admin_models_pb2, admin_providers_pb2, models_pb2

from services.llm.models.catalog import Catalog
from services.llm.models.catalog_store import Totals
from services.llm.models.offers import Offer
from services.llm.providers.entries import Entry
from services.llm.providers.provider import Json

SAME = {"images": "vision", "image": "vision"}
# Members of a catalog row that nobody but administrators sees.
HIDDEN = ("notes",)


def can(capabilities: Collection[str], wanted: str) -> bool:
    """Whether one of the capabilities is the one that is wanted, by whichever of its names; none is wanted by ''."""
    return not wanted or SAME.get(wanted, wanted) in {SAME.get(each, each) for each in capabilities}


def public_id(offer: Offer) -> str:
    """`vendor/model`."""
    return f"{offer.entry.type}/{offer.model_id}"


def provider_model(offer: Offer) -> admin_models_pb2.ProviderModel:
    """The row of one model of one provider."""
    said = offer.description
    known = offer.known
    members: Json = {
        "name": said.name,
        "capabilities": said.capabilities,
        "family": said.family,
        "context_window": said.context_window or None,
        "max_output_tokens": said.max_output_tokens or None,
        "pricing": said.pricing or None,
    }
    return admin_models_pb2.ProviderModel(
        **(members | dict(offer.changes)),
        id=offer.id,
        object="provider_model",
        model_id=offer.model_id,
        upstream_id=offer.upstream_id,
        provider=offer.entry.type,
        provider_id=offer.entry.id,
        catalog_id=public_id(offer),
        enabled=offer.enabled,
        available=offer.available,
        created_at=known.created_at if known else offer.created,
        updated_at=known.updated_at if known else offer.created,
    )


def described(offer: Offer) -> Json:
    """What is known about a model before an administrator has changed its catalog row."""
    said, changes = offer.description, offer.changes
    return {
        "name": changes.get("name") or said.name,
        "description": said.description,
        "capabilities": list(changes.get("capabilities") or said.capabilities),
        "context_window": changes.get("context_window") or said.context_window or None,
        "family": changes.get("family") or said.family,
        "tags": list(changes.get("tags", ())),
        "experimental": False,
        "supported_parameters": {"names": list(said.parameters), "default": _defaults(changes)},
        "architecture": {
            "modality": f"{'+'.join(said.inputs)}->{'+'.join(said.outputs)}",
            "input_modalities": list(said.inputs),
            "output_modalities": list(said.outputs),
        },
    }


def catalog_row(catalog: Catalog, offers: Sequence[Offer]) -> models_pb2.ModelCatalog:
    """The row of the model that these offer, the one that is asked first in front, as users see it."""
    members = _catalog_members(catalog, offers)
    for name in HIDDEN:
        members.pop(name, None)
    return models_pb2.ModelCatalog(**members)


def admin_catalog(catalog: Catalog, offers: Sequence[Offer], totals: Totals) -> admin_models_pb2.AdminCatalog:
    """The same as administrators see it."""
    first = offers[0]
    said = catalog.registry.catalogs.get(first.model_id)
    filled = "filled" if first.description.told or first.changes else "init"
    prices = first.changes.get("pricing") or first.description.pricing
    return admin_models_pb2.AdminCatalog(
        **_catalog_members(catalog, offers),
        enabled=catalog.is_on(first.model_id),
        status="updated" if said is not None and said.changes else filled,
        models=[first.model_id],
        total_requests=totals.requests,
        total_tokens=totals.prompt_tokens + totals.completion_tokens,
        total_cost=totals.prompt_tokens * prices.get("prompt", 0.0)
        + totals.completion_tokens * prices.get("completion", 0.0),
    )


def provider(catalog: Catalog, entry: Entry) -> admin_providers_pb2.Provider:
    """A provider as administrators see it."""
    made = catalog.registry.providers.get(entry.id)
    offers = [offer for offer in catalog.offers() if offer.entry.id == entry.id]
    seen = min((offer.created for offer in offers if offer.created), default=0)
    row = admin_providers_pb2.Provider(
        id=entry.id,
        object="provider",
        name=entry.name,
        vendor=entry.type,
        base_url=entry.addresses[0].url if entry.addresses else "",
        endpoints=[
            admin_providers_pb2.ProviderEndpoint(url=each.url, weight=each.weight, priority=each.priority)
            for each in entry.addresses
        ],
        active=entry.active,
        key_hint=made.key_hint if made else ("…" if entry.api_key else None),
        model_count=len(offers),
        active_model_count=sum(offer.callable and catalog.is_on(offer.model_id) for offer in offers),
        last_synced_at=catalog.read_at(entry),
        created_at=made.created_at if made else seen,
        updated_at=made.updated_at if made else seen,
    )
    row.metadata.update(entry.metadata)
    return row


def by_model(offers: Iterable[Offer]) -> dict[str, list[Offer]]:
    """Offers of each model, by model id; the one that is asked first in front, those that are gone at the end."""
    found: dict[str, list[Offer]] = {}
    for offer in offers:
        found.setdefault(offer.model_id, []).append(offer)
    return {model_id: sorted(found[model_id], key=_rank) for model_id in sorted(found)}


def _rank(offer: Offer) -> tuple[bool, bool, int]:
    return not offer.callable, not offer.available, min((each.priority for each in offer.addresses), default=0)


def _defaults(changes: Any) -> Json:
    temperature = changes.get("default_temperature")
    return {} if temperature is None else {"temperature": temperature}


def _catalog_members(catalog: Catalog, offers: Sequence[Offer]) -> Json:
    first = offers[0]
    said = catalog.registry.catalogs.get(first.model_id)
    members = described(first) | {"object": "model.catalog"}
    created = min((offer.created for offer in offers if offer.created), default=0)
    if said is not None:
        members |= {"context_window": None, **said.changes} if said.changes else {}
    return members | {
        "id": first.model_id,
        "public_id": public_id(first),
        "provider": first.entry.type,
        "available": any(offer.callable for offer in offers),
        "created_at": created,
        "updated_at": max(said.updated_at if said else 0, created),
    }
