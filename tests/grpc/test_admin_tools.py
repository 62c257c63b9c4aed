"""AdminToolService over gRPC: rows, changes, and how they reach every process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import json_format
from grpc import StatusCode
from jan.mcp.v1 import admin_tools_pb2, admin_tools_pb2_grpc

from services.runtime import db
from services.runtime.db import Database
from tests.grpc.keys import Account, admin, guest
from tests.grpc.rig import SECONDS, Rig, running
from tests.grpc.talks import refused
from tests.grpc.tool_calls import called, listed, plain

NOT_FOUND = (StatusCode.NOT_FOUND, "NOT_FOUND", "")
INVALID = StatusCode.INVALID_ARGUMENT


@pytest_asyncio.fixture
async def rig(tmp_path: Path, database_url: str) -> AsyncIterator[Rig]:
    async with running(tmp_path, "auth", "mcp", database_url=database_url) as rig:
        yield rig


@pytest_asyncio.fixture
async def boss(rig: Rig, database: Database) -> Account:
    return await admin(rig, database)


class Admin:
    """Calls as an administrator, requests and answers as plain JSON."""

    def __init__(self, rig: Rig, account: Account) -> None:
        self._stub: Any = admin_tools_pb2_grpc.AdminToolServiceStub(rig.channel)
        self._account = account

    async def __call__(self, method: str, request_id: str = "req_1", **members: Any) -> dict[str, Any]:
        request = json_format.ParseDict(members, getattr(admin_tools_pb2, f"{method}Request")())
        metadata = (*self._account.signed_in, ("x-request-id", request_id))
        return plain(await getattr(self._stub, method)(request, metadata=metadata, timeout=SECONDS))

    async def tool(self, name: str) -> dict[str, Any]:
        return dict((await self("GetAdminTool", id=name))["data"])

    async def patch(self, name: str, **members: Any) -> dict[str, Any]:
        return dict((await self("UpdateAdminTool", id=name, **members))["data"])

    async def names(self, **wanted: Any) -> set[str]:
        return {row["name"] for row in (await self("ListAdminTools", **wanted))["data"]}


@pytest_asyncio.fixture
async def tell(rig: Rig, boss: Account) -> Admin:
    return Admin(rig, boss)


async def soon(condition: Any, *, within: float = 1) -> None:
    """Wait until what another process is told has arrived there."""
    async with asyncio.timeout(within):
        while not await condition():
            pass  # it has asked a server, which takes a moment


# Reading


async def test_every_tool_has_a_row(tell: Admin) -> None:
    found = await tell("ListAdminTools")
    ids = [row["id"] for row in found["data"]]
    assert ids == sorted(ids)
    assert (found["object"], found["total_count"], found["has_more"]) == ("list", len(ids), False)
    row = await tell.tool("google_search")
    assert row.pop("created_at") <= row.pop("updated_at")
    assert row.pop("id").startswith("tool_")
    assert row.pop("description") == row.pop("default_description") != ""
    assert row == {
        "object": "tool",
        "name": "google_search",
        "tool_key": "google_search",
        "category": "search",
        "provider": "builtin",
        "enabled": True,
        "is_active": True,
        "disallowed_keywords": [],
        "content_filter": {"disallowed_keywords": [], "require_approval_for": []},
        "metadata": {},
    }


async def test_a_tool_is_found_by_its_id_too(tell: Admin) -> None:
    row = await tell.tool("scrape")
    assert await tell.tool(row["id"]) == row


async def test_rows_come_page_by_page(tell: Admin) -> None:
    ids = [row["id"] for row in (await tell("ListAdminTools"))["data"]]
    first = await tell("ListAdminTools", limit=1)
    assert ([row["id"] for row in first["data"]], first["next_after"]) == (ids[:1], ids[0])
    assert [row["id"] for row in (await tell("ListAdminTools", after=ids[0]))["data"]] == ids[1:]
    assert [row["id"] for row in (await tell("ListAdminTools", offset=1))["data"]] == ids[1:]
    assert [row["id"] for row in (await tell("ListAdminTools", order="desc"))["data"]] == ids[::-1]
    assert await refused(tell("ListAdminTools", after="tool_nothing")) == (INVALID, "INVALID_CURSOR", "after")


async def test_rows_are_filtered(tell: Admin) -> None:
    await tell.patch("scrape", enabled=False, category="reading", description="Reads one PAGE.")
    assert await tell.names(enabled=False) == {"scrape"}
    assert "scrape" not in await tell.names(enabled=True)
    assert await tell.names(category="reading") == {"scrape"}
    assert "google_search" in await tell.names(category="search")
    assert await tell.names(search="one page") == {"scrape"}
    assert await tell.names(search="GOOGLE") == {"google_search"}
    assert await tell.names(search="%") == set()
    assert await tell.names(category="nothing") == set()


@pytest.mark.parametrize("name", ["nothing", "tool_nothing", "", "x" * 10_000])
async def test_what_does_not_exist_is_not_found(tell: Admin, name: str) -> None:
    assert await refused(tell("GetAdminTool", id=name)) == NOT_FOUND
    assert await refused(tell("UpdateAdminTool", id=name, enabled=False)) == NOT_FOUND
    assert await refused(tell("SetToolFilters", id=name)) == NOT_FOUND


async def test_only_administrators_may(rig: Rig) -> None:
    other = Admin(rig, await guest(rig))
    for method, members in {
        "ListAdminTools": {},
        "GetAdminTool": {"id": "scrape"},
        "UpdateAdminTool": {"id": "scrape", "enabled": False},
        "SetToolFilters": {"id": "scrape", "disallowed_keywords": ["a"]},
    }.items():
        assert (await refused(other(method, **members)))[:2] == (StatusCode.PERMISSION_DENIED, "ADMIN_REQUIRED")


# Changing


async def test_only_what_is_sent_changes(tell: Admin) -> None:
    before = await tell.tool("scrape")
    changed = await tell.patch("scrape", description="Ours.", metadata={"owner": "ops", "cost": 5})
    assert changed["updated_at"] >= before["updated_at"]
    expected = {**before, "description": "Ours.", "metadata": {"owner": "ops", "cost": 5}}
    assert {**changed, "updated_at": 0} == {**expected, "updated_at": 0}
    assert await tell.patch("scrape") == {**changed, "updated_at": (await tell.tool("scrape"))["updated_at"]}


async def test_what_is_emptied_is_the_built_in_again(tell: Admin) -> None:
    before = await tell.tool("scrape")
    await tell.patch("scrape", description="Ours.", category="other", metadata={"a": 1}, disallowed_keywords=["a"])
    after = await tell.patch("scrape", description="", category="", metadata={}, disallowed_keywords=[])
    assert {**after, "updated_at": 0} == {**before, "updated_at": 0}


async def test_a_filter_is_replaced_as_a_whole(tell: Admin) -> None:
    row = await tell.patch("scrape", content_filter={"disallowed_keywords": ["a"], "require_approval_for": ["b"]})
    assert row["content_filter"] == {"disallowed_keywords": ["a"], "require_approval_for": ["b"]}
    row = await tell.patch("scrape", disallowed_keywords=["c"])
    assert row["content_filter"] == {"disallowed_keywords": ["c"], "require_approval_for": ["b"]}
    assert row["disallowed_keywords"] == ["c"]
    row = await tell.patch("scrape", content_filter={"require_approval_for": ["d"]})
    assert row["content_filter"] == {"disallowed_keywords": [], "require_approval_for": ["d"]}
    row = (await tell("SetToolFilters", id=row["id"], disallowed_keywords=["e"]))["data"]
    assert row["content_filter"] == {"disallowed_keywords": ["e"], "require_approval_for": []}


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"enabled": True, "is_active": False}, "is_active"),
        ({"description": "x" * 8193}, "description"),
        ({"category": "x" * 65}, "category"),
        ({"reason": "x" * 1025}, "reason"),
        ({"disallowed_keywords": ["fine", "("]}, "disallowed_keywords[1]"),
        ({"disallowed_keywords": ["fine", 5]}, "disallowed_keywords[1]"),
        ({"disallowed_keywords": ["x"] * 201}, "disallowed_keywords"),
        ({"content_filter": {"disallowed_keywords": ["("]}}, "content_filter.disallowed_keywords[0]"),
        ({"content_filter": {"require_approval_for": ["(?=a)"]}}, "content_filter.require_approval_for[0]"),
        ({"metadata": {"a": "x" * 17_000}}, "metadata"),
    ],
)
async def test_what_cannot_be_set_is_refused_by_its_name(tell: Admin, members: dict[str, Any], param: str) -> None:
    before = await tell.tool("scrape")
    assert await refused(tell("UpdateAdminTool", id="scrape", **members)) == (INVALID, "INVALID_PARAMETER", param)
    assert await tell.tool("scrape") == before


async def test_the_filters_of_a_put_are_checked_as_well(tell: Admin) -> None:
    for name in ("disallowed_keywords", "require_approval_for"):
        put = tell("SetToolFilters", **{"id": "scrape", name: ["a", "*"]})
        assert await refused(put) == (INVALID, "INVALID_PARAMETER", f"{name}[1]")


async def test_both_switches_are_one(tell: Admin) -> None:
    for members, on in (({"enabled": False}, False), ({"is_active": True}, True), ({"is_active": False}, False)):
        row = await tell.patch("scrape", **members)
        assert (row["enabled"], row["is_active"]) == (on, on)
    row = await tell.patch("scrape", enabled=True, is_active=True)
    assert row["enabled"] is True


async def test_the_audit_log_says_who_changed_which_tool_and_why(
    tell: Admin, boss: Account, database: Database
) -> None:
    await tell("UpdateAdminTool", "req_a", id="scrape", enabled=False, reason="too curious")
    row = await tell.tool("google_search")
    await tell("SetToolFilters", "req_b", id=row["id"], disallowed_keywords=["a"])
    await refused(tell("UpdateAdminTool", id="nothing", enabled=False))
    rows = await database.fetch("SELECT actor, action, target, reason, request_id FROM audit_log ORDER BY request_id")
    assert [tuple(row.values()) for row in rows] == [
        (boss.user_id, "tool.update", "scrape", "too curious", "req_a"),
        (boss.user_id, "tool.update", "google_search", "", "req_b"),
    ]


# What users meet


async def test_a_change_holds_in_every_process_within_a_second(
    rig: Rig, tell: Admin, tmp_path: Path, database_url: str
) -> None:
    account = await guest(rig)
    async with running(tmp_path, "mcp", database_url=database_url) as other:

        async def hidden() -> bool:
            tools = [each for process in (rig, other) for each in (await listed(process, account))["data"]]
            return "scrape" not in {tool["name"] for tool in tools}

        await tell.patch("scrape", enabled=False)
        await soon(hidden)
        for process in (rig, other):
            said = await called(process, account.signed_in, "scrape", url="https://example.com/")
            assert (said["is_error"], said["structured_content"]["error"]["code"]) == (True, "tool_disabled")
        await tell.patch("scrape", enabled=True, description="Ours.", category="reading")

        async def told() -> bool:
            tools = (await listed(other, account))["data"]
            return ("scrape", "Ours.", "reading") in {(t["name"], t["description"], t["category"]) for t in tools}

        await soon(told)


async def test_what_changed_while_a_process_could_not_hear_it_holds_as_soon_as_it_can(
    rig: Rig, tell: Admin, database: Database
) -> None:
    account = await guest(rig)
    await database.execute(
        """
        SELECT pg_terminate_backend(pid) FROM pg_locks
        WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """
    )
    await tell.patch("scrape", enabled=False)

    async def hidden() -> bool:
        return "scrape" not in {tool["name"] for tool in (await listed(rig, account))["data"]}

    await soon(hidden, within=10)


@asynccontextmanager
async def cut_off(database_url: str) -> AsyncIterator[None]:
    """Meanwhile nobody gets at the database."""
    name = database_url.partition("@/")[2].partition("?")[0]
    maintenance = await db.connect(database_url.replace(f"/{name}?", "/postgres?").replace("//jan@", "//postgres@"))
    await maintenance.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    await maintenance.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    yield
    await maintenance.execute(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
    await maintenance.close()


async def test_without_the_database_tools_work_as_they_were_set_last(rig: Rig, tell: Admin, database_url: str) -> None:
    account = await guest(rig)

    async def gone(process: Rig) -> bool:
        return "scrape" not in {tool["name"] for tool in (await listed(process, account))["data"]}

    await tell.patch("scrape", enabled=False)
    await soon(lambda: gone(rig))
    async with cut_off(database_url):
        assert await gone(rig)
        said = await called(rig, account.signed_in, "scrape", url="https://example.com/")
        assert said["structured_content"]["error"]["code"] == "tool_disabled"
        assert (await called(rig, account.signed_in, q="a"))["is_error"] is False
        assert (await refused(tell("ListAdminTools")))[:2] == (StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")

    async def changed() -> bool:
        try:
            return bool((await tell.patch("scrape", enabled=True))["enabled"])
        except grpc.aio.AioRpcError:
            return False

    await soon(changed, within=10)


async def test_a_pattern_keeps_words_away_from_a_tool(rig: Rig, tell: Admin) -> None:
    account = await guest(rig)
    await tell("SetToolFilters", id="google_search", disallowed_keywords=["for+bidden"], require_approval_for=["risky"])

    async def outcome(q: str, **arguments: Any) -> str:
        said = await called(rig, account.signed_in, q=q, **arguments)
        return str(said["structured_content"]["error"]["code"]) if said["is_error"] else "done"

    async def holds() -> bool:
        return await outcome("FORRRBIDDEN fruit") == "tool_input_blocked"

    await soon(holds)
    assert await outcome("fine") == "done"
    assert await outcome("something risky") == "approval_required"
    assert await outcome("something risky", approved=True) == "done"


async def test_what_was_set_outlives_the_process(tmp_path: Path, rig: Rig, tell: Admin, database_url: str) -> None:
    await tell.patch("scrape", enabled=False, description="Ours.")
    async with running(tmp_path, "mcp", database_url=database_url) as later:
        assert "scrape" not in {tool["name"] for tool in (await listed(later, await guest(rig)))["data"]}
    row = await tell.tool("scrape")
    assert (row["description"], row["enabled"]) == ("Ours.", False)
    assert row["default_description"] != "Ours."
