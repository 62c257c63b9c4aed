"""AuthService: signing in, who one is, and the keys that verify tokens."""

from __future__ import annotations

from typing import Any

import grpc
from jan.auth.v1 import auth_pb2, auth_pb2_grpc
from jan.common.v1 import meta_pb2

from services.auth.keys import KeyRing
from services.auth.store import AccountStore
from services.auth.tokens import TokenIssuer, digest, new_refresh_token
from services.runtime import call
from services.runtime.config import Settings
from services.runtime.db import Row
from services.runtime.errors import PermissionDenied, Unauthenticated
from services.runtime.identity import Identity

Context = grpc.aio.ServicerContext[Any, Any]
CREATED = (("x-http-status", "201"),)


class AuthServicer(auth_pb2_grpc.AuthServiceServicer):
    """Accounts live in the store, keys in the ring."""

    def __init__(self, settings: Settings, accounts: AccountStore, issuer: TokenIssuer, keys: KeyRing) -> None:
        self._settings = settings
        self._accounts = accounts
        self._issuer = issuer
        self._keys = keys

    async def GuestLogin(self, request: auth_pb2.GuestLoginRequest, context: Context) -> auth_pb2.GuestLoginResponse:
        if not self._settings.auth_guest_enabled:
            raise PermissionDenied("Guest login is switched off here")
        refresh_token, session_ttl = new_refresh_token(), self._settings.auth_refresh_token_ttl
        user, session_id = await self._accounts.create_guest(digest(refresh_token), session_ttl=session_ttl)
        access = self._issuer.access_token(user, session_id)
        await context.send_initial_metadata(CREATED)
        return auth_pb2.GuestLoginResponse(
            access_token=access.text,
            refresh_token=refresh_token,
            token_type="Bearer",  # noqa: S106  # the scheme's name, RFC 6750
            expires_in=access.expires_in,
            refresh_expires_in=int(session_ttl),
            user_id=user["id"],
            principal_id=user["id"],
            username=user["username"],
        )

    async def GetMe(self, request: auth_pb2.GetMeRequest, context: Context) -> auth_pb2.GetMeResponse:
        caller = call.caller()
        user = await self._accounts.find(caller.user_id)
        if user is None:
            raise Unauthenticated("The account of this token no longer exists")
        return auth_pb2.GetMeResponse(
            data=_user(user, caller), meta=meta_pb2.Meta(request_id=call.current().request_id)
        )

    async def GetJwks(self, request: auth_pb2.GetJwksRequest, context: Context) -> auth_pb2.GetJwksResponse:
        return auth_pb2.GetJwksResponse(keys=[auth_pb2.JsonWebKey(**key) for key in self._keys.public()])


def _user(user: Row, caller: Identity) -> auth_pb2.User:
    return auth_pb2.User(
        id=user["id"],
        object="user",
        username=user["username"],
        email=user["email"] or "",
        full_name=user["full_name"] or "",
        is_guest=user["is_guest"],
        is_admin="admin" in user["roles"],
        roles=user["roles"],
        auth_method=caller.auth_method,
        scopes=caller.scopes,
        created_at=int(user["created_at"].timestamp()),
    )
