"""What the door says about a call when it is over."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

import grpc
import pytest
import pytest_asyncio
from google.api.httpbody_pb2 import HttpBody
from jan.llm.v1 import chat_pb2_grpc
from prometheus_client import CollectorRegistry

from services.runtime.door import Door
from services.runtime.errors import UpstreamFailed
from services.runtime.httpbody import write_events
from services.runtime.identity import Identity
from services.runtime.metrics import Metrics
from services.runtime.policy import Policy
from tests.grpc.rig import SECONDS

GUEST = Identity("usr_1", "guest-1", ("guest",), True, "jwt", ("read", "write"), 4e9, "good")
HTTP = "/jan.llm.v1.ChatService/CreateChatCompletionHttp"


class Anybody:
    """A policy that lets everybody in."""

    def admit(self, method: str, authorization: str) -> Identity:
        return GUEST


class Chat(chat_pb2_grpc.ChatServiceServicer):
    """Its streams break with `error` after their first event."""

    error: Exception

    async def CreateChatCompletionHttp(self, request: HttpBody, context: Any) -> HttpBody:
        return await write_events(context, self._events())

    async def _events(self) -> AsyncGenerator[list[bytes], None]:
        yield [b"1"]
        raise self.error


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest_asyncio.fixture
async def channel(registry: CollectorRegistry) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    door = Door(cast(Policy, Anybody()), Metrics(registry), longest=SECONDS)
    door.mount(server, chat_pb2_grpc.add_ChatServiceServicer_to_server, Chat())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)


@pytest.mark.parametrize(
    ("error", "code", "level"),
    [
        (UpstreamFailed("It broke"), "UNAVAILABLE", logging.WARNING),
        (RuntimeError("password=hunter2"), "INTERNAL", logging.ERROR),
    ],
)
async def test_a_stream_that_broke_is_counted_and_logged_as_the_failure_it_is(
    channel: grpc.aio.Channel,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    code: str,
    level: int,
) -> None:
    Chat.error = error
    call = chat_pb2_grpc.ChatServiceStub(channel).CreateChatCompletionHttp(HttpBody(), timeout=SECONDS)
    first, last = [each.data async for each in call]
    assert first == b"data: 1\n\n"
    assert b'"error"' in last
    assert b"hunter2" not in last
    labels = {"method": HTTP, "code": code, "auth": "jwt"}
    assert registry.get_sample_value("jan_grpc_calls_total", labels) == 1
    assert [each.levelno for each in caplog.records if each.name == "services.runtime.door"] == [level]
