"""Wiring of one process: the foundation, the rooms on it, one gRPC server. `jan-server serve <room>...` runs it.

How a room is made of its parts is said in its own `room.py`.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from importlib import import_module

from jan.common.v1 import status_pb2_grpc

from services.auth.store import AccountStore
from services.runtime import api
from services.runtime.config import ConfigError, Settings
from services.runtime.door import Door
from services.runtime.foundation import Foundation, lay
from services.runtime.idempotency import Idempotency
from services.runtime.idempotency_store import AnswerStore
from services.runtime.metrics import Metrics, Published, publish
from services.runtime.newcomers import AuthRoom, Newcomers
from services.runtime.policy import Policy
from services.runtime.server import Mounted, Server
from services.runtime.status import Peer, StatusServicer

ROOMS = ("auth", "llm", "media", "mcp")


async def serve(
    settings: Settings, rooms: Sequence[str], address: str, *, auth: str | None = None, metrics: Published | None = None
) -> None:
    """Serve `rooms` on `address` until SIGTERM, then drain; `auth` is where the auth room listens, when it is another
    process. Raises `ConfigError` for settings that cannot be used."""
    if not settings.database_url:
        raise ConfigError("DATABASE_URL is not set; `jan-server up` runs an embedded database and sets it by itself")
    async with AsyncExitStack() as stack:
        if metrics is not None:
            stack.callback(publish(metrics))
        server = await assemble(settings, rooms, address, stack, Metrics(), auth=auth)
        await server.run(settings.shutdown_timeout)


async def assemble(
    settings: Settings,
    rooms: Sequence[str],
    address: str,
    stack: AsyncExitStack,
    metrics: Metrics,
    *,
    auth: str | None = None,
) -> Server:
    """A server of `rooms`, not started yet; what they opened is closed by `stack`."""
    foundation = await lay(settings, metrics, stack)
    mounted = [each for name in rooms for each in await _furnish(name, foundation)]
    if foundation.storage is not None:  # every room has said what it wants to hear
        await foundation.storage.watch.start()
        stack.push_async_callback(foundation.storage.watch.close)
    elsewhere = {}
    if auth is not None:
        peer = Peer(auth)
        stack.push_async_callback(peer.close)
        foundation.checks["auth"] = elsewhere["jan.auth.v1.AuthService"] = peer.ready
    status = StatusServicer(foundation.checks, commit=os.environ.get("JAN_COMMIT", ""))
    mounted.append(Mounted("jan.common.v1.StatusService", status_pb2_grpc.add_StatusServiceServicer_to_server, status))
    server = Server(
        address,
        mounted,
        status=status,
        door=_door(foundation, auth),
        max_message_bytes=settings.max_body_bytes,
        elsewhere=elsewhere,
        reflected=[service.full_name for service in api.services()] if settings.reflection else [],
    )
    host, _, _ = address.rpartition(":")
    foundation.neighbours.here = address if address.startswith("unix:") else f"{host}:{server.port}"
    return server


async def _furnish(name: str, foundation: Foundation) -> list[Mounted]:
    """The services of a room. Only the rooms that are served are imported: each costs megabytes."""
    furnish: Callable[[Foundation], Awaitable[list[Mounted]]] = import_module(f"services.{name}.room").furnish
    return await furnish(foundation)


def _door(foundation: Foundation, auth: str | None) -> Door:
    services, storage = api.services(), foundation.storage
    idempotency = None
    if storage is not None:
        idempotency = Idempotency(AnswerStore(storage.database, storage.watch, storage.vault), services)
    return Door(
        Policy(foundation.verifier, services),
        foundation.metrics,
        longest=foundation.settings.stream_timeout,
        largest_body=foundation.settings.max_body_bytes,
        idempotency=idempotency,
        newcomers=_newcomers(foundation, auth),
    )


def _newcomers(foundation: Foundation, auth: str | None) -> Newcomers | None:
    """Whoever comes with a token of the external provider has an account from then on: made here, or by the auth room
    of another process."""
    if not foundation.settings.oidc_issuer_url:
        return None
    if auth is not None:
        room = AuthRoom(auth)
        foundation.stack.push_async_callback(room.close)
        return Newcomers(room.welcome)
    storage = foundation.storage
    return Newcomers(AccountStore(storage.database).welcome) if storage is not None else None
