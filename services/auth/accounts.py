"""AuthService: signing in and out, who one is, and the keys that verify tokens."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import grpc
from jan.auth.v1 import auth_pb2, auth_pb2_grpc

from services.auth.login import PasswordLogin
from services.auth.oidc import ExternalLogin
from services.auth.passwords import Passwords
from services.auth.sessions import Sessions
from services.auth.signing import KeyRing
from services.auth.store import AccountStore
from services.runtime import call
from services.runtime.config import Settings
from services.runtime.db import Row
from services.runtime.errors import InvalidRequest, NotImplementedYet, PermissionDenied, Unauthenticated
from services.runtime.identity import Identity

Context = grpc.aio.ServicerContext[Any, Any]
CREATED = (("x-http-status", "201"),)


class AuthServicer(auth_pb2_grpc.AuthServiceServicer):
    """Each rpc is answered by one of its parts; without `external`, nobody signs in elsewhere."""

    def __init__(
        self,
        settings: Settings,
        accounts: AccountStore,
        *,
        sessions: Sessions,
        login: PasswordLogin,
        passwords: Passwords,
        keys: KeyRing,
        external: ExternalLogin | None,
    ) -> None:
        self._settings = settings
        self._accounts = accounts
        self._sessions = sessions
        self._login = login
        self._passwords = passwords
        self._keys = keys
        self._external = external

    async def GuestLogin(self, request: auth_pb2.GuestLoginRequest, context: Context) -> auth_pb2.Tokens:
        if not self._settings.auth_guest_enabled:
            raise PermissionDenied("Guest login is switched off here")
        tokens = await self._sessions.open_for_guest()
        await context.send_initial_metadata(CREATED)
        return tokens

    async def RefreshToken(self, request: auth_pb2.RefreshTokenRequest, context: Context) -> auth_pb2.Tokens:
        return await self._sessions.refresh(request.refresh_token)

    async def RevokeToken(self, request: auth_pb2.RevokeTokenRequest, context: Context) -> auth_pb2.RevokeTokenResponse:
        if not request.token and not request.refresh_token:
            raise InvalidRequest("Parameter 'token' is required", param="token")
        for token in {request.token, request.refresh_token} - {""}:
            await self._sessions.revoke(token)
        return auth_pb2.RevokeTokenResponse(status="revoked", message="Token revoked")

    async def Logout(self, request: auth_pb2.LogoutRequest, context: Context) -> auth_pb2.LogoutResponse:
        await self._sessions.log_out(refresh_token=request.refresh_token, access_token=_bearer(context))
        return auth_pb2.LogoutResponse(status="logged_out")

    async def PasswordLogin(self, request: auth_pb2.PasswordLoginRequest, context: Context) -> auth_pb2.Tokens:
        address = call.current().address
        user = await self._login.sign_in(request.email, request.password, address=address)
        return await self._sessions.open(user, password_hash=user["password_hash"])

    async def StartLogin(self, request: auth_pb2.StartLoginRequest, context: Context) -> auth_pb2.StartLoginResponse:
        url, state = await self._provider.start(request.redirect_url)
        return auth_pb2.StartLoginResponse(authorization_url=url, state=state)

    async def CompleteLogin(self, request: auth_pb2.CompleteLoginRequest, context: Context) -> auth_pb2.Tokens:
        user, back = await self._provider.complete(
            request.code, request.state, request.error, request.error_description
        )
        tokens = await self._sessions.open(user)
        fields = {field.name: getattr(tokens, field.name) for field in tokens.DESCRIPTOR.fields}
        fragment = urlencode(fields | {"state": request.state})  # by which the application knows a sign-in of its own
        await context.send_initial_metadata((("x-http-status", "302"), ("location", f"{back}#{fragment}")))
        return tokens

    async def UpgradeGuest(
        self, request: auth_pb2.UpgradeGuestRequest, context: Context
    ) -> auth_pb2.UpgradeGuestResponse:
        caller = call.caller()
        hashed = await self._passwords.hash(request.password) if request.HasField("password") else None
        user, tokens = await self._sessions.upgrade(
            caller,
            email=request.email,
            username=request.username or request.email.partition("@")[0],
            full_name=request.full_name or None,
            password_hash=hashed,
        )
        fields = {field.name: value for field, value in tokens.ListFields()}
        return auth_pb2.UpgradeGuestResponse(status="upgraded", user=_user(user, caller), **fields)

    async def SetPassword(self, request: auth_pb2.SetPasswordRequest, context: Context) -> auth_pb2.SetPasswordResponse:
        address = call.current().address
        await self._login.set_password(call.caller(), request.new_password, request.current_password, address=address)
        return auth_pb2.SetPasswordResponse(status="updated")

    async def GetMe(self, request: auth_pb2.GetMeRequest, context: Context) -> auth_pb2.GetMeResponse:
        caller = call.caller()
        at_home = caller.external is None
        user = await (self._accounts.find(caller.user_id) if at_home else self._accounts.welcome(caller))
        if user is None:
            raise Unauthenticated("The account of this token no longer exists")
        return auth_pb2.GetMeResponse(data=_user(user, caller), meta=call.meta())

    async def GetJwks(self, request: auth_pb2.GetJwksRequest, context: Context) -> auth_pb2.GetJwksResponse:
        return auth_pb2.GetJwksResponse(keys=[auth_pb2.JsonWebKey(**key) for key in self._keys.public()])

    async def GetOpenidConfiguration(
        self, request: auth_pb2.GetOpenidConfigurationRequest, context: Context
    ) -> auth_pb2.GetOpenidConfigurationResponse:
        return auth_pb2.GetOpenidConfigurationResponse(
            issuer=self._settings.issuer,
            jwks_uri=f"{self._settings.public_base_url.rstrip('/')}/.well-known/jwks.json",
            id_token_signing_alg_values_supported=sorted({key["alg"] for key in self._keys.public()}),
            subject_types_supported=["public"],
        )

    @property
    def _provider(self) -> ExternalLogin:
        if self._external is None:
            raise NotImplementedYet(
                "No external identity provider is configured here (OIDC_ISSUER_URL)", code="oidc_not_configured"
            )
        return self._external


def _bearer(context: Context) -> str:
    """The bearer token of a call that needs none; empty without one."""
    scheme, _, token = str(dict(context.invocation_metadata() or ()).get("authorization", "")).partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


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
