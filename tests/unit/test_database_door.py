"""What the database door makes of asyncpg's odder words, for which no server can be scripted."""

from __future__ import annotations

import asyncpg  # type: ignore[import-untyped]
import pytest

from services.runtime.db import Connection
from services.runtime.errors import Unavailable


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
