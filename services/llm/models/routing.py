"""Which upstream answers for a model: priority, weight, health, capacity; and what happens when one fails.

One model may be offered by several endpoints. They are tried by priority, within one priority in an order drawn by
weight. An endpoint that keeps failing is left alone for a while (its breaker is open); one that is full is passed over.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from services.llm.models.allowance import Allowance
from services.llm.providers.provider import Json, Provider
from services.runtime.breaker import FAILURES_TO_OPEN, SHORTEST_PAUSE, Breaker
from services.runtime.errors import ApiError, RateLimited, Unavailable, UpstreamFailed, UpstreamRefused, UpstreamTimeout

ROUNDS = 3
BACK_OFF = 0.2
LONGEST_WAIT = 2.0
MOST_TOKENS = 2**31  # more is no count of one answer
AT_ONCE = 0.01  # timers may ring that much too early

T = TypeVar("T")


@dataclass
class Upstream:
    """A provider's address with its health and capacity, shared by all models that it offers."""

    name: str
    vendor: str
    provider: Provider
    breaker: Breaker
    max_concurrency: int = 0
    fetches_images: bool = False
    """Whether it gets images from URLs by itself."""
    active: int = 0

    @property
    def usable(self) -> bool:
        """Whether a request may be sent now."""
        return self.breaker.closed and (not self.max_concurrency or self.active < self.max_concurrency)

    @contextmanager
    def lease(self, deadline: float) -> Iterator[None]:
        """Take one place for the time of a request, and learn from how it ends."""
        if not self.usable:
            raise AssertionError("a lease on an upstream that is not usable")
        self.active += 1
        probing = self.breaker.failures >= FAILURES_TO_OPEN
        if probing:  # half open: others stay away until this one is through
            self.breaker.open_until = self.breaker.clock() + self.breaker.pause
        try:
            yield
        except ApiError as error:
            if isinstance(error, UpstreamTimeout) and self.breaker.clock() > deadline - AT_ONCE:
                pass  # the caller had no more time, which says nothing about the upstream
            elif isinstance(error, UpstreamRefused):
                self.breaker.succeeded()  # one deleted model must not take all the others of its provider away
            elif isinstance(error, UpstreamFailed | UpstreamTimeout | Unavailable):
                self.breaker.failed(probing=probing)
            else:
                self.breaker.succeeded()
            raise
        else:
            self.breaker.succeeded()
        finally:
            self.active -= 1


@dataclass(frozen=True)
class Endpoint:
    """One way to reach one model."""

    upstream: Upstream
    model: str
    priority: int = 0
    weight: int = 1
    temperature: float | None = None
    """That of requests which have none; None: the upstream's own."""
    allowance: Allowance | None = None
    """How often it may still be asked; None: as often as one likes."""

    @property
    def usable(self) -> bool:
        """Whether a request may be sent now."""
        return self.upstream.usable and (self.allowance is None or not self.allowance.wait)

    def addressed(self, body: Json) -> Json:
        """The request as this endpoint gets it."""
        if self.temperature is not None and body.get("temperature") is None:
            return {**body, "model": self.model, "temperature": self.temperature}
        return {**body, "model": self.model}

    def spend(self, usage: object) -> None:
        """Count the tokens of an answer, as its `usage` tells them."""
        tokens = usage.get("total_tokens") if self.allowance is not None and isinstance(usage, dict) else None
        if self.allowance is not None and isinstance(tokens, int) and 0 < tokens <= MOST_TOKENS:
            self.allowance.spend(tokens)


@dataclass
class Route:
    """Every way to reach one model."""

    endpoints: list[Endpoint] = field(default_factory=list)
    limited: bool = False
    """Whether one of the endpoints has an allowance."""

    def candidates(self) -> list[Endpoint]:
        """Endpoints that may be asked now, the one to ask first in front."""
        usable = [each for each in self.endpoints if each.usable]
        if len(usable) < 2:
            return usable
        # Efraimidis-Spirakis: sorting by u^(1/w) draws without replacement by weight.
        return sorted(usable, key=lambda each: (each.priority, -(random.random() ** (1 / each.weight))))  # noqa: S311

    def check_allowance(self) -> None:
        """Raise `RateLimited` when none of its endpoints may be asked now because of the limits of the model."""
        if not self.limited:
            return
        wait = min(each.allowance.wait if each.allowance else 0.0 for each in self.endpoints)
        if wait > 0:
            raise RateLimited("This model is asked too often; try again later", retry_after=math.ceil(wait))


async def first_success(route: Route, call: Callable[[Endpoint], Awaitable[T]], *, deadline: float) -> T:
    """Try endpoints until `call` succeeds: each usable one once, then, when all have failed, wait and go round again.

    At most `ROUNDS` rounds. Only failures that another try can cure are retried (CONTRACT 4.4), and `call` must not
    have let anything out to the client yet: repeating is safe because nobody has seen the first try. Raises the last
    error, `Unavailable` with the code `no_provider_available`, or `RateLimited` when the model is asked too often.
    """
    route.check_allowance()
    error: ApiError = Unavailable(
        "No provider of this model is available right now", code="no_provider_available", retry_after=SHORTEST_PAUSE
    )
    for number in range(1, ROUNDS + 1):
        candidates = route.candidates()
        for endpoint in candidates:
            if not endpoint.usable:  # filled up or failed while another was asked
                continue
            if endpoint.allowance is not None:
                endpoint.allowance.ask()
            try:
                return await call(endpoint)
            except (UpstreamFailed, UpstreamTimeout, Unavailable, RateLimited) as failure:
                error = failure
        wait = _pause(number, error)
        if not candidates or number == ROUNDS or wait is None:
            break
        if asyncio.get_running_loop().time() + wait >= deadline:
            break
        await asyncio.sleep(wait)
    raise error


def _pause(number: int, error: ApiError) -> float | None:
    """Seconds after a round; None when waiting is the client's business, or cures nothing."""
    if isinstance(error, UpstreamTimeout | UpstreamRefused):
        return None
    if error.retry_after is not None and isinstance(error, RateLimited):
        return error.retry_after + random.uniform(0, 0.1) if error.retry_after <= LONGEST_WAIT else None  # noqa: S311
    return float(BACK_OFF * 2 ** (number - 1) * random.uniform(0.5, 1.5))  # noqa: S311
