"""Requests that are streams: counted, bounded in time, read to their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from google.api.httpbody_pb2 import HttpBody

from services.runtime import call
from services.runtime.call import Call
from services.runtime.errors import RequestTimeout, TooLarge
from services.runtime.pieces import Pieces


class Body:
    """A client that sends pieces of one byte, and afterwards nothing, not even an end, when it is `silent`."""

    def __init__(self, size: int, *, silent: bool = False) -> None:
        self.taken = 0
        self._size = size
        self._silent = silent

    async def messages(self) -> AsyncGenerator[HttpBody, None]:
        for _ in range(self._size):
            self.taken += 1
            yield HttpBody(data=b"x")
        if self._silent:
            await asyncio.Event().wait()


def enter(seconds: float = 30) -> None:
    call.enter(Call("req_1", asyncio.get_running_loop().time() + seconds, None))


async def test_a_body_of_the_largest_size_passes_and_a_larger_one_does_not() -> None:
    enter()
    assert len([piece async for piece in Pieces(Body(10).messages(), 10)]) == 10
    pieces = Pieces(Body(11).messages(), 10)
    with pytest.raises(TooLarge, match="larger than 10 bytes"):
        [piece async for piece in pieces]


async def test_messages_that_are_no_body_are_not_counted() -> None:
    enter()
    assert len([piece async for piece in Pieces(Body(100).messages(), None)]) == 100


async def test_an_end_stays_an_end() -> None:
    enter()
    pieces = Pieces(Body(1).messages(), 10)
    assert await anext(pieces, None) == HttpBody(data=b"x")
    assert await anext(pieces, None) is None
    assert await anext(pieces, None) is None
    await pieces.skip()


async def test_a_client_that_stays_silent_is_given_up_at_the_deadline_of_the_call() -> None:
    enter(seconds=0.05)
    pieces = Pieces(Body(1, silent=True).messages(), 10)
    assert await anext(pieces) == HttpBody(data=b"x")
    with pytest.raises(RequestTimeout):
        await anext(pieces)


@pytest.mark.parametrize(("size", "taken"), [(1, 1), (15, 15), (20, 20), (100, 21)])
async def test_the_rest_is_read_up_to_twice_the_limit(size: int, taken: int) -> None:
    enter()
    body = Body(size)
    pieces = Pieces(body.messages(), 10)
    await anext(pieces)
    await pieces.skip()
    assert body.taken == taken


async def test_the_rest_is_not_waited_for_for_ever() -> None:
    enter()
    async with asyncio.timeout(5):
        await Pieces(Body(1, silent=True).messages(), 10).skip(patience=0.05)


async def test_a_call_that_is_cancelled_in_the_moment_after_the_end_has_no_end() -> None:
    enter()
    ended = asyncio.Event()

    async def messages() -> AsyncGenerator[HttpBody, None]:
        yield HttpBody(data=b"x")
        ended.set()

    async def read() -> int:
        return len([piece async for piece in Pieces(messages(), 10)])

    task = asyncio.create_task(read())
    await ended.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
