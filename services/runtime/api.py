"""The API of the server: its services, the port and the prefixes of each, and which processes serve what of it.

The gateway's routes, the policy of every process and reflection are made from this table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from jan.auth.v1 import api_keys_pb2, auth_pb2
from jan.common.v1 import status_pb2
from jan.llm.v1 import (
    admin_models_pb2,
    admin_providers_pb2,
    chat_pb2,
    conversations_pb2,
    items_pb2,
    models_pb2,
    projects_pb2,
    shares_pb2,
    users_pb2,
)
from jan.mcp.v1 import admin_tools_pb2, mcp_pb2, tools_pb2
from jan.media.v1 import media_pb2

from services.runtime.config import Settings


@dataclass(frozen=True)
class Api:
    """A service of CONTRACT 1.1: its name, the variable of its port, the prefixes that lead to it, and the proto files
    that each cluster serves of it."""

    name: str
    port_variable: str
    prefixes: tuple[str, ...]
    files: Mapping[str, tuple[FileDescriptor, ...]]

    def port(self, settings: Settings) -> int:
        """The port that serves this API alone."""
        return int(getattr(settings, self.port_variable.lower()))


APIS = (
    Api(
        name="llm-api",
        port_variable="LLM_API_PORT",
        prefixes=("/llm", "/api/llm"),
        files={
            "auth": (auth_pb2.DESCRIPTOR, api_keys_pb2.DESCRIPTOR),
            "worker": (
                chat_pb2.DESCRIPTOR,
                models_pb2.DESCRIPTOR,
                admin_models_pb2.DESCRIPTOR,
                admin_providers_pb2.DESCRIPTOR,
                conversations_pb2.DESCRIPTOR,
                items_pb2.DESCRIPTOR,
                projects_pb2.DESCRIPTOR,
                shares_pb2.DESCRIPTOR,
                users_pb2.DESCRIPTOR,
                status_pb2.DESCRIPTOR,
            ),
        },
    ),
    Api(
        name="media-api",
        port_variable="MEDIA_API_PORT",
        prefixes=("/media", "/api/media"),
        files={"worker": (media_pb2.DESCRIPTOR, status_pb2.DESCRIPTOR)},
    ),
    Api(
        name="mcp-tools",
        port_variable="MCP_TOOLS_HTTP_PORT",
        prefixes=("/mcp",),
        files={
            "worker": (
                mcp_pb2.DESCRIPTOR,
                tools_pb2.DESCRIPTOR,
                admin_tools_pb2.DESCRIPTOR,
                status_pb2.DESCRIPTOR,
            )
        },
    ),
)


def files(apis: Sequence[Api] = APIS) -> list[FileDescriptor]:
    """The proto files of these APIs."""
    return [file for api in apis for served in api.files.values() for file in served]


def services(apis: Sequence[Api] = APIS) -> list[ServiceDescriptor]:
    """The gRPC services of these APIs."""
    return [service for file in files(apis) for service in file.services_by_name.values()]
