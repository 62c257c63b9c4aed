"""The REST face of generation: raw bodies in, JSON or server-sent events out. The only place that knows `[DONE]`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
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
    """A stream that failed after it had begun: its status is said already, so `last`, its last message, says why."""

    def __init__(self, error: ApiError, last: HttpBody) -> None:
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


def _event_bytes(data: bytes) -> Any:
    """A message as `door.py` wants it from a REST face: already serialized."""
    return HttpBody(content_type=SSE, data=data).SerializeToString()


def frame(payloads: Iterable[bytes]) -> bytes:
    """Whole events, so that none is ever split over two writes."""
    return b"data: " + b"\n\ndata: ".join(payloads) + b"\n\n"


def _error_event(error: ApiError) -> bytes:
    return frame([orjson.dumps(error.envelope(call.current().request_id))])
