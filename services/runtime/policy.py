"""Who may call which method, as `proto/` marks it (`jan.common.v1.access`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from jan.common.v1 import access_pb2

from services.runtime.errors import PermissionDenied, Unauthenticated
from services.runtime.identity import Identity, TokenVerifier

# Standard services, which carry no mark of ours, tell nobody's secrets and do not stand behind the door.
OPEN_SERVICES = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)


# Its generated type is too narrow for `Extensions[...]`.
ACCESS: Any = access_pb2.access


def marks(services: Iterable[ServiceDescriptor]) -> dict[str, int]:
    """Map `/package.Service/Method` to its access mark; a method without a mark needs a user."""
    found = {}
    for service in services:
        for method in service.methods:
            mark = method.GetOptions().Extensions[ACCESS]
            found[f"/{service.full_name}/{method.name}"] = mark or access_pb2.ACCESS_USER
    return found


class Policy:
    """Lets a call in, or says why not. A method nobody marked is never public."""

    def __init__(self, verifier: TokenVerifier, services: Iterable[ServiceDescriptor]) -> None:
        self._verifier = verifier
        self._marks = marks(services)

    def admit(self, method: str, authorization: str) -> Identity | None:
        """Who calls `method`; None when it is public. Raises `Unauthenticated` or `PermissionDenied`."""
        mark = self._marks.get(method, access_pb2.ACCESS_USER)
        if mark == access_pb2.ACCESS_PUBLIC:
            return None
        scheme, _, token = authorization.partition(" ")
        if not token or scheme.lower() != "bearer":
            raise Unauthenticated("A credential is required: send 'Authorization: Bearer <token>'")
        caller = self._verifier.verify(token.strip())
        if mark == access_pb2.ACCESS_JWT and caller.auth_method != "jwt":
            raise PermissionDenied("This needs a signed-in user; an API key is not enough")
        if mark == access_pb2.ACCESS_ADMIN and not (caller.is_admin and "admin" in caller.scopes):
            raise PermissionDenied("This is for administrators", code="admin_required")
        return caller
