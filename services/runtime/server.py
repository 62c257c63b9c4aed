"""Assembly of one gRPC server: options, the door, health, reflection, and a stop that lets running calls finish."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from services.runtime.door import Door
from services.runtime.status import Check, StatusServicer

REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mounted:
    """A servicer, how to add it to a server, and the full name of its service. An `internal` one is for the gateway
    alone and does not stand behind the door."""

    service: str
    add: Any
    servicer: object
    internal: bool = False


class Server:
    """A grpc.aio server on one address (`unix:/path` or `host:port`). `reflected` names the services that reflection
    lists: all of the API, whichever room answers for it; none switches it off. `elsewhere` tells of services of other
    processes whether they are ready."""

    def __init__(
        self,
        address: str,
        mounted: Sequence[Mounted],
        *,
        status: StatusServicer,
        door: Door,
        max_message_bytes: int,
        reflected: Sequence[str],
        elsewhere: Mapping[str, Check] | None = None,
    ) -> None:
        self._status = status
        self._door = door
        self._server = grpc.aio.server(options=_options(max_message_bytes))
        self._health = _Health(elsewhere or {})
        self._names = [each.service for each in mounted]
        for each in mounted:
            if each.internal:
                each.add(each.servicer, self._server)
            else:
                door.mount(self._server, each.add, each.servicer)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if reflected:
            _reflect(self._server, (*reflected, health.SERVICE_NAME, *REFLECTION))
        self.port = self._server.add_insecure_port(address)

    async def start(self) -> None:
        await self._server.start()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace: float) -> None:
        """Say NOT_SERVING first, refuse new calls, and give running ones `grace` seconds."""
        self._status.draining = True
        await self._health.enter_graceful_shutdown()
        until = time.monotonic() + grace
        await self._server.stop(grace)
        await self._door.drain(max(0.0, until - time.monotonic()))

    async def run(self, grace: float) -> None:
        """Serve until SIGTERM or SIGINT, then stop."""
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stopped.set)
        await self.start()
        await stopped.wait()
        await self.stop(grace)


class _Health(health.aio.HealthServicer):  # type: ignore[misc]  # the library is not annotated
    """The library's health service, which also answers for services that another process serves: the gateway sends
    every health check of a port to one of them."""

    def __init__(self, elsewhere: Mapping[str, Check]) -> None:
        super().__init__()
        self._elsewhere = elsewhere

    async def Check(self, request: Any, context: Any) -> Any:
        check = self._elsewhere.get(request.service)
        if check is None:
            return await super().Check(request, context)
        serving = await check()
        states = health_pb2.HealthCheckResponse
        return states(status=states.SERVING if serving else states.NOT_SERVING)


def _reflect(server: grpc.aio.Server, names: Sequence[str]) -> None:
    """Serve reflection under both of its names: v1 is v1alpha renamed, and the library knows only the latter."""
    servicer = reflection.aio.ReflectionServicer(names)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in REFLECTION:
        methods = {"ServerReflectionInfo": handler}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))


def _options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        # The default of 4 MiB would answer RESOURCE_EXHAUSTED, which REST shows as 429.
        ("grpc.max_receive_message_length", max_message_bytes + 64 * 1024),
        ("grpc.max_send_message_length", -1),
        # Else the window of a stream grows to several MiB: 200 uploads that wait for a disk would take 2 GB.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_metadata_size", 64 * 1024),
        ("grpc.so_reuseport", 0),
        # Envoy pings idle connections every 30 s; more than that is abuse (gRFC A8).
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
