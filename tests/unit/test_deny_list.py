"""The list of revoked tokens in memory: complete or not believed, and bounded. tests/grpc has it with a database."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from services.runtime.db import Connection
from services.runtime.errors import Unavailable
from services.runtime.revocation import _SWEEP, CHANNEL, DenyList
from services.runtime.watch import Watch

NOW = 1_760_000_000.0


class Told:
    """A watch that a test speaks through."""

    def follow(self, denied: DenyList) -> None:
        denied.follow(cast(Watch, self))

    def on(self, channel: str, heard: Any, resume: Any) -> None:
        assert channel == CHANNEL
        self.hear, self._resume = heard, resume

    def connect(self, **rows: float) -> None:
        """A new connection, which finds those subjects in the table."""
        asyncio.run(self._resume(cast(Connection, Table(rows))))


class Table:
    def __init__(self, rows: dict[str, float]) -> None:
        self._rows = rows

    async def fetch(self, sql: str) -> list[dict[str, Any]]:
        return [
            {"subject": subject, "expires_at": datetime.fromtimestamp(until, UTC)}
            for subject, until in self._rows.items()
        ]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def denied(told: Told) -> DenyList:
    denied = DenyList(clock=lambda: NOW)
    told.follow(denied)
    return denied


def test_nobody_is_believed_before_the_list_is_there(told: Told, denied: DenyList) -> None:
    told.hear(f"{NOW + 60} tok_1")
    assert not asyncio.run(denied.ready())
    with pytest.raises(Unavailable, match="revoked tokens"):
        denied.denies("tok_2", "ses_2")
    told.connect()
    assert asyncio.run(denied.ready())
    assert (denied.denies("tok_1", "ses_2"), denied.denies("tok_2", "ses_2")) == (True, False)


def test_what_the_table_has_and_what_is_told_later_is_denied(told: Told, denied: DenyList) -> None:
    told.connect(tok_1=NOW + 60)
    told.hear(f"{NOW + 60} ses_2")
    assert [denied.denies(*each) for each in (("tok_1", ""), ("tok_2", "ses_2"), ("tok_3", "ses_3"))] == [
        True,
        True,
        False,
    ]


def test_what_was_missed_while_disconnected_is_read_anew(told: Told, denied: DenyList) -> None:
    told.connect(tok_1=NOW + 60)
    told.connect(tok_1=NOW + 60, tok_2=NOW + 60)
    assert denied.denies("tok_2", "")


def test_the_list_forgets_what_has_expired_and_nothing_else(told: Told, denied: DenyList) -> None:
    told.connect(old=NOW - 1, new=NOW + 60)
    for number in range(10 * _SWEEP):
        told.hear(f"{NOW - 1} tok_{number}")
    assert denied.denies("new", "")
    assert not denied.denies("old", "")
    assert len(denied._until) <= _SWEEP


def test_a_later_end_counts_whatever_the_order(told: Told, denied: DenyList) -> None:
    told.connect()
    for until in (NOW + 60, NOW - 1):
        told.hear(f"{until} tok_1")
    for number in range(_SWEEP):
        told.hear(f"{NOW - 1} tok_x{number}")
    assert denied.denies("tok_1", "")
