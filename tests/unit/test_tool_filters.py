"""What administrators forbid tools to be asked, and what fits the schema of a tool."""

from __future__ import annotations

import time
from typing import Any

import pytest

from services.mcp.arguments import WrongArguments, fitting
from services.mcp.filters import Filters, check_patterns, compiled
from services.runtime.errors import InvalidRequest

# Patterns


def blocked(pattern: str, arguments: dict[str, Any]) -> bool:
    return compiled([pattern], []).refusal(arguments) is not None


@pytest.mark.parametrize(
    ("pattern", "arguments"),
    [
        ("secret", {"q": "the SECRET plan"}),
        ("^a.c$", {"q": "ABC"}),
        ("straße", {"q": "STRAßE 5"}),
        ("x", {"deep": [{"a": ["b", {"c": "x"}]}]}),
        ("name", {"metadata": {"a name": 1}}),
        ("\\bkey\\b|token", {"q": "a token"}),
        ("a\nb", {"q": "a\nb"}),
    ],
)
def test_a_pattern_is_found_in_any_text_of_the_arguments(pattern: str, arguments: dict[str, Any]) -> None:
    assert blocked(pattern, arguments)


@pytest.mark.parametrize(
    ("pattern", "arguments"),
    [("secret", {"q": "public"}), ("q", {"q": "x"}), ("5", {"num": 5}), ("true", {"a": True}), ("x", {})],
)
def test_names_of_arguments_and_numbers_are_no_text(pattern: str, arguments: dict[str, Any]) -> None:
    assert not blocked(pattern, arguments)


def test_without_patterns_everything_passes() -> None:
    assert Filters().empty
    assert Filters().refusal({"q": "anything"}) is None
    assert not compiled([], ["a"]).empty


@pytest.mark.parametrize(
    ("pattern", "at"),
    [("(", 0), ("a(?=b)", 0), ("(a)\\1", 0), ("*", 0), ("", 0), ("x" * 513, 0), ("\0", 0), ("(a{1000}){1000}", 0)],
)
def test_what_is_no_re2_pattern_is_refused_by_its_place(pattern: str, at: int) -> None:
    with pytest.raises(InvalidRequest) as error:
        check_patterns(["fine", pattern], "filter.disallowed_keywords")
    assert error.value.param == f"filter.disallowed_keywords[{at + 1}]"
    check_patterns(["fine", "(?-i)Also", "a|b", "x" * 512], "")


def test_a_pattern_that_other_engines_choke_on_takes_no_time() -> None:
    started = time.monotonic()
    assert not blocked("(a+)+$", {"q": "a" * 100_000 + "b"})
    assert time.monotonic() - started < 2


ROWS = [
    {"title": "Good", "snippet": "fine", "source_url": "https://a.example/", "cache_status": "live"},
    {"title": "Bad news", "snippet": "fine", "source_url": "https://b.example/"},
    {"title": "Good", "snippet": "very BAD", "source_url": "https://c.example/"},
    {"title": "Good", "snippet": "fine", "source_url": "https://bad.example/"},
]


def test_search_results_with_what_is_disallowed_are_dropped_and_counted() -> None:
    found = {"results": ROWS, "citations": [row["source_url"] for row in ROWS], "count": 4, "metadata": {"a": 1}}
    assert compiled(["bad"], []).without_disallowed(found) == {
        "results": ROWS[:1],
        "citations": ["https://a.example/"],
        "count": 1,
        "metadata": {"a": 1, "filtered": 3},
    }


@pytest.mark.parametrize(
    "structured",
    [{"results": ROWS[:1]}, {"results": "bad"}, {"results": ["bad", None, 5]}, {"text": "bad"}, {"results": []}],
)
def test_what_has_nothing_to_drop_stays_as_it_is(structured: dict[str, Any]) -> None:
    assert compiled(["bad"], []).without_disallowed(structured) is structured


def test_our_own_words_about_a_result_are_not_looked_at() -> None:
    found = {"results": ROWS[:1]}
    assert compiled(["live|title"], []).without_disallowed(found) is found


def test_a_result_that_needs_approval_is_none_to_drop() -> None:
    found = {"results": ROWS}
    assert compiled([], ["bad"]).without_disallowed(found) is found


# Arguments

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "q": {"type": "string", "minLength": 1},
        "num": {"type": "integer", "minimum": 1, "default": 10},
        "tags": {"type": "array", "items": {"type": "string"}, "default": []},
    },
    "required": ["q"],
}


def test_defaults_are_filled_in_for_what_is_absent_or_null() -> None:
    assert fitting({"q": "a", "num": None}, SCHEMA) == {"q": "a", "num": 10, "tags": []}
    assert fitting({"q": "a", "num": 3, "other": 1}, SCHEMA) == {"q": "a", "num": 3, "tags": [], "other": 1}


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "q"),
        ({"q": None}, "q"),
        ({"q": 5}, "q"),
        ({"q": ""}, "q"),
        ({"q": "a", "num": "5"}, "num"),
        ({"q": "a", "num": 0}, "num"),
        ({"q": "a", "num": 1.5}, "num"),
        ({"q": "a", "num": True}, "num"),
        ({"q": "a", "tags": ["x", 5]}, "tags.1"),
    ],
)
def test_what_does_not_fit_is_named(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(WrongArguments) as error:
        fitting(arguments, SCHEMA)
    assert error.value.field == field
    assert len(error.value.message) <= 500


def test_a_default_is_never_shared_between_calls() -> None:
    fitting({"q": "a"}, SCHEMA)["tags"].append("x")
    assert fitting({"q": "a"}, SCHEMA)["tags"] == []
