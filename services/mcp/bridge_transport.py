"""What every exchange with another MCP server goes through: bounds on time and size, and plain words for failures.

The SDK lets a broken connection end the whole session, with every other call on it. So whatever happens to one exchange
is told as the answer to that one: a JSON-RPC error with one of the codes below, which are outside of what servers use.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import httpx2
import orjson

from services import __version__

NOT_ARRIVED, SESSION_LOST, BROKEN, TOO_LARGE, REFUSED = -41001, -41002, -41003, -41004, -41005
MOST = 1024 * 1024
"""Bytes of one answer, or of one event."""
CONNECTING = 10.0
"""Seconds for a connection."""
COURTESY = 3.0
"""Seconds for what is only said: notifications, which hold up what is sent after them, and goodbye."""
PAUSE = 1.0
"""Seconds between two GETs: a server whose streams end at once is not to keep us busy."""
_LISTEN = "subscriptions/listen"
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol)


def client(headers: Mapping[str, str], *, seconds: float) -> httpx2.AsyncClient:
    """An HTTP client that sends `headers` along and gives an exchange so many seconds. Proxies and passwords of the
    environment are not used. Answers are not packed: their size could not be told before they are unpacked."""
    inner = httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_keepalive_connections=20, keepalive_expiry=30))
    return httpx2.AsyncClient(
        headers={"user-agent": f"jan-server/{__version__}", **headers, "accept-encoding": "identity"},
        timeout=httpx2.Timeout(CONNECTING, read=None),
        transport=Bounded(inner, seconds=seconds),
        trust_env=False,
    )


class Bounded(httpx2.AsyncBaseTransport):
    """A transport that never fails. An exchange has `seconds`; streams of news have no end."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, *, seconds: float) -> None:
        self._inner = inner
        self._seconds = seconds
        self._next_get = 0.0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer of the server, or what became of it."""
        if request.method == "GET":
            await self._pause()
        until = self._until(request)
        try:
            async with asyncio.timeout_at(until):
                return await _checked(request, await self._inner.handle_async_request(request), until)
        except _NOT_SENT:
            return _said(request, NOT_ARRIVED, "It cannot be reached")
        except (httpx2.TransportError, TimeoutError):
            return _said(request, BROKEN, "It broke off its answer, or gave none in time")

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()

    async def _pause(self) -> None:
        now = asyncio.get_running_loop().time()
        begin, self._next_get = max(now, self._next_get), max(now, self._next_get) + PAUSE
        await asyncio.sleep(begin - now)

    def _until(self, request: httpx2.Request) -> float | None:
        if request.method == "GET" or request.headers.get("mcp-method") == _LISTEN:
            return None
        return asyncio.get_running_loop().time() + (COURTESY if _only_said(request) else self._seconds)


class _Stream(httpx2.AsyncByteStream):
    """A body that ends where it breaks off: whoever reads it misses the rest."""

    def __init__(self, stream: object, until: float | None) -> None:
        if not isinstance(stream, httpx2.AsyncByteStream):
            raise TypeError("the body of an asynchronous client")
        self._stream = stream
        self._until = until

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = aiter(self._stream)
        while True:
            try:
                async with asyncio.timeout_at(self._until):
                    piece = await anext(pieces)
            except (StopAsyncIteration, httpx2.TransportError, TimeoutError):
                return
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _checked(request: httpx2.Request, response: httpx2.Response, until: float | None) -> httpx2.Response:
    """The answer as the SDK is to see it. Raises `httpx2.TransportError`."""
    status = response.status_code
    is_json = response.headers.get("content-type", "").lower().startswith("application/json")
    if status == 404 and "mcp-session-id" in request.headers:
        return await _instead(response, request, SESSION_LOST, "It has forgotten the session")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        return await _instead(response, request, BROKEN, "It sent a packed answer that nobody asked for")
    if status >= 400 and not is_json:
        return await _instead(response, request, REFUSED, f"It answered with HTTP status {status}")
    stream = _Stream(response.stream, until)
    if not is_json:
        return httpx2.Response(status, headers=response.headers, stream=stream, extensions=response.extensions)
    content = await _read(stream)
    if len(content) > MOST:
        return _said(request, TOO_LARGE, f"Its answer has more than {MOST} bytes")
    if status >= 400 and b'"jsonrpc"' not in content:
        return _said(request, REFUSED, f"It answered with HTTP status {status}")
    return httpx2.Response(status, headers={"content-type": "application/json", **_session(response)}, content=content)


async def _instead(response: httpx2.Response, request: httpx2.Request, code: int, message: str) -> httpx2.Response:
    await response.aclose()
    return _said(request, code, message)


async def _read(stream: _Stream) -> bytes:
    """JSON is read here, as far as it may go and a little further."""
    content = bytearray()
    try:
        async for piece in stream:
            content += piece
            if len(content) > MOST:
                break
    finally:
        await stream.aclose()
    return bytes(content)


def _session(response: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name == "mcp-session-id"}


def _only_said(request: httpx2.Request) -> bool:
    """Whether it is no request of JSON-RPC. Those that are not are small."""
    if request.method == "DELETE":
        return True
    return len(request.content) < 4096 and "id" not in orjson.loads(request.content)


def _said(request: httpx2.Request, code: int, message: str) -> httpx2.Response:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    return httpx2.Response(502, json=error, request=request)
