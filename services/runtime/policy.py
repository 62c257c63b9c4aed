"""Who may call which method, as `proto/` marks it (`jan.common.v1.access`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from jan.common.v1 import access_pb2

from services.runtime.errors import PermissionDenied, Unauthenticated
from services.runtime.identity import Identity, TokenVerifier

# Standard services, which carry no mark of ours, tell nobody's secrets and do not stand behind the door.
OPEN_SERVICES = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)


# Their generated types are too narrow for `Extensions[...]`.
ACCESS: Any = access_pb2.access
SCOPE: Any = access_pb2.scope
IDEMPOTENCY_KEY: Any = access_pb2.idempotency_key


def marks(services: Iterable[ServiceDescriptor]) -> dict[str, int]:
    """Map `/package.Service/Method` to its access mark; a method without a mark needs a user."""
    found = {}
    for service in services:
        for method in service.methods:
            mark = method.GetOptions().Extensions[ACCESS]
            found[f"/{service.full_name}/{method.name}"] = mark or access_pb2.ACCESS_USER
    return found


def scopes(services: Iterable[ServiceDescriptor]) -> dict[str, str]:
    """Map `/package.Service/Method` to the scope that an API key needs for it; empty: the method asks for it."""
    return {f"/{service.full_name}/{method.name}": _scope(method) for service in services for method in service.methods}


def _scope(method: MethodDescriptor) -> str:
    options = method.GetOptions()
    if options.Extensions[ACCESS] == access_pb2.ACCESS_ADMIN:
        return "admin"
    reads = options.Extensions[annotations_pb2.http].WhichOneof("pattern") == "get"
    marked = {access_pb2.SCOPE_READ: "read", access_pb2.SCOPE_WRITE: "write", access_pb2.SCOPE_OF_REQUEST: ""}
    return marked.get(options.Extensions[SCOPE], "read" if reads else "write")


def keyed(services: Iterable[ServiceDescriptor]) -> set[str]:
    """The methods that take an idempotency key."""
    return {
        f"/{service.full_name}/{method.name}"
        for service in services
        for method in service.methods
        if method.GetOptions().Extensions[IDEMPOTENCY_KEY]
    }


class Policy:
    """Lets a call in, or says why not. A method nobody marked is never public."""

    def __init__(self, verifier: TokenVerifier, services: Iterable[ServiceDescriptor]) -> None:
        services = list(services)
        self._verifier = verifier
        self._marks = marks(services)
        self._scopes = scopes(services)

    def admit(self, method: str, authorization: str) -> Identity | None:
        """Who calls `method`; None when it is public, or open to strangers and the caller is one. Raises
        `Unauthenticated` or `PermissionDenied`."""
        mark = self._marks.get(method, access_pb2.ACCESS_USER)
        if mark == access_pb2.ACCESS_PUBLIC or (mark == access_pb2.ACCESS_OPTIONAL and not authorization):
            return None
        caller = self._verifier.verify(bearer(authorization))
        if mark == access_pb2.ACCESS_JWT and caller.auth_method != "jwt":
            raise PermissionDenied("This needs a signed-in user; an API key is not enough")
        if mark == access_pb2.ACCESS_ADMIN and not caller.is_admin:
            raise PermissionDenied("This is for administrators", code="admin_required")
        check_scope(caller, self._scopes.get(method, "write"))
        return caller


def check_scope(caller: Identity, scope: str) -> None:
    """Raise `PermissionDenied` when the caller's API key lacks the scope; empty is none."""
    if scope and scope not in caller.scopes:
        raise PermissionDenied(f"This needs an API key with the scope '{scope}'", code="insufficient_scope")


def bearer(authorization: str) -> str:
    """The token in an `Authorization` header (RFC 6750). Raises `Unauthenticated`."""
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if not token or scheme.lower() != "bearer":
        raise Unauthenticated("A credential is required: send 'Authorization: Bearer <token>'")
    return token
