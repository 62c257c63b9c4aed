"""Another MCP server, by the official SDK, on a port of its own: of either era, and well or ill as a test says.

    async with FakeMcpServer() as server:           # `era="2025"`: only the older one, with sessions
        server.tool("add", answer=text("3"))
        ...
        assert server.calls == [("add", {"a": 1})]
        await server.change()                       # tells that its tools are others now
        await server.stop(); await server.start()   # nobody listens at its port; then another process does

What the SDK would never send goes around it: `server.raw["tools/list"] = b"..."` (in which `ID` becomes the id of the
request), `server.raw_once["tools/call"] = (400, b"...")`, `server.status = 503`.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Self

import mcp_types as types
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged

PATIENCE = 5.0
Json = dict[str, Any]
Handler = Callable[[Json, Any], Awaitable[Any]]
"""Of the arguments and the SDK's context of the request."""


def text(words: str, **more: Any) -> types.CallToolResult:
    """A result of one text."""
    return types.CallToolResult(content=[types.TextContent(type="text", text=words)], **more)


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class FakeMcpServer:
    """Its tools answer what they were given to answer, or what their function says."""

    def __init__(self, *, era: str = "both", json_response: bool = False) -> None:
        self._era = era
        self._json = json_response
        self._server: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None
        self._sessions: dict[int, Any] = {}
        self._bus = InMemorySubscriptionBus()
        self.port = 0
        self.tools: dict[str, types.Tool] = {}
        self.page_size = 100
        self.answers: dict[str, types.CallToolResult | Handler] = {}
        self.calls: list[tuple[str, Json]] = []
        self.methods: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.raw: dict[str, bytes] = {}
        self.raw_once: dict[str, tuple[int, bytes]] = {}
        self.raw_headers = {"content-type": "application/json"}
        self.status = 200
        self.forgotten: set[str] = set()
        self.called, self.cancelled, self.listening = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.gate, self.asked = asyncio.Event(), asyncio.Event()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}/mcp"

    def tool(self, name: str, answer: types.CallToolResult | Handler | None = None, **fields: Any) -> None:
        """Have a tool."""
        fields = {"description": f"Does {name}", "input_schema": {"type": "object"}, **fields}
        self.tools[name] = types.Tool(name=name, **fields)
        self.answers[name] = answer or text(f"done: {name}")

    def slow_tool(self, name: str) -> None:
        """Have a tool that answers when `gate` is set, and sets `cancelled` when it is told to stop before."""

        async def wait(_arguments: Json, _context: Any) -> types.CallToolResult:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            return text("at last")

        self.tool(name, wait)

    def forget_sessions(self) -> None:
        """Know none of the sessions that were made until now."""
        self.forgotten |= {each["mcp-session-id"] for each in self.headers if "mcp-session-id" in each}

    async def change(self) -> None:
        """Tell whoever listens that the tools are others now."""
        await self._bus.publish(ToolsListChanged())
        for session in list(self._sessions.values()):
            with suppress(Exception):  # one that nobody listens to any more
                await session.send_tool_list_changed()

    async def start(self) -> None:
        """Answer, at the same port as before. Returns when it does."""
        self._sessions.clear()
        app = self._protocol().streamable_http_app(json_response=self._json)

        async def around(scope: Any, receive: Any, send: Any) -> None:
            await self._around(app, scope, receive, send)

        config = uvicorn.Config(
            around, port=self.port, log_config=None, ws="none", timeout_graceful_shutdown=1, lifespan="on"
        )
        self._server = _Uvicorn(config)
        self._task = asyncio.create_task(self._server._serve())  # `serve` would take the signals of the test
        await asyncio.wait_for(self._server.ready.wait(), PATIENCE)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection."""
        assert self._server is not None
        assert self._task is not None
        self._server.should_exit = True
        self.cut()
        await asyncio.wait_for(self._task, PATIENCE)

    def cut(self) -> None:
        """Break off every connection."""
        assert self._server is not None
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gate.set()
        await self.stop()

    def _protocol(self) -> Server[Any]:
        return Server(
            "fake",
            version="1",
            on_list_tools=self._list,
            on_call_tool=self._call,
            on_subscriptions_listen=ListenHandler(self._bus),
        )

    async def _list(self, ctx: Any, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        self._sessions[id(ctx.session)] = ctx.session
        begin = int((params.cursor if params else None) or 0)
        tools = list(self.tools.values())[begin : begin + self.page_size]
        after = begin + self.page_size
        return types.ListToolsResult(tools=tools, next_cursor=str(after) if after < len(self.tools) else None)

    async def _call(self, ctx: Any, params: types.CallToolRequestParams) -> Any:
        self.calls.append((params.name, params.arguments or {}))
        self.called.set()
        answer = self.answers[params.name]
        return await answer(params.arguments or {}, ctx) if callable(answer) else answer

    async def _around(self, app: Any, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.headers.append(headers)
        body = await _read(receive) if scope["method"] == "POST" else b""
        method = json.loads(body).get("method", "") if body else scope["method"]
        self.methods.append(method)
        self.asked.set()
        if method in ("subscriptions/listen", "GET"):
            self.listening.set()
        if self.status != 200:
            return await _answer(send, self.status, {"content-type": "text/plain"}, b"not now")
        if headers.get("mcp-session-id") in self.forgotten or (self._era == "2025" and method == "server/discover"):
            return await _answer(send, 404, {"content-type": "text/plain"}, b"what?")
        status, raw = self.raw_once.pop(method, (200, self.raw.get(method)))
        if raw is not None:
            whole = raw.replace(b"ID", str(json.loads(body)["id"]).encode())
            return await _answer(send, status, self.raw_headers, whole)
        return await app(scope, _again(body, receive), send)


@contextmanager
def in_a_thread(server: FakeMcpServer) -> Iterator[FakeMcpServer]:
    """The server with a loop of its own, for tests that have none. Set it up before."""
    started, loops = threading.Event(), []

    async def serve() -> None:
        async with server:
            loops.append((asyncio.get_running_loop(), end := asyncio.Event()))
            started.set()
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(PATIENCE)
    loop, end = loops[0]
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(PATIENCE)


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """The address of a server that takes connections and says nothing."""
    held: list[asyncio.StreamWriter] = []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        await reader.read()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    finally:
        server.close()
        for writer in held:
            writer.transport.abort()


async def _read(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


def _again(body: bytes, receive: Any) -> Any:
    """The request once more, for whoever reads it next; then what comes from the client."""
    unread = [{"type": "http.request", "body": body, "more_body": False}]

    async def once_more() -> Any:
        return unread.pop() if unread else await receive()

    return once_more


async def _answer(send: Any, status: int, headers: dict[str, str], body: bytes) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
