"""The database schema: `services/<room>/migrations/NNNN_name.sql`, applied once each, in order, never changed after.

Several processes may start at once: an advisory lock lets one of them work while the others wait and then find
everything done. Files a newer release applied are left alone, so that an older release can be started again.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # see db.py

from services.runtime.db import Connection, Database

log = logging.getLogger("jan.migrations")

_LOCK = 0x6A616E  # "jan"
_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
_SERVICES = Path(__file__).resolve().parents[1]


class MigrationError(Exception):
    """The schema cannot be brought up to date; the message names the file."""


@dataclass(frozen=True, order=True)
class Migration:
    """One file, as it is now."""

    room: str
    version: int
    name: str
    sql: str
    path: Path = field(compare=False)

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    def __str__(self) -> str:
        return str(self.path.relative_to(_SERVICES.parent) if self.path.is_relative_to(_SERVICES.parent) else self.path)


def find(services: Path = _SERVICES) -> list[Migration]:
    """Every migration there is, room by room, in the order of the numbers.
    Raises `MigrationError` for a file with another kind of name, or a number given twice."""
    found: dict[tuple[str, int], Migration] = {}
    for path in sorted(services.glob("*/migrations/*.sql")):
        room, match = path.parts[-3], _NAME.fullmatch(path.name)
        if not match:
            raise MigrationError(f"{path}: expected a name such as 0001_accounts.sql")
        migration = Migration(room, int(match[1]), match[2], path.read_text(encoding="utf-8"), path)
        twin = found.setdefault((room, migration.version), migration)
        if twin is not migration:
            raise MigrationError(f"{migration} has the same number as {twin}")
    return sorted(found.values())


async def migrate(database: Database, services: Path = _SERVICES) -> list[Migration]:
    """Apply what is missing, each file in a transaction of its own, and return what was applied.
    Raises `MigrationError` when a file fails or an applied one has changed, `Unavailable` without a database."""
    migrations = find(services)
    async with database.connection() as connection:
        await connection.execute("SET statement_timeout = 0")  # to wait for others, and to migrate, takes what it takes
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK, within=None)
        try:
            return await _apply(connection, migrations)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)
            await connection.execute("RESET statement_timeout")


async def _apply(connection: Connection, migrations: list[Migration]) -> list[Migration]:
    applied = await _applied(connection)
    for each in migrations:
        if applied.get((each.room, each.version), each.checksum) != each.checksum:
            raise MigrationError(f"{each} was changed after it had been applied; put the change in a new file")
    missing = [each for each in migrations if (each.room, each.version) not in applied]
    for each in missing:
        await _apply_one(connection, each)
        log.info("migration_applied", extra={"file": str(each)})
    return missing


async def _applied(connection: Connection) -> dict[tuple[str, int], str]:
    """The checksum of every applied migration."""
    await connection.execute(
        """CREATE TABLE IF NOT EXISTS schema_migrations (
            room text NOT NULL,
            version integer NOT NULL,
            name text NOT NULL,
            checksum text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (room, version)
        )"""
    )
    rows = await connection.fetch("SELECT room, version, checksum FROM schema_migrations")
    return {(row["room"], row["version"]): row["checksum"] for row in rows}


async def _apply_one(connection: Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql, within=None)
            await connection.execute(
                "INSERT INTO schema_migrations (room, version, name, checksum) VALUES ($1, $2, $3, $4)",
                *(migration.room, migration.version, migration.name, migration.checksum),
            )
    except asyncpg.PostgresError as error:
        raise MigrationError(f"{migration} failed: {error}") from error
