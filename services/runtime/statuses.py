"""One error, two faces: a gRPC status with `google.rpc` details, and the finished REST answer in trailing metadata."""

from __future__ import annotations

import json
import math

from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from services.runtime.errors import ApiError

DOMAIN = "jan.server"
# gRPC refuses metadata above 8 KiB in all; a long message, which is in it four times, says no more than its beginning.
LONGEST_MESSAGE = 900
LONGEST_PARAM = 200

Metadata = tuple[tuple[str, str | bytes], ...]


class Refusal(Exception):
    """The finished status that a call ends with."""

    def __init__(self, code: StatusCode, message: str, trailers: Metadata) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.trailers = trailers


def refused(error: ApiError, request_id: str, *, rest: bool) -> Refusal:
    """The status that says `error`; with `rest` as the gateway wants it."""
    return Refusal(error.kind.grpc, message(error), trailers(error, request_id, rest=rest))


def trailers(error: ApiError, request_id: str, *, rest: bool) -> Metadata:
    """Trailing metadata for `error`; with `rest`, also the finished REST answer, which the gateway sends."""
    metadata: list[tuple[str, str | bytes]] = [
        ("grpc-status-details-bin", status(error, request_id).SerializeToString())
    ]
    if rest:
        body = error.envelope(request_id)
        body["error"] |= {"message": message(error), "param": _param(error)}
        metadata.append(("x-http-status", str(error.kind.http)))
        metadata.append(("x-error-json", json.dumps(body, separators=(",", ":"))))
        metadata.extend(error.headers)
    if rest and error.retry_after is not None:
        metadata.append(("retry-after", str(max(1, math.ceil(error.retry_after)))))
    return tuple(metadata)


def message(error: ApiError) -> str:
    """The message of `error`, cut to what fits into metadata."""
    return _cut(error.message, LONGEST_MESSAGE)


def _param(error: ApiError) -> str | None:
    return error.param and _cut(error.param, LONGEST_PARAM)


def _cut(text: str, longest: int) -> str:
    """The beginning of `text`, at most `longest` bytes in the JSON of a header."""
    while (size := len(json.dumps(text)) - 2) > longest:
        text = text[: min(len(text) - 1, len(text) * longest // size)]
    return text


def status(error: ApiError, request_id: str) -> status_pb2.Status:
    """What gRPC clients are told about `error`, with details."""
    metadata = {"type": error.kind.type, "request_id": request_id}
    param = _param(error)
    if param:
        metadata["param"] = param
    info = error_details_pb2.ErrorInfo(reason=error.code.upper(), domain=DOMAIN, metadata=metadata)
    found = status_pb2.Status(code=error.kind.grpc.value[0], message=message(error))
    _pack(found, info)
    if error.kind.http == 400 and param:
        violation = error_details_pb2.BadRequest.FieldViolation(field=param, description=message(error))
        _pack(found, error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(error.retry_after * 1000))
        _pack(found, error_details_pb2.RetryInfo(retry_delay=delay))
    return found


def _pack(
    status: status_pb2.Status,
    detail: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)
