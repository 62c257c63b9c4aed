"""Databases that tests use one after the other: emptied in between, which costs a tenth of making a new one.

A test gets a database that cannot be told from a new copy of the template: afterwards its connections are ended, its
rows are removed, those that migrations made are put back, and only if everything else is then as in the template
(columns, constraints, the database's own settings) does another test get it. If not, it is dropped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from services.runtime import db
from services.runtime.db import Database
from services.runtime.postgres import EmbeddedPostgres

_numbers = count(1)

_DISCONNECT = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""

# A table without a page has had no row since it was made or truncated.
_FILLED = """
SELECT coalesce(array_agg(oid::regclass::text), '{}') FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND pg_relation_size(oid) > 0
"""

# Copies of a database keep the transaction ids (xmin) of the rows that describe it, and a change of the schema writes
# such rows anew. TRUNCATE does so in pg_class, of which only lasting columns are compared.
_CATALOGS = ("pg_attrdef", "pg_constraint", "pg_trigger", "pg_namespace", "pg_extension", "pg_proc", "pg_type")
_DESCRIPTION = (
    """(SELECT array_agg(c ORDER BY oid) FROM (
        SELECT oid, relname, relnamespace, relowner, relpersistence, relrowsecurity, reloptions, relacl
        FROM pg_class WHERE oid >= 16384) AS c)""",
    "(SELECT array_agg((attrelid, attnum, xmin) ORDER BY attrelid, attnum) FROM pg_attribute WHERE attrelid >= 16384)",
    *(f"(SELECT array_agg((oid, xmin) ORDER BY oid) FROM {catalog})" for catalog in _CATALOGS),
    "(SELECT array_agg((datconnlimit, datacl)) FROM pg_database WHERE datname = current_database())",
    """(SELECT array_agg(setconfig) FROM pg_db_role_setting JOIN pg_database AS d ON d.oid = setdatabase
        WHERE datname = current_database())""",
)
_DESCRIBE = f"SELECT md5(concat({', '.join(_DESCRIPTION)}))"
_SEED = "INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM jsonb_populate_recordset(NULL::{table}, $1::jsonb)"


class Databases:
    """Copies of one template. `remove` is a statement that removes more than rows, for tests that make tables."""

    def __init__(self, server: EmbeddedPostgres, template: str, *, remove: str = "") -> None:
        self._server = server
        self._template = template
        self._remove = remove
        self._free: list[str] = []
        self._described = ""
        self._seeds: dict[str, str] = {}

    @asynccontextmanager
    async def one(self) -> AsyncIterator[str]:
        """The URL of a database that nobody else has."""
        name = self._free.pop() if self._free else await self._create()
        yield self._server.url_of(name)
        if await self._is_as_new(name):
            self._free.append(name)
        else:
            await self._maintain(f"DROP DATABASE {name} WITH (FORCE)")

    async def _create(self) -> str:
        name = f"test_{next(_numbers)}"
        await self._maintain(f"CREATE DATABASE {name} OWNER jan TEMPLATE {self._template} STRATEGY file_copy")
        if not self._described:
            async with self._inside(name) as database:
                self._seeds = {table: await _rows(database, table) for table in await database.fetchval(_FILLED)}
                self._described = await database.fetchval(_DESCRIBE)
        return name

    async def _is_as_new(self, name: str) -> bool:
        async with self._inside(name) as database:
            await database.execute(_DISCONNECT)
            if self._remove:
                await database.execute(self._remove)
            if await database.fetchval(_DESCRIBE) != self._described:
                return False
            await self._empty(database)
            return True

    async def _empty(self, database: Database) -> None:
        filled = await database.fetchval(_FILLED)
        if new := [table for table in filled if table not in self._seeds]:
            await database.execute(f"TRUNCATE {', '.join(new)} RESTART IDENTITY CASCADE")
        for table, seed in self._seeds.items():
            if await _rows(database, table) != seed:
                async with database.transaction() as transaction:
                    await transaction.execute("SET LOCAL session_replication_role = replica")  # no trigger, no cascade
                    await transaction.execute(f"DELETE FROM {table}")
                    await transaction.execute(_SEED.format(table=table), seed)

    async def _maintain(self, sql: str) -> None:
        async with self._inside("postgres") as database:
            await database.execute(sql, within=30)

    @asynccontextmanager
    async def _inside(self, name: str) -> AsyncIterator[Database]:
        database = await db.connect(self._server.url_of(name, role="postgres"), max_size=1)
        try:
            yield database
        finally:
            await database.close()


async def _rows(database: Database, table: str) -> str:
    return str(await database.fetchval(f"SELECT coalesce(jsonb_agg(t ORDER BY t), '[]')::text FROM {table} AS t"))
