"""ChatService: generation and embeddings, typed for gRPC clients and as OpenAI's bytes for REST."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypedDict

import grpc
from google.api.httpbody_pb2 import HttpBody
from jan.llm.v1 import chat_pb2, chat_pb2_grpc, completions_pb2, embeddings_pb2

from services.llm.conversations.turns import Turns
from services.llm.generation import wire
from services.llm.generation.answer import Chunk
from services.llm.generation.completion import Engine
from services.llm.generation.embedding import EmbeddingEngine
from services.runtime import call
from services.runtime.httpbody import json_body, parse_object, write_events

Context = grpc.aio.ServicerContext[Any, Any]


class ChatServicer(chat_pb2_grpc.ChatServiceServicer):
    """Every method runs the same engines; only the way in and out differs."""

    def __init__(self, turns: Turns, engine: Engine, embeddings: EmbeddingEngine) -> None:
        self._turns = turns
        self._engine = engine
        self._embeddings = embeddings

    async def CreateChatCompletion(
        self, request: chat_pb2.CreateChatCompletionRequest, context: Context
    ) -> chat_pb2.ChatCompletion:
        return wire.chat_completion(await self._turns.chat(wire.chat_body(request), **_asking()))

    async def StreamChatCompletion(
        self, request: chat_pb2.CreateChatCompletionRequest, context: Context
    ) -> AsyncGenerator[chat_pb2.ChatCompletionChunk, None]:
        stream = self._turns.stream_chat(wire.chat_body(request), **_asking())
        async with aclosing(stream):
            async for batch in stream:
                for chunk in batch:
                    yield wire.chat_chunk(chunk.data)

    async def CreateChatCompletionHttp(self, request: HttpBody, context: Context) -> HttpBody:
        body = parse_object(request)
        if body.get("stream") is True:
            return await write_events(context, _payloads(self._turns.stream_chat(body, **_asking())))
        return json_body(await self._turns.chat(body, **_asking()))

    async def CreateCompletion(
        self, request: completions_pb2.CreateCompletionRequest, context: Context
    ) -> completions_pb2.Completion:
        answer = await self._engine.text(wire.completion_body(request), deadline=call.current().deadline)
        return wire.completion(answer)

    async def StreamCompletion(
        self, request: completions_pb2.CreateCompletionRequest, context: Context
    ) -> AsyncGenerator[completions_pb2.Completion, None]:
        stream = self._engine.stream_text(wire.completion_body(request), deadline=call.current().deadline)
        async with aclosing(stream):
            async for batch in stream:
                for chunk in batch:
                    yield wire.completion(chunk.data)

    async def CreateCompletionHttp(self, request: HttpBody, context: Context) -> HttpBody:
        body, deadline = parse_object(request), call.current().deadline
        if body.get("stream") is True:
            return await write_events(context, _payloads(self._engine.stream_text(body, deadline=deadline)))
        return json_body(await self._engine.text(body, deadline=deadline))

    async def CreateEmbeddings(
        self, request: embeddings_pb2.CreateEmbeddingsRequest, context: Context
    ) -> embeddings_pb2.CreateEmbeddingsResponse:
        answer = await self._embeddings.embed(wire.embeddings_body(request), deadline=call.current().deadline)
        return wire.embeddings(answer)

    async def CreateEmbeddingsHttp(self, request: HttpBody, context: Context) -> HttpBody:
        body = parse_object(request)
        return json_body(await self._embeddings.embed(body, deadline=call.current().deadline))


class _Asking(TypedDict):
    user_id: str
    deadline: float


def _asking() -> _Asking:
    """Who asks, and until when."""
    return {"user_id": call.caller().user_id, "deadline": call.current().deadline}


async def _payloads(stream: AsyncGenerator[list[Chunk], None]) -> AsyncGenerator[list[bytes], None]:
    async with aclosing(stream):
        async for batch in stream:
            yield [chunk.raw for chunk in batch]
