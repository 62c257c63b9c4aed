"""KeyService against a real PostgreSQL."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
import pytest_asyncio
from google.protobuf import json_format
from grpc import StatusCode
from jan.auth.v1 import api_keys_pb2, api_keys_pb2_grpc

from services.auth.api_key_store import digest
from services.auth.signing import KeyRing
from services.auth.tokens import TokenIssuer
from services.runtime.db import Database
from services.runtime.identity import EXTERNAL_JWKS, external_user_id
from tests.grpc.keys import Account, admin, check, create, guest, passed_on, revoke
from tests.grpc.rig import SECONDS, Rig, details, running


@pytest_asyncio.fixture
async def rig(tmp_path: Path, database_url: str) -> AsyncIterator[Rig]:
    async with running(tmp_path, "auth", database_url=database_url) as rig:
        yield rig


@pytest_asyncio.fixture
async def owner(rig: Rig) -> Account:
    return await guest(rig)


@pytest_asyncio.fixture
async def boss(rig: Rig, database: Database) -> Account:
    return await admin(rig, database)


@pytest.fixture
def keys(rig: Rig) -> Any:
    return api_keys_pb2_grpc.KeyServiceStub(rig.channel)


async def refused(call: Any) -> tuple[StatusCode, str, str]:
    """Code, reason and parameter of the refusal."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    info: Any = details(error.value)["ErrorInfo"]
    return error.value.code(), info.reason, info.metadata.get("param", "")


def plain(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


async def listed(rig: Rig, account: Account, **wanted: Any) -> Any:
    stub: Any = api_keys_pb2_grpc.KeyServiceStub(rig.channel)
    request = api_keys_pb2.ListApiKeysRequest(**wanted)
    return await stub.ListApiKeys(request, metadata=account.signed_in, timeout=SECONDS)


def days_from_now(time: str) -> float:
    return (datetime.fromisoformat(time) - datetime.now(UTC)) / timedelta(days=1)


# Making


async def test_a_key_is_shown_with_its_secret_once(rig: Rig, owner: Account) -> None:
    made = plain(await create(rig, owner, name="  CI  "))
    times = {name: made.pop(name) for name in ("created_at", "expires_at")}
    key_id, secret = made.pop("id"), made.pop("key")
    assert re.fullmatch(r"key_[0-9a-z]{26}", key_id)
    assert re.fullmatch(r"sk_live_[0-9a-f]{48}", secret)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time) for time in times.values())
    assert made == {
        "object": "api_key",
        "name": "CI",
        "prefix": "sk_live",
        "suffix": secret[-4:],
        "scopes": ["read", "write"],
        "status": "active",
        "is_active": True,
    }
    (again,) = (await listed(rig, owner)).data
    assert plain(again) == made | times | {"id": key_id}


async def test_only_the_digest_of_a_secret_is_stored(rig: Rig, owner: Account, database: Database) -> None:
    made = await create(rig, owner)
    (row,) = await database.fetch("SELECT * FROM api_keys")
    assert row["secret_hash"] == digest(made.key)
    assert made.key not in str(dict(row))


async def test_making_a_key_is_201_for_the_gateway(keys: Any, owner: Account) -> None:
    request = api_keys_pb2.CreateApiKeyRequest(name="a")
    call = keys.CreateApiKey(request, metadata=owner.signed_in, timeout=SECONDS)
    assert dict(await call.initial_metadata())["x-http-status"] == "201"


@pytest.mark.parametrize("name", ["", "   ", "x" * 121, "a\0b"])
async def test_a_key_needs_a_name_of_a_length(rig: Rig, owner: Account, name: str) -> None:
    assert await refused(create(rig, owner, name=name)) == (
        StatusCode.INVALID_ARGUMENT,
        "INVALID_PARAMETER",
        "name",
    )


@pytest.mark.parametrize("days", [-1, 0, 366])
async def test_a_key_lives_between_a_day_and_a_year(rig: Rig, owner: Account, days: int) -> None:
    assert await refused(create(rig, owner, expires_in_days=days)) == (
        StatusCode.INVALID_ARGUMENT,
        "INVALID_PARAMETER",
        "expires_in_days",
    )


async def test_a_key_lives_as_long_as_asked_or_90_days(rig: Rig, owner: Account) -> None:
    assert round(days_from_now((await create(rig, owner)).expires_at)) == 90
    assert round(days_from_now((await create(rig, owner, expires_in_days=365)).expires_at)) == 365


async def test_an_operator_may_shorten_the_life_of_keys(tmp_path: Path, database_url: str) -> None:
    day = 86400.0
    async with running(tmp_path, "auth", database_url=database_url, api_key_max_ttl=7 * day) as rig:
        owner = await guest(rig)
        assert round(days_from_now((await create(rig, owner)).expires_at)) == 7
        said = await refused(create(rig, owner, expires_in_days=8))
        assert said == (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER", "expires_in_days")


@pytest.mark.parametrize("scopes", [["sudo"], ["read", "read"], ["READ"], [""]])
async def test_scopes_that_do_not_exist_are_refused(rig: Rig, owner: Account, scopes: list[str]) -> None:
    code, reason, param = await refused(create(rig, owner, scopes=scopes))
    assert (code, reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER")
    assert param.startswith("scopes")


async def test_scopes_are_listed_in_one_order(rig: Rig, boss: Account) -> None:
    assert list((await create(rig, boss, scopes=["admin", "write", "read"])).scopes) == ["read", "write", "admin"]
    assert list((await create(rig, boss, scopes=["admin"])).scopes) == ["admin"]


async def test_the_scope_admin_is_for_administrators(rig: Rig, owner: Account) -> None:
    said = await refused(create(rig, owner, scopes=["read", "admin"]))
    assert said == (StatusCode.PERMISSION_DENIED, "FORBIDDEN", "")


async def test_an_account_may_have_five_active_keys(rig: Rig, owner: Account, database: Database) -> None:
    made = [await create(rig, owner) for _ in range(5)]
    full = (StatusCode.INVALID_ARGUMENT, "API_KEY_LIMIT_EXCEEDED", "")
    assert await refused(create(rig, owner)) == full
    await revoke(rig, owner, made[0].id)
    await create(rig, owner)
    assert await refused(create(rig, owner)) == full
    await database.execute("UPDATE api_keys SET expires_at = now() WHERE id = $1", made[1].id)
    await create(rig, owner)
    assert await refused(create(rig, owner)) == full
    await create(rig, await guest(rig))  # a limit of each


async def test_the_limit_holds_when_many_are_made_at_once(rig: Rig, owner: Account) -> None:
    results = await asyncio.gather(*(create(rig, owner) for _ in range(20)), return_exceptions=True)
    assert sum(not isinstance(each, BaseException) for each in results) == 5
    assert (await listed(rig, owner)).total_count == 5


async def test_an_account_that_is_gone_makes_no_keys(rig: Rig, owner: Account, database: Database) -> None:
    await database.execute("DELETE FROM users WHERE id = $1", owner.user_id)
    assert (await refused(create(rig, owner)))[0] == StatusCode.UNAUTHENTICATED


# Listing


async def test_keys_are_listed_newest_first_page_by_page(rig: Rig, owner: Account) -> None:
    made = [(await create(rig, owner, name=str(n))).id for n in range(5)]
    first = await listed(rig, owner, limit=2)
    assert [key.id for key in first.data] == [made[4], made[3]]
    assert (first.object, first.has_more, first.total_count) == ("list", True, 5)
    assert (first.first_id, first.last_id, first.next_after) == (made[4], made[3], made[3])
    rest = await listed(rig, owner, limit=5, after=first.next_after)
    assert ([key.id for key in rest.data], rest.has_more) == ([made[2], made[1], made[0]], False)
    assert not rest.HasField("next_after")
    assert [key.id for key in (await listed(rig, owner, order="asc")).data] == made
    assert [key.id for key in (await listed(rig, owner, offset=4)).data] == [made[0]]


async def test_a_foreign_cursor_is_none(rig: Rig, owner: Account) -> None:
    made = await create(rig, owner)
    said = await refused(listed(rig, await guest(rig), after=made.id))
    assert said == (StatusCode.INVALID_ARGUMENT, "INVALID_CURSOR", "after")


async def test_revoked_and_expired_keys_stay_in_the_list(rig: Rig, owner: Account, database: Database) -> None:
    expired, revoked = [(await create(rig, owner)).id for _ in range(2)]
    await database.execute("UPDATE api_keys SET expires_at = now() WHERE id = $1", expired)
    await revoke(rig, owner, revoked)
    found = {key.id: key for key in (await listed(rig, owner)).data}
    assert (found[expired].status, found[expired].is_active) == ("expired", False)
    assert (found[revoked].status, found[revoked].is_active) == ("revoked", False)
    assert abs(days_from_now(found[revoked].revoked_at)) < 0.01
    assert not found[expired].HasField("revoked_at")


# Changing


async def test_revoking_again_succeeds_and_is_204(keys: Any, rig: Rig, owner: Account) -> None:
    made = await create(rig, owner)
    times = []
    for _ in range(2):
        call = keys.RevokeApiKey(
            api_keys_pb2.RevokeApiKeyRequest(id=made.id), metadata=owner.signed_in, timeout=SECONDS
        )
        assert dict(await call.initial_metadata())["x-http-status"] == "204"
        times.append((await listed(rig, owner)).data[0].revoked_at)
    assert times[0] == times[1]


@pytest.mark.parametrize("key_id", ["key_01k9x4zz01k9x4zz01k9x4zz01", "", "nonsense", "key_\0", "x" * 10_000])
async def test_a_key_that_does_not_exist_is_not_found(keys: Any, rig: Rig, owner: Account, key_id: str) -> None:
    missing = (StatusCode.NOT_FOUND, "NOT_FOUND", "")
    request = api_keys_pb2.UpdateApiKeyRequest(id=key_id, name="b")
    assert await refused(revoke(rig, owner, key_id)) == missing
    assert await refused(keys.UpdateApiKey(request, metadata=owner.signed_in, timeout=SECONDS)) == missing


async def test_the_key_of_somebody_else_is_not_found(keys: Any, rig: Rig, owner: Account) -> None:
    made, other = await create(rig, owner), await guest(rig)
    missing = (StatusCode.NOT_FOUND, "NOT_FOUND", "")
    request = api_keys_pb2.UpdateApiKeyRequest(id=made.id, name="mine now")
    assert await refused(revoke(rig, other, made.id)) == missing
    assert await refused(keys.UpdateApiKey(request, metadata=other.signed_in, timeout=SECONDS)) == missing
    assert (await listed(rig, other)).total_count == 0
    (kept,) = (await listed(rig, owner)).data
    assert (kept.name, kept.is_active) == ("a key", True)


async def test_a_key_can_be_renamed_and_narrowed(keys: Any, rig: Rig, owner: Account) -> None:
    made = await create(rig, owner)

    async def update(**change: Any) -> dict[str, Any]:
        request = api_keys_pb2.UpdateApiKeyRequest(id=made.id, **change)
        return plain((await keys.UpdateApiKey(request, metadata=owner.signed_in, timeout=SECONDS)).data)

    renamed = await update(name=" other ")
    assert (renamed["name"], renamed["scopes"]) == ("other", ["read", "write"])
    narrowed = await update(scopes=["read"])
    assert (narrowed["name"], narrowed["scopes"]) == ("other", ["read"])
    assert "key" not in narrowed
    wider = (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER", "scopes")
    assert await refused(update(scopes=["read", "write"])) == wider
    assert await refused(update(name=" ")) == (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER", "name")


async def test_a_key_does_not_manage_keys(rig: Rig, owner: Account) -> None:
    token = passed_on(await check(rig, x_api_key=(await create(rig, owner)).key))
    as_key = Account(owner.user_id, token)
    denied = (StatusCode.PERMISSION_DENIED, "FORBIDDEN", "")
    assert await refused(create(rig, as_key)) == denied
    assert await refused(listed(rig, as_key)) == denied


async def test_strangers_have_no_keys(keys: Any) -> None:
    said = await refused(keys.ListApiKeys(api_keys_pb2.ListApiKeysRequest(), timeout=SECONDS))
    assert said == (StatusCode.UNAUTHENTICATED, "UNAUTHORIZED", "")


# Administration


async def test_administrators_see_the_keys_of_all(keys: Any, rig: Rig, owner: Account, boss: Account) -> None:
    theirs, own = await create(rig, owner), await create(rig, boss)

    async def everybodys(**wanted: Any) -> Any:
        request = api_keys_pb2.AdminListApiKeysRequest(**wanted)
        return await keys.AdminListApiKeys(request, metadata=boss.signed_in, timeout=SECONDS)

    found = await everybodys()
    assert [(key.id, key.user_id) for key in found.data] == [(own.id, boss.user_id), (theirs.id, owner.user_id)]
    only = await everybodys(user_id=owner.user_id)
    assert ([key.id for key in only.data], only.total_count) == ([theirs.id], 1)
    assert (await everybodys(user_id="usr_nobody")).total_count == 0
    said = await refused(everybodys(user_id="a\0"))
    assert said == (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER", "user_id")


async def test_an_administrator_sets_the_limits_of_a_key(keys: Any, rig: Rig, owner: Account, boss: Account) -> None:
    made = await create(rig, owner)

    async def update(**change: Any) -> dict[str, Any]:
        request = api_keys_pb2.AdminUpdateApiKeyRequest(id=made.id, **change)
        answer = plain((await keys.AdminUpdateApiKey(request, metadata=boss.signed_in, timeout=SECONDS)).data)
        return {name: answer.get(name) for name in ("tier", "requests_per_minute", "requests_per_day", "status")}

    assert await update(tier="pro", requests_per_minute=7, requests_per_day=70) == {
        "tier": "pro",
        "requests_per_minute": 7,
        "requests_per_day": 70,
        "status": "active",
    }
    assert await update(requests_per_minute=0, revoked=False) == {
        "tier": "pro",
        "requests_per_minute": None,
        "requests_per_day": 70,
        "status": "active",
    }
    assert (await update(revoked=True))["status"] == "revoked"
    assert (await update(revoked=False))["status"] == "revoked"
    bad = (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER")
    assert await refused(update(tier="gold")) == (*bad, "tier")
    assert await refused(update(requests_per_day=-1)) == (*bad, "requests_per_day")
    assert await refused(update(requests_per_minute=60_001)) == (*bad, "requests_per_minute")


async def test_only_administrators_administer(keys: Any, rig: Rig, owner: Account) -> None:
    made = await create(rig, owner)
    denied = (StatusCode.PERMISSION_DENIED, "ADMIN_REQUIRED", "")
    listing, update = api_keys_pb2.AdminListApiKeysRequest(), api_keys_pb2.AdminUpdateApiKeyRequest(id=made.id)
    assert await refused(keys.AdminListApiKeys(listing, metadata=owner.signed_in, timeout=SECONDS)) == denied
    assert await refused(keys.AdminUpdateApiKey(update, metadata=owner.signed_in, timeout=SECONDS)) == denied


async def test_an_unknown_key_is_not_found_by_administrators_either(keys: Any, boss: Account) -> None:
    request = api_keys_pb2.AdminUpdateApiKeyRequest(id="key_01k9x4zz01k9x4zz01k9x4zz01", revoked=True)
    said = await refused(keys.AdminUpdateApiKey(request, metadata=boss.signed_in, timeout=SECONDS))
    assert said == (StatusCode.NOT_FOUND, "NOT_FOUND", "")


async def test_the_tier_of_keys_without_one_is_configured(tmp_path: Path, database_url: str) -> None:
    async with running(tmp_path, "auth", database_url=database_url, rate_limit_default_tier="free") as rig:
        assert (await create(rig, await guest(rig))).tier == "free"


# People of an external provider

ISSUER = "https://id.example.com"


async def test_a_person_of_an_external_provider_gets_an_account_with_her_first_key(
    tmp_path: Path, database_url: str, database: Database
) -> None:
    ring = KeyRing(tmp_path / "provider", "ES256")
    ring.prepare()
    issuer = TokenIssuer(ring, issuer=ISSUER, audience="our-id")
    row = {"id": "ada", "username": "ada", "is_guest": False, "roles": []}
    settings = {"oidc_issuer_url": ISSUER, "oidc_client_id": "our-id", "jwks_refresh_interval": 1e9}
    (tmp_path / "keys").mkdir()
    published = {"issuer": ISSUER, "keys": ring.public()}
    (tmp_path / "keys" / EXTERNAL_JWKS).write_text(json.dumps(published))
    async with running(tmp_path, "auth", database_url=database_url, **settings) as rig:
        ada = Account(external_user_id(ISSUER, "ada"), issuer.access_token(row, "").text)
        made = await create(rig, ada)
        claims = jwt.decode(passed_on(await check(rig, x_api_key=made.key)), options={"verify_signature": False})
        assert (claims["sub"], claims["iss"], claims["sid"]) == (ada.user_id, rig.settings.issuer, made.id)
        assert claims["roles"] == ["user"]
        beside = await check(rig, authorization=f"Bearer {ada.token}", x_api_key=made.key)
        assert passed_on(beside) == ada.token
        assert (await listed(rig, ada)).total_count == 1
