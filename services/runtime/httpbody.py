"""The REST faces: raw bodies in, whole or in pieces; JSON, server-sent events or bytes out. The only place that knows
`[DONE]`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Any

import grpc
import orjson
from google.api.httpbody_pb2 import HttpBody

from services.runtime import call
from services.runtime.errors import ApiError, Internal, InvalidRequest

JSON, SSE = "application/json", "text/event-stream"
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
DEEPEST = 254
STATUS = "x-http-status"
# The name under which the gateway is told a length: one of its own belongs to what it gets, not to what it sends.
LENGTH = "x-content-length"
_TYPE = {"content-type"}  # is a field of the message
_CUT = b"\xff"  # is no message, so the gateway, which can say nothing any more, cuts the client off


def parse_object(body: HttpBody) -> dict[str, Any]:
    """The JSON object in a body, whatever its content type says; an empty body is `{}` (CONTRACT 0.1)."""
    if not body.data:
        return {}
    try:
        value = orjson.loads(body.data)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object")
    if body.data.count(b"[") + body.data.count(b"{") > DEEPEST:
        _refuse_depth(value)
    return value


def _refuse_depth(value: dict[str, Any]) -> None:
    """orjson reads deeper nesting than it writes, and what comes in goes on to a provider."""
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise InvalidRequest(f"The body is nested more than {DEEPEST} levels deep", code="invalid_json") from error


def json_body(value: Any) -> HttpBody:
    """A JSON answer."""
    return HttpBody(content_type=JSON, data=orjson.dumps(value))


class Broken(Exception):
    """A stream that failed after it had begun: its status is said already, so `last`, its last message, says why, or is
    none at all, which breaks it off."""

    def __init__(self, error: ApiError, last: HttpBody | bytes) -> None:
        super().__init__(error.message)
        self.error = error
        self.last = last


async def write_events(
    context: grpc.aio.ServicerContext[Any, HttpBody], batches: AsyncGenerator[list[bytes], None]
) -> HttpBody:
    """Write batches of JSON payloads as server-sent events, each batch as one message; return the last, `[DONE]`.

    An empty batch marks silence and becomes a comment. A failure before the first event is raised, as for any call;
    after it the error is the last event, which is raised as `Broken`, and there is no `[DONE]` (CONTRACT 2.3).
    """
    begun = False
    async with aclosing(batches):
        try:
            async for batch in batches:
                if batch:
                    await context.write(_event_bytes(frame(batch)))
                    begun = True
                elif begun:
                    await context.write(_event_bytes(PING))
        except Exception as error:
            if not begun:
                raise
            said = error if isinstance(error, ApiError) else Internal("The server failed")
            raise Broken(said, HttpBody(content_type=SSE, data=_error_event(said))) from error
    return HttpBody(content_type=SSE, data=DONE)


async def write_bytes(
    context: grpc.aio.ServicerContext[Any, HttpBody],
    status: int,
    headers: Mapping[str, str],
    pieces: AsyncGenerator[bytes, None] | None,
) -> HttpBody:
    """Write a file piece by piece, with these headers (names in lower case), or the headers alone; return the last
    message, which is empty. A failure before the first piece is raised, as for any call; after it the client is cut
    off, so that what it has does not look whole."""
    kind = headers.get("content-type", "")
    named = {LENGTH if name == "content-length" else name: each for name, each in headers.items() if name not in _TYPE}
    initial = ((STATUS, str(status)), *named.items())
    begun = False
    async with aclosing(pieces or _nothing()) as found:
        try:
            async for piece in found:
                if not begun:
                    await context.send_initial_metadata(initial)
                    begun = True
                await write_message(context, HttpBody(content_type=kind, data=piece))
        except Exception as error:
            if not begun:
                raise
            failed = error if isinstance(error, ApiError) else Internal("The server failed")
            raise Broken(failed, _CUT) from error
    if not begun:
        await context.send_initial_metadata(initial)
    return HttpBody(content_type=kind)


async def _nothing() -> AsyncGenerator[bytes, None]:
    for each in tuple[bytes]():
        yield each


async def write_message(context: grpc.aio.ServicerContext[Any, HttpBody], message: HttpBody) -> None:
    """Write a message as `door.py` wants it from a REST face: already serialized. That the client has left can be heard
    here before the call is cancelled for it."""
    data: Any = message.SerializeToString()
    try:
        await context.write(data)
    except grpc.aio.InternalError as error:
        raise asyncio.CancelledError("the client has left") from error


def _event_bytes(data: bytes) -> Any:
    """A message as `door.py` wants it from a REST face: already serialized."""
    return HttpBody(content_type=SSE, data=data).SerializeToString()


def frame(payloads: Iterable[bytes]) -> bytes:
    """Whole events, so that none is ever split over two writes."""
    return b"data: " + b"\n\ndata: ".join(payloads) + b"\n\n"


def _error_event(error: ApiError) -> bytes:
    return frame([orjson.dumps(error.envelope(call.current().request_id))])
