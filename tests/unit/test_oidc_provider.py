"""The external provider: how it is asked, what is kept of its keys, which ID tokens count, where sign-ins return to."""

from __future__ import annotations

import asyncio
import base64
import gzip
import logging
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from services.auth.discovery import REFETCH_PAUSE, Discovery, public_keys
from services.auth.id_token import NotValid, ProviderTokens, UnknownKey
from services.auth.provider import LARGEST, ProviderClient, ProviderFailed
from services.auth.redirects import allowed_redirect
from services.runtime.config import ConfigError, Settings, load
from services.runtime.errors import InvalidRequest
from services.runtime.identity import KeyFile, Provider
from tests.clock import movable, run_movable
from tests.documents import ROOT
from tests.fake_provider import CLIENT_ID, ISSUER, FakeProvider, ProviderKey

PROVIDER = Provider(issuer=ISSUER, audience=CLIENT_ID, roles_claim="realm_access.roles", admin_role="jan-admin")
SKEW = 60.0


# --- asking the provider


def client_of(answer: Any, *, secure: bool = True) -> ProviderClient:
    return ProviderClient(secure=secure, transport=httpx.MockTransport(answer))


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=["a list"]),
        httpx.Response(200),
        httpx.Response(500, json={}),
        httpx.Response(204),
        httpx.Response(302, headers={"location": "https://id.test/elsewhere"}, json={}),
        httpx.Response(400, json={"error": "invalid_grant", "error_description": "said to nobody"}),
        httpx.Response(200, content=b'{"a": "' + b"x" * LARGEST + b'"}'),
        httpx.Response(200, content=gzip.compress(b"{}"), headers={"content-encoding": "gzip"}),
    ],
    ids=["html", "list", "empty", "500", "204", "redirect", "error", "huge", "compressed"],
)
async def test_an_answer_that_cannot_be_used_is_a_failure(answer: httpx.Response) -> None:
    asked = []

    def peer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answer

    with pytest.raises(ProviderFailed) as failure:
        await client_of(peer).get("https://id.test/x")
    assert len(asked) == 1
    assert "said to nobody" not in str(failure.value)


async def test_the_word_for_what_went_wrong_is_for_the_log() -> None:
    with pytest.raises(ProviderFailed, match="status 400, error invalid_grant"):
        await client_of(lambda request: httpx.Response(400, json={"error": "invalid_grant"})).post(
            "https://id.test/x", {}
        )


@pytest.mark.parametrize(
    "url", ["http://id.test/", "file:///etc/passwd", "ftp://id.test", "https://", "", "https://[x"]
)
async def test_only_https_is_asked(url: str) -> None:
    with pytest.raises(ProviderFailed):
        await client_of(lambda request: httpx.Response(200, json={})).get(url)


async def test_http_is_good_enough_for_development() -> None:
    client = client_of(lambda request: httpx.Response(200, json={"a": 1}), secure=False)
    assert await client.get("http://localhost:8081/x") == {"a": 1}


async def test_a_client_secret_is_encoded_as_the_rfc_says() -> None:
    asked: list[httpx.Request] = []

    def peer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={})

    await client_of(peer).post("https://id.test/token", {"code": "1"}, login=("a:b", "c&d e"))
    assert base64.b64decode(asked[0].headers["authorization"].removeprefix("Basic ")) == b"a%3Ab:c%26d%20e"


def test_a_provider_that_says_nothing_is_given_up() -> None:
    async def silence(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def scene() -> None:
        asking = asyncio.create_task(client_of(silence).get("https://id.test/x"))
        await asyncio.sleep(0)
        movable().advance(6)
        with pytest.raises(ProviderFailed):
            await asking

    run_movable(scene())


# --- discovery and keys


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "external.json"


def discovery_of(provider: FakeProvider, path: Path, *, issuer: str = ISSUER) -> Discovery:
    discovery = Discovery(issuer, ProviderClient(secure=True, transport=provider.transport()), path, interval=300)
    discovery.prepare()
    return discovery


def content(path: Path) -> Any:
    return orjson.loads(path.read_bytes())


def kids(path: Path) -> list[str]:
    return [key["kid"] for key in content(path)["keys"]]


async def test_the_keys_are_written_for_everybody(provider: FakeProvider, path: Path) -> None:
    await discovery_of(provider, path).refresh()
    assert content(path) == {"issuer": ISSUER, "keys": [provider.key.jwk()]}


def test_only_public_members_of_keys_that_verify_signatures_are_kept() -> None:
    key, rsa = ProviderKey(), ProviderKey("RS256", kid="rsa")
    listed = [
        key.jwk(d="private", x5c=["certificate"]),
        rsa.jwk(d="1", p="2", q="3", dp="4", dq="5", qi="6", alg=None, use=None),
        rsa.jwk(kid="for encryption", use="enc", alg="RSA-OAEP"),
        rsa.jwk(kid="for encryption", alg="RSA-OAEP"),
        {"kty": "oct", "kid": "shared", "k": "secret"},
        {"kty": "EC", "crv": "secp256k1", "kid": "unknown curve"},
        {"kty": ["EC"], "crv": {}, "kid": "odd"},
        key.jwk(kid=None),
        "key",
        None,
    ]
    assert public_keys({"keys": listed}) == [key.jwk(), rsa.jwk(alg=None, use=None)]


@pytest.mark.parametrize("key_set", [{}, {"keys": []}, {"keys": {}}, {"keys": [{"kty": "oct", "kid": "x", "k": "y"}]}])
async def test_a_key_set_without_keys_does_not_replace_the_last_one(
    provider: FakeProvider, path: Path, key_set: Any
) -> None:
    discovery = discovery_of(provider, path)
    await discovery.refresh()
    provider.key_set = key_set
    with pytest.raises(ProviderFailed):
        await discovery.refresh()
    assert kids(path) == ["key-1"]


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": f"{ISSUER}/"},
        {"issuer": "https://evil.test"},
        {"issuer": None},
        {"jwks_uri": "http://id.test/keys"},
        {"jwks_uri": 5},
        {"token_endpoint": ""},
        {"authorization_endpoint": "javascript:alert(1)"},
    ],
    ids=str,
)
async def test_a_discovery_document_that_is_not_right_is_not_used(
    provider: FakeProvider, path: Path, change: dict[str, Any]
) -> None:
    provider.configuration |= change
    discovery = discovery_of(provider, path)
    with pytest.raises(ProviderFailed):
        await discovery.endpoints()
    assert kids(path) == []


async def test_an_issuer_may_end_with_a_slash(provider: FakeProvider, path: Path) -> None:
    provider.configuration["issuer"] = f"{ISSUER}/"
    discovery = discovery_of(provider, path, issuer=f"{ISSUER}/")
    await discovery.endpoints()
    assert provider.asked[0].url.path == "/realms/home/.well-known/openid-configuration"


async def test_the_last_keys_stay_when_the_provider_goes_away_also_after_a_restart(
    provider: FakeProvider, path: Path
) -> None:
    await discovery_of(provider, path).refresh()
    provider.down = True
    with pytest.raises(ProviderFailed):
        await discovery_of(provider, path).refresh()
    assert kids(path) == ["key-1"]


async def test_keys_of_a_provider_that_was_configured_before_are_dropped(provider: FakeProvider, path: Path) -> None:
    await discovery_of(provider, path).refresh()
    discovery_of(provider, path, issuer="https://another.test")
    assert kids(path) == []


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"5"])
def test_a_damaged_file_is_replaced(provider: FakeProvider, path: Path, damaged: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(damaged)
    discovery_of(provider, path)
    assert kids(path) == []


async def test_the_file_is_not_touched_while_the_keys_stay_the_same(provider: FakeProvider, path: Path) -> None:
    discovery = discovery_of(provider, path)
    await discovery.refresh()
    before = changed(path)
    await discovery.refresh()
    assert changed(path) == before


def changed(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mtime_ns


def test_keys_are_read_again_and_again(provider: FakeProvider, path: Path) -> None:
    async def scene() -> None:
        following = asyncio.create_task(discovery_of(provider, path).follow())
        await until(lambda: kids(path) == ["key-1"])
        provider.key_set = {"keys": [ProviderKey(kid="key-2").jwk()]}
        movable().advance(299)
        await settled()
        assert kids(path) == ["key-1"]
        movable().advance(2)
        await until(lambda: kids(path) == ["key-2"])
        following.cancel()

    run_movable(scene())


def test_an_answer_that_nobody_thought_of_does_not_end_the_reading(path: Path) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        raise UnicodeError("label empty or too long")  # what the resolver says to some host names

    async def scene() -> None:
        following = asyncio.create_task(Discovery(ISSUER, client_of(answer), path, interval=300).follow())
        for attempt, pause in enumerate((1, 2, 5), start=1):
            await until(lambda attempt=attempt: len(asked) == attempt)  # type: ignore[misc]
            await settled()
            movable().advance(pause)
        following.cancel()

    run_movable(scene())


def test_a_provider_that_is_down_is_asked_again_with_growing_pauses_and_logged_once(
    provider: FakeProvider, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        following = asyncio.create_task(discovery_of(provider, path).follow())
        for attempt, pause in enumerate((1, 2, 5, 10, 30, 30), start=1):
            await until(lambda attempt=attempt: len(provider.asked) == attempt)  # type: ignore[misc]
            movable().advance(pause * 0.9)
            await settled()
            assert len(provider.asked) == attempt
            movable().advance(pause * 0.1 + 0.01)
        provider.down = False
        await until(lambda: kids(path) == ["key-1"])
        following.cancel()

    provider.down = True
    with caplog.at_level(logging.INFO, "jan.oidc"):
        run_movable(scene())
    assert [record.message for record in caplog.records] == ["provider_failed", "provider_ready"]


async def until(condition: Any) -> None:
    """Let other tasks run until it is so."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("still not so")


async def settled() -> None:
    """Let other tasks do what they can do now."""
    for _ in range(100):
        await asyncio.sleep(0)


def test_looking_for_an_unknown_key_is_limited(provider: FakeProvider, path: Path) -> None:
    async def scene() -> None:
        discovery = discovery_of(provider, path)
        await asyncio.gather(*(discovery.refetch() for _ in range(20)))
        assert len(provider.asked) == 2
        movable().advance(REFETCH_PAUSE + 0.1)
        await discovery.refetch()
        assert len(provider.asked) == 4

    run_movable(scene())


async def test_a_provider_that_is_down_is_not_asked_by_every_stranger(provider: FakeProvider, path: Path) -> None:
    provider.down = True
    discovery = discovery_of(provider, path)
    for _ in range(5):
        with pytest.raises(ProviderFailed):
            await discovery.endpoints()
    assert len(provider.asked) == 1


# --- ID tokens


@pytest.fixture
def tokens(tmp_path: Path, provider: FakeProvider) -> ProviderTokens:
    path = tmp_path / "external.json"
    path.write_bytes(orjson.dumps({"issuer": ISSUER, "keys": [provider.key.jwk()]}))
    return ProviderTokens(KeyFile(path), PROVIDER, client_id=CLIENT_ID, skew=SKEW)


def test_an_id_token_for_this_sign_in_is_believed(tokens: ProviderTokens, provider: FakeProvider) -> None:
    token = provider.key.sign(nonce="n", at_hash="x")
    assert tokens.id_token(token, nonce="n")["sub"] == "alice"


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"}, {"nonce": None}, {"nonce": ""}, {"aud": "another"}, {"aud": ["another"]}, {"aud": None},
        {"aud": [CLIENT_ID, "another"]}, {"azp": "another"}, {"aud": [CLIENT_ID, "another"], "azp": "another"},
        {"iss": "https://evil.test"}, {"exp": 1}, {"exp": None}, {"iat": None}, {"iat": 4_000_000_000}, {"sub": ""},
        {"sub": None},
    ],
    ids=str,
)  # fmt: skip
def test_an_id_token_that_breaks_a_rule_is_refused(
    tokens: ProviderTokens, provider: FakeProvider, claims: dict[str, Any]
) -> None:
    with pytest.raises(NotValid):
        tokens.id_token(provider.key.sign(**{"nonce": "n", **claims}), nonce="n")


def test_an_id_token_for_several_audiences_names_the_one_it_was_made_for(
    tokens: ProviderTokens, provider: FakeProvider
) -> None:
    assert tokens.id_token(provider.key.sign(nonce="n", aud=[CLIENT_ID, "another"], azp=CLIENT_ID), nonce="n")


@pytest.mark.parametrize("token", ["", "a.b.c", "é", "e30.e30.e30"])
def test_what_is_no_id_token_is_refused(tokens: ProviderTokens, token: str) -> None:
    with pytest.raises((NotValid, UnknownKey)):
        tokens.id_token(token, nonce="n")


def test_an_id_token_of_an_unknown_key_says_so(tokens: ProviderTokens) -> None:
    with pytest.raises(UnknownKey):
        tokens.id_token(ProviderKey(kid="new").sign(nonce="n"), nonce="n")


def test_an_id_token_signed_by_somebody_else_is_refused(tokens: ProviderTokens) -> None:
    with pytest.raises(NotValid):
        tokens.id_token(ProviderKey().sign(nonce="n"), nonce="n")


def test_the_access_token_that_comes_along_tells_about_the_same_person(
    tokens: ProviderTokens, provider: FakeProvider
) -> None:
    assert tokens.access_token(provider.key.sign(aud=None, x=1), subject="alice")["x"] == 1
    assert tokens.access_token(provider.key.sign(aud="account"), subject="alice")
    with pytest.raises(NotValid):
        tokens.access_token(provider.key.sign(sub="bob"), subject="alice")


def test_an_access_token_that_is_no_jwt_of_the_provider_tells_nothing(tokens: ProviderTokens) -> None:
    for token in ("", "opaque", "a.b.c", "é.é.é", ProviderKey(kid="new").sign(iss="https://another.test")):
        assert tokens.access_token(token, subject="alice") == {}


def test_an_access_token_that_says_so_must_be_the_providers(tokens: ProviderTokens) -> None:
    with pytest.raises(NotValid):
        tokens.access_token(ProviderKey().sign(), subject="alice")
    with pytest.raises(UnknownKey):
        tokens.access_token(ProviderKey(kid="new").sign(), subject="alice")


# --- where a sign-in returns to

ALLOWED = ("https://good.example", "http://localhost:3000", "https://app.example:8443")


@pytest.mark.parametrize(
    "url",
    [
        "https://good.example", "https://good.example/", "https://good.example/cb?x=1&y=https://evil",
        "https://good.example:443/cb", "HTTPS://GOOD.example/cb", "http://localhost:3000/a/b",
        "https://app.example:8443/x@y",
    ],
)  # fmt: skip
def test_an_address_of_an_allowed_origin_is_returned_to(url: str) -> None:
    assert allowed_redirect(url, ALLOWED) == url


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example", "http://good.example", "https://good.example:444", "https://good.example.evil",
        "https://good.example@evil.example", "https://user:pass@good.example", "https://@good.example",
        "https://good.example\\@evil.example", "https:\\\\good.example", "https:/good.example", "https:good.example",
        "//good.example", "/cb", "good.example", "javascript:alert(1)//https://good.example", "data:text/html,x",
        "https://good.example#x", "https://good.example/#", "https://good.example/\tx", "https://good.example/\n",
        " https://good.example", "https://good.example /", "https://good。example", "https://g\u043e\u043ed.example",
        "https://good.example.", "https://good%2eexample", "https://good.example:x", "https://good.example:99999",
        "https://[good.example]", "https://localhost:3000", "http://localhost", "http://localhost:30000", "*", "null",
        "ftp://good.example", 'https://good.example/"', "https://good.example/<x>", "https://evil.example?https://good.example",
    ],
    ids=repr,
)  # fmt: skip
def test_any_other_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        allowed_redirect(url, ALLOWED)
    assert (error.value.code, error.value.param) == ("invalid_redirect_url", "redirect_url")


def test_without_an_address_the_first_allowed_origin_is_returned_to() -> None:
    assert allowed_redirect("", ALLOWED) == "https://good.example"
    assert allowed_redirect("", ("*", "http://localhost:3000")) == "http://localhost:3000"


@pytest.mark.parametrize("url", ["", "https://anywhere.example", "*"])
def test_all_origins_may_call_the_api_but_tokens_are_not_sent_to_all(url: str) -> None:
    with pytest.raises(InvalidRequest):
        allowed_redirect(url, ("*",))


# --- settings and the realm for Keycloak


def test_the_realm_for_keycloak_fits_the_settings_and_holds_no_secret() -> None:
    realm = orjson.loads((ROOT / "deploy/keycloak/jan-realm.json").read_bytes())
    (client,) = realm["clients"]
    (mapper,) = client["protocolMappers"]
    assert client["secret"] == "${JAN_CLIENT_SECRET}"
    assert client["redirectUris"] == ["${JAN_PUBLIC_URL}/auth/callback"]
    assert (client["standardFlowEnabled"], client["attributes"]) == (True, {"pkce.code.challenge.method": "S256"})
    assert mapper["config"]["included.client.audience"] == client["clientId"] == "jan-server"
    assert [role["name"] for role in realm["roles"]["realm"]] == [Settings().oidc_admin_role]


def test_production_needs_a_provider_with_https() -> None:
    settings = {
        "ENVIRONMENT": "production",
        "PUBLIC_BASE_URL": "https://ai.example.com",
        "OIDC_ISSUER_URL": "http://id.example.com",
        "OIDC_CLIENT_ID": "jan",
    }
    with pytest.raises(ConfigError, match="https://"):
        load(settings)
    assert load({**settings, "ENVIRONMENT": "development"}).oidc_issuer_url == "http://id.example.com"


def test_the_provider_is_another_server() -> None:
    url = "https://ai.example.com"
    with pytest.raises(ConfigError, match="another server"):
        load({"PUBLIC_BASE_URL": url, "OIDC_ISSUER_URL": url, "OIDC_CLIENT_ID": "jan"})


def test_the_issuer_is_taken_to_the_letter() -> None:
    settings = load({"OIDC_ISSUER_URL": "https://id.example.com/", "OIDC_CLIENT_ID": "jan"})
    assert settings.oidc_issuer_url == "https://id.example.com/"
