"""ModelService: the models one can call, and what is known about them."""

from __future__ import annotations

from typing import Any

import grpc
from jan.llm.v1 import models_pb2, models_pb2_grpc

from services.llm.models.catalog import Catalog, Model
from services.llm.models.model_rows import by_model, can, catalog_row, public_id
from services.llm.models.offers import Offer
from services.llm.providers.entries import Entry
from services.runtime import call
from services.runtime.errors import NotFound
from services.runtime.pages import page_in_memory, page_of

Context = grpc.aio.ServicerContext[Any, Any]
PROVIDER_DATA = ("x-provider-data", "true")


class ModelServicer(models_pb2_grpc.ModelServiceServicer):
    """Reads the catalog of this process."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def ListModels(
        self, request: models_pb2.ListModelsRequest, context: Context
    ) -> models_pb2.ListModelsResponse:
        provider = PROVIDER_DATA in (context.invocation_metadata() or ())
        data = [_model(each, provider=provider) for each in self._catalog.models()]
        return models_pb2.ListModelsResponse(object="list", data=data)

    async def GetModel(self, request: models_pb2.GetModelRequest, context: Context) -> models_pb2.Model:
        provider = PROVIDER_DATA in (context.invocation_metadata() or ())
        return _model(self._catalog.get(request.id), provider=provider)

    async def ListCatalogs(
        self, request: models_pb2.ListCatalogsRequest, context: Context
    ) -> models_pb2.ListCatalogsResponse:
        rows = [catalog_row(self._catalog, offers) for offers in self._shown().values()]
        rows = [row for row in rows if can(row.capabilities, request.capability)]
        page, envelope = page_in_memory(rows, page_of(request, order="asc"), lambda row: row.id)
        return models_pb2.ListCatalogsResponse(data=page, **envelope)

    async def GetCatalog(
        self, request: models_pb2.GetCatalogRequest, context: Context
    ) -> models_pb2.GetCatalogResponse:
        meta = call.meta()
        for model_id, offers in self._shown().items():
            if request.id in (model_id, *map(public_id, offers)):
                return models_pb2.GetCatalogResponse(data=catalog_row(self._catalog, offers), meta=meta)
        raise NotFound("There is no such model", code="model_not_found")

    async def ListProviders(
        self, request: models_pb2.ListProvidersRequest, context: Context
    ) -> models_pb2.ListProvidersResponse:
        providers = self._catalog.providers()
        page, envelope = page_in_memory(providers, page_of(request, order="asc"), lambda entry: entry.id)
        return models_pb2.ListProvidersResponse(data=map(_provider, page), **envelope)

    def _shown(self) -> dict[str, list[Offer]]:
        """Models with those who offer them, without what administrators have switched off."""
        on = [each for each in self._catalog.offers() if each.enabled and each.entry.active]
        return by_model(offer for offer in on if self._catalog.is_on(offer.model_id))


def _model(model: Model, *, provider: bool) -> models_pb2.Model:
    first = model.offers[0].entry
    return models_pb2.Model(
        id=model.id,
        object="model",
        created=model.created,
        owned_by=model.owned_by,
        provider_name=first.name if provider else None,
        provider_vendor=first.type if provider else None,
    )


def _provider(entry: Entry) -> models_pb2.ModelProvider:
    return models_pb2.ModelProvider(id=entry.id, name=entry.name, vendor=entry.type, active=entry.active)
