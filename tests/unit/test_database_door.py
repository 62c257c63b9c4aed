"""What the database door makes of asyncpg's odder words, for which no server can be scripted."""

from __future__ import annotations

import asyncpg  # type: ignore[import-untyped]
import pytest

from services.runtime.config import ConfigError
from services.runtime.db import Connection, connect
from services.runtime.errors import InvalidRequest, Unavailable


class Broken:
    """A connection whose server was killed between two queries."""

    terminated = False

    async def fetchrow(self, *_: object, timeout: float) -> None:  # noqa: ASYNC109  # as asyncpg has it
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")

    def terminate(self) -> None:
        self.terminated = True


async def test_a_connection_that_lost_its_state_is_unavailable_and_not_used_again() -> None:
    raw = Broken()
    with pytest.raises(Unavailable):
        await Connection(raw).fetchrow("SELECT 1")
    assert raw.terminated


class Picky:
    """A connection whose server takes no U+0000."""

    async def execute(self, *_: object, timeout: float) -> None:  # noqa: ASYNC109  # as asyncpg has it
        raise asyncpg.CharacterNotInRepertoireError('invalid byte sequence for encoding "UTF8": 0x00')


async def test_text_that_no_database_can_hold_is_the_caller_s_mistake() -> None:
    with pytest.raises(InvalidRequest, match=r"U\+0000"):
        await Connection(Picky()).execute("SELECT $1", "a\0b")


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "postgresql://jan:hush[hush@db/jan",
        "postgresql://jan:hush/hush@db/jan",
        "postgresql://jan:hush#hush@db/jan",
        "postgresql://jan:hush@db:hush/jan",
        "postgresql://jan:hush@db/jan?sslmode=hush",
    ],
)
async def test_a_url_that_is_none_is_refused_without_a_word_of_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        await connect(url)
    assert str(error.value) == "DATABASE_URL is not a PostgreSQL URL; percent-encode special characters in the password"
    assert error.value.__suppress_context__
