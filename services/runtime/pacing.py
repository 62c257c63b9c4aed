"""Tick batching: many streams that wait for tokens are woken together instead of one by one.

Waking a handler, writing one gRPC message and going back to sleep costs several times more than doing the same back to
back. With few streams everything is immediate; from `IMMEDIATE_BELOW` on, wakes are collected for at most 5 ms
(measured: 3.8x -> 2.3x of the floor at 50 streams, for about 4 ms of added token latency; DESIGN 5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

IMMEDIATE_BELOW = 8
LONGEST_TICK = 0.005
TICK_PER_STREAM = 0.0001


class Pacer:
    """Decides when the streams of this process are woken. One per event loop."""

    def __init__(self) -> None:
        self._active = 0
        self._waiting: list[asyncio.Future[None]] = []

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Count one active stream."""
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1

    def wake(self, waiter: asyncio.Future[None]) -> None:
        """Complete `waiter` now, or with all others at the next tick."""
        if self._active < IMMEDIATE_BELOW:
            _complete(waiter)
            return
        if not self._waiting:
            delay = min(LONGEST_TICK, self._active * TICK_PER_STREAM)
            waiter.get_loop().call_later(delay, self._tick)
        self._waiting.append(waiter)

    def _tick(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            _complete(waiter)


def _complete(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
