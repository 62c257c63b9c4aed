"""A real server on a port of its own, wired as `jan-server serve` does it, and the clients that talk to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from prometheus_client import CollectorRegistry

from services.auth.signing import KeyRing
from services.auth.tokens import TokenIssuer
from services.runtime.config import Settings
from services.runtime.metrics import Metrics
from services.runtime.server import Server
from services.serve import assemble

SECONDS = 10
"""Deadline of every call of a test."""
ROWS = {"id": "usr_1", "username": "guest-1", "is_guest": True, "roles": ["guest"]}


class Rig:
    """The server, a channel to it, and a token that it believes."""

    def __init__(self, server: Server, channel: grpc.aio.Channel, settings: Settings, issuer: TokenIssuer) -> None:
        self.server = server
        self.channel = channel
        self.settings = settings
        self.token = issuer.access_token(ROWS, "ses_1").text

    @property
    def signed_in(self) -> tuple[tuple[str, str], ...]:
        """Metadata with the token."""
        return (("authorization", f"Bearer {self.token}"),)


@asynccontextmanager
async def running(folder: Path, *rooms: str, auth: str | None = None, **settings: Any) -> AsyncIterator[Rig]:
    """A server of those rooms with a folder of its own, started; `auth` is where another one serves that room."""
    configured = Settings(data_dir=folder, jan_default_node_setup=False, **settings)
    keys = KeyRing(folder / "keys", "ES256")
    keys.prepare()
    issuer = TokenIssuer(keys, issuer=configured.issuer, audience=configured.auth_audience)
    async with AsyncExitStack() as stack:
        server = await assemble(configured, rooms, "127.0.0.1:0", stack, Metrics(CollectorRegistry()), auth=auth)
        await server.start()
        stack.push_async_callback(server.stop, 0)
        options = [("grpc.max_receive_message_length", -1)]
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options)
        await stack.enter_async_context(channel)
        yield Rig(server, channel, configured, issuer)


def details(error: grpc.aio.AioRpcError) -> dict[str, Message]:
    """The `google.rpc` details of an error by their names; the status inside must agree with the call's."""
    (packed,) = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    status = status_pb2.Status.FromString(packed)  # type: ignore[arg-type]  # the key says that it is bytes
    assert status.code == error.code().value[0]
    found: dict[str, Message] = {}
    for each in status.details:
        name = each.TypeName().rpartition(".")[2]
        found[name] = getattr(error_details_pb2, name)()
        each.Unpack(found[name])
    return found
