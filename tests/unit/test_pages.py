"""What a list request asks for, and what the envelope says about the rows found (CONTRACT 0.3)."""

from __future__ import annotations

from typing import Any

import pytest
from jan.auth.v1.api_keys_pb2 import AdminListApiKeysRequest, ListApiKeysRequest, ListApiKeysResponse

from services.runtime.errors import InvalidRequest
from services.runtime.pages import Page, invalid_cursor, page_of


def rows(count: int, *, total: int = 50, after_at: object = "noon") -> list[dict[str, Any]]:
    """What the statement of a store gives: rows with the count beside them, or the count alone."""
    head = {"total_count": total, "after_at": after_at}
    return [{**head, "id": f"key_{number}"} for number in range(count)] or [{**head, "id": None}]


def test_a_request_that_says_nothing_asks_for_the_first_twenty() -> None:
    assert page_of(ListApiKeysRequest()) == Page(limit=20, after="", offset=0, order="desc")
    assert page_of(ListApiKeysRequest(), order="asc").order == "asc"


@pytest.mark.parametrize(("given", "limit"), [(-(2**31), 1), (-1, 1), (0, 1), (1, 1), (100, 100), (101, 100)])
def test_a_limit_is_moved_into_its_bounds(given: int, limit: int) -> None:
    assert page_of(ListApiKeysRequest(limit=given)).limit == limit


def test_a_request_may_say_everything() -> None:
    asked = page_of(AdminListApiKeysRequest(limit=5, after="key_1", order="asc"), order="desc")
    assert asked == Page(limit=5, after="key_1", offset=0, order="asc")
    assert page_of(ListApiKeysRequest(offset=7, order="desc"), order="asc") == Page(offset=7, order="desc")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"offset": -1}, "invalid_parameter", "offset"),
        ({"offset": 3, "after": "key_1"}, "invalid_parameter", "after"),
        ({"offset": 0, "after": "key_1"}, "invalid_parameter", "after"),
        ({"order": "DESC"}, "invalid_parameter", "order"),
        ({"order": "updated_at; DROP TABLE"}, "invalid_parameter", "order"),
        ({"after": "key_\0"}, "invalid_cursor", "after"),
    ],
)
def test_what_makes_no_page_is_refused(fields: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        page_of(ListApiKeysRequest(**fields))
    assert (refused.value.code, refused.value.param) == (code, param)


def test_the_row_too_many_says_that_there_is_more() -> None:
    listing = Page(limit=2).cut(rows(3))
    assert [row["id"] for row in listing.rows] == ["key_0", "key_1"]
    assert listing.envelope() == {
        "object": "list",
        "first_id": "key_0",
        "last_id": "key_1",
        "has_more": True,
        "total_count": 50,
        "next_after": "key_1",
    }


def test_the_last_page_leads_nowhere() -> None:
    envelope = Page(limit=2, after="key_9").cut(rows(2)).envelope()
    assert (envelope["last_id"], envelope["has_more"], envelope["next_after"]) == ("key_1", False, None)


def test_an_empty_page_has_no_ends_but_still_the_count() -> None:
    answer = ListApiKeysResponse(**Page(offset=60).cut(rows(0)).envelope())
    assert (answer.object, answer.has_more, answer.total_count) == ("list", False, 50)
    assert not any(answer.HasField(name) for name in ("first_id", "last_id", "next_after"))


def test_a_cursor_that_names_no_row_of_the_list_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        Page(after="key_of_another").cut(rows(2, after_at=None))
    assert (refused.value.code, refused.value.param) == ("invalid_cursor", "after")
    assert refused.value.message == invalid_cursor().message
    assert len(Page().cut(rows(2, after_at=None)).rows) == 2


def test_a_statement_is_put_into_the_order_of_the_page() -> None:
    text = "(t, id) {beyond} (coalesce(after_at, '{start}'), $2) ORDER BY t {direction}, id {direction}"
    assert Page().sql(text) == "(t, id) < (coalesce(after_at, 'infinity'), $2) ORDER BY t DESC, id DESC"
    assert Page(order="asc").sql(text) == "(t, id) > (coalesce(after_at, '-infinity'), $2) ORDER BY t ASC, id ASC"
