"""Conversations of tests: who has them, what is asked of their service, and how it is refused."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, struct_pb2
from grpc import StatusCode
from jan.llm.v1 import conversations_pb2, conversations_pb2_grpc, items_pb2

from services.runtime.db import Database
from tests.grpc.keys import Account
from tests.grpc.rig import SECONDS, Rig, details

MISSING = (StatusCode.NOT_FOUND, "NOT_FOUND", "")
WRONG = (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER")
NO_CURSOR = (StatusCode.INVALID_ARGUMENT, "INVALID_CURSOR", "after")
NO_IDS = [
    "conv_01k9x4zz01k9x4zz01k9x4zz01",
    "msg_01k9x4zz01k9x4zz01k9x4zz01",
    "nonsense",
    "conv_\0",
    "' OR 1=1",
    "x" * 9999,
]


class Person:
    """An account with the service at hand: `await ada.create(title="a")`, `await ada.add(id, "hello")`."""

    def __init__(self, rig: Rig, account: Account) -> None:
        self.user_id = account.user_id
        self.metadata = account.signed_in
        self._stub: Any = conversations_pb2_grpc.ConversationServiceStub(rig.channel)

    def ask(self, method: str, **fields: Any) -> Any:
        """The call of a method."""
        module: Any = conversations_pb2 if hasattr(conversations_pb2, f"{method}Request") else items_pb2
        request = getattr(module, f"{method}Request")(**fields)
        return getattr(self._stub, method)(request, metadata=self.metadata, timeout=SECONDS)

    async def create(self, **fields: Any) -> Any:
        """A new conversation."""
        return (await self.ask("CreateConversation", **fields)).data

    async def list(self, **fields: Any) -> Any:
        """A page of conversations."""
        return await self.ask("ListConversations", **fields)

    async def get(self, conversation_id: str) -> Any:
        """A conversation with its newest items."""
        return (await self.ask("GetConversation", id=conversation_id)).data

    async def update(self, conversation_id: str, **fields: Any) -> Any:
        """A conversation as it is after the change."""
        return (await self.ask("UpdateConversation", id=conversation_id, **fields)).data

    async def add(self, conversation_id: str, content: Any, **fields: Any) -> Any:
        """A new item."""
        item = items_pb2.NewItem(**{"role": "user", "content": value(content), **fields})
        return (await self.ask("CreateItem", conversation_id=conversation_id, item=item)).data

    async def items(self, conversation_id: str, **fields: Any) -> Any:
        """A page of items."""
        return await self.ask("ListItems", conversation_id=conversation_id, **fields)


async def refused(call: Any) -> tuple[StatusCode, str, str]:
    """Code, reason and parameter of the refusal."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    info: Any = details(error.value)["ErrorInfo"]
    return error.value.code(), info.reason, info.metadata.get("param", "")


def plain(message: Any) -> Any:
    """A message as JSON, with nothing but what is set."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def value(content: Any) -> struct_pb2.Value:
    """JSON as a field takes it."""
    return json_format.ParseDict(content, struct_pb2.Value())


def struct(members: dict[str, Any]) -> struct_pb2.Struct:
    """A JSON object as a field takes it."""
    return json_format.ParseDict(members, struct_pb2.Struct())


async def project(database: Database, user_id: str, project_id: str = "proj_01k9x4zz01k9x4zz01k9x4zz01") -> str:
    """A project of that user."""
    await database.execute("INSERT INTO projects (id, user_id, name) VALUES ($1, $2, 'p')", project_id, user_id)
    return project_id


class Explaining:
    """A database for a store; `nodes` are those of the plans by which its rows were found."""

    def __init__(self, database: Database) -> None:
        self.nodes: list[dict[str, Any]] = []
        self._database = database

    async def fetch(self, sql: str, *args: object) -> Any:
        """The rows."""
        text = await self._database.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *args)
        self.nodes += _nodes(json.loads(text)[0]["Plan"])
        return await self._database.fetch(sql, *args)


def _nodes(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(each for inner in node.get("Plans", []) for each in _nodes(inner))]
