"""The audit log of administration: who has changed what, why, by which request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.runtime import call
from services.runtime.db import Connection


@dataclass(frozen=True)
class Change:
    """Who changes something, why, and by which request."""

    actor: str
    reason: str
    request_id: str


def change_of(reason: str) -> Change:
    """What the call in progress changes."""
    return Change(call.caller().user_id, reason, call.current().request_id)


async def record(connection: Connection, change: Change, action: str, targets: Sequence[str]) -> None:
    """Write it down for each of the targets, as a part of the transaction that does it."""
    await connection.execute(
        """
        INSERT INTO audit_log (actor, action, target, reason, request_id)
        SELECT $1, $2, target, $3, $4 FROM unnest($5::text[]) AS target
        """,
        *(change.actor, action, change.reason, change.request_id, list(targets)),
    )
