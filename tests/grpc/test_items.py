"""The items of ConversationService against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.api.httpbody_pb2 import HttpBody
from jan.llm.v1 import items_pb2

from services.llm.conversations.item_store import Draft, ItemStore, append
from services.runtime.db import Database
from services.runtime.pages import Page
from tests.grpc.keys import guest
from tests.grpc.rig import Rig, running
from tests.grpc.talks import MISSING, NO_CURSOR, NO_IDS, WRONG, Explaining, Person, plain, refused, struct, value

LONG = 1000
LARGEST = 1 << 20
PARTS = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "jan_" + "0" * 26}}]


@pytest_asyncio.fixture
async def rig(tmp_path: Path, database_url: str) -> AsyncIterator[Rig]:
    async with running(tmp_path, "auth", "llm", database_url=database_url) as rig:
        yield rig


@pytest_asyncio.fixture
async def ada(rig: Rig) -> Person:
    return Person(rig, await guest(rig))


@pytest_asyncio.fixture
async def bob(rig: Rig) -> Person:
    return Person(rig, await guest(rig))


@pytest_asyncio.fixture
async def talk(ada: Person) -> str:
    """An empty conversation of hers."""
    return str((await ada.create()).id)


def new(content: Any, role: str = "user") -> items_pb2.NewItem:
    return items_pb2.NewItem(role=role, content=value(content))


def texts(answer: Any) -> list[str]:
    return [item.content.string_value for item in getattr(answer, "data", answer)]


async def batch(person: Person, talk: str, *contents: Any) -> Any:
    items = [new(content) for content in contents]
    return await person.ask("CreateItems", conversation_id=talk, items=items)


# Storing


async def test_an_item_is_stored_as_it_was_given(ada: Person, talk: str) -> None:
    given = {"content_type": "markdown", "metadata": {"k": "v"}, "tool_call_id": "call_1"}
    made = plain(await ada.add(talk, PARTS, role="tool", **given))
    assert plain((await ada.ask("GetItem", conversation_id=talk, item_id=made["id"])).data) == made
    assert re.fullmatch(r"msg_[0-9a-z]{26}", made.pop("id"))
    assert made.pop("created_at") == made.pop("updated_at")
    assert made == {
        "object": "conversation.item",
        "type": "message",
        "role": "tool",
        "content": PARTS,
        "status": "completed",
        **given,
    }


@pytest.mark.parametrize("content", ["", "text", "\u2028 \U0001f600", PARTS, [{"type": "input_text", "text": "a"}]])
async def test_a_string_stays_a_string_and_parts_stay_parts(ada: Person, talk: str, content: Any) -> None:
    made = await ada.add(talk, content)
    for item in (made, (await ada.items(talk)).data[0], (await ada.get(talk)).items[0]):
        assert plain(item)["content"] == content


async def test_a_conversation_counts_its_items_and_moves_with_them(ada: Person, talk: str) -> None:
    other = await ada.create()
    made = await ada.add(talk, "one")
    await batch(ada, talk, "two", "three")
    assert (await ada.get(talk)).item_count == 3
    assert [each.id for each in (await ada.list()).data] == [talk, other.id]
    await ada.add(other.id, "x")
    await ada.ask("UpdateItem", conversation_id=talk, item_id=made.id, content=value("changed"))
    assert (await ada.list()).data[0].id == talk
    await ada.add(other.id, "x")
    await ada.ask("DeleteItem", conversation_id=talk, item_id=made.id)
    assert [(each.id, each.item_count) for each in (await ada.list()).data] == [(talk, 2), (other.id, 2)]


async def test_a_batch_is_stored_in_its_order_and_answered_as_a_list(ada: Person, talk: str) -> None:
    await ada.add(talk, "before")
    answer = await batch(ada, talk, *map(str, range(20)))
    assert texts(answer) == [str(n) for n in range(20)]
    assert (answer.object, answer.total_count, answer.has_more) == ("list", 20, False)
    assert (answer.first_id, answer.last_id) == (answer.data[0].id, answer.data[-1].id)
    assert texts(await ada.items(talk, limit=100)) == ["before", *texts(answer)]


async def test_a_batch_with_a_wrong_item_stores_none(ada: Person, talk: str) -> None:
    assert await refused(batch(ada, talk, "good", "bad\0")) == (*WRONG, "items[1].content")
    assert await refused(batch(ada, talk)) == (*WRONG, "items")
    assert await refused(batch(ada, talk, *["x"] * 21)) == (*WRONG, "items")
    assert (await ada.items(talk)).total_count == 0


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"role": ""}, "item.role"),
        ({"role": "User"}, "item.role"),
        ({"role": "developer"}, "item.role"),
        ({"content": None}, "item.content"),
        ({"content": value(None)}, "item.content"),
        ({"content": value({"type": "text", "text": "a"})}, "item.content"),
        ({"content": value([{"type": "text", "text": 5}])}, "item.content[0].text"),
        ({"content_type": "x" * 65}, "item.content_type"),
        ({"content_type": "\0"}, "item.content_type"),
        ({"tool_call_id": "x" * 257}, "item.tool_call_id"),
        ({"metadata": {"k": "v" * 513}}, "item.metadata[k]"),
        ({"metadata": {"k": "\0"}}, "item.metadata.k"),
    ],
)
async def test_what_is_out_of_bounds_is_refused_by_name(
    ada: Person, talk: str, fields: dict[str, Any], param: str
) -> None:
    item = items_pb2.NewItem(**{"role": "user", "content": value("a"), **fields})
    assert await refused(ada.ask("CreateItem", conversation_id=talk, item=item)) == (*WRONG, param)
    assert await refused(ada.ask("CreateItem", conversation_id=talk)) == (*WRONG, "item")
    assert (await ada.get(talk)).item_count == 0


async def test_ten_megabytes_are_refused_at_once(ada: Person, talk: str) -> None:
    large = "x" * 10 * 1024 * 1024
    started = time.perf_counter()
    assert await refused(ada.add(talk, large)) == (*WRONG, "item.content")
    assert await refused(ada.add(talk, [{"type": "text", "text": large}])) == (*WRONG, "item.content")
    assert time.perf_counter() - started < 3
    kept = "ü" * 100_000
    assert (await ada.add(talk, kept)).content.string_value == kept


# Writers at the same time


async def test_parallel_writers_get_distinct_positions_in_the_order_of_their_commits(
    ada: Person, talk: str, database: Database
) -> None:
    """A call that began after another had been answered stands behind it, and so do the times of the rows."""
    begun, answered = dict[str, float](), dict[str, float]()

    async def add(n: int) -> None:
        begun[str(n)] = time.perf_counter()
        await ada.add(talk, str(n))
        answered[str(n)] = time.perf_counter()

    await asyncio.gather(*map(add, range(50)))
    rows = await database.fetch("SELECT content, position, created_at FROM items ORDER BY position")
    assert [row["position"] for row in rows] == list(range(1, 51))
    assert [row["created_at"] for row in rows] == sorted(row["created_at"] for row in rows)
    order = [json.loads(row["content"]) for row in rows]
    assert texts(await ada.items(talk, limit=100)) == order
    assert all(answered[early] > begun[late] for late, early in pairs(order))
    assert (await ada.get(talk)).item_count == 50


def pairs(order: list[str]) -> list[tuple[str, str]]:
    """Every item with each that stands behind it."""
    return [(first, later) for index, first in enumerate(order) for later in order[index + 1 :]]


async def test_a_reader_that_follows_misses_nothing_while_others_write(ada: Person, talk: str) -> None:
    first = await ada.add(talk, "first")

    async def follow() -> list[str]:
        seen, after = [str(first.id)], str(first.id)
        while len(seen) < 61:
            page = await ada.items(talk, after=after, limit=7)
            seen += [item.id for item in page.data]
            after = seen[-1]
        return seen

    seen, *_ = await asyncio.gather(follow(), *(batch(ada, talk, "a", "b") for _ in range(30)))
    whole = await ada.items(talk, limit=100)
    assert seen == [item.id for item in whole.data]
    assert texts(whole) == ["first", *["a", "b"] * 30]  # no batch is torn apart


async def test_writers_and_a_deletion_of_the_conversation_leave_nothing_behind(
    ada: Person, talk: str, database: Database
) -> None:
    async def write() -> None:
        while True:
            await ada.add(talk, "x")

    writers = [asyncio.create_task(refused(write())) for _ in range(5)]
    while not (await ada.items(talk)).data:
        pass
    await ada.ask("DeleteConversation", id=talk)
    assert await asyncio.gather(*writers) == [MISSING] * 5
    assert await database.fetchval("SELECT count(*) FROM items") == 0


# Listing


async def test_items_are_listed_oldest_first_page_by_page(ada: Person, talk: str) -> None:
    made = [item.id for item in (await batch(ada, talk, *"abcde")).data]
    first = await ada.items(talk, limit=2)
    assert texts(first) == ["a", "b"]
    assert (first.object, first.has_more, first.total_count) == ("list", True, 5)
    assert (first.first_id, first.last_id, first.next_after) == (made[0], made[1], made[1])
    rest = await ada.items(talk, after=made[1])
    assert (texts(rest), rest.has_more, rest.HasField("next_after")) == (["c", "d", "e"], False, False)
    assert texts(await ada.items(talk, order="desc", limit=2)) == ["e", "d"]
    assert texts(await ada.items(talk, order="desc", after=made[2])) == ["b", "a"]
    assert texts(await ada.items(talk, offset=3)) == ["d", "e"]
    behind = await ada.items(talk, offset=9)
    assert (texts(behind), behind.total_count, behind.HasField("first_id")) == ([], 5, False)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_page_ends_before_it_is_too_large_and_the_next_goes_on(
    ada: Person, talk: str, database: Database, order: Any
) -> None:
    sizes = [10, 400, 10, 3000, 10, 400, 400, 10]
    kept = [row["id"] for row in await append(database, ada.user_id, talk, [Draft("user", "x" * n) for n in sizes])]
    store, seen, pages = ItemStore(database, largest=1000), list[str](), list[int]()
    more, after = True, ""
    while more:
        listing = await store.page(ada.user_id, talk, Page(limit=5, order=order, after=after))
        assert listing.total_count == len(sizes)
        seen += [row["id"] for row in listing.rows]
        pages.append(len(listing.rows))
        more, after = listing.has_more, seen[-1]
    assert seen == (kept if order == "asc" else kept[::-1])
    assert pages == ([3, 1, 4] if order == "asc" else [4, 1, 3])


async def test_an_empty_conversation_has_an_empty_list(ada: Person, talk: str) -> None:
    assert plain(await ada.items(talk)) == {"object": "list"}


@pytest.mark.parametrize("after", NO_IDS)
async def test_a_cursor_that_is_none_is_refused(ada: Person, talk: str, after: str) -> None:
    await ada.add(talk, "x")
    elsewhere = await ada.add((await ada.create()).id, "x")
    assert await refused(ada.items(talk, after=after)) == NO_CURSOR
    assert await refused(ada.items(talk, after=elsewhere.id)) == NO_CURSOR


async def test_pages_neither_skip_nor_repeat_while_items_come_and_go(ada: Person, talk: str) -> None:
    made = [item.id for item in (await batch(ada, talk, *map(str, range(20)))).data]
    seen, after, more = list[str](), "", True
    while more:
        page = await ada.items(talk, limit=3, after=after, order="desc")
        seen += [item.id for item in page.data]
        after, more = page.next_after, page.has_more
        await ada.add(talk, "new")
        if len(seen) == 9:
            await ada.ask("DeleteItem", conversation_id=talk, item_id=made[0])
    assert seen == made[:0:-1]


# Changing


async def test_an_item_is_changed_in_its_place(ada: Person, talk: str) -> None:
    made = (await batch(ada, talk, "a", "b", "c")).data[1]

    async def update(**fields: Any) -> dict[str, Any]:
        answer = await ada.ask("UpdateItem", conversation_id=talk, item_id=made.id, **fields)
        return dict(plain(answer.data))

    assert await update() == plain(made)
    changed = await update(content=value(PARTS))
    assert changed == plain(made) | {"content": PARTS, "updated_at": changed["updated_at"]}
    assert (await update(metadata=struct({"k": "v"})))["content"] == PARTS
    both = await update(content=value("B"), metadata=struct({}))
    assert (both["content"], "metadata" in both) == ("B", False)
    assert texts(await ada.items(talk)) == ["a", "B", "c"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"content": value(None)}, "content"),
        ({"content": value(5)}, "content"),
        ({"content": value("\0")}, "content"),
        ({"content": value("x" * 100_001)}, "content"),
        ({"content": value("good"), "metadata": struct({"k": 5})}, "metadata.k"),
        ({"metadata": struct({str(n): "" for n in range(17)})}, "metadata"),
    ],
)
async def test_a_change_out_of_bounds_changes_nothing(
    ada: Person, talk: str, fields: dict[str, Any], param: str
) -> None:
    made = await ada.add(talk, "a")
    said = await refused(ada.ask("UpdateItem", conversation_id=talk, item_id=made.id, **fields))
    assert said == (*WRONG, param)
    assert (await ada.ask("GetItem", conversation_id=talk, item_id=made.id)).data == made


# Deleting


async def test_a_deleted_item_is_gone_alone(ada: Person, talk: str) -> None:
    made = (await batch(ada, talk, "a", "b", "c")).data[1]
    call = ada.ask("DeleteItem", conversation_id=talk, item_id=made.id)
    assert dict(await call.initial_metadata())["x-http-status"] == "204"
    await call
    assert await refused(ada.ask("DeleteItem", conversation_id=talk, item_id=made.id)) == MISSING
    assert await refused(ada.ask("GetItem", conversation_id=talk, item_id=made.id)) == MISSING
    assert await refused(ada.items(talk, after=made.id)) == NO_CURSOR
    await ada.add(talk, "d")
    assert texts(await ada.items(talk)) == ["a", "c", "d"]
    assert (await ada.items(talk)).total_count == 3


async def test_tool_calls_are_deleted_with_their_own_outputs(ada: Person, talk: str, database: Database) -> None:
    """Models give the same ids out in every turn."""

    def calls(*ids: str) -> Draft:
        return Draft("assistant", tool_calls=[{"id": each, "type": "function"} for each in ids])

    def output(of: str, content: str, **more: Any) -> Draft:
        return Draft("tool", content, tool_call_id=of, **more)

    drafts = [
        *(Draft("user", "question"), calls("1", "2"), output("1", "one"), Draft("user", "in between")),
        *(output("2", "two"), output("3", "of nobody"), Draft("tool", "a call", call_id="1", type="mcp_call")),
        *(calls("1"), output("1", "later"), Draft("assistant", "answer")),
    ]
    rows = await append(database, ada.user_id, talk, drafts)
    await ada.ask("DeleteItem", conversation_id=talk, item_id=rows[1]["id"])
    kept = ["question", "in between", "of nobody", "", "later", "answer"]
    assert texts(await ada.items(talk)) == kept
    assert (await ada.get(talk)).item_count == 6
    await ada.ask("DeleteItem", conversation_id=talk, item_id=rows[8]["id"])
    assert texts(await ada.items(talk)) == [each for each in kept if each != "later"]


async def test_an_item_of_a_generation_says_all_that_is_known_of_it(ada: Person, talk: str, database: Database) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    tool_call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    draft = Draft(
        "assistant",
        *(None, "function_call", "text", "incomplete"),
        model="fake",
        usage=usage,
        finish_reason="length",
        latency_ms=5,
        tool_calls=[tool_call],
        name="f",
        arguments="{}",
        output={"a": [1]},
        call_id="call_2",
        reasoning_content="because",
        id="fc_01k9x4zz01k9x4zz01k9x4zz01",
    )
    await append(database, ada.user_id, talk, [draft])
    shown = plain((await ada.items(talk)).data[0])
    assert {name: each for name, each in shown.items() if not name.endswith("_at")} == {
        "object": "conversation.item",
        "id": draft.id,
        "type": "function_call",
        "role": "assistant",
        "content_type": "text",
        "status": "incomplete",
        "model": "fake",
        "usage": usage,
        "finish_reason": "length",
        "tool_calls": [tool_call],
        "name": "f",
        "arguments": "{}",
        "output": {"a": [1]},
        "call_id": "call_2",
        "reasoning_content": "because",
        "latency_ms": 5,
    }


# The REST face


def over_rest(person: Person, talk: str, body: Any) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return person.ask("CreateItemsHttp", conversation_id=talk, body=HttpBody(data=data))


async def read(stream: Any) -> Any:
    (message,) = [each async for each in stream]
    assert message.content_type == "application/json"
    return json.loads(message.data)


async def test_one_message_is_answered_enveloped_with_its_defaults(ada: Person, talk: str) -> None:
    answer = await read(over_rest(ada, talk, {"role": "user", "content": PARTS, "unknown": 1}))
    item = answer["data"]
    assert answer["meta"]["request_id"].startswith("req_")
    assert isinstance(item["created_at"], int)
    assert {name: item[name] for name in ("object", "type", "role", "content", "content_type", "status")} == {
        "object": "conversation.item",
        "type": "message",
        "role": "user",
        "content": PARTS,
        "content_type": "text",
        "status": "completed",
    }
    assert (item["metadata"], item["tool_calls"]) == ({}, [])
    assert "model" not in item


async def test_many_messages_are_answered_as_a_list(ada: Person, talk: str) -> None:
    body = {"items": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "role": "ignored"}
    answer = await read(over_rest(ada, talk, body))
    assert [item["content"] for item in answer["data"]] == ["a", "b"]
    assert {name: answer[name] for name in ("object", "has_more", "total_count")} == {
        "object": "list",
        "has_more": False,
        "total_count": 2,
    }
    assert texts(await ada.items(talk)) == ["a", "b"]


# Others


async def test_the_items_of_somebody_else_are_not_there(ada: Person, bob: Person, talk: str) -> None:
    made = await ada.add(talk, "mine")
    own = await bob.create()
    which = {"conversation_id": talk, "item_id": made.id}
    mixed = {"conversation_id": own.id, "item_id": made.id}
    assert await refused(bob.items(talk)) == MISSING
    assert await refused(bob.items(talk, after=made.id)) == MISSING
    assert await refused(bob.add(talk, "x")) == MISSING
    assert await refused(batch(bob, talk, "x")) == MISSING
    assert await refused(read(over_rest(bob, talk, {"role": "user", "content": "x"}))) == MISSING
    for fields in (which, mixed):
        assert await refused(bob.ask("GetItem", **fields)) == MISSING
        assert await refused(bob.ask("UpdateItem", **fields)) == MISSING
        assert await refused(bob.ask("UpdateItem", **fields, content=value("yours"))) == MISSING
        assert await refused(bob.ask("RegenerateItem", **fields)) == MISSING
        assert await refused(bob.ask("DeleteItem", **fields)) == MISSING
    assert list((await ada.items(talk)).data) == [made]


@pytest.mark.parametrize("id_", ["", *NO_IDS])
async def test_an_id_of_nothing_is_not_found(ada: Person, talk: str, id_: str) -> None:
    made = await ada.add(talk, "x")
    assert await refused(ada.items(id_)) == MISSING
    assert await refused(ada.add(id_, "x")) == MISSING
    for fields in ({"conversation_id": talk, "item_id": id_}, {"conversation_id": id_, "item_id": made.id}):
        assert await refused(ada.ask("GetItem", **fields)) == MISSING
        assert await refused(ada.ask("UpdateItem", **fields, content=value("y"))) == MISSING
        assert await refused(ada.ask("RegenerateItem", **fields)) == MISSING
        assert await refused(ada.ask("DeleteItem", **fields)) == MISSING
    assert list((await ada.items(talk)).data) == [made]


# Plans


async def test_items_are_read_from_an_index_however_long_the_conversation(database: Database) -> None:
    await database.execute(
        """
        INSERT INTO conversations (id, user_id, item_count, last_position)
        SELECT 'conv_' || n, 'usr_ada', $1::int, $1::int FROM generate_series(1, 10) n
        """,
        LONG,
    )
    await database.execute(
        """
        INSERT INTO items (id, conversation_id, position, type, role, content)
        SELECT 'msg_' || c || '_' || n, 'conv_' || c, n, 'message', 'user', '"hello"'
        FROM generate_series(1, 10) c, generate_series(1, $1) n
        """,
        LONG,
    )
    await database.execute("VACUUM ANALYZE conversations, items")
    for page in (Page(order="asc"), Page(limit=100), Page(order="asc", after="msg_5_900"), Page(after="msg_5_900")):
        explaining = Explaining(database)
        listing = await ItemStore(explaining, largest=LARGEST).page("usr_ada", "conv_5", page)
        assert (len(listing.rows), listing.total_count) == (page.limit, LONG)
        found = [node for node in explaining.nodes if node.get("Relation Name") == "items"]
        assert {node["Node Type"] for node in found} <= {"Index Scan", "Index Only Scan"}
        assert all(node["Actual Rows"] <= page.limit + 1 for node in explaining.nodes)
