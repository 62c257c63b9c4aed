"""McpService: the Model Context Protocol over streamable HTTP, for MCP clients."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody
from jan.mcp.v1 import mcp_pb2, mcp_pb2_grpc

from services.mcp.json_rpc import Headers, Reply, Request, read
from services.mcp.protocol import Protocol
from services.runtime import call
from services.runtime.errors import MethodNotAllowed, PermissionDenied
from services.runtime.httpbody import JSON, PING, SSE, STATUS, frame, write_message
from services.runtime.policy import check_scope

SESSION = "mcp-session-id"
_SESSION_ID = re.compile(r"[!-~]{1,1024}")
SILENCE = 15.0
"""Seconds after which a stream that says nothing says that it lives."""

Context = grpc.aio.ServicerContext[Any, Any]


class McpServicer(mcp_pb2_grpc.McpServiceServicer):
    """One request, one answer; nothing is remembered between two of them. Pages of other `origins` are refused."""

    def __init__(self, protocol: Protocol, *, origins: Sequence[str], silence: float = SILENCE) -> None:
        self._protocol = protocol
        self._origins = origins
        self._silence = silence

    async def PostHttp(self, request: HttpBody, context: Context) -> HttpBody:
        headers = Headers.of(context.invocation_metadata() or ())
        self._check_origin(headers.first.get("origin"))
        asked = read(request.data, headers)
        if isinstance(asked, Reply):
            return await _send(context, asked)
        if asked.is_notification:
            return await _send(context, Reply(b"", 202), session=_session(asked, headers))
        check_scope(call.caller(), "write" if asked.method == "tools/call" else "read")
        session, accepted = _session(asked, headers), headers.first.get("accept", "")
        if SSE in accepted and (JSON not in accepted or asked.progress_token is not None):
            return await self._answer_with_events(context, asked, session=session, plain=JSON in accepted)
        return await _send(context, await self._protocol.answer(asked, _untold), session=session)

    async def RefuseHttp(self, request: mcp_pb2.RefuseHttpRequest, context: Context) -> mcp_pb2.RefuseHttpResponse:
        error = MethodNotAllowed("Send a POST: this server begins no stream, and it has no session to end")
        error.headers = (("allow", "POST"),)
        raise error

    async def _answer_with_events(self, context: Context, asked: Request, *, session: str, plain: bool) -> HttpBody:
        """The answer as an event, after others that say how far it is. Where a `plain` answer will do, too, it is one
        unless there was something to say before."""
        events: asyncio.Queue[bytes | None] = asyncio.Queue()
        begun = False
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(self._protocol.answer(asked, events.put_nowait))
            answering.add_done_callback(lambda _task: events.put_nowait(None))
            while (event := await self._next(events)) is not None:
                if not begun:
                    await _begin(context, 200, session)
                    begun = True
                await write_message(context, HttpBody(content_type=SSE, data=event))
        reply = answering.result()
        if plain and not begun:
            return await _send(context, reply, session=session)
        if not begun:
            await _begin(context, reply.status, session)
        return HttpBody(content_type=SSE, data=frame([reply.body]))

    async def _next(self, events: asyncio.Queue[bytes | None]) -> bytes | None:
        """The next event, or a comment when there was none for a while; None at the end."""
        try:
            said = await asyncio.wait_for(events.get(), self._silence)
        except TimeoutError:
            return PING
        return None if said is None else frame([said])

    def _check_origin(self, origin: str | None) -> None:
        """A page on the web could otherwise make the browser of somebody in this network call us (MCP, "Security")."""
        if origin is not None and origin not in self._origins and "*" not in self._origins:
            raise PermissionDenied("Pages of this origin may not call this server", code="origin_not_allowed")


def _untold(_said: bytes) -> None:
    """For clients who take one answer and nothing besides."""


def _session(asked: Request, headers: Headers) -> str:
    """The session that the client believes to be in. We have none, so it is always right."""
    named = headers.first.get(SESSION, "")
    return named if not asked.modern and _SESSION_ID.fullmatch(named) else ""


async def _send(context: Context, reply: Reply, *, session: str = "") -> HttpBody:
    await _begin(context, reply.status, session)
    return HttpBody(content_type=JSON if reply.body else "", data=reply.body)


async def _begin(context: Context, status: int, session: str) -> None:
    said = [(STATUS, str(status))] if status != 200 else []
    said += [(SESSION, session)] if session else []
    if said:
        await context.send_initial_metadata(said)
