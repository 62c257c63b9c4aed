"""ConversationService: conversations of the caller."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import grpc
import orjson
from jan.llm.v1 import conversations_pb2, conversations_pb2_grpc

from services.llm.conversations import content
from services.llm.conversations.conversation_store import Change, ConversationStore, Filters
from services.llm.conversations.item_store import ItemStore
from services.llm.conversations.items import ItemMethods, item
from services.llm.conversations.regenerate import Regenerator
from services.runtime import call
from services.runtime.db import Row
from services.runtime.pages import LARGEST_LIMIT, Page, page_of

Context = grpc.aio.ServicerContext[Any, Any]
NO_CONTENT = (("x-http-status", "204"),)
NEWEST = Page(limit=LARGEST_LIMIT, order="desc")
"""The items that are shown with a conversation."""


class ConversationServicer(ItemMethods, conversations_pb2_grpc.ConversationServiceServicer):
    """Conversations live in their store, and what is said in them in the store of items."""

    def __init__(self, store: ConversationStore, items: ItemStore, regenerator: Regenerator) -> None:
        super().__init__(items, regenerator)
        self._store = store

    async def ListConversations(
        self, request: conversations_pb2.ListConversationsRequest, context: Context
    ) -> conversations_pb2.ListConversationsResponse:
        found = await self._store.page(call.caller().user_id, _filters(request), page_of(request))
        return conversations_pb2.ListConversationsResponse(data=map(conversation, found.rows), **found.envelope())

    async def CreateConversation(
        self, request: conversations_pb2.CreateConversationRequest, context: Context
    ) -> conversations_pb2.CreateConversationResponse:
        given = Change(
            title=content.line(request.title, "title"),
            metadata=content.kept(dict(request.metadata), "metadata"),
            project_id=request.project_id,
            referrer=content.line(request.referrer, "referrer"),
        )
        drafts = [content.draft(each, f"items[{index}].") for index, each in enumerate(request.items)]
        row, items = await self._store.create(call.caller().user_id, given, drafts)
        return conversations_pb2.CreateConversationResponse(data=_with_items(row, items), meta=call.meta())

    async def GetConversation(
        self, request: conversations_pb2.GetConversationRequest, context: Context
    ) -> conversations_pb2.GetConversationResponse:
        user_id = call.caller().user_id
        row = await self._store.get(user_id, request.id)
        newest = await self._items.page(user_id, request.id, NEWEST)
        row = {**row, "item_count": newest.total_count}  # as many as there were when the items were read
        shown = _with_items(row, newest.rows[::-1], has_more=newest.has_more)
        return conversations_pb2.GetConversationResponse(data=shown, meta=call.meta())

    async def UpdateConversation(
        self, request: conversations_pb2.UpdateConversationRequest, context: Context
    ) -> conversations_pb2.UpdateConversationResponse:
        change, user_id = _change(request), call.caller().user_id
        if change == Change():
            row = await self._store.get(user_id, request.id)
        else:
            row = await self._store.update(user_id, request.id, change)
        return conversations_pb2.UpdateConversationResponse(data=conversation(row), meta=call.meta())

    async def DeleteConversation(
        self, request: conversations_pb2.DeleteConversationRequest, context: Context
    ) -> conversations_pb2.DeleteConversationResponse:
        await self._store.delete(call.caller().user_id, request.id)
        await context.send_initial_metadata(NO_CONTENT)
        return conversations_pb2.DeleteConversationResponse()

    async def BulkDeleteConversations(
        self, request: conversations_pb2.BulkDeleteConversationsRequest, context: Context
    ) -> conversations_pb2.BulkDeleteConversationsResponse:
        wanted = list(dict.fromkeys(request.conversation_ids))
        gone = await self._store.delete_many(call.caller().user_id, wanted)
        return _deleted(len(gone), [each for each in wanted if each not in gone])

    async def DeleteAllConversations(
        self, request: conversations_pb2.DeleteAllConversationsRequest, context: Context
    ) -> conversations_pb2.BulkDeleteConversationsResponse:
        return _deleted(await self._store.delete_all(call.caller().user_id))


def conversation(row: Row) -> conversations_pb2.Conversation:
    """A conversation as it is shown in lists."""
    return conversations_pb2.Conversation(**_fields(row))


def _with_items(row: Row, items: Iterable[Row], *, has_more: bool = False) -> conversations_pb2.ConversationWithItems:
    return conversations_pb2.ConversationWithItems(**_fields(row), items=map(item, items), items_has_more=has_more)


def _fields(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "object": "conversation",
        "title": row["title"],
        "metadata": orjson.loads(row["metadata"]),
        "project_id": row["project_id"],
        "referrer": row["referrer"],
        "item_count": row["item_count"],
        "is_archived": row["is_archived"],
        "active_branch": "MAIN",
        "created_at": int(row["created_at"].timestamp()),
        "updated_at": int(row["updated_at"].timestamp()),
    }


def _filters(request: conversations_pb2.ListConversationsRequest) -> Filters:
    for name in ("project_id", "referrer", "search"):
        content.refuse_nul(getattr(request, name), name)
    return Filters(
        project_id=request.project_id,
        referrer=request.referrer,
        search=request.search,
        is_archived=request.is_archived if request.HasField("is_archived") else None,
    )


def _change(request: conversations_pb2.UpdateConversationRequest) -> Change:
    return Change(
        title=content.line(request.title, "title") if request.HasField("title") else None,
        metadata=content.metadata_of(request.metadata) if request.HasField("metadata") else None,
        project_id=request.project_id if request.HasField("project_id") else None,
        referrer=content.line(request.referrer, "referrer") if request.HasField("referrer") else None,
        is_archived=request.is_archived if request.HasField("is_archived") else None,
    )


def _deleted(count: int, failed: Sequence[str] = ()) -> conversations_pb2.BulkDeleteConversationsResponse:
    result = conversations_pb2.DeletedConversations(
        object="conversations.deleted", deleted=True, deleted_count=count, failed_ids=failed
    )
    return conversations_pb2.BulkDeleteConversationsResponse(data=result, meta=call.meta())
