"""API keys through the whole server: made, used, narrowed, revoked; on REST and on native gRPC."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import httpx
import openai
import pytest
from google.protobuf.json_format import ParseDict
from google.rpc import error_details_pb2
from grpc import StatusCode
from grpc_status import rpc_status
from jan.auth.v1 import auth_pb2, auth_pb2_grpc
from jan.llm.v1 import chat_pb2, chat_pb2_grpc, models_pb2, models_pb2_grpc

from services.auth.api_key_store import new_secret
from services.auth.guesses import MOST
from tests.fake_upstream import FakeUpstream
from tests.rest.server import JanServer, eventually

HELLO = {"model": "fake", "messages": [{"role": "user", "content": "Hello!"}]}
SECONDS = 10


def as_header(key: str) -> dict[str, str]:
    return {"x-api-key": key}


def as_bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


WAYS = pytest.mark.parametrize("way", [as_header, as_bearer])


class Client:
    """Plain HTTP to one server, and what its answers say."""

    def __init__(self, server: JanServer, url: str = "") -> None:
        self.server = server
        self._http = httpx.Client(base_url=url or server.url, timeout=20)

    def __call__(self, verb: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> httpx.Response:
        return self._http.request(verb, path, headers=headers, **options)

    def guest(self) -> dict[str, str]:
        """The header of a new guest."""
        return {"authorization": f"Bearer {self.server.token()}"}

    def key(self, owner: dict[str, str], **wanted: Any) -> dict[str, Any]:
        """A new key, with its secret."""
        answer = self("POST", "/auth/api-keys", owner, json={"name": "a key", **wanted})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()["data"]
        return made

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def ask(server: JanServer) -> Iterator[Client]:
    with closing(Client(server)) as client:
        yield client


@pytest.fixture
def owner(ask: Client) -> dict[str, str]:
    return ask.guest()


@pytest.fixture
def key(ask: Client, owner: dict[str, str]) -> str:
    return str(ask.key(owner)["key"])


def outcome(answer: httpx.Response) -> tuple[int, str]:
    """Status and error code; the envelope must be whole."""
    error = answer.json()["error"]
    assert error["request_id"] == answer.headers["x-request-id"]
    assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
    return answer.status_code, error["code"]


# The life of a key


def test_a_key_is_made_listed_used_and_revoked(ask: Client, owner: dict[str, str], upstream: FakeUpstream) -> None:
    answer = ask("POST", "/auth/api-keys", owner, json={"name": "CI"})
    assert answer.status_code == 201
    made = answer.json()["data"]
    assert answer.json()["meta"] == {"request_id": answer.headers["x-request-id"]}
    assert re.fullmatch(r"sk_live_[0-9a-f]{48}", made["key"])
    (listed,) = ask("GET", "/auth/api-keys", owner).json()["data"]
    assert listed == {name: value for name, value in made.items() if name != "key"}
    used = ask("POST", "/v1/chat/completions", as_header(made["key"]), json=HELLO)
    assert (used.status_code, used.headers["x-auth-method"]) == (200, "api_key")
    gone = ask("DELETE", f"/auth/api-keys/{made['id']}", owner)
    assert (gone.status_code, gone.content) == (204, b"")
    assert outcome(ask("GET", "/v1/models", as_header(made["key"]))) == (401, "unauthorized")
    assert ask("DELETE", f"/auth/api-keys/{made['id']}", owner).status_code == 204
    (listed,) = ask("GET", "/auth/api-keys", owner).json()["data"]
    assert (listed["status"], listed["is_active"]) == ("revoked", False)


def test_the_last_use_is_told_soon(ask: Client, owner: dict[str, str]) -> None:
    made = ask.key(owner)
    assert made.get("last_used_at") is None
    ask("GET", "/v1/models", as_header(made["key"]))
    used_at = eventually(lambda: ask("GET", "/auth/api-keys", owner).json()["data"][0].get("last_used_at"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", used_at)


@WAYS
def test_a_key_acts_as_its_owner(ask: Client, owner: dict[str, str], key: str, way: Any) -> None:
    answer, own = ask("GET", "/v1/users/me", way(key)), ask("GET", "/v1/users/me", owner)
    assert (own.headers["x-auth-method"], answer.headers["x-auth-method"]) == ("jwt", "api_key")
    for header in ("x-user-id", "x-principal-id"):
        assert answer.headers[header] == own.headers[header]
    assert answer.json()["data"] == own.json()["data"] | {"auth_method": "api_key"}


def test_the_openai_sdk_takes_a_key(server: JanServer, key: str, upstream: FakeUpstream) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client:
        stream = client.chat.completions.create(model="fake", messages=[{"role": "user", "content": "a"}], stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == "Hello world"
    stranger = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key[:-1] + "x", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError) as error:
        stranger.models.list()
    assert error.value.code == "unauthorized"


@WAYS
def test_a_key_works_on_the_direct_port(server: JanServer, key: str, way: Any) -> None:
    with closing(Client(server, f"http://127.0.0.1:{server.llm_port}")) as ask:
        assert ask("GET", "/v1/models", way(key)).status_code == 200
        assert outcome(ask("GET", "/v1/models", way("sk_live_nonsense"))) == (401, "unauthorized")


# Refusals


@pytest.mark.parametrize("secret", ["sk_live_" + "0" * 48, "sk_live_x", "sk-", "sk_" + "a" * 5000])
@WAYS
def test_a_key_that_does_not_exist_is_refused(ask: Client, way: Any, secret: str) -> None:
    for verb, path in (("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("GET", "/auth/api-keys")):
        answer = ask(verb, path, way(secret))
        assert outcome(answer) == (401, "unauthorized")
        assert "x-auth-method" not in answer.headers
        assert secret not in answer.text


def test_public_paths_do_not_look_at_keys(ask: Client) -> None:
    bad = as_header("sk_live_nonsense")
    assert ask("POST", "/auth/guest-login", bad).status_code == 201
    for path in ("/healthz", "/readyz", "/.well-known/jwks.json"):
        assert ask("GET", path, bad).status_code == 200


def test_scopes_are_kept(ask: Client, owner: dict[str, str], upstream: FakeUpstream) -> None:
    reads, writes = (as_header(ask.key(owner, scopes=[scope])["key"]) for scope in ("read", "write"))
    assert ask("GET", "/v1/models", reads).status_code == 200
    assert ask("POST", "/v1/chat/completions", writes, json=HELLO).status_code == 200
    for answer in (ask("POST", "/v1/chat/completions", reads, json=HELLO), ask("GET", "/v1/models", writes)):
        assert outcome(answer) == (403, "insufficient_scope")
        assert answer.headers["x-auth-method"] == "api_key"
    assert len(upstream.posts) == 1


def test_keys_do_not_manage_keys(ask: Client, key: str) -> None:
    assert outcome(ask("GET", "/auth/api-keys", as_header(key))) == (403, "forbidden")
    assert outcome(ask("POST", "/auth/api-keys", as_header(key), json={"name": "a"})) == (403, "forbidden")


def test_a_guest_s_key_is_no_administrator(ask: Client, owner: dict[str, str], key: str) -> None:
    assert outcome(ask("POST", "/auth/api-keys", owner, json={"name": "a", "scopes": ["admin"]})) == (403, "forbidden")
    assert outcome(ask("GET", "/v1/admin/api-keys", as_header(key))) == (403, "admin_required")


def test_the_sixth_key_is_refused(ask: Client, owner: dict[str, str]) -> None:
    for _ in range(5):
        ask.key(owner)
    sixth = ask("POST", "/auth/api-keys", owner, json={"name": "a"})
    assert outcome(sixth) == (400, "api_key_limit_exceeded")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": " "}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"name": 5}, "name"),
        ({"name": "a", "expires_in_days": 0}, "expires_in_days"),
        ({"name": "a", "expires_in_days": 366}, "expires_in_days"),
        ({"name": "a", "expires_in_days": "x"}, "expires_in_days"),
        ({"name": "a", "scopes": ["root"]}, "scopes[0]"),
    ],
)
def test_bad_wishes_name_the_field(ask: Client, owner: dict[str, str], body: dict[str, Any], param: str) -> None:
    answer = ask("POST", "/auth/api-keys", owner, json=body)
    assert outcome(answer) == (400, "invalid_parameter")
    assert answer.json()["error"]["param"] == param


def test_the_key_of_somebody_else_looks_absent(ask: Client, owner: dict[str, str]) -> None:
    made, other = ask.key(owner), ask.guest()
    path = f"/auth/api-keys/{made['id']}"
    missing = ask("DELETE", "/auth/api-keys/key_00000000000000000000000000", other)
    assert outcome(missing) == (404, "not_found")
    for answer in (ask("DELETE", path, other), ask("PATCH", path, other, json={"name": "b"})):
        assert (outcome(answer), answer.json()["error"]["message"]) == (
            (404, "not_found"),
            missing.json()["error"]["message"],
        )
    assert ask("GET", "/auth/api-keys", other).json()["data"] == []
    assert outcome(ask("GET", f"/auth/api-keys?after={made['id']}", other)) == (400, "invalid_cursor")
    assert ask("GET", "/v1/models", as_header(made["key"])).status_code == 200


def test_a_key_is_renamed_and_narrowed(ask: Client, owner: dict[str, str]) -> None:
    made = ask.key(owner)
    changed = ask("PATCH", f"/auth/api-keys/{made['id']}", owner, json={"name": "b", "scopes": ["read"]})
    assert (changed.json()["data"]["name"], changed.json()["data"]["scopes"]) == ("b", ["read"])
    answer = ask("POST", "/v1/chat/completions", as_header(made["key"]), json=HELLO)
    assert outcome(answer) == (403, "insufficient_scope")


# Two credentials


def test_a_token_beside_a_key_of_the_same_user_counts(ask: Client, owner: dict[str, str], key: str) -> None:
    answer = ask("GET", "/auth/api-keys", owner | as_header(key))
    assert (answer.status_code, answer.headers["x-auth-method"]) == (200, "jwt")


def test_credentials_that_contradict_each_other_are_refused(ask: Client, owner: dict[str, str], key: str) -> None:
    other = ask.key(ask.guest())["key"]
    both = ask("GET", "/v1/models", ask.guest() | as_header(key))
    assert outcome(both) == (401, "conflicting_credentials")
    assert outcome(ask("GET", "/v1/models", as_bearer(key) | as_header(other))) == (401, "conflicting_credentials")
    assert ask("GET", "/v1/models", as_bearer(key) | as_header(key)).status_code == 200


def test_one_of_two_credentials_that_is_not_valid_is_enough(ask: Client, owner: dict[str, str], key: str) -> None:
    for headers in (
        owner | as_header("sk_live_nonsense"),
        owner | as_header("nonsense"),
        {"authorization": "Bearer a.b.c"} | as_header(key),
        {"authorization": "Basic dTpw"} | as_header(key),
    ):
        assert outcome(ask("GET", "/v1/models", headers)) == (401, "unauthorized")


def test_nobody_says_in_headers_who_he_is(ask: Client, owner: dict[str, str], key: str) -> None:
    me = ask("GET", "/v1/users/me", owner).json()["data"]["id"]
    spoofed = {
        "x-user-id": "usr_0",
        "x-principal-id": "usr_0",
        "x-auth-method": "jwt",
        "x-scopes": "admin",
        "x-gateway-auth": "1",
        "x-consumer-id": "usr_0",
        "x-edge-address": "10.0.0.1",
    }
    answer = ask("GET", "/v1/users/me", as_header(key) | spoofed)
    assert (answer.json()["data"]["id"], answer.headers["x-auth-method"]) == (me, "api_key")
    assert outcome(ask("GET", "/v1/users/me", spoofed)) == (401, "unauthorized")
    assert outcome(ask("POST", "/auth/api-keys", as_header(key) | spoofed, json={"name": "a"})) == (403, "forbidden")


# Native gRPC


@pytest.fixture(params=["gateway", "direct port"])
def channel(request: pytest.FixtureRequest, server: JanServer) -> Iterator[grpc.Channel]:
    port = server.port if request.param == "gateway" else server.llm_port
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


def native(call: Any, request: Any, headers: dict[str, str]) -> tuple[StatusCode, str]:
    """Code and reason of a call."""
    try:
        call(request, metadata=tuple(headers.items()), timeout=SECONDS)
    except grpc.RpcError as error:
        info = error_details_pb2.ErrorInfo()
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
        assert status is not None
        assert status.details[0].Unpack(info)
        return error.code(), info.reason  # type: ignore[attr-defined]
    return StatusCode.OK, ""


@WAYS
def test_a_key_works_on_native_grpc(channel: grpc.Channel, key: str, upstream: FakeUpstream, way: Any) -> None:
    me = auth_pb2_grpc.AuthServiceStub(channel).GetMe
    answer, call = me.with_call(auth_pb2.GetMeRequest(), metadata=tuple(way(key).items()), timeout=SECONDS)
    assert (answer.data.auth_method, dict(call.initial_metadata())["x-auth-method"]) == ("api_key", "api_key")
    chat = chat_pb2_grpc.ChatServiceStub(channel).CreateChatCompletion
    asked = chat(ParseDict(HELLO, chat_pb2.CreateChatCompletionRequest()), metadata=tuple(way(key).items()))
    assert asked.choices[0].message.content.string_value == "Hello world"


@WAYS
def test_native_grpc_is_refused_with_the_same_reasons(
    channel: grpc.Channel, ask: Client, owner: dict[str, str], way: Any
) -> None:
    models, made = models_pb2_grpc.ModelServiceStub(channel).ListModels, ask.key(owner, scopes=["write"])
    request = models_pb2.ListModelsRequest()
    unauthorized = (StatusCode.UNAUTHENTICATED, "UNAUTHORIZED")
    assert native(models, request, way("sk_live_nonsense")) == unauthorized
    assert native(models, request, way(made["key"])) == (StatusCode.PERMISSION_DENIED, "INSUFFICIENT_SCOPE")
    ask("DELETE", f"/auth/api-keys/{made['id']}", owner)
    assert native(models, request, way(made["key"])) == unauthorized
    other = ask.guest() | as_header(str(ask.key(owner)["key"]))
    assert native(models, request, other) == (StatusCode.UNAUTHENTICATED, "CONFLICTING_CREDENTIALS")


def test_what_the_gateway_asks_nobody_else_can(channel: grpc.Channel, key: str) -> None:
    call = channel.unary_unary("/envoy.service.auth.v3.Authorization/Check")
    for headers in ({}, as_header(key)):
        with pytest.raises(grpc.RpcError) as error:
            call(b"", metadata=tuple(headers.items()), timeout=SECONDS)
        assert error.value.code() == StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


# Servers of their own


ADMIN = {"ADMIN_EMAIL": "admin@example.com", "ADMIN_PASSWORD": "difference engine"}


@pytest.mark.patience(120)
def test_what_was_revoked_or_used_up_stays_so_after_a_restart(tmp_path: Path) -> None:
    with JanServer(tmp_path, RATE_LIMIT_MODE="enforce", **ADMIN) as server, closing(Client(server)) as ask:
        login = ask("POST", "/auth/login", json={"email": ADMIN["ADMIN_EMAIL"], "password": ADMIN["ADMIN_PASSWORD"]})
        boss, owner = as_bearer(login.json()["access_token"]), ask.guest()
        full = ask.key(boss, scopes=["read", "admin"])["key"]
        narrow = ask.key(boss)["key"]
        assert outcome(ask("GET", "/v1/admin/api-keys", as_header(narrow))) == (403, "insufficient_scope")
        everybodys = ask("GET", "/v1/admin/api-keys", as_header(full))
        assert everybodys.json()["total_count"] == 2

        revoked, limited, kept = (ask.key(owner) for _ in range(3))
        change = {"requests_per_day": 2}
        changed = ask("PATCH", f"/v1/admin/api-keys/{limited['id']}", boss, json=change)
        assert changed.json()["data"]["requests_per_day"] == 2
        for each in (revoked, limited, kept):
            assert ask("GET", "/v1/models", as_header(each["key"])).status_code == 200
        ask("DELETE", f"/auth/api-keys/{revoked['id']}", owner)
        assert server.stop() == 0

        server.start()
        assert outcome(ask("GET", "/v1/models", as_header(revoked["key"]))) == (401, "unauthorized")
        assert ask("GET", "/v1/models", as_header(kept["key"])).status_code == 200
        assert ask("GET", "/v1/models", as_header(limited["key"])).status_code == 200
        refused = ask("GET", "/v1/models", as_header(limited["key"]))
        assert outcome(refused) == (429, "insufficient_quota")
        assert 1 <= int(refused.headers["retry-after"]) <= 86400
        assert refused.headers["x-auth-method"] == "api_key"
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            models = models_pb2_grpc.ModelServiceStub(channel).ListModels
            said = native(models, models_pb2.ListModelsRequest(), as_header(limited["key"]))
            assert said == (StatusCode.RESOURCE_EXHAUSTED, "INSUFFICIENT_QUOTA")
        assert "sk_live" not in server.out + server.errors


@pytest.mark.patience(120)
def test_without_the_auth_process_tokens_work_and_keys_are_told_to_come_again(tmp_path: Path) -> None:
    with JanServer(tmp_path) as server, closing(Client(server)) as ask:
        owner = ask.guest()
        key = as_header(ask.key(owner)["key"])
        assert ask("GET", "/v1/models", key).status_code == 200
        auth = server.children()["auth"]
        os.kill(auth, signal.SIGSTOP)
        try:
            assert ask("GET", "/v1/models", owner).status_code == 200
            refused = ask("GET", "/v1/models", key)
        finally:
            os.kill(auth, signal.SIGCONT)
        assert outcome(refused) == (503, "service_unavailable")
        assert refused.headers["retry-after"] == "1"
        eventually(lambda: ask("GET", "/v1/models", key).status_code == 200)


@pytest.mark.patience(120)
def test_who_guesses_keys_is_told_to_wait(tmp_path: Path) -> None:
    with JanServer(tmp_path) as server, closing(Client(server)) as ask:
        owner = ask.guest()
        key = as_header(ask.key(owner)["key"])
        assert ask("GET", "/v1/models", key).status_code == 200
        guesses = [ask("GET", "/v1/models", as_header(new_secret("sk_live").text)) for _ in range(2 * MOST + 1)]
        assert outcome(guesses[0]) == (401, "unauthorized")
        refused = next(each for each in guesses if each.status_code == 429)  # the minute may end in between
        assert outcome(refused) == (429, "rate_limit_exceeded")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        for credential in (key, owner):
            assert ask("GET", "/v1/models", credential).status_code == 200
