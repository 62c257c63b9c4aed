"""The list of revoked tokens and the connection that tells of it, with a real PostgreSQL that breaks connections."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from grpc import StatusCode
from jan.auth.v1 import auth_pb2_grpc

from services.runtime.db import Connection, Database
from services.runtime.errors import Unavailable
from services.runtime.revocation import DenyList, Revocations, revoke
from services.runtime.watch import LOCKS, Watch
from tests.grpc.people import guest, me, refusal, until_refused
from tests.grpc.people import revoke as revoke_token
from tests.grpc.rig import running

IN_AN_HOUR = time.time() + 3600


class Process:
    """What a process has of it: a watch and a list. `passed` is set whenever the list has been read."""

    def __init__(self, url: str) -> None:
        self.watch = Watch(url)
        self.denied = DenyList()
        self.denied.follow(self.watch)
        self.passed = asyncio.Event()
        self.heard: list[str] = []
        self.watch.on("test", self.heard.append, self._resume)

    async def _resume(self, connection: Connection) -> None:
        self.passed.set()

    def denies(self, subject: str) -> bool:
        return self.denied.denies(subject, "")


@pytest_asyncio.fixture
async def start(database_url: str) -> AsyncIterator[Callable[[], Awaitable[Process]]]:
    """Starts processes and ends them after the test."""
    started: list[Process] = []

    async def start() -> Process:
        process = Process(database_url)
        started.append(process)
        await process.watch.start()
        return process

    yield start
    for each in started:
        await each.watch.close()


Start = Callable[[], Awaitable[Process]]


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop its turns until it is so; PATIENCE ends what never is."""
    while not condition():  # noqa: ASYNC110  # nobody sets an event for it
        await asyncio.sleep(0)


async def cut(database: Database, process: Process) -> None:
    """Break the connection of its watch, on the side of the database."""
    process.passed.clear()
    await database.execute(
        """
        SELECT pg_terminate_backend(pid) FROM pg_locks
        WHERE locktype = 'advisory' AND classid = $1 AND objid = $2 AND granted
        """,
        LOCKS,
        process.watch.number,
    )


async def is_held(database: Database, process: Process) -> bool:
    free = await database.fetchval("SELECT pg_try_advisory_lock_shared($1, $2)", LOCKS, process.watch.number)
    await database.execute("SELECT pg_advisory_unlock_all()")
    return not free


# The list


async def test_what_one_process_revokes_every_process_refuses(start: Start, database: Database) -> None:
    here, there = await start(), await start()
    await Revocations(database).add(["tok_1", "ses_1"], until=IN_AN_HOUR)
    for process in (here, there):
        await until(lambda process=process: process.denies("tok_1") and process.denied.denies("tok_2", "ses_1"))
        assert not process.denied.denies("tok_2", "ses_2")


async def test_a_process_that_starts_later_knows_what_was_revoked_before(start: Start, database: Database) -> None:
    await Revocations(database).add(["tok_1"], until=IN_AN_HOUR)
    assert (await start()).denies("tok_1")


async def test_what_is_revoked_in_a_transaction_counts_when_that_commits(start: Start, database: Database) -> None:
    process = await start()
    with pytest.raises(RuntimeError):
        await revoke_and_fail(database, "tok_1")
    async with database.transaction() as connection:
        await revoke(connection, ["tok_2"], until=IN_AN_HOUR)
    await until(lambda: process.denies("tok_2"))
    assert not process.denies("tok_1")


async def revoke_and_fail(database: Database, subject: str) -> None:
    async with database.transaction() as connection:
        await revoke(connection, [subject], until=IN_AN_HOUR)
        raise RuntimeError("rolled back")


async def test_nothing_that_is_revoked_while_the_connection_is_cut_is_missed(start: Start, database: Database) -> None:
    process = await start()
    await cut(database, process)
    await Revocations(database).add(["tok_1"], until=IN_AN_HOUR)
    await process.passed.wait()
    await until(lambda: process.denies("tok_1"))
    await Revocations(database).add(["tok_2"], until=IN_AN_HOUR)
    await until(lambda: process.denies("tok_2"))


async def test_while_the_connection_is_cut_the_list_is_believed_as_it_is(start: Start, database: Database) -> None:
    await Revocations(database).add(["tok_1"], until=IN_AN_HOUR)
    process = await start()
    await cut(database, process)
    await until(lambda: not process.watch.connected)
    assert (process.denies("tok_1"), process.denies("tok_2")) == (True, False)
    await until(lambda: process.watch.connected)


async def test_revoking_again_never_shortens_a_revocation(start: Start, database: Database) -> None:
    for until_ in (IN_AN_HOUR, IN_AN_HOUR - 1000):
        await Revocations(database).add(["tok_1"], until=until_)
    stored = await database.fetchval("SELECT extract(epoch FROM expires_at)::float FROM revocations")
    assert stored == pytest.approx(IN_AN_HOUR, abs=0.001)
    assert (await start()).denies("tok_1")


async def test_what_has_expired_is_swept_and_not_read(start: Start, database: Database) -> None:
    await Revocations(database).add(["over"], until=time.time() - 1)
    await Revocations(database).add(["going on"], until=IN_AN_HOUR)
    process = await start()
    assert (process.denies("over"), process.denies("going on")) == (False, True)
    await Revocations(database).sweep()
    assert [row["subject"] for row in await database.fetch("SELECT subject FROM revocations")] == ["going on"]


async def test_ids_of_any_kind_pass_through_the_channel(start: Start, database: Database) -> None:
    process = await start()
    odd = ["with space", "ünï", "'; DROP TABLE users --", "1e9 2"]
    await Revocations(database).add(odd, until=IN_AN_HOUR)
    await until(lambda: all(process.denies(each) for each in odd))


async def test_an_id_may_be_named_twice_at_once(start: Start, database: Database) -> None:
    process = await start()
    await Revocations(database).add(["tok_1", "tok_1"], until=IN_AN_HOUR)
    await until(lambda: process.denies("tok_1"))


# Without the list


async def test_before_the_list_is_read_no_token_is_believed(tmp_path: Path) -> None:
    process = Process(f"postgresql://jan@/jan?host={tmp_path}")
    assert not await process.denied.ready()
    with pytest.raises(Unavailable):
        process.denies("tok_1")
    await process.watch.start()
    with pytest.raises(Unavailable):
        process.denies("tok_1")
    await process.watch.close()


async def test_a_server_whose_list_is_not_read_says_unavailable_and_recovers(
    tmp_path: Path, database_url: str, database: Database
) -> None:
    await database.execute("ALTER TABLE revocations RENAME TO elsewhere")
    async with running(tmp_path, "auth", database_url=database_url) as rig:
        auth = auth_pb2_grpc.AuthServiceStub(rig.channel)
        tokens = await guest(auth)
        assert await refusal(me(auth, tokens.access_token)) == (StatusCode.UNAVAILABLE, "service_unavailable")
        await database.execute("ALTER TABLE elsewhere RENAME TO revocations")
        while True:
            try:
                assert (await me(auth, tokens.access_token)).id == tokens.user_id
                break
            except Exception as error:
                if "not there yet" not in str(error):
                    raise


async def test_a_server_keeps_up_after_its_connections_were_cut(
    tmp_path: Path, database_url: str, database: Database
) -> None:
    server = partial(running, tmp_path, "auth", database_url=database_url)
    async with server() as one, server() as two:
        here, there = (auth_pb2_grpc.AuthServiceStub(each.channel) for each in (one, two))
        tokens = await guest(here)
        assert (await me(there, tokens.access_token)).id == tokens.user_id
        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1", LOCKS
        )
        await revoke_token(here, tokens.access_token)
        for process in (here, there):
            await until_refused(process, tokens.access_token)


# The watch itself


async def test_a_process_hears_what_is_said_on_its_channel_in_order(start: Start, database: Database) -> None:
    process = await start()
    for number in range(20):
        await database.execute("SELECT pg_notify('test', $1)", str(number))
    await until(lambda: len(process.heard) == 20)
    assert process.heard == [str(number) for number in range(20)]


async def test_a_living_process_holds_its_lock_and_a_closed_one_does_not(start: Start, database: Database) -> None:
    process, other = await start(), await start()
    assert process.watch.number != other.watch.number
    assert [await is_held(database, each) for each in (process, other)] == [True, True]
    await process.watch.close()
    while await is_held(database, process):
        pass
    assert await is_held(database, other)


async def test_after_a_cut_a_process_holds_its_lock_again(start: Start, database: Database) -> None:
    process = await start()
    await cut(database, process)
    await process.passed.wait()
    while not await is_held(database, process):
        pass


async def test_a_connection_that_the_database_takes_for_living_does_not_keep_us_from_listening(
    start: Start, database: Database, database_url: str
) -> None:
    """As after a failure of the network: the lock is still held for the old connection."""
    process = Process(database_url)
    async with database.connection() as before:
        await before.execute("SELECT pg_advisory_lock($1, $2)", LOCKS, process.watch.number)
        await process.watch.start()
        assert process.watch.connected
        await before.execute("SELECT pg_advisory_unlock_all()")
    while not await is_held(database, process):
        pass
    await process.watch.close()


async def test_a_watch_that_was_never_started_can_be_closed(database_url: str) -> None:
    await Watch(database_url).close()


async def test_a_process_that_trips_over_what_it_reads_tries_again(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    watch, tried = Watch(database_url), asyncio.Event()
    connected: list[bool] = []

    async def resume(_connection: Connection) -> None:
        connected.append(watch.connected)
        if len(connected) == 1:
            raise LookupError("a column that is not there")
        tried.set()

    watch.on("test", lambda payload: None, resume)
    await watch.start()
    await tried.wait()
    await until(lambda: watch.connected)
    assert connected == [False, False]
    (lost,) = [record for record in caplog.records if record.msg == "watch_lost"]
    assert lost.exc_info is not None  # a mistake of ours, unlike a connection that breaks
    await watch.close()
