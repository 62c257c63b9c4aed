"""Slows down whoever tries unknown API keys: each client address may ask for some a minute, then waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv6Network, ip_address

from services.runtime.errors import RateLimited

MOST = 20
"""Unknown keys a minute that one address may try."""
_ADDRESSES = 10_000
_MINUTE = 60.0


class Guesses:
    """What was tried in the current minute, by address. Of more than 10,000 addresses the first are forgotten."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._minute = 0
        self._tried: dict[str, int] = {}

    def count(self, address: str) -> None:
        """Note a key of which nobody knows yet whether it exists. Raises `RateLimited` when there were too many."""
        now, client = self._clock(), client_of(address)
        if int(now // _MINUTE) != self._minute:
            self._minute = int(now // _MINUTE)
            self._tried.clear()
        tried = self._tried.get(client, 0)
        if tried >= MOST:
            raise RateLimited(
                "Too many unknown API keys from this address; try again later", retry_after=_MINUTE - now % _MINUTE
            )
        if len(self._tried) >= _ADDRESSES and client not in self._tried:
            del self._tried[next(iter(self._tried))]
        self._tried[client] = tried + 1

    def forgive(self, address: str) -> None:
        """It did exist, or the database could not tell."""
        client = client_of(address)
        if self._tried.get(client, 0) > 0:
            self._tried[client] -= 1


def client_of(address: str) -> str:
    """Who is behind an address: with IPv6 each has at least 2**64 of them."""
    try:
        parsed = ip_address(address)
    except ValueError:  # without a gateway there is none
        return address
    return str(parsed) if parsed.version == 4 else str(IPv6Network((parsed.packed, 64), strict=False))
