"""AdminModelService: which models can be called, how, and what is said about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from jan.llm.v1 import admin_models_pb2, admin_models_pb2_grpc

from services.llm.models.catalog import Catalog
from services.llm.models.catalog_store import CatalogStore, Totals
from services.llm.models.catalog_sync import CatalogSync
from services.llm.models.model_changes import catalog_changes, model_changes
from services.llm.models.model_rows import (
    admin_catalog,
    by_model,
    can,
    described,
    provider_model,
    public_id,
)
from services.llm.models.offers import Offer
from services.runtime import call
from services.runtime.audit import change_of
from services.runtime.errors import NotFound
from services.runtime.pages import page_in_memory, page_of

Context = grpc.aio.ServicerContext[Any, Any]
Catalogs = dict[str, list[Offer]]


class AdminModelServicer(admin_models_pb2_grpc.AdminModelServiceServicer):
    """Every method begins with the catalog as it is now, whichever process changed it; what it changes, it changes in
    the store."""

    def __init__(self, store: CatalogStore, sync: CatalogSync) -> None:
        self._store = store
        self._sync = sync

    async def ListProviderModels(
        self, request: admin_models_pb2.ListProviderModelsRequest, context: Context
    ) -> admin_models_pb2.ListProviderModelsResponse:
        catalog = await self._sync.current()
        offers = sorted(catalog.offers(), key=lambda offer: offer.id)
        rows = [row for row in map(provider_model, offers) if _wants_model(request, row)]
        page, envelope = page_in_memory(rows, page_of(request, order="asc"), lambda row: row.id)
        return admin_models_pb2.ListProviderModelsResponse(data=page, **envelope)

    async def GetProviderModel(
        self, request: admin_models_pb2.GetProviderModelRequest, context: Context
    ) -> admin_models_pb2.GetProviderModelResponse:
        row = provider_model(_offer(await self._sync.current(), request.id))
        return admin_models_pb2.GetProviderModelResponse(data=row, meta=call.meta())

    async def UpdateProviderModel(
        self, request: admin_models_pb2.UpdateProviderModelRequest, context: Context
    ) -> admin_models_pb2.UpdateProviderModelResponse:
        offer = _offer(await self._sync.current(), request.id)
        enabled = request.enabled if request.HasField("enabled") else None
        change = change_of(request.reason)
        await self._store.change_model(offer, model_changes(request), enabled=enabled, change=change)
        row = provider_model(_offer(await self._sync.current(), offer.id))
        return admin_models_pb2.UpdateProviderModelResponse(data=row, meta=call.meta())

    async def BulkToggleProviderModels(
        self, request: admin_models_pb2.BulkToggleProviderModelsRequest, context: Context
    ) -> admin_models_pb2.BulkToggleProviderModelsResponse:
        named, given = _by_name(await self._sync.current()), dict.fromkeys(request.model_ids)
        offers = {offer.id: offer for name in given for offer in named.get(name, ())}
        changed = await self._store.toggle_models(
            list(offers.values()), enabled=request.enabled, change=change_of(request.reason)
        )
        await self._sync.current()
        data = _toggled(len(offers), changed, [name for name in given if name not in named])
        return admin_models_pb2.BulkToggleProviderModelsResponse(data=data, meta=call.meta())

    async def ListAdminCatalogs(
        self, request: admin_models_pb2.ListAdminCatalogsRequest, context: Context
    ) -> admin_models_pb2.ListAdminCatalogsResponse:
        catalog = await self._sync.current()
        catalogs = by_model(catalog.offers())
        rows = [admin_catalog(catalog, offers, Totals()) for offers in catalogs.values()]
        wanted = [row for row in rows if _wants_catalog(request, row)]
        page, envelope = page_in_memory(wanted, page_of(request, order="asc"), lambda row: row.id)
        data = await self._with_totals(catalog, {row.id: catalogs[row.id] for row in page})
        return admin_models_pb2.ListAdminCatalogsResponse(data=data, **envelope)

    async def GetAdminCatalog(
        self, request: admin_models_pb2.GetAdminCatalogRequest, context: Context
    ) -> admin_models_pb2.GetAdminCatalogResponse:
        row = await self._catalog_row(await self._sync.current(), request.id)
        return admin_models_pb2.GetAdminCatalogResponse(data=row, meta=call.meta())

    async def UpdateAdminCatalog(
        self, request: admin_models_pb2.UpdateAdminCatalogRequest, context: Context
    ) -> admin_models_pb2.UpdateAdminCatalogResponse:
        offers = _catalog_offers(await self._sync.current(), request.id)
        model_id, enabled = offers[0].model_id, request.enabled if request.HasField("enabled") else None
        changes, change = catalog_changes(request, model_id), change_of(request.reason)
        await self._store.change_catalog(model_id, described(offers[0]), changes, enabled=enabled, change=change)
        row = await self._catalog_row(await self._sync.current(), model_id)
        return admin_models_pb2.UpdateAdminCatalogResponse(data=row, meta=call.meta())

    async def BulkToggleCatalogs(
        self, request: admin_models_pb2.BulkToggleCatalogsRequest, context: Context
    ) -> admin_models_pb2.BulkToggleCatalogsResponse:
        names = _names(by_model((await self._sync.current()).offers()))
        given = dict.fromkeys(request.catalog_ids)
        model_ids = {names[name] for name in given if name in names}
        changed = await self._store.toggle_catalogs(
            sorted(model_ids), enabled=request.enabled, change=change_of(request.reason)
        )
        await self._sync.current()
        data = _toggled(len(model_ids), changed, [name for name in given if name not in names])
        return admin_models_pb2.BulkToggleCatalogsResponse(data=data, meta=call.meta())

    async def _catalog_row(self, catalog: Catalog, name: str) -> admin_models_pb2.AdminCatalog:
        offers = _catalog_offers(catalog, name)
        return (await self._with_totals(catalog, {offers[0].model_id: offers}))[0]

    async def _with_totals(self, catalog: Catalog, catalogs: Catalogs) -> list[admin_models_pb2.AdminCatalog]:
        totals = await self._store.totals(list(catalogs))
        return [admin_catalog(catalog, offers, totals.get(name, Totals())) for name, offers in catalogs.items()]


def _by_name(catalog: Catalog) -> Catalogs:
    """The row of each row id, and the rows of each model, the one that is asked first in front."""
    offers = catalog.offers()
    return by_model(offers) | {offer.id: [offer] for offer in offers}


def _offer(catalog: Catalog, name: str) -> Offer:
    """The first of them. Raises `NotFound`."""
    if found := _by_name(catalog).get(name):
        return found[0]
    raise NotFound("There is no such model")


def _catalog_offers(catalog: Catalog, name: str) -> list[Offer]:
    """Who offers the model with that catalog row. Raises `NotFound`."""
    catalogs = by_model(catalog.offers())
    model_id = _names(catalogs).get(name)
    if model_id is None:
        raise NotFound("There is no such catalog row")
    return catalogs[model_id]


def _names(catalogs: Catalogs) -> dict[str, str]:
    """Model ids by all that their catalog rows may be called, what is exact before what is written with `-`."""
    exact = {name: model_id for model_id, offers in catalogs.items() for name in map(public_id, offers)}
    exact |= {model_id: model_id for model_id in catalogs}
    return {name.replace("/", "-"): model_id for name, model_id in exact.items()} | exact


def _wants_model(request: admin_models_pb2.ListProviderModelsRequest, row: admin_models_pb2.ProviderModel) -> bool:
    return (
        request.provider in ("", row.provider)
        and request.provider_id in ("", row.provider_id)
        and request.family in ("", row.family)
        and (not request.HasField("enabled") or request.enabled == row.enabled)
        and can(row.capabilities, request.capability)
        and _says(request.search, row.model_id, row.name)
    )


def _wants_catalog(request: admin_models_pb2.ListAdminCatalogsRequest, row: admin_models_pb2.AdminCatalog) -> bool:
    return (
        request.provider in ("", row.provider)
        and request.status in ("", row.status)
        and request.family in ("", row.family)
        and (not request.HasField("enabled") or request.enabled == row.enabled)
        and can(row.capabilities, request.capability)
        and _says(request.search, row.id, row.name)
    )


def _says(search: str, *texts: str) -> bool:
    return any(search.casefold() in text.casefold() for text in texts)


def _toggled(count: int, changed: int, not_found: Sequence[str]) -> admin_models_pb2.Toggled:
    return admin_models_pb2.Toggled(count=count, changed_count=changed, not_found=not_found)
