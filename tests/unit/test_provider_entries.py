"""The providers file: what it means, and that a mistake in it names its place."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from services.llm.providers.entries import BASE_URLS, Address, Entry, ListedModel, ProvidersFile, is_address, read
from services.llm.providers.timeouts import Timeouts
from services.runtime.config import ConfigError

SHIPPED = Path(__file__).parents[2] / "deploy/config/providers.yml"


def written(folder: Path, text: str) -> Path:
    path = folder / "providers.yml"
    path.write_text(text)
    return path


def entries(folder: Path, *rows: dict[str, Any], **environ: str) -> tuple[Entry, ...]:
    return read(written(folder, yaml.safe_dump({"providers": {"default": list(rows)}})), "default", environ).entries


def test_a_missing_file_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "none.yml", "default") == ProvidersFile()


@pytest.mark.parametrize("text", ["", "providers:\n", "providers: {default: }\n", "aliases: {}\n"])
def test_a_file_without_entries_is_empty(tmp_path: Path, text: str) -> None:
    assert read(written(tmp_path, text), "default") == ProvidersFile()


def test_the_file_that_is_shipped_can_be_read() -> None:
    shipped = read(SHIPPED, "default", {})
    assert shipped.entries == ()
    assert shipped.aliases == {"jan-v1-4b": "default", "jan-v2-30b": "default", "qwen2.5-0.5b-instruct": "default"}


def test_a_name_and_a_type_are_enough(tmp_path: Path) -> None:
    assert entries(tmp_path, {"name": "o", "type": "openai"}) == (
        Entry("o", "openai", (Address("https://api.openai.com/v1"),)),
    )


def test_every_field_is_read(tmp_path: Path) -> None:
    row = {
        "name": "gpu",
        "type": "vllm",
        "api_key": "${KEY}",
        "headers": {"x-team": "${TEAM:-core}", "x-number": 5},
        "endpoints": [
            {"url": "http://gpu-1:8000/v1", "weight": 2},
            {"url": "http://gpu-2:8000/v1"},
            {"url": "http://spare:8000/v1", "priority": 1},
        ],
        "models": [
            "plain",
            {"id": "short", "upstream_id": "org/long", "context_window": 8192, "capabilities": ["tools"]},
        ],
        "max_concurrency": 16,
        "stream_usage": False,
        "timeouts": {"connect": 1, "first_byte": 300},
        "description": "in the cellar",
        "metadata": {"rack": 7},
        "auto_enable_new_models": False,
    }
    assert entries(tmp_path, row, KEY="sk-1") == (
        Entry(
            name="gpu",
            type="vllm",
            addresses=(
                Address("http://gpu-1:8000/v1", 2),
                Address("http://gpu-2:8000/v1"),
                Address("http://spare:8000/v1", priority=1),
            ),
            api_key="sk-1",
            headers={"x-team": "core", "x-number": "5"},
            models=(ListedModel("plain", "plain"), ListedModel("short", "org/long", ("tools",), 8192)),
            sync_models=False,
            max_concurrency=16,
            stream_usage=False,
            timeouts=Timeouts(connect=1.0, first_byte=300.0),
            auto_enable_new_models=False,
            metadata={"rack": "7", "description": "in the cellar"},
        ),
    )


def test_models_are_read_from_the_upstream_unless_the_file_names_some(tmp_path: Path) -> None:
    first, second, third = entries(
        tmp_path,
        {"name": "a", "type": "openai"},
        {"name": "b", "type": "openai", "models": ["m"]},
        {"name": "c", "type": "openai", "models": ["m"], "sync_models": True},
    )
    assert (first.sync_models, second.sync_models, third.sync_models) == (True, False, True)


@pytest.mark.parametrize(
    ("text", "environ", "value"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("${A}", {}, ""),
        ("${A:-y}", {}, "y"),
        ("${A:-y}", {"A": ""}, "y"),
        ("${A:-y}", {"A": "x"}, "x"),
        ("${A:-}", {}, ""),
        ("a${A}b${B}c", {"A": "1", "B": "2"}, "a1b2c"),
        ("$A $ {A}", {"A": "x"}, "$A $ {A}"),
        ("${A}", {"A": "${B}", "B": "deep"}, "${B}"),
    ],
)
def test_variables_are_taken_from_the_environment(
    tmp_path: Path, text: str, environ: dict[str, str], value: str
) -> None:
    (entry,) = entries(tmp_path, {"name": "a", "type": "openai", "api_key": text}, **environ)
    assert entry.api_key == value


@pytest.mark.parametrize("active", [False, "false", "", "${OFF}", "no", 0, None])
def test_an_entry_that_is_switched_off_is_left_out(tmp_path: Path, active: Any) -> None:
    assert entries(tmp_path, {"name": "a", "type": "openai", "active": active}) == ()


def test_an_entry_whose_address_comes_empty_from_the_environment_is_left_out(tmp_path: Path) -> None:
    assert entries(tmp_path, {"name": "a", "url": "${NOT_SET}"}, {"name": "b", "type": "jan"}) == ()


@pytest.mark.parametrize(("word", "on"), [("true", True), ("false", False), ("", False), (True, True), (False, False)])
def test_a_switch_may_come_from_the_environment(tmp_path: Path, word: Any, on: bool) -> None:
    (entry,) = entries(tmp_path, {"name": "a", "type": "openai", "stream_usage": word, "sync_models": word})
    assert (entry.stream_usage, entry.sync_models) == (on, on)


def test_the_chosen_set_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "providers: {default: [], gpu: [{name: a, url: 'http://gpu/v1'}]}\naliases: {fast: a}\n")
    found = read(path, "gpu", {})
    assert ([each.name for each in found.entries], found.aliases) == (["a"], {"fast": "a"})


def test_a_key_is_not_shown_when_an_entry_is_printed(tmp_path: Path) -> None:
    row = {"name": "a", "type": "openai", "api_key": "sk-secret", "headers": {"x": "sk-secret"}}
    assert "sk-secret" not in repr(entries(tmp_path, row))


@pytest.mark.parametrize(
    ("said", "row"),
    [
        ("a provider needs a name", {"type": "openai"}),
        ("a provider needs a name", "openai"),
        ("type: 'gpt' is not one of", {"name": "a", "type": "gpt"}),
        ("is not one of", {"name": "a", "type": ["openai"]}),
        (r"endpoints\[0\].url", {"name": "a", "url": "gpu:8000"}),
        (r"endpoints\[0\].url", {"name": "a", "url": "ftp://gpu/v1"}),
        (r"endpoints\[0\].url", {"name": "a", "url": "http:///v1"}),
        (r"endpoints\[0\].url", {"name": "a", "url": "http://user:pw@gpu/v1"}),
        (r"endpoints\[0\].url", {"name": "a", "url": "http://gpu:port/v1"}),
        (r"endpoints\[0\].url", {"name": "a", "url": "http://gpu:99999/v1"}),
        (r"endpoints\[1\].weight", {"name": "a", "endpoints": [{"url": "http://a"}, {"url": "http://b", "weight": 0}]}),
        (r"endpoints\[0\]", {"name": "a", "endpoints": [{"url": "http://a", "weight": "heavy"}]}),
        (r"endpoints\[0\]", {"name": "a", "endpoints": ["http://a"]}),
        (r"models\[0\]: a model needs an id", {"name": "a", "url": "http://a", "models": [{"upstream_id": "x"}]}),
        ("timeouts", {"name": "a", "url": "http://a", "timeouts": {"read": 5}}),
        ("timeouts", {"name": "a", "url": "http://a", "timeouts": {"idle": "long"}}),
        ("timeouts", {"name": "a", "url": "http://a", "timeouts": 5}),
        ("max_concurrency", {"name": "a", "url": "http://a", "max_concurrency": "many"}),
    ],
)
def test_a_mistake_names_file_and_place(tmp_path: Path, said: str, row: Any) -> None:
    with pytest.raises(ConfigError, match=rf"providers\.yml: providers\.default\[1\].*{said}"):
        entries(tmp_path, {"name": "fine", "type": "openai"}, row)


@pytest.mark.parametrize(
    "text",
    [
        "providers: [",
        "- a list",
        "providers: [a, b]",
        "providers: {other: [{name: a}]}",
        "providers: {default: {name: a}}",
        "providers: {default: openai}",
        "providers: {default: []}\naliases: [a, b]",
    ],
)
def test_a_file_of_another_shape_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"providers\.yml"):
        read(written(tmp_path, text), "default", {})


def test_every_vendor_address_is_https_or_local() -> None:
    assert all(url == "" or url.startswith(("https://", "http://localhost")) for url in BASE_URLS.values())


@pytest.mark.parametrize(
    "url", ["http://h", "https://h:1/v1", "HTTP://H/v1/", "http://[::1]:8000/v1", "http://10.0.0.1/a%20b"]
)
def test_a_provider_may_answer_at_any_host_of_the_web_or_of_one_s_own_network(url: str) -> None:
    assert is_address(url)


@pytest.mark.parametrize(
    "url",
    [
        *("", "h", "//h/v1", "ftp://h", "file:///etc/passwd", "http://", "http:///v1", "http://h:0", "http://h:99999"),
        *("http://user:word@h", "http://user@h", "http://:word@h", "http://@h", "http://h\\@other"),
        *("http://h/v1?key=secret", "http://h?", "http://h#part", "http://h /v1", "http://h/\r\nx: y", "http://ü/v1"),
    ],
)
def test_what_is_no_address_or_holds_a_secret_is_none(url: str) -> None:
    assert not is_address(url)
