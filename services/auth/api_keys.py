"""KeyService: API keys of the caller, and of everybody for administrators."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import grpc
from jan.auth.v1 import api_keys_pb2, api_keys_pb2_grpc

from services.auth.api_key_store import ApiKeyStore, Change, new_secret
from services.runtime import call
from services.runtime.config import Settings
from services.runtime.db import Row
from services.runtime.errors import InvalidRequest, NotFound, PermissionDenied
from services.runtime.identity import Identity
from services.runtime.pages import page_of

Context = grpc.aio.ServicerContext[Any, Any]
CREATED, NO_CONTENT = (("x-http-status", "201"),), (("x-http-status", "204"),)
SCOPES = ("read", "write", "admin")
USUAL_SCOPES = ("read", "write")
LONGEST_NAME = 120
_DAY = 86400.0
_ID = re.compile(r"key_[0-9a-z]{16,64}")

Welcome = Callable[[Identity], Awaitable[object]]
"""Makes the account of somebody who is known only to an external provider so far."""


class KeyServicer(api_keys_pb2_grpc.KeyServiceServicer):
    """Keys live in the store; `forget` makes the exchange of this process forget one that changed."""

    def __init__(
        self, settings: Settings, store: ApiKeyStore, *, welcome: Welcome, forget: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._store = store
        self._welcome = welcome
        self._forget = forget

    async def CreateApiKey(
        self, request: api_keys_pb2.CreateApiKeyRequest, context: Context
    ) -> api_keys_pb2.CreateApiKeyResponse:
        caller, secret = call.caller(), new_secret(self._settings.api_key_prefix)
        name, scopes, ttl = named(request.name), granted(request.scopes, caller), self._ttl(request)
        if caller.external is not None:
            await self._welcome(caller)
        most = self._settings.api_key_max_per_user
        row = await self._store.create(caller.user_id, secret, name=name, scopes=scopes, ttl=ttl, most=most)
        await context.send_initial_metadata(CREATED)
        return api_keys_pb2.CreateApiKeyResponse(data=self._key(row, key=secret.text), meta=call.meta())

    async def ListApiKeys(
        self, request: api_keys_pb2.ListApiKeysRequest, context: Context
    ) -> api_keys_pb2.ListApiKeysResponse:
        found = await self._store.page(call.caller().user_id, page_of(request))
        return api_keys_pb2.ListApiKeysResponse(data=map(self._key, found.rows), **found.envelope())

    async def UpdateApiKey(
        self, request: api_keys_pb2.UpdateApiKeyRequest, context: Context
    ) -> api_keys_pb2.UpdateApiKeyResponse:
        change = Change(
            name=named(request.name) if request.HasField("name") else None,
            scopes=ordered(request.scopes) if request.scopes else None,
        )
        row = await self._store.update(call.caller().user_id, _key_id(request.id), change)
        self._forget(row["id"])
        return api_keys_pb2.UpdateApiKeyResponse(data=self._key(row), meta=call.meta())

    async def RevokeApiKey(
        self, request: api_keys_pb2.RevokeApiKeyRequest, context: Context
    ) -> api_keys_pb2.RevokeApiKeyResponse:
        row = await self._store.update(call.caller().user_id, _key_id(request.id), Change(revoked=True))
        self._forget(row["id"])
        await context.send_initial_metadata(NO_CONTENT)
        return api_keys_pb2.RevokeApiKeyResponse()

    async def AdminListApiKeys(
        self, request: api_keys_pb2.AdminListApiKeysRequest, context: Context
    ) -> api_keys_pb2.AdminListApiKeysResponse:
        if "\0" in request.user_id:  # PostgreSQL has no text with it
            raise InvalidRequest("Parameter 'user_id' is not an id", param="user_id")
        found = await self._store.any_page(request.user_id, page_of(request))
        return api_keys_pb2.AdminListApiKeysResponse(data=map(self._any_key, found.rows), **found.envelope())

    async def AdminUpdateApiKey(
        self, request: api_keys_pb2.AdminUpdateApiKeyRequest, context: Context
    ) -> api_keys_pb2.AdminUpdateApiKeyResponse:
        change = Change(
            tier=request.tier if request.HasField("tier") else None,
            requests_per_minute=request.requests_per_minute if request.HasField("requests_per_minute") else None,
            requests_per_day=request.requests_per_day if request.HasField("requests_per_day") else None,
            revoked=request.revoked,
        )
        row = await self._store.any_update(_key_id(request.id), change)
        self._forget(row["id"])
        return api_keys_pb2.AdminUpdateApiKeyResponse(data=self._any_key(row), meta=call.meta())

    def _ttl(self, request: api_keys_pb2.CreateApiKeyRequest) -> float:
        longest = self._settings.api_key_max_ttl
        if not request.HasField("expires_in_days"):
            return min(self._settings.api_key_default_ttl, longest)
        if request.expires_in_days * _DAY > longest:
            raise InvalidRequest(
                f"Parameter 'expires_in_days' must be at most {longest / _DAY:g} here", param="expires_in_days"
            )
        return request.expires_in_days * _DAY

    def _any_key(self, row: Row) -> api_keys_pb2.ApiKey:
        """A key as administrators see it."""
        return self._key(
            row,
            user_id=row["user_id"],
            requests_per_minute=row["requests_per_minute"] or None,
            requests_per_day=row["requests_per_day"] or None,
        )

    def _key(self, row: Row, **more: Any) -> api_keys_pb2.ApiKey:
        status = _status(row)
        return api_keys_pb2.ApiKey(
            id=row["id"],
            object="api_key",
            name=row["name"],
            prefix=row["prefix"],
            suffix=row["suffix"],
            scopes=row["scopes"],
            status=status,
            is_active=status == "active",
            tier=row["tier"] or self._settings.rate_limit_default_tier,
            created_at=_time(row["created_at"]),
            expires_at=_time(row["expires_at"]),
            last_used_at=_time(row["last_used_at"]),
            revoked_at=_time(row["revoked_at"]),
            **more,
        )


def named(name: str) -> str:
    """A key's name without the spaces around it. Raises `InvalidRequest` for none, or one that is too long."""
    name = name.strip()
    if not 1 <= len(name) <= LONGEST_NAME or "\0" in name:
        raise InvalidRequest(f"Parameter 'name' must have 1 to {LONGEST_NAME} characters", param="name")
    return name


def granted(wanted: Sequence[str], caller: Identity) -> list[str]:
    """The scopes of a new key. Raises `PermissionDenied` for `admin` without that role."""
    if "admin" in wanted and not caller.is_admin:
        raise PermissionDenied("The scope 'admin' is for keys of administrators")
    return ordered(wanted or USUAL_SCOPES)


def ordered(scopes: Sequence[str]) -> list[str]:
    """Scopes as they are always listed."""
    return [scope for scope in SCOPES if scope in scopes]


def _key_id(given: str) -> str:
    if not _ID.fullmatch(given):
        raise NotFound("There is no such API key")
    return given


def _status(row: Row) -> str:
    if row["revoked_at"] is not None:
        return "revoked"
    return "active" if row["expires_at"] > datetime.now(UTC) else "expired"


def _time(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC, whole seconds."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
