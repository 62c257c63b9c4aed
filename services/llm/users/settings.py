"""Settings of users: their defaults, what a change sets, and how models are told of the profile. It knows no transport.

Kept is only what was set, under one name each; so a default that changes changes for everybody who did not choose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from google.protobuf import struct_pb2
from google.protobuf.message import Message
from jan.llm.v1 import users_pb2

from services.llm.generation.wire import plain_struct
from services.llm.providers.provider import Json
from services.runtime.db import Row
from services.runtime.errors import InvalidRequest

Defaults = Mapping[str, Any]

PROFILE: Defaults = {
    "base_style": "Friendly",
    "custom_instructions": "",
    "nick_name": "",
    "occupation": "",
    "more_about_you": "",
}
MEMORY: Defaults = {
    "enabled": True,
    "observe_enabled": True,
    "inject_user_core": True,
    "inject_semantic": True,
    "inject_episodic": False,
    "max_items": 10,
    "max_user_items": 3,
    "max_project_items": 5,
    "max_episodic_items": 3,
    "min_similarity": 0.75,
}
ADVANCED: Defaults = {"web_search_enabled": False, "code_execution_enabled": False}
PREFERENCES: Defaults = {
    "selected_model": "",
    "enable_deep_research": False,
    "enable_thinking": True,
    "enable_search": True,
    "enable_browser": False,
}
SWITCHES: Defaults = {"enable_trace": False, "enable_tools": True}

ALIASES = {"nickname": "nick_name", "web_search": "web_search_enabled", "code_enabled": "code_execution_enabled"}
"""Second names, and the names under which they are kept."""
STYLES = {
    "Concise": "Answer concisely: the shortest answer that is complete, without preamble.",
    "Friendly": "Answer in a warm and friendly tone.",
    "Professional": "Answer in a professional tone: precise, factual and polite.",
}
"""What the models are told for each `base_style`."""


@dataclass(frozen=True)
class Change:
    """What to set in each group, under the names that are kept; what is absent stays. A preference that is None loses
    its value: one of ours then has its default again, another is gone."""

    profile: Json = field(default_factory=dict)
    memory: Json = field(default_factory=dict)
    advanced: Json = field(default_factory=dict)
    preferences: Json = field(default_factory=dict)
    enable_trace: bool | None = None
    enable_tools: bool | None = None


def change_of(request: users_pb2.UpdateSettingsRequest) -> Change:
    """The change that a checked request asks for. Raises `InvalidRequest` for what its rules cannot say."""
    return Change(
        profile=_members(request.profile_settings, "profile_settings"),
        memory=_members(request.memory_config, "memory_config"),
        advanced=_members(request.advanced_settings, "advanced_settings"),
        preferences=preferences_of(request.preferences),
        enable_trace=request.enable_trace if request.HasField("enable_trace") else None,
        enable_tools=request.enable_tools if request.HasField("enable_tools") else None,
    )


def preferences_of(given: struct_pb2.Struct) -> Json:
    """Preferences as JSON. Raises `InvalidRequest` for a wrong type of one of ours, or text that cannot be kept."""
    preferences = plain_struct(given)
    for name, value in preferences.items():
        _check_value(name, "preferences")
        path = f"preferences.{name[:64]}"
        expected = type(PREFERENCES.get(name, value))
        if value is not None and type(value) is not expected:
            kind = "a string" if expected is str else "true or false"
            raise InvalidRequest(f"Parameter '{path}' must be {kind}", param=path)
        _check_value(value, path)
    return preferences


def settings_of(row: Row) -> users_pb2.UserSettings:
    """All settings of a user, from what is kept of them."""
    advanced = _over(ADVANCED, orjson.loads(row["advanced_settings"]))
    preferences = struct_pb2.Struct()
    preferences.update({**PREFERENCES, **orjson.loads(row["preferences"])})
    return users_pb2.UserSettings(
        id=row["id"],
        object="user.settings",
        user_id=row["user_id"],
        profile_settings=users_pb2.ProfileSettings(**_over(PROFILE, orjson.loads(row["profile_settings"]))),
        memory_config=users_pb2.MemoryConfig(**_over(MEMORY, orjson.loads(row["memory_config"]))),
        advanced_settings=users_pb2.AdvancedSettings(
            **advanced, **{alias: advanced[name] for alias, name in ALIASES.items() if name in advanced}
        ),
        preferences=preferences,
        **_over(SWITCHES, {name: row[name] for name in SWITCHES if row[name] is not None}),
        created_at=int(row["created_at"].timestamp()),
        updated_at=int(row["updated_at"].timestamp()),
    )


def profile_prompt(settings: users_pb2.UserSettings) -> str | None:
    """The one system message that tells a model of a user's profile: the style, then each text that is not empty, a
    line of its own for each. None when the whole profile is as nobody has set it."""
    profile = settings.profile_settings
    if all(getattr(profile, name) == default for name, default in PROFILE.items()):
        return None
    texts = {
        "Call the user": profile.nick_name,
        "Occupation of the user": profile.occupation,
        "More about the user": profile.more_about_you,
        "Instructions of the user": profile.custom_instructions,
    }
    lines = [f"{label}: {text.strip()}" for label, text in texts.items() if text.strip()]
    return "\n".join([STYLES[profile.base_style], *lines])


def _members(group: Message, path: str) -> Json:
    """The fields of a group that were given, by the names that are kept."""
    given: Json = {}
    for each, value in group.ListFields():
        name = ALIASES.get(each.name, each.name)
        _check_value(value, f"{path}.{each.name}")
        if given.setdefault(name, value) != value:
            raise InvalidRequest(
                f"Parameters '{path}.{name}' and '{path}.{each.name}' are two names of one setting and must agree",
                param=f"{path}.{each.name}",
            )
    return given


def _over(defaults: Defaults, kept: Json) -> Json:
    """What is kept, over the defaults; what a newer release kept is left out."""
    return {name: kept.get(name, default) for name, default in defaults.items()}


def _check_value(value: object, path: str) -> None:
    """PostgreSQL's jsonb has no text with U+0000, and JSON no number that is infinite, or none."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest(f"Parameter '{path}' must have finite numbers", param=path)
    if isinstance(value, str) and "\0" in value:
        raise InvalidRequest(f"Parameter '{path}' cannot have the character U+0000", param=path)
    if isinstance(value, dict):
        for name, each in value.items():
            _check_value(name, path)
            _check_value(each, path)
    elif isinstance(value, list):
        for each in value:
            _check_value(each, path)
