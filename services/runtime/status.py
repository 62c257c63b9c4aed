"""StatusService: whether this process can work, and which build it is."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
from jan.common.v1 import meta_pb2, status_pb2, status_pb2_grpc

from services import __version__
from services.runtime import call
from services.runtime.errors import Unavailable

Check = Callable[[], Awaitable[bool]]
PEER_DEADLINE = 1.0


class Peer:
    """Another process of this server, asked whether it is ready."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        stub: Any = status_pb2_grpc.StatusServiceStub  # the generated code is not annotated
        self._status = stub(self._channel)

    async def ready(self) -> bool:
        """Whether it says so within a second."""
        try:
            await self._status.GetReadiness(status_pb2.GetReadinessRequest(), timeout=PEER_DEADLINE)
        except grpc.aio.AioRpcError:
            return False
        return True

    async def close(self) -> None:
        await self._channel.close()


class StatusServicer(status_pb2_grpc.StatusServiceServicer):
    """Ready means that every named check passes now and that the process is not draining."""

    def __init__(self, checks: Mapping[str, Check], *, commit: str) -> None:
        self._checks = checks
        self._commit = commit
        self._started_at = int(time.time())
        self.draining = False

    async def GetReadiness(
        self, request: status_pb2.GetReadinessRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> status_pb2.GetReadinessResponse:
        if self.draining:
            raise Unavailable("The service is shutting down")
        missing = [name for name, check in self._checks.items() if not await check()]
        if missing:
            raise Unavailable(f"The service is waiting for: {', '.join(missing)}")
        return status_pb2.GetReadinessResponse(status="ready")

    async def GetVersion(
        self, request: status_pb2.GetVersionRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> status_pb2.GetVersionResponse:
        version = status_pb2.Version(version=__version__, commit=self._commit, started_at=self._started_at)
        return status_pb2.GetVersionResponse(data=version, meta=meta_pb2.Meta(request_id=call.current().request_id))
