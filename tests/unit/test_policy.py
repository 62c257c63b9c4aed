"""Who may call which method."""

from dataclasses import replace
from typing import Any, cast

import pytest
from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from jan.common.v1 import access_pb2

from services.runtime import api
from services.runtime.errors import ApiError, PermissionDenied, Unauthenticated
from services.runtime.identity import Identity, TokenVerifier
from services.runtime.policy import ACCESS, SCOPE, Policy, marks, scopes

GUEST = Identity("usr_1", "guest-1", ("guest",), True, "jwt", ("read", "write"), 4e9, "good")
ADMIN = replace(GUEST, roles=("user", "admin"), is_guest=False, scopes=("read", "write", "admin"))
WHO = {
    "guest": GUEST,
    "admin": ADMIN,
    "key": replace(GUEST, auth_method="api_key"),
    "admin-key": replace(ADMIN, auth_method="api_key"),
    "narrow-key": replace(ADMIN, auth_method="api_key", scopes=("read", "write")),
    "reader": replace(GUEST, auth_method="api_key", scopes=("read",)),
    "writer": replace(GUEST, auth_method="api_key", scopes=("write",)),
    "keyless-admin": replace(GUEST, auth_method="api_key", scopes=("read", "write", "admin")),
    "nobody": replace(GUEST, auth_method="api_key", scopes=()),
}
HTTP: Any = annotations_pb2.http  # the generated type is too narrow for `Extensions[...]`
NAMES = ("UNSPECIFIED", "PUBLIC", "USER", "JWT", "ADMIN", "OPTIONAL")


class Verifier:
    """Knows those tokens by heart."""

    def verify(self, token: str) -> Identity:
        if token not in WHO:
            raise Unauthenticated("The access token is not valid")
        return WHO[token]


def services() -> list[ServiceDescriptor]:
    """A service with one method for each mark, and some for scopes."""
    file = descriptor_pb2.FileDescriptorProto(name="test/policy.proto", package="test")
    file.message_type.add(name="Empty")
    service = file.service.add(name="Marked")
    for value, name in enumerate(NAMES):
        method = service.method.add(name=name.title(), input_type=".test.Empty", output_type=".test.Empty")
        if value:
            method.options.Extensions[ACCESS] = value
    rules: dict[str, dict[str, Any]] = {
        "Get": {"http": {"get": "/x"}},
        "Post": {"http": {"post": "/x"}},
        "Look": {"http": {"post": "/y"}, "scope": access_pb2.SCOPE_READ},
        "Act": {"http": {"get": "/y"}, "scope": access_pb2.SCOPE_WRITE},
        "Ask": {"http": {"post": "/z"}, "scope": access_pb2.SCOPE_OF_REQUEST},
    }
    for name, rule in rules.items():
        method = service.method.add(name=name, input_type=".test.Empty", output_type=".test.Empty")
        method.options.Extensions[HTTP].CopyFrom(http_pb2.HttpRule(**rule["http"]))
        method.options.Extensions[SCOPE] = rule.get("scope", access_pb2.SCOPE_UNSPECIFIED)
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
    "Bearer narrow-key": (None, WHO["narrow-key"], "forbidden", "insufficient_scope"),
    "Bearer keyless-admin": (None, WHO["keyless-admin"], "forbidden", "admin_required"),
    "Bearer nobody": (None, "insufficient_scope", "forbidden", "admin_required"),
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


SCOPES = {
    # caller   Get                   Post                  Look                  Act                   Ask
    "reader": (True,                 "insufficient_scope", True,                 "insufficient_scope", True),
    "writer": ("insufficient_scope", True,                 "insufficient_scope", True,                 True),
    "guest":  (True,                 True,                 True,                 True,                 True),
    "nobody": (*("insufficient_scope",) * 4, True),
}  # fmt: skip


@pytest.mark.parametrize("who", SCOPES)
def test_a_key_needs_the_scope_of_the_method(policy: Policy, who: str) -> None:
    methods = ("Get", "Post", "Look", "Act", "Ask")
    found = (admitted(policy, f"/test.Marked/{name}", f"Bearer {who}") for name in methods)
    assert tuple(each if isinstance(each, str) else each == WHO[who] for each in found) == SCOPES[who]


def test_a_method_that_nobody_marked_needs_the_scope_to_write(policy: Policy) -> None:
    assert admitted(policy, "/test.Marked/Forgotten", "Bearer reader") == "insufficient_scope"
    assert admitted(policy, "/test.Marked/Forgotten", "Bearer writer") == WHO["writer"]


def test_a_public_method_does_not_look_at_credentials(policy: Policy) -> None:
    for authorization in ("Bearer nobody", "Bearer forged", "Basic x", "Bearer"):
        assert policy.admit("/test.Marked/Public", authorization) is None


def test_where_a_credential_is_optional_one_that_is_sent_must_be_good(policy: Policy) -> None:
    method = "/test.Marked/Optional"
    assert policy.admit(method, "") is None
    assert policy.admit(method, "Bearer guest") == GUEST
    assert policy.admit(method, "Bearer key") == WHO["key"]
    for authorization in ("Bearer forged", "Basic guest", "Bearer", " "):
        assert admitted(policy, method, authorization) == "unauthorized"
    assert admitted(policy, method, "Bearer nobody") == "insufficient_scope"


ALL = api.services()


def test_the_public_methods_of_the_server_are_these() -> None:
    found = marks(ALL)
    assert {method for method, mark in found.items() if mark == access_pb2.ACCESS_PUBLIC} == {
        "/jan.auth.v1.AuthService/CompleteLogin",
        "/jan.auth.v1.AuthService/GetJwks",
        "/jan.auth.v1.AuthService/GetOpenidConfiguration",
        "/jan.auth.v1.AuthService/GuestLogin",
        "/jan.auth.v1.AuthService/Logout",
        "/jan.auth.v1.AuthService/PasswordLogin",
        "/jan.auth.v1.AuthService/RefreshToken",
        "/jan.auth.v1.AuthService/RevokeToken",
        "/jan.auth.v1.AuthService/StartLogin",
        "/jan.common.v1.StatusService/GetReadiness",
        "/jan.common.v1.StatusService/GetVersion",
        "/jan.llm.v1.ShareService/GetPublicShare",
        "/jan.media.v1.MediaService/ReceiveUploadHttp",
    }


def test_a_credential_is_optional_where_a_signed_url_leads() -> None:
    optional = {method for method, mark in marks(ALL).items() if mark == access_pb2.ACCESS_OPTIONAL}
    assert optional == {"/jan.media.v1.MediaService/GetMediaContentHttp"}


def test_an_api_key_cannot_touch_accounts_and_keys_without_a_signed_in_user() -> None:
    found = marks(ALL)
    assert {method for method, mark in found.items() if mark == access_pb2.ACCESS_JWT} == {
        "/jan.auth.v1.AuthService/SetPassword",
        "/jan.auth.v1.AuthService/UpgradeGuest",
        "/jan.auth.v1.KeyService/CreateApiKey",
        "/jan.auth.v1.KeyService/ListApiKeys",
        "/jan.auth.v1.KeyService/RevokeApiKey",
        "/jan.auth.v1.KeyService/UpdateApiKey",
    }


def test_inference_needs_the_scope_to_write_and_looking_the_one_to_read() -> None:
    found = scopes(ALL)
    assert found["/jan.llm.v1.ChatService/CreateChatCompletion"] == "write"
    assert found["/jan.llm.v1.ModelService/ListModels"] == "read"
    assert found["/jan.auth.v1.KeyService/AdminListApiKeys"] == "admin"
