"""One error, two faces: a gRPC status with `google.rpc` details, and the finished REST answer in trailing metadata."""

from __future__ import annotations

import json
import math

from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from services.runtime.errors import ApiError

DOMAIN = "jan.server"
# gRPC refuses metadata above 8 KiB in all, and a long message says no more than its beginning.
LONGEST_MESSAGE = 1500

Metadata = tuple[tuple[str, str | bytes], ...]


def trailers(error: ApiError, request_id: str) -> Metadata:
    """Trailing metadata for `error`: `grpc-status-details-bin` for gRPC clients, the rest for the gateway."""
    body = error.envelope(request_id)
    body["error"]["message"] = error.message[:LONGEST_MESSAGE]
    metadata: list[tuple[str, str | bytes]] = [
        ("grpc-status-details-bin", _status(error, request_id).SerializeToString()),
        ("x-http-status", str(error.kind.http)),
        ("x-error-json", json.dumps(body, separators=(",", ":"))),
    ]
    if error.retry_after is not None:
        metadata.append(("retry-after", str(max(1, math.ceil(error.retry_after)))))
    return tuple(metadata)


def _status(error: ApiError, request_id: str) -> status_pb2.Status:
    metadata = {"type": error.kind.type, "request_id": request_id}
    if error.param:
        metadata["param"] = error.param
    info = error_details_pb2.ErrorInfo(reason=error.code.upper(), domain=DOMAIN, metadata=metadata)
    status = status_pb2.Status(code=error.kind.grpc.value[0], message=error.message[:LONGEST_MESSAGE])
    _pack(status, info)
    if error.kind.http == 400 and error.param:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.param, description=error.message)
        _pack(status, error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(error.retry_after * 1000))
        _pack(status, error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def _pack(
    status: status_pb2.Status,
    detail: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)
