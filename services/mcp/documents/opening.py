"""Where the documents are: in the database of the installation, or in one of their own."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack

from services.mcp.documents.store import DocumentStore
from services.runtime import db
from services.runtime.config import ConfigError
from services.runtime.db import Database
from services.runtime.errors import Unavailable

log = logging.getLogger("jan.documents")


async def opened(url: str, shared: Database, stack: AsyncExitStack) -> DocumentStore:
    """The store in the database of `url` (VECTOR_STORE_URL), or in the shared one without. `stack` closes what it
    opens. One that is away gets its tables when it is back. Raises `ConfigError` for one that cannot be used."""
    store = DocumentStore(await _own(url, stack) if url else shared)
    try:
        await store.prepare()
    except Unavailable:
        log.warning("documents_without_database", extra={"remedy": "every call of file search tries again"})
    return store


async def _own(url: str, stack: AsyncExitStack) -> Database:
    try:
        database = await db.connect(url)
    except ConfigError as error:
        raise ConfigError(str(error).replace("DATABASE_URL", "VECTOR_STORE_URL")) from None  # may hold the password
    stack.push_async_callback(database.close)
    return database
