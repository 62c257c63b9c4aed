"""Accounts over REST, as CONTRACT 3.2 promises them: status codes, bodies, and that revoked is revoked everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.rest.server import JanServer, eventually

PASSWORD = "correct horse battery staple"
TOKEN_FIELDS = {
    "access_token",
    "refresh_token",
    "token_type",
    "expires_in",
    "refresh_expires_in",
    "user_id",
    "principal_id",
    "username",
}
_numbers = count()


@pytest.fixture
def anybody(server: JanServer) -> Iterator[httpx.Client]:
    """Somebody without a credential."""
    with httpx.Client(base_url=server.url, timeout=20) as client:
        yield client


@pytest.fixture
def email() -> str:
    return f"ada{next(_numbers)}@example.com"


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def guest(client: httpx.Client) -> Any:
    return client.post("/auth/guest-login").json()


def account(client: httpx.Client, email: str) -> Any:
    body = {"email": email, "password": PASSWORD}
    answer = client.post("/auth/upgrade", json=body, headers=bearer(guest(client)["access_token"]))
    assert answer.status_code == 200, answer.text
    return answer.json()


def said(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal, whose body must be the envelope."""
    error = answer.json()["error"]
    assert error["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, error["code"]


def is_refused(client: httpx.Client, path: str, token: str) -> bool:
    answer = client.get(path, headers=bearer(token))
    assert answer.status_code in (200, 401), answer.text
    return answer.status_code == 401


def test_a_guest_signs_in_refreshes_and_logs_out(anybody: httpx.Client) -> None:
    answer = anybody.post("/auth/guest-login")
    assert (answer.status_code, set(answer.json())) == (201, TOKEN_FIELDS)
    for path in ("/auth/refresh", "/auth/refresh-token", "/llm/auth/refresh"):
        answer = anybody.post(path, json={"refresh_token": answer.json()["refresh_token"]})
        assert (answer.status_code, set(answer.json())) == (200, TOKEN_FIELDS)
    out = anybody.post("/auth/logout", json={"refresh_token": answer.json()["refresh_token"]})
    assert (out.status_code, out.json()) == (200, {"status": "logged_out"})
    again = anybody.post("/auth/refresh", json={"refresh_token": answer.json()["refresh_token"]})
    assert said(again) == (401, "invalid_grant")


@pytest.mark.parametrize("body", [b"", b"{}", b'{"device": 5}', b'{"refresh_token": null}'])
def test_what_a_guest_login_says_is_ignored(anybody: httpx.Client, body: bytes) -> None:
    answer = anybody.post("/auth/guest-login", content=body)
    assert answer.status_code == 201, answer.text


def test_a_guest_becomes_an_account_and_signs_in(anybody: httpx.Client, email: str) -> None:
    before = guest(anybody)
    body = {"email": email, "password": PASSWORD, "full_name": "Ada Lovelace"}
    answer = anybody.post("/auth/upgrade", json=body, headers=bearer(before["access_token"]))
    upgraded = answer.json()
    assert (answer.status_code, set(upgraded)) == (200, TOKEN_FIELDS | {"status", "user"})
    assert (upgraded["status"], upgraded["user_id"]) == ("upgraded", before["user_id"])
    answer = anybody.post("/auth/login", json={"email": email.upper(), "password": PASSWORD})
    assert (answer.status_code, set(answer.json())) == (200, TOKEN_FIELDS)
    for path in ("/auth/me", "/v1/users/me", "/llm/v1/users/me"):
        seen = anybody.get(path, headers=bearer(answer.json()["access_token"])).json()["data"]
        assert (seen["id"], seen["email"], seen["is_guest"]) == (before["user_id"], email, False)
        assert (seen["full_name"], seen["roles"], seen["auth_method"]) == ("Ada Lovelace", ["user"], "jwt")


def test_an_address_is_taken_once_and_an_account_upgraded_once(anybody: httpx.Client, email: str) -> None:
    tokens = account(anybody, email)
    stranger = bearer(guest(anybody)["access_token"])
    assert said(anybody.post("/auth/upgrade", json={"email": email}, headers=stranger)) == (409, "email_taken")
    owner = bearer(tokens["access_token"])
    body = {"email": f"other-{email}"}
    assert said(anybody.post("/auth/upgrade", json=body, headers=owner)) == (409, "already_upgraded")


def test_a_password_is_changed(anybody: httpx.Client, email: str) -> None:
    owner = bearer(account(anybody, email)["access_token"])
    wrong = {"new_password": "a better password", "current_password": "wrong"}
    assert said(anybody.post("/auth/password", json=wrong, headers=owner)) == (401, "invalid_credentials")
    right = {"new_password": "a better password", "current_password": PASSWORD}
    answer = anybody.post("/auth/password", json=right, headers=owner)
    assert (answer.status_code, answer.json()) == (200, {"status": "updated"})
    login = {"email": email, "password": "a better password"}
    assert anybody.post("/auth/login", json=login).status_code == 200


def test_after_ten_wrong_passwords_the_answer_is_429_with_the_time_to_wait(anybody: httpx.Client, email: str) -> None:
    account(anybody, email)
    answers = [anybody.post("/auth/login", json={"email": email, "password": "wrong"}) for _ in range(11)]
    assert {said(each) for each in answers[:10]} == {(401, "invalid_credentials")}
    assert said(answers[10]) == (429, "rate_limit_exceeded")
    assert 0 < int(answers[10].headers["retry-after"]) <= 900


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/auth/refresh", {}, "refresh_token"),
        ("/auth/refresh", {"refresh_token": ""}, "refresh_token"),
        ("/auth/refresh", {"refresh_token": 5}, "refresh_token"),
        ("/auth/revoke", {}, "token"),
        ("/auth/revoke", {"token": ""}, "token"),
        ("/auth/revoke", {"token": ["x"]}, "token"),
        ("/auth/login", {"password": PASSWORD}, "email"),
        ("/auth/login", {"email": "ada@example.com"}, "password"),
        ("/auth/login", {"email": {}, "password": PASSWORD}, "email"),
        ("/auth/upgrade", {"email": "nonsense"}, "email"),
        ("/auth/upgrade", {"email": "ada@example.com", "password": "short"}, "password"),
        ("/auth/password", {"new_password": "short"}, "new_password"),
    ],
    ids=range(12),
)
def test_a_wrong_field_is_named(rest: httpx.Client, path: str, body: Any, param: str) -> None:
    answer = rest.post(path, json=body)
    assert said(answer) == (400, "invalid_parameter")
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("path", ["/auth/refresh", "/auth/revoke", "/auth/logout", "/auth/login", "/auth/upgrade"])
def test_what_is_no_json_is_said_to_be_none(rest: httpx.Client, path: str) -> None:
    assert said(rest.post(path, content=b'{"token": ')) == (400, "invalid_json")


@pytest.mark.parametrize("path", ["/auth/upgrade", "/auth/password"])
def test_who_has_no_credential_is_told_so(anybody: httpx.Client, path: str) -> None:
    answer = anybody.post(path, json={})
    assert said(answer) == (401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_revoked_token_is_refused_by_every_service_on_every_port(server: JanServer, anybody: httpx.Client) -> None:
    bystander = guest(anybody)["access_token"]
    with httpx.Client(base_url=f"http://127.0.0.1:{server.llm_port}", timeout=20) as direct:
        for field in ("access_token", "refresh_token"):
            tokens = guest(anybody)
            faces = [(client, path) for client in (anybody, direct) for path in ("/v1/models", "/auth/me")]
            assert not any(is_refused(*face, tokens["access_token"]) for face in faces)
            answer = anybody.post("/auth/revoke", json={"token": tokens[field]})
            assert (answer.status_code, answer.json()) == (200, {"status": "revoked", "message": "Token revoked"})
            for client, path in faces:
                eventually(lambda: is_refused(client, path, tokens["access_token"]), within=5)  # noqa: B023
        assert not any(is_refused(*face, bystander) for face in faces)


def test_an_answer_to_a_revoked_token_names_nobody(anybody: httpx.Client) -> None:
    token = guest(anybody)["access_token"]
    assert anybody.post("/auth/revoke", json={"token": token}).status_code == 200
    eventually(lambda: is_refused(anybody, "/auth/me", token), within=5)
    told = anybody.get("/auth/me", headers={"authorization": f"Bearer {token}"}).headers
    assert {"x-user-id", "x-principal-id", "x-auth-method"} & set(told) == set()


@pytest.mark.parametrize("credential", ["Bearer forged", "Bearer sk_live_00", "Basic YTpi", "nonsense"])
def test_a_worthless_credential_is_no_reason_to_refuse_a_public_call(anybody: httpx.Client, credential: str) -> None:
    headers = {"authorization": credential}
    assert anybody.post("/auth/revoke", json={"token": "rt_unknown"}, headers=headers).status_code == 200
    assert anybody.post("/auth/logout", headers=headers).status_code == 200
    assert anybody.post("/auth/guest-login", headers=headers).status_code == 201


def test_using_a_refresh_token_twice_ends_what_came_of_it_everywhere(anybody: httpx.Client) -> None:
    first = guest(anybody)
    second = anybody.post("/auth/refresh", json={"refresh_token": first["refresh_token"]}).json()
    assert said(anybody.post("/auth/refresh", json={"refresh_token": first["refresh_token"]}))[0] == 401
    for token in (first["access_token"], second["access_token"]):
        eventually(lambda: is_refused(anybody, "/v1/models", token), within=5)  # noqa: B023


def test_the_keys_and_the_configuration_are_public(server: JanServer, anybody: httpx.Client) -> None:
    told = anybody.get("/.well-known/openid-configuration").json()
    assert told["jwks_uri"].endswith("/.well-known/jwks.json")
    assert told["id_token_signing_alg_values_supported"] == ["ES256"]
    assert anybody.get("/.well-known/jwks.json").json()["keys"]


@pytest.mark.patience(120)
def test_what_is_revoked_stays_so_when_everything_is_started_again(tmp_path: Path) -> None:
    server = JanServer(tmp_path)
    with server, httpx.Client(base_url=server.url, timeout=20) as client:
        one, two, good = guest(client), guest(client), guest(client)
        client.post("/auth/revoke", json={"token": one["access_token"]})
        client.post("/auth/logout", headers=bearer(two["access_token"]))
    with server, httpx.Client(base_url=server.url, timeout=20) as client:
        for path in ("/v1/models", "/auth/me"):
            refused = [is_refused(client, path, each["access_token"]) for each in (one, two, good)]
            assert refused == [True, True, False]
        body = {"refresh_token": two["refresh_token"]}
        assert said(client.post("/auth/refresh", json=body)) == (401, "invalid_grant")
        assert client.post("/auth/refresh", json={"refresh_token": good["refresh_token"]}).status_code == 200
