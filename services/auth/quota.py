"""Requests of API keys per day (UTC): counted in memory where keys are exchanged, written behind about every second.

Several auth processes add up in the database, and learn each other's share with every write. What a process that is
killed had not written yet, a second's worth, is lost; a database that is down loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime

from services.runtime.db import Database, Row
from services.runtime.errors import RateLimited, Unavailable
from services.runtime.limits import Limit

PAUSE = 1.0
"""Seconds between two writes."""
_DAY, _MINUTE = 86400, 60
_KEPT = 31  # days that sums are kept, for whoever looks into the database
_EPOCH = date(1970, 1, 1).toordinal()

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Count:
    """Requests of one key on one day: those in the database, as far as known, and those on their way there."""

    stored: int = 0
    pending: int = 0
    writing: int = 0
    last_at: float = 0.0
    minute: int = 0
    in_minute: int = 0

    @property
    def total(self) -> int:
        return self.stored + self.pending + self.writing

    def add(self, now: float) -> None:
        self.pending += 1
        self.last_at = now
        minute = int(now // _MINUTE)
        self.minute, self.in_minute = minute, self.in_minute + 1 if minute == self.minute else 1

    def in_this_minute(self, now: float) -> int:
        return self.in_minute if int(now // _MINUTE) == self.minute else 0


class Quota:
    """Counts in every mode; refuses only when it is to `enforce`."""

    def __init__(self, database: Database, *, enforce: bool, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._enforce = enforce
        self._clock = clock
        self._counts: dict[tuple[str, int], _Count] = {}
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def today(self) -> date:
        """The day that is counted now."""
        return _date(self._day())

    def learn(self, key_id: str, day: date, requests: int) -> None:
        """The database says that a key was used that often on `day`."""
        count = self._counts.setdefault((key_id, day.toordinal() - _EPOCH), _Count())
        count.stored = max(count.stored, requests)

    def take(self, key_id: str, limit: Limit) -> None:
        """Count a request of a key, unless the gateway is going to refuse it because the minute's are used up. Raises
        `RateLimited` (`insufficient_quota`) when the day's are; that one is not counted either."""
        now = self._clock()
        day = int(now // _DAY)
        count = self._counts.get((key_id, day))
        if count is None:
            count = self._counts[key_id, day] = _Count()
        if self._enforce and limit.per_day is not None and count.total >= limit.per_day:
            raise RateLimited(
                f"This API key has used up its {limit.per_day} requests of this day (UTC)",
                code="insufficient_quota",
                retry_after=(day + 1) * _DAY - now,
            )
        if not self._enforce or count.in_this_minute(now) < limit.per_minute:
            count.add(now)

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._write_for_ever())

    async def close(self) -> None:
        """Write what is left; when that fails, say how much it was."""
        self._ending.set()
        if self._task is not None:
            await self._task  # cancelled while it writes, it could not know whether that was done
        try:
            await self.flush()
        except Unavailable:
            log.warning("requests_not_counted", extra={"requests": sum(each.pending for each in self._counts.values())})

    async def flush(self) -> None:
        """Write what was counted. Raises `Unavailable`; then nothing is lost, and the next time writes it."""
        batch = {key: count for key, count in self._counts.items() if count.pending}
        if batch:
            await self._write(batch)
        today = self._day()
        over = [key for key, count in self._counts.items() if key[1] < today and not count.pending]
        if over:
            await _forget(self._database, before=_date(today - _KEPT))
        for key in over:
            del self._counts[key]

    async def _write_for_ever(self) -> None:
        while not self._ending.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), PAUSE)
            try:
                await self.flush()
            except Unavailable:
                log.warning("requests_not_written", extra={"remedy": "kept and written later"})
            except Exception:  # one that nobody thought of must not end the writing
                log.exception("requests not written")

    async def _write(self, batch: dict[tuple[str, int], _Count]) -> None:
        for count in batch.values():
            count.pending, count.writing = 0, count.pending
        try:
            rows = await _add(self._database, batch.items())
        except BaseException:
            for count in batch.values():
                count.pending, count.writing = count.pending + count.writing, 0
            raise
        for count in batch.values():
            count.writing = 0
        for row in rows:
            self.learn(row["key_id"], row["day"], row["requests"])

    def _day(self) -> int:
        return int(self._clock() // _DAY)


async def _add(database: Database, counts: Iterable[tuple[tuple[str, int], _Count]]) -> Sequence[Row]:
    """Add to what is stored and return the new sums. Keys that are gone are left out; rows are locked in one order, so
    that two processes cannot wait for each other."""
    rows = [
        (key_id, _date(day), count.writing, datetime.fromtimestamp(count.last_at, UTC))
        for (key_id, day), count in counts
    ]
    return await database.fetch(
        """
        WITH used AS (
            SELECT * FROM unnest($1::text[], $2::date[], $3::bigint[], $4::timestamptz[])
                AS used (key_id, day, requests, last_at)
        ), held AS (
            SELECT id FROM api_keys WHERE id IN (SELECT key_id FROM used) ORDER BY id FOR NO KEY UPDATE
        ), marked AS (
            UPDATE api_keys SET last_used_at = greatest(api_keys.last_used_at, latest.at)
            FROM held, LATERAL (SELECT max(last_at) AS at FROM used WHERE key_id = held.id) latest
            WHERE api_keys.id = held.id
        )
        INSERT INTO api_key_usage (key_id, day, requests)
        SELECT used.key_id, used.day, used.requests FROM used JOIN held ON held.id = used.key_id
        ON CONFLICT (key_id, day) DO UPDATE SET requests = api_key_usage.requests + excluded.requests
        RETURNING key_id, day, requests
        """,
        *(list(column) for column in zip(*rows, strict=True)),
    )


async def _forget(database: Database, *, before: date) -> None:
    await database.execute("DELETE FROM api_key_usage WHERE day < $1", before)


def _date(day: int) -> date:
    return date.fromordinal(day + _EPOCH)
