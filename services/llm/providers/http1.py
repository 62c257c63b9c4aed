"""The HTTP/1.1 client of the token relay: asyncio transports, httptools as parser, one pool per process.

General clients spend several times more per request and wake the reader for every packet. This one does what the relay
needs and no more: keep-alive, TLS, chunked bodies, deadlines, back-pressure, and reads that are woken by the `Pacer`.
It sends no `Accept-Encoding`, follows no redirects, uses no proxy and keeps no cookies.

    async with client.post(url, headers, body, deadline=deadline) as response:
        async for data in response.chunks(): ...
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import cast
from urllib.parse import SplitResult, urlsplit

import httptools

from services.llm.providers.provider import remaining
from services.llm.providers.timeouts import Timeouts
from services.runtime.errors import ApiError, Unavailable, UpstreamFailed, UpstreamTimeout
from services.runtime.pacing import Pacer

LARGEST_BUFFER = 1024 * 1024
LARGEST_BODY = 64 * 1024 * 1024
IDLE_CONNECTIONS = 256
IDLE_SECONDS = 30.0
DRAIN_SECONDS = 1.0
SILENCE = 15.0


class StaleConnection(Exception):
    """A kept-alive connection that the upstream closed before it answered anything."""


class Response:
    """One exchange: the head once it is there, the body as it arrives."""

    def __init__(self, connection: Connection, timeouts: Timeouts, deadline: float) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self._connection = connection
        self._timeouts = timeouts
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._first = True
        self._drain = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._last_byte = self._loop.time()
        self._timer = self._loop.call_at(self._next_check(), self._check_time)

    async def head(self) -> None:
        """Wait for status and headers."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives; an empty chunk marks `SILENCE` seconds without any. Raises when it breaks off."""
        while True:
            if self._buffer:
                yield self._take()
            elif self._error is not None:
                raise self._error
            elif self.complete:
                return
            else:
                await self._wait()
                if not self._buffer and not self.complete and self._error is None:
                    yield b""

    async def read(self, limit: int = LARGEST_BODY) -> bytes:
        """The whole body. Raises `UpstreamFailed` when it breaks off or is longer than `limit` bytes."""
        parts: list[bytes] = []
        size = 0
        async for data in self.chunks():
            parts.append(data)
            size += len(data)
            if size > limit:
                raise UpstreamFailed("The model provider's answer is too large")
        return b"".join(parts)

    def drain(self) -> None:
        """Say that the rest of the body does not matter: the connection is kept if that ends within a second."""
        self._drain = True

    def close(self) -> None:
        """End the exchange. A body that is not through ends the connection: that is how an upstream learns of it."""
        self._timer.cancel()
        if self.complete:
            if self._buffered > LARGEST_BUFFER:  # a body that nobody took has stopped the connection
                self._connection.resume()
            return
        if self._drain and self._error is None:
            self._timer = self._loop.call_later(DRAIN_SECONDS, self._connection.abort)
        else:
            self._connection.abort()

    def on_head(self, status: int, headers: dict[str, str]) -> None:
        self.status, self.headers = status, headers
        self._last_byte = self._loop.time()
        self._wake_now()

    def on_data(self, data: bytes) -> None:
        if self._drain:
            return
        self._last_byte = self._loop.time()
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered > LARGEST_BUFFER:
            self._connection.pause()
        if self._first:
            self._wake_now()
        elif self._waiter is not None:
            self._connection.pacer.wake(self._waiter)

    def on_complete(self) -> None:
        self.complete = True
        self._timer.cancel()
        self._wake_now()

    def on_error(self, error: Exception) -> None:
        if not self.complete and self._error is None:
            self._error = error
            self._timer.cancel()
            self._wake_now()

    def _take(self) -> bytes:
        data = self._buffer[0] if len(self._buffer) == 1 else b"".join(self._buffer)
        self._buffer.clear()
        self._first = False
        if self._buffered > LARGEST_BUFFER:
            self._connection.resume()
        self._buffered = 0
        return data

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake_now(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _limit(self) -> float:
        return self._timeouts.idle if self.status else self._timeouts.first_byte

    def _next_check(self) -> float:
        soon = self._loop.time() + min(SILENCE, self._timeouts.idle)
        return min(self._deadline, self._last_byte + self._limit(), soon)

    def _check_time(self) -> None:
        """The one timer of an exchange looks how old the last byte is, so that bytes need not touch any timer."""
        now = self._loop.time()
        if self._buffered > LARGEST_BUFFER:  # it is our reader who is slow
            self._last_byte = now
        if now >= self._deadline:
            self._give_up("The model provider did not finish in time")
        elif now >= self._last_byte + self._limit():
            what = "stopped sending" if self.status else "did not answer"
            self._give_up(f"The model provider {what} for {self._limit():g} s")
        else:
            if self.status and now >= self._last_byte + SILENCE:
                self._wake_now()
            self._timer = self._loop.call_at(self._next_check(), self._check_time)

    def _give_up(self, message: str) -> None:
        self.on_error(UpstreamTimeout(message))
        self._connection.abort()


class Connection(asyncio.Protocol):
    """One TCP or TLS connection, which carries one exchange at a time."""

    def __init__(self, opened: set[Connection], idle: list[Connection], pacer: Pacer) -> None:
        self.pacer = pacer
        self.idle_since: float | None = None
        self.closed = False
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open = opened
        self._idle = idle
        self._transport: asyncio.Transport
        self._response: Response | None = None
        self._reused = False
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._until_close = False

    def start(self, request: bytes, timeouts: Timeouts, deadline: float) -> Response:
        """Send a request and return its exchange."""
        self._reused = self.idle_since is not None
        self.idle_since = None
        self._response = Response(self, timeouts, deadline)
        self._transport.write(request)
        return self._response

    def pause(self) -> None:
        if not self.closed:
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self.closed:
            self._transport.resume_reading()

    def abort(self) -> None:
        self.closed = True
        self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        if self._response is None:  # bytes that nobody asked for
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(UpstreamFailed("The model provider's answer is not HTTP"), error)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._open.discard(self)
        self.lost.set_result(None)
        if self in self._idle:
            self._idle.remove(self)
        response = self._response
        if response is None or response.complete:
            return
        if response.status and self._until_close and exc is None:
            response.on_complete()
        elif not response.status and self._reused:
            response.on_error(StaleConnection())
        else:
            self._fail(UpstreamFailed("The model provider broke off the connection"), exc)

    # httptools

    def on_message_begin(self) -> None:
        if self._response is None:  # an answer that nobody asked for, in the packet of one that somebody did
            self.abort()
        self._headers = {}
        self._until_close = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._response is None:
            return
        encoding = self._headers.get("content-encoding", "identity")
        if encoding != "identity":
            self._fail(UpstreamFailed(f"The model provider sent {encoding} that nobody asked for"), None)
        self._until_close = "content-length" not in self._headers and "transfer-encoding" not in self._headers
        self._response.on_head(status, self._headers)

    def on_body(self, data: bytes) -> None:
        if self._response is not None:
            self._response.on_data(data)

    def on_message_complete(self) -> None:
        response, keep = self._response, self._parser.should_keep_alive()
        if response is None or self._parser.get_status_code() < 200:
            return
        self._response = None
        response.on_complete()
        if keep and not self.closed and len(self._idle) < IDLE_CONNECTIONS:
            self.idle_since = asyncio.get_running_loop().time()
            self._idle.append(self)
        else:
            self._transport.close()

    def _fail(self, error: ApiError, cause: BaseException | None) -> None:
        error.__cause__ = cause
        if self._response is not None:
            self._response.on_error(error)


class Client:
    """Connections to every upstream, kept alive between requests. One per event loop."""

    def __init__(self, pacer: Pacer, timeouts: Timeouts | None = None) -> None:
        self._pacer = pacer
        self._timeouts = timeouts or Timeouts()
        self._idle: dict[tuple[str, str], list[Connection]] = defaultdict(list)
        self._open: set[Connection] = set()
        self._tls: ssl.SSLContext | None = None

    def with_timeouts(self, timeouts: Timeouts) -> Client:
        """The same connections under other timeouts."""
        other = Client(self._pacer, timeouts)
        other._idle, other._open = self._idle, self._open
        return other

    @asynccontextmanager
    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, deadline: float
    ) -> AsyncIterator[Response]:
        """Send a POST and yield its response once the head is there. Raises `ApiError` subclasses only."""
        response = await self._exchange("POST", url, headers, body, deadline)
        try:
            yield response
        finally:
            response.close()

    @asynccontextmanager
    async def get(self, url: str, headers: Mapping[str, str], *, deadline: float) -> AsyncIterator[Response]:
        """Send a GET and yield its response once the head is there. Raises `ApiError` subclasses only."""
        response = await self._exchange("GET", url, headers, b"", deadline)
        try:
            yield response
        finally:
            response.close()

    async def close(self) -> None:
        """Abort every connection, running exchanges included, and wait until the sockets are closed."""
        connections = tuple(self._open)
        for connection in connections:
            connection.abort()
        await asyncio.gather(*(connection.lost for connection in connections))

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, deadline: float
    ) -> Response:
        target = urlsplit(url)
        request = _render(method, target, headers, body)
        connection = self._reusable(target)
        if connection is not None:
            try:
                return await self._start(connection, request, deadline)
            except StaleConnection:
                pass  # the upstream had hung up in between, so it has not seen the request: a fresh connection may
        return await self._start(await self._connect(target, deadline), request, deadline)

    async def _start(self, connection: Connection, request: bytes, deadline: float) -> Response:
        response = connection.start(request, self._timeouts, deadline)
        try:
            await response.head()
        except BaseException:
            response.close()
            raise
        return response

    def _reusable(self, target: SplitResult) -> Connection | None:
        idle = self._idle[target.scheme, target.netloc]
        now = asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()
            if not connection.closed and now - (connection.idle_since or 0.0) < IDLE_SECONDS:
                return connection
            connection.abort()
        return None

    async def _connect(self, target: SplitResult, deadline: float) -> Connection:
        idle = self._idle[target.scheme, target.netloc]
        port = target.port or (443 if target.scheme == "https" else 80)
        tls = self._tls_context() if target.scheme == "https" else None
        try:
            async with asyncio.timeout(min(self._timeouts.connect, remaining(deadline))):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self._open, idle, self._pacer), target.hostname or "", port, ssl=tls
                )
        except TimeoutError as error:
            raise UpstreamTimeout("The model provider could not be reached in time") from error
        except ssl.SSLError as error:
            raise UpstreamFailed("The model provider's TLS certificate or handshake is not valid") from error
        except (OSError, UnicodeError) as error:  # the latter for host names that IDNA cannot encode
            raise Unavailable("The model provider could not be reached") from error
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


def _render(method: str, target: SplitResult, headers: Mapping[str, str], body: bytes) -> bytes:
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    lines = [f"{method} {path} HTTP/1.1", f"host: {target.netloc.rpartition('@')[2]}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if method == "POST":
        lines.append(f"content-length: {len(body)}")
    if any("\r" in line or "\n" in line for line in lines):
        raise UpstreamFailed("The model provider's URL or headers contain a line break")
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body
