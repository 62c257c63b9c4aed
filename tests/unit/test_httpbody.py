"""Streamed answers, of events and of bytes: how they begin, how they end, and how they break."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import grpc
import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import DecodeError

from services.runtime import call as calls
from services.runtime.call import Call
from services.runtime.errors import ApiError, Internal, UpstreamFailed
from services.runtime.httpbody import Broken, write_bytes, write_events


class Context:
    """Hears what is written."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    async def write(self, message: bytes) -> None:
        body = HttpBody.FromString(message)
        assert body.content_type == "text/event-stream"
        self.heard.append(body.data)


async def said(*batches: list[bytes] | Exception) -> tuple[list[bytes], HttpBody]:
    """What is written of these batches, and the last message; an exception is where they break."""

    async def generate() -> AsyncGenerator[list[bytes], None]:
        for batch in batches:
            if isinstance(batch, Exception):
                raise batch
            yield batch

    calls.enter(Call("req_1", asyncio.get_running_loop().time(), None))
    context = Context()
    try:
        return context.heard, await write_events(cast(Any, context), generate())
    except Broken as broken:
        return context.heard, cast(HttpBody, broken.last)


async def test_batches_become_events_and_silence_a_comment() -> None:
    heard, last = await said([], [b"1", b"2"], [], [b"3"])
    assert heard == [b"data: 1\n\ndata: 2\n\n", b": ping\n\n", b"data: 3\n\n"]
    assert last == HttpBody(content_type="text/event-stream", data=b"data: [DONE]\n\n")


async def test_a_stream_that_fails_before_its_first_event_is_an_error_as_any() -> None:
    with pytest.raises(UpstreamFailed):
        await said([], UpstreamFailed("It broke"))


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (UpstreamFailed("It broke"), UpstreamFailed("It broke")),
        (RuntimeError("password=hunter2"), Internal("The server failed")),
    ],
)
async def test_a_stream_that_breaks_says_so_last(error: Exception, shown: ApiError) -> None:
    heard, last = await said([b"1"], error)
    assert heard == [b"data: 1\n\n"]
    assert orjson.loads(last.data.removeprefix(b"data: ")) == shown.envelope("req_1")


class FileContext:
    """Hears what goes before the first message, and each message."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    async def send_initial_metadata(self, metadata: Any) -> None:
        self.heard.append(tuple(metadata))

    async def write(self, message: bytes) -> None:
        self.heard.append(HttpBody.FromString(message))


async def file_of(*pieces: bytes | Exception) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        if isinstance(piece, Exception):
            raise piece
        yield piece


FILE = {"content-type": "image/png", "content-length": "4", "etag": '"x"'}
BEFORE = (("x-http-status", "206"), ("x-content-length", "4"), ("etag", '"x"'))


async def test_a_file_is_its_headers_and_its_pieces() -> None:
    context = FileContext()
    last = await write_bytes(cast(Any, context), 206, FILE, file_of(b"ab", b"cd"))
    assert context.heard == [BEFORE, *(HttpBody(content_type="image/png", data=each) for each in (b"ab", b"cd"))]
    assert last == HttpBody(content_type="image/png")


async def test_headers_alone_need_no_file() -> None:
    context = FileContext()
    assert await write_bytes(cast(Any, context), 206, FILE, None) == HttpBody(content_type="image/png")
    assert context.heard == [BEFORE]


async def test_a_file_that_fails_before_its_first_piece_is_an_error_as_any() -> None:
    context = FileContext()
    with pytest.raises(UpstreamFailed):
        await write_bytes(cast(Any, context), 206, FILE, file_of(UpstreamFailed("It broke")))
    assert context.heard == []


async def test_a_reader_who_leaves_ends_the_call_and_is_no_fault() -> None:
    class Left(FileContext):
        async def write(self, message: bytes) -> None:
            raise grpc.aio.InternalError("send_message failed")

    file = file_of(b"ab", b"cd")
    with pytest.raises(asyncio.CancelledError):
        await write_bytes(cast(Any, Left()), 206, FILE, file)
    with pytest.raises(StopAsyncIteration):  # it has been closed
        await anext(file)


@pytest.mark.parametrize(("error", "kind"), [(UpstreamFailed("It broke"), UpstreamFailed), (RuntimeError(), Internal)])
async def test_a_file_that_breaks_ends_with_what_is_no_message(error: Exception, kind: type[ApiError]) -> None:
    context = FileContext()
    with pytest.raises(Broken) as broken:
        await write_bytes(cast(Any, context), 206, FILE, file_of(b"ab", error))
    assert isinstance(broken.value.error, kind)
    with pytest.raises(DecodeError):
        HttpBody.FromString(broken.value.last)
