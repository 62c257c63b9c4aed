"""Tools as gRPC clients of tests list and call them, requests and answers as plain JSON."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from jan.mcp.v1 import tools_pb2, tools_pb2_grpc

from tests.grpc.keys import Account
from tests.grpc.rig import SECONDS, Rig


def plain(message: Any) -> dict[str, Any]:
    """A message as JSON, as REST clients get it."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


async def listed(rig: Rig, account: Account, **members: Any) -> dict[str, Any]:
    """One page of the tools that there are for an account."""
    stub: Any = tools_pb2_grpc.ToolServiceStub(rig.channel)
    request = tools_pb2.ListToolsRequest(**members)
    return plain(await stub.ListTools(request, metadata=account.signed_in, timeout=SECONDS))


async def called(rig: Rig, metadata: Any, name: str = "google_search", **arguments: Any) -> dict[str, Any]:
    """What a tool says."""
    stub: Any = tools_pb2_grpc.ToolServiceStub(rig.channel)
    request = json_format.ParseDict({"name": name, "arguments": arguments}, tools_pb2.CallToolRequest())
    return plain(await stub.CallTool(request, metadata=metadata, timeout=SECONDS))
