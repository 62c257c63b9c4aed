"""AdminProviderService: the providers of the configuration, and those that administrators make.

An address may be on a private network or on this machine, because that is where engines live; only administrators, who
could as well write it into the configuration, can name one. The server sends it requests of models and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import json_format
from jan.common.v1 import meta_pb2
from jan.llm.v1 import admin_providers_pb2, admin_providers_pb2_grpc

from services.llm.models.audit import Change
from services.llm.models.catalog import Catalog
from services.llm.models.catalog_sync import CatalogSync
from services.llm.models.model_rows import page_of_rows, provider
from services.llm.models.offers import Offer
from services.llm.models.provider_store import ProviderStore, Wanted, missing, taken
from services.llm.providers.entries import BASE_URLS, Address, Entry, is_address
from services.runtime import call
from services.runtime.errors import Conflict, InvalidRequest, Unavailable
from services.runtime.pages import page_of

Context = grpc.aio.ServicerContext[Any, Any]
CREATED, NO_CONTENT = (("x-http-status", "201"),), (("x-http-status", "204"),)
USUAL_VENDOR = "custom"


class AdminProviderServicer(admin_providers_pb2_grpc.AdminProviderServiceServicer):
    """Rows are read from the catalog of this process and changed in the store; `sync` takes over what changed."""

    def __init__(self, catalog: Catalog, store: ProviderStore, sync: CatalogSync) -> None:
        self._catalog = catalog
        self._store = store
        self._sync = sync

    async def ListProviders(
        self, request: admin_providers_pb2.AdminProviderServiceListProvidersRequest, context: Context
    ) -> admin_providers_pb2.AdminProviderServiceListProvidersResponse:
        entries = self._catalog.providers()
        page, envelope = page_of_rows(entries, page_of(request, order="asc"), lambda entry: entry.id)
        rows = [provider(self._catalog, entry) for entry in page]
        return admin_providers_pb2.AdminProviderServiceListProvidersResponse(data=rows, **envelope)

    async def CreateProvider(
        self, request: admin_providers_pb2.CreateProviderRequest, context: Context
    ) -> admin_providers_pb2.CreateProviderResponse:
        wanted = self._wanted_new(request)
        provider_id = await self._store.create(wanted, _change(request.reason))
        await self._sync.reload()
        row = provider(self._catalog, self._entry(provider_id))
        await context.send_initial_metadata(CREATED)
        return admin_providers_pb2.CreateProviderResponse(data=row, meta=_meta())

    async def GetProvider(
        self, request: admin_providers_pb2.GetProviderRequest, context: Context
    ) -> admin_providers_pb2.GetProviderResponse:
        row = provider(self._catalog, self._entry(request.id))
        return admin_providers_pb2.GetProviderResponse(data=row, meta=_meta())

    async def UpdateProvider(
        self, request: admin_providers_pb2.UpdateProviderRequest, context: Context
    ) -> admin_providers_pb2.UpdateProviderResponse:
        entry = self._made(request.id)
        await self._store.update(entry.id, self._wanted(request, entry), _change(request.reason))
        await self._sync.reload()
        row = provider(self._catalog, self._entry(entry.id))
        return admin_providers_pb2.UpdateProviderResponse(data=row, meta=_meta())

    async def DeleteProvider(
        self, request: admin_providers_pb2.DeleteProviderRequest, context: Context
    ) -> admin_providers_pb2.DeleteProviderResponse:
        await self._store.delete(self._made(request.id).id, _change(""))
        await self._sync.reload()
        await context.send_initial_metadata(NO_CONTENT)
        return admin_providers_pb2.DeleteProviderResponse()

    async def SyncProvider(
        self, request: admin_providers_pb2.SyncProviderRequest, context: Context
    ) -> admin_providers_pb2.SyncProviderResponse:
        entry = self._entry(request.id)
        before = self._models_of(entry)
        if not await self._sync.read(entry.id):
            raise Unavailable(f"Provider '{entry.name}' cannot be asked for its models right now")
        await self._store.synced(entry.id, _change(""))
        data = _difference(before, self._models_of(entry))
        return admin_providers_pb2.SyncProviderResponse(data=data, meta=_meta())

    def _models_of(self, entry: Entry) -> dict[str, Offer]:
        return {offer.id: offer for offer in self._catalog.offers() if offer.entry.id == entry.id}

    def _entry(self, provider_id: str) -> Entry:
        """Raises `NotFound`."""
        for entry in self._catalog.providers():
            if entry.id == provider_id:
                return entry
        raise missing()

    def _made(self, provider_id: str) -> Entry:
        """One that an administrator has made. Raises `NotFound`, `Conflict` for one of the configuration."""
        entry = self._entry(provider_id)
        if not entry.made_id:
            raise Conflict(f"Provider '{entry.name}' is part of the configuration, and is changed there")
        return entry

    def _wanted_new(self, request: admin_providers_pb2.CreateProviderRequest) -> Wanted:
        vendor = _vendor(request.vendor or USUAL_VENDOR)
        addresses = _addresses(request.base_url, request.endpoints)
        if not addresses and BASE_URLS[vendor]:
            addresses = [Address(BASE_URLS[vendor])]
        if not addresses:
            raise InvalidRequest(f"A provider of the kind '{vendor}' needs a 'base_url'", param="base_url")
        return Wanted(
            name=self._name(request.name, ""),
            vendor=vendor,
            addresses=addresses,
            api_key=request.api_key,
            active=request.active if request.HasField("active") else True,
            metadata=json_format.MessageToDict(request.metadata),
        )

    def _wanted(self, request: admin_providers_pb2.UpdateProviderRequest, entry: Entry) -> Wanted:
        return Wanted(
            name=self._name(request.name, entry.id) if request.HasField("name") else None,
            vendor=_vendor(request.vendor) if request.HasField("vendor") else None,
            addresses=_addresses(request.base_url, request.endpoints) or None,
            api_key=request.api_key if request.HasField("api_key") else None,
            active=request.active if request.HasField("active") else None,
            metadata=json_format.MessageToDict(request.metadata) if request.HasField("metadata") else None,
        )

    def _name(self, given: str, provider_id: str) -> str:
        """Raises `Conflict` for the name of another one, those of the configuration included."""
        name = given.strip()
        if not name:
            raise InvalidRequest("Parameter 'name' must not be empty", param="name")
        if any(entry.name == name and entry.id != provider_id for entry in self._catalog.providers()):
            raise taken()
        return name


def _vendor(given: str) -> str:
    if given not in BASE_URLS:
        raise InvalidRequest(f"Parameter 'vendor' must be one of {', '.join(sorted(BASE_URLS))}", param="vendor")
    return given


def _addresses(base_url: str, endpoints: Iterable[Any]) -> list[Address]:
    """The places that a request names. Raises `InvalidRequest`."""
    given = [
        (f"endpoints[{index}].url", Address(each.url, each.weight or 1, each.priority))
        for index, each in enumerate(endpoints)
    ]
    if base_url and given:
        raise InvalidRequest("Parameters 'base_url' and 'endpoints' exclude each other", param="base_url")
    given = given or ([("base_url", Address(base_url))] if base_url else [])
    for name, address in given:
        if not (address.url.isascii() and address.url.isprintable() and is_address(address.url)):
            raise InvalidRequest(
                f"Parameter '{name}' must be an address such as https://host/v1, without a password", param=name
            )
    return [address for _, address in given]


def _difference(before: dict[str, Offer], after: dict[str, Offer]) -> admin_providers_pb2.Synced:
    both = [(before[key], after[key]) for key in before.keys() & after.keys()]
    return admin_providers_pb2.Synced(
        added=len(after.keys() - before.keys()),
        updated=sum(new.available and (not old.available or old.description != new.description) for old, new in both),
        unavailable=sum(old.available and not new.available for old, new in both),
    )


def _change(reason: str) -> Change:
    return Change(call.caller().user_id, reason, call.current().request_id)


def _meta() -> meta_pb2.Meta:
    return meta_pb2.Meta(request_id=call.current().request_id)
