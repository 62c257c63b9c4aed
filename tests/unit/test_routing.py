"""Which endpoint is asked, in which order, and what happens when it fails."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import pytest

from services.llm.models.allowance import Allowance
from services.llm.models.routing import (
    ROUNDS,
    Endpoint,
    Route,
    Upstream,
    first_success,
)
from services.llm.providers.provider import Provider
from services.runtime.breaker import FAILURES_TO_OPEN, LONGEST_PAUSE, SHORTEST_PAUSE, Breaker
from services.runtime.errors import (
    ApiError,
    InvalidRequest,
    RateLimited,
    Unavailable,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from tests.clock import movable, run

NOBODY = cast(Provider, None)
LATER = 1e9


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def upstream(name: str = "a", clock: Callable[[], float] | None = None, max_concurrency: int = 0) -> Upstream:
    return Upstream(name, "vendor", NOBODY, Breaker(clock or Clock()), max_concurrency)


def endpoint(name: str, *, priority: int = 0, weight: int = 1, **options: Any) -> Endpoint:
    return Endpoint(upstream(name, **options), name, priority, weight)


def fail(target: Upstream, times: int = 1, error: ApiError | None = None) -> None:
    for _ in range(times):
        with pytest.raises(ApiError), target.lease(LATER):
            raise error or UpstreamFailed("down")


class Caller:
    """Plays one outcome a call: an error to raise, or what to return. Remembers whom it asked, and when."""

    def __init__(self, *outcomes: ApiError | str) -> None:
        self._outcomes = iter(outcomes)
        self.asked: list[str] = []
        self.times: list[float] = []

    async def __call__(self, asked: Endpoint) -> str:
        with asked.upstream.lease(LATER):
            self.asked.append(asked.model)
            self.times.append(asyncio.get_running_loop().time())
            outcome = next(self._outcomes)
            if isinstance(outcome, ApiError):
                raise outcome
            return outcome


def ask(call: Caller, *endpoints: Endpoint, seconds: float = 60) -> str:
    """What `first_success` gives within that time, on a clock that jumps over every wait."""

    async def scene() -> str:
        return await first_success(Route(list(endpoints)), call, deadline=movable().time() + seconds)

    return run(scene())


# Order


def test_the_lowest_priority_comes_first() -> None:
    route = Route([endpoint("spare", priority=2, weight=100), endpoint("main"), endpoint("second", priority=1)])
    for _ in range(50):
        assert [each.model for each in route.candidates()] == ["main", "second", "spare"]


def test_within_a_priority_the_weights_decide_how_often_each_is_first() -> None:
    random.seed(1)
    route = Route([endpoint("one"), endpoint("three", weight=3), endpoint("six", weight=6)])
    first = Counter(route.candidates()[0].model for _ in range(10_000))
    assert {name: round(count / 1000) for name, count in first.items()} == {"one": 1, "three": 3, "six": 6}


def test_an_endpoint_that_is_full_is_passed_over() -> None:
    busy, idle = endpoint("busy", max_concurrency=2), endpoint("idle", priority=1)
    route = Route([busy, idle])
    with busy.upstream.lease(LATER):
        assert route.candidates() == [busy, idle]
        with busy.upstream.lease(LATER):
            assert route.candidates() == [idle]
        assert route.candidates() == [busy, idle]


# Failing over


def test_the_first_endpoint_that_answers_is_enough() -> None:
    call = Caller("hello")
    assert ask(call, endpoint("a"), endpoint("b", priority=1)) == "hello"
    assert call.asked == ["a"]


@pytest.mark.parametrize(
    "error", [UpstreamFailed("500"), Unavailable("refused"), UpstreamTimeout("stall"), RateLimited("429")]
)
def test_a_failure_of_the_upstream_moves_to_the_next_endpoint_at_once(error: ApiError) -> None:
    call = Caller(error, "hello")
    assert ask(call, endpoint("a"), endpoint("b", priority=1)) == "hello"
    assert call.asked == ["a", "b"]
    assert call.times[1] - call.times[0] < 0.1


def test_a_request_that_is_wrong_is_not_tried_elsewhere() -> None:
    call = Caller(InvalidRequest("no such role"))
    with pytest.raises(InvalidRequest):
        ask(call, endpoint("a"), endpoint("b", priority=1))
    assert call.asked == ["a"]


def test_when_all_have_failed_they_are_tried_again_after_a_pause() -> None:
    call = Caller(UpstreamFailed("1"), UpstreamFailed("2"), "hello")
    assert ask(call, endpoint("a"), endpoint("b", priority=1)) == "hello"
    assert call.asked == ["a", "b", "a"]
    assert 0.1 < call.times[2] - call.times[1] < 1


def test_every_usable_endpoint_is_asked_before_any_is_asked_again() -> None:
    call = Caller(*(UpstreamFailed(name) for name in "abcd"), "hello")
    assert ask(call, *(endpoint(name, priority=at) for at, name in enumerate("abcde"))) == "hello"
    assert call.asked == list("abcde")
    assert call.times[-1] - call.times[0] < 0.1


def test_no_more_rounds_are_made_than_allowed_and_the_last_error_is_raised() -> None:
    call = Caller(*(UpstreamFailed(f"call {number}") for number in range(1, 99)))
    with pytest.raises(UpstreamFailed, match=f"^call {2 * ROUNDS}$"):
        ask(call, endpoint("a"), endpoint("b", priority=1))
    assert call.asked == ["a", "b"] * ROUNDS


def test_each_pause_between_rounds_is_about_twice_the_one_before() -> None:
    call = Caller(*(UpstreamFailed("down") for _ in range(ROUNDS * 2)))
    with pytest.raises(UpstreamFailed):
        ask(call, endpoint("a"), endpoint("b", priority=1))
    first, second = (call.times[2 * number] - call.times[2 * number - 1] for number in (1, 2))
    assert 0.1 <= first < 0.35
    assert 0.2 <= second < 0.65


def test_a_single_endpoint_that_stalls_is_not_asked_again() -> None:
    call = Caller(UpstreamTimeout("stall"), "too late")
    with pytest.raises(UpstreamTimeout):
        ask(call, endpoint("a"))
    assert call.asked == ["a"]


def test_a_short_wait_that_the_upstream_asks_for_is_kept() -> None:
    call = Caller(RateLimited("slow down", retry_after=1.5), "hello")
    assert ask(call, endpoint("a")) == "hello"
    assert 1.5 <= call.times[1] - call.times[0] < 1.7


def test_a_long_wait_is_the_client_s_business() -> None:
    call = Caller(RateLimited("slow down", retry_after=30), "hello")
    with pytest.raises(RateLimited) as limited:
        ask(call, endpoint("a"))
    assert (call.asked, limited.value.retry_after) == (["a"], 30)


def test_a_wait_past_the_deadline_is_not_begun() -> None:
    call = Caller(RateLimited("slow down", retry_after=2), "hello")
    with pytest.raises(RateLimited):
        ask(call, endpoint("a"), seconds=1)
    assert call.asked == ["a"]


def test_without_a_usable_endpoint_there_is_no_provider() -> None:
    down = endpoint("down")
    fail(down.upstream, FAILURES_TO_OPEN)
    with pytest.raises(Unavailable) as error:
        ask(Caller(), down)
    assert (error.value.code, error.value.retry_after) == ("no_provider_available", SHORTEST_PAUSE)


def test_an_endpoint_that_opened_while_another_was_asked_is_not_asked() -> None:
    class Breaking(Caller):
        async def __call__(self, asked: Endpoint) -> str:
            if asked.model == "a":
                fail(second.upstream, FAILURES_TO_OPEN)
            return await super().__call__(asked)

    first, second, third = (endpoint(name, priority=at) for at, name in enumerate("abc"))
    call = Breaking(UpstreamFailed("1"), "hello")
    assert ask(call, first, second, third) == "hello"
    assert call.asked == ["a", "c"]


def test_an_endpoint_that_filled_up_while_another_was_asked_is_not_asked() -> None:
    class Filling(Caller):
        async def __call__(self, asked: Endpoint) -> str:
            second.upstream.active = 1
            return await super().__call__(asked)

    first, second = endpoint("a"), endpoint("b", priority=1, max_concurrency=1)
    call = Filling(UpstreamFailed("1"), "hello")
    assert ask(call, first, second) == "hello"
    assert call.asked == ["a", "a"]


# The breaker


def test_a_breaker_opens_after_failures_in_a_row_and_closes_after_a_success() -> None:
    clock = Clock()
    target = upstream(clock=clock)
    fail(target, FAILURES_TO_OPEN - 1)
    assert target.usable
    fail(target)
    assert not target.usable
    clock.now += SHORTEST_PAUSE
    with target.lease(LATER):
        pass
    fail(target, FAILURES_TO_OPEN - 1)
    assert target.usable


def test_a_success_between_failures_keeps_it_closed() -> None:
    target = upstream()
    for _ in range(3):
        fail(target, FAILURES_TO_OPEN - 1)
        with target.lease(LATER):
            pass
    assert target.usable


def test_after_the_pause_one_request_may_try_and_the_others_wait_for_it() -> None:
    clock = Clock()
    target = upstream(clock=clock)
    fail(target, FAILURES_TO_OPEN)
    clock.now += SHORTEST_PAUSE
    with target.lease(LATER):
        assert not target.usable
    assert target.usable


def test_every_failed_try_doubles_the_pause_up_to_a_minute() -> None:
    clock, pauses = Clock(), []
    target = upstream(clock=clock)
    fail(target, FAILURES_TO_OPEN)
    for _ in range(6):
        pauses.append(target.breaker.open_until - clock.now)
        clock.now = target.breaker.open_until
        fail(target)
    assert pauses == [5, 10, 20, 40, LONGEST_PAUSE, LONGEST_PAUSE]


def test_requests_that_fail_together_count_as_one_outage() -> None:
    target = upstream(clock=Clock())
    leases = [target.lease(LATER) for _ in range(50)]
    for each in leases:
        each.__enter__()
    for each in leases:
        assert not each.__exit__(UpstreamFailed, UpstreamFailed("reset"), None)
    assert target.breaker.open_until == Clock.now + SHORTEST_PAUSE
    assert target.active == 0


@pytest.mark.parametrize("error", [RateLimited("429"), InvalidRequest("400")])
def test_an_upstream_that_says_no_is_up(error: ApiError) -> None:
    target = upstream()
    fail(target, 2 * FAILURES_TO_OPEN, error)
    assert target.usable


def test_a_client_with_little_time_does_not_make_the_upstream_look_down() -> None:
    target = upstream(clock=Clock())
    for _ in range(2 * FAILURES_TO_OPEN):
        with pytest.raises(UpstreamTimeout), target.lease(Clock.now):
            raise UpstreamTimeout("did not finish in time")
    assert target.usable


def test_a_client_that_hangs_up_says_nothing_about_the_upstream() -> None:
    target = upstream()
    fail(target, FAILURES_TO_OPEN - 1)
    for _ in range(3):
        with pytest.raises(asyncio.CancelledError), target.lease(LATER):
            raise asyncio.CancelledError
    assert (target.breaker.failures, target.active) == (FAILURES_TO_OPEN - 1, 0)


def test_a_refusal_that_another_try_cannot_cure_is_asked_of_each_endpoint_once() -> None:
    asked: list[str] = []

    async def refused(target: Endpoint) -> None:
        asked.append(target.model)
        raise UpstreamRefused("no such model")

    route = Route([endpoint("first"), endpoint("second", priority=1)])
    with pytest.raises(UpstreamRefused):
        run(first_success(route, refused, deadline=LATER))
    assert asked == ["first", "second"]


def test_refusals_leave_the_breaker_closed() -> None:
    target = upstream()
    fail(target, times=FAILURES_TO_OPEN * 2, error=UpstreamRefused("no such model"))
    assert target.usable


# Limits and defaults of models


def limited(name: str, requests: int) -> Endpoint:
    return Endpoint(upstream(name), name, allowance=Allowance(requests, 0, clock=Clock()))


async def test_an_endpoint_without_allowance_left_is_passed_over() -> None:
    caller = Caller("one", "two")
    route = Route([limited("first", 1), endpoint("second", priority=1)], limited=True)
    assert [await first_success(route, caller, deadline=LATER) for _ in range(2)] == ["one", "two"]
    assert caller.asked == ["first", "second"]


async def test_a_model_without_allowance_left_is_refused_before_anybody_is_asked() -> None:
    caller = Caller("one", "two", "three")
    route = Route([limited("a", 1), limited("b", 2)], limited=True)
    for _ in range(3):
        await first_success(route, caller, deadline=LATER)
    with pytest.raises(RateLimited) as refused:
        await first_success(route, caller, deadline=LATER)
    assert (len(caller.asked), refused.value.code) == (3, "rate_limit_exceeded")
    assert refused.value.retry_after == 30  # that of the endpoint which may be asked first again


async def test_every_try_counts() -> None:
    route = Route([limited("a", 1)], limited=True)
    with pytest.raises(UpstreamFailed):
        await first_success(route, Caller(UpstreamFailed("down")), deadline=LATER)
    with pytest.raises(RateLimited):
        route.check_allowance()


@pytest.mark.parametrize(
    ("sent", "got"),
    [({}, 0.5), ({"temperature": None}, 0.5), ({"temperature": 0}, 0), ({"temperature": 1.5}, 1.5)],
)
def test_a_default_temperature_is_for_requests_without_one(sent: dict[str, Any], got: float) -> None:
    asked = Endpoint(upstream(), "theirs", temperature=0.5)
    body = {"model": "ours", **sent}
    assert asked.addressed(body) == {"model": "theirs", "temperature": got}
    assert body == {"model": "ours", **sent}


@pytest.mark.parametrize(
    "usage", [None, "many", {}, {"total_tokens": "7"}, {"total_tokens": -1}, {"total_tokens": 10**30}]
)
def test_what_is_no_number_of_tokens_does_not_count(usage: object) -> None:
    asked = Endpoint(upstream(), "m", allowance=Allowance(0, 1, clock=Clock()))
    asked.spend(usage)
    assert asked.usable
    asked.spend({"total_tokens": 7})
    assert not asked.usable
