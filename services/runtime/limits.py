"""Rate limit tiers (CONTRACT 13.1), and how an API key's token tells the gateway its own limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.runtime.config import Settings

BUCKET = 1_000_000_000
"""Units in a minute's bucket of a key at the gateway, whose buckets all have one size: a request of a key that may make
n requests takes BUCKET // n of them, and Envoy lets a request take no more than all of these. Exact up to 31,622 a
minute, since n * n < BUCKET; beyond that, up to n * n // BUCKET more pass."""


@dataclass(frozen=True)
class Limit:
    """Requests a minute, and a day (UTC) when there is such a quota."""

    per_minute: int
    per_day: int | None = None

    def claims(self) -> dict[str, Any]:
        """The claims of a key's token that the gateway counts by: `limit` is the override that Envoy's rate limit
        service protocol knows, `hits` what a request takes of the gateway's own bucket."""
        return {
            "limit": {"requests_per_unit": self.per_minute, "unit": "MINUTE"},
            "hits": str(max(1, BUCKET // self.per_minute)),
        }


TIERS = {"free": Limit(3, 50), "pro": Limit(60, 100_000)}


def limit_of(settings: Settings, *, tier: str, per_minute: int = 0, per_day: int = 0) -> Limit:
    """The limit of an API key: what is set for it, else its tier's, else that of accounts."""
    own = TIERS.get(tier or settings.rate_limit_default_tier, Limit(settings.rate_limit_per_minute))
    return Limit(per_minute or own.per_minute, per_day or own.per_day)
