"""A small rate limit service: the protocol that `RATE_LIMIT_SERVICE` speaks, fixed windows of a minute in memory, and
the limits of deploy/config/ratelimit.yaml.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import grpc
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory

CONFIG = Path(__file__).parents[2] / "deploy" / "config" / "ratelimit.yaml"
SERVICE = "envoy.service.ratelimit.v3.RateLimitService"
OK, OVER_LIMIT = 1, 2
MINUTE = 2
_KIND = descriptor_pb2.FieldDescriptorProto
# The messages of the protocol, the same on the wire, with the fields that matter: name, type or message, number.
_MESSAGES: dict[str, list[tuple[str, int | str, int, bool]]] = {
    "Entry": [("key", _KIND.TYPE_STRING, 1, False), ("value", _KIND.TYPE_STRING, 2, False)],
    "Limit": [("requests_per_unit", _KIND.TYPE_UINT32, 1, False), ("unit", _KIND.TYPE_INT32, 2, False)],
    "Descriptor": [("entries", ".limits_test.Entry", 1, True), ("limit", ".limits_test.Limit", 2, False)],
    "Request": [("domain", _KIND.TYPE_STRING, 1, False), ("descriptors", ".limits_test.Descriptor", 2, True)],
    "Status": [
        ("code", _KIND.TYPE_INT32, 1, False),
        ("current_limit", ".limits_test.Limit", 2, False),
        ("limit_remaining", _KIND.TYPE_UINT32, 3, False),
        ("duration_until_reset", ".google.protobuf.Duration", 4, False),
    ],
    "Response": [("overall_code", _KIND.TYPE_INT32, 1, False), ("statuses", ".limits_test.Status", 2, True)],
}


def _messages() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="limits_test.proto", package="limits_test", syntax="proto3")
    file.dependency.append(duration_pb2.DESCRIPTOR.name)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, type_, number, repeated in fields:
            label = _KIND.LABEL_REPEATED if repeated else _KIND.LABEL_OPTIONAL
            made = message.field.add(name=field, number=number, label=label)
            if isinstance(type_, str):
                made.type, made.type_name = _KIND.TYPE_MESSAGE, type_
            else:
                made.type = type_  # type: ignore[assignment]
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    return descriptor_pool.Default().FindFileByName(file.name).message_types_by_name


_TYPES = _messages()
Request, Response, Status, Limit = (
    message_factory.GetMessageClass(_TYPES[name]) for name in ("Request", "Response", "Status", "Limit")
)


class FakeLimits:
    """Serves on a port of its own; `with FakeLimits() as limits:`. `per_minute` replaces the limits of the file."""

    def __init__(self, per_minute: int) -> None:
        file = yaml.safe_load(CONFIG.read_text())
        self.known = {(each["value"], each["descriptors"][0]["key"]) for each in file["descriptors"]}
        self.domain = file["domain"]
        self.per_minute = per_minute
        self._used: Counter[tuple[Any, ...]] = Counter()

    def __enter__(self) -> Self:
        self._server = grpc.server(ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(
            self._should_limit,
            request_deserializer=Request.FromString,
            response_serializer=Response.SerializeToString,
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {"ShouldRateLimit": handler}),)
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Nobody counts any more."""
        self._server.stop(None).wait()

    def _should_limit(self, request: Any, context: grpc.ServicerContext) -> Any:
        assert request.domain == self.domain
        statuses = [self._count(each) for each in request.descriptors]
        over = any(each.code == OVER_LIMIT for each in statuses)
        return Response(overall_code=OVER_LIMIT if over else OK, statuses=statuses)

    def _count(self, descriptor: Any) -> Any:
        entries = tuple((each.key, each.value) for each in descriptor.entries)
        if (entries[0][1], entries[1][0]) not in self.known:
            return Status(code=OK)
        limit = descriptor.limit.requests_per_unit or self.per_minute
        now = int(time.time())
        self._used[*entries, now // 60] += 1
        used = self._used[*entries, now // 60]
        return Status(
            code=OVER_LIMIT if used > limit else OK,
            current_limit=Limit(requests_per_unit=limit, unit=MINUTE),
            limit_remaining=max(0, limit - used),
            duration_until_reset=duration_pb2.Duration(seconds=60 - now % 60),
        )
