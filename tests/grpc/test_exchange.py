"""The exchange of API keys, as the gateway asks for it, against a real PostgreSQL."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from jan.auth.v1 import api_keys_pb2, api_keys_pb2_grpc, auth_pb2, auth_pb2_grpc, gateway_pb2

from services.auth.api_key_store import new_secret
from services.auth.guesses import MOST
from services.runtime import db
from services.runtime.db import Database
from services.runtime.limits import BUCKET
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
async def key(rig: Rig, owner: Account) -> api_keys_pb2.ApiKey:
    return await create(rig, owner)


def claims_of(answer: gateway_pb2.CheckResponse) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(passed_on(answer), options={"verify_signature": False})
    return claims


def refusal(answer: gateway_pb2.CheckResponse) -> tuple[int, str]:
    """HTTP status and code of a REST answer."""
    assert answer.status.code != 0
    denied = answer.denied_response
    return denied.status.code, json.loads(denied.body)["error"]["code"]


def headers_of(answer: gateway_pb2.CheckResponse) -> dict[str, str]:
    return {each.header.key: each.header.value for each in answer.denied_response.headers}


async def admin_update(rig: Rig, boss: Account, key_id: str, **change: Any) -> None:
    keys: Any = api_keys_pb2_grpc.KeyServiceStub(rig.channel)
    request = api_keys_pb2.AdminUpdateApiKeyRequest(id=key_id, **change)
    await keys.AdminUpdateApiKey(request, metadata=boss.signed_in, timeout=SECONDS)


# The token


async def test_a_key_becomes_a_token_of_its_owner(rig: Rig, owner: Account, key: api_keys_pb2.ApiKey) -> None:
    answer = await check(rig, x_api_key=key.key)
    claims = claims_of(answer)
    assert list(answer.ok_response.headers_to_remove) == ["x-api-key"]
    assert answer.ok_response.headers[0].append_action == 2
    assert claims.pop("exp") - claims["iat"] == 60
    assert claims.pop("iat") == claims.pop("nbf")
    assert claims.pop("jti").startswith("tok_")
    assert claims == {
        "iss": rig.settings.issuer,
        "aud": "jan-server",
        "sub": owner.user_id,
        "sid": key.id,
        "preferred_username": f"guest-{owner.user_id[-8:]}",
        "guest": True,
        "roles": ["guest"],
        "auth_method": "api_key",
        "scopes": ["read", "write"],
        "limit": {"requests_per_unit": 100, "unit": "MINUTE"},
        "hits": str(BUCKET // 100),
    }


async def test_services_believe_the_token(rig: Rig, owner: Account, key: api_keys_pb2.ApiKey) -> None:
    auth: Any = auth_pb2_grpc.AuthServiceStub(rig.channel)
    token = passed_on(await check(rig, x_api_key=key.key))
    me = await auth.GetMe(auth_pb2.GetMeRequest(), metadata=Account("", token).signed_in, timeout=SECONDS)
    assert (me.data.id, me.data.auth_method, list(me.data.scopes)) == (owner.user_id, "api_key", ["read", "write"])


async def test_the_same_token_is_handed_out_again(rig: Rig, key: api_keys_pb2.ApiKey) -> None:
    first, second = [passed_on(await check(rig, x_api_key=key.key)) for _ in range(2)]
    assert first == second


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_a_key_may_come_as_a_bearer_token(rig: Rig, key: api_keys_pb2.ApiKey, scheme: str) -> None:
    assert claims_of(await check(rig, authorization=f"{scheme} {key.key}"))["sid"] == key.id


async def test_the_limits_of_a_key_are_in_its_token(rig: Rig, database: Database, key: api_keys_pb2.ApiKey) -> None:
    boss = await admin(rig, database)
    await admin_update(rig, boss, key.id, tier="pro")
    assert claims_of(await check(rig, x_api_key=key.key))["limit"]["requests_per_unit"] == 60
    await admin_update(rig, boss, key.id, requests_per_minute=7)
    claims = claims_of(await check(rig, x_api_key=key.key))
    assert (claims["limit"]["requests_per_unit"], claims["hits"]) == (7, str(BUCKET // 7))


async def test_a_key_is_never_above_its_owner(rig: Rig, database: Database) -> None:
    boss = await admin(rig, database)
    full = await create(rig, boss, scopes=["read", "admin"])
    only = await create(rig, boss, scopes=["admin"])
    claims = claims_of(await check(rig, x_api_key=full.key))
    assert (claims["roles"], claims["scopes"]) == (["user", "admin"], ["read", "admin"])
    await database.execute("UPDATE users SET roles = '{user}' WHERE id = $1", boss.user_id)
    async with running(rig.settings.data_dir, "auth", database_url=rig.settings.database_url) as another:
        claims = claims_of(await check(another, x_api_key=full.key))
        assert (claims["roles"], claims["scopes"]) == (["user"], ["read"])
        token = passed_on(await check(another, x_api_key=only.key))
        auth: Any = auth_pb2_grpc.AuthServiceStub(another.channel)
        with pytest.raises(grpc.aio.AioRpcError) as error:  # no scope left is none, not all
            await auth.GetMe(auth_pb2.GetMeRequest(), metadata=Account("", token).signed_in, timeout=SECONDS)
    info: Any = details(error.value)["ErrorInfo"]
    assert (error.value.code(), info.reason) == (StatusCode.PERMISSION_DENIED, "INSUFFICIENT_SCOPE")


# Refusals


async def test_a_refusal_is_the_finished_answer(rig: Rig) -> None:
    answer = await check(rig, x_api_key=new_secret("sk_live").text)
    assert answer.status.code == StatusCode.UNAUTHENTICATED.value[0]
    assert answer.denied_response.status.code == 401
    assert headers_of(answer) == {"content-type": "application/json", "www-authenticate": "Bearer"}
    assert json.loads(answer.denied_response.body) == {
        "error": {
            "type": "auth_error",
            "code": "unauthorized",
            "message": "The API key is not valid: it is unknown, revoked or expired",
            "param": None,
            "request_id": "req_test",
        }
    }


async def test_a_native_call_is_refused_with_a_grpc_status(rig: Rig) -> None:
    answer = await check(rig, x_api_key="sk_live_nonsense", content_type="application/grpc+proto")
    headers = headers_of(answer)
    packed = base64.b64decode(headers["grpc-status-details-bin"] + "==")
    status, info = status_pb2.Status.FromString(packed), error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    assert answer.denied_response.body == status.message
    assert (headers["x-grpc-status"], status.code, info.reason) == ("16", 16, "UNAUTHORIZED")
    assert "=" not in headers["grpc-status-details-bin"]


async def test_a_revoked_key_is_refused_at_once(rig: Rig, owner: Account, key: api_keys_pb2.ApiKey) -> None:
    passed_on(await check(rig, x_api_key=key.key))
    await revoke(rig, owner, key.id)
    assert refusal(await check(rig, x_api_key=key.key)) == (401, "unauthorized")


async def test_a_key_revoked_elsewhere_is_forgotten(rig: Rig, owner: Account, key: api_keys_pb2.ApiKey) -> None:
    async with running(rig.settings.data_dir, "auth", database_url=rig.settings.database_url) as another:
        passed_on(await check(another, x_api_key=key.key))
        await revoke(rig, owner, key.id)
        while (answer := await check(another, x_api_key=key.key)).status.code == 0:
            pass  # the message is on its way
        assert refusal(answer) == (401, "unauthorized")


async def test_a_token_in_flight_dies_with_its_key(rig: Rig, owner: Account, key: api_keys_pb2.ApiKey) -> None:
    auth: Any = auth_pb2_grpc.AuthServiceStub(rig.channel)
    in_flight = Account("", passed_on(await check(rig, x_api_key=key.key)))

    async def outcome() -> StatusCode:
        call = auth.GetMe(auth_pb2.GetMeRequest(), metadata=in_flight.signed_in, timeout=SECONDS)
        return StatusCode(await call.code())

    assert await outcome() == StatusCode.OK
    await revoke(rig, owner, key.id)
    while (code := await outcome()) == StatusCode.OK:
        pass  # the message is on its way
    assert code == StatusCode.UNAUTHENTICATED


async def test_an_administrator_revokes_at_once_too(rig: Rig, database: Database, key: api_keys_pb2.ApiKey) -> None:
    passed_on(await check(rig, x_api_key=key.key))
    await admin_update(rig, await admin(rig, database), key.id, revoked=True)
    assert refusal(await check(rig, x_api_key=key.key)) == (401, "unauthorized")


async def test_narrowed_scopes_hold_at_once(rig: Rig, owner: Account, key: api_keys_pb2.ApiKey) -> None:
    assert claims_of(await check(rig, x_api_key=key.key))["scopes"] == ["read", "write"]
    keys: Any = api_keys_pb2_grpc.KeyServiceStub(rig.channel)
    request = api_keys_pb2.UpdateApiKeyRequest(id=key.id, scopes=["read"])
    await keys.UpdateApiKey(request, metadata=owner.signed_in, timeout=SECONDS)
    assert claims_of(await check(rig, x_api_key=key.key))["scopes"] == ["read"]


async def test_keys_that_are_expired_or_whose_owner_is_gone_are_refused(rig: Rig, database: Database) -> None:
    expired, orphan = await create(rig, await guest(rig)), await create(rig, gone := await guest(rig))
    await database.execute("UPDATE api_keys SET expires_at = now() WHERE id = $1", expired.id)
    await database.execute("DELETE FROM users WHERE id = $1", gone.user_id)
    assert refusal(await check(rig, x_api_key=expired.key)) == (401, "unauthorized")
    assert refusal(await check(rig, x_api_key=orphan.key)) == (401, "unauthorized")


async def test_who_guesses_keys_is_told_to_wait(rig: Rig, key: api_keys_pb2.ApiKey) -> None:
    passed_on(await check(rig, x_api_key=key.key))
    answers = [await check(rig, x_api_key=new_secret("sk_live").text) for _ in range(2 * MOST + 1)]
    assert refusal(answers[0]) == (401, "unauthorized")
    slowed = next(each for each in answers if each.denied_response.status.code == 429)  # the minute may end in between
    assert refusal(slowed) == (429, "rate_limit_exceeded")
    assert 1 <= int(headers_of(slowed)["retry-after"]) <= 60
    passed_on(await check(rig, x_api_key=key.key))
    elsewhere = await check(rig, x_api_key=new_secret("sk_live").text, address="192.0.2.9")
    assert refusal(elsewhere) == (401, "unauthorized")


async def test_without_a_database_a_known_key_works_and_others_are_503(tmp_path: Path, database_url: str) -> None:
    async with running(tmp_path, "auth", database_url=database_url) as rig:
        known, new = [await create(rig, await guest(rig)) for _ in range(2)]
        before = passed_on(await check(rig, x_api_key=known.key))
        await _cut_off(database_url)
        answer = await check(rig, x_api_key=new.key)
        assert (refusal(answer), headers_of(answer)["retry-after"]) == ((503, "service_unavailable"), "1")
        assert passed_on(await check(rig, x_api_key=known.key)) == before


async def _cut_off(database_url: str) -> None:
    """End every connection to a database and let nobody in again."""
    name = database_url.partition("@/")[2].partition("?")[0]
    maintenance = await db.connect(database_url.replace(f"/{name}?", "/postgres?").replace("//jan@", "//postgres@"))
    await maintenance.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    await maintenance.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    await maintenance.close()


# Two credentials


async def test_beside_a_token_of_its_owner_a_key_does_not_count(
    rig: Rig, owner: Account, key: api_keys_pb2.ApiKey, database: Database
) -> None:
    answer = await check(rig, authorization=f"Bearer {owner.token}", x_api_key=key.key)
    assert passed_on(answer) == owner.token
    assert list(answer.ok_response.headers_to_remove) == ["x-api-key"]


async def test_a_token_and_a_key_of_different_users_contradict_each_other(rig: Rig, key: api_keys_pb2.ApiKey) -> None:
    other = await guest(rig)
    answer = await check(rig, authorization=f"Bearer {other.token}", x_api_key=key.key)
    assert refusal(answer) == (401, "conflicting_credentials")


async def test_one_of_two_that_is_not_valid_is_enough(rig: Rig, owner: Account, key: api_keys_pb2.ApiKey) -> None:
    bad_token = await check(rig, authorization="Bearer e.y.J", x_api_key=key.key)
    no_token = await check(rig, authorization="Basic dXNlcjpwYXNz", x_api_key=key.key)
    empty = await check(rig, authorization="Bearer", x_api_key=key.key)
    bad_key = await check(rig, authorization=f"Bearer {owner.token}", x_api_key="sk_live_bad")
    no_key = await check(rig, authorization=f"Bearer {owner.token}", x_api_key="hello")
    for answer in (bad_token, no_token, empty, bad_key, no_key):
        assert refusal(answer) == (401, "unauthorized")


async def test_a_revoked_token_beside_a_key_is_refused(rig: Rig, owner: Account, key: api_keys_pb2.ApiKey) -> None:
    auth: Any = auth_pb2_grpc.AuthServiceStub(rig.channel)
    await auth.RevokeToken(auth_pb2.RevokeTokenRequest(token=owner.token), timeout=SECONDS)
    while (answer := await check(rig, authorization=f"Bearer {owner.token}", x_api_key=key.key)).status.code == 0:
        pass  # the message is on its way
    assert refusal(answer) == (401, "unauthorized")


async def test_two_keys_must_be_one(rig: Rig, owner: Account, key: api_keys_pb2.ApiKey) -> None:
    other = await create(rig, owner)
    twice = await check(rig, authorization=f"Bearer {key.key}", x_api_key=key.key)
    assert claims_of(twice)["sid"] == key.id
    both = await check(rig, authorization=f"Bearer {key.key}", x_api_key=other.key)
    assert refusal(both) == (401, "conflicting_credentials")


async def test_without_a_key_there_is_nothing_to_exchange(rig: Rig) -> None:
    assert passed_on(await check(rig, authorization="Bearer e.y.J", x_api_key="")) == "e.y.J"
    assert passed_on(await check(rig, authorization="Bearer e.y.J")) == "e.y.J"


# Quotas


async def used(database: Database, key_id: str) -> Any:
    return await database.fetchval("SELECT requests FROM api_key_usage WHERE key_id = $1", key_id)


async def test_requests_are_counted_and_survive_a_restart(
    tmp_path: Path, database_url: str, database: Database
) -> None:
    async with running(tmp_path, "auth", database_url=database_url, rate_limit_mode="enforce") as rig:
        key = await create(rig, await guest(rig))
        await admin_update(rig, await admin(rig, database), key.id, requests_per_day=3)
        for _ in range(2):
            passed_on(await check(rig, x_api_key=key.key))
    assert await used(database, key.id) == 2
    assert await database.fetchval("SELECT last_used_at > now() - interval '1 minute' FROM api_keys")
    async with running(tmp_path, "auth", database_url=database_url, rate_limit_mode="enforce") as rig:
        passed_on(await check(rig, x_api_key=key.key))
        answer = await check(rig, x_api_key=key.key)
        assert refusal(answer) == (429, "insufficient_quota")
        assert 1 <= int(headers_of(answer)["retry-after"]) <= 86400
        assert headers_of(answer)["x-auth-method"] == "api_key"
    assert await used(database, key.id) == 3  # a refused one does not count


@pytest.mark.parametrize("mode", ["report", "off"])
async def test_a_quota_that_is_not_enforced_only_counts(
    tmp_path: Path, database_url: str, database: Database, mode: str
) -> None:
    async with running(tmp_path, "auth", database_url=database_url, rate_limit_mode=mode) as rig:
        key = await create(rig, await guest(rig))
        await admin_update(rig, await admin(rig, database), key.id, requests_per_day=1)
        for _ in range(3):
            passed_on(await check(rig, x_api_key=key.key))
    assert await used(database, key.id) == 3
