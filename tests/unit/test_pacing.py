"""When streams are woken: at once with few of them, together with many."""

import asyncio
from contextlib import ExitStack

from services.runtime.pacing import IMMEDIATE_BELOW, LONGEST_TICK, Pacer
from tests.clock import movable, run


def woken_after(streams: int, *, waiters: int = 3) -> list[float]:
    """How long each of some waiters sleeps when all are woken at once, while that many streams are active."""

    async def scene() -> list[float]:
        pacer = Pacer()
        with ExitStack() as active:
            for _ in range(streams):
                active.enter_context(pacer.stream())
            start = movable().time()
            futures = [movable().create_future() for _ in range(waiters)]
            for each in futures:
                pacer.wake(each)
            delays = []
            for each in futures:
                await each
                delays.append(round(movable().time() - start, 3))
        return delays

    return run(scene())


def test_with_few_streams_waking_is_immediate() -> None:
    assert woken_after(IMMEDIATE_BELOW - 1) == [0, 0, 0]


def test_with_more_streams_all_are_woken_at_one_tick() -> None:
    assert woken_after(20) == [0.002, 0.002, 0.002]


def test_a_tick_is_never_longer_than_its_limit() -> None:
    assert woken_after(5000) == [LONGEST_TICK] * 3


def test_a_stream_counts_until_it_ends() -> None:
    async def scene() -> bool:
        pacer = Pacer()
        with ExitStack() as active:
            for _ in range(IMMEDIATE_BELOW):
                active.enter_context(pacer.stream())
        waiter = movable().create_future()
        pacer.wake(waiter)
        return waiter.done()

    assert run(scene())


def test_a_waiter_that_gave_up_or_was_woken_twice_does_no_harm() -> None:
    async def scene() -> None:
        pacer = Pacer()
        with ExitStack() as active:
            for _ in range(IMMEDIATE_BELOW):
                active.enter_context(pacer.stream())
            gone, twice = movable().create_future(), movable().create_future()
            for each in (gone, twice, twice):
                pacer.wake(each)
            gone.cancel()
            await twice
            await asyncio.sleep(1)

    run(scene())
