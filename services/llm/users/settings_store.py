"""Settings of users in PostgreSQL. Members are merged by the database, so that changes at the same time all survive."""

from __future__ import annotations

import orjson
from jan.llm.v1 import users_pb2

from services.llm.users.settings import Change, settings_of
from services.runtime import ids
from services.runtime.db import Database
from services.runtime.errors import InvalidRequest

LARGEST_PREFERENCES = 64 * 1024
"""Bytes of all preferences of a user, as PostgreSQL prints them."""


class SettingsStore:
    """Every method is for one user, and one statement that matters."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, user_id: str) -> users_pb2.UserSettings:
        """The settings of a user; made, with an id that stays, when this is the first time."""
        row = await self._database.fetchrow(
            """
            SELECT id, user_id, profile_settings, memory_config, advanced_settings, preferences,
                enable_trace, enable_tools, created_at, updated_at
            FROM user_settings WHERE user_id = $1
            """,
            user_id,
        )
        return settings_of(row) if row is not None else await self.update(user_id, Change())

    async def update(self, user_id: str, change: Change) -> users_pb2.UserSettings:
        """Change settings and return all. Raises `InvalidRequest` when preferences get too large; nothing changes
        then."""
        unset = [name for name, value in change.preferences.items() if value is None]
        preferences = {name: value for name, value in change.preferences.items() if value is not None}
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                """
                INSERT INTO user_settings AS kept (
                    user_id, id, profile_settings, memory_config, advanced_settings, preferences,
                    enable_trace, enable_tools
                )
                VALUES ($1, $2, $3, $4, $5, $6, $8, $9)
                ON CONFLICT (user_id) DO UPDATE SET
                    profile_settings = kept.profile_settings || excluded.profile_settings,
                    memory_config = kept.memory_config || excluded.memory_config,
                    advanced_settings = kept.advanced_settings || excluded.advanced_settings,
                    preferences = (kept.preferences || excluded.preferences) - $7::text[],
                    enable_trace = coalesce(excluded.enable_trace, kept.enable_trace),
                    enable_tools = coalesce(excluded.enable_tools, kept.enable_tools),
                    updated_at = now()
                RETURNING id, user_id, profile_settings, memory_config, advanced_settings, preferences,
                    enable_trace, enable_tools, created_at, updated_at, octet_length(preferences::text) AS size
                """,
                *(user_id, ids.new_id("set"), _text(change.profile), _text(change.memory), _text(change.advanced)),
                *(_text(preferences), unset, change.enable_trace, change.enable_tools),
            )
            if row is None:
                raise AssertionError("an insertion that settles conflicts returns its row")
            if row["size"] > LARGEST_PREFERENCES:
                raise InvalidRequest(
                    f"All preferences together may have {LARGEST_PREFERENCES} bytes; set some to null",
                    param="preferences",
                )
            return settings_of(row)


def _text(members: dict[str, object]) -> str:
    return orjson.dumps(members).decode()
