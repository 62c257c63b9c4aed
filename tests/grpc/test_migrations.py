"""Migrations against a real database: applied once, in order, and never half."""

import asyncio
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest

from services.runtime import db
from services.runtime.db import Database
from services.runtime.migrations import MigrationError, find, migrate

FILE_SEARCH = Path(__file__).parents[2] / "services/mcp"
"""Where the tables are that a store makes by itself."""


def write(services: Path, room: str, name: str, sql: str) -> None:
    folder = services / room / "migrations"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(sql)


async def test_files_are_applied_once_in_the_order_of_their_numbers(bare_database: Database, tmp_path: Path) -> None:
    write(tmp_path, "llm", "0002_more.sql", "INSERT INTO chats VALUES (2); INSERT INTO chats VALUES (3);")
    write(tmp_path, "llm", "0001_chats.sql", "CREATE TABLE chats (id int)")
    write(tmp_path, "auth", "0001_users.sql", "CREATE TABLE users (id int)")
    assert [str(each) for each in await migrate(bare_database, tmp_path)] == [
        f"{tmp_path}/auth/migrations/0001_users.sql",
        f"{tmp_path}/llm/migrations/0001_chats.sql",
        f"{tmp_path}/llm/migrations/0002_more.sql",
    ]
    assert await migrate(bare_database, tmp_path) == []
    assert await bare_database.fetchval("SELECT count(*) FROM chats") == 2


async def test_a_file_added_later_is_applied_alone(bare_database: Database, tmp_path: Path) -> None:
    write(tmp_path, "llm", "0001_chats.sql", "CREATE TABLE chats (id int)")
    await migrate(bare_database, tmp_path)
    write(tmp_path, "llm", "0002_more.sql", "ALTER TABLE chats ADD title text")
    assert [each.name for each in await migrate(bare_database, tmp_path)] == ["more"]


async def test_an_applied_file_that_was_changed_is_named_and_nothing_is_applied(
    bare_database: Database, tmp_path: Path
) -> None:
    write(tmp_path, "llm", "0001_chats.sql", "CREATE TABLE chats (id int)")
    await migrate(bare_database, tmp_path)
    write(tmp_path, "llm", "0001_chats.sql", "CREATE TABLE chats (id bigint)")
    write(tmp_path, "auth", "0001_users.sql", "CREATE TABLE users (id int)")
    with pytest.raises(MigrationError, match=r"/llm/migrations/0001_chats.sql was changed after"):
        await migrate(bare_database, tmp_path)
    assert await bare_database.fetchval("SELECT to_regclass('users')") is None


async def test_a_file_that_fails_is_named_and_leaves_nothing_behind(bare_database: Database, tmp_path: Path) -> None:
    write(tmp_path, "llm", "0001_chats.sql", "CREATE TABLE chats (id int)")
    write(tmp_path, "llm", "0002_broken.sql", "CREATE TABLE half (id int); SELECT * FROM nothing;")
    with pytest.raises(MigrationError, match=r"/llm/migrations/0002_broken.sql failed: .*nothing"):
        await migrate(bare_database, tmp_path)
    assert await bare_database.fetchval("SELECT to_regclass('half')") is None
    write(tmp_path, "llm", "0002_broken.sql", "CREATE TABLE half (id int)")
    assert [each.name for each in await migrate(bare_database, tmp_path)] == ["broken"]


async def test_processes_that_start_together_apply_a_file_once(bare_database_url: str, tmp_path: Path) -> None:
    write(tmp_path, "llm", "0001_chats.sql", "SELECT pg_sleep(0.1); CREATE TABLE chats (id int)")
    pools = [await db.connect(bare_database_url) for _ in range(4)]
    applied = await asyncio.gather(*(migrate(pool, tmp_path) for pool in pools))
    assert sorted(len(each) for each in applied) == [0, 0, 0, 1]
    for pool in pools:
        await pool.close()


async def test_a_newer_schema_does_not_stop_an_older_release(bare_database: Database, tmp_path: Path) -> None:
    write(tmp_path, "llm", "0001_chats.sql", "CREATE TABLE chats (id int)")
    await migrate(bare_database, tmp_path)
    (tmp_path / "llm/migrations/0001_chats.sql").unlink()
    assert await migrate(bare_database, tmp_path) == []


@pytest.mark.parametrize("name", ["1_short.sql", "0001-dashes.sql", "accounts.sql"])
def test_a_file_with_another_kind_of_name_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, "auth", name, "")
    with pytest.raises(MigrationError, match=f"{name}: expected a name such as"):
        find(tmp_path)


def test_a_number_given_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "auth", "0001_users.sql", "")
    write(tmp_path, "auth", "0001_accounts.sql", "")
    with pytest.raises(MigrationError, match=r"0001_users.sql has the same number as .*0001_accounts.sql"):
        find(tmp_path)


async def test_the_migrations_of_this_release_are_all_applied(database: Database) -> None:
    rows = await database.fetch("SELECT room, version, name, checksum FROM schema_migrations ORDER BY room, version")
    known = sorted([*find(), *find(FILE_SEARCH)])
    assert [tuple(row.values()) for row in rows] == [(e.room, e.version, e.name, e.checksum) for e in known]


async def test_an_address_belongs_to_one_account_however_it_is_written(database: Database) -> None:
    insert = "INSERT INTO users (id, username, email, is_guest, roles) VALUES ($1, $1, $2, false, '{user}')"
    await database.execute(insert, "usr_1", "Ada@example.com")
    with pytest.raises(asyncpg.UniqueViolationError):
        await database.execute(insert, "usr_2", "ada@EXAMPLE.com")
    await database.execute(insert, "usr_3", None)
    await database.execute(insert, "usr_4", None)
