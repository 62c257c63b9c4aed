"""UserService: what users set for themselves, and what they have used."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import grpc
from jan.llm.v1 import users_pb2, users_pb2_grpc

from services.llm.accounting.period import period_of
from services.llm.accounting.usage_store import UsageStore
from services.llm.users.settings import Change, change_of, preferences_of
from services.llm.users.settings_store import SettingsStore
from services.runtime import call

Context = grpc.aio.ServicerContext[Any, Any]


class UserServicer(users_pb2_grpc.UserServiceServicer):
    """Everything here is the caller's own."""

    def __init__(self, settings: SettingsStore, usage: UsageStore) -> None:
        self._settings = settings
        self._usage = usage

    async def GetSettings(
        self, request: users_pb2.GetSettingsRequest, context: Context
    ) -> users_pb2.GetSettingsResponse:
        return users_pb2.GetSettingsResponse(data=await self._settings.load(call.caller().user_id), meta=call.meta())

    async def UpdateSettings(
        self, request: users_pb2.UpdateSettingsRequest, context: Context
    ) -> users_pb2.UpdateSettingsResponse:
        settings = await self._settings.update(call.caller().user_id, change_of(request))
        return users_pb2.UpdateSettingsResponse(data=settings, meta=call.meta())

    async def GetPreferences(
        self, request: users_pb2.GetPreferencesRequest, context: Context
    ) -> users_pb2.GetPreferencesResponse:
        settings = await self._settings.load(call.caller().user_id)
        return users_pb2.GetPreferencesResponse(data=_preferences(settings), meta=call.meta())

    async def UpdatePreferences(
        self, request: users_pb2.UpdatePreferencesRequest, context: Context
    ) -> users_pb2.UpdatePreferencesResponse:
        change = Change(preferences=preferences_of(request.preferences))
        settings = await self._settings.update(call.caller().user_id, change)
        return users_pb2.UpdatePreferencesResponse(data=_preferences(settings), meta=call.meta())

    async def GetUsage(self, request: users_pb2.GetUsageRequest, context: Context) -> users_pb2.GetUsageResponse:
        period = period_of(getattr(request, "from"), request.to, now=datetime.now(UTC))  # `from` is a word of Python's
        sums = await self._usage.sums(call.caller().user_id, period, by=request.group_by)
        groups = [_group(row["key"], row["requests"], row["prompt_tokens"], row["completion_tokens"]) for row in sums]
        return users_pb2.GetUsageResponse(data=_report(groups, grouped=bool(request.group_by)), meta=call.meta())


def _preferences(settings: users_pb2.UserSettings) -> users_pb2.UserPreferences:
    return users_pb2.UserPreferences(preferences=settings.preferences)


def _group(key: str, requests: int, prompt_tokens: int, completion_tokens: int) -> users_pb2.UsageGroup:
    return users_pb2.UsageGroup(
        key=key,
        requests=requests,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
    )


def _report(groups: list[users_pb2.UsageGroup], *, grouped: bool) -> users_pb2.UsageReport:
    return users_pb2.UsageReport(
        requests=sum(each.requests for each in groups),
        prompt_tokens=sum(each.prompt_tokens for each in groups),
        completion_tokens=sum(each.completion_tokens for each in groups),
        total_tokens=sum(each.total_tokens for each in groups),
        groups=groups if grouped else [],
    )
