"""What is in memory of many uploads at once is bounded, and slow clients do not hold up fast ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from services.media.intake import Intake
from services.runtime.errors import RequestTimeout

FOREVER = 3600.0


class Client:
    """An upload whose pieces come when the test says so; `asked` is set while one is waited for."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

    def send(self, *pieces: bytes | None) -> None:
        """None is the end."""
        for piece in pieces:
            self._pieces.put_nowait(piece)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self.asked.set()
        piece = await self._pieces.get()
        if piece is None:
            raise StopAsyncIteration
        return piece


async def received(intake: Intake, client: Client) -> list[bytes]:
    async with aclosing(intake.pieces(client)) as pieces:
        return [piece async for piece in pieces]


async def test_the_pieces_come_as_they_are() -> None:
    client = Client()
    client.send(b"a", b"", b"c", None)
    assert await received(Intake(at_once=1), client) == [b"a", b"", b"c"]


async def test_only_so_many_pieces_are_read_at_once() -> None:
    intake, clients = Intake(at_once=2, patience=FOREVER), [Client() for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(received(intake, client)) for client in clients]
        await clients[0].asked.wait()
        await clients[1].asked.wait()
        assert not clients[2].asked.is_set()
        clients[0].send(b"a", None)
        await clients[2].asked.wait()
        clients[1].send(None)
        clients[2].send(b"c", None)
    assert [task.result() for task in tasks] == [[b"a"], [], [b"c"]]


async def test_a_place_is_held_until_the_piece_is_done_with() -> None:
    intake, first, second = Intake(at_once=1, patience=FOREVER), Client(), Client()
    first.send(b"a", None)
    async with aclosing(intake.pieces(first)) as pieces:
        assert await anext(pieces) == b"a"
        other = asyncio.create_task(received(intake, second))
        await asyncio.sleep(0)
        assert not second.asked.is_set()
    second.send(None)
    assert await other == []


async def test_a_slow_client_does_not_hold_up_a_fast_one() -> None:
    intake, slow, fast = Intake(at_once=1, patience=0.01), Client(), Client()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(received(intake, slow))
        await slow.asked.wait()
        fast.send(*[b"x"] * 50, None)
        assert len(await received(intake, fast)) == 50
        slow.asked.clear()
        slow.send(b"at last")
        await slow.asked.wait()  # slow from now on
        fast.send(*[b"x"] * 50, None)
        assert len(await received(intake, fast)) == 50
        slow.send(None)
    assert task.result() == [b"at last"]


async def test_a_client_that_is_silent_for_too_long_is_given_up_and_its_place_is_free() -> None:
    intake = Intake(at_once=1, silence=0.01)
    with pytest.raises(RequestTimeout):
        await received(intake, Client())
    client = Client()
    client.send(b"a", None)
    assert await received(intake, client) == [b"a"]


async def test_a_client_that_goes_leaves_its_place() -> None:
    intake, gone, other = Intake(at_once=1, patience=FOREVER), Client(), Client()
    task = asyncio.create_task(received(intake, gone))
    await gone.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    other.send(b"a", None)
    assert await received(intake, other) == [b"a"]
