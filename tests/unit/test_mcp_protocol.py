"""The methods of MCP in both eras, answered by the SDK's server with tools of ours."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from services import __version__
from services.mcp.json_rpc import Reply, Request
from services.mcp.protocol import FAILURE, Protocol
from tests.toolbox import Echo, Patient, Shelf, calling, registry

NEW, OLD = "2026-07-28", "2025-11-25"
META = {"io.modelcontextprotocol/protocolVersion": NEW, "io.modelcontextprotocol/clientCapabilities": {}}
SERVER = {"name": "jan-server", "version": __version__}
STAMP = {"io.modelcontextprotocol/serverInfo": SERVER}


@pytest.fixture
def echo() -> Echo:
    return Echo(output_schema={"type": "object"})


@pytest.fixture
def protocol(echo: Echo) -> Protocol:
    return Protocol(registry(echo, Echo("a.second")), calling)


async def answer(protocol: Protocol, method: str, version: str = OLD, **params: Any) -> tuple[int, dict[str, Any]]:
    meta = {"_meta": {**META, **params.pop("_meta", {})}} if version == NEW else {}
    reply = await protocol.answer(Request(method, {**params, **meta}, 7, version), lambda _said: None)
    said = json.loads(reply.body)
    assert (said.pop("jsonrpc"), said.pop("id")) == ("2.0", 7)
    return reply.status, said


async def result(protocol: Protocol, method: str, version: str = OLD, **params: Any) -> dict[str, Any]:
    status, said = await answer(protocol, method, version, **params)
    assert (status, list(said)) == (200, ["result"]), said
    return dict(said["result"])


async def error(protocol: Protocol, method: str, version: str = OLD, **params: Any) -> tuple[int, int, Any]:
    status, said = await answer(protocol, method, version, **params)
    assert "result" not in said
    return status, said["error"]["code"], said["error"].get("data")


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        (OLD, OLD),
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
        ("2024-11-05", OLD),
        (NEW, OLD),
        ("?", OLD),
    ],
)
async def test_a_handshake_agrees_on_a_revision_that_both_know(protocol: Protocol, wanted: str, given: str) -> None:
    hello = {"protocolVersion": wanted, "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
    assert await result(protocol, "initialize", **hello) == {
        "protocolVersion": given,
        "capabilities": {"tools": {"listChanged": False}},
        "serverInfo": SERVER,
    }


async def test_there_is_no_handshake_any_more_and_there_was_no_discovery(protocol: Protocol) -> None:
    assert (await error(protocol, "initialize", NEW))[:2] == (404, -32601)
    assert (await error(protocol, "server/discover", OLD))[:2] == (200, -32601)


async def test_a_server_is_discovered(protocol: Protocol) -> None:
    assert await result(protocol, "server/discover", NEW) == {
        "resultType": "complete",
        "supportedVersions": [NEW, "2025-11-25", "2025-06-18", "2025-03-26"],
        "capabilities": {"tools": {"listChanged": False}},
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": STAMP,
    }


async def test_tools_are_listed_by_name_with_all_that_is_known_of_them(protocol: Protocol, echo: Echo) -> None:
    listed = (await result(protocol, "tools/list"))["tools"]
    assert [tool["name"] for tool in listed] == ["a.second", "echo"]
    assert listed[1] == {
        "name": "echo",
        "title": "Echo",
        "description": "Says it again.",
        "inputSchema": echo.description.input_schema,
        "outputSchema": {"type": "object", "anyOf": [{"type": "object"}, FAILURE]},
        "annotations": {"readOnlyHint": True},
    }
    assert "outputSchema" not in listed[0]


async def test_schemas_of_other_servers_stay_as_they_are() -> None:
    theirs = Protocol(registry(Echo(provider="other", output_schema={"type": "object"})), calling)
    assert (await result(theirs, "tools/list"))["tools"][0]["outputSchema"] == {"type": "object"}


async def test_modern_lists_say_how_long_they_may_be_kept(protocol: Protocol) -> None:
    listed = await result(protocol, "tools/list", NEW)
    assert listed.pop("tools")
    assert listed == {"resultType": "complete", "ttlMs": 1000, "cacheScope": "private", "_meta": STAMP}
    assert list(await result(protocol, "tools/list")) == ["tools"]


async def test_a_page_that_nobody_was_sent_to_does_not_exist(protocol: Protocol) -> None:
    assert await error(protocol, "tools/list", cursor="a") == (200, -32602, {"field": "cursor"})


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("prompts/list", "prompts"),
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
    ],
)
async def test_other_lists_are_empty(protocol: Protocol, method: str, kind: str) -> None:
    assert await result(protocol, method) == {kind: []}
    found = await result(protocol, method, NEW)
    assert (found[kind], found["resultType"], found["cacheScope"]) == ([], "complete", "private")


async def test_a_ping_is_answered_in_both_eras(protocol: Protocol) -> None:
    assert await result(protocol, "ping") == {}
    assert await result(protocol, "ping", NEW) == {"resultType": "complete"}


@pytest.mark.parametrize(
    "method", ["nothing", "resources/read", "prompts/get", "completion/complete", "tasks/list", ""]
)
async def test_a_method_that_we_do_not_have_is_unknown_whatever_its_params(protocol: Protocol, method: str) -> None:
    assert (await error(protocol, method))[:2] == (200, -32601)
    assert (await error(protocol, method, NEW))[:2] == (404, -32601)


async def test_a_tool_says_its_answer_as_data_and_as_text(protocol: Protocol, echo: Echo) -> None:
    said = await result(protocol, "tools/call", name="echo", arguments={"words": "ab", "times": 2})
    data = {"said": "abab", "nothing": None}
    assert said == {
        "content": [{"type": "text", "text": json.dumps(data, separators=(",", ":"))}],
        "structuredContent": data,
        "isError": False,
    }
    assert echo.asked[0][1].user_id == "usr_1"
    modern = await result(protocol, "tools/call", NEW, name="echo", arguments={"words": "ab", "times": 2})
    assert modern == {**said, "resultType": "complete", "_meta": STAMP}


async def test_a_tool_may_answer_with_content_alone(protocol: Protocol) -> None:
    assert await result(protocol, "tools/call", name="echo", arguments={"words": "image"}) == {
        "content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}],
        "isError": False,
    }


async def test_a_tool_that_fails_is_a_result(protocol: Protocol) -> None:
    assert await result(protocol, "tools/call", name="echo", arguments={"words": "fail"}) == {
        "content": [{"type": "text", "text": "It did not hear that"}],
        "structuredContent": {"error": {"code": "too_quiet", "message": "It did not hear that"}},
        "isError": True,
    }


@pytest.mark.parametrize(
    ("params", "data"),
    [
        ({"name": "nothing"}, {"tool": "nothing"}),
        ({}, {"field": "name"}),
        ({"name": 5}, {"field": "name"}),
        ({"name": "echo", "arguments": []}, {"field": "arguments"}),
        ({"name": "echo", "arguments": "words"}, {"field": "arguments"}),
        ({"name": "echo"}, {"field": "words"}),
        ({"name": "echo", "arguments": None}, {"field": "words"}),
        ({"name": "echo", "arguments": {"words": 5}}, {"field": "words"}),
        ({"name": "echo", "arguments": {"words": "a", "times": 0}}, {"field": "times"}),
        ({"name": "echo", "_meta": 5, "arguments": {"words": "a"}}, {"field": "_meta"}),
    ],
)
async def test_wrong_params_are_named(protocol: Protocol, params: dict[str, Any], data: dict[str, Any]) -> None:
    assert await error(protocol, "tools/call", **params) == (200, -32602, data)


async def test_a_fault_of_ours_tells_nothing_of_its_cause(protocol: Protocol, caplog: pytest.LogCaptureFixture) -> None:
    status, said = await answer(protocol, "tools/call", name="echo", arguments={"words": "surrogate"})
    assert (status, said["error"]["code"]) == (200, -32603)
    assert "surrogate" not in json.dumps(said)
    assert "unexpected error" in caplog.text


REPEATED = {"type": "object", "properties": {"words": {"type": "string", "x-mcp-header": "Words"}}}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"mcp-param-words": "ab"}, 200),
        ({"mcp-param-words": "=?base64?YWI=?="}, 200),
        ({"mcp-param-words": "abc"}, 400),
        ({}, 400),
    ],
)
async def test_arguments_that_headers_repeat_are_compared(headers: dict[str, str], status: int) -> None:
    tool = Echo()
    tool.description = replace(tool.description, input_schema=REPEATED)
    params = {"name": "echo", "arguments": {"words": "ab"}, "_meta": META}
    reply = await Protocol(registry(tool), calling).answer(
        Request("tools/call", params, 1, NEW, headers), lambda _said: None
    )
    assert reply.status == status
    assert json.loads(reply.body).get("error", {}).get("code") == (-32020 if status == 400 else None)
    assert len(tool.asked) == (status == 200)


async def told(steps: list[float], **params: Any) -> tuple[list[dict[str, Any]], Reply]:
    """What is told while a tool runs, and its answer."""
    patient, heard = Patient(steps), list[bytes]()
    patient.enough.set()
    request = Request("tools/call", {"name": "wait", **params}, 1, OLD)
    reply = await Protocol(registry(patient), calling).answer(request, heard.append)
    return [json.loads(each) for each in heard], reply


async def test_progress_is_told_to_those_who_ask_and_only_grows() -> None:
    heard, reply = await told([1, 2, 2, 1, 3.5], _meta={"progressToken": "t"})
    assert [each["params"]["progress"] for each in heard] == [1, 2, 3.5]
    first = {"progressToken": "t", "progress": 1, "total": 4, "message": "step 1"}
    assert heard[0] == {"jsonrpc": "2.0", "method": "notifications/progress", "params": first}
    assert json.loads(reply.body)["result"]["structuredContent"] == {"waited": True}
    assert (await told([1, 2]))[0] == []


async def test_a_request_that_is_cancelled_cancels_its_tool() -> None:
    patient = Patient()
    protocol = Protocol(registry(patient), calling)
    request = Request("tools/call", {"name": "wait"}, 1, OLD)
    running = asyncio.create_task(protocol.answer(request, lambda _said: None))
    await asyncio.wait_for(patient.running.wait(), 5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert patient.cancelled.is_set()


async def test_a_tool_that_is_switched_off_is_not_listed_and_says_so_when_called(echo: Echo) -> None:
    tools = registry(echo, shelf=Shelf(echo={"enabled": False}))
    await tools.start()
    protocol = Protocol(tools, calling)
    assert (await result(protocol, "tools/list"))["tools"] == []
    said = await result(protocol, "tools/call", name="echo", arguments={"words": "a"})
    assert (said["isError"], said["structuredContent"]["error"]["code"]) == (True, "tool_disabled")
    assert echo.asked == []
