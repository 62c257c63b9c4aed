"""How a database that hangs is told from one that is slow, on a clock that the test moves."""

from __future__ import annotations

import asyncio

import pytest

from services.runtime.pulse import PATIENCE, PAUSE, Pulse


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Patient:
    """What the pulse is that of: it lives or not, and shows that when `gate` is open."""

    def __init__(self) -> None:
        self.lives, self.looks = True, 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.clock = Clock()
        self.pulse = Pulse(self.look, clock=self.clock)
        self.hung_up = 0

    def hang_up(self) -> None:
        self.hung_up += 1

    async def look(self) -> bool:
        self.looks += 1
        await self.gate.wait()
        return self.lives


@pytest.fixture
def patient() -> Patient:
    return Patient()


async def test_while_questions_are_answered_nobody_looks(patient: Patient) -> None:
    with patient.pulse.asking(patient.hang_up):
        for _ in range(5):
            patient.clock.now += PATIENCE
            with patient.pulse.asking(patient.hang_up):
                pass
            assert await patient.pulse.beats()
    patient.clock.now += 100
    assert await patient.pulse.beats(), "nobody asks, so nobody can be left without an answer"
    assert patient.looks == 0


async def test_a_slow_answer_costs_one_look_and_nothing_else(patient: Patient) -> None:
    with patient.pulse.asking(patient.hang_up):
        patient.clock.now += PATIENCE + 1
        assert await asyncio.gather(*(patient.pulse.beats() for _ in range(10))) == [True] * 10
    assert patient.looks == 1


async def test_while_it_hangs_one_caller_looks_and_all_others_know_at_once(patient: Patient) -> None:
    patient.lives = False
    with patient.pulse.waiting():
        patient.clock.now += PATIENCE + 1
        assert await asyncio.gather(*(patient.pulse.beats() for _ in range(10))) == [False] * 10
        assert patient.looks == 1
    assert not await patient.pulse.beats(), "that nobody waits any more is no sign of life"
    patient.clock.now += PAUSE
    patient.gate.clear()
    looking = asyncio.create_task(patient.pulse.beats())
    await asyncio.sleep(0)
    assert not await patient.pulse.beats(), "nobody waits for somebody else's look"
    patient.lives = True
    patient.gate.set()
    assert await looking
    assert (await patient.pulse.beats(), patient.looks) == (True, 2)


async def test_an_error_is_an_answer_and_the_end_of_time_is_none(patient: Patient) -> None:
    patient.lives = False
    for error in (TimeoutError(), asyncio.CancelledError()):
        with patient.pulse.waiting():
            patient.clock.now += PATIENCE + 1
            with pytest.raises(type(error)), patient.pulse.asking(patient.hang_up):
                raise error
            assert not await patient.pulse.beats()
        with pytest.raises(ConnectionRefusedError), patient.pulse.asking(patient.hang_up):
            raise ConnectionRefusedError
        assert await patient.pulse.beats()


async def test_a_wait_that_ends_is_no_answer(patient: Patient) -> None:
    patient.lives = False
    with patient.pulse.waiting():
        patient.clock.now += PATIENCE + 1
        with patient.pulse.waiting():
            pass
        assert not await patient.pulse.beats()


async def test_those_who_wait_already_are_told_as_well(patient: Patient) -> None:
    patient.lives = False
    with patient.pulse.asking(patient.hang_up):
        patient.clock.now += PATIENCE + 1
        assert not await patient.pulse.beats()
        assert patient.hung_up == 1
    with patient.pulse.waiting():
        patient.clock.now += PATIENCE + 1
        assert not await patient.pulse.beats()
    assert patient.hung_up == 1, "that one has been told"


async def test_after_a_question_that_nobody_answered_the_next_caller_looks_first(patient: Patient) -> None:
    with pytest.raises(TimeoutError), patient.pulse.asking(patient.hang_up):
        raise TimeoutError
    assert (await patient.pulse.beats(), patient.looks) == (True, 1)


async def test_a_question_that_took_too_long_while_others_were_answered_says_nothing(patient: Patient) -> None:
    with pytest.raises(TimeoutError), patient.pulse.asking(patient.hang_up):
        raise answered(patient)
    assert (await patient.pulse.beats(), patient.looks) == (True, 0)


def answered(patient: Patient) -> TimeoutError:
    """Another question is, a second later."""
    patient.clock.now += 1
    with patient.pulse.asking(patient.hang_up):
        return TimeoutError()
