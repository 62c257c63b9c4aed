"""AdminToolService: which tools users can call, what models are told about them, what they must not be asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import orjson
from google.protobuf import json_format, struct_pb2
from jan.mcp.v1 import admin_tools_pb2, admin_tools_pb2_grpc

from services.mcp.filters import check_patterns
from services.mcp.tool_store import Filter, ToolStore
from services.mcp.tools import struct, whole
from services.runtime import call
from services.runtime.audit import change_of
from services.runtime.db import Row
from services.runtime.errors import InvalidRequest
from services.runtime.pages import page_of

MOST_PATTERNS = 200
MOST_METADATA = 16 * 1024
"""Bytes of the notes about one tool, as JSON."""

Context = grpc.aio.ServicerContext[Any, Any]


class AdminToolServicer(admin_tools_pb2_grpc.AdminToolServiceServicer):
    """What it changes, it changes in the store, which tells every process."""

    def __init__(self, store: ToolStore) -> None:
        self._store = store

    async def ListAdminTools(
        self, request: admin_tools_pb2.ListAdminToolsRequest, context: Context
    ) -> admin_tools_pb2.ListAdminToolsResponse:
        enabled = request.enabled if request.HasField("enabled") else None
        wanted = Filter(request.category, enabled, request.search)
        listing = await self._store.list(page_of(request, order="asc"), wanted)
        return admin_tools_pb2.ListAdminToolsResponse(data=map(_tool, listing.rows), **listing.envelope())

    async def GetAdminTool(
        self, request: admin_tools_pb2.GetAdminToolRequest, context: Context
    ) -> admin_tools_pb2.GetAdminToolResponse:
        row = await self._store.get(request.id)
        return admin_tools_pb2.GetAdminToolResponse(data=_tool(row), meta=call.meta())

    async def UpdateAdminTool(
        self, request: admin_tools_pb2.UpdateAdminToolRequest, context: Context
    ) -> admin_tools_pb2.UpdateAdminToolResponse:
        row = await self._store.change(request.id, _changes(request), change_of(request.reason))
        return admin_tools_pb2.UpdateAdminToolResponse(data=_tool(row), meta=call.meta())

    async def SetToolFilters(
        self, request: admin_tools_pb2.SetToolFiltersRequest, context: Context
    ) -> admin_tools_pb2.SetToolFiltersResponse:
        changes = _filters(request.disallowed_keywords, request.require_approval_for)
        row = await self._store.change(request.id, changes, change_of(""))
        return admin_tools_pb2.SetToolFiltersResponse(data=_tool(row), meta=call.meta())


def _changes(request: admin_tools_pb2.UpdateAdminToolRequest) -> dict[str, Any]:
    """The columns that are to change. Raises `InvalidRequest`."""
    changes: dict[str, Any] = {}
    switches = {getattr(request, name) for name in ("enabled", "is_active") if request.HasField(name)}
    if len(switches) > 1:
        raise InvalidRequest("'enabled' and 'is_active' must be the same when both are given", param="is_active")
    if switches:
        changes["enabled"] = switches.pop()
    for name in ("description", "category"):
        if request.HasField(name):
            changes[name] = getattr(request, name) or None
    if request.HasField("metadata"):
        changes["metadata"] = _notes(request)
    if request.HasField("content_filter"):
        given = request.content_filter
        changes |= _filters(given.disallowed_keywords, given.require_approval_for, within="content_filter.")
    if request.HasField("disallowed_keywords"):
        changes["disallowed_keywords"] = _patterns(request.disallowed_keywords)
    return changes


def _patterns(given: struct_pb2.ListValue) -> list[str]:
    patterns = []
    for index, each in enumerate(given):
        if not isinstance(each, str):
            at = f"disallowed_keywords[{index}]"
            raise InvalidRequest(f"Parameter '{at}' must be a string", param=at)
        patterns.append(each)
    if len(patterns) > MOST_PATTERNS:
        raise InvalidRequest(f"There are at most {MOST_PATTERNS} patterns", param="disallowed_keywords")
    check_patterns(patterns, "disallowed_keywords")
    return patterns


def _notes(request: admin_tools_pb2.UpdateAdminToolRequest) -> str:
    notes = orjson.dumps(whole(json_format.MessageToDict(request.metadata))).decode()
    if len(notes) > MOST_METADATA:
        raise InvalidRequest(f"Parameter 'metadata' must have at most {MOST_METADATA} bytes", param="metadata")
    return notes


def _filters(disallowed: Sequence[str], approval: Sequence[str], *, within: str = "") -> dict[str, Any]:
    check_patterns(disallowed, f"{within}disallowed_keywords")
    check_patterns(approval, f"{within}require_approval_for")
    return {"disallowed_keywords": list(disallowed), "require_approval_for": list(approval)}


def _tool(row: Row) -> admin_tools_pb2.AdminTool:
    disallowed, approval = row["disallowed_keywords"], row["require_approval_for"]
    return admin_tools_pb2.AdminTool(
        id=row["id"],
        object="tool",
        name=row["name"],
        tool_key=row["name"],
        description=row["description"] or row["default_description"],
        default_description=row["default_description"],
        category=row["category"] or row["default_category"],
        provider=row["provider"],
        enabled=row["enabled"],
        is_active=row["enabled"],
        disallowed_keywords=disallowed,
        content_filter=admin_tools_pb2.ContentFilter(disallowed_keywords=disallowed, require_approval_for=approval),
        metadata=struct(orjson.loads(row["metadata"])),
        created_at=int(row["created_at"].timestamp()),
        updated_at=int(row["updated_at"].timestamp()),
    )
