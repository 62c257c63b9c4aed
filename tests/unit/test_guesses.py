"""Who tries unknown API keys is slowed down."""

import pytest

from services.auth.guesses import MOST, Guesses
from services.runtime.errors import RateLimited


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0 - 1_800_000_000 % 60

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guesses(clock: Clock) -> Guesses:
    return Guesses(clock=clock)


def exhaust(guesses: Guesses, address: str) -> None:
    for _ in range(MOST):
        guesses.count(address)


def test_an_address_may_try_some_keys_a_minute(guesses: Guesses, clock: Clock) -> None:
    clock.now += 45
    exhaust(guesses, "192.0.2.1")
    with pytest.raises(RateLimited) as error:
        guesses.count("192.0.2.1")
    assert (error.value.code, error.value.retry_after) == ("rate_limit_exceeded", 15)
    clock.now += 15
    guesses.count("192.0.2.1")


def test_other_addresses_are_not_slowed(guesses: Guesses) -> None:
    exhaust(guesses, "192.0.2.1")
    guesses.count("192.0.2.2")


def test_a_key_that_existed_does_not_count(guesses: Guesses) -> None:
    for _ in range(MOST * 3):
        guesses.count("192.0.2.1")
        guesses.forgive("192.0.2.1")


def test_forgiveness_of_the_last_minute_is_no_credit_in_this_one(guesses: Guesses, clock: Clock) -> None:
    guesses.count("192.0.2.1")
    clock.now += 60
    guesses.count("192.0.2.2")
    guesses.forgive("192.0.2.1")
    exhaust(guesses, "192.0.2.1")
    with pytest.raises(RateLimited):
        guesses.count("192.0.2.1")


def test_the_addresses_of_one_ipv6_network_are_one_client(guesses: Guesses) -> None:
    for n in range(MOST):
        guesses.count(f"2001:db8::{n:x}")
    with pytest.raises(RateLimited):
        guesses.count("2001:db8::ffff")
    guesses.count("2001:db8:0:1::1")


def test_those_without_an_address_are_one_client(guesses: Guesses) -> None:
    exhaust(guesses, "")
    with pytest.raises(RateLimited):
        guesses.count("")


def test_memory_is_bounded(guesses: Guesses) -> None:
    exhaust(guesses, "192.0.2.1")
    for n in range(10_000):
        guesses.count(f"10.0.{n // 256}.{n % 256}")
    assert len(guesses._tried) == 10_000
    guesses.count("192.0.2.1")  # the first to be forgotten
