"""What is understood of model lists, and that nothing in one can break the server."""

from typing import Any

import pytest

from services.llm.models.offers import MOST_LISTED, listed, offers_of
from services.llm.models.registry import KnownModel, Registry
from services.llm.providers.description import Description, describe, family, told_by_name
from services.llm.providers.entries import Address, Entry, ListedModel


@pytest.mark.parametrize(
    ("row", "window"),
    [
        ({"max_model_len": 32768}, 32768),  # vLLM
        ({"context_window": 131072}, 131072),  # Groq
        ({"context_length": 4096}, 4096),  # OpenRouter, Together
        ({"max_context_length": 8192}, 8192),  # Mistral
        ({"meta": {"n_ctx_train": 2048}}, 2048),  # llama.cpp
        ({"context_length": None, "max_model_len": "many"}, 0),
        ({"context_length": -1}, 0),
        ({"context_length": True}, 0),
        ({"context_length": 10**12}, 0),
        ({"meta": [1]}, 0),
    ],
)
def test_the_context_window_has_many_names(row: dict[str, Any], window: int) -> None:
    assert describe("m", row).context_window == window


@pytest.mark.parametrize(
    ("row", "capabilities"),
    [
        ({"capabilities": ["text", "tools"]}, ("text", "tools")),
        ({"capabilities": {"vision": True, "completion_chat": True, "audio": False}}, ("text", "vision")),
        ({"architecture": {"input_modalities": ["text", "audio"]}}, ("text", "audio")),
        ({"capabilities": "all"}, ("text",)),
        ({"capabilities": [1, None, "x" * 65]}, ("text",)),
        ({"architecture": 7, "supported_parameters": 7}, ("text",)),
    ],
)
def test_capabilities_are_said_in_many_ways(row: dict[str, Any], capabilities: tuple[str, ...]) -> None:
    assert describe("m", row).capabilities == capabilities


@pytest.mark.parametrize(
    ("name", "capabilities"),
    [
        ("llama-3.1-8b-instruct", ("text", "instruct")),
        ("gpt-4o-mini", ("text", "vision")),
        ("deepseek-r1", ("text", "reasoning")),
        ("qwen2.5-vl-7b", ("text", "vision")),
        ("text-embedding-3-small", ("embeddings",)),
        ("bge-m3", ("embeddings",)),
        ("whisper-1", ("audio",)),
        ("harvey", ("text",)),
    ],
)
def test_a_name_tells_something(name: str, capabilities: tuple[str, ...]) -> None:
    assert told_by_name(name) == capabilities


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("org/Qwen2.5-0.5B-Instruct", "qwen2.5"),
        ("gpt-4o-mini", "gpt-4"),
        ("llama-3.1-8b", "llama-3.1"),
        ("jan-demo", "jan"),
        ("7b", ""),
        ("", ""),
    ],
)
def test_a_name_tells_the_family(name: str, line: str) -> None:
    assert family(name) == line


def test_prices_are_numbers_or_nothing() -> None:
    said = describe("m", {"pricing": {"prompt": "0.5", "completion": "0"}})
    assert said.pricing == {"prompt": 0.5, "completion": 0.0, "currency": "USD"}
    for wrong in ({"prompt": "-1"}, {"prompt": "nan"}, {"prompt": "inf"}, {"prompt": "free"}, {"prompt": 1}, "x", None):
        assert describe("m", {"pricing": wrong}).pricing == {}


def test_only_a_name_is_not_much() -> None:
    said = describe("llama", {"id": "llama", "object": "model"})
    assert said == Description(name="llama", family="llama", capabilities=("text",))
    assert describe("llama", {"description": "good"}).told


def test_the_file_is_right() -> None:
    row = {"capabilities": ["text"], "context_length": 1}
    said = describe("m", row, ListedModel("m", "u", ("tools",), 2))
    assert (said.capabilities, said.context_window) == (("tools",), 2)


def test_ids_that_nobody_can_ask_for_are_left_out() -> None:
    rows = [{"id": each} for each in ("ok", "", "a\0b", "x" * 257, "a\nb")]
    assert [row.id for row in listed(rows)] == ["ok"]


# Offers

ONE, TWO = Address("http://one/v1"), Address("http://two/v1")
ENTRY = Entry("farm", "vllm", (ONE, TWO), models=(ListedModel("house", "h-7b"),))


def test_a_model_has_the_addresses_that_list_it() -> None:
    lists = {ONE.url: listed([{"id": "a"}, {"id": "h-7b"}]), TWO.url: listed([{"id": "a"}, {"id": "b"}])}
    offers = offers_of(ENTRY, lists, Registry())
    assert [(offer.model_id, offer.upstream_id, offer.addresses) for offer in offers] == [
        ("house", "h-7b", (ONE, TWO)),
        ("a", "a", (ONE, TWO)),
        ("b", "b", (TWO,)),
    ]
    assert all(offer.callable for offer in offers)


def test_a_model_that_was_there_before_is_not_available() -> None:
    known = KnownModel("pm_1", ENTRY.id, "old", "old", None, {}, 1, 1)
    foreign = KnownModel("pm_2", "prov_other", "foreign", "foreign", None, {}, 1, 1)
    _, old = offers_of(ENTRY, {}, Registry(models={"pm_1": known, "pm_2": foreign}))
    assert (old.model_id, old.available, old.callable, old.addresses) == ("old", False, False, ())


def test_ids_are_the_same_wherever_they_are_made() -> None:
    assert offers_of(ENTRY, {}, Registry())[0].id == offers_of(ENTRY, {}, Registry())[0].id
    assert ENTRY.id == Entry("farm", "openai", ()).id != Entry("barn", "vllm", ()).id


def test_new_models_wait_for_an_administrator_when_the_file_says_so() -> None:
    entry = Entry("shy", "vllm", (ONE,), models=(ListedModel("named", "named"),), auto_enable_new_models=False)
    named, new = offers_of(entry, {ONE.url: listed([{"id": "new"}])}, Registry())
    assert (named.enabled, new.enabled) == (True, False)


def test_a_list_without_end_is_cut() -> None:
    rows = [{"id": f"model-{number}"} for number in range(MOST_LISTED + 1)]
    assert len(listed(rows)) == MOST_LISTED
