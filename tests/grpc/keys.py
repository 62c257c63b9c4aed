"""Accounts and API keys of tests, and the gateway's side of the exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jan.auth.v1 import api_keys_pb2, api_keys_pb2_grpc, auth_pb2, auth_pb2_grpc, gateway_pb2

from services.runtime.db import Database
from tests.grpc.rig import SECONDS, Rig

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Account:
    """Somebody who is signed in."""

    user_id: str
    token: str

    @property
    def signed_in(self) -> Metadata:
        return (("authorization", f"Bearer {self.token}"),)


async def guest(rig: Rig) -> Account:
    """A new guest."""
    auth: Any = auth_pb2_grpc.AuthServiceStub(rig.channel)
    tokens = await auth.GuestLogin(auth_pb2.GuestLoginRequest(), timeout=SECONDS)
    return Account(tokens.user_id, tokens.access_token)


async def admin(rig: Rig, database: Database) -> Account:
    """A new administrator, by a decree that only tests know."""
    auth: Any = auth_pb2_grpc.AuthServiceStub(rig.channel)
    tokens = await auth.GuestLogin(auth_pb2.GuestLoginRequest(), timeout=SECONDS)
    await database.execute("UPDATE users SET roles = '{user,admin}', is_guest = false WHERE id = $1", tokens.user_id)
    request = auth_pb2.RefreshTokenRequest(refresh_token=tokens.refresh_token)
    tokens = await auth.RefreshToken(request, timeout=SECONDS)
    return Account(tokens.user_id, tokens.access_token)


async def create(rig: Rig, account: Account, **wanted: Any) -> api_keys_pb2.ApiKey:
    """A new key of that account, with its secret."""
    keys: Any = api_keys_pb2_grpc.KeyServiceStub(rig.channel)
    request = api_keys_pb2.CreateApiKeyRequest(**{"name": "a key", **wanted})
    answer = await keys.CreateApiKey(request, metadata=account.signed_in, timeout=SECONDS)
    made: api_keys_pb2.ApiKey = answer.data
    return made


async def revoke(rig: Rig, account: Account, key_id: str) -> None:
    """Revoke it as its owner."""
    keys: Any = api_keys_pb2_grpc.KeyServiceStub(rig.channel)
    await keys.RevokeApiKey(api_keys_pb2.RevokeApiKeyRequest(id=key_id), metadata=account.signed_in, timeout=SECONDS)


async def check(rig: Rig, *, address: str = "192.0.2.1", **headers: str) -> gateway_pb2.CheckResponse:
    """What the gateway is told about a request with these headers (`_` for `-`)."""
    ask = rig.channel.unary_unary(
        "/envoy.service.auth.v3.Authorization/Check",
        request_serializer=gateway_pb2.CheckRequest.SerializeToString,
        response_deserializer=gateway_pb2.CheckResponse.FromString,
    )
    request = gateway_pb2.CheckRequest()
    request.attributes.source.address.socket_address.address = address
    named = {"x-request-id": "req_test", **{name.replace("_", "-"): value for name, value in headers.items()}}
    request.attributes.request.http.headers.update(named)
    answer: gateway_pb2.CheckResponse = await ask(request, timeout=SECONDS)
    return answer


def passed_on(answer: gateway_pb2.CheckResponse) -> str:
    """The token that a request goes on with."""
    assert answer.status.code == 0, answer
    (header,) = answer.ok_response.headers
    assert header.header.key == "authorization"
    return str(header.header.value).removeprefix("Bearer ")
