"""The upstream client against a real server that does everything wrong a server can do."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from typing import Self

import pytest
import uvloop

from services.llm.providers.http1 import DRAIN_SECONDS, IDLE_SECONDS, SILENCE, Client, Response
from services.llm.providers.timeouts import Timeouts
from services.runtime.errors import ApiError, Unavailable, UpstreamFailed, UpstreamTimeout
from services.runtime.pacing import Pacer
from tests.clock import movable, run_movable
from tests.fake_upstream import (
    CLOSE,
    LAST_CHUNK,
    RESET,
    STALL,
    STREAM_HEAD,
    Act,
    FakeUpstream,
    Step,
    chunked,
    head,
    http,
    pieces,
    sse,
)

OK = http(200, {"x-said": "yes"}, b"ok")
FOREVER = 600.0
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
MIB = 1024 * 1024


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


class Scene:
    """A client and the upstream it talks to; `async with` closes what the client kept."""

    def __init__(self, upstream: FakeUpstream, timeouts: Timeouts | None = None) -> None:
        self.upstream = upstream
        self.client = Client(Pacer(), timeouts or Timeouts())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        await settled()

    def post(self, body: bytes = b"{}", *, seconds: float = FOREVER) -> AbstractAsyncContextManager[Response]:
        deadline = asyncio.get_running_loop().time() + seconds
        return self.client.post(f"{self.upstream.url}/x", {"x-key": "k"}, body, deadline=deadline)

    async def read(self, *, seconds: float = FOREVER) -> bytes:
        async with self.post(seconds=seconds) as response:
            return await response.read()


async def read(upstream: FakeUpstream, *acts: Act) -> list[bytes]:
    """The bodies that one client gets from those acts, one request after the other."""
    upstream.script(*acts)
    async with Scene(upstream) as scene:
        return [await scene.read() for _ in acts]


def connections(upstream: FakeUpstream) -> list[int]:
    return [request.connection for request in upstream.requests]


async def test_a_request_is_sent_as_given(upstream: FakeUpstream) -> None:
    upstream.script(OK)
    async with Scene(upstream) as scene, scene.post(b'{"a": 1}') as response:
        assert (response.status, response.headers) == (200, {"x-said": "yes", "content-length": "2"})
        assert await response.read() == b"ok"
    (sent,) = upstream.requests
    assert (sent.method, sent.path, sent.content) == ("POST", "/v1/x", b'{"a": 1}')
    assert sent.headers == {"host": f"127.0.0.1:{upstream.port}", "x-key": "k", "content-length": "8"}


INTERIM = head(103, {"link": "</style.css>"})
HELLO = head(200, {"content-length": "11"}) + b"hello world"
WHOLE: dict[str, Act] = {
    "with a length": [HELLO],
    "in chunks": [STREAM_HEAD, chunked(b"hello"), chunked(b" world"), LAST_CHUNK],
    "until the connection ends": [head(200, {}), b"hello ", b"world", CLOSE],
    "after an interim answer": [INTERIM, HELLO],
    "after an interim answer in the same packet": [INTERIM + HELLO],
}


@pytest.mark.parametrize("act", WHOLE.values(), ids=WHOLE.keys())
async def test_a_whole_body_is_read_however_it_is_framed(upstream: FakeUpstream, act: Act) -> None:
    assert await read(upstream, act) == [b"hello world"]


@pytest.mark.parametrize("act", WHOLE.values(), ids=WHOLE.keys())
async def test_a_whole_body_is_read_byte_by_byte(upstream: FakeUpstream, act: Act) -> None:
    assert await read(upstream, pieces(act, 1)) == [b"hello world"]


BROKEN: dict[str, tuple[Act, str]] = {
    "no answer": ([CLOSE], "broke off"),
    "a reset instead of an answer": ([RESET], "broke off"),
    "half a head": ([b"HTTP/1.1 200 OK\r\ncontent-", CLOSE], "broke off"),
    "less than the length says": ([HELLO[:-1], CLOSE], "broke off"),
    "no last chunk": ([STREAM_HEAD, chunked(b"hello"), CLOSE], "broke off"),
    "a reset inside a chunk": ([STREAM_HEAD, chunked(b"hello")[:4], RESET], "broke off"),
    "a chunk without size": ([STREAM_HEAD, b"hello\r\n", STALL], "not HTTP"),
    "another protocol": ([b"SSH-2.0-OpenSSH_9.6\r\n", STALL], "not HTTP"),
    "an upgrade": ([head(101, {"connection": "upgrade", "upgrade": "h2c"}) + b"\0\0", STALL], "not HTTP"),
    "a compression nobody asked for": (http(200, {"content-encoding": "gzip"}, b"\x1f\x8b"), "gzip"),
}


@pytest.mark.parametrize(("act", "said"), BROKEN.values(), ids=BROKEN.keys())
async def test_an_answer_that_is_not_whole_is_a_failure(upstream: FakeUpstream, act: Act, said: str) -> None:
    with pytest.raises(UpstreamFailed, match=said):
        await read(upstream, act)


async def test_what_came_before_a_break_is_given_first(upstream: FakeUpstream) -> None:
    gate = upstream.gate()
    upstream.script([STREAM_HEAD, chunked(b"hello"), gate, RESET])
    async with Scene(upstream) as scene, scene.post() as response:
        chunks = response.chunks()
        assert await anext(chunks) == b"hello"
        gate.release()
        with pytest.raises(UpstreamFailed, match="broke off"):
            await anext(chunks)


async def test_a_chunk_is_given_before_the_next_one_is_sent(upstream: FakeUpstream) -> None:
    gate, got = upstream.gate(), []
    upstream.script(sse("one", "two", "three", gate=gate))
    async with Scene(upstream) as scene, scene.post() as response:
        gate.release()
        async for data in response.chunks():
            got.append(data)
            gate.release()
    assert got == [b"data: one\n\n", b"data: two\n\n", b"data: three\n\n"]


async def test_a_connection_is_used_again(upstream: FakeUpstream) -> None:
    await read(upstream, OK, sse("a"), OK)
    assert connections(upstream) == [1, 1, 1]


async def test_requests_at_the_same_time_have_connections_of_their_own(upstream: FakeUpstream) -> None:
    upstream.script(OK, OK, OK)
    async with Scene(upstream) as scene:
        await asyncio.gather(scene.read(), scene.read(), scene.read())
    assert sorted(connections(upstream)) == [1, 2, 3]


@pytest.mark.parametrize("act", [[*http(200, {"connection": "close"}, b"ok"), STALL], [head(200, {}), b"ok", CLOSE]])
async def test_a_connection_that_ends_with_its_answer_is_not_used_again(upstream: FakeUpstream, act: Act) -> None:
    assert await read(upstream, act, OK) == [b"ok", b"ok"]
    assert connections(upstream) == [1, 2]


@pytest.mark.parametrize("end", [CLOSE, RESET])
async def test_a_kept_connection_that_the_upstream_has_given_up_is_replaced(upstream: FakeUpstream, end: Step) -> None:
    upstream.script(OK, [end], OK)
    async with Scene(upstream) as scene:
        assert [await scene.read(), await scene.read()] == [b"ok", b"ok"]
    assert connections(upstream) == [1, 1, 2]


async def test_a_fresh_connection_that_breaks_is_not_replaced(upstream: FakeUpstream) -> None:
    with pytest.raises(UpstreamFailed):
        await read(upstream, [CLOSE], OK)
    assert len(upstream.requests) == 1


def test_a_connection_that_was_idle_for_long_is_not_used_again(upstream: FakeUpstream) -> None:
    async def play() -> None:
        async with Scene(upstream) as scene:
            await scene.read()
            movable().advance(IDLE_SECONDS)
            await scene.read()

    upstream.script(OK, OK)
    run_movable(play())
    assert connections(upstream) == [1, 2]


async def test_leaving_early_hangs_up(upstream: FakeUpstream) -> None:
    upstream.script([*sse("one")[:2], STALL])
    async with Scene(upstream) as scene, scene.post() as response, aclosing(response.chunks()) as chunks:
        assert await anext(chunks) == b"data: one\n\n"
    await asyncio.to_thread(upstream.wait_for_hang_up)


async def test_cancelling_while_the_upstream_thinks_hangs_up(upstream: FakeUpstream) -> None:
    upstream.script([STALL])
    async with Scene(upstream) as scene:
        task = asyncio.create_task(scene.read())
        await asyncio.to_thread(upstream.wait_for_posts, 1)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await asyncio.to_thread(upstream.wait_for_hang_up)


async def test_a_drained_body_that_ends_soon_keeps_the_connection(upstream: FakeUpstream) -> None:
    gate = upstream.gate()
    upstream.script([*sse("one")[:2], gate, LAST_CHUNK], OK)
    async with Scene(upstream) as scene:
        async with scene.post() as response, aclosing(response.chunks()) as chunks:
            await anext(chunks)
            response.drain()
        gate.release()
        while not response.complete:  # noqa: ASYNC110  # a flag, no event
            await asyncio.sleep(0)
        assert await scene.read() == b"ok"
    assert connections(upstream) == [1, 1]


def test_a_drained_body_that_does_not_end_is_hung_up_on(upstream: FakeUpstream) -> None:
    async def play() -> None:
        async with Scene(upstream) as scene:
            async with scene.post() as response, aclosing(response.chunks()) as chunks:
                await anext(chunks)
                response.drain()
            movable().advance(DRAIN_SECONDS)
            await asyncio.to_thread(upstream.wait_for_hang_up)

    upstream.script([*sse("one")[:2], STALL])
    run_movable(play())


async def test_nobody_listening_means_unavailable() -> None:
    with FakeUpstream() as gone:
        pass
    with pytest.raises(Unavailable, match="could not be reached"):
        await Scene(gone).read()


async def test_a_host_without_address_means_unavailable() -> None:
    with pytest.raises(Unavailable, match="could not be reached"):
        async with Client(Pacer()).get("http://no-such-host.invalid/v1", {}, deadline=1e9):
            pass


LATE = "did not finish in time"
HALF: Act = [STREAM_HEAD, chunked(b"hello"), STALL]
LIMITS: dict[str, tuple[Act, Timeouts, float, str]] = {
    "no answer at all": ([STALL], Timeouts(first_byte=5), 6, "did not answer for 5 s"),
    "a head and no body": ([STREAM_HEAD, STALL], Timeouts(idle=7), 8, "stopped sending for 7 s"),
    "a body that stops": (HALF, Timeouts(idle=7), 8, "stopped sending for 7 s"),
    "an answer past the deadline": ([STALL], Timeouts(), 101, LATE),
    "a body past the deadline": (HALF, Timeouts(), 101, LATE),
}


@pytest.mark.parametrize(("act", "timeouts", "passing", "said"), LIMITS.values(), ids=LIMITS.keys())
def test_an_upstream_that_stalls_is_given_up(
    upstream: FakeUpstream, act: Act, timeouts: Timeouts, passing: float, said: str
) -> None:
    async def play() -> None:
        async with Scene(upstream, timeouts) as scene:
            reading = asyncio.create_task(scene.read(seconds=100))
            await asyncio.to_thread(upstream.wait_for_posts, 1)
            await settled()
            movable().advance(passing)
            await reading

    upstream.script(act)
    with pytest.raises(UpstreamTimeout, match=said):
        run_movable(play())
    upstream.wait_for_hang_up()


def test_the_limit_between_bytes_counts_from_the_head_on(upstream: FakeUpstream) -> None:
    async def play() -> bytes:
        async with Scene(upstream, Timeouts(first_byte=60, idle=2)) as scene:
            reading = asyncio.create_task(scene.read())
            await asyncio.to_thread(upstream.wait_for_posts, 1)
            movable().advance(50)
            gate.release(2)
            return await reading

    gate = upstream.gate()
    upstream.script([gate, STREAM_HEAD, gate, chunked(b"slow"), LAST_CHUNK])
    assert run_movable(play()) == b"slow"


def test_silence_is_marked_by_empty_chunks(upstream: FakeUpstream) -> None:
    async def play() -> list[bytes]:
        got = []
        async with Scene(upstream) as scene, scene.post() as response:
            async for data in response.chunks():
                got.append(data)
                if data:
                    movable().advance(SILENCE)
                else:
                    gate.release()
        return got

    gate = upstream.gate()
    upstream.script([STREAM_HEAD, chunked(b"a"), gate, chunked(b"b"), gate, LAST_CHUNK])
    assert run_movable(play()) == [b"a", b"", b"b", b""]


def test_a_reader_that_is_slow_is_not_the_upstream_s_silence(upstream: FakeUpstream) -> None:
    async def play() -> int:
        async with Scene(upstream, Timeouts(idle=20)) as scene, scene.post() as response:
            chunks = response.chunks()
            size = len(await anext(chunks))
            await settled()
            movable().advance(30)
            await settled()
            async for data in chunks:
                size += len(data)
        return size

    upstream.script(http(200, {}, bytes(30 * MIB)))
    assert run_movable(play()) == 30 * MIB


async def test_a_body_is_not_read_faster_than_it_is_taken(upstream: FakeUpstream) -> None:
    upstream.script(http(200, {}, bytes(64 * MIB)))
    async with Scene(upstream) as scene, scene.post() as response, aclosing(response.chunks()) as chunks:
        await anext(chunks)
        await settled()
        assert len(await anext(chunks)) < 4 * MIB


async def test_a_connection_whose_long_body_nobody_took_still_carries_the_next_answer(upstream: FakeUpstream) -> None:
    upstream.script(http(200, {}, bytes(MIB + 1)), OK)
    async with Scene(upstream) as scene:
        async with scene.post() as response:
            while not response.complete:  # noqa: ASYNC110  # a flag, no event
                await asyncio.sleep(0)
        assert await scene.read() == b"ok"
    assert connections(upstream) == [1, 1]


async def test_a_body_above_the_limit_is_refused(upstream: FakeUpstream) -> None:
    upstream.script(http(200, {}, bytes(100_000)))
    async with Scene(upstream) as scene, scene.post() as response:
        with pytest.raises(UpstreamFailed, match="too large"):
            await response.read(1000)


@pytest.mark.parametrize("name", ["x-bad\r\ninjected: yes", "x-bad\ninjected", "x-bad\rinjected"])
async def test_a_header_cannot_smuggle_another(upstream: FakeUpstream, name: str) -> None:
    async with Scene(upstream) as scene:
        with pytest.raises(ApiError, match="line break"):
            async with scene.client.get(upstream.url, {name: "1"}, deadline=1e9):
                pass
    assert upstream.requests == []


async def test_bytes_that_nobody_asked_for_end_a_kept_connection(upstream: FakeUpstream) -> None:
    two = b"".join(each for each in (*OK, *OK) if isinstance(each, bytes))
    assert await read(upstream, [two], OK) == [b"ok", b"ok"]
    assert connections(upstream) == [1, 2]


async def settled() -> None:
    """Let what is already under way on the sockets arrive."""
    for _ in range(200):
        await asyncio.sleep(0)
