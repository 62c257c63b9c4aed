"""How long an upstream may take; a file of its own, so that the supervisor can read the configuration without gRPC."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timeouts:
    """Deadlines of one upstream in seconds, besides the deadline of the call itself."""

    connect: float = 5.0
    first_byte: float = 120.0
    idle: float = 120.0
