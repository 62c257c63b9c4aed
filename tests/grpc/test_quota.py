"""Daily counts of API keys in a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
import pytest_asyncio

from services.auth.quota import Quota
from services.runtime import db
from services.runtime.db import DEADLINE, Database, Row
from services.runtime.errors import RateLimited, Unavailable
from services.runtime.limits import Limit

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
PLENTY = 10_000
"""Requests a minute that no test makes."""
TODAY, TOMORROW = date(2026, 3, 1), date(2026, 3, 2)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Flaky(Database):
    """A database that may be down."""

    down = False

    async def fetch(self, sql: str, *args: object, within: float = DEADLINE) -> list[Row]:
        if self.down:
            raise Unavailable("The database is not reachable right now")
        return await super().fetch(sql, *args, within=within)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def flaky(database_url: str) -> AsyncIterator[Flaky]:
    """The test's database, with three keys in it."""
    pool = await db.connect(database_url)
    await pool.execute("INSERT INTO users (id, username, is_guest, roles) VALUES ('usr_1', 'a', true, '{guest}')")
    await pool.execute(
        """
        INSERT INTO api_keys (id, user_id, secret_hash, name, prefix, suffix, scopes, expires_at)
        SELECT 'key_' || n, 'usr_1', n::text::bytea, 'a', 'sk_live', '', '{read}', 'infinity'
        FROM generate_series(1, 3) n
        """
    )
    yield Flaky(pool._pool)
    await pool.close()


async def stored(database: Database, key_id: str = "key_1") -> dict[date, int]:
    rows = await Database.fetch(database, "SELECT day, requests FROM api_key_usage WHERE key_id = $1", key_id)
    return {row["day"]: row["requests"] for row in rows}


def take(
    quota: Quota, times: int, *, per_minute: int = PLENTY, per_day: int | None = None, key_id: str = "key_1"
) -> None:
    for _ in range(times):
        quota.take(key_id, Limit(per_minute, per_day))


def refuses(quota: Quota, per_day: int) -> RateLimited:
    with pytest.raises(RateLimited) as error:
        quota.take("key_1", Limit(PLENTY, per_day))
    return error.value


async def test_the_day_s_requests_are_used_up_until_midnight_utc(flaky: Flaky, clock: Clock) -> None:
    quota = Quota(flaky, enforce=True, clock=clock)
    take(quota, 3, per_day=3)
    said = refuses(quota, 3)
    assert (said.code, said.retry_after) == ("insufficient_quota", 12 * 3600)
    take(quota, 1, per_day=4)
    take(quota, 1, key_id="key_2", per_day=3)
    take(quota, 100)
    clock.now += 12 * 3600
    take(quota, 3, per_day=3)
    assert quota.today() == TOMORROW


async def test_what_the_gateway_refuses_does_not_use_up_the_day(flaky: Flaky, clock: Clock) -> None:
    quota = Quota(flaky, enforce=True, clock=clock)
    for minute in range(2):
        take(quota, 200, per_minute=3, per_day=50)
        await quota.flush()
        assert await stored(flaky) == {TODAY: 3 * (minute + 1)}
        clock.now += 60


async def test_what_nobody_refuses_counts(flaky: Flaky, clock: Clock) -> None:
    quota = Quota(flaky, enforce=False, clock=clock)
    take(quota, 200, per_minute=3, per_day=50)
    await quota.flush()
    assert await stored(flaky) == {TODAY: 200}


async def test_counts_are_added_to_what_is_stored(flaky: Flaky, clock: Clock) -> None:
    quota = Quota(flaky, enforce=True, clock=clock)
    for _ in range(2):
        take(quota, 2)
        take(quota, 1, key_id="key_2")
        await quota.flush()
    assert (await stored(flaky), await stored(flaky, "key_2")) == ({TODAY: 4}, {TODAY: 2})
    await quota.flush()
    assert await stored(flaky) == {TODAY: 4}


async def test_the_last_use_is_noted(flaky: Flaky, clock: Clock) -> None:
    quota = Quota(flaky, enforce=False, clock=clock)
    take(quota, 1)
    await quota.flush()
    clock.now += 100
    take(quota, 1)
    clock.now += 100
    take(quota, 1)
    await quota.flush()
    rows = await flaky.fetch("SELECT last_used_at FROM api_keys ORDER BY id")
    assert [row["last_used_at"] for row in rows] == [datetime.fromtimestamp(NOON + 200, UTC), None, None]


async def test_two_processes_learn_of_each_other(flaky: Flaky, clock: Clock) -> None:
    one, two = [Quota(flaky, enforce=True, clock=clock) for _ in range(2)]
    take(one, 3)
    take(two, 4)
    await one.flush()
    await two.flush()
    assert await stored(flaky) == {TODAY: 7}
    refuses(two, 7)
    take(one, 1)
    await one.flush()
    refuses(one, 8)


async def test_processes_that_write_at_once_do_not_block_each_other(flaky: Flaky, clock: Clock) -> None:
    quotas = [Quota(flaky, enforce=True, clock=clock) for _ in range(8)]
    for n in range(10):
        for quota in quotas:
            for key in sorted(("key_1", "key_2", "key_3"), reverse=bool(n % 2)):
                take(quota, 1, key_id=key)
        await asyncio.gather(*(quota.flush() for quota in quotas))
    assert await stored(flaky) == {TODAY: 80}


async def test_what_the_database_knows_counts(flaky: Flaky, clock: Clock) -> None:
    quota = Quota(flaky, enforce=True, clock=clock)
    take(quota, 1)
    quota.learn("key_1", TODAY, 5)
    refuses(quota, 6)
    quota.learn("key_1", TODAY, 2)  # an older answer that came late
    refuses(quota, 6)


async def test_a_database_that_is_down_loses_nothing(flaky: Flaky, clock: Clock) -> None:
    quota = Quota(flaky, enforce=True, clock=clock)
    take(quota, 2)
    flaky.down = True
    for _ in range(2):
        with pytest.raises(Unavailable):
            await quota.flush()
    take(quota, 1)
    refuses(quota, 3)
    clock.now += 86400
    take(quota, 5)
    flaky.down = False
    await quota.flush()
    assert await stored(flaky) == {TODAY: 3, TOMORROW: 5}


async def test_a_key_that_is_gone_does_not_stop_the_others(flaky: Flaky, clock: Clock) -> None:
    quota = Quota(flaky, enforce=True, clock=clock)
    take(quota, 1, key_id="key_1")
    take(quota, 1, key_id="key_2")
    await flaky.execute("DELETE FROM api_keys WHERE id = 'key_1'")
    await quota.flush()
    assert (await stored(flaky), await stored(flaky, "key_2")) == ({}, {TODAY: 1})


async def test_days_long_past_are_forgotten(flaky: Flaky, clock: Clock) -> None:
    quota = Quota(flaky, enforce=True, clock=clock)
    take(quota, 1)
    await quota.flush()
    clock.now += 86400
    take(quota, 1)
    await quota.flush()
    assert list(quota._counts) == [("key_1", (TOMORROW - date(1970, 1, 1)).days)]
    clock.now += 31 * 86400
    take(quota, 1)
    await quota.flush()
    assert TODAY not in await stored(flaky)
    assert TOMORROW in await stored(flaky)


async def test_counts_are_written_while_it_runs_and_when_it_ends(flaky: Flaky, clock: Clock) -> None:
    written = asyncio.Event()

    class Telling(Flaky):
        async def fetch(self, sql: str, *args: Any, within: float = DEADLINE) -> list[Row]:
            rows = await super().fetch(sql, *args, within=within)
            written.set()
            return rows

    quota = Quota(Telling(flaky._pool), enforce=True, clock=clock)
    quota.start()
    take(quota, 1)
    async with asyncio.timeout(10):
        await written.wait()
    assert await stored(flaky) == {TODAY: 1}
    take(quota, 1)
    await quota.close()
    assert await stored(flaky) == {TODAY: 2}


async def test_an_end_without_a_database_says_what_is_lost(
    flaky: Flaky, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    quota = Quota(flaky, enforce=True, clock=clock)
    quota.start()
    take(quota, 3)
    flaky.down = True
    await quota.close()
    (record,) = caplog.records
    assert (record.message, record.__dict__["requests"]) == ("requests_not_counted", 3)
