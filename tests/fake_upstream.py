"""A model provider whose every byte is scripted: a real HTTP/1.1 server on a port of its own, in a thread of its own.

Tests of any event loop, and server processes, talk to it as to any upstream. Each POST plays the next act of the script
(`default` when the script is empty). An act is a list of steps on the wire, so that whatever a server can do wrong can
be written down, and a cut is a slice of a list:

    with FakeUpstream() as upstream:
        upstream.script(status(503), stream("Hello", " world"))
        upstream.script([*stream("Hello", " world")[:2], RESET])     # breaks off after the first token
        gate = upstream.gate()
        upstream.script(stream("Hello", " world", gate=gate))        # each event waits for gate.release()
        ...
        assert upstream.requests[0].body["model"] == "m"
        upstream.wait_for_hang_up()                                  # blocks; in async tests: asyncio.to_thread
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, cast

import httptools

PATIENCE = 5.0
"""Seconds after which what a test waits for is not going to happen."""

USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 429: "Too Many Requests", 503: "Service Unavailable"}
Json = dict[str, Any]


class Word:
    """A step that is not bytes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


STALL = Word("STALL")
"""Nothing more, until the client hangs up."""
CLOSE = Word("CLOSE")
"""A clean end of the connection, wherever the answer is."""
RESET = Word("RESET")
"""A TCP reset."""


class Gate:
    """A step that waits until the test lets it pass; each release lets one pass."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._passes = asyncio.Semaphore(0)

    def release(self, times: int = 1) -> None:
        """May be called from any thread."""
        for _ in range(times):
            self._loop.call_soon_threadsafe(self._passes.release)

    async def passed(self) -> None:
        await self._passes.acquire()


Step = bytes | Word | Gate
Act = Sequence[Step]


@dataclass
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]
    content: bytes
    connection: int
    """Number of the connection it came over: equal numbers prove that it was kept alive."""
    hung_up: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the client ended the connection before its answer was through."""

    @property
    def body(self) -> Any:
        return json.loads(self.content)


def answer(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Act:
    """A whole JSON answer."""
    return http(status, {"content-type": "application/json", **(headers or {})}, json.dumps(value).encode())


def status(code: int, value: Any = None, *, headers: dict[str, str] | None = None) -> Act:
    """An error in OpenAI's envelope, or with `value` as its body."""
    error = {"error": {"message": f"scripted {code}", "type": "scripted", "param": None, "code": None}}
    return answer(error if value is None else value, status=code, headers=headers)


def page(code: int, html: str = "<html><body>Bad gateway</body></html>") -> Act:
    """What a proxy in front of a dead engine says."""
    return http(code, {"content-type": "text/html"}, html.encode())


def http(code: int, headers: dict[str, str], body: bytes) -> Act:
    """Any whole answer with a length."""
    return [head(code, {**headers, "content-length": str(len(body))}) + body]


def head(code: int, headers: dict[str, str]) -> bytes:
    """A status line and headers, exactly as given."""
    lines = [
        f"HTTP/1.1 {code} {REASONS.get(code, 'Scripted')}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


STREAM_HEAD = head(200, {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"})
LAST_CHUNK = b"0\r\n\r\n"


def chunked(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(payload: Any, *, newline: bytes = b"\n") -> bytes:
    """One server-sent event; bytes and strings as they are, anything else as JSON."""
    data = payload if isinstance(payload, bytes) else payload.encode() if isinstance(payload, str) else _dump(payload)
    return b"data: " + data + newline * 2


def sse(*payloads: Any, gate: Gate | None = None, newline: bytes = b"\n") -> Act:
    """A stream: its head, one step for each payload (after `gate`, if there is one), its end.

    A payload is what `event` takes, or something that is no event: `Raw` bytes, a Gate, STALL, CLOSE, RESET.
    """
    steps: list[Step] = [STREAM_HEAD]
    for payload in payloads:
        if gate is not None:
            steps.append(gate)
        if isinstance(payload, Word | Gate):
            steps.append(payload)
        else:
            steps.append(chunked(payload.data if isinstance(payload, Raw) else event(payload, newline=newline)))
    return [*steps, LAST_CHUNK]


@dataclass(frozen=True)
class Raw:
    """Bytes of a stream that are not an event: a comment, half an event, two of them."""

    data: bytes


def stream(
    *words: str,
    usage: Json | None = USAGE,
    finish_reason: str | None = "stop",
    done: bool = True,
    gate: Gate | None = None,
    newline: bytes = b"\n",
) -> Act:
    """A chat stream: the head, one step for each word, then finish reason, usage and `[DONE]`, each unless left out."""
    payloads: list[Any] = [chunk({"role": "assistant", "content": word}) for word in words[:1]]
    payloads += [chunk({"content": word}) for word in words[1:]]
    if finish_reason is not None:
        payloads.append(chunk({}, finish_reason=finish_reason))
    if usage is not None:
        payloads.append({**chunk({}), "choices": [], "usage": usage})
    if done:
        payloads.append("[DONE]")
    return sse(*payloads, gate=gate, newline=newline)


def chunk(delta: Json, *, finish_reason: str | None = None, index: int = 0, **members: Any) -> Json:
    """One `chat.completion.chunk` with one choice; `members` replace or add to its own."""
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 1760000000,
        "model": "fake",
        "choices": [choice],
        **members,
    }


def completion(*texts: str, usage: Json | None = USAGE, **members: Any) -> Json:
    """A whole `chat.completion` with one choice for each text."""
    choices = [
        {"index": index, "message": {"role": "assistant", "content": text}, "logprobs": None, "finish_reason": "stop"}
        for index, text in enumerate(texts)
    ]
    whole = {"id": "chatcmpl-fake", "object": "chat.completion", "created": 1760000000, "model": "fake"}
    return {**whole, "choices": choices, **({} if usage is None else {"usage": usage}), **members}


def pieces(act: Act, size: int) -> Act:
    """The same bytes in writes of `size` bytes, wherever that cuts them."""
    split: list[Step] = []
    for step in act:
        split += [step[at : at + size] for at in range(0, len(step), size)] if isinstance(step, bytes) else [step]
    return split


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class FakeUpstream:
    """The server. `default` makes the act for requests that the script has none for."""

    def __init__(self, *, models: Iterable[str] = ("fake",)) -> None:
        self.requests: list[Request] = []
        self.models: Act = answer({"object": "list", "data": [{"id": name, "object": "model"} for name in models]})
        self.default: Callable[[Request], Act] = reply
        self.connections = 0
        self._acts: deque[Act] = deque()
        self._news = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake upstream", daemon=True)
        self._open: set[_Connection] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._run(self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    @property
    def url(self) -> str:
        """What a provider is configured with."""
        return f"http://127.0.0.1:{self.port}/v1"

    def script(self, *acts: Act) -> None:
        """What the next POSTs get, in this order, after what is scripted already."""
        self._acts.extend(acts)

    def gate(self) -> Gate:
        """A gate for an act of this upstream."""
        return Gate(self._loop)

    @property
    def posts(self) -> list[Request]:
        """The requests that played an act, in the order they came."""
        return [request for request in self.requests if request.method == "POST"]

    def wait_for_posts(self, count: int) -> list[Request]:
        """Block until that many POSTs have come, and return them."""
        with self._news:
            if not self._news.wait_for(lambda: len(self.posts) >= count, PATIENCE):
                raise AssertionError(f"{len(self.posts)} of {count} requests came within {PATIENCE} s")
            return self.posts

    def wait_for_hang_up(self, *, post: int = 0, within: float = PATIENCE) -> None:
        """Block until the client has ended the connection of that POST before its answer was through."""
        if not self.wait_for_posts(post + 1)[post].hung_up.wait(within):
            raise AssertionError(f"the client did not hang up within {within} s")

    def forget(self) -> None:
        """Begin anew for the next test: no script, no requests, the usual default."""
        with self._news:
            self._acts.clear()
            self.requests.clear()
            self.default = reply

    def hang_up(self) -> None:
        """Close every connection, also those that are kept alive between requests."""
        self._run(self._close_connections())

    def stop_listening(self) -> None:
        """Refuse new connections, as a server does that is down."""
        self._run(self._refuse())
        self._run(self._close_connections())

    def _act_for(self, request: Request) -> Act:
        with self._news:
            self.requests.append(request)
            self._news.notify_all()
        if request.method == "GET":
            return self.models if request.path.endswith("/models") else status(404)
        return self._acts.popleft() if self._acts else self.default(request)

    async def _stop(self) -> None:
        await self._refuse()
        await self._close_connections()

    async def _refuse(self) -> None:
        """Close the listening socket, but not under a connection that is being accepted, which asyncio would leak."""
        while accepting := [each for each in asyncio.all_tasks() if "_accept_connection" in repr(each.get_coro())]:
            await asyncio.gather(*accepting)
        self._server.close()

    async def _close_connections(self) -> None:
        open_now = tuple(self._open)
        for connection in open_now:
            connection.transport.abort()
        await asyncio.gather(*(connection.ended.wait() for connection in open_now))

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)


def reply(request: Request) -> Act:
    """A friendly upstream: vectors, a stream or a whole answer, as the request asks."""
    body = request.body
    if request.path.endswith("/embeddings"):
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        rows = [{"object": "embedding", "index": index, "embedding": [0.5, -1.0]} for index, _ in enumerate(texts)]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        return answer({"object": "list", "data": rows, "model": body["model"], "usage": usage})
    if request.path.endswith("/chat/completions"):
        return stream("Hello", " world") if body.get("stream") else answer(completion("Hello world"))
    return _text_stream() if body.get("stream") else answer(_text("Hello world", "stop", usage=USAGE))


def _text_stream() -> Act:
    return sse(
        _text("Hello", None), _text(" world", "stop"), {**_text("", None), "choices": [], "usage": USAGE}, "[DONE]"
    )


def _text(text: str, finish_reason: str | None, **members: Any) -> Json:
    choice = {"index": 0, "text": text, "finish_reason": finish_reason, "logprobs": None}
    whole = {"id": "cmpl-fake", "object": "text_completion", "created": 1760000000, "model": "fake"}
    return {**whole, "choices": [choice], **members}


class _Connection(asyncio.Protocol):
    """One connection: requests are parsed and answered one after the other."""

    def __init__(self, upstream: FakeUpstream) -> None:
        self.ended = asyncio.Event()
        self._upstream = upstream
        self._parser = httptools.HttpRequestParser(self)
        self._headers: dict[str, str] = {}
        self._content: list[bytes] = []
        self._path = ""
        self._request: Request | None = None
        self._playing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._upstream.connections += 1
        self._number = self._upstream.connections
        self._upstream._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream._open.discard(self)
        if self._playing is not None and not self._playing.done():
            self._playing.cancel()
        if self._request is not None:
            self._request.hung_up.set()
        self.ended.set()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_url(self, url: bytes) -> None:
        self._path = url.decode()
        self._headers, self._content = {}, []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._content.append(body)

    def on_message_complete(self) -> None:
        method, content = self._parser.get_method().decode(), b"".join(self._content)
        self._request = Request(method, self._path, self._headers, content, self._number)
        self._playing = asyncio.get_running_loop().create_task(self._play(self._upstream._act_for(self._request)))

    async def _play(self, act: Act) -> None:
        for step in act:
            if isinstance(step, bytes):
                self.transport.write(step)
                await asyncio.sleep(0)
            elif isinstance(step, Gate):
                await step.passed()
            elif step is STALL:
                await self.ended.wait()
            else:
                self._end(abruptly=step is RESET)
                return
        self._request = None

    def _end(self, *, abruptly: bool) -> None:
        self._request = None
        if abruptly:
            linger = struct.pack("ii", 1, 0)  # what is not sent yet is thrown away, and the peer gets RST
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()
        else:
            self.transport.close()
