"""ConversationService against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from grpc import StatusCode
from jan.llm.v1 import conversations_pb2, items_pb2

from services.llm.conversations.conversation_store import BATCH, ConversationStore, Filters
from services.runtime.db import Connection, Database
from services.runtime.pages import Page
from tests.grpc.keys import guest
from tests.grpc.rig import Rig, running
from tests.grpc.talks import (
    MISSING,
    NO_CURSOR,
    NO_IDS,
    WRONG,
    Explaining,
    Person,
    plain,
    project,
    refused,
    struct,
    value,
)

NO_PROJECT = (StatusCode.NOT_FOUND, "PROJECT_NOT_FOUND", "project_id")
MANY = 20_000


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


def message(content: Any, role: str = "user") -> items_pb2.NewItem:
    return items_pb2.NewItem(role=role, content=value(content))


# Making


async def test_a_conversation_needs_nothing(ada: Person) -> None:
    made = plain(await ada.create())
    assert re.fullmatch(r"conv_[0-9a-z]{26}", made.pop("id"))
    assert made.pop("created_at") == made.pop("updated_at")
    assert made == {"object": "conversation", "active_branch": "MAIN"}


async def test_a_conversation_keeps_what_it_was_made_with(ada: Person, database: Database) -> None:
    given = {
        "title": " Łódź \U0001f600 ' OR 1=1 ",
        "metadata": {"project_id": "plain data", "k" * 64: "v" * 512, "empty": ""},
        "project_id": await project(database, ada.user_id),
        "referrer": "jan-web",
    }
    made = await ada.create(**given, items=[message("one"), message([{"type": "text", "text": "two"}], "assistant")])
    assert {name: plain(made)[name] for name in given} == given
    assert [(item.role, plain(item)["content"]) for item in made.items] == [
        ("user", "one"),
        ("assistant", [{"type": "text", "text": "two"}]),
    ]
    assert (made.item_count, made.items_has_more) == (2, False)
    assert await ada.get(made.id) == made


async def test_twenty_items_are_kept_in_their_order(ada: Person) -> None:
    made = await ada.create(items=[message(str(n)) for n in range(20)])
    assert [item.content.string_value for item in (await ada.get(made.id)).items] == [str(n) for n in range(20)]
    assert await refused(ada.create(items=[message("x")] * 21)) == (*WRONG, "items")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"title": "x" * 257}, "title"),
        ({"title": "a\0b"}, "title"),
        ({"title": "two\nlines"}, "title"),
        ({"title": "a\x85"}, "title"),
        ({"referrer": "x" * 65}, "referrer"),
        ({"referrer": "\x1b[1m"}, "referrer"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"": "x"}}, "metadata[]"),
        ({"metadata": {"k" * 65: "x"}}, f"metadata[{'k' * 65}]"),
        ({"metadata": {"k": "v" * 513}}, "metadata[k]"),
        ({"metadata": {"k": "\0"}}, "metadata.k"),
        ({"metadata": {"\0": "v"}}, "metadata.\0"),
        ({"items": [message("good"), message("\0")]}, "items[1].content"),
        ({"items": [message("good", "nobody")]}, "items[0].role"),
    ],
)
async def test_what_is_out_of_bounds_is_refused_by_name(ada: Person, fields: dict[str, Any], param: str) -> None:
    code, reason, said = await refused(ada.create(**fields))
    assert (code, reason) == WRONG
    assert said.replace("\\000", "\0").startswith(param[:60])
    assert (await ada.list()).total_count == 0


@pytest.mark.parametrize("foreign", [True, False])
async def test_a_project_that_is_not_the_caller_s_is_not_found(
    ada: Person, bob: Person, database: Database, foreign: bool
) -> None:
    other = await project(database, bob.user_id) if foreign else "proj_nobody\0"
    assert await refused(ada.create(project_id=other, items=[message("x")])) == NO_PROJECT
    made = await ada.create()
    assert await refused(ada.update(made.id, title="new", project_id=other)) == NO_PROJECT
    assert await ada.get(made.id) == made


# Listing


async def test_conversations_are_listed_last_changed_first_page_by_page(ada: Person) -> None:
    made = [(await ada.create(title=str(n))).id for n in range(5)]
    first = await ada.list(limit=2)
    assert [each.id for each in first.data] == [made[4], made[3]]
    assert (first.object, first.has_more, first.total_count) == ("list", True, 5)
    assert (first.first_id, first.last_id, first.next_after) == (made[4], made[3], made[3])
    rest = await ada.list(after=first.next_after)
    assert ([each.id for each in rest.data], rest.has_more) == ([made[2], made[1], made[0]], False)
    await ada.add(made[0], "hello")
    await ada.update(made[1], is_archived=True)
    assert [each.id for each in (await ada.list(limit=2)).data] == [made[1], made[0]]
    assert [each.id for each in (await ada.list(order="asc", offset=3)).data] == [made[0], made[1]]


async def test_a_list_is_filtered(ada: Person, bob: Person, database: Database) -> None:
    inside = await project(database, ada.user_id)
    one = await ada.create(title="Über 100% of_all", project_id=inside, referrer="web")
    two = await ada.create(title="UBER 100 of all", referrer="app")
    three = await ada.create(referrer="web")
    await ada.update(three.id, is_archived=True)
    await bob.create(title="über", referrer="web")

    async def found(**filters: Any) -> list[str]:
        listed = await ada.list(**filters)
        assert listed.total_count == len(listed.data)
        return [each.id for each in listed.data]

    assert await found() == [three.id, two.id, one.id]
    assert await found(project_id=inside) == [one.id]
    assert await found(project_id="proj_nobody") == []
    assert await found(referrer="web") == [three.id, one.id]
    assert await found(referrer="WEB") == []
    assert await found(is_archived=True) == [three.id]
    assert await found(is_archived=False) == [two.id, one.id]
    assert await found(search="uber") == [two.id]
    assert await found(search="über") == [one.id]
    assert await found(search="0%") == [one.id]
    assert await found(search="f_a") == [one.id]
    assert await found(search="\\") == []
    assert await found(search="'") == []
    assert await found(search="OF", referrer="app", is_archived=False) == [two.id]
    assert await found(search="of", referrer="web", is_archived=True, project_id=inside) == []


@pytest.mark.parametrize("name", ["search", "referrer", "project_id"])
async def test_a_filter_is_text(ada: Person, name: str) -> None:
    assert await refused(ada.list(**{name: "a\0"})) == (*WRONG, name)


async def test_rows_of_a_list_carry_no_items() -> None:
    assert "items" not in conversations_pb2.Conversation.DESCRIPTOR.fields_by_name


@pytest.mark.parametrize("after", NO_IDS)
async def test_a_cursor_that_is_none_is_refused(ada: Person, after: str) -> None:
    assert await refused(ada.list(after=after)) == NO_CURSOR


async def test_a_cursor_need_not_pass_the_filters(ada: Person) -> None:
    made = [(await ada.create()).id for _ in range(3)]
    await ada.update(made[1], is_archived=True)
    assert [each.id for each in (await ada.list(after=made[1], order="desc", is_archived=False)).data] == [
        made[2],
        made[0],
    ]


async def test_pages_neither_skip_nor_repeat_while_conversations_are_made(ada: Person) -> None:
    before = [(await ada.create()).id for _ in range(30)]
    seen: list[str] = []
    after, more = "", True
    while more:
        page, _ = await asyncio.gather(ada.list(limit=4, after=after), ada.create())
        seen += [each.id for each in page.data]
        after, more = page.next_after, page.has_more
    assert len(seen) == len(set(seen))
    assert [each for each in seen if each in before] == before[::-1]


# One


async def test_a_conversation_shows_its_newest_hundred_items(ada: Person) -> None:
    made = await ada.create()
    for start in range(0, 120, 20):
        batch = [message(str(n)) for n in range(start, start + 20)]
        await ada.ask("CreateItems", conversation_id=made.id, items=batch)
    shown = await ada.get(made.id)
    assert [item.content.string_value for item in shown.items] == [str(n) for n in range(20, 120)]
    assert (shown.items_has_more, shown.item_count) == (True, 120)


async def test_an_update_changes_what_it_names(ada: Person, database: Database) -> None:
    inside = await project(database, ada.user_id)
    made = await ada.create(title="old", metadata={"a": "1", "b": "2"}, referrer="web")
    assert plain(await ada.update(made.id)) == plain(made)  # nothing named, nothing moved
    moved = await ada.update(made.id, project_id=inside)
    assert (moved.project_id, moved.title, moved.referrer) == (inside, "old", "web")
    assert dict((await ada.update(made.id, metadata=struct({"c": "3"}))).metadata) == {"c": "3"}
    assert dict((await ada.update(made.id, metadata=struct({}))).metadata) == {}
    assert (await ada.update(made.id, is_archived=True)).is_archived
    assert not (await ada.update(made.id, is_archived=False)).is_archived
    cleared = await ada.update(made.id, title="", project_id="", referrer="")
    assert [cleared.HasField(name) for name in ("title", "project_id", "referrer")] == [False] * 3


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"title": "x" * 257}, "title"),
        ({"title": "a\tb"}, "title"),
        ({"referrer": "x" * 65}, "referrer"),
        ({"metadata": struct({"k": 5})}, "metadata.k"),
        ({"metadata": struct({"k": None})}, "metadata.k"),
        ({"metadata": struct({"k": {"deep": "x"}})}, "metadata.k"),
        ({"metadata": struct({"k": "\0"})}, "metadata.k"),
        ({"metadata": struct({"k": "v" * 513})}, "metadata[k]"),
        ({"metadata": struct({"": "v"})}, "metadata[]"),
        ({"metadata": struct({str(n): "" for n in range(17)})}, "metadata"),
    ],
)
async def test_an_update_out_of_bounds_changes_nothing(ada: Person, fields: dict[str, Any], param: str) -> None:
    made = await ada.create(title="old")
    code, reason, said = await refused(ada.update(made.id, **fields))
    assert (code, reason, said) == (*WRONG, param)
    assert await ada.get(made.id) == made


# Deleting


async def test_a_deleted_conversation_is_gone_with_its_items_and_its_shares_are_revoked(
    ada: Person, database: Database
) -> None:
    made, kept = [await ada.create(items=[message("x")]) for _ in range(2)]
    for number, each in enumerate((made, kept)):
        await share(database, f"shr_{number}", ada.user_id, each.id)
    call = ada.ask("DeleteConversation", id=made.id)
    assert dict(await call.initial_metadata())["x-http-status"] == "204"
    await call
    assert await refused(ada.get(made.id)) == MISSING
    assert await refused(ada.ask("DeleteConversation", id=made.id)) == MISSING
    assert await refused(ada.items(made.id)) == MISSING
    assert [row["conversation_id"] for row in await database.fetch("SELECT * FROM items")] == [kept.id]
    revoked = await database.fetch("SELECT id, revoked_at IS NOT NULL AS revoked FROM shares ORDER BY id")
    assert [(row["id"], row["revoked"]) for row in revoked] == [("shr_0", True), ("shr_1", False)]


async def test_a_share_that_is_made_meanwhile_does_not_survive(ada: Person, database: Database) -> None:
    """Whoever makes a share holds the row of the conversation."""
    made = await ada.create()
    async with database.transaction() as connection:
        await connection.execute("SELECT FROM conversations WHERE id = $1 FOR KEY SHARE", made.id)
        deletion = asyncio.ensure_future(ada.ask("DeleteConversation", id=made.id))
        while not await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            pass
        await share(connection, "shr_late", ada.user_id, made.id)
    await deletion
    assert await database.fetchval("SELECT revoked_at IS NOT NULL FROM shares")


async def share(database: Database | Connection, share_id: str, user_id: str, conversation_id: str) -> None:
    await database.execute(
        """
        INSERT INTO shares (id, slug, user_id, conversation_id, read_only, allow_feedback, items)
        VALUES ($1, $1, $2, $3, true, false, '[]')
        """,
        *(share_id, user_id, conversation_id),
    )


async def test_many_are_deleted_at_once_and_unknown_ids_are_told(ada: Person, bob: Person) -> None:
    first, second, third = [(await ada.create()).id for _ in range(3)]
    foreign = (await bob.create()).id
    wanted = [first, "conv_unknown", foreign, "\0", second, first]
    answer = await ada.ask("BulkDeleteConversations", conversation_ids=wanted)
    assert plain(answer.data) == {
        "object": "conversations.deleted",
        "deleted": True,
        "deleted_count": 2,
        "failed_ids": ["conv_unknown", foreign, "\0"],
    }
    assert [each.id for each in (await ada.list()).data] == [third]
    assert (await bob.list()).total_count == 1


@pytest.mark.parametrize("ids", [[], ["conv_x"] * 101])
async def test_between_one_and_a_hundred_are_deleted(ada: Person, ids: list[str]) -> None:
    said = await refused(ada.ask("BulkDeleteConversations", conversation_ids=ids))
    assert said == (*WRONG, "conversation_ids")


async def test_deletions_of_the_same_conversations_do_not_wait_for_each_other_in_a_ring(ada: Person) -> None:
    made = [(await ada.create()).id for _ in range(40)]
    calls = [ada.ask("BulkDeleteConversations", conversation_ids=each) for each in (made, made[::-1], made[::2], made)]
    assert sum([(await call).data.deleted_count for call in calls]) == 40


async def test_all_of_the_caller_s_are_deleted_and_nobody_else_s(ada: Person, bob: Person, database: Database) -> None:
    await fill(database, ada.user_id, BATCH + 1)
    await bob.create()
    answer = await ada.ask("DeleteAllConversations")
    assert plain(answer.data) == {"object": "conversations.deleted", "deleted": True, "deleted_count": BATCH + 1}
    assert ((await ada.list()).total_count, (await bob.list()).total_count) == (0, 1)
    assert (await ada.ask("DeleteAllConversations")).data.deleted_count == 0


# Others


async def test_the_conversation_of_somebody_else_is_not_there(ada: Person, bob: Person) -> None:
    made = await ada.create(title="mine", items=[message("x")])
    assert await refused(bob.get(made.id)) == MISSING
    assert await refused(bob.update(made.id, title="yours")) == MISSING
    assert await refused(bob.update(made.id)) == MISSING
    assert await refused(bob.ask("DeleteConversation", id=made.id)) == MISSING
    assert await refused(bob.list(after=made.id)) == NO_CURSOR
    assert (await bob.list()).total_count == 0
    assert (await bob.ask("DeleteAllConversations")).data.deleted_count == 0
    answer = await bob.ask("BulkDeleteConversations", conversation_ids=[made.id])
    assert list(answer.data.failed_ids) == [made.id]
    assert await ada.get(made.id) == made


@pytest.mark.parametrize("id_", ["", *NO_IDS])
async def test_an_id_of_nothing_is_not_found(ada: Person, id_: str) -> None:
    await ada.create()
    assert await refused(ada.get(id_)) == MISSING
    assert await refused(ada.update(id_, title="x")) == MISSING
    assert await refused(ada.ask("DeleteConversation", id=id_)) == MISSING


# Plans


async def fill(database: Database, user_id: str, count: int) -> None:
    """That many conversations of a user: each tenth in a project or from `web`, each hundredth archived."""
    async with database.transaction() as connection:
        await connection.execute("SET LOCAL synchronous_commit = on")  # or VACUUM might come before the WAL is written
        await connection.execute(
            """
            INSERT INTO conversations (id, user_id, title, project_id, referrer, is_archived, updated_at)
            SELECT 'conv_' || $1 || lpad(n::text, 8, '0'), $1, 'title ' || n,
                CASE n % 10 WHEN 1 THEN (SELECT min(id) FROM projects WHERE user_id = $1) END,
                CASE n % 10 WHEN 2 THEN 'web' END, n % 100 = 0, '2026-01-01'::timestamptz + n / 3 * '1 s'::interval
            FROM generate_series(1, $2) n
            """,
            *(user_id, count),
            within=60,
        )
    await database.execute("VACUUM ANALYZE conversations", within=60)


FILTERS = [
    Filters(),
    Filters(project_id="proj_01k9x4zz01k9x4zz01k9x4zz01"),
    Filters(referrer="web"),
    Filters(is_archived=True),
    Filters(is_archived=False),
    Filters(search="title"),
    Filters(search="TITLE 77"),
    Filters(search="title", is_archived=False),
]


@pytest.mark.patience(120)
async def test_every_list_is_read_from_an_index_in_its_order(database: Database) -> None:
    await project(database, "usr_ada")
    await fill(database, "usr_ada", MANY)
    await fill(database, "usr_bob", 5 * MANY)
    for filters in FILTERS:
        for page in (Page(), Page(order="asc"), Page(after="conv_usr_ada00015000", limit=100)):
            explaining = Explaining(database)
            listing = await ConversationStore(explaining).page("usr_ada", filters, page)
            assert len(listing.rows) == page.limit, filters
            kinds = [node["Node Type"] for node in explaining.nodes]
            assert "Seq Scan" not in kinds, filters
            sorted_rows = [node["Actual Rows"] for node in explaining.nodes if "Sort" in node["Node Type"]]
            assert all(rows <= page.limit + 1 for rows in sorted_rows), filters
            heap = [node for node in explaining.nodes if node["Node Type"] == "Index Scan"]
            assert all(node["Actual Rows"] <= page.limit + 1 for node in heap), filters
