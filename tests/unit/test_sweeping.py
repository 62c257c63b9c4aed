"""The sweeper: every chore in its turn, again and again, whatever happens to one of them."""

import asyncio
import logging
from itertools import pairwise

import pytest

from services.auth.sweeping import INTERVAL, Sweeper
from services.runtime.errors import Unavailable
from tests.clock import run


class Chores:
    """Chores that note when they were done; those that fail do so."""

    def __init__(self) -> None:
        self.done: list[tuple[str, float]] = []

    async def first(self) -> None:
        self._note("first")

    async def second(self) -> None:
        self._note("second")

    async def without_database(self) -> None:
        self._note("without_database")
        raise Unavailable("The database is not reachable right now")

    async def broken(self) -> None:
        self._note("broken")
        raise ZeroDivisionError

    def _note(self, name: str) -> None:
        self.done.append((name, asyncio.get_running_loop().time()))


async def rounds(sweeper: Sweeper, count: int) -> None:
    """Let it work for the time of that many rounds."""
    sweeper.start()
    await asyncio.sleep(INTERVAL * count - 1)
    await sweeper.close()


def test_chores_are_done_in_order_at_once_and_then_at_intervals() -> None:
    chores = Chores()
    run(rounds(Sweeper([chores.first, chores.second]), 3))
    assert [name for name, _ in chores.done] == ["first", "second"] * 3
    times = [at for name, at in chores.done if name == "first"]
    assert [round(later - earlier) for earlier, later in pairwise(times)] == [INTERVAL] * 2


def test_a_chore_that_fails_does_not_keep_the_others_from_being_done(caplog: pytest.LogCaptureFixture) -> None:
    chores = Chores()
    with caplog.at_level(logging.WARNING):
        run(rounds(Sweeper([chores.without_database, chores.broken, chores.first]), 2))
    assert [name for name, _ in chores.done] == ["without_database", "broken", "first"] * 2
    assert [record.message for record in caplog.records] == ["sweep_put_off", "sweep_failed"] * 2
    assert caplog.records[0].chore == "Chores.without_database"  # type: ignore[attr-defined]  # a field of the event


def test_a_closed_sweeper_does_nothing_more() -> None:
    chores = Chores()

    async def scene() -> None:
        await rounds(Sweeper([chores.first]), 1)
        await asyncio.sleep(INTERVAL * 5)

    run(scene())
    assert len(chores.done) == 1


def test_a_sweeper_that_was_never_started_can_be_closed() -> None:
    run(Sweeper([]).close())
