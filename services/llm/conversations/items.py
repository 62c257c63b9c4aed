"""The half of ConversationService that is about items: what is said, stored, shown, changed and generated anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import grpc
import orjson
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import json_format
from google.protobuf.message import Message
from jan.llm.v1 import items_pb2

from services.llm.conversations import content
from services.llm.conversations.item_store import Draft, ItemChange, ItemStore
from services.llm.conversations.regenerate import Regenerator
from services.llm.conversations.turn_store import Run
from services.llm.generation import wire
from services.runtime import call
from services.runtime.db import Row
from services.runtime.httpbody import json_body, parse_object
from services.runtime.pages import Listing, page_of
from services.runtime.typed_json import fill
from services.runtime.validation import validate

M = TypeVar("M", bound=Message)
Context = grpc.aio.ServicerContext[Any, Any]
NO_CONTENT = (("x-http-status", "204"),)
_PLAIN = (
    *("id", "type", "role", "content_type", "status", "model", "finish_reason", "tool_call_id", "name", "arguments"),
    *("call_id", "reasoning_content", "latency_ms"),
)
_JSON = ("content", "metadata", "usage", "tool_calls", "output")


class ItemMethods:
    """Typed methods and the REST face store by the same rules."""

    def __init__(self, items: ItemStore, regenerator: Regenerator) -> None:
        self._items = items
        self._regenerator = regenerator

    async def ListItems(self, request: items_pb2.ListItemsRequest, context: Context) -> items_pb2.ListItemsResponse:
        page = page_of(request, order="asc")
        return _list(await self._items.page(call.caller().user_id, request.conversation_id, page))

    async def CreateItem(self, request: items_pb2.CreateItemRequest, context: Context) -> items_pb2.CreateItemResponse:
        draft = content.draft(request.item, "item.")
        return await self._create(request.conversation_id, draft)

    async def CreateItems(self, request: items_pb2.CreateItemsRequest, context: Context) -> items_pb2.ListItemsResponse:
        return await self._create_all(request.conversation_id, _drafts(request))

    async def CreateItemsHttp(self, request: items_pb2.CreateItemsHttpRequest, context: Context) -> HttpBody:
        members = parse_object(request.body)
        if members.get("items") is None:
            return _rest(
                await self._create(request.conversation_id, content.draft(_read(items_pb2.NewItem(), members)))
            )
        batch = _read(items_pb2.CreateItemsRequest(), {"items": members["items"]})
        return _rest(await self._create_all(request.conversation_id, _drafts(batch)))

    async def GetItem(self, request: items_pb2.GetItemRequest, context: Context) -> items_pb2.GetItemResponse:
        row = await self._items.get(call.caller().user_id, request.conversation_id, request.item_id)
        return items_pb2.GetItemResponse(data=item(row), meta=call.meta())

    async def UpdateItem(self, request: items_pb2.UpdateItemRequest, context: Context) -> items_pb2.UpdateItemResponse:
        change = ItemChange(
            content=content.content_of(request.content, "content") if request.HasField("content") else None,
            metadata=content.metadata_of(request.metadata) if request.HasField("metadata") else None,
        )
        which = (call.caller().user_id, request.conversation_id, request.item_id)
        if change == ItemChange():
            row = await self._items.get(*which)
        else:
            row = await self._items.update(*which, change)
        return items_pb2.UpdateItemResponse(data=item(row), meta=call.meta())

    async def RegenerateItem(
        self, request: items_pb2.RegenerateItemRequest, context: Context
    ) -> items_pb2.RegenerateItemResponse:
        user_id, deadline = call.caller().user_id, call.current().deadline
        given = wire.regeneration_body(request)
        run = Run(user_id, request.conversation_id)
        item_id = await self._regenerator.regenerate(run, request.item_id, given, deadline=deadline)
        row = await self._items.get(user_id, request.conversation_id, item_id)
        return items_pb2.RegenerateItemResponse(data=item(row), meta=call.meta())

    async def DeleteItem(self, request: items_pb2.DeleteItemRequest, context: Context) -> items_pb2.DeleteItemResponse:
        await self._items.delete(call.caller().user_id, request.conversation_id, request.item_id)
        await context.send_initial_metadata(NO_CONTENT)
        return items_pb2.DeleteItemResponse()

    async def _create(self, conversation_id: str, draft: Draft) -> items_pb2.CreateItemResponse:
        (row,) = await self._items.append(call.caller().user_id, conversation_id, [draft])
        return items_pb2.CreateItemResponse(data=item(row), meta=call.meta())

    async def _create_all(self, conversation_id: str, drafts: Sequence[Draft]) -> items_pb2.ListItemsResponse:
        rows = await self._items.append(call.caller().user_id, conversation_id, drafts)
        return _list(Listing(rows, has_more=False, total_count=len(rows)))


def item(row: Row) -> items_pb2.Item:
    """An item as it is shown."""
    shown = items_pb2.Item(
        object="conversation.item",
        created_at=int(row["created_at"].timestamp()),
        updated_at=int(row["updated_at"].timestamp()),
        **{name: row[name] for name in _PLAIN},
    )
    fill(shown, {name: orjson.loads(row[name]) for name in _JSON if row[name] is not None})
    return shown


def _list(found: Listing) -> items_pb2.ListItemsResponse:
    return items_pb2.ListItemsResponse(data=map(item, found.rows), **found.envelope())


def _drafts(batch: items_pb2.CreateItemsRequest) -> list[Draft]:
    return [content.draft(each, f"items[{index}].") for index, each in enumerate(batch.items)]


def _read(message: M, members: dict[str, Any]) -> M:
    """What the door does with a typed request: read strictly, and by the rules of `proto/`."""
    fill(message, members)
    validate(message)
    return message


def _rest(answer: Message) -> HttpBody:
    """An answer as the gateway writes it, which does so itself for methods that are typed."""
    return json_body(
        json_format.MessageToDict(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    )
