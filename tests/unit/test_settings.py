"""Settings of users: what a change sets, what is shown, what models are told."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from buf.validate import validate_pb2
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct
from jan.llm.v1 import users_pb2

from services.llm.users.settings import (
    ADVANCED,
    ALIASES,
    MEMORY,
    PREFERENCES,
    PROFILE,
    STYLES,
    SWITCHES,
    Change,
    change_of,
    preferences_of,
    profile_prompt,
    settings_of,
)
from services.runtime.errors import InvalidRequest
from tests.documents import rows

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
GROUPS = ("profile_settings", "memory_config", "advanced_settings", "preferences")


def row(**kept: Any) -> dict[str, Any]:
    """What the store finds of somebody who has set this."""
    times = {"created_at": NOON, "updated_at": NOON}
    switches = {name: kept.get(name) for name in SWITCHES}
    return {"id": "set_1", "user_id": "usr_1", **times, **switches} | {
        name: orjson.dumps(kept.get(name, {})).decode() for name in GROUPS
    }


def shown(**kept: Any) -> dict[str, Any]:
    return MessageToDict(
        settings_of(row(**kept)), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def change(**wanted: Any) -> Change:
    return change_of(ParseDict(wanted, users_pb2.UpdateSettingsRequest()))


def refused(**wanted: Any) -> str | None:
    with pytest.raises(InvalidRequest) as error:
        change(**wanted)
    return error.value.param


def prompt(**profile: str) -> str | None:
    return profile_prompt(settings_of(row(profile_settings=profile)))


# What is shown


def test_whoever_has_set_nothing_has_the_defaults() -> None:
    assert shown() == {
        "id": "set_1",
        "object": "user.settings",
        "user_id": "usr_1",
        "profile_settings": PROFILE,
        "memory_config": MEMORY,
        "advanced_settings": {
            "web_search_enabled": False,
            "code_execution_enabled": False,
            "web_search": False,
            "code_enabled": False,
        },
        "preferences": PREFERENCES,
        "enable_trace": False,
        "enable_tools": True,
        "created_at": int(NOON.timestamp()),
        "updated_at": int(NOON.timestamp()),
    }


def test_what_was_set_lies_over_the_defaults() -> None:
    seen = shown(
        profile_settings={"nick_name": "Ada"},
        memory_config={"enabled": False, "max_items": 0, "min_similarity": 1},
        advanced_settings={"web_search_enabled": True},
        preferences={"enable_search": False, "theme": {"dark": [1, None]}},
        enable_trace=True,
        enable_tools=False,
    )
    assert seen["profile_settings"] == {**PROFILE, "nick_name": "Ada"}
    assert seen["memory_config"] == {**MEMORY, "enabled": False, "max_items": 0, "min_similarity": 1}
    assert seen["advanced_settings"] == {
        **ADVANCED,
        "web_search_enabled": True,
        "web_search": True,
        "code_enabled": False,
    }
    assert seen["preferences"] == {**PREFERENCES, "enable_search": False, "theme": {"dark": [1, None]}}
    assert (seen["enable_trace"], seen["enable_tools"]) == (True, False)


def test_what_a_newer_release_kept_is_left_out() -> None:
    newer = {"unheard_of": True}
    assert shown(profile_settings=newer, memory_config=newer, advanced_settings=newer) == shown()


def test_every_field_of_a_group_has_a_default() -> None:
    for message, defaults in (
        (users_pb2.ProfileSettings, PROFILE),
        (users_pb2.MemoryConfig, MEMORY),
        (users_pb2.AdvancedSettings, {**ADVANCED, "web_search": False, "code_enabled": False}),
    ):
        assert {field.name for field in message.DESCRIPTOR.fields} == set(defaults)


def test_every_field_of_a_change_has_a_default_or_is_an_alias() -> None:
    for message, defaults in (
        (users_pb2.ProfileChange, PROFILE),
        (users_pb2.MemoryChange, MEMORY),
        (users_pb2.AdvancedChange, ADVANCED),
    ):
        assert {ALIASES.get(field.name, field.name) for field in message.DESCRIPTOR.fields} == set(defaults)


# What a change sets


def test_nothing_given_changes_nothing() -> None:
    assert change() == Change()
    assert change(profile_settings={}, memory_config={}, advanced_settings={}, preferences={}) == Change()


def test_only_what_is_given_is_set_also_when_it_is_empty() -> None:
    assert change(
        profile_settings={"occupation": "", "base_style": "Concise"},
        memory_config={"max_items": 0, "inject_episodic": False, "min_similarity": 0.5},
        advanced_settings={"code_execution_enabled": False},
        preferences={"selected_model": "m"},
        enable_trace=False,
    ) == Change(
        profile={"occupation": "", "base_style": "Concise"},
        memory={"max_items": 0, "inject_episodic": False, "min_similarity": 0.5},
        advanced={"code_execution_enabled": False},
        preferences={"selected_model": "m"},
        enable_trace=False,
    )


@pytest.mark.parametrize(
    ("group", "alias", "value"),
    [("profile_settings", "nickname", "Ada"), ("advanced_settings", "web_search", True)]
    + [("advanced_settings", "code_enabled", value) for value in (False, True)],
)
def test_an_alias_is_kept_under_the_first_name(group: str, alias: str, value: Any) -> None:
    first = ALIASES[alias]
    assert change(**{group: {alias: value}}) == change(**{group: {first: value}})
    assert change(**{group: {alias: value, first: value}}) == change(**{group: {first: value}})


def test_two_names_of_one_setting_must_agree() -> None:
    disagree = {"web_search": True, "web_search_enabled": False}
    assert refused(advanced_settings=disagree) == "advanced_settings.web_search"
    disagree = {"code_enabled": False, "code_execution_enabled": True}
    assert refused(advanced_settings=disagree) == "advanced_settings.code_enabled"
    assert refused(profile_settings={"nickname": "A", "nick_name": "B"}) == "profile_settings.nickname"


@pytest.mark.parametrize("field", ["custom_instructions", "nick_name", "nickname", "occupation", "more_about_you"])
def test_a_text_that_postgresql_cannot_hold_is_refused(field: str) -> None:
    assert refused(profile_settings={field: "a\0"}) == f"profile_settings.{field}"


# Preferences


@pytest.mark.parametrize("name", [name for name, value in PREFERENCES.items() if isinstance(value, bool)])
@pytest.mark.parametrize("value", ["true", 1, 0, [], {}])
def test_a_switch_among_the_preferences_is_true_or_false(name: str, value: Any) -> None:
    assert refused(preferences={name: value}) == f"preferences.{name}"


@pytest.mark.parametrize("value", [5, True, ["m"], {"id": "m"}])
def test_the_selected_model_is_a_string(value: Any) -> None:
    assert refused(preferences={"selected_model": value}) == "preferences.selected_model"


@pytest.mark.parametrize("value", ["text", 5, -0.5, True, ["a", {"b": None}], {}, {"deep": {"deeper": [1]}}])
def test_a_free_preference_may_be_anything(value: Any) -> None:
    given = Struct()
    given.update({"anything": value, "": "a key without letters"})
    assert preferences_of(given) == {"anything": value, "": "a key without letters"}


def test_null_takes_a_preference_away() -> None:
    assert change(preferences={"enable_search": None, "theme": None}).preferences == {
        "enable_search": None,
        "theme": None,
    }


@pytest.mark.parametrize("value", ["\0", ["a", "\0"], {"a": {"b": "\0"}}, {"a": {"\0": 1}}])
def test_a_preference_that_postgresql_cannot_hold_is_refused(value: Any) -> None:
    assert refused(preferences={"theme": value}) == "preferences.theme"


def test_so_is_the_name_of_one_and_long_names_are_not_repeated() -> None:
    assert refused(preferences={"a\0": 1}) == "preferences"
    assert refused(preferences={"a" * 5000: "\0"}) == "preferences." + "a" * 64


def test_text_that_looks_like_the_escape_of_that_character_is_fine() -> None:
    assert change(preferences={"theme": "\\u0000"}).preferences == {"theme": "\\u0000"}


# What models are told


def test_whoever_has_set_no_profile_is_not_talked_about() -> None:
    assert prompt() is None
    assert prompt(base_style="Friendly", occupation="") is None


def test_a_style_alone_is_told() -> None:
    assert prompt(base_style="Concise") == STYLES["Concise"]
    assert prompt(base_style="Professional") == STYLES["Professional"]


def test_every_style_that_can_be_set_has_its_words() -> None:
    rules: Any = users_pb2.ProfileChange.DESCRIPTOR.fields_by_name["base_style"].GetOptions()
    extension: Any = validate_pb2.field
    assert set(getattr(rules.Extensions[extension].string, "in")) == set(STYLES)


def test_the_whole_profile_is_one_text_in_a_fixed_order() -> None:
    assert prompt(
        more_about_you="I like birds.\nAnd cats.",
        custom_instructions="Use metric units.",
        nick_name="Ada",
        occupation="engineer",
    ) == (
        f"{STYLES['Friendly']}\n"
        "Call the user: Ada\n"
        "Occupation of the user: engineer\n"
        "More about the user: I like birds.\nAnd cats.\n"
        "Instructions of the user: Use metric units."
    )


def test_texts_without_letters_are_not_told() -> None:
    assert prompt(base_style="Concise", nick_name=" ", occupation=" engineer\n") == (
        f"{STYLES['Concise']}\nOccupation of the user: engineer"
    )


def test_the_documented_lines_are_those_that_are_told() -> None:
    told = prompt(nick_name="…", occupation="…", more_about_you="…", custom_instructions="…") or ""
    documented = dict(rows("docs/settings.md", columns=2))
    assert [documented[name] for name in ("nick_name", "occupation", "more_about_you", "custom_instructions")] == (
        told.splitlines()[1:]
    )
    assert {name: documented[f"base_style` `{name}"] for name in STYLES} == STYLES


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_preferences_have_only_numbers_that_json_has(number: float) -> None:
    given = Struct()
    given.fields["size"].list_value.values.add().number_value = number
    with pytest.raises(InvalidRequest) as error:
        preferences_of(given)
    assert error.value.param == "preferences.size"
