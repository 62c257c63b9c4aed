"""The door to PostgreSQL: a pool whose every query has a deadline, and which a database that goes away cannot break.
One that hangs is not even asked (pulse.py).

Whatever says "the database is not there (any more)" becomes `errors.Unavailable`; the next query connects anew. Errors
that mean something to a store (`UniqueViolation` and its like) pass as they are.

Connections are not reset between uses, which would cost a round trip per query: do not leave session state behind
(SET without LOCAL, LISTEN, advisory locks) on a connection of this pool.
"""

from __future__ import annotations

import logging
import time
from asyncio import timeout
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # ships no annotations; this module is where they begin

from services.runtime.config import ConfigError
from services.runtime.errors import InvalidRequest, Unavailable
from services.runtime.pulse import Pulse

log = logging.getLogger("jan.db")

Row = Mapping[str, Any]
UniqueViolation: type[Exception] = asyncpg.UniqueViolationError
LARGEST_POOL = 10  # connections of one process
DEADLINE = 5.0  # seconds for a query, the wait for a connection included
_SIGN = 0.5  # seconds within which a database that lives gives a sign of it
_RELEASE = 1.0  # seconds for a rollback, and for a cancelled query to let go; then the connection is dropped

# Behind our own deadlines, for queries and transactions of a process that cannot end them any more, so that the locks
# they hold become free.
_SERVER_SETTINGS = {"statement_timeout": "30s", "idle_in_transaction_session_timeout": "30s"}

_GONE = (
    OSError,  # refused, reset, no such socket; TimeoutError is one, too
    asyncpg.PostgresConnectionError,  # class 08, and the connection that broke under a query
    asyncpg.OperatorInterventionError,  # class 57: shutting down, starting up, query cancelled
    asyncpg.InsufficientResourcesError,  # class 53: too many connections, disk full
)


class Connection:
    """One leased connection. `within` is the deadline of a call in seconds, None for none."""

    def __init__(self, raw: Any, *, until: float | None = None, pulse: Pulse | None = None) -> None:
        self._raw = raw
        self._until = until
        self._pulse = pulse

    async def fetch(self, sql: str, *args: object, within: float | None = DEADLINE) -> list[Row]:
        """All rows of the answer."""
        with self._asking():
            rows: list[Row] = await self._raw.fetch(sql, *args, timeout=self._left(within))
            return rows

    async def fetchrow(self, sql: str, *args: object, within: float | None = DEADLINE) -> Row | None:
        """The first row, or None."""
        with self._asking():
            row: Row | None = await self._raw.fetchrow(sql, *args, timeout=self._left(within))
            return row

    async def fetchval(self, sql: str, *args: object, within: float | None = DEADLINE) -> Any:
        """The first column of the first row, or None."""
        with self._asking():
            return await self._raw.fetchval(sql, *args, timeout=self._left(within))

    async def execute(self, sql: str, *args: object, within: float | None = DEADLINE) -> str:
        """Run it and return PostgreSQL's word for what happened, such as `UPDATE 1`."""
        with self._asking():
            return str(await self._raw.execute(sql, *args, timeout=self._left(within)))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Commit at the end of the block, roll back when it raises. Inside another one it is a savepoint."""
        transaction = self._raw.transaction()
        with self._asking():
            async with timeout(DEADLINE):
                await transaction.start()
        try:
            yield
        except BaseException:
            with suppress(Unavailable), _translated(self._raw):  # a lost connection has rolled back by itself
                async with timeout(_RELEASE):
                    await transaction.rollback()
            raise
        with self._asking():
            async with timeout(DEADLINE):
                await transaction.commit()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        with _translated(self._raw), self._pulse.asking(self._raw.terminate) if self._pulse else nullcontext():
            yield

    def _left(self, within: float | None) -> float | None:
        return within if self._until is None else max(0.001, self._until - time.monotonic())


class Database:
    """A pool. It connects when it is needed, so it can be made before PostgreSQL is up."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._pulse = Pulse(self._look)

    async def fetch(self, sql: str, *args: object, within: float = DEADLINE) -> list[Row]:
        """All rows of the answer."""
        async with self._lease(within, until=time.monotonic() + within) as connection:
            return await connection.fetch(sql, *args)

    async def fetchrow(self, sql: str, *args: object, within: float = DEADLINE) -> Row | None:
        """The first row, or None."""
        async with self._lease(within, until=time.monotonic() + within) as connection:
            return await connection.fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: object, within: float = DEADLINE) -> Any:
        """The first column of the first row, or None."""
        async with self._lease(within, until=time.monotonic() + within) as connection:
            return await connection.fetchval(sql, *args)

    async def execute(self, sql: str, *args: object, within: float = DEADLINE) -> str:
        """Run it and return PostgreSQL's word for what happened, such as `UPDATE 1`."""
        async with self._lease(within, until=time.monotonic() + within) as connection:
            return await connection.execute(sql, *args)

    def connection(self, *, within: float = DEADLINE) -> AbstractAsyncContextManager[Connection]:
        """Lease one connection for several queries. Raises `Unavailable` when none is to be had in time."""
        return self._lease(within)

    @asynccontextmanager
    async def transaction(self, *, within: float = DEADLINE) -> AsyncIterator[Connection]:
        """Lease a connection in a transaction: committed at the end of the block, rolled back when it raises."""
        async with self.connection(within=within) as connection, connection.transaction():
            yield connection

    async def ready(self) -> bool:
        """Whether the database answers within a second."""
        try:
            return bool(await self.fetchval("SELECT true", within=1.0))
        except Unavailable:
            return False

    async def _look(self) -> bool:
        """A sign of life, over a connection that may have to be made."""
        try:
            raw = await self._acquire(_SIGN)
            try:
                with _translated(raw):
                    await raw.execute("SELECT", timeout=_SIGN)
            except Unavailable:
                raw.terminate()  # to ask it politely for its end would take as long again
                raise
            finally:
                await self._release(raw)
        except Unavailable:
            return False
        return True

    async def close(self) -> None:
        """Let queries that run finish within the deadline, then close every connection."""
        try:
            async with timeout(DEADLINE):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def _lease(self, within: float, *, until: float | None = None) -> AsyncIterator[Connection]:
        if not await self._pulse.beats():
            raise _not_reachable()
        raw = await self._acquire(within)
        try:
            yield Connection(raw, until=until, pulse=self._pulse)
        finally:
            await self._release(raw)

    async def _acquire(self, within: float) -> Any:
        with _translated(), self._pulse.waiting():
            async with timeout(within):
                return await self._pool.acquire()

    async def _release(self, raw: Any) -> None:
        with suppress(*_GONE, asyncpg.InterfaceError):  # a connection that cannot be given back is dropped
            await self._pool.release(raw, timeout=_RELEASE)


async def connect(url: str, *, min_size: int = 1, max_size: int = LARGEST_POOL) -> Database:
    """A pool of at most `max_size` connections to `url`. If the database is up, `min_size` of them are opened ahead;
    if not, that is logged and every query tries again. Raises `ConfigError` for a URL that can never work."""
    # A floor for the pool itself (asyncpg's min_size) would make the start fail without a database.
    pool = asyncpg.create_pool(
        url, min_size=0, max_size=max_size, timeout=DEADLINE, reset=_keep_as_is, server_settings=_SERVER_SETTINGS
    )
    database = Database(await pool)
    try:
        async with AsyncExitStack() as held:
            for _ in range(min_size):
                await held.enter_async_context(database.connection())
    except asyncpg.PostgresError as error:
        raise ConfigError(f"DATABASE_URL cannot be used: {error}") from error
    except ValueError:  # its text and its traceback may quote a part of the password
        raise ConfigError(
            "DATABASE_URL is not a PostgreSQL URL; percent-encode special characters in the password"
        ) from None
    except Unavailable:
        log.warning("database_unreachable", extra={"remedy": "every query tries again"})
    return database


async def _keep_as_is(_connection: object) -> None:
    """What a connection goes through between two uses. An open transaction is rolled back all the same."""


@contextmanager
def _translated(raw: Any = None) -> Iterator[None]:
    try:
        yield
    except _GONE as error:
        raise _not_reachable() from error
    except asyncpg.CharacterNotInRepertoireError as error:
        raise InvalidRequest("Text cannot have the character U+0000") from error
    except asyncpg.InternalClientError as error:  # what asyncpg says when the connection broke between two queries
        if raw is not None:
            raw.terminate()
        raise Unavailable("The connection to the database broke; try again shortly.") from error
    except asyncpg.InterfaceError as error:
        if isinstance(error, ValueError) or (raw is not None and not _is_closed(raw)):
            raise  # a wrong argument, a mistake of ours
        raise Unavailable("The connection to the database is closed; try again shortly.") from error


def _not_reachable() -> Unavailable:
    return Unavailable("The database is not reachable right now; try again shortly.")


def _is_closed(raw: Any) -> bool:
    try:
        return bool(raw.is_closed())
    except asyncpg.InterfaceError:  # taken back by the pool, which does that to broken ones
        return True
