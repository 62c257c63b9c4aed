"""ToolService over gRPC: the list, calls, and the audit of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from grpc import StatusCode

from services.mcp.call_audit import CallAudit
from services.runtime.db import Database
from services.runtime.errors import Unavailable
from tests.grpc.keys import Account, check, create, guest, passed_on
from tests.grpc.rig import Rig, running
from tests.grpc.talks import refused
from tests.grpc.tool_calls import called, listed

BUILTIN = {"google_search", "scrape"}


@pytest_asyncio.fixture
async def rig(tmp_path: Path, database_url: str) -> AsyncIterator[Rig]:
    async with running(tmp_path, "auth", "mcp", database_url=database_url) as rig:
        yield rig


@pytest_asyncio.fixture
async def account(rig: Rig) -> Account:
    return await guest(rig)


async def test_tools_are_listed_by_id_with_their_schema(rig: Rig, account: Account) -> None:
    found = await listed(rig, account)
    assert {tool["name"] for tool in found["data"]} >= BUILTIN
    ids = [tool["id"] for tool in found["data"]]
    assert ids == sorted(ids)
    assert (found["object"], found["total_count"], found["first_id"]) == ("list", len(ids), ids[0])
    (search,) = (tool for tool in found["data"] if tool["name"] == "google_search")
    assert (search["object"], search["category"], search["provider"]) == ("tool", "search", "builtin")
    assert search["input_schema"]["required"] == ["q"]
    assert search["id"].startswith("tool_")
    assert search["title"]
    assert search["description"]


async def test_the_list_comes_page_by_page(rig: Rig, account: Account) -> None:
    ids = [tool["id"] for tool in (await listed(rig, account))["data"]]
    first = await listed(rig, account, limit=1)
    assert ([tool["id"] for tool in first["data"]], first["has_more"], first["next_after"]) == (ids[:1], True, ids[0])
    assert [tool["id"] for tool in (await listed(rig, account, after=ids[0]))["data"]] == ids[1:]
    assert [tool["id"] for tool in (await listed(rig, account, order="desc"))["data"]] == ids[::-1]
    assert (await refused(listed(rig, account, after="tool_nothing")))[1:] == ("INVALID_CURSOR", "after")


async def test_a_call_says_what_the_tool_says(rig: Rig, account: Account) -> None:
    said = await called(rig, account.signed_in, q="anything", num=3)
    assert said["is_error"] is False
    assert said["structured_content"]["live"] is False
    assert said["structured_content"]["results"] == []
    (block,) = said["content"]
    assert block["type"] == "text"
    assert '"query":"anything"' in block["text"]


async def test_a_tool_that_fails_is_an_answer(rig: Rig, account: Account) -> None:
    said = await called(rig, account.signed_in, "scrape", url="http://127.0.0.1:1/")
    assert said["is_error"] is True
    assert said["structured_content"]["error"]["code"] == "url_not_allowed"


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("nothing", {}, (StatusCode.NOT_FOUND, "TOOL_NOT_FOUND", "name")),
        ("", {}, (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER", "name")),
        ("x" * 129, {}, (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER", "name")),
        ("google_search", {}, (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER", "arguments.q")),
        ("google_search", {"q": 5}, (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER", "arguments.q")),
        ("google_search", {"q": "a", "num": 1.5}, (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER", "arguments.num")),
    ],
)
async def test_calls_that_cannot_be_made_are_refused(
    rig: Rig, account: Account, name: str, arguments: dict[str, Any], error: Any
) -> None:
    assert await refused(called(rig, account.signed_in, name, **arguments)) == error


async def test_a_key_needs_the_scope_to_write(rig: Rig, account: Account) -> None:
    for scopes, allowed in ((["read"], False), (["write"], True)):
        key = await create(rig, account, scopes=scopes)
        token = passed_on(await check(rig, x_api_key=key.key))
        call = called(rig, (("authorization", f"Bearer {token}"),), q="a")
        if allowed:
            assert (await call)["is_error"] is False
        else:
            assert (await refused(call))[:2] == (StatusCode.PERMISSION_DENIED, "INSUFFICIENT_SCOPE")


async def test_strangers_neither_look_nor_call(rig: Rig) -> None:
    assert (await refused(called(rig, (), q="a")))[0] is StatusCode.UNAUTHENTICATED


# The audit


async def test_every_call_is_recorded_with_its_outcome_and_without_its_content(
    tmp_path: Path, database_url: str, database: Database
) -> None:
    async with running(tmp_path, "auth", "mcp", database_url=database_url) as rig:
        one, two = await guest(rig), await guest(rig)
        marked = (*one.signed_in, ("x-request-id", "audited-1"))
        await called(rig, marked, q="my secret question")
        await called(rig, two.signed_in, "scrape", url="http://127.0.0.1:1/secret")
    rows = await database.fetch("SELECT * FROM tool_calls ORDER BY id")  # written at the latest when it ends
    assert [(row["user_id"], row["tool"], row["outcome"]) for row in rows] == [
        (one.user_id, "google_search", "completed"),
        (two.user_id, "scrape", "url_not_allowed"),
    ]
    assert rows[0]["request_id"] == "audited-1"
    assert all(0 <= row["duration_ms"] < 10_000 for row in rows)
    assert abs((datetime.now(UTC) - rows[0]["created_at"]).total_seconds()) < 60
    assert "secret" not in str([dict(row) for row in rows])


class Reachable:
    """A database that is reached when the test lets it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.away = False
        self.asked = asyncio.Event()

    async def execute(self, sql: str, *arguments: object) -> str:
        self.asked.set()
        if self.away:
            raise Unavailable("The database is not reachable")
        return await self.database.execute(sql, *arguments)


def record(audit: CallAudit, tool: str) -> None:
    audit.record(user_id="usr_1", tool=tool, request_id="req_1", outcome="completed", seconds=0.0125)


async def test_calls_wait_for_a_database_that_is_away(database: Database) -> None:
    door: Any = Reachable(database)
    door.away = True
    audit = CallAudit(door, pause=0.01)
    record(audit, "first")
    audit.start()
    await asyncio.wait_for(door.asked.wait(), 5)
    record(audit, "second")
    door.away = False
    await audit.close()
    rows = await database.fetch("SELECT tool, duration_ms FROM tool_calls ORDER BY id")
    assert [(row["tool"], row["duration_ms"]) for row in rows] == [("first", 12), ("second", 12)]


async def test_more_calls_than_one_statement_takes_are_all_written(database: Database) -> None:
    audit = CallAudit(database, pause=60)
    for number in range(12_000):
        record(audit, f"tool-{number % 3}")
    audit.start()
    await audit.close()
    assert await database.fetchval("SELECT count(*) FROM tool_calls") == 12_000


async def test_what_waits_has_a_bound(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    audit = CallAudit(database, most=2)
    for name in "abc":
        record(audit, name)
    audit.start()
    await audit.close()
    assert await database.fetchval("SELECT count(*) FROM tool_calls") == 2
    assert "tool_calls_lost" in caplog.text
