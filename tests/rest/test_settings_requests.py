"""Settings and preferences through the whole server, as plain HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.rest.server import JanServer

SETTINGS, PREFERENCES = "/v1/users/me/settings", "/v1/users/me/settings/preferences"
DEFAULTS = {
    "profile_settings": {
        "base_style": "Friendly",
        "custom_instructions": "",
        "nick_name": "",
        "occupation": "",
        "more_about_you": "",
    },
    "memory_config": {
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
    },
    "advanced_settings": {
        "web_search_enabled": False,
        "code_execution_enabled": False,
        "web_search": False,
        "code_enabled": False,
    },
    "preferences": {
        "selected_model": "",
        "enable_deep_research": False,
        "enable_thinking": True,
        "enable_search": True,
        "enable_browser": False,
    },
    "enable_trace": False,
    "enable_tools": True,
}


@pytest.fixture
def other(server: JanServer) -> Iterator[httpx.Client]:
    """Another guest."""
    headers = {"authorization": f"Bearer {server.token()}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=20) as client:
        yield client


def settings(rest: httpx.Client) -> dict[str, Any]:
    """All of them, in the usual envelope."""
    answer = rest.get(SETTINGS)
    assert answer.status_code == 200, answer.text
    assert answer.json()["meta"] == {"request_id": answer.headers["x-request-id"]}
    data: dict[str, Any] = answer.json()["data"]
    return data


def patched(rest: httpx.Client, path: str = SETTINGS, **wanted: Any) -> dict[str, Any]:
    answer = rest.patch(path, json=wanted)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


def refusal(answer: httpx.Response) -> tuple[int, str, str | None]:
    said = answer.json()["error"]
    assert said["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, said["code"], said["param"]


def test_they_begin_with_the_defaults_of_the_contract(rest: httpx.Client) -> None:
    first = settings(rest)
    assert first == {
        **DEFAULTS,
        "id": first["id"],
        "object": "user.settings",
        "user_id": rest.get("/v1/users/me").json()["data"]["id"],
        "created_at": first["created_at"],
        "updated_at": first["created_at"],
    }
    assert {type(first[name]) for name in ("created_at", "updated_at")} == {int}
    assert settings(rest) == first
    assert rest.get(PREFERENCES).json()["data"] == {"preferences": DEFAULTS["preferences"]}


@pytest.mark.parametrize("verb", ["PATCH", "POST"])
def test_a_subset_is_changed_by_either_verb_and_everything_comes_back(rest: httpx.Client, verb: str) -> None:
    before = settings(rest)
    body = {"profile_settings": {"base_style": "Concise", "nickname": "Ada"}, "advanced_settings": {"web_search": True}}
    answer = rest.request(verb, SETTINGS, json=body)
    assert answer.status_code == 200
    assert {**answer.json()["data"], "updated_at": 0} == {
        **before,
        "profile_settings": {**before["profile_settings"], "base_style": "Concise", "nick_name": "Ada"},
        "advanced_settings": {**before["advanced_settings"], "web_search_enabled": True, "web_search": True},
        "updated_at": 0,
    }
    assert settings(rest) == answer.json()["data"]


def test_a_sparse_group_keeps_its_other_fields(rest: httpx.Client) -> None:
    patched(rest, memory_config={"max_items": 20, "enabled": False})
    after = patched(rest, memory_config={"max_items": 5, "min_similarity": 1})
    changed: dict[str, Any] = {"max_items": 5, "enabled": False, "min_similarity": 1}
    assert after["memory_config"] == {**DEFAULTS["memory_config"], **changed}  # type: ignore[dict-item]  # it is one


def test_changes_at_the_same_time_all_survive(rest: httpx.Client) -> None:
    names = ("max_items", "max_user_items", "max_project_items", "max_episodic_items")
    with ThreadPoolExecutor(8) as pool:
        changes = [pool.submit(patched, rest, memory_config={name: 7}) for name in names]
        changes += [pool.submit(patched, rest, PREFERENCES, preferences={f"key-{n}": n}) for n in range(12)]
        assert all(change.result() for change in changes)
    found = settings(rest)
    assert {name: found["memory_config"][name] for name in names} == dict.fromkeys(names, 7)
    assert {name: value for name, value in found["preferences"].items() if name.startswith("key-")} == {
        f"key-{n}": n for n in range(12)
    }


def test_unknown_groups_and_fields_are_ignored_and_so_is_null(rest: httpx.Client) -> None:
    before = settings(rest)
    unknown = {"holodeck": {"safety": False}, "profile_settings": {"favourite": "tea", "nick_name": None}}
    null = {"memory_config": None, "preferences": None, "advanced_settings": {"web_search": None}}
    after = patched(rest, **unknown, **null)
    assert {**after, "updated_at": 0} == {**before, "updated_at": 0}
    assert rest.patch(SETTINGS).status_code == rest.patch(PREFERENCES, json={}).status_code == 200


def test_preferences_are_merged_and_null_takes_one_away(rest: httpx.Client) -> None:
    patched(rest, PREFERENCES, preferences={"selected_model": "fake", "theme": {"dark": True}})
    merged = patched(rest, PREFERENCES, preferences={"enable_browser": True, "theme": None, "sizes": [1, 2.5]})
    assert merged == {
        "preferences": {
            **DEFAULTS["preferences"],  # type: ignore[dict-item]  # it is one
            "selected_model": "fake",
            "enable_browser": True,
            "sizes": [1, 2.5],
        }
    }
    assert settings(rest)["preferences"] == merged["preferences"]


def test_one_s_settings_are_not_another_s(rest: httpx.Client, other: httpx.Client) -> None:
    mine = patched(rest, profile_settings={"nick_name": "Ada"}, preferences={"theme": "dark"})
    theirs = settings(other)
    assert {name: theirs[name] for name in DEFAULTS} == DEFAULTS
    assert theirs["id"] != mine["id"]
    assert theirs["user_id"] != mine["user_id"]
    patched(other, user_id=mine["user_id"], id=mine["id"], profile_settings={"nick_name": "Eve"})
    assert settings(rest) == mine


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"profile_settings": {"base_style": "Rude"}}, "profile_settings.base_style"),
        ({"profile_settings": {"base_style": 1}}, "profile_settings.base_style"),
        ({"profile_settings": {"nick_name": "x" * 121}}, "profile_settings.nick_name"),
        ({"profile_settings": {"nickname": ["Ada"]}}, "profile_settings.nickname"),
        ({"profile_settings": {"more_about_you": "a\0"}}, "profile_settings.more_about_you"),
        ({"profile_settings": "Concise"}, "profile_settings"),
        ({"memory_config": {"max_items": 51}}, "memory_config.max_items"),
        ({"memory_config": {"max_items": "5"}}, "memory_config.max_items"),
        ({"memory_config": {"max_items": 1.5}}, "memory_config.max_items"),
        ({"memory_config": {"max_items": 2**40}}, "memory_config.max_items"),
        ({"memory_config": {"min_similarity": -0.1}}, "memory_config.min_similarity"),
        ({"memory_config": {"enabled": "yes"}}, "memory_config.enabled"),
        ({"memory_config": []}, "memory_config"),
        (
            {"advanced_settings": {"code_enabled": True, "code_execution_enabled": False}},
            "advanced_settings.code_enabled",
        ),
        ({"enable_trace": 1}, "enable_trace"),
        ({"preferences": ["a"]}, "preferences"),
        ({"preferences": {"enable_search": "true"}}, "preferences.enable_search"),
        ({"preferences": {"selected_model": False}}, "preferences.selected_model"),
        ({"preferences": {"theme": "\0"}}, "preferences.theme"),
        ({"preferences": {"theme": "x" * 70_000}}, "preferences"),
    ],
)
def test_what_cannot_be_set_is_named_and_nothing_is_changed(
    rest: httpx.Client, body: dict[str, Any], param: str
) -> None:
    before = settings(rest)
    assert refusal(rest.patch(SETTINGS, json={"enable_tools": False, **body})) == (400, "invalid_parameter", param)
    assert settings(rest) == before


def test_what_is_no_json_object_is_refused(rest: httpx.Client) -> None:
    assert refusal(rest.patch(SETTINGS, content=b"{")) == (400, "invalid_json", None)
    assert refusal(rest.patch(SETTINGS, content=b'{"preferences": {"a": "\\ud800"}}'))[0] == 400
    assert rest.patch(SETTINGS, json=[1]).status_code == 400
    assert refusal(rest.patch(PREFERENCES, json={"preferences": 5})) == (400, "invalid_parameter", "preferences")


def test_deeply_nested_preferences_are_refused(rest: httpx.Client) -> None:
    deep: Any = 1
    for _ in range(40):
        deep = {"a": deep}
    assert refusal(rest.patch(PREFERENCES, json={"preferences": deep}))[:2] == (400, "invalid_parameter")


def test_strangers_are_not_let_in(server: JanServer) -> None:
    for verb, path in (("GET", SETTINGS), ("PATCH", SETTINGS), ("GET", PREFERENCES), ("PATCH", PREFERENCES)):
        answer = httpx.request(verb, server.url + path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")


def test_an_api_key_that_only_reads_changes_nothing(server: JanServer, rest: httpx.Client) -> None:
    made = rest.post("/auth/api-keys", json={"name": "reads", "scopes": ["read"]}).json()["data"]
    with httpx.Client(base_url=server.url, headers={"x-api-key": made["key"]}) as reader:
        assert settings(reader) == settings(rest)
        assert refusal(reader.patch(SETTINGS, json={}))[:2] == (403, "insufficient_scope")


def test_other_verbs_and_paths_do_not_exist(rest: httpx.Client) -> None:
    for verb, path in (("DELETE", SETTINGS), ("PUT", SETTINGS), ("GET", f"{SETTINGS}/"), ("GET", f"{SETTINGS}/memory")):
        assert refusal(rest.request(verb, path))[:2] == (404, "route_not_found")
