"""One throw-away PostgreSQL for the session, and a fresh copy of the migrated database for every test that asks."""

from collections.abc import AsyncIterator
from itertools import count

import pytest
import pytest_asyncio

from services.runtime import db
from services.runtime.db import Database
from services.runtime.migrations import migrate
from services.runtime.postgres import EmbeddedPostgres, throwaway

_numbers = count(1)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """A server without durability whose database `jan` is migrated and serves as the template."""
    async with throwaway(tmp_path_factory.mktemp("data")) as server:
        template = await db.connect(server.url)
        await migrate(template)
        await template.close()
        yield server


@pytest_asyncio.fixture
async def database_url(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """A migrated, empty database of the test's own."""
    async for url in _fresh(postgres, template="jan"):
        yield url


@pytest_asyncio.fixture
async def bare_database_url(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """A database without any migration."""
    async for url in _fresh(postgres, template="template1"):
        yield url


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool to a migrated, empty database."""
    async for pool in _pool(database_url):
        yield pool


@pytest_asyncio.fixture
async def bare_database(bare_database_url: str) -> AsyncIterator[Database]:
    """A pool to a database without any migration."""
    async for pool in _pool(bare_database_url):
        yield pool


async def _fresh(server: EmbeddedPostgres, *, template: str) -> AsyncIterator[str]:
    name = f"test_{next(_numbers)}"
    maintenance = await db.connect(server.url_of("postgres", role="postgres"))
    try:
        await maintenance.execute(f"CREATE DATABASE {name} OWNER jan TEMPLATE {template} STRATEGY file_copy")
        yield server.url_of(name)
        await maintenance.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await maintenance.close()


async def _pool(url: str) -> AsyncIterator[Database]:
    pool = await db.connect(url)
    yield pool
    await pool.close()
