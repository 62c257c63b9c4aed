"""The whole server with a real OpenID Connect provider beside it: sign-in, its tokens on every API, its keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import grpc
import httpx
import pytest
from jan.auth.v1 import auth_pb2, auth_pb2_grpc
from jan.llm.v1 import models_pb2, models_pb2_grpc

from tests.rest.oidc_provider import OidcProvider, needed, published
from tests.rest.server import JanServer, eventually

APP = "http://localhost:3000/after"
CHAT = {"model": "jan-demo", "messages": [{"role": "user", "content": "Hello!"}]}

pytestmark = needed


class Together:
    """Jan Server and the provider it knows."""

    def __init__(self, folder: Path, *, refresh: str = "1s", **provider: str) -> None:
        self.jan = JanServer(folder, JWKS_REFRESH_INTERVAL=refresh)
        self.provider = OidcProvider([f"http://localhost:{self.jan.port}/auth/callback"], **provider)
        self.jan.settings |= {
            "PUBLIC_BASE_URL": f"http://localhost:{self.jan.port}",
            "CORS_ALLOWED_ORIGINS": "http://localhost:3000",
            **self.provider.settings,
        }

    def __enter__(self) -> Together:
        self.provider.start()
        self.jan.start()
        published(self.jan.data_dir, self.provider.kids())
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        self.provider.kill()
        self.jan.__exit__(kind, *rest)

    def begin(self, **query: str) -> httpx.Response:
        return httpx.get(f"{self.jan.url}/auth/login", params=query)

    def callback(self, name: str) -> str:
        """Where the provider sends somebody's browser."""
        url = self.begin(redirect_url=APP).json()["authorization_url"]
        return self.provider.browse(url, name)

    def sign_in(self, name: str) -> dict[str, str]:
        """What the application finds in the fragment."""
        answer = httpx.get(self.callback(name))
        assert answer.status_code == 302, answer.text
        place, _, fragment = answer.headers["location"].partition("#")
        assert place == APP
        return dict(parse_qsl(fragment))

    def me(self, token: str) -> dict[str, Any]:
        answer = self.jan.get("/auth/me", token)
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["data"])

    def chat(self, token: str, port: int | None = None) -> httpx.Response:
        url = f"http://127.0.0.1:{port or self.jan.port}/v1/chat/completions"
        return httpx.post(url, json=CHAT, headers={"authorization": f"Bearer {token}"})


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Together]:
    with Together(tmp_path_factory.mktemp("oidc")) as together:
        yield together


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


# --- signing in


def test_a_person_of_the_provider_signs_in(together: Together) -> None:
    tokens = together.sign_in("alice")
    assert tokens["token_type"] == "Bearer"
    assert tokens["user_id"] == tokens["principal_id"]
    me = together.me(tokens["access_token"])
    assert {name: me[name] for name in ("id", "username", "email", "full_name", "is_guest", "is_admin")} == {
        "id": tokens["user_id"],
        "username": "alice",
        "email": "alice@provider.test",
        "full_name": "alice of the provider",
        "is_guest": False,
        "is_admin": False,
    }


def test_the_application_recognises_the_sign_in_that_it_began(together: Together) -> None:
    begun = together.begin(redirect_url=APP).json()
    answer = httpx.get(together.provider.browse(begun["authorization_url"], "alice"))
    assert dict(parse_qsl(urlsplit(answer.headers["location"]).fragment))["state"] == begun["state"]


def test_the_session_goes_on_without_the_provider(together: Together) -> None:
    tokens = together.sign_in("alice")
    answer = httpx.post(f"{together.jan.url}/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert answer.status_code == 200
    assert together.me(answer.json()["access_token"])["id"] == tokens["user_id"]


def test_the_same_person_has_the_same_account_and_another_another(together: Together) -> None:
    first, again, other = (together.sign_in(name)["user_id"] for name in ("alice", "alice", "bob"))
    assert first == again != other


def test_a_sign_in_is_described_as_the_contract_says(together: Together) -> None:
    answer = together.begin(redirect_url=APP)
    body = answer.json()
    query = dict(parse_qsl(urlsplit(body["authorization_url"]).query))
    assert set(body) == {"authorization_url", "state"}
    assert (query["state"], query["client_id"], query["response_type"], query["code_challenge_method"]) == (
        body["state"], "jan", "code", "S256",
    )  # fmt: skip
    assert query["redirect_uri"] == f"http://localhost:{together.jan.port}/auth/callback"
    assert "openid" in query["scope"].split()
    assert "set-cookie" not in answer.headers


def test_a_sign_in_cannot_be_finished_twice(together: Together) -> None:
    back = together.callback("alice")
    assert httpx.get(back).status_code == 302
    again = httpx.get(back)
    assert code_of(again) == (401, "invalid_state")
    assert "location" not in again.headers


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", (400, "missing_code_or_state")),
        ("?code=x", (400, "missing_code_or_state")),
        ("?state=x", (400, "missing_code_or_state")),
        ("?code=x&state=x", (401, "invalid_state")),
        ("?error=access_denied&error_description=no", (400, "access_denied")),
        (f"?code=x&state={'x' * 600}", (400, "invalid_parameter")),
    ],
)
def test_a_callback_that_nobody_waits_for_is_refused(together: Together, query: str, expected: tuple[int, str]) -> None:
    assert code_of(httpx.get(f"{together.jan.url}/auth/callback{query}")) == expected


def test_who_refuses_at_the_provider_is_not_signed_in(together: Together) -> None:
    assert code_of(httpx.get(together.callback("nobody"))) == (400, "access_denied")


def test_a_code_that_is_not_the_providers_is_not_believed(together: Together) -> None:
    state = together.begin().json()["state"]
    answer = httpx.get(f"{together.jan.url}/auth/callback", params={"code": "forged", "state": state})
    assert code_of(answer) == (502, "oidc_exchange_failed")
    eventually(lambda: "invalid_grant" in together.jan.errors)
    assert "invalid_grant" not in answer.text


@pytest.mark.parametrize(
    "url", ["https://evil.test", "http://localhost:3000@evil.test", "http://localhost:3000\\@evil.test", "javascript:x"]
)
def test_tokens_are_not_brought_to_strangers(together: Together, url: str) -> None:
    answer = together.begin(redirect_url=url)
    assert code_of(answer) == (400, "invalid_redirect_url")
    assert answer.json()["error"]["param"] == "redirect_url"


def test_an_administrator_there_is_one_here_until_the_role_is_lost(together: Together) -> None:
    together.provider.give_roles("carol", "jan-admin")
    assert together.me(together.sign_in("carol")["access_token"])["is_admin"]
    together.provider.give_roles("carol", "other")
    assert not together.me(together.sign_in("carol")["access_token"])["is_admin"]


@pytest.mark.parametrize("told_by", ["id_token", "userinfo"])
def test_roles_are_found_wherever_the_provider_tells_them(tmp_path: Path, told_by: str) -> None:
    with Together(tmp_path, told_by=told_by) as together:
        together.provider.give_roles("carol", "jan-admin")
        me = together.me(together.sign_in("carol")["access_token"])
        assert (me["is_admin"], me["username"], me["email"]) == (True, "carol", "carol@provider.test")


@pytest.mark.parametrize("algorithm", ["ES256", "PS256", "EdDSA"])
def test_other_algorithms_than_the_usual_one_work_as_well(tmp_path: Path, algorithm: str) -> None:
    with Together(tmp_path, algorithm=algorithm) as together:
        assert together.sign_in("alice")["username"] == "alice"
        assert together.chat(together.provider.access_token("alice")).status_code == 200


# --- the provider's own access tokens


def test_an_access_token_of_the_provider_is_good_on_every_port(together: Together) -> None:
    token = together.provider.access_token("dave")
    for port in (together.jan.port, together.jan.llm_port):
        answer = together.chat(token, port)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-auth-method"] == "jwt"


def test_its_bearer_is_the_account_of_the_sign_in(together: Together) -> None:
    signed_in = together.sign_in("alice")["user_id"]
    assert together.me(together.provider.access_token("alice"))["id"] == signed_in


def test_answers_name_the_account_here(together: Together) -> None:
    token = together.provider.access_token("erin")
    answer = together.chat(token)
    user_id = together.me(token)["id"]
    assert (answer.headers["x-user-id"], answer.headers["x-principal-id"]) == (user_id, user_id)


def test_a_person_has_an_account_from_the_first_call_on(together: Together) -> None:
    token = together.provider.access_token("frank")
    assert together.chat(token).status_code == 200
    key = httpx.post(
        f"{together.jan.url}/auth/api-keys", json={"name": "mine"}, headers={"authorization": f"Bearer {token}"}
    )
    assert key.status_code == 201, key.text


def test_a_replayed_answer_names_the_account_too(together: Together) -> None:
    headers = {"authorization": f"Bearer {together.provider.access_token('ivan')}", "idempotency-key": "once"}
    first, again = (httpx.post(f"{together.jan.url}/v1/chat/completions", json=CHAT, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code, first.content) == (200, 200, again.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert first.headers["x-user-id"] == again.headers["x-user-id"]


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_has_its_own_status(together: Together, stream: bool) -> None:
    answer = httpx.post(
        f"{together.jan.url}/v1/chat/completions",
        json={**CHAT, "model": "unknown", "stream": stream},
        headers={"authorization": f"Bearer {together.provider.access_token('alice')}"},
    )
    assert code_of(answer) == (404, "model_not_found")


def test_a_stream_names_the_account_before_it_begins(together: Together) -> None:
    headers = {"authorization": f"Bearer {together.provider.access_token('alice')}"}
    url = f"{together.jan.url}/v1/chat/completions"
    with httpx.stream("POST", url, json={**CHAT, "stream": True}, headers=headers) as answer:
        assert answer.headers["x-user-id"].startswith("usr_")
        assert list(answer.iter_lines())[-2] == "data: [DONE]"


def test_a_revoked_token_is_refused_everywhere(together: Together) -> None:
    token, other = (together.provider.access_token("judy") for _ in range(2))
    assert together.chat(token).status_code == 200
    assert httpx.post(f"{together.jan.url}/auth/revoke", json={"token": token}).status_code == 200
    for port in (together.jan.port, together.jan.llm_port):
        eventually(lambda port=port: together.chat(token, port).status_code == 401, within=5)  # type: ignore[misc]
    assert together.chat(other).status_code == 200


async def test_native_grpc_takes_it_too(together: Together) -> None:
    metadata = (("authorization", f"Bearer {together.provider.access_token('grace')}"),)
    for port in (together.jan.port, together.jan.llm_port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            me = await auth_pb2_grpc.AuthServiceStub(channel).GetMe(
                auth_pb2.GetMeRequest(), metadata=metadata, timeout=10
            )
            assert (me.data.auth_method, me.data.is_guest, me.data.roles) == ("jwt", False, ["user"])
            models = await models_pb2_grpc.ModelServiceStub(channel).ListModels(
                models_pb2.ListModelsRequest(), metadata=metadata, timeout=10
            )
            assert models.data


def test_the_role_in_an_access_token_counts(together: Together) -> None:
    together.provider.give_roles("heidi", "jan-admin")
    assert together.me(together.provider.access_token("heidi"))["is_admin"]


def test_an_id_token_is_no_access_token(together: Together) -> None:
    assert code_of(together.chat(together.provider.tokens("alice")["id_token"])) == (401, "unauthorized")


def test_a_token_with_a_changed_claim_is_refused(together: Together) -> None:
    head, claims, signature = together.provider.access_token("alice").split(".")
    assert code_of(together.chat(f"{head}.{claims[:-4]}AAAA.{signature}")) == (401, "unauthorized")


def test_our_own_tokens_are_good_beside_the_providers(together: Together) -> None:
    assert together.chat(together.jan.token()).status_code == 200


# --- changes at the provider


def test_keys_of_the_provider_change(tmp_path: Path) -> None:
    with Together(tmp_path) as together:
        old = together.provider.access_token("alice")
        assert together.chat(old).status_code == 200
        together.provider.kill()
        together.provider.start()
        published(together.jan.data_dir, together.provider.kids())
        new = together.provider.access_token("alice")
        eventually(lambda: together.chat(new).status_code == 200)
        assert together.sign_in("alice")["username"] == "alice"
        assert together.chat(together.jan.token()).status_code == 200


def test_a_sign_in_finds_new_keys_without_waiting_for_the_next_reading(tmp_path: Path) -> None:
    with Together(tmp_path, refresh="1h") as together:
        together.provider.kill()
        together.provider.start()
        assert together.sign_in("alice")["username"] == "alice"
        token = together.provider.access_token("alice")
        eventually(lambda: together.chat(token).status_code == 200)


def test_a_server_starts_without_its_provider_and_finds_it_later(tmp_path: Path) -> None:
    together = Together(tmp_path)
    with together.jan:
        assert together.chat(together.jan.token()).status_code == 200
        assert code_of(together.begin()) == (503, "service_unavailable")
        with together.provider:
            published(together.jan.data_dir, together.provider.kids())
            assert together.sign_in("alice")["username"] == "alice"


def test_a_provider_that_is_gone_takes_only_sign_ins_with_it(tmp_path: Path) -> None:
    with Together(tmp_path) as together:
        token, back = together.provider.access_token("alice"), together.callback("alice")
        together.provider.kill()
        assert code_of(httpx.get(back)) == (502, "oidc_exchange_failed")
        assert together.chat(token).status_code == 200
        assert together.jan.stop() == 0
        together.jan.start()
        assert together.chat(token).status_code == 200
        assert code_of(together.begin()) == (503, "service_unavailable")
        eventually(lambda: "provider_failed" in together.jan.errors)


def test_without_a_provider_there_is_no_such_sign_in(server: JanServer) -> None:
    assert code_of(httpx.get(f"{server.url}/auth/login")) == (501, "oidc_not_configured")
    assert code_of(httpx.get(f"{server.url}/auth/callback?code=x&state=y")) == (501, "oidc_not_configured")
