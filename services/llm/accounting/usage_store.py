"""Usage in PostgreSQL: sums by hour, user, model, project and API key, and the total of each model."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from services.llm.accounting.period import Period
from services.runtime.db import Connection, Database, Row

# What rows are grouped by; without groups all are one, which has no key.
KEYS = {
    "": "''",
    "day": "to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    "model": "model",
    "project": "project_id",
    "api_key": "api_key_id",
}


class Heading(NamedTuple):
    """Under which usage is added up; `project_id` and `api_key_id` are empty when there is none."""

    user_id: str
    model: str
    project_id: str
    api_key_id: str


class Sums(NamedTuple):
    """What was used: answers, tokens read and tokens written."""

    requests: int
    prompt_tokens: int
    completion_tokens: int


class UsageStore:
    """Everything raises `Unavailable` when the database is not there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, used: Sequence[tuple[Heading, int, Sums]]) -> None:
        """Add sums to those of their hours, which are counted since 1970, and to the totals of their models: all or
        nothing. No heading may come twice with the same hour."""
        rows = [(*heading, datetime.fromtimestamp(hour * 3600, UTC), *sums) for heading, hour, sums in used]
        async with self._database.transaction() as connection:
            await _add_hours(connection, rows)
            await _add_totals(connection, used)

    async def sums(self, user_id: str, period: Period, *, by: str) -> list[Row]:
        """Sums of a user's usage by one of `KEYS`, in the order of the keys."""
        return await self._database.fetch(
            f"""
            SELECT {KEYS[by]} COLLATE "C" AS key, sum(requests)::bigint AS requests,
                sum(prompt_tokens)::bigint AS prompt_tokens, sum(completion_tokens)::bigint AS completion_tokens
            FROM usage WHERE user_id = $1 AND hour >= $2 AND hour < $3
            GROUP BY 1 ORDER BY 1
            """,  # noqa: S608  # `by` is one of KEYS
            *(user_id, period.begin, period.end),
        )


# Rows are locked in one order, first hours and then totals, so that two processes cannot wait for each other.


async def _add_hours(connection: Connection, rows: Sequence[tuple[object, ...]]) -> None:
    await connection.execute(
        """
        INSERT INTO usage AS held (
            user_id, model, project_id, api_key_id, hour, requests, prompt_tokens, completion_tokens
        )
        SELECT * FROM unnest(
            $1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::int[], $7::bigint[], $8::bigint[]
        ) AS used (user_id, model, project_id, api_key_id, hour, requests, prompt_tokens, completion_tokens)
        ORDER BY user_id, hour, model, project_id, api_key_id
        ON CONFLICT (user_id, hour, model, project_id, api_key_id) DO UPDATE SET
            requests = held.requests + excluded.requests,
            prompt_tokens = held.prompt_tokens + excluded.prompt_tokens,
            completion_tokens = held.completion_tokens + excluded.completion_tokens
        """,
        *(list(column) for column in zip(*rows, strict=True)),
    )


async def _add_totals(connection: Connection, used: Sequence[tuple[Heading, int, Sums]]) -> None:
    rows = [(heading.model, *sums) for heading, _, sums in used]
    await connection.execute(
        """
        INSERT INTO model_totals AS held (model, requests, prompt_tokens, completion_tokens)
        SELECT model, sum(requests), sum(prompt_tokens), sum(completion_tokens)
        FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])
            AS used (model, requests, prompt_tokens, completion_tokens)
        GROUP BY model ORDER BY model
        ON CONFLICT (model) DO UPDATE SET
            requests = held.requests + excluded.requests,
            prompt_tokens = held.prompt_tokens + excluded.prompt_tokens,
            completion_tokens = held.completion_tokens + excluded.completion_tokens
        """,
        *(list(column) for column in zip(*rows, strict=True)),
    )
