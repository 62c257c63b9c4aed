"""Projects in PostgreSQL, each found by its owner."""

from __future__ import annotations

from dataclasses import dataclass

from services.runtime import ids
from services.runtime.db import Database, Row
from services.runtime.errors import NotFound
from services.runtime.pages import Listing, Page


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which projects to list; None and the empty text exclude none."""

    is_archived: bool | None = None
    is_favorite: bool | None = None
    search: str = ""
    """A part of the name, letter case aside."""


@dataclass(frozen=True, slots=True)
class Change:
    """What to change of a project; None stays, and the empty instruction is none."""

    name: str | None = None
    instruction: str | None = None
    is_favorite: bool | None = None
    is_archived: bool | None = None


class ProjectStore:
    """Every method is one statement. A row has the columns of a project and its `conversation_count`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, user_id: str, wanted: Wanted, page: Page) -> Listing:
        """Projects of a user. Raises `InvalidRequest` for a cursor that is none.

        A cursor need not be wanted itself, so that one that was archived in the meantime still leads on.
        """
        text = """
            WITH wanted AS (
                SELECT id, name, instruction, is_favorite, archived_at, created_at, updated_at
                FROM projects
                WHERE user_id = $1
                    AND ($5::boolean IS NULL OR (archived_at IS NOT NULL) = $5)
                    AND ($6::boolean IS NULL OR is_favorite = $6)
                    AND strpos(lower(name), lower($7)) > 0
            ),
            head AS (
                SELECT (SELECT count(*)::int FROM wanted) AS total_count,
                    (SELECT updated_at FROM projects WHERE id = $2 AND user_id = $1) AS after_at
            ),
            page AS (
                SELECT wanted.* FROM wanted, head
                WHERE (updated_at, id) {beyond} (coalesce(head.after_at, '{start}'), $2)
                ORDER BY updated_at {direction}, id {direction} LIMIT $3 OFFSET $4
            )
            SELECT head.total_count, head.after_at, page.*,
                (SELECT count(*)::int FROM conversations WHERE project_id = page.id) AS conversation_count
            FROM head LEFT JOIN page ON true
            ORDER BY page.updated_at {direction}, page.id {direction}
        """
        args = (user_id, page.after, page.limit + 1, page.offset)
        filters = (wanted.is_archived, wanted.is_favorite, wanted.search)
        rows = await self._database.fetch(page.sql(text), *args, *filters)
        return page.cut(rows)

    async def create(self, user_id: str, *, name: str, instruction: str | None, is_favorite: bool) -> Row:
        """Make a project."""
        row = await self._database.fetchrow(
            """
            INSERT INTO projects (id, user_id, name, instruction, is_favorite) VALUES ($1, $2, $3, $4, $5)
            RETURNING id, name, instruction, is_favorite, archived_at, created_at, updated_at, 0 AS conversation_count
            """,
            *(ids.new_id("proj"), user_id, name, instruction, is_favorite),
        )
        if row is None:
            raise AssertionError("an insertion without a condition returns its row")
        return row

    async def get(self, user_id: str, project_id: str) -> Row:
        """A project. Raises `NotFound`."""
        row = await self._database.fetchrow(
            """
            SELECT id, name, instruction, is_favorite, archived_at, created_at, updated_at,
                (SELECT count(*)::int FROM conversations WHERE project_id = projects.id) AS conversation_count
            FROM projects WHERE id = $1 AND user_id = $2
            """,
            *(project_id, user_id),
        )
        return _found(row)

    async def update(self, user_id: str, project_id: str, change: Change) -> Row:
        """Change a project and return it. Archiving again keeps the time of the first. Raises `NotFound`."""
        row = await self._database.fetchrow(
            """
            UPDATE projects SET
                name = coalesce($3, name),
                instruction = nullif(coalesce($4, instruction), ''),
                is_favorite = coalesce($5, is_favorite),
                archived_at = CASE
                    WHEN $6 THEN coalesce(archived_at, now())
                    WHEN $6 IS NULL THEN archived_at
                END,
                updated_at = now()
            WHERE id = $1 AND user_id = $2
            RETURNING id, name, instruction, is_favorite, archived_at, created_at, updated_at,
                (SELECT count(*)::int FROM conversations WHERE project_id = projects.id) AS conversation_count
            """,
            *(project_id, user_id, change.name, change.instruction, change.is_favorite, change.is_archived),
        )
        return _found(row)

    async def delete(self, user_id: str, project_id: str) -> None:
        """Delete a project; its conversations lose it. Raises `NotFound`."""
        _found(
            await self._database.fetchrow(
                "DELETE FROM projects WHERE id = $1 AND user_id = $2 RETURNING id", *(project_id, user_id)
            )
        )


def _found(row: Row | None) -> Row:
    if row is None:
        raise NotFound("There is no such project")
    return row
