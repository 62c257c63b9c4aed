"""AuthService against a real PostgreSQL: guests, who one is, and what verifiers of tokens are told."""

import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import json_format
from grpc import StatusCode
from jan.auth.v1 import auth_pb2, auth_pb2_grpc

from services.auth.signing import KeyRing
from services.auth.store import AccountStore
from services.auth.tokens import TokenIssuer, digest
from services.runtime.db import Database
from services.runtime.identity import EXTERNAL_JWKS, External, Identity, external_user_id
from services.runtime.limits import Limit
from tests.grpc.people import account, bearer, claims, guest, me, refusal, revoke, until_refused
from tests.grpc.rig import SECONDS, Rig, running

ISSUER = "https://login.example.com"


@pytest_asyncio.fixture
async def rig(tmp_path: Path, database_url: str) -> AsyncIterator[Rig]:
    async with running(tmp_path, "auth", database_url=database_url) as rig:
        yield rig


@pytest.fixture
def auth(rig: Rig) -> Any:
    return auth_pb2_grpc.AuthServiceStub(rig.channel)


# Guests


async def test_a_guest_gets_tokens_and_a_name(auth: Any) -> None:
    answer = json_format.MessageToDict(await guest(auth), preserving_proto_field_name=True)
    assert answer.pop("access_token").count(".") == 2
    assert answer.pop("refresh_token").startswith("rt_")
    user_id = answer.pop("user_id")
    assert re.fullmatch(r"usr_[0-9a-z]{26}", user_id)
    assert answer == {
        "token_type": "Bearer",
        "expires_in": 300,
        "refresh_expires_in": 720 * 3600,
        "principal_id": user_id,
        "username": f"guest-{user_id[-8:]}",
    }


async def test_a_guest_login_is_201_for_the_gateway(auth: Any) -> None:
    call = auth.GuestLogin(auth_pb2.GuestLoginRequest(), timeout=SECONDS)
    assert dict(await call.initial_metadata())["x-http-status"] == "201"


async def test_two_guests_are_two_accounts(auth: Any) -> None:
    one, two = [await guest(auth) for _ in range(2)]
    assert one.user_id != two.user_id
    assert one.refresh_token != two.refresh_token


async def test_only_the_digest_of_a_refresh_token_is_stored(auth: Any, database: Database) -> None:
    tokens = await guest(auth)
    (row,) = await database.fetch("SELECT token_hash, session_id FROM refresh_tokens")
    assert (row["token_hash"], row["session_id"]) == (digest(tokens.refresh_token), claims(tokens.access_token)["sid"])


async def test_guests_can_be_switched_off(tmp_path: Path, database_url: str) -> None:
    async with running(tmp_path / "off", "auth", database_url=database_url, auth_guest_enabled=False) as rig:
        auth = auth_pb2_grpc.AuthServiceStub(rig.channel)
        assert await refusal(guest(auth)) == (StatusCode.PERMISSION_DENIED, "forbidden")


# Who one is


async def test_a_guest_s_token_tells_who_it_is(auth: Any) -> None:
    tokens = await guest(auth)
    metadata = (*bearer(tokens.access_token), ("x-request-id", "my-id"))
    answer = json_format.MessageToDict(
        await auth.GetMe(auth_pb2.GetMeRequest(), metadata=metadata, timeout=SECONDS), preserving_proto_field_name=True
    )
    assert answer["data"].pop("created_at") > 1_700_000_000
    assert answer == {
        "data": {
            "id": tokens.user_id,
            "object": "user",
            "username": tokens.username,
            "is_guest": True,
            "roles": ["guest"],
            "auth_method": "jwt",
            "scopes": ["read", "write"],
        },
        "meta": {"request_id": "my-id"},
    }


async def test_an_api_key_s_token_tells_its_owner_and_what_it_may_do(auth: Any, tmp_path: Path) -> None:
    tokens = await account(auth)
    keys = KeyRing(tmp_path / "keys", "ES256")
    keys.prepare()
    owner = {"id": tokens.user_id, "username": "ada", "is_guest": False, "roles": ["user"]}
    issuer = TokenIssuer(keys, issuer="http://localhost:8000", audience="jan-server")
    seen = await me(auth, issuer.key_token(owner, "key_1", ["read"], Limit(100)))
    assert (seen.id, seen.email, seen.auth_method, list(seen.scopes)) == (
        tokens.user_id,
        "ada@example.com",
        "api_key",
        ["read"],
    )


async def test_who_one_is_needs_a_token(auth: Any) -> None:
    assert await refusal(auth.GetMe(auth_pb2.GetMeRequest(), timeout=SECONDS)) == (
        StatusCode.UNAUTHENTICATED,
        "unauthorized",
    )


async def test_a_token_whose_account_is_gone_is_refused(auth: Any, database: Database) -> None:
    tokens = await guest(auth)
    await database.execute("DELETE FROM users WHERE id = $1", tokens.user_id)
    assert await refusal(me(auth, tokens.access_token)) == (StatusCode.UNAUTHENTICATED, "unauthorized")


# Persons of an external provider


class Elsewhere:
    """An external provider: one key, whose public half the auth room would have fetched."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        jwk = jwt.get_algorithm_by_name("ES256").to_jwk(self._key.public_key(), as_dict=True)
        (folder / "keys").mkdir(exist_ok=True)
        (folder / "keys" / EXTERNAL_JWKS).write_bytes(
            orjson.dumps({"keys": [{**jwk, "kid": "theirs", "use": "sig", "alg": "ES256"}]})
        )

    def token(self, subject: str = "s-1", **more: Any) -> str:
        now = int(time.time())
        said = {"iss": ISSUER, "aud": "jan", "sub": subject, "iat": now, "exp": now + 300, "jti": f"{subject} at {now}"}
        return jwt.encode({**said, **more}, self._key, "ES256", {"kid": "theirs"})


@pytest_asyncio.fixture
async def abroad(tmp_path: Path, database_url: str) -> AsyncIterator[Any]:
    """AuthService of an installation that believes `Elsewhere`."""
    settings = {"oidc_issuer_url": ISSUER, "oidc_client_id": "jan"}
    async with running(tmp_path, "auth", database_url=database_url, **settings) as rig:
        yield auth_pb2_grpc.AuthServiceStub(rig.channel)


@pytest.fixture
def elsewhere(abroad: Any, tmp_path: Path) -> Elsewhere:
    return Elsewhere(tmp_path)


async def test_an_external_person_has_an_account_at_first_use(abroad: Any, elsewhere: Elsewhere) -> None:
    said = {"preferred_username": "lin", "email": "lin@example.com", "name": "Lin Chen"}
    seen = await me(abroad, elsewhere.token(**said))
    assert (seen.id, seen.username, seen.email, seen.full_name) == (
        external_user_id(ISSUER, "s-1"),
        "lin",
        "lin@example.com",
        "Lin Chen",
    )
    assert (seen.is_guest, seen.is_admin, list(seen.roles), seen.auth_method) == (False, False, ["user"], "jwt")
    assert (await me(abroad, elsewhere.token(**said))) == seen


async def test_two_external_persons_are_two_accounts(abroad: Any, elsewhere: Elsewhere) -> None:
    one, two = [await me(abroad, elsewhere.token(subject)) for subject in ("s-1", "s-2")]
    assert one.id != two.id


async def test_the_provider_s_administrator_is_ours(abroad: Any, elsewhere: Elsewhere) -> None:
    seen = await me(abroad, elsewhere.token(realm_access={"roles": ["admin"]}))
    assert (seen.is_admin, list(seen.scopes)) == (True, ["read", "write", "admin"])
    assert not (await me(abroad, elsewhere.token(realm_access={"roles": []}))).is_admin


async def test_an_external_person_does_not_get_an_account_by_its_mail_address(
    abroad: Any, elsewhere: Elsewhere
) -> None:
    ours = await account(abroad)
    theirs = await me(abroad, elsewhere.token(email="ADA@example.com"))
    assert (theirs.id != ours.user_id, theirs.email) == (True, "")
    assert (await me(abroad, ours.access_token)).email == "ada@example.com"


async def test_an_external_person_has_no_password_here(abroad: Any, elsewhere: Elsewhere) -> None:
    request = auth_pb2.SetPasswordRequest(new_password="a password of ours")
    for _ in range(2):
        call = abroad.SetPassword(request, metadata=bearer(elsewhere.token()), timeout=SECONDS)
        assert await refusal(call) == (StatusCode.PERMISSION_DENIED, "forbidden")
        await me(abroad, elsewhere.token())


async def test_an_external_token_can_be_revoked_and_logged_out(abroad: Any, elsewhere: Elsewhere) -> None:
    first, second, third = [elsewhere.token(jti=each) for each in ("one", "two", "three")]
    await revoke(abroad, first)
    await abroad.Logout(auth_pb2.LogoutRequest(), metadata=bearer(second), timeout=SECONDS)
    await until_refused(abroad, first)
    await until_refused(abroad, second)
    assert (await me(abroad, third)).username == "s-1"


async def test_what_a_later_token_does_not_say_about_a_person_stays(database: Database) -> None:
    person = Identity(
        user_id="usr_ext",
        username="lin",
        roles=("user",),
        is_guest=False,
        auth_method="jwt",
        scopes=("read", "write"),
        expires_at=4e9,
        token="",
        external=External(ISSUER, "s-1", "lin@example.com", "Lin Chen"),
    )
    accounts = AccountStore(database)
    first = await accounts.welcome(person)
    terse = replace(person, username="s-1", external=External(ISSUER, "s-1", "", ""))
    assert await accounts.welcome(terse) == first
    renamed = replace(person, username="lin.chen", external=External(ISSUER, "s-1", "chen@example.com", "Chen Lin"))
    row = await accounts.welcome(renamed)
    assert (row["username"], row["email"], row["full_name"]) == ("lin.chen", "chen@example.com", "Chen Lin")


async def test_without_a_provider_nobody_signs_in_elsewhere(auth: Any) -> None:
    expected = (StatusCode.UNIMPLEMENTED, "oidc_not_configured")
    assert await refusal(auth.StartLogin(auth_pb2.StartLoginRequest(), timeout=SECONDS)) == expected
    assert await refusal(auth.CompleteLogin(auth_pb2.CompleteLoginRequest(code="c"), timeout=SECONDS)) == expected


# What verifiers are told


async def test_the_published_keys_verify_a_token(rig: Rig, auth: Any) -> None:
    tokens = await guest(auth)
    keys = await auth.GetJwks(auth_pb2.GetJwksRequest(), timeout=SECONDS)
    public = jwt.PyJWKSet.from_dict(json_format.MessageToDict(keys))
    key = public[jwt.get_unverified_header(tokens.access_token)["kid"]]
    said = jwt.decode(tokens.access_token, key, audience="jan-server", issuer=rig.settings.issuer)
    assert said["sub"] == tokens.user_id


async def test_the_configuration_names_issuer_keys_and_algorithms(tmp_path: Path, database_url: str) -> None:
    settings = {"public_base_url": "https://ai.example.com/", "auth_issuer": "https://id.example.com"}
    async with running(tmp_path / "named", "auth", database_url=database_url, **settings) as rig:
        auth = auth_pb2_grpc.AuthServiceStub(rig.channel)
        said = await auth.GetOpenidConfiguration(auth_pb2.GetOpenidConfigurationRequest(), timeout=SECONDS)
    assert json_format.MessageToDict(said, preserving_proto_field_name=True) == {
        "issuer": "https://id.example.com",
        "jwks_uri": "https://ai.example.com/.well-known/jwks.json",
        "id_token_signing_alg_values_supported": ["ES256"],
        "subject_types_supported": ["public"],
    }
