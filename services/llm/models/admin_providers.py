"""AdminProviderService: the providers of the configuration, and those that administrators make."""

from __future__ import annotations

from typing import Any

import grpc
from jan.llm.v1 import admin_providers_pb2, admin_providers_pb2_grpc

from services.llm.models.catalog import Catalog
from services.llm.models.catalog_sync import CatalogSync
from services.llm.models.model_rows import provider
from services.llm.models.offers import Offer
from services.llm.models.provider_changes import new_provider, provider_changes
from services.llm.models.provider_store import ProviderStore, missing, taken
from services.llm.providers.entries import Entry
from services.runtime import call
from services.runtime.audit import change_of
from services.runtime.errors import Conflict, Unavailable
from services.runtime.pages import page_in_memory, page_of

Context = grpc.aio.ServicerContext[Any, Any]
CREATED, NO_CONTENT = (("x-http-status", "201"),), (("x-http-status", "204"),)


class AdminProviderServicer(admin_providers_pb2_grpc.AdminProviderServiceServicer):
    """Every method begins with the catalog as it is now, whichever process changed it; what it changes, it changes in
    the store."""

    def __init__(self, store: ProviderStore, sync: CatalogSync) -> None:
        self._store = store
        self._sync = sync

    async def ListProviders(
        self, request: admin_providers_pb2.AdminProviderServiceListProvidersRequest, context: Context
    ) -> admin_providers_pb2.AdminProviderServiceListProvidersResponse:
        catalog = await self._sync.current()
        page, envelope = page_in_memory(catalog.providers(), page_of(request, order="asc"), lambda entry: entry.id)
        rows = [provider(catalog, entry) for entry in page]
        return admin_providers_pb2.AdminProviderServiceListProvidersResponse(data=rows, **envelope)

    async def CreateProvider(
        self, request: admin_providers_pb2.CreateProviderRequest, context: Context
    ) -> admin_providers_pb2.CreateProviderResponse:
        wanted = new_provider(request)
        _check_name(await self._sync.current(), wanted.name)
        provider_id = await self._store.create(wanted, change_of(request.reason))
        row = await self._row(provider_id)
        await context.send_initial_metadata(CREATED)
        return admin_providers_pb2.CreateProviderResponse(data=row, meta=call.meta())

    async def GetProvider(
        self, request: admin_providers_pb2.GetProviderRequest, context: Context
    ) -> admin_providers_pb2.GetProviderResponse:
        return admin_providers_pb2.GetProviderResponse(data=await self._row(request.id), meta=call.meta())

    async def UpdateProvider(
        self, request: admin_providers_pb2.UpdateProviderRequest, context: Context
    ) -> admin_providers_pb2.UpdateProviderResponse:
        catalog, wanted = await self._sync.current(), provider_changes(request)
        entry = _made(catalog, request.id)
        _check_name(catalog, wanted.name, entry.id)
        await self._store.update(entry.id, wanted, change_of(request.reason))
        return admin_providers_pb2.UpdateProviderResponse(data=await self._row(entry.id), meta=call.meta())

    async def DeleteProvider(
        self, request: admin_providers_pb2.DeleteProviderRequest, context: Context
    ) -> admin_providers_pb2.DeleteProviderResponse:
        entry = _made(await self._sync.current(), request.id)
        await self._store.delete(entry.id, change_of(request.reason))
        await self._sync.current()
        await context.send_initial_metadata(NO_CONTENT)
        return admin_providers_pb2.DeleteProviderResponse()

    async def SyncProvider(
        self, request: admin_providers_pb2.SyncProviderRequest, context: Context
    ) -> admin_providers_pb2.SyncProviderResponse:
        catalog = await self._sync.current()
        entry = _entry(catalog, request.id)
        if all(each.id != entry.id for each, _ in catalog.lists()):
            raise Conflict(f"Provider '{entry.name}' is not asked for its models: it is inactive, or configured so")
        before = _models_of(catalog, entry)
        if not await self._sync.read(entry.id):
            raise Unavailable(f"Provider '{entry.name}' cannot be asked for its models right now")
        await self._store.synced(entry.id, change_of(request.reason), read_by=self._sync.process)
        data = _difference(before, _models_of(catalog, entry))
        return admin_providers_pb2.SyncProviderResponse(data=data, meta=call.meta())

    async def _row(self, provider_id: str) -> admin_providers_pb2.Provider:
        catalog = await self._sync.current()
        return provider(catalog, _entry(catalog, provider_id))


def _models_of(catalog: Catalog, entry: Entry) -> dict[str, Offer]:
    return {offer.id: offer for offer in catalog.offers() if offer.entry.id == entry.id}


def _entry(catalog: Catalog, provider_id: str) -> Entry:
    """Raises `NotFound`."""
    for entry in catalog.providers():
        if entry.id == provider_id:
            return entry
    raise missing()


def _made(catalog: Catalog, provider_id: str) -> Entry:
    """One that an administrator has made. Raises `NotFound`, `Conflict` for one of the configuration."""
    entry = _entry(catalog, provider_id)
    if not entry.made_id:
        raise Conflict(f"Provider '{entry.name}' is part of the configuration, and is changed there")
    return entry


def _check_name(catalog: Catalog, name: str | None, provider_id: str = "") -> None:
    """Raises `Conflict` for the name of another one, those of the configuration included."""
    if any(entry.name == name and entry.id != provider_id for entry in catalog.providers()):
        raise taken()


def _difference(before: dict[str, Offer], after: dict[str, Offer]) -> admin_providers_pb2.Synced:
    both = [(before[key], after[key]) for key in before.keys() & after.keys()]
    return admin_providers_pb2.Synced(
        added=len(after.keys() - before.keys()),
        updated=sum(new.available and (not old.available or old.description != new.description) for old, new in both),
        unavailable=sum(old.available and not new.available for old, new in both),
    )
