"""Rooms call each other by gRPC, in the caller's name, wherever the other one runs: in this process or elsewhere.

What a neighbour refuses is raised here as the same error, so that it reaches the client as if there were one server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import grpc
from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from services.runtime import call as calls
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

_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
_DETAILS = "grpc-status-details-bin"
# What a neighbour can refuse. 502 and 503 look the same over gRPC, but for their codes.
_KINDS: Mapping[tuple[grpc.StatusCode, str], type[ApiError]] = {
    (each.kind.grpc, each.kind.type): each
    for each in (
        InvalidRequest,
        Unauthenticated,
        PermissionDenied,
        NotFound,
        Conflict,
        AlreadyExists,
        TooLarge,
        RateLimited,
        Unavailable,
        UpstreamTimeout,
    )
}
_UNAVAILABLE = ("service_unavailable", "no_provider_available")


class Neighbours:
    """Channels to the rooms. `elsewhere` says where those of other processes listen (`host:port`, `unix:/path`); all
    others are `here`, an address that is known when the server has its port."""

    def __init__(self, elsewhere: Mapping[str, str]) -> None:
        self._elsewhere = elsewhere
        self._channels: dict[str, grpc.aio.Channel] = {}
        self.here = ""

    def channel(self, room: str) -> grpc.aio.Channel:
        """The one channel to a room, for a stub. Channels connect when they are used for the first time."""
        address = self._elsewhere.get(room) or self.here
        if address not in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address, options=_OPTIONS)
        return self._channels[address]

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()


async def ask(method: Any, request: Any, *, token: str = "") -> Any:
    """What a unary method of a stub answers, asked with `token`, by default the caller's, within the time that the call
    in progress has left. Raises the `ApiError` that the neighbour ended with."""
    try:
        return await method(request, metadata=_metadata(token), timeout=_left())
    except grpc.aio.AioRpcError as error:
        raise _as_raised(error) from error


async def listen(method: Any, request: Any, *, token: str = "") -> AsyncGenerator[Any, None]:
    """As `ask`, for a method that answers with a stream. Leaving it early cancels the call."""
    answer = method(request, metadata=_metadata(token), timeout=_left())
    try:
        async for message in answer:
            yield message
    except grpc.aio.AioRpcError as error:
        raise _as_raised(error) from error
    finally:
        answer.cancel()


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    token = token or calls.caller().token
    return (("authorization", f"Bearer {token}"), ("x-request-id", calls.current().request_id))


def _left() -> float:
    return max(0.0, calls.current().deadline - asyncio.get_running_loop().time())


def _as_raised(error: grpc.aio.AioRpcError) -> ApiError:
    """The error that the neighbour raised, from the details that its door has made of it."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in _details(error):
        for known in (info, retry):
            if detail.Is(known.DESCRIPTOR):
                detail.Unpack(known)
    if not info.reason:  # the call never got there, or broke off
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED):
            return Unavailable("A part of the server is temporarily unavailable; try again")
        return Internal("A part of the server failed")
    kind, code = _KINDS.get((error.code(), info.metadata["type"]), Internal), info.reason.lower()
    if kind is Unavailable and code not in _UNAVAILABLE:
        kind = UpstreamFailed
    after = _seconds(retry.retry_delay) if retry.HasField("retry_delay") else None
    return kind(error.details() or "", code=code, param=info.metadata["param"] or None, retry_after=after)


def _details(error: grpc.aio.AioRpcError) -> Any:
    found = dict(error.trailing_metadata() or ()).get(_DETAILS, b"")
    try:
        return status_pb2.Status.FromString(found if isinstance(found, bytes) else b"").details
    except DecodeError:
        return ()


def _seconds(delay: duration_pb2.Duration) -> float:
    return delay.seconds + delay.nanos / 1e9
