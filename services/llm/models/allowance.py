"""How often one model of one provider may still be asked: the `rate_limit` of CONTRACT 13.1.

Every worker counts for itself and grants its share, the limit divided by the number of workers, out of a bucket that
refills all the time. Together they never grant more than the limit in the long run; one that gets more requests than
the others refuses a little early, and a bucket that is full lets up to one minute's worth through at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

MINUTE = 60.0
Clock = Callable[[], float]


@dataclass
class Bucket:
    """Holds up to `per_minute` units, but room for one at least, and gets as many in a minute."""

    per_minute: float
    clock: Clock
    level: float = field(init=False)
    filled_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.level, self.filled_at = self._size, self.clock()

    @property
    def _size(self) -> float:
        return max(1.0, self.per_minute)

    def wait(self, units: float) -> float:
        """Seconds until it holds that many units; 0 when it does."""
        now = self.clock()
        self.level = min(self._size, self.level + (now - self.filled_at) * self.per_minute / MINUTE)
        self.filled_at = now
        return max(0.0, (units - self.level) * MINUTE / self.per_minute)

    def take(self, units: float) -> None:
        """Take them, also those that are not there yet: then nothing can be had until they are."""
        self.level -= units


class Allowance:
    """Requests and tokens a minute; 0 is no limit. `share` is the part of them that this process grants."""

    def __init__(self, requests: int, tokens: int, *, share: float = 1.0, clock: Clock = time.monotonic) -> None:
        self.limits = (requests, tokens)
        self._requests = Bucket(requests * share, clock) if requests else None
        self._tokens = Bucket(tokens * share, clock) if tokens else None

    @property
    def wait(self) -> float:
        """Seconds until the next request is allowed; 0 when it is."""
        return max(bucket.wait(1.0) if bucket else 0.0 for bucket in (self._requests, self._tokens))

    def ask(self) -> None:
        """Count one request."""
        if self._requests is not None:
            self._requests.take(1.0)

    def spend(self, tokens: int) -> None:
        """Count what a request took, which is only known when it is over."""
        if self._tokens is not None:
            self._tokens.take(tokens)
