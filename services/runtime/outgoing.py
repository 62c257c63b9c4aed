"""Fetches what users name by URL, and nothing that is not theirs to reach (`addresses.py`). The only place that knows
httpcore.

    async with fetcher.get(url, param="source.url", limits=Limits(seconds=15, most=20 * 1024**2)) as answer:
        answer.require_success()
        async for piece in answer.body: ...

Nothing of ours goes out with a request: no cookies, no credentials, no Referer; no proxy of the environment is used.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace

import httpcore

from services.runtime.addresses import Guard
from services.runtime.errors import InvalidRequest, UpstreamTimeout
from services.runtime.fetched import Answer, Limits, body, failed
from services.runtime.urls import Url, parse

REDIRECTS = 3
_TRIES = 4  # addresses of one name
_BEFORE_ANSWER = 80 * 1024  # bytes, the head of the answer included
_CRUMB = 64  # bytes that a piece must have on average when there are many: each costs time, not only its bytes
_FEW = 1000
_MOVED = {301, 302, 303, 307, 308}
_OURS = {"host", "user-agent", "accept-encoding", "connection", "content-length", "transfer-encoding"}
_BROKEN = (httpcore.NetworkError, httpcore.ProtocolError, OSError)


class _Connection(httpcore.AsyncHTTP11Connection):
    READ_NUM_BYTES = 16 * 1024  # parsed in one go, which can take long when a server wants it to
    MAX_INCOMPLETE_EVENT_SIZE = 64 * 1024  # bytes of a head, or of a line between chunks


class _Stream(httpcore.AsyncNetworkStream):
    """The connection; it breaks when a server says for too long that it is about to answer (1xx)."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._silent_bytes = 0
        self.answered = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore's
        received = await self._stream.read(max_bytes, timeout)
        self._silent_bytes += len(received)
        if not self.answered and self._silent_bytes > _BEFORE_ANSWER:
            raise httpcore.RemoteProtocolError("too much before the answer")
        return received

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # httpcore's
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()


@dataclass(frozen=True)
class _Question:
    method: str
    limits: Limits
    until: float
    headers: Mapping[str, str]
    content: bytes = b""


class Fetcher:
    """Every fetch has a connection of its own, over HTTP/1.1; `tls` replaces the usual certificate authorities.

    The methods raise `InvalidRequest` with `param` (`invalid_url`, `url_not_allowed`), also for where a redirect leads;
    `UpstreamTimeout` (`fetch_timeout`) and `UpstreamFailed` (`fetch_failed`). No message tells an address."""

    def __init__(self, guard: Guard, *, user_agent: str, tls: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        self._user_agent = user_agent
        self._tls = tls or httpcore.default_ssl_context()
        self._network = httpcore.AnyIOBackend()

    @asynccontextmanager
    async def get(
        self, url: str, *, param: str, limits: Limits, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Answer]:
        """GET, through at most three redirects. `headers` go to the server of `url` and no other, except `accept`."""
        question = _Question("GET", limits, _now() + limits.seconds, _plain(headers))
        async with AsyncExitStack() as stack:
            with _blaming(param):
                answer = await self._followed(question, parse(url), stack)
            yield answer

    @asynccontextmanager
    async def post(
        self, url: str, content: bytes, *, param: str, limits: Limits, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Answer]:
        """POST; JSON unless `headers` name another content type. A redirect is an answer like others, not followed."""
        sent = {"content-type": "application/json", **_plain(headers), "content-length": str(len(content))}
        question = _Question("POST", limits, _now() + limits.seconds, sent, content)
        async with AsyncExitStack() as stack:
            with _blaming(param):
                answer = await self._asked(question, parse(url), stack)
            yield answer

    def close(self) -> None:
        """Begin nothing more."""
        self._guard.close()

    async def _followed(self, question: _Question, start: Url, stack: AsyncExitStack) -> Answer:
        url = start
        for _ in range(1 + REDIRECTS):
            answer = await self._asked(question if url.origin == start.origin else _for_others(question), url, stack)
            location = answer.headers.get("location")
            if answer.status not in _MOVED or location is None:
                return answer
            await stack.aclose()
            url = url.joined(location)
        raise failed(f"The URL redirects more than {REDIRECTS} times.")

    async def _asked(self, question: _Question, url: Url, stack: AsyncExitStack) -> Answer:
        """One exchange; `stack` gets what is to be closed after it."""
        async with _in_time(question.until):
            addresses = await self._guard.addresses(url)
            stream = _Stream(await self._dialled(url, addresses[:_TRIES], question.until))
            connection = _Connection(_origin(url), stream)
            stack.push_async_callback(connection.aclose)
            response = await connection.handle_async_request(self._request(question, url))
            stream.answered = True
        headers = _received(response)
        pieces = body(_pieces(response, question.until), headers, question.limits)
        return Answer(url, response.status, headers, await stack.enter_async_context(aclosing(pieces)))

    async def _dialled(self, url: Url, addresses: list[str], until: float) -> httpcore.AsyncNetworkStream:
        """The first address that takes the connection; each gets its share of the time."""
        for index, address in enumerate(addresses):
            share = (until - _now()) / (len(addresses) - index)
            try:
                return await self._connected(url, address, share)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if index == len(addresses) - 1:
                    raise
        raise AssertionError("the guard gives at least one address")

    async def _connected(self, url: Url, address: str, seconds: float) -> httpcore.AsyncNetworkStream:
        stream = await self._network.connect_tcp(address, url.port, timeout=seconds)
        if url.scheme == "http":
            return stream
        return await stream.start_tls(self._tls, server_hostname=url.host, timeout=seconds)  # closes it on failure

    def _request(self, question: _Question, url: Url) -> httpcore.Request:
        ours = {
            "host": url.authority,
            "user-agent": self._user_agent,
            "accept": "*/*",
            "accept-encoding": "gzip" if question.limits.unpack else "identity",
            "connection": "close",
        }
        target = httpcore.URL(
            scheme=url.scheme.encode(), host=url.host.encode(), port=url.port, target=url.target.encode()
        )
        return httpcore.Request(
            question.method, target, headers=list({**ours, **question.headers}.items()), content=question.content
        )


async def _pieces(response: httpcore.Response, until: float) -> AsyncGenerator[bytes, None]:
    """The body as it comes, in time."""
    sent = aiter(response.aiter_stream())
    count = size = 0
    while count <= _FEW + size // _CRUMB:
        async with _in_time(until):
            piece = await anext(sent, None)
        if piece is None:
            return
        yield piece
        count, size = count + 1, size + len(piece)
    raise failed("The server of the URL sent its answer in crumbs.")


def _origin(url: Url) -> httpcore.Origin:
    return httpcore.Origin(url.scheme.encode(), url.host.encode(), url.port)


def _received(response: httpcore.Response) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for raw, value in response.headers:
        name, text = raw.decode("ascii").lower(), value.decode("utf-8", "replace")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


def _plain(headers: Mapping[str, str] | None) -> dict[str, str]:
    """What a caller may add: anything but what frames the message or is ours to say."""
    return {name.lower(): value for name, value in (headers or {}).items() if name.lower() not in _OURS}


def _for_others(question: _Question) -> _Question:
    return replace(question, headers={name: value for name, value in question.headers.items() if name == "accept"})


@contextmanager
def _blaming(param: str) -> Iterator[None]:
    try:
        yield
    except InvalidRequest as error:
        error.param = param
        raise


@asynccontextmanager
async def _in_time(until: float) -> AsyncIterator[None]:
    """What goes wrong outside becomes one of our errors. Nothing may be awaited in here but the outside."""
    try:
        async with asyncio.timeout_at(until):
            yield
    except (TimeoutError, httpcore.TimeoutException) as error:
        raise UpstreamTimeout("The server of the URL did not answer in time.", code="fetch_timeout") from error
    except _BROKEN as error:
        raise failed("The server of the URL could not be reached, or broke off its answer.") from error


def _now() -> float:
    return asyncio.get_running_loop().time()
