"""Signing in at an external provider, with PostgreSQL behind it and a provider that does as told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest

from services.auth.discovery import Discovery
from services.auth.id_token import ProviderTokens
from services.auth.login_store import LoginStore
from services.auth.oidc import ExternalLogin
from services.auth.provider import ProviderClient
from services.auth.store import AccountStore
from services.runtime.config import Settings
from services.runtime.db import Database, Row
from services.runtime.errors import ApiError, InvalidRequest, Unauthenticated, Unavailable, UpstreamFailed
from services.runtime.identity import KeyFile, Provider, external_user_id
from services.runtime.vault import Vault
from tests.fake_provider import CLIENT_ID, CLIENT_SECRET, ISSUER, FakeProvider, ProviderKey

APP = "https://app.test/after"
ADMIN = {"realm_access": {"roles": ["jan-admin"]}}
USER: dict[str, Any] = {"realm_access": {"roles": []}}


class Scene:
    """A person with a browser, who signs in at the provider."""

    def __init__(self, folder: Path, database: Database, **settings: Any) -> None:
        self.provider = FakeProvider()
        self.database = database
        self.settings = Settings(
            data_dir=folder,
            **{
                "oidc_issuer_url": ISSUER,
                "oidc_client_id": CLIENT_ID,
                "oidc_client_secret": CLIENT_SECRET,
                "oidc_admin_role": "jan-admin",
                "oauth_redirect_allowlist": ("https://app.test",),
                **settings,
            },
        )
        path = folder / "keys" / "external.json"
        client = ProviderClient(secure=True, transport=self.provider.transport())
        self.discovery = Discovery(ISSUER, client, path, interval=300)
        self.discovery.prepare()
        provider = Provider(ISSUER, CLIENT_ID, self.settings.oidc_roles_claim, "jan-admin")
        self.logins = LoginStore(database, Vault(b"secret"))
        self.login = ExternalLogin(
            self.settings,
            self.discovery,
            client,
            provider=provider,
            tokens=ProviderTokens(KeyFile(path), provider, client_id=CLIENT_ID, skew=60),
            logins=self.logins,
            welcome=AccountStore(database).welcome,
        )

    async def start(self) -> dict[str, str]:
        """Begin a sign-in; return what the browser tells the provider."""
        url, _ = await self.login.start(APP)
        return dict(parse_qsl(urlsplit(url).query))

    async def sign_in(self, *, key: ProviderKey | None = None, access_token: str = "opaque", **claims: Any) -> Row:
        """All of it, for somebody about whom the provider says that in the ID token."""
        asked = await self.start()
        id_token = (key or self.provider.key).sign(**{"nonce": asked["nonce"], **claims})
        self.provider.tokens = {"access_token": access_token, "token_type": "Bearer", "id_token": id_token}
        user, back = await self.login.complete("code-1", asked["state"], "", "")
        assert back == APP
        return user


@pytest.fixture
def scene(tmp_path: Path, database: Database) -> Scene:
    return Scene(tmp_path, database)


async def code_of(completing: Any) -> str:
    with pytest.raises(ApiError) as error:
        await completing
    return error.value.code


async def test_the_browser_is_sent_to_the_provider_with_everything_it_needs(scene: Scene) -> None:
    url, state = await scene.login.start(APP)
    assert url.startswith(f"{ISSUER}/authorize?")
    query = {name: value for name, (value,) in parse_qs(urlsplit(url).query).items()}
    secrets = [query.pop(name) for name in ("nonce", "code_challenge")]
    assert query == {
        "client_id": CLIENT_ID,
        "redirect_uri": "http://localhost:8000/auth/callback",
        "response_type": "code",
        "scope": "openid profile email",
        "state": state,
        "code_challenge_method": "S256",
    }
    assert len({state, *secrets}) == 3
    assert all(len(each) == 43 for each in (state, *secrets))


@pytest.mark.parametrize(
    ("scopes", "asked"),
    [("email", "openid email"), ("openid,email", "openid email"), ("email openid", "email openid")],
)
async def test_the_scope_contains_openid(tmp_path: Path, database: Database, scopes: str, asked: str) -> None:
    assert (await Scene(tmp_path, database, oidc_scopes=scopes).start())["scope"] == asked


async def test_an_authorization_endpoint_may_have_a_query_already(scene: Scene) -> None:
    scene.provider.configuration["authorization_endpoint"] += "?tenant=home"
    assert (await scene.start())["tenant"] == "home"


async def test_a_wrong_redirect_is_refused_before_anything_is_kept(scene: Scene) -> None:
    assert await code_of(scene.login.start("https://evil.test")) == "invalid_redirect_url"
    assert await scene.database.fetchval("SELECT count(*) FROM logins") == 0


async def test_a_sign_in_makes_an_account(scene: Scene) -> None:
    user = await scene.sign_in(preferred_username="al", email="alice@id.test", name="Alice A")
    assert (user["id"], user["username"], user["email"], user["full_name"], user["is_guest"], user["roles"]) == (
        external_user_id(ISSUER, "alice"), "al", "alice@id.test", "Alice A", False, ["user"],
    )  # fmt: skip


async def test_the_same_person_has_the_same_account_under_another_name(scene: Scene) -> None:
    first = await scene.sign_in(preferred_username="al", email="a@id.test")
    again = await scene.sign_in(preferred_username="ally", email="b@id.test")
    other = await scene.sign_in(sub="bob", preferred_username="ally", **USER)
    assert (first["id"], again["username"], again["email"]) == (again["id"], "ally", "b@id.test")
    assert other["id"] != first["id"]


async def test_the_code_is_redeemed_with_the_verifier_and_the_client_secret(scene: Scene) -> None:
    url, state = await scene.login.start(APP)
    challenge = parse_qs(urlsplit(url).query)["code_challenge"][0]
    scene.provider.tokens = {}
    await code_of(scene.login.complete("code-1", state, "", ""))
    form = scene.provider.form()
    digest = hashlib.sha256(form.pop("code_verifier").encode()).digest()
    assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == challenge
    assert form == {
        "grant_type": "authorization_code",
        "code": "code-1",
        "redirect_uri": "http://localhost:8000/auth/callback",
        "client_id": CLIENT_ID,
    }
    sent = scene.provider.asked[-1].headers["authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")) == b"jan:a%20secret%3A%20with%20%26%20odd%20signs"


async def test_a_secret_goes_into_the_form_where_the_provider_wants_it_there(scene: Scene) -> None:
    scene.provider.configuration["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    await code_of(scene.login.complete("code-1", (await scene.start())["state"], "", ""))
    assert scene.provider.form()["client_secret"] == CLIENT_SECRET
    assert "authorization" not in scene.provider.asked[-1].headers


async def test_a_public_client_has_no_secret(tmp_path: Path, database: Database) -> None:
    scene = Scene(tmp_path, database, oidc_client_secret="")
    await code_of(scene.login.complete("code-1", (await scene.start())["state"], "", ""))
    assert "client_secret" not in scene.provider.form()
    assert "authorization" not in scene.provider.asked[-1].headers


# --- roles


async def test_the_id_token_tells_roles_first(scene: Scene) -> None:
    access_token, name = scene.provider.key.sign(**ADMIN), "al"
    assert (await scene.sign_in(access_token=access_token, preferred_username=name, **USER))["roles"] == ["user"]
    user = await scene.sign_in(access_token=scene.provider.key.sign(**USER), preferred_username=name, **ADMIN)
    assert user["roles"] == ["user", "admin"]
    assert "userinfo" not in scene.provider.paths()


async def test_then_the_access_token_does(scene: Scene) -> None:
    scene.provider.userinfo = {"sub": "alice", **USER}
    user = await scene.sign_in(access_token=scene.provider.key.sign(aud="account", **ADMIN))
    assert user["roles"] == ["user", "admin"]


@pytest.mark.parametrize("opaque", [True, False])
async def test_and_then_userinfo_with_the_name_and_address(scene: Scene, opaque: bool) -> None:
    scene.provider.userinfo = {"sub": "alice", "preferred_username": "al", "email": "a@id.test", **ADMIN}
    access_token = "opaque" if opaque else scene.provider.key.sign(aud="account", realm_access={})
    user = await scene.sign_in(access_token=access_token, realm_access={})
    assert (user["roles"], user["username"], user["email"]) == (["user", "admin"], "al", "a@id.test")
    assert scene.provider.asked[-1].headers["authorization"] == f"Bearer {access_token}"


async def test_what_the_id_token_says_is_not_mixed_with_what_others_say(scene: Scene) -> None:
    scene.provider.userinfo = {"sub": "alice", "preferred_username": "other", "email": "other@id.test", **ADMIN}
    user = await scene.sign_in(email="a@id.test", email_verified=False)
    assert (user["username"], user["email"], user["roles"]) == ("alice", None, ["user", "admin"])


async def test_a_provider_without_userinfo_tells_what_it_tells(scene: Scene) -> None:
    del scene.provider.configuration["userinfo_endpoint"]
    assert (await scene.sign_in())["username"] == "alice"


async def test_who_has_lost_the_role_loses_it_here_at_the_next_sign_in(scene: Scene) -> None:
    assert (await scene.sign_in(**ADMIN))["roles"] == ["user", "admin"]
    assert (await scene.sign_in(**USER))["roles"] == ["user"]


async def test_without_any_word_of_roles_one_is_a_user(scene: Scene) -> None:
    assert (await scene.sign_in())["roles"] == ["user"]


@pytest.mark.parametrize(
    "userinfo", [{"sub": "mallory", **ADMIN}, ADMIN, [], "html"], ids=["another", "nobody", "list", "text"]
)
async def test_userinfo_about_somebody_else_is_not_believed(scene: Scene, userinfo: Any) -> None:
    scene.provider.userinfo = userinfo
    assert await code_of(scene.sign_in()) == "oidc_exchange_failed"


async def test_an_access_token_about_somebody_else_is_not_believed(scene: Scene) -> None:
    access_token = scene.provider.key.sign(sub="mallory", **ADMIN)
    assert await code_of(scene.sign_in(access_token=access_token)) == "oidc_exchange_failed"


# --- what may come back


async def test_a_state_is_good_once(scene: Scene) -> None:
    asked = await scene.start()
    scene.provider.tokens = {"access_token": "x", "id_token": scene.provider.key.sign(nonce=asked["nonce"], **USER)}
    await scene.login.complete("code-1", asked["state"], "", "")
    with pytest.raises(Unauthenticated) as error:
        await scene.login.complete("code-1", asked["state"], "", "")
    assert error.value.code == "invalid_state"


async def test_of_two_at_once_with_the_same_state_one_is_signed_in(scene: Scene) -> None:
    asked = await scene.start()
    scene.provider.tokens = {"access_token": "x", "id_token": scene.provider.key.sign(nonce=asked["nonce"], **USER)}
    results = await asyncio.gather(
        *(scene.login.complete("code-1", asked["state"], "", "") for _ in range(5)), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in results) == ["Unauthenticated"] * 4 + ["tuple"]


async def test_a_failed_exchange_uses_the_state_up(scene: Scene) -> None:
    state = (await scene.start())["state"]
    assert await code_of(scene.login.complete("code-1", state, "", "")) == "oidc_exchange_failed"
    assert await code_of(scene.login.complete("code-1", state, "", "")) == "invalid_state"


@pytest.mark.parametrize("state", ["unknown", "x" * 512, "é", "\\x00", "' OR true --"])
async def test_an_unknown_state_is_refused(scene: Scene, state: str) -> None:
    await scene.start()
    assert await code_of(scene.login.complete("code-1", state, "", "")) == "invalid_state"


async def test_a_state_of_ten_minutes_ago_is_refused(scene: Scene) -> None:
    state = (await scene.start())["state"]
    await scene.database.execute("UPDATE logins SET expires_at = now() - interval '1 ms'")
    assert await code_of(scene.login.complete("code-1", state, "", "")) == "invalid_state"


async def test_what_nobody_finished_is_forgotten(scene: Scene) -> None:
    await scene.start()
    await scene.database.execute("UPDATE logins SET expires_at = now() - interval '1 ms'")
    await scene.start()
    assert await scene.database.fetchval("SELECT count(*) FROM logins") == 1


@pytest.mark.parametrize(("code", "with_state"), [("", True), ("code-1", False), ("", False)])
async def test_code_and_state_are_both_needed(scene: Scene, code: str, with_state: bool) -> None:
    state = (await scene.start())["state"] if with_state else ""
    with pytest.raises(InvalidRequest) as error:
        await scene.login.complete(code, state, "", "")
    assert error.value.code == "missing_code_or_state"


async def test_a_refusal_of_the_provider_is_told_and_ends_the_sign_in(scene: Scene) -> None:
    state = (await scene.start())["state"]
    with pytest.raises(InvalidRequest, match=r"access_denied: the person said no") as error:
        await scene.login.complete("", state, "access_denied", "the person said no")
    assert error.value.code == "access_denied"
    assert await code_of(scene.login.complete("code-1", state, "", "")) == "invalid_state"


async def test_neither_state_nor_secrets_can_be_read_from_the_table(scene: Scene) -> None:
    asked = await scene.start()
    (row,) = await scene.database.fetch("SELECT state_hash, sealed FROM logins")
    for word in (asked["state"], asked["nonce"], "app.test"):
        assert word.encode() not in bytes(row["state_hash"]) + bytes(row["sealed"])


async def test_a_sign_in_begun_before_the_secret_was_changed_is_unknown(scene: Scene) -> None:
    state = (await scene.start())["state"]
    assert await LoginStore(scene.database, Vault(b"another")).take(state) is None


# --- a provider that fails or lies


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"}, {"nonce": None}, {"aud": "another"}, {"iss": "https://evil.test"}, {"exp": 1},
        {"sub": ""}, {"sub": None}, {"azp": "another"},
    ],
    ids=str,
)  # fmt: skip
async def test_an_id_token_that_breaks_a_rule_signs_nobody_in(scene: Scene, claims: dict[str, Any]) -> None:
    assert await code_of(scene.sign_in(**USER, **claims)) == "oidc_exchange_failed"
    assert await scene.database.fetchval("SELECT count(*) FROM users") == 0


@pytest.mark.parametrize("tokens", [{}, {"id_token": "a.b.c"}, {"id_token": 5}, [], "html"], ids=str)
async def test_a_token_answer_without_an_id_token_signs_nobody_in(scene: Scene, tokens: Any) -> None:
    scene.provider.tokens = tokens
    state = (await scene.start())["state"]
    assert await code_of(scene.login.complete("code-1", state, "", "")) == "oidc_exchange_failed"


async def test_a_code_that_the_provider_refuses_signs_nobody_in(scene: Scene) -> None:
    state = (await scene.start())["state"]
    scene.provider.instead = lambda request: httpx.Response(400, json={"error": "invalid_grant"})
    with pytest.raises(UpstreamFailed) as error:
        await scene.login.complete("code-1", state, "", "")
    assert error.value.code == "oidc_exchange_failed"
    assert "invalid_grant" not in error.value.message
    assert "invalid_grant" in repr(error.value.__cause__)


async def test_a_provider_that_goes_away_in_the_middle_signs_nobody_in(scene: Scene) -> None:
    state = (await scene.start())["state"]
    scene.provider.down = True
    assert await code_of(scene.login.complete("code-1", state, "", "")) == "oidc_exchange_failed"


async def test_while_the_provider_is_down_no_sign_in_begins(scene: Scene) -> None:
    scene.provider.down = True
    with pytest.raises(Unavailable):
        await scene.login.start(APP)
    assert await scene.database.fetchval("SELECT count(*) FROM logins") == 0


async def test_a_new_key_of_the_provider_is_looked_for_at_once(scene: Scene) -> None:
    await scene.discovery.refresh()
    new = ProviderKey(kid="key-2")
    scene.provider.key_set = {"keys": [scene.provider.key.jwk(), new.jwk()]}
    assert (await scene.sign_in(key=new, **USER))["username"] == "alice"


async def test_a_new_key_that_only_the_access_token_has_is_looked_for_as_well(scene: Scene) -> None:
    await scene.discovery.refresh()
    new = ProviderKey(kid="key-2")
    scene.provider.key_set = {"keys": [scene.provider.key.jwk(), new.jwk()]}
    assert (await scene.sign_in(access_token=new.sign(**ADMIN)))["roles"] == ["user", "admin"]


async def test_a_key_that_the_provider_does_not_list_signs_nobody_in(scene: Scene) -> None:
    assert await code_of(scene.sign_in(key=ProviderKey(kid="forged"), **USER)) == "oidc_exchange_failed"
    listed = scene.provider.paths().count("keys")
    with suppress(ApiError):
        await scene.sign_in(key=ProviderKey(kid="forged"), **USER)
    assert scene.provider.paths().count("keys") == listed
