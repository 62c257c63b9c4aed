"""Server-sent events: how they begin, how they end, and how they break."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody

from services.runtime import call as calls
from services.runtime.call import Call
from services.runtime.errors import ApiError, Internal, UpstreamFailed
from services.runtime.httpbody import Broken, write_events


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
        return context.heard, broken.last


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
