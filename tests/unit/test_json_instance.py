"""Small values that fit a JSON schema."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from services.llm.providers.json_instance import instance_of

TREE = {
    "type": "object",
    "required": ["name", "child"],
    "properties": {"name": {"type": "string"}, "child": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "hi"),
        ({"type": "string", "minLength": 4}, "hi.."),
        ({"type": "string", "maxLength": 1}, "h"),
        ({"type": "string", "format": "date-time"}, "2025-01-01T00:00:00Z"),
        ({"type": "string", "format": "uuid"}, "00000000-0000-4000-8000-000000000000"),
        ({"type": "string", "format": "of our own"}, "hi"),
        ({"type": "boolean"}, False),
        ({"type": "null"}, None),
        ({"type": ["null", "integer"]}, 0),
        ({"const": 5}, 5),
        ({"type": "string", "enum": ["red", "green"]}, "red"),
        ({"type": "integer", "default": 3}, 3),
        ({"type": "string", "examples": ["Paris"]}, "Paris"),
        ({}, "hi"),
        (True, "hi"),
        (False, None),
    ],
)
def test_a_scalar_is_the_simplest_its_schema_allows(schema: Any, value: object) -> None:
    assert instance_of(schema, "hi") == value


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, 0),
        ({"minimum": 3}, 3),
        ({"maximum": -2}, -2),
        ({"exclusiveMinimum": 3}, 4),
        ({"exclusiveMaximum": 0}, -1),
        ({"minimum": 1, "maximum": 10, "multipleOf": 4}, 4),
        ({"exclusiveMinimum": 4, "multipleOf": 4}, 8),
        ({"maximum": -1, "multipleOf": 4}, -4),
        ({"minimum": 1.5}, 2),
    ],
)
def test_an_integer_is_zero_or_the_nearest_allowed_one(schema: dict[str, Any], value: int) -> None:
    assert instance_of({"type": "integer", **schema}, "") == value


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
        ({"minimum": 0.25, "maximum": 0.5}, 0.25),
        ({"exclusiveMinimum": 0}, 1),
        ({"minimum": 0.1, "multipleOf": 0.25}, 0.25),
        ({"minimum": 1e308, "multipleOf": 1e-300}, 0),
    ],
)
def test_a_number_keeps_to_its_limits(schema: dict[str, Any], value: float) -> None:
    assert instance_of({"type": "number", **schema}, "") == value


def test_an_object_holds_what_is_required_and_nothing_else() -> None:
    schema = {
        "type": "object",
        "required": ["city", "days", "anything"],
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "minimum": 1},
            "unit": {"type": "string"},
        },
    }

    assert instance_of(schema, "Rome") == {"city": "Rome", "days": 1, "anything": "Rome"}
    assert instance_of({"properties": {"a": {}}}, "x") == {}


def test_an_array_is_as_short_as_allowed() -> None:
    assert instance_of({"type": "array", "items": {"type": "string"}}, "x") == []
    assert instance_of({"type": "array", "items": {"type": "string"}, "minItems": 2}, "x") == ["x", "x"]
    assert instance_of({"prefixItems": [{"type": "integer"}], "minItems": 2}, "x") == [0, "x"]


def test_references_are_followed_and_pointers_unescaped() -> None:
    schema = {
        "type": "object",
        "required": ["step"],
        "properties": {"step": {"$ref": "#/$defs/a~1b"}},
        "$defs": {"a/b": {"type": "object", "required": ["done"], "properties": {"done": {"type": "boolean"}}}},
    }

    assert instance_of(schema, "") == {"step": {"done": False}}
    assert instance_of({"$ref": "#/nowhere"}, "x") == "x"
    assert instance_of({"$ref": "https://example.com/schema"}, "x") == "x"


def test_all_of_is_merged_and_the_first_alternative_taken() -> None:
    named = {"properties": {"name": {"type": "string"}}, "required": ["name"]}
    aged = {"properties": {"age": {"type": "integer"}}, "required": ["age"]}

    assert instance_of({"allOf": [named, aged]}, "Ann") == {"name": "Ann", "age": 0}
    assert instance_of({"type": "object", "allOf": [{"$ref": "#/$defs/n"}], "$defs": {"n": named}}, "A") == {
        "name": "A"
    }
    assert instance_of({"anyOf": [{"oneOf": [{"type": "integer"}]}, {"type": "string"}]}, "x") == 0


def test_a_type_that_contains_itself_ends() -> None:
    assert instance_of(TREE, "root") == {"name": "root", "child": None}
    assert instance_of({"$ref": "#"}, "x") is None
    assert instance_of({"allOf": [{"$ref": "#"}, {"type": "integer"}]}, "x") is None


def test_schemas_that_demand_too_much_are_answered_with_nulls_instead_of_the_memory_of_the_machine() -> None:
    wide = {
        f"level{at}": {"type": "array", "minItems": 10, "items": {"$ref": f"#/$defs/level{at + 1}"}} for at in range(30)
    }
    deep: dict[str, Any] = {}
    for _ in range(800):
        deep = {"type": "object", "required": ["in"], "properties": {"in": deep}}

    for schema in ({"$ref": "#/$defs/level0", "$defs": wide}, deep, {"type": "array", "minItems": 10**12}):
        assert len(orjson.dumps(instance_of(schema, "x"))) < 100_000
    assert len(instance_of({"type": "string", "minLength": 10**12}, "x")) == 10_000


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": "x", "required": "y"},
        {"allOf": [{"properties": []}, 3, None]},
        {"type": {"a": 1}, "format": []},
        {"type": "array", "minItems": "2", "items": 5, "prefixItems": {}},
        {"enum": "red", "anyOf": {}, "$ref": 7},
        [],
        None,
        "string",
    ],
)
def test_a_malformed_schema_gets_some_value(schema: Any) -> None:
    orjson.dumps(instance_of(schema, "x"))
