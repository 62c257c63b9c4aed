"""What administrators have set about tools, in PostgreSQL. Every change is told to all processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.mcp.tool import Description
from services.runtime import ids
from services.runtime.audit import Change, record
from services.runtime.db import Connection, Database, Row
from services.runtime.errors import NotFound
from services.runtime.pages import Listing, Page

CHANNEL = "tools"
COLUMNS = """
    id, name, provider, default_description, default_category, description, category, enabled, disallowed_keywords,
    require_approval_for, metadata, created_at, updated_at
"""


@dataclass(frozen=True)
class Filter:
    """Which tools a list shows; None and '' are no condition."""

    category: str = ""
    enabled: bool | None = None
    search: str = ""


class ToolStore:
    """The rows of tools."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def remember(self, tools: Iterable[Description]) -> None:
        """Make rows for tools that are seen for the first time, and keep what the others say of themselves now."""
        known = sorted(tools, key=lambda tool: tool.name)  # one order for all processes, which start at the same time
        if not known:
            return
        await self._database.execute(
            """
            INSERT INTO tools AS known (id, name, provider, default_description, default_category)
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
            ON CONFLICT (name) DO UPDATE SET
                provider = excluded.provider, default_description = excluded.default_description,
                default_category = excluded.default_category
            WHERE (known.provider, known.default_description, known.default_category)
                IS DISTINCT FROM (excluded.provider, excluded.default_description, excluded.default_category)
            """,
            [tool_id(tool.name) for tool in known],
            [tool.name for tool in known],
            [tool.provider for tool in known],
            [tool.text for tool in known],
            [tool.category for tool in known],
        )

    async def load(self, connection: Connection | None = None) -> Sequence[Row]:
        """Every row."""
        return await (connection or self._database).fetch(f"SELECT {COLUMNS} FROM tools")  # noqa: S608 - our own words

    async def list(self, page: Page, wanted: Filter) -> Listing:
        """One page of tools, by id. Raises `InvalidRequest` for an unknown cursor."""
        rows = await self._database.fetch(
            page.sql(_PAGE),
            *(page.after, page.limit + 1, page.offset, wanted.category, wanted.enabled, wanted.search),
        )
        return page.cut(rows)

    async def get(self, name: str) -> Row:
        """A tool by its id or its name. Raises `NotFound`."""
        row = await self._database.fetchrow(f"SELECT {COLUMNS} FROM tools WHERE id = $1 OR name = $1", name)  # noqa: S608 - our own words
        if row is None:
            raise NotFound("There is no such tool")
        return row

    async def change(self, name: str, changes: Mapping[str, Any], change: Change) -> Row:
        """Set columns of a tool. Raises `NotFound`."""
        names = list(changes)
        assignments = "".join(f"{column} = ${number}, " for number, column in enumerate(names, 2))
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                f"""
                UPDATE tools SET {assignments} updated_at = now() WHERE id = $1 OR name = $1
                RETURNING {COLUMNS}
                """,  # noqa: S608 - names of columns are ours
                *(name, *changes.values()),
            )
            if row is None:
                raise NotFound("There is no such tool")
            await record(connection, change, "tool.update", [row["name"]])
            await connection.execute("SELECT pg_notify($1, '')", CHANNEL)
        return row


def tool_id(name: str) -> str:
    """The id of a tool, the same in every installation."""
    return ids.derived_id("tool", name)


_MATCHES = """
    ($4 = '' OR coalesce(category, default_category) = $4)
    AND ($5::boolean IS NULL OR enabled = $5)
    AND ($6 = '' OR strpos(lower(name || ' ' || coalesce(description, default_description)), lower($6)) > 0)
"""
_PAGE = f"""
    WITH found AS (SELECT {COLUMNS} FROM tools WHERE {_MATCHES}),
    head AS (SELECT count(*)::int AS total_count, max(id) FILTER (WHERE id = $1) AS after_at FROM found)
    SELECT head.total_count, head.after_at, page.*
    FROM head LEFT JOIN LATERAL (
        SELECT * FROM found
        WHERE $1 = '' OR id {{beyond}} $1
        ORDER BY id {{direction}} LIMIT $2 OFFSET $3
    ) page ON true
    ORDER BY page.id {{direction}}
"""  # noqa: S608 - our own words
