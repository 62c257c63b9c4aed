"""The methods of MCP, by the low-level server of the official SDK: it checks what comes and goes by the schema of each
revision. It is fed one request after the other and knows neither transport nor session.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import mcp_types as types
from mcp.server.caching import CacheHint
from mcp.server.connection import Connection
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.models import InitializationOptions
from mcp.server.runner import ServerRunner
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.inbound import validate_mcp_param_headers
from mcp.shared.message import MessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types.version import LATEST_HANDSHAKE_VERSION, MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from services import __version__
from services.mcp.arguments import WrongArguments
from services.mcp.json_rpc import HANDSHAKE_VERSIONS, VERSIONS, Reply, Request, fault, notification, result
from services.mcp.registry import Registry, UnknownTool
from services.mcp.tool import OURS, Calling, Description, Json

FRESH = 1000
"""Milliseconds that clients may keep a list: no longer than a change takes to be known everywhere."""
_STATUSES = {types.METHOD_NOT_FOUND: 404, types.HEADER_MISMATCH: 400}
FAILURE: Json = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
            "required": ["code", "message"],
        }
    },
    "required": ["error"],
}
"""What a result says of a tool that failed."""
_COMPLETE = {"resultType": "complete"}
"""Part of every result since the newest revision; for older ones the SDK leaves it out."""
CAPABILITIES = types.ServerCapabilities(tools=types.ToolsCapability(list_changed=False))

Context = ServerRequestContext[Any, Any]
Tell = Callable[[bytes], None]
"""Takes a notification for the client."""

log = logging.getLogger("jan.tools")


class Protocol:
    """Answers requests with the tools of `registry`; `calling` says in whose name."""

    def __init__(self, registry: Registry, calling: Callable[[], Calling]) -> None:
        self._registry = registry
        self._calling = calling
        self._server = _server(self)
        self._options = InitializationOptions(
            server_name=self._server.name, server_version=__version__, capabilities=CAPABILITIES
        )

    async def answer(self, request: Request, tell: Tell) -> Reply:
        """The result or the error of a request, whatever happens. Notifications go to `tell` meanwhile."""
        try:
            return result(request.id, await self._run(request, tell))
        except MCPError as error:
            status = _STATUSES.get(error.code, 200) if request.modern else 200
            return fault(error.code, error.message, id=request.id, data=error.data, status=status)
        except ValidationError as error:
            where, said = _first(error)
            return fault(types.INVALID_PARAMS, f"Invalid params: {said}", id=request.id, data={"field": where})
        except Exception:
            log.exception("unexpected error", extra={"method": request.method})
            return fault(types.INTERNAL_ERROR, "The server failed to handle this request", id=request.id)

    async def _run(self, request: Request, tell: Tell) -> Json:
        if request.method != "initialize" and self._server.get_request_handler(request.method) is None:
            raise MCPError(types.METHOD_NOT_FOUND, f"There is no method '{request.method}'")
        if request.modern and request.method == "tools/call":
            self._compare(request)
        capabilities = request.meta.get(types.CLIENT_CAPABILITIES_META_KEY)
        connection = Connection.from_envelope(request.version, None, capabilities)
        runner = ServerRunner(self._server, connection, None, init_options=self._options)
        return await runner.on_request(_Exchange(request, tell), request.method, _params(request))

    def _compare(self, request: Request) -> None:
        """Raise when headers say something else about the arguments than the body. A schema says which are repeated."""
        params = request.params or {}
        tool, arguments = self._registry.find(str(params.get("name"))), params.get("arguments") or {}
        if tool is None or not isinstance(arguments, dict):
            return  # is found out later
        wrong = validate_mcp_param_headers(tool.description.input_schema, arguments, request.headers)
        if wrong is not None:
            raise MCPError(wrong.code, wrong.message)

    async def list_tools(self, context: Context, params: types.PaginatedRequestParams) -> HandlerResult:
        """All tools that are enabled, on one page."""
        if params.cursor:
            raise MCPError(types.INVALID_PARAMS, "There is no such page", {"field": "cursor"})
        return {**_COMPLETE, "tools": [_tool(each) for each in self._registry.offered()]}

    async def call_tool(self, context: Context, params: types.CallToolRequestParams) -> HandlerResult:
        """What a tool says; that it failed, too."""
        calling = replace(self._calling(), progress=context.session.report_progress)
        try:
            said = await self._registry.call(params.name, params.arguments or {}, calling)
        except UnknownTool as error:
            data = {"tool": params.name}
            raise MCPError(types.INVALID_PARAMS, f"There is no tool '{params.name}'", data) from error
        except WrongArguments as error:
            raise MCPError(types.INVALID_PARAMS, error.message, {"field": error.field or "arguments"}) from error
        answer: Json = {**_COMPLETE, "content": said.blocks, "isError": said.is_error}
        return answer if said.structured is None else {**answer, "structuredContent": said.structured}


def _server(methods: Protocol) -> Server[Any]:
    server = Server[Any](
        "jan-server", version=__version__, cache_hints={"tools/list": CacheHint(ttl_ms=FRESH, scope="private")}
    )
    server.middleware[:] = [_ping]  # the SDK's own one is for OpenTelemetry
    page = types.PaginatedRequestParams
    server.add_request_handler("tools/list", page, methods.list_tools)
    server.add_request_handler("tools/call", types.CallToolRequestParams, methods.call_tool)
    server.add_request_handler("prompts/list", page, _always(types.ListPromptsResult(prompts=[])))
    server.add_request_handler("resources/list", page, _always(types.ListResourcesResult(resources=[])))
    templates = types.ListResourceTemplatesResult(resource_templates=[])
    server.add_request_handler("resources/templates/list", page, _always(templates))
    discovered = types.DiscoverResult(supported_versions=list(VERSIONS), capabilities=CAPABILITIES)
    server.add_request_handler("server/discover", types.RequestParams, _always(discovered))
    return server


async def _ping(ctx: Context, call_next: CallNext) -> HandlerResult:
    """The newest revision has no `ping` any more. Whoever sends one all the same is answered."""
    if ctx.method == "ping" and ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return _COMPLETE
    return await call_next(ctx)


def _always(said: types.Result) -> Callable[[Context, Any], Any]:
    async def handle(_context: Context, _params: Any) -> HandlerResult:
        return said

    return handle


def _params(request: Request) -> Json | None:
    """The parameters; one who asks for a revision that we do not speak is offered the newest that has a handshake."""
    asked = (request.params or {}).get("protocolVersion")
    if request.method != "initialize" or not isinstance(asked, str) or asked in HANDSHAKE_VERSIONS:
        return request.params
    return {**(request.params or {}), "protocolVersion": LATEST_HANDSHAKE_VERSION}


def _tool(description: Description) -> Json:
    tool: Json = {
        "name": description.name,
        "title": description.title,
        "description": description.text,
        "inputSchema": description.input_schema,
        "outputSchema": _output(description),
        "annotations": dict(description.annotations),
    }
    return {name: each for name, each in tool.items() if each}


def _output(description: Description) -> Json | None:
    """The schema of results, of failures too: there are clients that judge those as well (TypeScript SDK, version 1).
    That of another server's tool stays as it is."""
    schema = description.output_schema
    return {"type": "object", "anyOf": [schema, FAILURE]} if schema and description.provider == OURS else schema


def _first(error: ValidationError) -> tuple[str, str]:
    """The parameter that is wrong, and why."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = [str(step) for step in first["loc"]]
    if where[:1] == ["params"] and len(where) > 1:
        where = where[1:]
    return ".".join(where), f"{'.'.join(where)}: {first['msg']}"


@dataclass
class _Exchange:
    """The context of one request, as the SDK wants it (`mcp.shared.dispatcher.DispatchContext`): the client is told
    things, and asked nothing."""

    request: Request
    tell: Tell
    transport: TransportContext = field(
        default_factory=lambda: TransportContext(kind="streamable-http", can_send_request=False)
    )
    message_metadata: MessageMetadata = None
    cancel_requested: anyio.Event = field(default_factory=anyio.Event)
    can_send_request: bool = False
    reached: float | None = None

    @property
    def request_id(self) -> types.RequestId | None:
        return self.request.id

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        raise NoBackChannelError(method)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        self.tell(notification(method, params or {}))

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Tell it to a client who wants to know; what is not more than before is not said (MCP, "Progress")."""
        token = self.request.progress_token
        if token is None or (self.reached is not None and progress <= self.reached):
            return
        self.reached = progress
        said = {"progressToken": token, "progress": progress, "total": total, "message": message}
        await self.notify("notifications/progress", {name: each for name, each in said.items() if each is not None})
