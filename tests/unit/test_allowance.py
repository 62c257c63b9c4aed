"""How often a model may be asked, on a clock that the test turns."""

import pytest

from services.llm.models.allowance import Allowance


class Hands:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hands:
    return Hands()


def granted(allowance: Allowance) -> int:
    """How many requests pass right now."""
    count = 0
    while not allowance.wait:
        allowance.ask()
        count += 1
    return count


def test_as_many_requests_pass_at_once_as_there_are_in_a_minute(clock: Hands) -> None:
    assert granted(Allowance(7, 0, clock=clock)) == 7


def test_it_refills_all_the_time_and_never_beyond_a_minutes_worth(clock: Hands) -> None:
    allowance = Allowance(6, 0, clock=clock)
    granted(allowance)
    assert allowance.wait == pytest.approx(10)
    clock.now += 10
    assert granted(allowance) == 1
    clock.now += 3600
    assert granted(allowance) == 6


def test_a_process_grants_its_share_but_always_one_request(clock: Hands) -> None:
    assert granted(Allowance(60, 0, share=1 / 4, clock=clock)) == 15
    seldom = Allowance(1, 0, share=1 / 4, clock=clock)
    assert granted(seldom) == 1
    assert seldom.wait == pytest.approx(240)


def test_in_the_long_run_all_processes_together_grant_the_limit(clock: Hands) -> None:
    processes = [Allowance(3, 0, share=1 / 4, clock=clock) for _ in range(4)]
    first = sum(map(granted, processes))
    total = 0
    for _ in range(600):
        clock.now += 1
        total += sum(map(granted, processes))
    assert (first, total) == (4, 28)  # ten minutes, in which the last two requests are not quite there yet


def test_tokens_are_counted_when_they_are_known_and_paid_back_with_time(clock: Hands) -> None:
    allowance = Allowance(0, 600, clock=clock)
    assert not allowance.wait
    allowance.spend(1200)
    assert allowance.wait == pytest.approx(60.1)
    clock.now += 61
    assert not allowance.wait


def test_the_stricter_limit_counts(clock: Hands) -> None:
    allowance = Allowance(60, 60, clock=clock)
    allowance.ask()
    allowance.spend(120)
    assert allowance.wait == pytest.approx(61)


def test_without_limits_everything_passes(clock: Hands) -> None:
    allowance = Allowance(0, 0, clock=clock)
    allowance.ask()
    allowance.spend(10**9)
    assert not allowance.wait
