"""The wiring of this room: providers -> catalog -> engines -> servicers."""

from __future__ import annotations

import asyncio

from jan.llm.v1 import chat_pb2_grpc, models_pb2_grpc

from services.llm.catalog import Catalog
from services.llm.chat import ChatServicer
from services.llm.completion import Engine
from services.llm.embedding import EmbeddingEngine
from services.llm.models import ModelServicer
from services.llm.providers.http1 import Client
from services.runtime.foundation import Foundation
from services.runtime.pacing import Pacer
from services.runtime.server import Mounted


async def furnish(foundation: Foundation) -> list[Mounted]:
    """The services of this room, ready to be mounted."""
    pacer, metrics, stack = Pacer(), foundation.metrics, foundation.stack
    client = Client(pacer)
    stack.push_async_callback(client.close)
    catalog = Catalog(foundation.settings, client)
    stack.push_async_callback(catalog.close)
    await catalog.start()
    refresh = asyncio.create_task(catalog.refresh_for_ever())
    stack.callback(refresh.cancel)
    chat = ChatServicer(Engine(catalog, pacer, metrics), EmbeddingEngine(catalog, metrics))
    return [
        Mounted("jan.llm.v1.ChatService", chat_pb2_grpc.add_ChatServiceServicer_to_server, chat),
        Mounted("jan.llm.v1.ModelService", models_pb2_grpc.add_ModelServiceServicer_to_server, ModelServicer(catalog)),
    ]
