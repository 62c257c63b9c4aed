"""API keys that this process remembers, so that a key in use costs a query every half minute and not one a request.

What is promised: a revoked key is forgotten at once, by NOTIFY, and while nothing can be heard it counts for at most
5 s more; an expired one is refused at once. A database that is down is no revocation: a key that it confirmed less
than five minutes ago, the life of an access token, goes on working.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from services.auth.api_key_store import CHANNEL, digest, well_formed
from services.auth.guesses import Guesses
from services.runtime.db import Connection, Row
from services.runtime.errors import Unauthenticated, Unavailable
from services.runtime.watch import Watch

FRESH, UNHEARD = 30.0, 4.0
"""Seconds that an answer of the database counts, while its changes are heard of and while they are not."""
GRACE = 300.0
"""Seconds that it counts while the database is down."""
_PATIENCE = 1.0  # seconds between two questions about one key, if the first has no answer
_UNKNOWN = 60.0  # seconds that "no such key" counts; nobody can have asked for a key before it was made
_MOST = 10_000


@dataclass(slots=True, eq=False)
class KnownKey:
    """A key that exists: the row of `ApiKeyStore.find`, and what the exchange made of it."""

    row: Row
    checked_at: float
    expires_at: float = field(init=False)
    ask_at: float = field(init=False, default=0.0)
    """Until then nobody asks the database, for somebody else does."""
    authorization: str = ""
    renew_at: float = 0.0

    def __post_init__(self) -> None:
        self.expires_at = self.row["expires_at"].timestamp()


class KnownKeys:
    """The last 10,000 keys used, and as many that do not exist. `load` asks the database for a digest; `hears` says
    whether its changes arrive here."""

    def __init__(
        self,
        load: Callable[[bytes], Awaitable[Row | None]],
        *,
        hears: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._load = load
        self._hears = hears
        self._clock = clock
        self._guesses = Guesses(clock=clock)
        self._known: OrderedDict[bytes, KnownKey] = OrderedDict()
        self._digests: dict[str, bytes] = {}
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._discovering: set[bytes] = set()
        self._met: set[bytes] = set()  # that existed before a gap: whoever has one does not guess
        self._changes = 0

    def follow(self, watch: Watch) -> None:
        """Keep up with changes, in whichever process."""
        watch.on(CHANNEL, self.forget, self._resume)

    def remembered(self, secret: str) -> KnownKey | None:
        """The key with that secret, if it is known without asking. Raises `Unauthenticated` when there is none."""
        if not well_formed(secret):
            raise _refusal()
        hashed, now = digest(secret), self._clock()
        known = self._known.get(hashed)
        if known is None:
            if self._unknown.get(hashed, 0.0) > now:
                raise _refusal()
            return None
        if now >= known.expires_at:
            self._note_unknown(hashed)
            raise _refusal()
        if not known.checked_at <= now < self._asks_at(known):  # before: the clock was put back
            return None
        self._known.move_to_end(hashed)
        return known

    async def find(self, secret: str, address: str) -> KnownKey:
        """The key with that secret, asking the database on behalf of a client at `address`. Raises `Unauthenticated`
        when there is none, `RateLimited` for a client that guesses, `Unavailable` without a database."""
        hashed = digest(secret)
        known = self._known.get(hashed)
        if known is None:
            return await self._discover(hashed, address)
        known.ask_at = self._clock() + _PATIENCE
        try:
            return await self._ask(hashed, known)
        except Unavailable:
            if self._clock() > known.checked_at + GRACE:
                raise
            return known

    def forget(self, key_id: str) -> None:
        """The key has changed."""
        self._changes += 1
        hashed = self._digests.pop(key_id, None)
        if hashed is not None:
            del self._known[hashed]

    async def _resume(self, _connection: Connection) -> None:
        """Changes may have been missed."""
        self._changes += 1
        self._met = set(self._known) | (self._met if len(self._met) < _MOST else set())
        self._known.clear()
        self._digests.clear()

    def _asks_at(self, known: KnownKey) -> float:
        """When the database is asked again."""
        return max(known.checked_at + (FRESH if self._hears() else UNHEARD), known.ask_at)

    async def _discover(self, hashed: bytes, address: str) -> KnownKey:
        if hashed in self._met or hashed in self._discovering:  # or a client begins with many requests at once
            return await self._ask(hashed, None)
        self._guesses.count(address)
        self._discovering.add(hashed)
        try:
            found = await self._ask(hashed, None)
        except Unavailable:
            self._guesses.forgive(address)
            raise
        finally:
            self._discovering.discard(hashed)
        self._guesses.forgive(address)
        return found

    async def _ask(self, hashed: bytes, known: KnownKey | None) -> KnownKey:
        now, changes = self._clock(), self._changes
        row = await self._load(hashed)
        if row is None or row["expires_at"].timestamp() <= now:
            self._note_unknown(hashed)
            raise _refusal()
        found = self._known.get(hashed)
        if found is not None and found is not known:  # somebody else was faster
            return found
        found = KnownKey(row, now)
        if changes == self._changes:  # else it may have been revoked meanwhile
            self._remember(hashed, found)
        return found

    def _remember(self, hashed: bytes, found: KnownKey) -> None:
        self._known[hashed] = found
        self._digests[found.row["id"]] = hashed
        if len(self._known) > _MOST:
            _, oldest = self._known.popitem(last=False)
            del self._digests[oldest.row["id"]]

    def _note_unknown(self, hashed: bytes) -> None:
        known = self._known.pop(hashed, None)
        if known is not None:
            del self._digests[known.row["id"]]
        self._unknown[hashed] = self._clock() + _UNKNOWN
        if len(self._unknown) > _MOST:
            self._unknown.popitem(last=False)


def _refusal() -> Unauthenticated:
    """One answer for all of them: it tells a guesser nothing."""
    return Unauthenticated("The API key is not valid: it is unknown, revoked or expired")
