"""The statement that pages.py gives as its example, on a real database: what a store that copies it can rely on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.runtime import pages
from services.runtime.db import Database
from services.runtime.errors import InvalidRequest
from services.runtime.pages import Listing, Order, Page

PAGE = (pages.__doc__ or "").split("'''")[1]
# Three notes a second.
TABLE = """
    CREATE TABLE notes (id text PRIMARY KEY, user_id text, title text, updated_at timestamptz);
    CREATE INDEX ON notes (user_id, updated_at, id);
    INSERT INTO notes SELECT 'note_' || lpad(n::text, 4, '0'), 'mine', 'x',
        '2026-01-01'::timestamptz + n / 3 * '1 s'::interval FROM generate_series(0, 1999) n;
    INSERT INTO notes VALUES ('note_other', 'other', 'x', now());
    ANALYZE notes;
"""


async def find(database: Database, page: Page, user_id: str = "mine") -> Listing:
    return page.cut(await database.fetch(page.sql(PAGE), user_id, page.after, page.limit + 1, page.offset))


def ids(listing: Listing) -> list[int]:
    return [int(row["id"].removeprefix("note_")) for row in listing.rows]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_the_pages_of_a_list_together_are_the_list(bare_database: Database, order: Order) -> None:
    await bare_database.execute(TABLE)
    seen, page = list[int](), Page(limit=100, order=order)
    while True:
        listing = await find(bare_database, page)
        seen += ids(listing)
        assert listing.total_count == 2000
        if not listing.has_more:
            break
        page = Page(limit=100, order=order, after=listing.envelope()["next_after"])
    assert seen == sorted(range(2000), reverse=order == "desc")


async def test_an_offset_skips_rows_and_may_lie_behind_the_end(bare_database: Database) -> None:
    await bare_database.execute(TABLE)
    assert ids(await find(bare_database, Page(limit=2, offset=3, order="asc"))) == [3, 4]
    behind = await find(bare_database, Page(offset=5000))
    assert (behind.rows, behind.has_more, behind.total_count) == ([], False, 2000)


async def test_a_list_without_rows_counts_none(bare_database: Database) -> None:
    await bare_database.execute(TABLE)
    nobodys = await find(bare_database, Page(), "nobody")
    assert (nobodys.rows, nobodys.total_count) == ([], 0)


@pytest.mark.parametrize("after", ["note_other", "note_unknown", "'; DROP TABLE notes; --"])
async def test_a_row_of_another_is_no_cursor(bare_database: Database, after: str) -> None:
    await bare_database.execute(TABLE)
    with pytest.raises(InvalidRequest) as refused:
        await find(bare_database, Page(after=after))
    assert refused.value.code == "invalid_cursor"


async def test_a_page_far_behind_reads_no_row_before_it(bare_database: Database) -> None:
    await bare_database.execute(TABLE)
    page = Page(limit=20, after="note_0100")
    explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {page.sql(PAGE)}"
    plan = json.loads(await bare_database.fetchval(explain, "mine", page.after, page.limit + 1, 0))[0]["Plan"]
    (scan,) = [
        each for each in nodes(plan) if "updated_at, id" in str(each.get("Index Cond", "")).replace("notes.", "")
    ]
    assert scan["Actual Rows"] == 21
    assert scan.get("Rows Removed by Filter", 0) == 0


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for inner in plan.get("Plans", []) for node in nodes(inner))]
