"""AuthService against a real PostgreSQL."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
import pytest_asyncio
from google.protobuf import json_format
from grpc import StatusCode
from jan.auth.v1 import auth_pb2, auth_pb2_grpc

from services.auth.tokens import digest
from services.runtime.db import Database
from tests.grpc.rig import SECONDS, Rig, details, running


@pytest_asyncio.fixture
async def rig(tmp_path: Path, database_url: str) -> AsyncIterator[Rig]:
    async with running(tmp_path, "auth", database_url=database_url) as rig:
        yield rig


@pytest.fixture
def auth(rig: Rig) -> Any:
    return auth_pb2_grpc.AuthServiceStub(rig.channel)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def test_a_guest_gets_tokens_and_a_name(auth: Any) -> None:
    said = await auth.GuestLogin(auth_pb2.GuestLoginRequest(), timeout=SECONDS)
    answer = json_format.MessageToDict(said, preserving_proto_field_name=True)
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


async def test_a_guest_s_token_tells_who_it_is(auth: Any) -> None:
    guest = await auth.GuestLogin(auth_pb2.GuestLoginRequest(), timeout=SECONDS)
    metadata = (*bearer(guest.access_token), ("x-request-id", "my-id"))
    me = await auth.GetMe(auth_pb2.GetMeRequest(), metadata=metadata, timeout=SECONDS)
    answer = json_format.MessageToDict(me, preserving_proto_field_name=True)
    assert answer["data"].pop("created_at") > 1_700_000_000
    assert answer == {
        "data": {
            "id": guest.user_id,
            "object": "user",
            "username": guest.username,
            "is_guest": True,
            "roles": ["guest"],
            "auth_method": "jwt",
            "scopes": ["read", "write"],
        },
        "meta": {"request_id": "my-id"},
    }


async def test_two_guests_are_two_accounts(auth: Any) -> None:
    one, two = [await auth.GuestLogin(auth_pb2.GuestLoginRequest(), timeout=SECONDS) for _ in range(2)]
    assert one.user_id != two.user_id
    assert one.refresh_token != two.refresh_token


async def test_only_the_digest_of_a_refresh_token_is_stored(auth: Any, database: Database) -> None:
    guest = await auth.GuestLogin(auth_pb2.GuestLoginRequest(), timeout=SECONDS)
    claims = jwt.decode(guest.access_token, options={"verify_signature": False})
    (row,) = await database.fetch("SELECT token_hash, session_id FROM refresh_tokens")
    assert (row["token_hash"], row["session_id"]) == (digest(guest.refresh_token), claims["sid"])


async def test_the_published_keys_verify_a_token(rig: Rig, auth: Any) -> None:
    guest = await auth.GuestLogin(auth_pb2.GuestLoginRequest(), timeout=SECONDS)
    keys = await auth.GetJwks(auth_pb2.GetJwksRequest(), timeout=SECONDS)
    public = jwt.PyJWKSet.from_dict(json_format.MessageToDict(keys))
    key = public[jwt.get_unverified_header(guest.access_token)["kid"]]
    claims = jwt.decode(guest.access_token, key, audience="jan-server", issuer=rig.settings.issuer)
    assert claims["sub"] == guest.user_id


async def test_who_one_is_needs_a_token(auth: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await auth.GetMe(auth_pb2.GetMeRequest(), timeout=SECONDS)
    assert (error.value.code(), details(error.value)["ErrorInfo"].reason) == (
        StatusCode.UNAUTHENTICATED,
        "UNAUTHORIZED",
    )


async def test_a_token_whose_account_is_gone_is_refused(auth: Any, database: Database) -> None:
    guest = await auth.GuestLogin(auth_pb2.GuestLoginRequest(), timeout=SECONDS)
    await database.execute("DELETE FROM users WHERE id = $1", guest.user_id)
    with pytest.raises(grpc.aio.AioRpcError, match="no longer exists") as error:
        await auth.GetMe(auth_pb2.GetMeRequest(), metadata=bearer(guest.access_token), timeout=SECONDS)
    assert error.value.code() == StatusCode.UNAUTHENTICATED


async def test_guests_can_be_switched_off(tmp_path: Path, database_url: str) -> None:
    async with running(tmp_path / "off", "auth", database_url=database_url, auth_guest_enabled=False) as rig:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await auth_pb2_grpc.AuthServiceStub(rig.channel).GuestLogin(auth_pb2.GuestLoginRequest(), timeout=SECONDS)
    assert (error.value.code(), details(error.value)["ErrorInfo"].reason) == (
        StatusCode.PERMISSION_DENIED,
        "FORBIDDEN",
    )
