"""The call in progress: who asks, under which id, until when. Set once by the door, read by whoever needs it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from jan.common.v1 import meta_pb2

from services.runtime.identity import Identity


@dataclass(frozen=True, slots=True)
class Call:
    """What is known about a call before its servicer runs."""

    request_id: str
    deadline: float
    """On the event loop's clock; the client's own deadline or the server's longest, whichever is earlier."""
    caller: Identity | None
    """None on public methods."""
    address: str = ""
    """IP address of the client, as far as the gateway trusts what says so; empty without a gateway."""


_current: ContextVar[Call] = ContextVar("call")


def current() -> Call:
    """The call in progress. Raises LookupError outside one."""
    return _current.get()


def enter(call: Call) -> None:
    """Make `call` the current one of this task."""
    _current.set(call)


def caller() -> Identity:
    """Who asks. Raises LookupError on a public method: asking there is a fault in the servicer."""
    identity = _current.get().caller
    if identity is None:
        raise LookupError("a public method has no caller")
    return identity


def meta() -> meta_pb2.Meta:
    """What an answer in an envelope says about itself (CONTRACT 0.2)."""
    return meta_pb2.Meta(request_id=_current.get().request_id)
