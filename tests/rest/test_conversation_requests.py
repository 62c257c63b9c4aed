"""Conversations and their items over REST, through the real gateway (CONTRACT 6.1 and 6.2)."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from tests.rest.server import JanServer
from tests.rest.test_bad_input import NO_JSON, WRONG, Bad, check

CONVERSATIONS = "/v1/conversations"
NOT_FOUND = (404, "not_found_error", "not_found")
NO_PROJECT = (404, "not_found_error", "project_not_found")
NO_CURSOR = (400, "invalid_request_error", "invalid_cursor")
PARTS = [
    {"type": "text", "text": "What is this?", "index": 3},
    {"type": "image_url", "image_url": {"url": "jan_" + "0" * 26, "detail": "low"}},
]
USER = {"role": "user", "content": "Hello"}


def data(answer: httpx.Response) -> dict[str, Any]:
    """The object in the envelope, and nothing beside it but what is about the answer."""
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert set(body) == {"data", "meta"}
    assert body["meta"]["request_id"] == answer.headers["x-request-id"]
    found: dict[str, Any] = body["data"]
    return found


def page(rest: httpx.Client, path: str) -> dict[str, Any]:
    answer = rest.get(path)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture
def talk(rest: httpx.Client) -> str:
    """The path of a new conversation."""
    return f"{CONVERSATIONS}/{data(rest.post(CONVERSATIONS, json={'title': 'talk'}))['id']}"


# Conversations


@pytest.mark.parametrize("body", [b"", b"{}", b'{"title":null,"metadata":null,"items":null,"project_id":null}'])
def test_a_conversation_has_all_that_is_not_nullable(rest: httpx.Client, body: bytes) -> None:
    made = data(rest.post(CONVERSATIONS, content=body))
    assert isinstance(made["created_at"], int)
    assert abs(made["created_at"] - time.time()) < 60
    assert {name: made[name] for name in made if name not in ("id", "created_at", "updated_at")} == {
        "object": "conversation",
        "metadata": {},
        "item_count": 0,
        "is_archived": False,
        "active_branch": "MAIN",
        "items": [],
        "items_has_more": False,
    }


def test_a_conversation_is_made_read_changed_and_deleted(rest: httpx.Client) -> None:
    given = {"title": "A", "metadata": {"project_id": "plain data"}, "referrer": "web"}
    made = data(rest.post(CONVERSATIONS, json={**given, "items": [USER, {"role": "assistant", "content": PARTS}]}))
    path = f"{CONVERSATIONS}/{made['id']}"
    assert {name: made[name] for name in given} == given
    assert [item["content"] for item in made["items"]] == ["Hello", PARTS]
    assert data(rest.get(path)) == made
    changed = data(rest.patch(path, json={"title": "B", "is_archived": True}))
    assert "items" not in changed
    assert (changed["title"], changed["is_archived"], changed["referrer"]) == ("B", True, "web")
    assert data(rest.post(path, json={"metadata": {"k": "v"}}))["metadata"] == {"k": "v"}
    deleted = rest.delete(path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    for verb in ("GET", "DELETE", "PATCH"):
        check(Bad(verb, NOT_FOUND), rest.request(verb, path))


@pytest.mark.parametrize("nothing", [None, ""])
def test_nothing_clears_what_may_be_absent(rest: httpx.Client, nothing: str | None) -> None:
    path = f"{CONVERSATIONS}/{data(rest.post(CONVERSATIONS, json={'title': 'A', 'referrer': 'web'}))['id']}"
    changed = data(rest.patch(path, json={"title": nothing, "referrer": nothing, "project_id": nothing}))
    assert [changed.get(name) for name in ("title", "referrer", "project_id")] == [None] * 3


def test_metadata_that_is_null_is_empty_and_what_is_not_named_stays(rest: httpx.Client) -> None:
    made = data(rest.post(CONVERSATIONS, json={"title": "A", "metadata": {"k": "v"}}))
    path = f"{CONVERSATIONS}/{made['id']}"
    assert data(rest.patch(path, json={}))["metadata"] == {"k": "v"}
    assert data(rest.patch(path, json={"metadata": None}))["metadata"] == {}
    assert data(rest.get(path))["title"] == "A"


@pytest.mark.parametrize(
    ("body", "deserves", "param"),
    [
        (b"{", NO_JSON, None),
        (b'{"title": "x"}x', NO_JSON, None),
        (b"[]", WRONG, None),
        (b'{"title": 5}', WRONG, "title"),
        (json.dumps({"title": "x" * 257}).encode(), WRONG, "title"),
        (b'{"title": "a\\u0000b"}', WRONG, "title"),
        (b'{"title": "a\\nb"}', WRONG, "title"),
        (b'{"referrer": "\\u001b"}', WRONG, "referrer"),
        (b'{"metadata": []}', WRONG, "metadata"),
        (b'{"metadata": {"k": 5}}', WRONG, "metadata.k"),
        (b'{"metadata": {"k": "\\u0000"}}', WRONG, "metadata.k"),
        (json.dumps({"metadata": {str(n): "" for n in range(17)}}).encode(), WRONG, "metadata"),
        (b'{"project_id": "proj_nobody"}', NO_PROJECT, "project_id"),
    ],
)
def test_a_wrong_value_is_named(
    rest: httpx.Client, talk: str, body: bytes, deserves: tuple[int, str, str], param: str | None
) -> None:
    for verb, path in (("POST", CONVERSATIONS), ("PATCH", talk)):
        check(Bad("wrong", deserves, param), rest.request(verb, path, content=body))
    assert page(rest, CONVERSATIONS)["total_count"] == 1
    assert data(rest.get(talk))["title"] == "talk"


@pytest.mark.parametrize(
    ("items", "param"),
    [
        ({}, "items"),
        ([USER] * 21, "items"),
        ([USER, 5], "items[1]"),
        ([USER, {"content": "x"}], "items[1].role"),
        ([{**USER, "content": 5}], "items[0].content"),
        ([{"role": "user"}], "items[0].content"),
    ],
)
def test_a_wrong_first_item_is_named_and_nothing_is_made(rest: httpx.Client, items: Any, param: str) -> None:
    check(Bad("wrong", WRONG, param), rest.post(CONVERSATIONS, json={"items": items}))
    assert page(rest, CONVERSATIONS)["total_count"] == 0


def test_conversations_are_listed_and_filtered(rest: httpx.Client) -> None:
    ids = [data(rest.post(CONVERSATIONS, json={"title": f"Title {n}", "referrer": "web"}))["id"] for n in range(3)]
    rest.patch(f"{CONVERSATIONS}/{ids[0]}", json={"is_archived": True})
    first = page(rest, f"{CONVERSATIONS}?limit=2")
    assert [row["id"] for row in first.pop("data")] == [ids[0], ids[2]]
    assert first == {
        "object": "list",
        "first_id": ids[0],
        "last_id": ids[2],
        "has_more": True,
        "total_count": 3,
        "next_after": ids[2],
    }
    for query, wanted in {
        f"?after={ids[2]}": [ids[1]],
        "?is_archived=true": [ids[0]],
        "?is_archived=false&order=asc": [ids[1], ids[2]],
        "?search=TITLE%201": [ids[1]],
        "?search=%25": [],
        "?referrer=app": [],
        "?referrer=web&offset=2&limit=1": [ids[1]],
        "?project_id=proj_nobody": [],
        "?project_id=&search=&limit=1": [ids[0]],
        "?referrer=web&limit=99999999999&offset=2": [ids[1]],  # brought into range, whatever it is
        "?limit=-99999999999": [ids[0]],
    }.items():
        assert [row["id"] for row in page(rest, CONVERSATIONS + query)["data"]] == wanted, query


@pytest.mark.parametrize(
    ("query", "deserves", "param"),
    [
        ("limit=x", WRONG, "limit"),
        ("is_archived=yes", WRONG, "is_archived"),
        ("search=%00", WRONG, "search"),
        (f"search={'x' * 257}", WRONG, "search"),
        ("after=conv_nobody", NO_CURSOR, "after"),
        ("offset=1&after=conv_nobody", WRONG, "after"),
        ("order=random", WRONG, "order"),
    ],
)
def test_a_wrong_parameter_of_the_list_is_named(
    rest: httpx.Client, query: str, deserves: tuple[int, str, str], param: str
) -> None:
    check(Bad(query, deserves, param), rest.get(f"{CONVERSATIONS}?{query}"))


def test_many_are_deleted_at_once(rest: httpx.Client) -> None:
    ids = [data(rest.post(CONVERSATIONS))["id"] for _ in range(3)]
    deleted = data(rest.post(f"{CONVERSATIONS}/bulk-delete", json={"conversation_ids": [*ids[:2], "conv_nobody"]}))
    assert deleted == {
        "object": "conversations.deleted",
        "deleted": True,
        "deleted_count": 2,
        "failed_ids": ["conv_nobody"],
    }
    for wrong in ([], ["x"] * 101, "x", None):
        answer = rest.post(f"{CONVERSATIONS}/bulk-delete", json={"conversation_ids": wrong})
        check(Bad("wrong", WRONG, "conversation_ids"), answer)
    assert data(rest.delete(CONVERSATIONS))["deleted_count"] == 1
    assert page(rest, CONVERSATIONS)["total_count"] == 0


# Items


@pytest.mark.parametrize(
    "content", ["", "text", "\u2028 \U0001f600 \\ \" '", PARTS, [{"type": "refusal", "refusal": "no"}]]
)
def test_content_comes_back_as_it_was_given(rest: httpx.Client, talk: str, content: Any) -> None:
    made = data(rest.post(f"{talk}/items", json={"role": "user", "content": content}))
    shown = [
        made,
        data(rest.get(f"{talk}/items/{made['id']}")),
        page(rest, f"{talk}/items")["data"][0],
        data(rest.get(talk))["items"][0],
    ]
    assert all(item == made for item in shown)
    assert made["content"] == content


def test_an_item_looks_the_same_whichever_method_answers(rest: httpx.Client, talk: str) -> None:
    made = data(rest.post(f"{talk}/items", json={**USER, "metadata": {"k": "v"}, "unknown": 1}))
    assert {name: value for name, value in made.items() if name not in ("id", "created_at", "updated_at")} == {
        "object": "conversation.item",
        "type": "message",
        "role": "user",
        "content": "Hello",
        "content_type": "text",
        "status": "completed",
        "metadata": {"k": "v"},
        "tool_calls": [],
    }
    (batched,) = rest.post(f"{talk}/items", json={"items": [USER]}).json()["data"]
    assert set(batched) == set(made) == set(data(rest.get(f"{talk}/items/{made['id']}")))


def test_a_batch_is_answered_as_a_list(rest: httpx.Client, talk: str) -> None:
    items = [{"role": role, "content": role} for role in ("system", "user", "assistant", "tool")]
    answer = rest.post(f"{talk}/items", json={"items": items})
    assert answer.status_code == 200
    body = answer.json()
    assert [(item["role"], item["content"]) for item in body["data"]] == [(each["role"],) * 2 for each in items]
    assert (body["object"], body["has_more"], body["total_count"]) == ("list", False, 4)
    assert (body["first_id"], body["last_id"]) == (body["data"][0]["id"], body["data"][-1]["id"])
    assert page(rest, f"{talk}/items")["data"] == body["data"]


@pytest.mark.parametrize(
    ("body", "deserves", "param"),
    [
        (b"", WRONG, "role"),
        (b"{", NO_JSON, None),
        (b"[]", WRONG, None),
        (b'{"items": []}', WRONG, "items"),
        (b'{"items": {}}', WRONG, "items"),
        (b'{"items": [5]}', WRONG, "items[0]"),
        (b'{"items": [{"role": "user", "content": "x"}, {"role": "user"}]}', WRONG, "items[1].content"),
        (b'{"items": [{"role": "robot", "content": "x"}]}', WRONG, "items[0].role"),
        (b'{"items": [{"role": "user", "content": [{"type": "text"}]}]}', WRONG, "items[0].content[0].text"),
        (json.dumps({"items": [USER] * 21}).encode(), WRONG, "items"),
        (b'{"role": "user"}', WRONG, "content"),
        (b'{"role": "user", "content": null}', WRONG, "content"),
        (b'{"role": "user", "content": 5}', WRONG, "content"),
        (b'{"role": "user", "content": []}', WRONG, "content"),
        (b'{"role": "user", "content": "\\u0000"}', WRONG, "content"),
        (b'{"role": "user", "content": "\\ud800"}', NO_JSON, None),
        (b'{"role": "user", "content": [{"type": "text", "text": "\\u0000"}]}', WRONG, "content[0].text"),
        (b'{"role": "user", "content": [{"type": "video"}]}', WRONG, "content[0].type"),
        (json.dumps({**USER, "content": [{"type": "text", "text": ""}] * 101}).encode(), WRONG, "content"),
        (b'{"role": 5, "content": "x"}', WRONG, "role"),
        (b'{"content": "x"}', WRONG, "role"),
        (b'{"role": "developer", "content": "x"}', WRONG, "role"),
        (b'{"role": "user", "content": "x", "metadata": {"k": 1}}', WRONG, "metadata.k"),
        (b'{"role": "user", "content": "x", "tool_call_id": 1}', WRONG, "tool_call_id"),
        (b'{"role": "user", "content": "x", "content_type": "\\u0000"}', WRONG, "content_type"),
        (b'{"role": "user", "content": ' + b"[" * 100 + b"]" * 100 + b"}", WRONG, "content"),
    ],
)
def test_a_wrong_item_is_named_by_its_path_and_none_is_stored(
    rest: httpx.Client, talk: str, body: bytes, deserves: tuple[int, str, str], param: str | None
) -> None:
    check(Bad("wrong", deserves, param), rest.post(f"{talk}/items", content=body))
    assert page(rest, f"{talk}/items")["total_count"] == 0


def test_ten_megabytes_are_refused_at_once(rest: httpx.Client, talk: str) -> None:
    large = "x" * 10 * 1024 * 1024
    started = time.perf_counter()
    check(Bad("large", WRONG, "content"), rest.post(f"{talk}/items", json={"role": "user", "content": large}))
    check(Bad("large", WRONG, "title"), rest.patch(talk, json={"title": large}))
    assert time.perf_counter() - started < 5


def test_a_conversation_of_the_longest_items_is_read_whole(rest: httpx.Client, talk: str) -> None:
    longest = [{"role": "user", "content": "ü" * 100_000}] * 20
    for _ in range(2):
        assert rest.post(f"{talk}/items", json={"items": longest}).status_code == 200
    assert [item["content"] for item in data(rest.get(talk))["items"]] == [longest[0]["content"]] * 40
    assert len(page(rest, f"{talk}/items?limit=100")["data"]) == 40


def test_items_are_paged_changed_and_deleted(rest: httpx.Client, talk: str) -> None:
    batch = {"items": [{"role": "user", "content": str(n)} for n in range(5)]}
    ids = [item["id"] for item in rest.post(f"{talk}/items", json=batch).json()["data"]]
    first = page(rest, f"{talk}/items?limit=2")
    assert [row["id"] for row in first.pop("data")] == ids[:2]
    assert first == {
        "object": "list",
        "first_id": ids[0],
        "last_id": ids[1],
        "has_more": True,
        "total_count": 5,
        "next_after": ids[1],
    }
    assert [row["id"] for row in page(rest, f"{talk}/items?after={ids[1]}&limit=2")["data"]] == ids[2:4]
    assert [row["id"] for row in page(rest, f"{talk}/items?order=desc&offset=1&limit=1")["data"]] == [ids[3]]
    changed = data(rest.patch(f"{talk}/items/{ids[2]}", json={"content": PARTS, "metadata": {"edited": "yes"}}))
    assert (changed["id"], changed["content"], changed["metadata"]) == (ids[2], PARTS, {"edited": "yes"})
    assert data(rest.post(f"{talk}/items/{ids[2]}", json={"metadata": None}))["content"] == PARTS
    for wrong in ({"content": None}, {"content": 5}, {"content": []}):
        check(Bad("wrong", WRONG, "content"), rest.patch(f"{talk}/items/{ids[2]}", json=wrong))
    deleted = rest.delete(f"{talk}/items/{ids[3]}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    check(Bad("gone", NOT_FOUND), rest.delete(f"{talk}/items/{ids[3]}"))
    left = page(rest, f"{talk}/items")
    assert ([row["id"] for row in left["data"]], left["total_count"]) == ([*ids[:3], ids[4]], 4)
    check(Bad("gone", NO_CURSOR, "after"), rest.get(f"{talk}/items?after={ids[3]}"))


def test_a_request_with_an_idempotency_key_is_done_once(rest: httpx.Client, talk: str) -> None:
    for path, body in (
        (CONVERSATIONS, {"title": "once"}),
        (f"{talk}/items", USER),
        (f"{talk}/items", {"items": [USER]}),
    ):
        key = {"idempotency-key": f"{path} {sorted(body)}"}
        first, second = (rest.post(path, json=body, headers=key) for _ in range(2))
        assert second.content == first.content
        assert second.headers["idempotent-replayed"] == "true"
    assert (page(rest, CONVERSATIONS)["total_count"], data(rest.get(talk))["item_count"]) == (2, 2)


# Others


def test_what_is_somebody_else_s_is_not_there(server: JanServer, rest: httpx.Client, talk: str) -> None:
    item = f"{talk}/items/{data(rest.post(f'{talk}/items', json=USER))['id']}"
    before = data(rest.get(talk))
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {server.token()}"}) as other:
        for verb in ("GET", "PATCH", "POST", "DELETE"):
            check(Bad(verb, NOT_FOUND), other.request(verb, talk, json={"title": "mine"}))
            check(Bad(verb, NOT_FOUND), other.request(verb, item, json={"metadata": {}}))
        check(Bad("list", NOT_FOUND), other.get(f"{talk}/items"))
        check(Bad("add", NOT_FOUND), other.post(f"{talk}/items", json=USER))
        check(Bad("add many", NOT_FOUND), other.post(f"{talk}/items", json={"items": [USER]}))
        check(Bad("regenerate", NOT_FOUND), other.post(f"{item}/regenerate"))
        check(Bad("cursor", NO_CURSOR, "after"), other.get(f"{CONVERSATIONS}?after={before['id']}"))
        ids = {"conversation_ids": [before["id"]]}
        assert data(other.post(f"{CONVERSATIONS}/bulk-delete", json=ids))["failed_ids"] == ids["conversation_ids"]
        assert data(other.delete(CONVERSATIONS))["deleted_count"] == 0
        assert page(other, CONVERSATIONS)["total_count"] == 0
    assert data(rest.get(talk)) == before


@pytest.mark.parametrize("id_", ["conv_nobody", "'%20OR%201=1", "..%2f", "x" * 2000])
def test_an_id_of_nothing_is_not_found(rest: httpx.Client, talk: str, id_: str) -> None:
    for path in (f"{CONVERSATIONS}/{id_}", f"{CONVERSATIONS}/{id_}/items", f"{talk}/items/{id_}"):
        answer = rest.get(path)
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error"), answer.text


def test_strangers_have_no_conversations(server: JanServer) -> None:
    for path in (CONVERSATIONS, f"{CONVERSATIONS}/conv_x", f"{CONVERSATIONS}/conv_x/items"):
        assert server.get(path).status_code == 401
