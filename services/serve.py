"""Wiring of the rooms: settings -> pools -> servicers -> one gRPC server. `jan-server serve <room>...` runs it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from jan.auth.v1 import auth_pb2, auth_pb2_grpc
from jan.common.v1 import status_pb2, status_pb2_grpc
from jan.llm.v1 import chat_pb2, chat_pb2_grpc, models_pb2, models_pb2_grpc

from services.auth.accounts import AuthServicer
from services.auth.keys import JWKS, KeyRing
from services.auth.store import AccountStore
from services.auth.tokens import TokenIssuer
from services.llm.catalog import Catalog
from services.llm.chat import ChatServicer
from services.llm.completion import Engine
from services.llm.embedding import EmbeddingEngine
from services.llm.models import ModelServicer
from services.llm.providers.http1 import Client
from services.runtime import db
from services.runtime.config import Settings
from services.runtime.door import Door
from services.runtime.identity import KeyFile, TokenVerifier
from services.runtime.metrics import Metrics, Published, publish
from services.runtime.pacing import Pacer
from services.runtime.policy import Policy
from services.runtime.server import Mounted, Server
from services.runtime.status import Check, Peer, StatusServicer

ROOMS = ("auth", "llm")
# The proto files whose services exist, for the policy: a method that is in none of them needs a user.
PROTOS = (auth_pb2, status_pb2, chat_pb2, models_pb2)


async def serve(
    settings: Settings, rooms: Sequence[str], address: str, *, auth: str | None = None, metrics: Published | None = None
) -> None:
    """Serve `rooms` on `address` until SIGTERM, then drain; `auth` is where the auth room listens, when it is another
    process. Raises `ConfigError` for settings that cannot be used."""
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
    keys = settings.data_dir / "keys"
    mounted: list[Mounted] = []
    checks: dict[str, Check] = {}
    if "auth" in rooms:
        mounted += await _auth(settings, keys, checks, stack)
    if "llm" in rooms:
        mounted += await _llm(settings, metrics, stack)
    verifier = TokenVerifier(
        KeyFile(keys / JWKS), issuer=settings.issuer, audience=settings.auth_audience, skew=settings.auth_clock_skew
    )
    checks["signing keys"] = verifier.ready
    elsewhere: dict[str, Check] = {}
    if auth is not None:
        peer = Peer(auth)
        stack.push_async_callback(peer.close)
        checks["auth"] = elsewhere["jan.auth.v1.AuthService"] = peer.ready
    status = StatusServicer(checks, commit=os.environ.get("JAN_COMMIT", ""))
    mounted.append(Mounted("jan.common.v1.StatusService", status_pb2_grpc.add_StatusServiceServicer_to_server, status))
    services = [service for proto in PROTOS for service in proto.DESCRIPTOR.services_by_name.values()]
    return Server(
        address,
        mounted,
        status=status,
        door=Door(Policy(verifier, services), metrics, longest=settings.stream_timeout),
        max_message_bytes=settings.max_body_bytes,
        elsewhere=elsewhere,
        reflected=[service.full_name for service in services] if settings.reflection else [],
    )


async def _auth(settings: Settings, folder: Path, checks: dict[str, Check], stack: AsyncExitStack) -> list[Mounted]:
    keys = KeyRing(folder, settings.auth_signing_alg)
    keys.prepare(Path(settings.auth_signing_key_file) if settings.auth_signing_key_file else None)
    database = await db.connect(settings.database_url)
    stack.push_async_callback(database.close)
    checks["database"] = database.ready
    issuer = TokenIssuer(keys, issuer=settings.issuer, audience=settings.auth_audience)
    servicer = AuthServicer(settings, AccountStore(database), issuer, keys)
    return [Mounted("jan.auth.v1.AuthService", auth_pb2_grpc.add_AuthServiceServicer_to_server, servicer)]


async def _llm(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> list[Mounted]:
    pacer = Pacer()
    client = Client(pacer)
    stack.push_async_callback(client.close)
    catalog = Catalog(settings, client)
    stack.push_async_callback(catalog.close)
    await catalog.start()
    refresh = asyncio.create_task(catalog.refresh_for_ever())
    stack.callback(refresh.cancel)
    chat = ChatServicer(Engine(catalog, pacer, metrics), EmbeddingEngine(catalog, metrics))
    return [
        Mounted("jan.llm.v1.ChatService", chat_pb2_grpc.add_ChatServiceServicer_to_server, chat),
        Mounted("jan.llm.v1.ModelService", models_pb2_grpc.add_ModelServiceServicer_to_server, ModelServicer(catalog)),
    ]
