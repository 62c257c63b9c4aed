"""Event loops whose clock a test moves, so that no test waits for time to pass.

run(scene())                     # nothing but timers: every sleep is over at once, and the clock has moved
run_movable(scene())             # with sockets: time also passes by movable().advance(15) in the scene
LOOPS = {"hasty": HastyLoop}     # with sockets: time passes by itself, but fast, in all async tests of the module
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

T = TypeVar("T")
PATIENCE = 10.0


class MovableLoop(asyncio.SelectorEventLoop):
    """Its clock is the real one plus what the test has added."""

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        self.added = 0.0
        super().__init__(selector)

    def time(self) -> float:
        return super().time() + self.added

    def advance(self, seconds: float) -> None:
        """Let that much time pass; timers that are due run next."""
        self.added += seconds


class _Impatient(selectors.DefaultSelector):
    """Moves the clock of its loop instead of waiting."""

    loop: MovableLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            self.loop.advance(timeout)
            timeout = 0
        return super().select(timeout)


def movable() -> MovableLoop:
    """The running loop, inside `run_movable`."""
    return cast(MovableLoop, asyncio.get_running_loop())


def run_movable(scene: Coroutine[Any, Any, T]) -> T:
    """Run a scene on a loop whose clock moves by `advance` besides by itself."""
    with asyncio.Runner(loop_factory=MovableLoop) as runner:
        return runner.run(asyncio.wait_for(scene, PATIENCE * 1000))


def run(scene: Coroutine[Any, Any, T]) -> T:
    """Run a scene without outside world: when nothing is left to do but wait, the clock jumps."""
    with asyncio.Runner(loop_factory=_instant) as runner:
        return runner.run(scene)


def _instant() -> MovableLoop:
    selector = _Impatient()
    selector.loop = MovableLoop(selector)
    return selector.loop


class HastyLoop(asyncio.SelectorEventLoop):
    """Its seconds are 50 times shorter than real ones: for scenes with sockets that also wait for timers."""

    SPEED = 50

    def __init__(self) -> None:
        super().__init__(_Hasty())

    def time(self) -> float:
        return super().time() * self.SPEED


class _Hasty(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout and timeout / HastyLoop.SPEED)
