"""The database of an installation, for commands that an operator runs beside the server, or while it is stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.runtime import db, migrations
from services.runtime.config import Settings
from services.runtime.db import Database
from services.runtime.errors import Unavailable
from services.runtime.machine import locked
from services.runtime.postgres import running_url, served
from services.runtime.supervisor import StartError


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[Database]:
    """A pool to DATABASE_URL or to the embedded database, which is started for the moment if it does not run; its
    schema is up to date. Enter it on the main thread (see `spawn`). Raises `StartError` or `ConfigError`."""
    async with _url(settings) as url:
        pool = await db.connect(url, max_size=2)
        try:
            await migrations.migrate(pool)
            yield pool
        except migrations.MigrationError as error:
            raise StartError(str(error)) from error
        except Unavailable as error:
            where = "DATABASE_URL" if settings.database_url else str(settings.data_dir)
            raise StartError(f"the database of {where} cannot be reached: {error.__cause__}") from error
        finally:
            await pool.close()


@asynccontextmanager
async def _url(settings: Settings) -> AsyncIterator[str]:
    url = settings.database_url or await running_url(settings.data_dir)
    if url:
        yield url
        return
    with locked(settings.data_dir) as lock:
        async with served(settings.data_dir, keep_open=(lock,)) as postgres:
            yield postgres.url
