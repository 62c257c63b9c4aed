"""Who may call which method."""

from dataclasses import replace
from typing import Any, cast

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from jan.auth.v1 import auth_pb2
from jan.common.v1 import access_pb2, status_pb2
from jan.llm.v1 import chat_pb2, models_pb2

from services.runtime.errors import ApiError, PermissionDenied, Unauthenticated
from services.runtime.identity import Identity, TokenVerifier
from services.runtime.policy import Policy, marks

GUEST = Identity("usr_1", "guest-1", ("guest",), True, "jwt", ("read", "write"), 4e9, "good")
ADMIN = replace(GUEST, roles=("user", "admin"), is_guest=False, scopes=("read", "write", "admin"))
WHO = {
    "guest": GUEST,
    "admin": ADMIN,
    "key": replace(GUEST, auth_method="api_key"),
    "admin-key": replace(ADMIN, auth_method="api_key"),
    "narrow-key": replace(ADMIN, auth_method="api_key", scopes=("read", "write")),
}
NAMES = ("UNSPECIFIED", "PUBLIC", "USER", "JWT", "ADMIN")


class Verifier:
    """Knows those tokens by heart."""

    def verify(self, token: str) -> Identity:
        if token not in WHO:
            raise Unauthenticated("The access token is not valid")
        return WHO[token]


def services() -> list[ServiceDescriptor]:
    """A service with one method for each mark."""
    file = descriptor_pb2.FileDescriptorProto(name="test/policy.proto", package="test")
    file.message_type.add(name="Empty")
    service = file.service.add(name="Marked")
    for value, name in enumerate(NAMES):
        method = service.method.add(name=name.title(), input_type=".test.Empty", output_type=".test.Empty")
        if value:
            method.options.Extensions[access_pb2.access] = value  # type: ignore[index]  # an enum's number
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return [pool.FindServiceByName("test.Marked")]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy(cast(TokenVerifier, Verifier()), services())


def admitted(policy: Policy, method: str, authorization: str) -> Any:
    """Who is let in, or the code of the refusal."""
    try:
        return policy.admit(method, authorization)
    except ApiError as error:
        return error.code


TABLE = {
    # caller           Public  User            Jwt              Admin
    "":               (None, "unauthorized", "unauthorized", "unauthorized"),
    "Bearer forged":  (None, "unauthorized", "unauthorized", "unauthorized"),
    "Bearer guest":   (None, WHO["guest"], WHO["guest"], "admin_required"),
    "Bearer key":     (None, WHO["key"], "forbidden", "admin_required"),
    "Bearer admin":   (None, WHO["admin"], WHO["admin"], WHO["admin"]),
    "Bearer admin-key": (None, WHO["admin-key"], "forbidden", WHO["admin-key"]),
    "Bearer narrow-key": (None, WHO["narrow-key"], "forbidden", "admin_required"),
}  # fmt: skip


@pytest.mark.parametrize("authorization", TABLE)
def test_a_method_lets_in_whom_its_mark_names(policy: Policy, authorization: str) -> None:
    methods = ("Public", "User", "Jwt", "Admin")
    assert tuple(admitted(policy, f"/test.Marked/{name}", authorization) for name in methods) == TABLE[authorization]


@pytest.mark.parametrize("method", ["/test.Marked/Unspecified", "/test.Marked/Forgotten", "/other.Service/Method", "/"])
def test_a_method_without_a_mark_is_never_public(policy: Policy, method: str) -> None:
    assert admitted(policy, method, "") == "unauthorized"
    assert admitted(policy, method, "Bearer guest") == GUEST


@pytest.mark.parametrize("authorization", ["guest", "Basic guest", "Bearer", "Bearer ", "Bearer  ", "Bearer guest x"])
def test_only_a_bearer_token_is_a_credential(policy: Policy, authorization: str) -> None:
    assert admitted(policy, "/test.Marked/User", authorization) == "unauthorized"


@pytest.mark.parametrize("authorization", ["bearer guest", "BEARER guest", "Bearer  guest "])
def test_the_scheme_may_be_written_in_any_case(policy: Policy, authorization: str) -> None:
    assert admitted(policy, "/test.Marked/User", authorization) == GUEST


def test_a_refusal_says_what_is_missing(policy: Policy) -> None:
    with pytest.raises(Unauthenticated, match="Authorization: Bearer"):
        policy.admit("/test.Marked/User", "")
    with pytest.raises(PermissionDenied, match="administrators"):
        policy.admit("/test.Marked/Admin", "Bearer guest")


def test_the_public_methods_of_the_server_are_these() -> None:
    protos = (auth_pb2, status_pb2, chat_pb2, models_pb2)
    found = marks(service for proto in protos for service in proto.DESCRIPTOR.services_by_name.values())
    assert {method for method, mark in found.items() if mark == access_pb2.ACCESS_PUBLIC} == {
        "/jan.auth.v1.AuthService/GuestLogin",
        "/jan.auth.v1.AuthService/GetJwks",
        "/jan.common.v1.StatusService/GetReadiness",
        "/jan.common.v1.StatusService/GetVersion",
    }
