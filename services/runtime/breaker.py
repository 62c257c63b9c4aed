"""Leaving alone for a while what fails every time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

FAILURES_TO_OPEN = 5
SHORTEST_PAUSE, LONGEST_PAUSE = 5.0, 60.0

Clock = Callable[[], float]


@dataclass
class Breaker:
    """Stops asking an upstream that fails every time; after a pause one request may try again."""

    clock: Clock
    failures: int = 0
    pause: float = SHORTEST_PAUSE
    open_until: float = 0.0

    @property
    def closed(self) -> bool:
        return self.failures < FAILURES_TO_OPEN or self.clock() >= self.open_until

    def succeeded(self) -> None:
        self.failures, self.pause = 0, SHORTEST_PAUSE

    def failed(self, *, probing: bool) -> None:
        """`probing`: it was the one request after a pause. Those that were under way when it opened say nothing new."""
        self.failures += 1
        if probing or self.failures == FAILURES_TO_OPEN:
            self.open_until = self.clock() + self.pause
            self.pause = min(LONGEST_PAUSE, self.pause * 2)
