"""ShareService: frozen, public, unlisted copies of conversations, for whoever knows the address."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import grpc
import orjson
from jan.llm.v1 import shares_pb2, shares_pb2_grpc

from services.llm.conversations import content
from services.llm.conversations.conversation_store import ConversationStore
from services.llm.conversations.item_store import known
from services.llm.conversations.share_store import SLUG, ShareStore, Terms
from services.llm.conversations.share_views import Views
from services.llm.conversations.shared_images import with_urls
from services.llm.generation.pictures import Gallery
from services.llm.providers.provider import Json
from services.runtime import call
from services.runtime.config import Settings
from services.runtime.db import Row
from services.runtime.errors import NotFound, PermissionDenied
from services.runtime.pages import page_of
from services.runtime.typed_json import fill

Context = grpc.aio.ServicerContext[Any, Any]
CREATED, NO_CONTENT = (("x-http-status", "201"),), (("x-http-status", "204"),)
CACHEABLE = (("cache-control", "public, max-age=60"),)
_VERB = "x-envoy-original-method"  # the gateway's word for the verb of a REST call
_SLUG = re.compile(rf"[0-9A-Za-z]{{{SLUG}}}")


class ShareServicer(shares_pb2_grpc.ShareServiceServicer):
    """Shares of the caller, and those that anybody may read, with the images that their owners can."""

    def __init__(
        self,
        settings: Settings,
        store: ShareStore,
        views: Views,
        conversations: ConversationStore,
        gallery_of: Callable[[str], Gallery],
    ) -> None:
        self._enabled = settings.conversation_sharing_enabled
        self._address = f"{settings.public_base_url.rstrip('/')}/v1/public/shares/"
        self._store = store
        self._views = views
        self._conversations = conversations
        self._gallery_of = gallery_of

    async def CreateShare(
        self, request: shares_pb2.CreateShareRequest, context: Context
    ) -> shares_pb2.CreateShareResponse:
        self._refuse_if_disabled()
        terms = _terms(request)
        row = await self._store.create(call.caller().user_id, known(request.conversation_id), terms)
        await context.send_initial_metadata(CREATED)
        return shares_pb2.CreateShareResponse(data=self._share(row), meta=call.meta())

    async def ListConversationShares(
        self, request: shares_pb2.ListConversationSharesRequest, context: Context
    ) -> shares_pb2.ListSharesResponse:
        user_id, page = call.caller().user_id, page_of(request)
        await self._conversations.get(user_id, request.conversation_id)
        found = await self._store.page(
            user_id, page, include_revoked=_include_revoked(request), conversation_id=request.conversation_id
        )
        return shares_pb2.ListSharesResponse(data=map(self._share, found.rows), **found.envelope())

    async def ListShares(
        self, request: shares_pb2.ListSharesRequest, context: Context
    ) -> shares_pb2.ListSharesResponse:
        found = await self._store.page(
            call.caller().user_id, page_of(request), include_revoked=_include_revoked(request)
        )
        return shares_pb2.ListSharesResponse(data=map(self._share, found.rows), **found.envelope())

    async def RevokeConversationShare(
        self, request: shares_pb2.RevokeConversationShareRequest, context: Context
    ) -> shares_pb2.RevokeShareResponse:
        await self._store.revoke(call.caller().user_id, known(request.share_id), known(request.conversation_id))
        await context.send_initial_metadata(NO_CONTENT)
        return shares_pb2.RevokeShareResponse()

    async def RevokeShare(
        self, request: shares_pb2.RevokeShareRequest, context: Context
    ) -> shares_pb2.RevokeShareResponse:
        await self._store.revoke(call.caller().user_id, known(request.share_id))
        await context.send_initial_metadata(NO_CONTENT)
        return shares_pb2.RevokeShareResponse()

    async def GetPublicShare(
        self, request: shares_pb2.GetPublicShareRequest, context: Context
    ) -> shares_pb2.GetPublicShareResponse:
        self._refuse_if_disabled()
        if not _SLUG.fullmatch(request.slug):
            raise NotFound("There is no such share")
        row = await self._store.read(request.slug)
        if (_VERB, "HEAD") not in (context.invocation_metadata() or ()):
            self._views.count(row["id"])
        items = await with_urls(orjson.loads(row["items"]), self._gallery_of(row["user_id"]))
        await context.send_initial_metadata(CACHEABLE)
        return shares_pb2.GetPublicShareResponse(data=_public(row, items), meta=call.meta())

    def _refuse_if_disabled(self) -> None:
        if not self._enabled:
            raise PermissionDenied("Sharing is switched off here", code="sharing_disabled")

    def _share(self, row: Row) -> shares_pb2.Share:
        """A share as its owner sees it."""
        link = self._address + row["slug"]
        return shares_pb2.Share(
            id=row["id"],
            object="share",
            conversation_id=row["conversation_id"],
            item_id=row["item_id"],
            slug=row["slug"],
            share_link=link,
            share_url=link,
            title=row["title"],
            read_only=row["read_only"],
            allow_feedback=row["allow_feedback"],
            view_count=row["view_count"],
            created_at=int(row["created_at"].timestamp()),
            expires_at=_seconds(row, "expires_at"),
            revoked_at=_seconds(row, "revoked_at"),
        )


def _terms(request: shares_pb2.CreateShareRequest) -> Terms:
    content.refuse_nul(request.item_id, "item_id")
    return Terms(
        item_id=request.item_id,
        title=content.line(request.title, "title") if request.HasField("title") else None,
        expires_in=request.expires_in if request.HasField("expires_in") else None,
        read_only=request.read_only or not request.HasField("read_only"),
        allow_feedback=request.allow_feedback,
        include_images=request.include_images or not request.HasField("include_images"),
    )


def _include_revoked(request: shares_pb2.ListSharesRequest | shares_pb2.ListConversationSharesRequest) -> bool:
    return request.include_revoked or not request.HasField("include_revoked")


def _public(row: Row, items: list[Json]) -> shares_pb2.PublicShare:
    """A share as readers see it."""
    shown = shares_pb2.PublicShare(
        object="public_share",
        slug=row["slug"],
        title=row["title"],
        read_only=row["read_only"],
        allow_feedback=row["allow_feedback"],
        created_at=int(row["created_at"].timestamp()),
        expires_at=_seconds(row, "expires_at"),
    )
    fill(shown, {"items": items})
    return shown


def _seconds(row: Row, column: str) -> int | None:
    """Unix time."""
    return None if row[column] is None else int(row[column].timestamp())
