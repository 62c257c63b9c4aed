"""Usage on its way into a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from services.llm.accounting.accounting import MOST_TOKENS, Accounting
from services.llm.accounting.period import period_of
from services.llm.accounting.usage_ledger import UsageLedger
from services.llm.accounting.usage_store import Heading, Sums, UsageStore
from services.runtime import call, db
from services.runtime.call import Call
from services.runtime.db import DEADLINE, Connection, Database
from services.runtime.errors import Unavailable
from services.runtime.identity import Identity
from services.runtime.metrics import Metrics

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADA, BOB = Heading("usr_a", "m", "", ""), Heading("usr_b", "m", "", "")


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOON.timestamp()

    def __call__(self) -> float:
        return self.now


class Flaky(Database):
    """A database that may be down, and that tells of every write."""

    def __init__(self, pool: Any) -> None:
        super().__init__(pool)
        self.down = False
        self.written = asyncio.Event()

    @asynccontextmanager
    async def transaction(self, *, within: float = DEADLINE) -> AsyncIterator[Connection]:
        if self.down:
            raise Unavailable("The database is not reachable right now")
        async with super().transaction(within=within) as connection:
            yield connection
        self.written.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def flaky(database_url: str) -> AsyncIterator[Flaky]:
    pool = await db.connect(database_url)
    yield Flaky(pool._pool)
    await pool.close()


@pytest.fixture
def ledger(flaky: Flaky, clock: Clock) -> UsageLedger:
    return UsageLedger(UsageStore(flaky), clock=clock)


async def stored(database: Database) -> dict[tuple[str, int], tuple[int, int, int]]:
    """Requests and tokens by user and hours since noon."""
    rows = await database.fetch("SELECT user_id, hour, requests, prompt_tokens, completion_tokens FROM usage")
    return {
        (row["user_id"], int((row["hour"] - NOON).total_seconds() // 3600)): (
            row["requests"],
            row["prompt_tokens"],
            row["completion_tokens"],
        )
        for row in rows
    }


async def test_answers_of_one_hour_are_one_row(flaky: Flaky, ledger: UsageLedger, clock: Clock) -> None:
    ledger.count(ADA, 5, 2)
    clock.now += 3599
    ledger.count(ADA, 1, 1)
    clock.now += 1
    ledger.count(ADA, 10, 0)
    ledger.count(BOB, 0, 0)
    await ledger.flush()
    assert await stored(flaky) == {("usr_a", 0): (2, 6, 3), ("usr_a", 1): (1, 10, 0), ("usr_b", 1): (1, 0, 0)}


async def test_models_projects_and_keys_are_told_apart(flaky: Flaky, ledger: UsageLedger) -> None:
    headings = [Heading("usr_a", *rest) for rest in (("m", "", ""), ("n", "", ""), ("m", "p", ""), ("m", "", "k"))]
    for heading in headings:
        ledger.count(heading, 1, 1)
    await ledger.flush()
    rows = await flaky.fetch("SELECT user_id, model, project_id, api_key_id FROM usage")
    assert {Heading(*row) for row in map(dict.values, map(dict, rows))} == set(headings)


async def test_sums_are_added_to_what_is_stored(flaky: Flaky, ledger: UsageLedger) -> None:
    for _ in range(3):
        ledger.count(ADA, 5, 2)
        await ledger.flush()
    await ledger.flush()
    assert await stored(flaky) == {("usr_a", 0): (3, 15, 6)}


async def test_processes_that_write_at_once_do_not_block_each_other(flaky: Flaky, clock: Clock) -> None:
    ledgers = [UsageLedger(UsageStore(flaky), clock=clock) for _ in range(8)]
    for n in range(10):
        for ledger in ledgers:
            for heading in sorted((ADA, BOB), reverse=bool(n % 2)):
                ledger.count(heading, 1, 2)
        await asyncio.gather(*(ledger.flush() for ledger in ledgers))
    assert await stored(flaky) == {("usr_a", 0): (80, 80, 160), ("usr_b", 0): (80, 80, 160)}


async def test_more_than_one_statement_holds_is_written_in_several(flaky: Flaky, clock: Clock) -> None:
    ledger = UsageLedger(UsageStore(flaky), batch=3, clock=clock)
    for n in range(7):
        ledger.count(Heading(f"usr_{n}", "m", "", ""), n, 0)
    await ledger.flush()
    assert len(await stored(flaky)) == 7


async def test_totals_of_models_agree_with_what_users_used_however_many_processes_write(database: Database) -> None:
    def used(user: str) -> list[tuple[Heading, int, Sums]]:
        models = [f"m{number}" for number in range(5)]
        return [(Heading(user, model, "", ""), hour, Sums(1, 10, 2)) for model in models for hour in (1, 2)]

    stores = [UsageStore(database) for _ in range(4)]
    await asyncio.gather(*(store.add(used(f"usr_{turn}")) for store in stores for turn in range(10)))
    totals = await database.fetch(
        "SELECT model, requests, prompt_tokens, completion_tokens FROM model_totals ORDER BY 1"
    )
    sums = await database.fetch(
        "SELECT model, sum(requests), sum(prompt_tokens), sum(completion_tokens) FROM usage GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row.values()) for row in totals] == [tuple(row.values()) for row in sums]
    assert tuple(totals[0].values()) == ("m0", 80, 800, 160)


async def test_a_database_that_is_away_loses_nothing(flaky: Flaky, ledger: UsageLedger, clock: Clock) -> None:
    ledger.count(ADA, 5, 2)
    flaky.down = True
    for _ in range(2):
        with pytest.raises(Unavailable):
            await ledger.flush()
    ledger.count(ADA, 5, 2)
    clock.now += 3600
    ledger.count(ADA, 1, 1)
    flaky.down = False
    await ledger.flush()
    assert await stored(flaky) == {("usr_a", 0): (2, 10, 4), ("usr_a", 1): (1, 1, 1)}


async def test_what_is_counted_during_a_write_that_fails_is_kept(flaky: Flaky, clock: Clock) -> None:
    class Busy(UsageStore):
        async def add(self, used: Any) -> None:
            if flaky.down:
                ledger.count(ADA, 100, 100)
            await super().add(used)

    ledger = UsageLedger(Busy(flaky), clock=clock)
    ledger.count(ADA, 5, 2)
    flaky.down = True
    with pytest.raises(Unavailable):
        await ledger.flush()
    flaky.down = False
    await ledger.flush()
    assert await stored(flaky) == {("usr_a", 0): (2, 105, 102)}


async def test_only_so_much_waits_and_the_rest_is_told(
    flaky: Flaky, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = UsageLedger(UsageStore(flaky), most=2, clock=clock)
    for user in ("usr_a", "usr_b", "usr_c", "usr_a", "usr_c"):
        ledger.count(Heading(user, "m", "", ""), 1, 1)
    await ledger.flush()
    assert await stored(flaky) == {("usr_a", 0): (2, 2, 2), ("usr_b", 0): (1, 1, 1)}
    (record,) = caplog.records
    assert (record.message, record.__dict__["requests"]) == ("usage_lost", 2)
    ledger.count(Heading("usr_c", "m", "", ""), 1, 1)
    await ledger.flush()
    assert len(await stored(flaky)) == 3


async def test_it_writes_while_it_runs_and_when_it_ends(flaky: Flaky, ledger: UsageLedger) -> None:
    ledger.start()
    ledger.count(ADA, 5, 2)
    async with asyncio.timeout(10):
        await flaky.written.wait()
    assert await stored(flaky) == {("usr_a", 0): (1, 5, 2)}
    ledger.count(ADA, 5, 2)
    await ledger.close()
    assert await stored(flaky) == {("usr_a", 0): (2, 10, 4)}


async def test_it_goes_on_writing_after_failures_of_any_kind(
    flaky: Flaky, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[Exception] = [Unavailable("The database is not reachable right now"), ValueError("unheard of")]

    class Failing(UsageStore):
        async def add(self, used: Any) -> None:
            if failures:
                raise failures.pop()
            await super().add(used)

    ledger = UsageLedger(Failing(flaky), pause=0.001, clock=clock)
    ledger.start()
    ledger.count(ADA, 5, 2)
    async with asyncio.timeout(10):
        await flaky.written.wait()
    await ledger.close()
    assert await stored(flaky) == {("usr_a", 0): (1, 5, 2)}
    assert [record.message for record in caplog.records] == ["usage not written", "usage_not_written"]


async def test_an_end_without_a_database_says_what_is_lost(
    flaky: Flaky, ledger: UsageLedger, caplog: pytest.LogCaptureFixture
) -> None:
    flaky.down = True
    ledger.count(ADA, 5, 2)
    ledger.count(BOB, 5, 2)
    await ledger.close()
    (record,) = caplog.records
    assert (record.message, record.__dict__["requests"]) == ("usage_lost", 2)


# Who is counted


def caller(auth_method: str) -> Identity:
    return Identity("usr_a", "ada", (), False, auth_method, (), 0.0, "", session_id="key_1")


@pytest.mark.parametrize(("auth_method", "api_key_id"), [("jwt", ""), ("api_key", "key_1")])
async def test_the_caller_pays_and_her_key_is_named(
    flaky: Flaky, ledger: UsageLedger, auth_method: str, api_key_id: str
) -> None:
    call.enter(Call("req_1", 0.0, caller(auth_method)))
    registry = CollectorRegistry()
    accounting = Accounting(Metrics(registry), ledger)
    accounting.spent("m", {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}, project_id="proj_1")
    await ledger.flush()
    (row,) = await flaky.fetch(
        "SELECT user_id, hour, model, project_id, api_key_id, requests, prompt_tokens, completion_tokens FROM usage"
    )
    assert list(row.values()) == ["usr_a", NOON, "m", "proj_1", api_key_id, 1, 5, 2]
    assert registry.get_sample_value("jan_model_tokens_total", {"model": "m", "kind": "prompt"}) == 5


@pytest.mark.parametrize(
    "usage",
    [None, {}, [], "7", {"prompt_tokens": None, "completion_tokens": "7"}]
    + [{"prompt_tokens": count, "completion_tokens": count} for count in (-1, 1.5, 2**31, 2**80)],
)
async def test_an_upstream_s_nonsense_is_a_request_without_tokens(
    flaky: Flaky, ledger: UsageLedger, usage: object
) -> None:
    call.enter(Call("req_1", 0.0, caller("jwt")))
    Accounting(Metrics(CollectorRegistry()), ledger).spent("m", usage)
    await ledger.flush()
    assert await stored(flaky) == {("usr_a", 0): (1, 0, 0)}


async def test_the_largest_numbers_of_a_busy_hour_fit(flaky: Flaky, ledger: UsageLedger) -> None:
    for _ in range(1000):
        ledger.count(ADA, MOST_TOKENS, MOST_TOKENS)
    await ledger.flush()
    await ledger.flush()
    period = period_of("2026-03-01", "2026-03-01", now=NOON)
    (row,) = await UsageStore(flaky).sums("usr_a", period, by="")
    tokens = 1000 * MOST_TOKENS
    assert dict(row) == {"key": "", "requests": 1000, "prompt_tokens": tokens, "completion_tokens": tokens}
