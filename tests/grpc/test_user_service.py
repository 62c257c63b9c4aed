"""UserService against a real PostgreSQL."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from grpc import StatusCode
from jan.llm.v1 import users_pb2, users_pb2_grpc

from services.llm.accounting.usage_store import Heading, Sums, UsageStore
from services.llm.users.settings import MEMORY, PREFERENCES, PROFILE
from services.llm.users.settings_store import LARGEST_PREFERENCES, SettingsStore
from services.runtime.db import Database
from tests.grpc.keys import Account, guest
from tests.grpc.rig import SECONDS, Rig, details, running


class User:
    """Somebody at the service; what she says and hears is JSON."""

    def __init__(self, rig: Rig, account: Account) -> None:
        self.id = account.user_id
        self._stub: Any = users_pb2_grpc.UserServiceStub(rig.channel)
        self._signed_in = account.signed_in

    async def __call__(self, method: str, request: Message) -> dict[str, Any]:
        said = await getattr(self._stub, method)(request, metadata=self._signed_in, timeout=SECONDS)
        assert said.meta.request_id.startswith("req_")
        return MessageToDict(said.data, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)

    async def settings(self) -> dict[str, Any]:
        return await self("GetSettings", users_pb2.GetSettingsRequest())

    async def change(self, **wanted: Any) -> dict[str, Any]:
        return await self("UpdateSettings", ParseDict(wanted, users_pb2.UpdateSettingsRequest()))

    async def preferences(self) -> dict[str, Any]:
        answer = await self("GetPreferences", users_pb2.GetPreferencesRequest())
        return dict(answer["preferences"])

    async def prefer(self, **wanted: Any) -> dict[str, Any]:
        request = ParseDict({"preferences": wanted}, users_pb2.UpdatePreferencesRequest())
        answer = await self("UpdatePreferences", request)
        return dict(answer["preferences"])

    async def usage(self, **wanted: str) -> dict[str, Any]:
        return await self("GetUsage", users_pb2.GetUsageRequest(**wanted))


@pytest_asyncio.fixture
async def rig(tmp_path: Path, database_url: str) -> AsyncIterator[Rig]:
    async with running(tmp_path, "auth", "llm", database_url=database_url) as rig:
        yield rig


@pytest_asyncio.fixture
async def ada(rig: Rig) -> User:
    return User(rig, await guest(rig))


@pytest_asyncio.fixture
async def bob(rig: Rig) -> User:
    return User(rig, await guest(rig))


async def refused(call: Any) -> tuple[StatusCode, str, str]:
    """Code, reason and parameter of the refusal."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    info: Any = details(error.value)["ErrorInfo"]
    return error.value.code(), info.reason, info.metadata.get("param", "")


def invalid(param: str) -> tuple[StatusCode, str, str]:
    return StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER", param


# Settings


async def test_the_first_reading_makes_them_with_their_defaults(ada: User) -> None:
    first = await ada.settings()
    assert re.fullmatch(r"set_[0-9a-z]{26}", first["id"])
    assert (first["object"], first["user_id"]) == ("user.settings", ada.id)
    assert (first["profile_settings"], first["memory_config"]) == (PROFILE, MEMORY)
    assert abs(first["created_at"] - datetime.now(UTC).timestamp()) < 60
    assert await ada.settings() == first


async def test_readings_at_the_same_time_agree_on_one_id(ada: User) -> None:
    assert len({each["id"] for each in await asyncio.gather(*(ada.settings() for _ in range(20)))}) == 1


async def test_a_change_before_any_reading_keeps_the_other_defaults(ada: User) -> None:
    changed = await ada.change(memory_config={"max_items": 0}, enable_tools=False)
    assert changed["memory_config"] == {**MEMORY, "max_items": 0}
    assert (changed["enable_tools"], changed["enable_trace"]) == (False, False)
    assert await ada.settings() == changed


async def test_a_sparse_group_keeps_its_other_fields(ada: User) -> None:
    before = await ada.change(
        profile_settings={"nick_name": "Ada", "base_style": "Concise"}, enable_trace=True, preferences={"theme": "dark"}
    )
    after = await ada.change(profile_settings={"occupation": "engineer", "base_style": "Professional"})
    profile = {**PROFILE, "nick_name": "Ada", "base_style": "Professional", "occupation": "engineer"}
    assert {**after, "updated_at": 0} == {**before, "profile_settings": profile, "updated_at": 0}
    assert await ada.settings() == after


async def test_a_value_can_be_set_back_to_nothing(ada: User) -> None:
    await ada.change(profile_settings={"nick_name": "Ada"}, advanced_settings={"web_search": True}, enable_trace=True)
    back = await ada.change(
        profile_settings={"nick_name": ""}, advanced_settings={"web_search_enabled": False}, enable_trace=False
    )
    assert back["profile_settings"] == PROFILE
    assert set(back["advanced_settings"].values()) == {False}
    assert back["enable_trace"] is False


async def test_changes_of_different_fields_at_the_same_time_all_survive(ada: User) -> None:
    numbers = ("max_items", "max_user_items", "max_project_items", "max_episodic_items")
    texts = ("custom_instructions", "nick_name", "occupation", "more_about_you")
    await asyncio.gather(
        *(ada.change(memory_config={name: 7}) for name in numbers),
        *(ada.change(profile_settings={name: "x"}) for name in texts),
        *(ada.change(preferences={f"key-{n}": n}) for n in range(10)),
        *(ada.prefer(**{f"key-{n}": n}) for n in range(10, 20)),
        ada.change(enable_trace=True),
        ada.change(advanced_settings={"code_enabled": True}),
    )
    settings = await ada.settings()
    assert settings["memory_config"] == {**MEMORY, **dict.fromkeys(numbers, 7)}
    assert settings["profile_settings"] == {**PROFILE, **dict.fromkeys(texts, "x")}
    assert settings["preferences"] == {**PREFERENCES, **{f"key-{n}": n for n in range(20)}}
    assert (settings["enable_trace"], settings["advanced_settings"]["code_enabled"]) == (True, True)


async def test_nobody_sees_the_settings_of_others(ada: User, bob: User) -> None:
    await ada.change(profile_settings={"nick_name": "Ada"}, preferences={"theme": "dark"})
    settings = await bob.settings()
    assert (settings["profile_settings"], settings["preferences"]) == (PROFILE, PREFERENCES)
    assert settings["id"] != (await ada.settings())["id"]


@pytest.mark.parametrize(
    ("group", "field", "wrong"),
    [
        *(("profile_settings", "base_style", value) for value in ("", "friendly", "Rude")),
        *(("profile_settings", name, "x" * 8001) for name in ("custom_instructions", "more_about_you")),
        *(("profile_settings", name, "x" * 121) for name in ("nick_name", "nickname")),
        ("profile_settings", "occupation", "x" * 201),
        *(("memory_config", name, value) for name in ("max_items", "max_project_items") for value in (-1, 51)),
        *(("memory_config", name, value) for name in ("max_user_items", "max_episodic_items") for value in (-1, 21)),
        *(("memory_config", "min_similarity", value) for value in (-0.01, 1.01, "NaN", "Infinity")),
    ],
)
async def test_a_value_out_of_range_is_named_and_changes_nothing(ada: User, group: str, field: str, wrong: Any) -> None:
    before = await ada.settings()
    change = ada.change(**{"enable_trace": True, group: {field: wrong}})
    assert await refused(change) == invalid(f"{group}.{field}")
    assert await ada.settings() == before


async def test_values_at_the_edges_are_taken(ada: User) -> None:
    most = {"max_items": 50, "max_user_items": 20, "max_project_items": 50, "max_episodic_items": 20}
    for memory in ({**most, "min_similarity": 1.0}, {**dict.fromkeys(most, 0), "min_similarity": 0.0}):
        assert (await ada.change(memory_config=memory))["memory_config"] == {**MEMORY, **memory}
    text = "ß" * 8000
    assert (await ada.change(profile_settings={"more_about_you": text}))["profile_settings"]["more_about_you"] == text


async def test_two_names_of_one_setting_must_agree(ada: User) -> None:
    change = ada.change(advanced_settings={"web_search": True, "web_search_enabled": False})
    assert await refused(change) == invalid("advanced_settings.web_search")


# Preferences


async def test_preferences_are_merged_key_by_key(ada: User) -> None:
    await ada.prefer(selected_model="m", theme={"dark": True, "size": 12})
    merged = await ada.prefer(enable_search=False, theme={"dark": False})
    assert merged == {**PREFERENCES, "selected_model": "m", "enable_search": False, "theme": {"dark": False}}
    assert await ada.preferences() == (await ada.settings())["preferences"] == merged


async def test_null_takes_a_preference_away_or_gives_it_its_default_again(ada: User) -> None:
    await ada.prefer(enable_search=False, theme="dark", size=12)
    assert await ada.prefer(enable_search=None, theme=None, unheard_of=None) == {**PREFERENCES, "size": 12}
    assert (await ada.change(preferences={"size": None}))["preferences"] == PREFERENCES


async def test_null_before_any_other_preference_is_nothing(ada: User) -> None:
    assert await ada.prefer(theme=None) == PREFERENCES


async def test_free_values_come_back_as_they_were(ada: User) -> None:
    free = {"a": [1, 2.5, -1e300, None, "ü\n", {"b": {}}, []], "": "", "ключ": True, "big": 2.0**60}
    assert await ada.prefer(**free) == {**PREFERENCES, **free}


async def test_a_wrong_type_of_a_known_preference_is_named(ada: User) -> None:
    assert await refused(ada.prefer(selected_model=5)) == invalid("preferences.selected_model")
    assert await refused(ada.change(preferences={"enable_thinking": "no"})) == invalid("preferences.enable_thinking")
    assert await refused(ada.prefer(theme="\0")) == invalid("preferences.theme")


async def test_preferences_stay_within_their_size_however_they_grow(ada: User) -> None:
    half = "x" * (LARGEST_PREFERENCES // 2)
    kept = await ada.prefer(first=half)
    assert await refused(ada.prefer(second=half)) == invalid("preferences")
    assert await refused(ada.change(preferences={"second": half}, enable_trace=True)) == invalid("preferences")
    assert await refused(ada.prefer(many=[1e300] * 1000)) == invalid("preferences")
    assert await ada.preferences() == kept
    assert (await ada.settings())["enable_trace"] is False
    assert (await ada.prefer(first=None, second=half))["second"] == half


async def test_a_first_preference_that_is_too_large_makes_no_settings(ada: User, database: Database) -> None:
    assert await refused(ada.prefer(first="x" * LARGEST_PREFERENCES)) == invalid("preferences")
    assert await database.fetchval("SELECT count(*) FROM user_settings") == 0


# Usage

TODAY = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def hour(*, ago: float = 0) -> int:
    """The hour so many days ago."""
    return int((TODAY - timedelta(days=ago)).timestamp() // 3600)


@pytest_asyncio.fixture
async def used(ada: User, bob: User, database: Database) -> None:
    """What both have used, today and before."""
    await UsageStore(database).add(
        [
            (Heading(ada.id, "b", "", ""), hour(), Sums(1, 10, 1)),
            (Heading(ada.id, "a", "proj_1", ""), hour(), Sums(2, 20, 2)),
            (Heading(ada.id, "B", "", "key_1"), hour(ago=2), Sums(4, 40, 4)),
            (Heading(ada.id, "b", "proj_1", "key_1"), hour(ago=29), Sums(8, 80, 8)),
            (Heading(ada.id, "b", "", ""), hour(ago=31), Sums(16, 160, 16)),
            (Heading(bob.id, "b", "proj_1", "key_1"), hour(), Sums(32, 320, 32)),
        ]
    )


def sums(n: int) -> dict[str, Any]:
    return {"requests": n, "prompt_tokens": n * 10, "completion_tokens": n, "total_tokens": n * 11}


def day(*, ago: float = 0) -> str:
    return (TODAY - timedelta(days=ago)).date().isoformat()


@pytest.mark.usefixtures("used")
async def test_usage_is_that_of_the_last_thirty_days_and_one_s_own(ada: User, bob: User) -> None:
    assert await ada.usage() == {**sums(15), "groups": []}
    assert await bob.usage() == {**sums(32), "groups": []}


@pytest.mark.usefixtures("used")
@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("day", {day(ago=29): 8, day(ago=2): 4, day(): 3}),
        ("model", {"B": 4, "a": 2, "b": 9}),
        ("project", {"": 5, "proj_1": 10}),
        ("api_key", {"": 3, "key_1": 12}),
    ],
)
async def test_groups_add_up_and_are_in_the_order_of_their_keys(ada: User, by: str, groups: dict[str, int]) -> None:
    expected = [{"key": key, **sums(n)} for key, n in groups.items()]
    assert await ada.usage(group_by=by) == {**sums(15), "groups": expected}


@pytest.mark.usefixtures("used")
async def test_a_period_bounds_it(ada: User) -> None:
    async def requests(**period: str) -> int:
        return int((await ada.usage(**period))["requests"])

    assert await requests(**{"from": day(ago=40)}) == 31
    assert await requests(**{"from": day(ago=2), "to": day(ago=2)}) == 4
    assert await requests(to=day(ago=29)) == 24
    begin = TODAY - timedelta(days=2)
    late, over = (begin + timedelta(minutes=minutes) for minutes in (59, 60))
    assert await requests(**{"from": late.isoformat(), "to": late.isoformat()}) == 4
    assert await requests(**{"from": over.isoformat(), "to": over.isoformat()}) == 0
    assert await requests(**{"from": day(ago=3), "to": begin.isoformat()}) == 0


async def test_whoever_has_used_nothing_has_zeros(ada: User) -> None:
    assert await ada.usage(group_by="model") == {**sums(0), "groups": []}


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-02-30"}, "to"),
        ({"from": "2026-02-02", "to": "2026-02-01"}, "from"),
        ({"group_by": "user"}, "group_by"),
        ({"group_by": "user_id; DROP TABLE usage"}, "group_by"),
        ({"to": "\0"}, "to"),
    ],
)
async def test_a_wrong_question_about_usage_names_its_parameter(ada: User, wanted: dict[str, str], param: str) -> None:
    assert await refused(ada.usage(**wanted)) == invalid(param)


async def test_strangers_are_not_let_in(rig: Rig) -> None:
    stub: Any = users_pb2_grpc.UserServiceStub(rig.channel)
    for method, request in (
        (stub.GetSettings, users_pb2.GetSettingsRequest()),
        (stub.UpdatePreferences, users_pb2.UpdatePreferencesRequest()),
        (stub.GetUsage, users_pb2.GetUsageRequest()),
    ):
        assert (await refused(method(request, timeout=SECONDS)))[0] == StatusCode.UNAUTHENTICATED


async def test_settings_for_the_engine_are_those_of_the_service(ada: User, database: Database) -> None:
    await ada.change(profile_settings={"nick_name": "Ada"}, preferences={"selected_model": "m"})
    settings = await SettingsStore(database).load(ada.id)
    assert settings.profile_settings.nick_name == "Ada"
    assert settings.preferences["selected_model"] == "m"
