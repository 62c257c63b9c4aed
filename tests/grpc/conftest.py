"""One throw-away PostgreSQL for the session, and an empty migrated database for every test that asks."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.mcp.documents.store import DocumentStore
from services.runtime import db
from services.runtime.db import Database
from services.runtime.migrations import migrate
from services.runtime.postgres import EmbeddedPostgres, throwaway
from tests.grpc.databases import Databases


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """A server without durability whose database `jan` is migrated and serves as the template."""
    async with throwaway(tmp_path_factory.mktemp("data")) as server:
        template = await db.connect(server.url)
        await migrate(template)
        await DocumentStore(template).prepare()
        await template.close()
        yield server


@pytest.fixture(scope="session")
def databases(postgres: EmbeddedPostgres) -> Databases:
    """Migrated databases."""
    return Databases(postgres, "jan")


@pytest.fixture(scope="session")
def bare_databases(postgres: EmbeddedPostgres) -> Databases:
    """Databases in which tests make the tables."""
    return Databases(postgres, "template1", remove="DROP OWNED BY jan CASCADE")


@pytest_asyncio.fixture
async def database_url(databases: Databases) -> AsyncIterator[str]:
    """A migrated, empty database of the test's own."""
    async with databases.one() as url:
        yield url


@pytest_asyncio.fixture
async def bare_database_url(bare_databases: Databases) -> AsyncIterator[str]:
    """A database without any migration."""
    async with bare_databases.one() as url:
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


async def _pool(url: str) -> AsyncIterator[Database]:
    pool = await db.connect(url)
    yield pool
    await pool.close()
