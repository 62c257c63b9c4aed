"""ToolService: the tools for gRPC clients, and their list for REST."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import json_format, struct_pb2
from jan.mcp.v1 import tools_pb2, tools_pb2_grpc

from services.mcp.arguments import WrongArguments
from services.mcp.registry import Registry, UnknownTool
from services.mcp.tool import Calling, Description, Json
from services.mcp.tool_store import tool_id
from services.runtime import call
from services.runtime.errors import InvalidRequest, NotFound
from services.runtime.pages import page_in_memory, page_of

Context = grpc.aio.ServicerContext[Any, Any]


class ToolServicer(tools_pb2_grpc.ToolServiceServicer):
    """What MCP clients get over JSON-RPC, in messages."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def ListTools(self, request: tools_pb2.ListToolsRequest, context: Context) -> tools_pb2.ListToolsResponse:
        offered = sorted(self._registry.offered(), key=_id)
        page, envelope = page_in_memory(offered, page_of(request, order="asc"), _id)
        return tools_pb2.ListToolsResponse(data=map(_tool, page), **envelope)

    async def CallTool(self, request: tools_pb2.CallToolRequest, context: Context) -> tools_pb2.CallToolResponse:
        arguments = whole(json_format.MessageToDict(request.arguments))
        try:
            result = await self._registry.call(request.name, arguments, calling())
        except UnknownTool as error:
            raise NotFound("There is no such tool", code="tool_not_found", param="name") from error
        except WrongArguments as error:
            raise InvalidRequest(error.message, param=f"arguments.{error.field}".rstrip(".")) from error
        return tools_pb2.CallToolResponse(
            content=[struct(each) for each in result.blocks],
            structured_content=None if result.structured is None else struct(result.structured),
            is_error=result.is_error,
        )


def calling() -> Calling:
    """In whose name the call in progress has tools run."""
    current, caller = call.current(), call.caller()
    return Calling(caller.user_id, caller.token, current.deadline, current.request_id)


def whole(value: Any) -> Any:
    """A value out of a Struct, in which all numbers are floats: those that are whole become integers again."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: whole(each) for name, each in value.items()}
    return [whole(each) for each in value] if isinstance(value, list) else value


def struct(value: Json) -> struct_pb2.Struct:
    """A JSON object as a message."""
    message = struct_pb2.Struct()
    message.update(value)
    return message


def _id(description: Description) -> str:
    return tool_id(description.name)


def _tool(description: Description) -> tools_pb2.Tool:
    return tools_pb2.Tool(
        id=_id(description),
        object="tool",
        name=description.name,
        title=description.title,
        description=description.text,
        category=description.category,
        input_schema=struct(description.input_schema),
        provider=description.provider,
    )
