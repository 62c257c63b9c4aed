"""The HTTP side of MCP: statuses, sessions, JSON or events, origins, scopes, and what ends with the request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from jan.mcp.v1 import mcp_pb2

from services.mcp.mcp import McpServicer
from services.mcp.protocol import Protocol
from services.mcp.tools import calling
from services.runtime import call
from services.runtime.call import Call
from services.runtime.errors import ApiError, MethodNotAllowed, PermissionDenied
from services.runtime.identity import Identity
from tests.toolbox import Echo, Patient, registry

ORIGINS = ("http://localhost:3000",)
BOTH, EVENTS = "application/json, text/event-stream", "text/event-stream"
CALL = {"method": "tools/call", "params": {"name": "wait"}}
ASKING = {"method": "tools/call", "params": {"name": "wait", "_meta": {"progressToken": 5}}}


class Conversation:
    """The context of a call that says what was written to it."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers
        self.initial: dict[str, str] = {}
        self.messages: list[HttpBody] = []
        self.written = asyncio.Event()

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return tuple(self._headers.items())

    async def send_initial_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        assert not self.messages
        self.initial = dict(metadata)

    async def write(self, message: bytes) -> None:
        self.messages.append(HttpBody.FromString(message))
        self.written.set()


class Client:
    """Somebody whose credential has these scopes, and who takes these answers."""

    def __init__(self, *tools: Any, scopes: Sequence[str] = ("read", "write"), **settings: Any) -> None:
        self._servicer = McpServicer(Protocol(registry(*tools), calling), **{"origins": ORIGINS, **settings})
        self._scopes = tuple(scopes)

    async def post(self, members: Any, **headers: str) -> Conversation:
        """All that is answered, the last message included."""
        conversation = Conversation({name.replace("_", "-"): each for name, each in headers.items()})
        return await self.talk(conversation, members)

    async def talk(self, conversation: Conversation, members: Any) -> Conversation:
        until = asyncio.get_running_loop().time() + 20
        call.enter(Call("req_1", until, Identity("usr_1", "", (), True, "api_key", self._scopes, 0.0, "a token")))
        data = json.dumps({"jsonrpc": "2.0", "id": 1, **members}).encode()
        context: Any = conversation
        conversation.messages.append(await self._servicer.PostHttp(HttpBody(data=data), context))
        return conversation

    async def refuse(self) -> Any:
        context: Any = Conversation({})
        return await self._servicer.RefuseHttp(mcp_pb2.RefuseHttpRequest(), context)


def the_answer(conversation: Conversation) -> Any:
    """The only message, which must be JSON."""
    (message,) = conversation.messages
    assert message.content_type == "application/json"
    return json.loads(message.data)


def events(conversation: Conversation) -> list[Any]:
    """The messages in the events; comments are text."""
    assert {message.content_type for message in conversation.messages} == {EVENTS}
    stream = b"".join(message.data for message in conversation.messages).decode()
    assert stream.endswith("\n\n")
    parts = stream.removesuffix("\n\n").split("\n\n")
    return [part if part.startswith(":") else json.loads(part.removeprefix("data: ")) for part in parts]


def done(*steps: float) -> Patient:
    patient = Patient(steps)
    patient.enough.set()
    return patient


# Statuses and sessions


async def test_a_plain_answer_is_one_message_without_ceremony() -> None:
    said = await Client(Echo()).post({"method": "ping"})
    assert (the_answer(said), said.initial) == ({"jsonrpc": "2.0", "id": 1, "result": {}}, {})


async def test_errors_have_the_status_of_their_kind() -> None:
    said = await Client().post({"method": "ping"}, mcp_protocol_version="1999-01-01")
    assert (the_answer(said)["error"]["code"], said.initial) == (-32022, {"x-http-status": "400"})


async def test_a_notification_is_accepted_without_a_word() -> None:
    said = await Client().post({"id": None, "method": "notifications/initialized"})
    assert (said.messages, said.initial) == ([HttpBody()], {"x-http-status": "202"})


async def test_a_session_that_a_client_believes_in_is_confirmed() -> None:
    client = Client(done())
    for members in ({"method": "ping"}, {"id": None, "method": "notifications/initialized"}, ASKING):
        for accept in ("", BOTH, EVENTS):
            said = await client.post(members, mcp_session_id="abc", accept=accept)
            assert said.initial["mcp-session-id"] == "abc"


@pytest.mark.parametrize("named", ["", "a b", "süß", "a" * 1025])
async def test_what_cannot_be_a_session_is_not_confirmed(named: str) -> None:
    said = await Client().post({"method": "ping"}, mcp_session_id=named)
    assert (the_answer(said)["result"], said.initial) == ({}, {})


async def test_in_the_modern_era_there_are_no_sessions() -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    headers = {"mcp_protocol_version": "2026-07-28", "mcp_method": "ping", "mcp_session_id": "abc"}
    said = await Client().post({"method": "ping", "params": {"_meta": meta}}, **headers)
    assert (the_answer(said)["result"], said.initial) == ({"resultType": "complete"}, {})


async def test_there_is_nothing_to_get_or_delete() -> None:
    with pytest.raises(MethodNotAllowed) as error:
        await Client().refuse()
    assert error.value.headers == (("allow", "POST"),)


# JSON or events


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", BOTH, f"{EVENTS};q=0.5, application/json"])
async def test_the_answer_is_json_for_all_who_take_it(accept: str) -> None:
    assert the_answer(await Client(Echo()).post({"method": "tools/list"}, accept=accept))["result"]


async def test_it_is_an_event_for_those_who_take_nothing_else() -> None:
    said = await Client(Echo()).post({"method": "ping"}, accept=EVENTS)
    assert events(said) == [{"jsonrpc": "2.0", "id": 1, "result": {}}]


async def test_progress_comes_as_events_before_the_answer() -> None:
    for accept in (BOTH, EVENTS):
        said = events(await Client(done(1, 2)).post(ASKING, accept=accept))
        assert [each.get("method") for each in said] == ["notifications/progress", "notifications/progress", None]
        assert said[-1]["result"]["structuredContent"] == {"waited": True}


async def test_who_takes_no_events_is_told_no_progress() -> None:
    assert the_answer(await Client(done(1)).post(ASKING))["result"]


async def test_without_progress_who_takes_both_gets_json() -> None:
    assert the_answer(await Client(done()).post(ASKING, accept=BOTH))["result"]
    assert the_answer(await Client(done(1)).post(CALL, accept=BOTH))["result"]


async def test_progress_is_told_while_the_tool_runs() -> None:
    patient = Patient([1])
    conversation = Conversation({"accept": BOTH})
    running = asyncio.create_task(Client(patient).talk(conversation, ASKING))
    await asyncio.wait_for(conversation.written.wait(), 5)
    assert len(conversation.messages) == 1
    patient.enough.set()
    assert len(events(await running)) == 2


async def test_a_quiet_stream_shows_that_it_lives() -> None:
    patient = Patient()
    conversation = Conversation({"accept": EVENTS})
    running = asyncio.create_task(Client(patient, silence=0.01).talk(conversation, CALL))
    await asyncio.wait_for(conversation.written.wait(), 5)
    patient.enough.set()
    said = events(await running)
    assert set(said[:-1]) == {": ping"}
    assert said[-1]["result"]["structuredContent"] == {"waited": True}


@pytest.mark.parametrize("accept", ["application/json", BOTH, EVENTS])
@pytest.mark.parametrize("asked", [CALL, ASKING])
async def test_a_client_that_leaves_ends_its_tool(accept: str, asked: Any) -> None:
    patient = Patient()
    running = asyncio.create_task(Client(patient).post(asked, accept=accept))
    await asyncio.wait_for(patient.running.wait(), 5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert patient.cancelled.is_set()


# Who may


async def refused(client: Client, members: Any, **headers: str) -> str:
    with pytest.raises(PermissionDenied) as error:
        await client.post(members, **headers)
    found: ApiError = error.value
    return found.code


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:3001", "http://localhost:3000.a"])
async def test_a_page_of_another_origin_is_refused(origin: str) -> None:
    assert await refused(Client(), {"method": "ping"}, origin=origin) == "origin_not_allowed"


async def test_a_page_of_our_own_is_let_in() -> None:
    assert the_answer(await Client().post({"method": "ping"}, origin=ORIGINS[0]))["result"] == {}


async def test_with_a_star_every_page_is_let_in() -> None:
    said = await Client(origins=["*"]).post({"method": "ping"}, origin="http://evil.example")
    assert the_answer(said)["result"] == {}


async def test_a_key_that_reads_does_not_call_and_one_that_writes_does_not_look() -> None:
    reader, writer = Client(done(), scopes=["read"]), Client(done(), scopes=["write"])
    assert await refused(reader, CALL) == "insufficient_scope"
    assert the_answer(await reader.post({"method": "tools/list"}))["result"]
    assert await refused(writer, {"method": "tools/list"}) == "insufficient_scope"
    assert the_answer(await writer.post(CALL))["result"]
