"""A conversation with another MCP server, by the official SDK, in whichever era of the protocol the server speaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import mcp_types
import orjson
from mcp.client.client import Client
from mcp.client.session import IncomingMessage
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import TypeAdapter, ValidationError

from services import __version__
from services.mcp import bridge_transport
from services.mcp.bridge_file import Provider
from services.mcp.tool import Json, Progress, Result, ToolFailed

PROBING = 10.0
"""Seconds that the SDK waits for a server to say that it speaks the newer era."""
GRACE = 5.0
"""Seconds that an exchange may go on after nobody waits for its answer any more."""
LISTEN_AGAIN = 10.0
"""Seconds until a stream of news that ended is asked for again."""
MOST_PAGES = 100
MOST_TOOLS = 1000
LONGEST_REASON = 500
_RAW: TypeAdapter[Any] = TypeAdapter(dict[str, Any])
_IMPLEMENTATION = mcp_types.Implementation(name="jan-server", version=__version__)


class PeerFailed(Exception):
    """The server did not do it. `str` of it is for the log and the model: it names no address."""

    code = "provider_failed"


class PeerTooLarge(PeerFailed):
    """Its answer is larger than what is taken."""

    code = "result_too_large"


class PeerUnreached(PeerFailed):
    """What was asked certainly did not arrive: it can be asked again, in a new session."""

    code = "provider_unavailable"


@dataclass(frozen=True)
class Offered:
    """A tool as the server describes it."""

    name: str
    title: str
    text: str
    input_schema: Json
    output_schema: Json | None
    annotations: Json


class Session:
    """One session, or what the newer era has in place of one. Its methods raise `PeerFailed` and `TimeoutError`."""

    def __init__(self, client: Client, changed: asyncio.Event) -> None:
        self._client = client
        self.changed = changed
        """Set whenever the list of tools may be another one."""
        self.idle = asyncio.Event()
        """Set while no call runs."""
        self.idle.set()
        self._calls = 0

    async def tools(self) -> list[Offered]:
        """All tools of the server, or the first `MOST_TOOLS` of them."""
        found: list[Offered] = []
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            with _translated():
                params = mcp_types.PaginatedRequestParams(cursor=cursor)
                page = await self._client.session.list_tools(params=params)
            found += map(_offered, page.tools)
            cursor = page.next_cursor
            if cursor is None:
                return found[:MOST_TOOLS]
        raise PeerFailed(f"Its list of tools has more than {MOST_PAGES} pages")

    async def call(self, name: str, arguments: Json, progress: Progress) -> Result:
        """Have a tool run there, once; cancelled, the server is told. Raises `ToolFailed` for what it refuses."""
        self._calls += 1
        self.idle.clear()
        try:
            return await self._called(name, arguments, progress)
        except MCPError as error:
            raise ToolFailed("provider_refused", f"It refuses: {error.message[:LONGEST_REASON]}") from error
        finally:
            self._calls -= 1
            if not self._calls:
                self.idle.set()

    async def hear(self) -> None:
        """Set `changed` when the server tells news in a stream of the newer era. In the older one they just come."""
        offered = self._client.server_capabilities.tools
        if self._client.protocol_version not in MODERN_PROTOCOL_VERSIONS or not (offered and offered.list_changed):
            return
        while True:
            with suppress(SubscriptionLost, TimeoutError):
                try:
                    await self._heard()
                except MCPError as error:
                    if error.code == mcp_types.METHOD_NOT_FOUND:
                        return
            await asyncio.sleep(LISTEN_AGAIN)
            self.changed.set()

    async def _heard(self) -> None:
        async with self._client.listen(tools_list_changed=True) as news:
            async for _ in news:
                self.changed.set()

    async def _called(self, name: str, arguments: Json, progress: Progress) -> Result:
        """Raises `MCPError` for what the server itself refuses."""
        try:
            return await self._sent(name, arguments, progress)
        except MCPError as error:
            if error.code != mcp_types.HEADER_MISMATCH:
                raise
        # It refused to run it because the tool's schema is another one since it was listed.
        self.changed.set()
        await self.tools()
        return await self._sent(name, arguments, progress)

    async def _sent(self, name: str, arguments: Json, told: Progress) -> Result:
        async def tell(progress: float, total: float | None, message: str | None) -> None:
            await told(progress, total, message)

        request = mcp_types.CallToolRequest(params=mcp_types.CallToolRequestParams(name=name, arguments=arguments))
        with _translated(but_refusals=True):
            # Not `call_tool`, which keeps back results that do not fit the tool's own schema.
            return _result(await self._client.session.send_request(request, _RAW, progress_callback=tell))


@asynccontextmanager
async def connected(provider: Provider) -> AsyncIterator[Session]:
    """A session with the server. Raises `PeerFailed` and `TimeoutError`, also for what ends the session later."""
    try:
        async with AsyncExitStack() as stack:
            session = await _entered(provider, stack)
            hearing = asyncio.create_task(session.hear())
            stack.push_async_callback(_ended, hearing)
            yield session
    except ExceptionGroup as group:  # so the task groups of the SDK pass on what is raised inside of them
        with _translated():
            raise _telling(group) from group


async def _entered(provider: Provider, stack: AsyncExitStack) -> Session:
    changed = asyncio.Event()

    async def news(message: IncomingMessage) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            changed.set()

    http = bridge_transport.client(provider.headers, seconds=provider.timeout + GRACE)
    await stack.enter_async_context(http)
    client = Client(
        streamable_http_client(provider.endpoint, http_client=http, max_sse_event_size=bridge_transport.MOST),
        read_timeout_seconds=provider.timeout,
        message_handler=news,
        client_info=_IMPLEMENTATION,
        cache=None,
    )
    with _translated():
        async with asyncio.timeout(PROBING + provider.timeout):
            await stack.enter_async_context(client)
    return Session(client, changed)


def _telling(group: ExceptionGroup[Exception]) -> Exception:
    """The exception of a group that tells most."""
    leaves = [_telling(each) if isinstance(each, ExceptionGroup) else each for each in group.exceptions]
    return next((each for each in leaves if isinstance(each, PeerFailed | MCPError | TimeoutError)), leaves[0])


def keep_secrets_out_of_logs() -> None:
    """Have the libraries log no addresses, headers and contents. What fails is logged by those who asked for it."""
    for name in ("httpx2", "httpcore2", "mcp.client", "client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _offered(tool: mcp_types.Tool) -> Offered:
    annotations = tool.annotations.model_dump(by_alias=True, exclude_none=True) if tool.annotations else {}
    title = tool.title or annotations.get("title") or tool.name
    return Offered(tool.name, title, tool.description or title, tool.input_schema, tool.output_schema, annotations)


def _result(raw: dict[str, Any]) -> Result:
    if raw.get("resultType", "complete") != "complete":
        raise ToolFailed("provider_refused", "The tool asks for more than its arguments, which is not possible here")
    structured, content = raw.get("structuredContent"), raw.get("content", [])
    if structured is not None and not isinstance(structured, dict):  # allowed in the newer era only
        structured, content = None, content or [{"type": "text", "text": orjson.dumps(structured).decode()}]
    return Result(structured, content, is_error=raw.get("isError") is True)


_MEANT = {
    bridge_transport.NOT_ARRIVED: PeerUnreached,
    bridge_transport.SESSION_LOST: PeerUnreached,
    bridge_transport.BROKEN: PeerFailed,
    bridge_transport.REFUSED: PeerFailed,
    bridge_transport.TOO_LARGE: PeerTooLarge,
}


@contextmanager
def _translated(*, but_refusals: bool = False) -> Iterator[None]:
    """What goes wrong in the SDK becomes one of our errors; `but_refusals` leaves the server's own as they are."""
    try:
        yield
    except MCPError as error:
        if meant := _MEANT.get(error.code):
            raise meant(error.message) from error
        if error.code == mcp_types.REQUEST_TIMEOUT:
            raise TimeoutError from error
        if error.code in (mcp_types.CONNECTION_CLOSED, mcp_types.PARSE_ERROR):
            raise _broken(error) from error
        if but_refusals:
            raise
        raise PeerFailed(f"It refuses: {error.message[:LONGEST_REASON]}") from error
    except ValidationError as error:
        raise PeerFailed("Its answer does not fit the protocol") from error
    except RuntimeError as error:  # of the SDK: no version in common
        raise PeerFailed(str(error)[:LONGEST_REASON]) from error


def _broken(error: MCPError) -> PeerFailed:
    """What the SDK says about an answer that ends early or cannot be read. It tells only in words that it is too long,
    and repeats contents."""
    if "byte limit" in error.message:
        return PeerTooLarge(f"Its answer has more than {bridge_transport.MOST} bytes")
    return PeerFailed("It broke off its answer, or the answer cannot be read")
