"""ModelService: the models one can call."""

from __future__ import annotations

from typing import Any

import grpc
from jan.llm.v1 import models_pb2, models_pb2_grpc

from services.llm.catalog import Catalog, Model

Context = grpc.aio.ServicerContext[Any, Any]


class ModelServicer(models_pb2_grpc.ModelServiceServicer):
    """Reads the catalog of this process."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def ListModels(
        self, request: models_pb2.ListModelsRequest, context: Context
    ) -> models_pb2.ListModelsResponse:
        return models_pb2.ListModelsResponse(object="list", data=[_model(each) for each in self._catalog.models()])

    async def GetModel(self, request: models_pb2.GetModelRequest, context: Context) -> models_pb2.Model:
        return _model(self._catalog.get(request.id))


def _model(model: Model) -> models_pb2.Model:
    return models_pb2.Model(id=model.id, object="model", created=model.created, owned_by=model.owned_by)
