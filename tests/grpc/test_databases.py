"""What a test leaves behind in its database does not reach the next one."""

from __future__ import annotations

import pytest

from services.runtime import db
from tests.grpc.databases import Databases

USER = "INSERT INTO users (id, username, is_guest, roles) VALUES ('usr_left', 'left', false, '{user}')"


async def left(databases: Databases, statement: str, look: str) -> tuple[bool, object]:
    """Whether the next test has the same database, and what it sees, after one that ran the statement."""
    async with databases.one() as first:
        connected = await db.connect(first, max_size=1)
        await connected.execute(statement)
    await connected.close()
    async with databases.one() as second:
        database = await db.connect(second)
        seen = await database.fetchval(look)
        await database.close()
    return first == second, seen


async def test_rows_are_gone_although_a_connection_was_left_open(databases: Databases) -> None:
    assert await left(databases, USER, "SELECT count(*) FROM users") == (True, 0)


async def test_rows_that_migrations_made_are_back(databases: Databases) -> None:
    count = "SELECT count(*) > 0 FROM schema_migrations"
    assert await left(databases, "DELETE FROM schema_migrations", count) == (True, True)


@pytest.mark.parametrize(
    ("statement", "look"),
    [
        ("ALTER TABLE users ADD odd text", "SELECT count(*) FROM pg_attribute WHERE attname = 'odd'"),
        ("CREATE TABLE odd (id int)", "SELECT count(*) FROM pg_class WHERE relname = 'odd'"),
        (
            "DROP INDEX revocations_expires_at_idx",
            "SELECT to_regclass('revocations_expires_at_idx') IS NULL",
        ),
        ("ALTER TABLE users ALTER full_name SET DEFAULT 'odd'", "SELECT count(*) FROM users"),
    ],
)
async def test_a_changed_schema_is_nobody_else_s(databases: Databases, statement: str, look: str) -> None:
    assert await left(databases, statement, look) == (False, 0)


async def test_two_at_once_have_databases_of_their_own(databases: Databases) -> None:
    async with databases.one() as one, databases.one() as other:
        assert one != other


async def test_tables_of_a_bare_database_are_gone(bare_databases: Databases) -> None:
    look = "SELECT count(*) FROM pg_class WHERE relname = 'odd'"
    assert await left(bare_databases, "CREATE TABLE odd (id int)", look) == (True, 0)
