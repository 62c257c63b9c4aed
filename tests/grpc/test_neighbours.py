"""One room asks another: in the caller's name, within the caller's time, and with the same error at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import grpc
import pytest
import pytest_asyncio
from jan.media.v1 import media_pb2, media_pb2_grpc
from prometheus_client import CollectorRegistry

from services.runtime import call as calls
from services.runtime.call import Call
from services.runtime.door import Door
from services.runtime.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Internal,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from services.runtime.identity import Identity
from services.runtime.metrics import Metrics
from services.runtime.neighbours import Neighbours, ask, listen
from services.runtime.policy import Policy
from tests.grpc.rig import SECONDS

CALLER = Identity("usr_1", "guest-1", ("guest",), True, "jwt", ("read", "write"), 4e9, "the-token")


class Bearers:
    """A policy that remembers who came, and lets everybody in."""

    def __init__(self) -> None:
        self.came: list[str] = []

    def admit(self, method: str, authorization: str) -> Identity:
        self.came.append(authorization)
        return CALLER


class Media(media_pb2_grpc.MediaServiceServicer):
    """Raises `error`, if there is one, after the first piece of a stream."""

    error: Exception | None = None
    request_id = ""
    left = 0.0

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def GetMedia(self, request: media_pb2.GetMediaRequest, context: Any) -> media_pb2.MediaDetails:
        self.request_id, self.left = calls.current().request_id, context.time_remaining()
        if self.error is not None:
            raise self.error
        return media_pb2.MediaDetails(id=request.id)

    async def DownloadMedia(
        self, request: media_pb2.DownloadMediaRequest, context: Any
    ) -> AsyncGenerator[media_pb2.DownloadMediaResponse, None]:
        try:
            yield media_pb2.DownloadMediaResponse(chunk=b"1")
            if self.error is not None:
                raise self.error
            await asyncio.Event().wait()
        finally:
            self.closed.set()


class Scene:
    """A neighbour, and a call in progress that asks it."""

    def __init__(self, neighbours: Neighbours, media: Media, bearers: Bearers) -> None:
        stub: Any = media_pb2_grpc.MediaServiceStub
        self.stub = stub(neighbours.channel("media"))
        self.media = media
        self.bearers = bearers


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Scene]:
    server, media, bearers = grpc.aio.server(), Media(), Bearers()
    door = Door(cast(Policy, bearers), Metrics(CollectorRegistry()), longest=SECONDS)
    door.mount(server, media_pb2_grpc.add_MediaServiceServicer_to_server, media)
    neighbours = Neighbours({"media": f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"})
    await server.start()
    calls.enter(Call("req_1", asyncio.get_running_loop().time() + SECONDS, CALLER))
    yield Scene(neighbours, media, bearers)
    await neighbours.close()
    await server.stop(0)


async def test_a_neighbour_is_asked_in_the_callers_name_and_within_the_callers_time(scene: Scene) -> None:
    calls.enter(Call("req_1", asyncio.get_running_loop().time() + 5, CALLER))
    answer = await ask(scene.stub.GetMedia, media_pb2.GetMediaRequest(id="jan_1"))
    assert answer.id == "jan_1"
    assert scene.bearers.came == ["Bearer the-token"]
    assert scene.media.request_id == "req_1"
    assert 0 < scene.media.left <= 5 * 1.01  # gRPC sends three digits of a timeout, rounded up


async def test_it_can_be_asked_with_a_grant(scene: Scene) -> None:
    await ask(scene.stub.GetMedia, media_pb2.GetMediaRequest(), token="grant")
    assert scene.bearers.came == ["Bearer grant"]


@pytest.mark.parametrize(
    "raised",
    [
        InvalidRequest("Wrong", param="source.url", code="invalid_url"),
        Unauthenticated("Who?"),
        PermissionDenied("No", code="admin_required"),
        NotFound("None", code="media_not_found"),
        Conflict("Wait", code="upload_pending"),
        AlreadyExists("Taken"),
        TooLarge("Big"),
        RateLimited("Slowly", retry_after=2.5),
        UpstreamFailed("Bad", code="storage_error"),
        Unavailable("Down", retry_after=3),
        UpstreamTimeout("Late", code="fetch_timeout"),
        Internal("Oh"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_it_refuses_is_raised_as_the_same_error(scene: Scene, raised: ApiError) -> None:
    scene.media.error = raised
    with pytest.raises(ApiError) as refused:
        await ask(scene.stub.GetMedia, media_pb2.GetMediaRequest())
    error = refused.value
    assert type(error) is type(raised)
    same = ("message", "code", "param", "retry_after")
    assert [getattr(error, name) for name in same] == [getattr(raised, name) for name in same]


async def test_a_fault_of_a_neighbour_tells_nothing(scene: Scene) -> None:
    scene.media.error = RuntimeError("password=hunter2")
    with pytest.raises(Internal) as refused:
        await ask(scene.stub.GetMedia, media_pb2.GetMediaRequest())
    assert "hunter2" not in refused.value.message


async def test_a_neighbour_that_is_not_there_is_unavailable() -> None:
    neighbours = Neighbours({"media": "unix:/nowhere.sock"})
    calls.enter(Call("req_1", asyncio.get_running_loop().time() + SECONDS, CALLER))
    stub: Any = media_pb2_grpc.MediaServiceStub
    with pytest.raises(Unavailable):
        await ask(stub(neighbours.channel("media")).GetMedia, media_pb2.GetMediaRequest())
    await neighbours.close()


async def test_a_stream_that_breaks_raises_after_what_came(scene: Scene) -> None:
    scene.media.error = UpstreamFailed("Bad", code="storage_error")
    pieces = listen(scene.stub.DownloadMedia, media_pb2.DownloadMediaRequest())
    assert (await anext(pieces)).chunk == b"1"
    with pytest.raises(UpstreamFailed):
        await anext(pieces)


async def test_leaving_a_stream_early_ends_it_there_too(scene: Scene) -> None:
    async with aclosing(listen(scene.stub.DownloadMedia, media_pb2.DownloadMediaRequest())) as pieces:
        async for _ in pieces:
            break
    async with asyncio.timeout(SECONDS):
        await scene.media.closed.wait()
