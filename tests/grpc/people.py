"""What tests do as somebody: guests and accounts with a password, their tokens, and how they are refused."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import grpc
import jwt
import pytest
from jan.auth.v1 import auth_pb2

from tests.grpc.rig import SECONDS, details

Metadata = tuple[tuple[str, str], ...]
PASSWORD = "correct horse battery staple"


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def claims(token: str) -> dict[str, Any]:
    """What a token says, unverified."""
    return dict(jwt.decode(token, options={"verify_signature": False}))


async def guest(auth: Any) -> Any:
    """The tokens of a new guest."""
    return await auth.GuestLogin(auth_pb2.GuestLoginRequest(), timeout=SECONDS)


async def account(auth: Any, email: str = "ada@example.com", password: str | None = PASSWORD) -> Any:
    """The tokens of a new account, which was a guest's for a moment."""
    request = auth_pb2.UpgradeGuestRequest(email=email, password=password)
    return await auth.UpgradeGuest(request, metadata=bearer((await guest(auth)).access_token), timeout=SECONDS)


async def login(auth: Any, email: str = "ada@example.com", password: str = PASSWORD, *, address: str = "") -> Any:
    metadata = (("x-edge-address", address),) if address else ()
    request = auth_pb2.PasswordLoginRequest(email=email, password=password)
    return await auth.PasswordLogin(request, metadata=metadata, timeout=SECONDS)


async def refresh(auth: Any, refresh_token: str) -> Any:
    return await auth.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=refresh_token), timeout=SECONDS)


async def revoke(auth: Any, token: str) -> Any:
    return await auth.RevokeToken(auth_pb2.RevokeTokenRequest(token=token), timeout=SECONDS)


async def me(auth: Any, token: str) -> Any:
    return (await auth.GetMe(auth_pb2.GetMeRequest(), metadata=bearer(token), timeout=SECONDS)).data


async def works(auth: Any, token: str) -> bool:
    """Whether an access token is believed; when not, it must be refused as one that was revoked."""
    try:
        await me(auth, token)
    except grpc.aio.AioRpcError as error:
        if (error.code(), error.details()) != REVOKED:
            raise
        return False
    return True


async def until_refused(auth: Any, token: str) -> None:
    """Wait until an access token is no longer believed: other processes, and this one, are told by PostgreSQL."""
    while await works(auth, token):
        pass


async def refusal(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    """The gRPC code and the reason with which a call is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), details(error.value)["ErrorInfo"].reason.lower()  # type: ignore[attr-defined]


INVALID_GRANT = (grpc.StatusCode.UNAUTHENTICATED, "invalid_grant")
INVALID_CREDENTIALS = (grpc.StatusCode.UNAUTHENTICATED, "invalid_credentials")
REVOKED = (grpc.StatusCode.UNAUTHENTICATED, "The access token has been revoked")
INVALID_PARAMETER = (grpc.StatusCode.INVALID_ARGUMENT, "invalid_parameter")
