"""Pages of lists (CONTRACT 0.3): what a list request asks for, and the envelope around the rows that a store found.

A store writes one statement. It counts, finds the row behind which the page begins and reads one row more than it
shows; with the index (user_id, updated_at, id) no page costs more than the first, for OFFSET is 0 unless asked for:

    PAGE = '''
        WITH head AS (
            SELECT count(*)::int AS total_count, max(updated_at) FILTER (WHERE id = $2) AS after_at
            FROM notes WHERE user_id = $1
        )
        SELECT head.total_count, head.after_at, page.*
        FROM head LEFT JOIN LATERAL (
            SELECT id, title, updated_at FROM notes
            WHERE user_id = $1 AND (updated_at, id) {beyond} (coalesce(head.after_at, '{start}'), $2)
            ORDER BY updated_at {direction}, id {direction} LIMIT $3 OFFSET $4
        ) page ON true
        ORDER BY page.updated_at {direction}, page.id {direction}
    '''

    rows = await database.fetch(page.sql(PAGE), user_id, page.after, page.limit + 1, page.offset)
    return page.cut(rows)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from services.runtime.db import Row
from services.runtime.errors import InvalidRequest

DEFAULT_LIMIT, LARGEST_LIMIT = 20, 100

Kind = TypeVar("Kind")
Order = Literal["asc", "desc"]
_WORDS = {
    "asc": {"direction": "ASC", "beyond": ">", "start": "-infinity"},
    "desc": {"direction": "DESC", "beyond": "<", "start": "infinity"},
}


class ListRequest(Protocol):
    """The fields that every request of a list has."""

    limit: int
    after: str
    offset: int
    order: str

    def HasField(self, field_name: Any) -> bool:
        """Whether `limit` or `offset` was given."""


@dataclass(frozen=True, slots=True)
class Page:
    """The part of a list that a request asks for: `limit` rows behind the row `after`, or behind `offset` rows."""

    limit: int = DEFAULT_LIMIT
    after: str = ""
    offset: int = 0
    order: Order = "desc"

    def sql(self, text: str) -> str:
        """A statement in the order of this page: fills in `{direction}`, `{beyond}` and `{start}`."""
        return text.format_map(_WORDS[self.order])

    def cut(self, rows: Sequence[Row]) -> Listing:
        """What to show of the rows that the statement above gave: at least one, with `id` NULL on an empty page.

        Raises `InvalidRequest` when `after` names no row of the list.
        """
        if self.after and rows[0]["after_at"] is None:
            raise invalid_cursor()
        found = [row for row in rows if row["id"] is not None]
        return Listing(found[: self.limit], has_more=len(found) > self.limit, total_count=rows[0]["total_count"])


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of rows, and what its envelope says about it."""

    rows: list[Row]
    has_more: bool
    total_count: int

    def envelope(self) -> dict[str, Any]:
        """The fields of a list's answer beside `data`, as arguments of its message; ids are None on an empty page."""
        first, last = (self.rows[0]["id"], self.rows[-1]["id"]) if self.rows else (None, None)
        return {
            "object": "list",
            "first_id": first,
            "last_id": last,
            "has_more": self.has_more,
            "total_count": self.total_count,
            "next_after": last if self.has_more else None,
        }


def page_of(request: ListRequest, *, order: Order = "desc") -> Page:
    """The page that `request` asks for, in the list's own `order` if it names none. Raises `InvalidRequest`."""
    given = request.offset if request.HasField("offset") else None
    if given is not None and given < 0:
        raise InvalidRequest("Parameter 'offset' must not be negative", param="offset")
    if given is not None and request.after:
        raise InvalidRequest("Parameters 'offset' and 'after' exclude each other", param="after")
    if "\0" in request.after:  # PostgreSQL has no text with it
        raise invalid_cursor()
    limit = request.limit if request.HasField("limit") else DEFAULT_LIMIT
    return Page(min(max(limit, 1), LARGEST_LIMIT), request.after, given or 0, _order(request.order) or order)


def page_in_memory(rows: Sequence[Kind], page: Page, key: Callable[[Kind], str]) -> tuple[list[Kind], dict[str, Any]]:
    """One page of rows that are no rows of the database, by `key` upwards, and its envelope. Raises `InvalidRequest`
    for a cursor that is none of them."""
    ordered = list(rows) if page.order == "asc" else list(reversed(rows))
    keys = [key(row) for row in ordered]
    if page.after and page.after not in keys:
        raise invalid_cursor()
    begin = keys.index(page.after) + 1 if page.after else page.offset
    shown = ordered[begin : begin + page.limit]
    more = begin + page.limit < len(ordered)
    last = key(shown[-1]) if shown else None
    return shown, {
        "object": "list",
        "first_id": key(shown[0]) if shown else None,
        "last_id": last,
        "has_more": more,
        "total_count": len(ordered),
        "next_after": last if more else None,
    }


def invalid_cursor() -> InvalidRequest:
    """The error for an `after` that names no row of the caller's."""
    return InvalidRequest("Parameter 'after' names nothing in this list", code="invalid_cursor", param="after")


def _order(given: str) -> Order | None:
    if given in ("asc", "desc"):
        return "asc" if given == "asc" else "desc"
    if given:
        raise InvalidRequest("Parameter 'order' must be 'asc' or 'desc'", param="order")
    return None
