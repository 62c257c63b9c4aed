"""The bridge to other MCP servers: what it offers of them, what it passes on, and that they cannot break it."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError

from services.mcp.bridge import CALLS, Bridge, Pace
from services.mcp.bridge_file import Provider
from services.mcp.bridge_transport import MOST
from services.mcp.tool import Result, Tool, ToolFailed
from tests.fake_mcp_server import FakeMcpServer, silent_server, text
from tests.toolbox import Echo, Ledger, calling, registry

PATIENCE = 10.0
PACE = Pace(refresh=60, recovery=0.02, shortest=0.01)
ERAS = pytest.mark.parametrize(("era", "as_json"), [("both", False), ("2025", False), ("2025", True)])
CONTENT: list[dict[str, Any]] = [
    {"type": "text", "text": "Grüße", "annotations": {"audience": ["user"], "priority": 0.5}},
    {"type": "image", "data": "AAAA", "mimeType": "image/png"},
    {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"},
    {"type": "resource_link", "name": "report", "uri": "file:///report.txt", "size": 7},
    {"type": "resource", "resource": {"uri": "memo://1", "text": "seven"}},
]


class Shop:
    """Where tools are offered."""

    def __init__(self) -> None:
        self.tools: dict[str, dict[str, Tool]] = {}
        self._news = asyncio.Condition()

    async def offer(self, provider: str, tools: Sequence[Tool]) -> None:
        async with self._news:
            self.tools[provider] = {tool.description.name: tool for tool in tools}
            self._news.notify_all()

    async def has(self, *names: str, provider: str = "files") -> None:
        """Wait until these are the tools of the provider."""
        await self.until(lambda: provider in self.tools and set(self.tools[provider]) == set(names))

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(condition)

    async def call(self, name: str, seconds: float = 20, /, **arguments: Any) -> Result:
        tools = {name: tool for group in self.tools.values() for name, tool in group.items()}
        return await tools[name].run(arguments, calling(seconds=seconds))


def provider_of(server: FakeMcpServer, name: str = "files", **fields: Any) -> Provider:
    return Provider(name, server.url, **{"timeout": 5.0, "retries": 1, "retry_delay": 0.01, **fields})


@asynccontextmanager
async def bridged(*providers: Provider, shop: Shop | None = None, pace: Pace = PACE) -> AsyncIterator[Shop]:
    """A bridge to these servers."""
    shop = shop or Shop()
    bridge = Bridge(providers, shop.offer, pace)
    bridge.start()
    try:
        yield shop
    finally:
        async with asyncio.timeout(PATIENCE):
            await bridge.close()


async def refusal(shop: Shop, name: str = "files_add", seconds: float = 20, /, **arguments: Any) -> tuple[str, str]:
    """Code and message of a call that fails."""
    with pytest.raises(ToolFailed) as caught:
        await shop.call(name, seconds, **arguments)
    return caught.value.code, caught.value.message


# What is offered


@ERAS
async def test_a_tool_is_offered_with_its_own_schema_under_the_name_of_its_provider(era: str, as_json: bool) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "x-note": 1}}, "required": ["a"]}
    async with FakeMcpServer(era=era, json_response=as_json) as server:
        server.tool(
            "add",
            title="Addition",
            description="Adds numbers",
            input_schema=schema,
            output_schema={"type": "object", "properties": {"sum": {"type": "integer"}}},
            annotations=types.ToolAnnotations(read_only_hint=True),
        )
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_add")
            description = shop.tools["files"]["files_add"].description
    assert description.title == "Addition"
    assert description.text == "[files] Adds numbers"
    assert description.category == "bridge"
    assert description.provider == "files"
    assert description.input_schema == schema
    assert description.output_schema == {"type": "object", "properties": {"sum": {"type": "integer"}}}
    assert description.annotations == {"readOnlyHint": True}


async def test_a_tool_without_description_is_described_by_its_name() -> None:
    async with FakeMcpServer() as server:
        server.tool("add", description=None)
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_add")
            assert shop.tools["files"]["files_add"].description.text == "[files] add"


async def test_only_the_tools_that_the_file_names_are_offered_and_a_missing_one_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FakeMcpServer() as server:
        for name in ("add", "erase"):
            server.tool(name)
        async with bridged(provider_of(server, tools=("add", "subtract"))) as shop:
            await shop.has("files_add")
    (record,) = [each for each in caplog.records if each.message == "mcp_tool_left_out"]
    assert (record.tool, record.reason) == ("subtract", "it has no such tool")  # type: ignore[attr-defined]


async def test_a_list_of_several_pages_is_read_to_its_end() -> None:
    async with FakeMcpServer() as server:
        server.page_size = 2
        for number in range(5):
            server.tool(f"t{number}")
        async with bridged(provider_of(server)) as shop:
            await shop.has(*(f"files_t{number}" for number in range(5)))


async def test_a_list_without_end_is_none() -> None:
    endless = b'{"jsonrpc":"2.0","id":ID,"result":{"tools":[],"nextCursor":"more"}}'
    async with FakeMcpServer(era="2025") as server, bridged(provider_of(server, retries=0)) as shop:
        await shop.has()
        server.raw["tools/list"] = endless
        server.tool("add")
        await server.change()
        await asyncio.wait_for(_count(server, "tools/list", 101), PATIENCE)
        assert shop.tools["files"] == {}


async def test_what_cannot_be_offered_is_left_out_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    deep: dict[str, Any] = {}
    for _ in range(30):
        deep = {"properties": {"a": deep}}
    async with FakeMcpServer() as server:
        server.tool("add")
        server.tool("with space")
        server.tool("ü")
        server.tool("x" * 123)
        server.tool("y" * 122)
        server.tool("deep", input_schema={"type": "object", **deep})
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_add", "files_" + "y" * 122)
            server.tool("more")
            await asyncio.wait_for(server.listening.wait(), PATIENCE)
            await server.change()
            await shop.has("files_add", "files_more", "files_" + "y" * 122)
    records = [vars(each) for each in caplog.records if each.message == "mcp_tool_left_out"]
    assert sorted(each["tool"] for each in records) == sorted(["with space", "ü", "x" * 123, "deep"])
    assert "levels" in next(each["reason"] for each in records if each["tool"] == "deep")


async def test_of_two_tools_with_one_name_the_first_is_offered() -> None:
    async with FakeMcpServer() as server:
        twice = [{"name": "add", "description": word, "inputSchema": {"type": "object"}} for word in ("one", "two")]
        server.tool("add")
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_add")
            listed = {"tools": twice, "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
            server.raw["tools/list"] = _result(listed)
            await asyncio.wait_for(server.listening.wait(), PATIENCE)
            await server.change()
            await shop.until(lambda: shop.tools["files"]["files_add"].description.text == "[files] one")


# Changes


@ERAS
async def test_tools_change_when_the_server_says_so(era: str, as_json: bool) -> None:
    async with FakeMcpServer(era=era, json_response=as_json) as server:
        server.tool("add")
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_add")
            await asyncio.wait_for(server.listening.wait(), PATIENCE)
            server.tool("new")
            del server.tools["add"]
            await server.change()
            await shop.has("files_new")


async def test_a_change_that_nobody_told_is_found_at_the_next_look() -> None:
    async with FakeMcpServer() as server:
        server.tool("add")
        async with bridged(provider_of(server), pace=replace(PACE, refresh=0.02)) as shop:
            await shop.has("files_add")
            server.tool("new")
            await shop.has("files_add", "files_new")


# Results


@ERAS
async def test_a_result_passes_through_unchanged(era: str, as_json: bool) -> None:
    async with FakeMcpServer(era=era, json_response=as_json) as server:
        structured = {"sum": 3, "nothing": None, "list": [1.5, {"a": "ü"}]}
        server.tool("add", types.CallToolResult.model_validate({"content": CONTENT, "structuredContent": structured}))
        server.tool("fail", text("no such file", is_error=True))
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_add", "files_fail")
            result = await shop.call("files_add", a=1, b=None, c={"d": [None]})
            assert result == Result(structured, CONTENT)
            failure = await shop.call("files_fail")
            assert failure == Result(None, [{"type": "text", "text": "no such file"}], is_error=True)
        assert server.calls == [("add", {"a": 1, "b": None, "c": {"d": [None]}}), ("fail", {})]


async def test_a_result_that_does_not_fit_its_own_schema_passes_through() -> None:
    async with FakeMcpServer() as server:
        server.tool("add", text("three"), output_schema={"type": "object", "required": ["sum"]})
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_add")
            assert (await shop.call("files_add")).content == [{"type": "text", "text": "three"}]


async def test_structure_that_is_no_object_is_told_as_text() -> None:
    async with FakeMcpServer() as server:
        server.tool("add", types.CallToolResult(content=[], structured_content=[1, 2]), output_schema={"type": "array"})
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_add")
            assert shop.tools["files"]["files_add"].description.output_schema is None
            assert await shop.call("files_add") == Result(None, [{"type": "text", "text": "[1,2]"}])


async def test_how_far_a_tool_is_is_told_on() -> None:
    async def count(_arguments: Any, context: Any) -> types.CallToolResult:
        for step in (1.0, 2.0):
            await context.session.report_progress(step, 2.0, f"step {step:g}")
        return text("two")

    told: list[tuple[float, float | None, str | None]] = []

    async def tell(*progress: Any) -> None:
        told.append(progress)

    async with FakeMcpServer() as server:
        server.tool("count", count)
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_count")
            await shop.tools["files"]["files_count"].run({}, replace(calling(), progress=tell))
    assert told == [(1.0, 2.0, "step 1"), (2.0, 2.0, "step 2")]


async def test_what_the_server_refuses_is_told_in_its_words() -> None:
    async def refuse(_arguments: Any, _context: Any) -> types.CallToolResult:
        raise MCPError(-32602, "a must be a number")

    async with FakeMcpServer() as server:
        server.tool("add", refuse)
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_add")
            assert await refusal(shop) == ("provider_refused", "It refuses: a must be a number")


async def test_a_tool_that_asks_back_is_refused() -> None:
    async def ask(_arguments: Any, _context: Any) -> types.InputRequiredResult:
        return types.InputRequiredResult(request_state="more, please")

    async with FakeMcpServer() as server:
        server.tool("add", ask)
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_add")
            code, message = await refusal(shop)
    assert code == "provider_refused"
    assert "more than its arguments" in message


@ERAS
async def test_a_result_that_is_too_large_is_refused_and_the_next_one_taken(era: str, as_json: bool) -> None:
    async with FakeMcpServer(era=era, json_response=as_json) as server:
        server.tool("huge", text("x" * MOST))
        server.tool("large", text("x" * (MOST - 1000)))
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_huge", "files_large")
            code, message = await refusal(shop, "files_huge")
            assert code == "result_too_large"
            assert str(MOST) in message
            assert len((await shop.call("files_large")).blocks[0]["text"]) == MOST - 1000
        assert [name for name, _ in server.calls] == ["huge", "large"]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "application/json", "content-encoding": "gzip"}, gzip.compress(b" " * 10_000_000)),
        ({"content-type": "application/json"}, b'{"jsonrpc": "2.0", "id'),
        ({"content-type": "application/json"}, b'{"jsonrpc":"2.0","id":ID,"result":{"content":' + b"[" * 300),
        ({"content-type": "application/json"}, b'{"jsonrpc":"2.0","id":ID,"result":{"content":7}}'),
        ({"content-type": "application/json"}, b'{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"smell"}]}}'),
        ({"content-type": "text/event-stream"}, b'event: message\ndata: {"jsonrpc"\n\n'),
        ({"content-type": "text/event-stream"}, b": nothing follows\n\n"),
    ],
    ids=["packed", "cut", "deep", "no content", "unknown content", "broken event", "no event"],
)
async def test_an_answer_that_is_none_fails_one_call_and_no_other(headers: dict[str, str], body: bytes) -> None:
    async with FakeMcpServer() as server:
        server.tool("add")
        server.slow_tool("slow")
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_add", "files_slow")
            async with asyncio.TaskGroup() as group:
                slow = group.create_task(shop.call("files_slow"))
                await asyncio.wait_for(server.called.wait(), PATIENCE)
                server.raw, server.raw_headers = {"tools/call": body}, headers
                assert (await refusal(shop))[0] == "provider_failed"
                server.raw.clear()
                assert (await shop.call("files_add")).blocks[0]["text"] == "done: add"
                server.gate.set()
            assert slow.result().blocks[0]["text"] == "at last"


# Time, and being stopped


@ERAS
async def test_cancelling_a_call_cancels_it_there(era: str, as_json: bool) -> None:
    async with FakeMcpServer(era=era, json_response=as_json) as server:
        server.slow_tool("slow")
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_slow")
            call = asyncio.create_task(shop.call("files_slow"))
            await asyncio.wait_for(server.called.wait(), PATIENCE)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.wait_for(server.cancelled.wait(), PATIENCE)


@pytest.mark.parametrize(("allowed", "deadline"), [(0.3, 20), (20, 0.3)])
async def test_a_call_ends_with_the_time_of_its_provider_or_its_caller(allowed: float, deadline: float) -> None:
    async with FakeMcpServer() as server:
        server.slow_tool("slow")
        async with bridged(provider_of(server, timeout=allowed)) as shop:
            await shop.has("files_slow")
            assert (await refusal(shop, "files_slow", deadline))[0] == "tool_timeout"
            await asyncio.wait_for(server.cancelled.wait(), PATIENCE)


# Servers that are away


async def test_a_server_that_is_away_blocks_nothing_and_shows_its_tools_when_it_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    late, there = FakeMcpServer(), FakeMcpServer()
    await late.start()
    await late.stop()  # its port is known now
    there.tool("add")
    late.tool("add")
    async with there, bridged(provider_of(late, "late"), provider_of(there)) as shop:
        await shop.has("files_add")
        assert "late" not in shop.tools
        async with late:
            await shop.has("late_add", provider="late")
            assert (await shop.call("late_add")).blocks[0]["text"] == "done: add"
    assert [vars(each)["provider"] for each in caplog.records if each.message == "mcp_provider_available"] == [
        "files",
        "late",
    ]


async def test_a_server_that_says_nothing_delays_no_other_and_no_end() -> None:
    async with silent_server() as url, FakeMcpServer() as server:
        server.tool("add")
        async with bridged(Provider("mute", url, timeout=30), provider_of(server)) as shop:
            await shop.has("files_add")
            assert "mute" not in shop.tools


@ERAS
async def test_a_server_that_dies_hides_its_own_tools_until_it_is_back(era: str, as_json: bool) -> None:
    async with FakeMcpServer() as other, FakeMcpServer(era=era, json_response=as_json) as server:
        server.tool("add")
        other.tool("add")
        async with bridged(provider_of(server), provider_of(other, "other")) as shop:
            await shop.has("files_add")
            await shop.has("other_add", provider="other")
            left = shop.tools["files"]["files_add"]
            await server.stop()
            assert (await refusal(shop))[0] == "provider_unavailable"
            await shop.has()
            assert (await shop.call("other_add")).blocks[0]["text"] == "done: add"
            with pytest.raises(ToolFailed, match="cannot be reached"):  # somebody who still has the tool in hand
                await left.run({}, calling())
            await server.start()
            await shop.has("files_add")
            assert (await shop.call("files_add")).blocks[0]["text"] == "done: add"
            assert len(server.calls) == 1


@ERAS
async def test_a_call_to_a_server_that_was_started_again_runs_once(era: str, as_json: bool) -> None:
    async with FakeMcpServer(era=era, json_response=as_json) as server:
        server.tool("add")
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_add")
            await server.stop()
            await server.start()
            assert (await shop.call("files_add")).blocks[0]["text"] == "done: add"
        assert len(server.calls) == 1


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_session_that_the_server_has_forgotten_is_made_again(as_json: bool) -> None:
    async with FakeMcpServer(era="2025", json_response=as_json) as server:
        server.tool("add")
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_add")
            for _ in range(2):
                server.forget_sessions()
                assert (await shop.call("files_add")).blocks[0]["text"] == "done: add"
        assert len(server.calls) == 2
        assert server.methods.count("initialize") == 3


@ERAS
async def test_a_call_that_may_have_arrived_is_not_repeated(era: str, as_json: bool) -> None:
    async with FakeMcpServer(era=era, json_response=as_json) as server:

        async def break_off(_arguments: Any, _context: Any) -> types.CallToolResult:
            server.cut()
            return text("nobody hears it")

        server.tool("add", break_off)
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_add")
            assert (await refusal(shop))[0] == "provider_failed"
            server.answers["add"] = text("better now")
            assert (await shop.call("files_add")).blocks[0]["text"] == "better now"
        assert len(server.calls) == 2


async def test_a_call_that_was_refused_because_the_schema_changed_is_sent_again_with_the_new_one() -> None:
    mismatch = b'{"jsonrpc":"2.0","id":ID,"error":{"code":-32020,"message":"Mcp-Param-Region is missing"}}'
    async with FakeMcpServer() as server:
        server.tool("add")
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_add")
            region = {"type": "string", "x-mcp-header": "Region"}
            server.tool("add", input_schema={"type": "object", "properties": {"region": region}})
            server.raw_once["tools/call"] = (400, mismatch)
            assert (await shop.call("files_add", region="north")).blocks[0]["text"] == "done: add"
        assert [each["mcp-param-region"] for each in server.headers if "mcp-param-region" in each] == ["north"]
        assert server.calls == [("add", {"region": "north"})]


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[]", b'{"jsonrpc":"2.0","id":ID,"result":{"tools":[{"name":7}]}}', b"x" * (MOST + 1)],
    ids=["no JSON", "no message", "no tool", "huge"],
)
async def test_a_server_whose_list_is_none_hides_its_tools_until_it_is_one(body: bytes) -> None:
    async with FakeMcpServer() as server:
        server.tool("add")
        async with bridged(provider_of(server)) as shop:
            await shop.has("files_add")
            await asyncio.wait_for(server.listening.wait(), PATIENCE)
            server.raw["tools/list"] = body
            await server.change()
            await shop.has()
            server.raw.clear()
            await shop.has("files_add")


async def test_a_look_that_fails_ends_no_call_that_runs() -> None:
    async with FakeMcpServer() as server:
        server.slow_tool("slow")
        async with bridged(provider_of(server, retries=0)) as shop:
            await shop.has("files_slow")
            call = asyncio.create_task(shop.call("files_slow"))
            await asyncio.wait_for(server.called.wait(), PATIENCE)
            await asyncio.wait_for(server.listening.wait(), PATIENCE)
            server.raw["tools/list"] = b"<html>"
            await server.change()
            await asyncio.wait_for(_count(server, "tools/list", 2), PATIENCE)
            server.gate.set()
            assert (await call).blocks[0]["text"] == "at last"
            await shop.has()


async def test_a_server_that_is_busy_is_still_looked_at() -> None:
    async with FakeMcpServer() as server:
        server.slow_tool("slow")
        async with bridged(provider_of(server, timeout=30)) as shop:
            await shop.has("files_slow")
            calls = [asyncio.create_task(shop.call("files_slow")) for _ in range(CALLS + 20)]
            while len(server.calls) < CALLS:
                server.called.clear()
                await asyncio.wait_for(server.called.wait(), PATIENCE)
            server.tool("new")
            await server.change()
            await shop.has("files_slow", "files_new")
            assert len(server.calls) == CALLS
            server.gate.set()
            assert all(result.blocks[0]["text"] == "at last" for result in await asyncio.gather(*calls))


# Secrets


async def test_the_headers_of_the_file_go_with_every_request_and_into_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with FakeMcpServer(era="2025") as server:
        server.tool("add")
        secret = replace(
            provider_of(server, headers={"Authorization": "Bearer s3cret"}), endpoint=f"{server.url}?key=s3cret"
        )
        async with bridged(secret) as shop:
            await shop.has("files_add")
            await shop.call("files_add")
            await asyncio.wait_for(server.listening.wait(), PATIENCE)
            server.status = 401
            code, message = await refusal(shop)
            assert (code, "HTTP status 401" in message) == ("provider_failed", True)
            await shop.has()
    assert {each.get("authorization") for each in server.headers} == {"Bearer s3cret"}
    assert {each["user-agent"].split("/")[0] for each in server.headers} == {"jan-server"}
    assert "a token" not in json.dumps(server.headers)  # that of the caller
    assert "s3cret" not in message
    theirs = ("asyncio", "mcp.server", "sse_starlette", "uvicorn")  # what the fake says of itself
    assert "s3cret" not in "".join(f"{vars(each)}" for each in caplog.records if not each.name.startswith(theirs))
    reasons = [vars(each)["reason"] for each in caplog.records if each.message == "mcp_provider_unavailable"]
    assert reasons == ["It answered with HTTP status 401"]


async def test_the_headers_do_not_go_where_the_server_redirects_to() -> None:
    async with FakeMcpServer() as server, FakeMcpServer() as elsewhere:
        server.tool("add")
        async with bridged(provider_of(server, headers={"X-Key": "s3cret"})) as shop:
            await shop.has("files_add")
            server.raw_headers = {"location": elsewhere.url}
            server.raw_once["tools/call"] = (307, b"")
            await refusal(shop)
    assert elsewhere.methods == []


# Among the others


async def test_a_registry_calls_what_is_offered_and_forgets_what_is_not() -> None:
    ledger = Ledger()
    tools = registry(Echo("files_echo"), ledger=ledger)
    async with FakeMcpServer() as server:
        server.tool("add", text("3"), input_schema={"type": "object", "required": ["a"]})
        server.tool("echo", text("not this one"))
        server.tool("fail", text("no", is_error=True, structured_content={"error": {"code": "a\0b" * 99}}))
        shop = Shop()

        async def offer(provider: str, offered: Sequence[Tool]) -> None:
            await tools.offer(provider, offered)
            await shop.offer(provider, offered)

        bridge = Bridge([provider_of(server)], offer, PACE)
        bridge.start()
        await shop.until(lambda: shop.tools)
        assert [each.name for each in tools.offered()] == ["files_add", "files_echo", "files_fail"]
        assert (await tools.call("files_add", {}, calling())).blocks[0]["text"] == "3"  # it judges its arguments itself
        assert (await tools.call("files_echo", {"words": "a"}, calling())).structured == {"said": "a", "nothing": None}
        assert (await tools.call("files_fail", {}, calling())).is_error
        await server.stop()
        assert (await tools.call("files_add", {}, calling())).is_error
        await shop.has()
        assert [each.name for each in tools.offered()] == ["files_echo"]
        await server.start()
        await bridge.close()
    assert [outcome for _, _, outcome in ledger.calls] == ["completed", "completed", "failed", "provider_unavailable"]


async def _count(server: FakeMcpServer, method: str, times: int) -> None:
    """Wait until the server was asked so often."""
    while server.methods.count(method) < times:
        server.asked.clear()
        await server.asked.wait()


def _result(result: dict[str, Any]) -> bytes:
    return b'{"jsonrpc":"2.0","id":ID,"result":' + json.dumps(result).encode() + b"}"
