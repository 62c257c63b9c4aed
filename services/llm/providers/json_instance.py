"""A small value that fits a JSON schema: what jan-demo answers where structured output or a tool call is demanded."""

from __future__ import annotations

import math
from typing import Any

_MAX_VALUES = 1000
"""Schemas can demand exponentially many values; past this many the rest is null."""

_MAX_DEPTH = 60
_MAX_PADDING = 10_000

_FORMATS = {
    "date": "2025-01-01",
    "date-time": "2025-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "PT0S",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}

_COMBINATIONS = {"allOf", "anyOf", "oneOf"}

_KEYWORD_TYPES = {
    "properties": "object",
    "required": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "minimum": "number",
    "maximum": "number",
    "multipleOf": "number",
}


def instance_of(schema: Any, text: str) -> Any:
    """The smallest natural value that `schema` admits, with `text` wherever a free string is wanted.

    Objects hold what is required and nothing else, arrays as few items as allowed; `const`, `enum`, `default` and
    `examples` are taken by their word. `pattern`, `not` and conditions are not solved.
    """
    return _Maker(schema, text).value(schema)


class _Maker:
    def __init__(self, root: Any, text: str) -> None:
        self._root = root
        self._text = text
        self._values_left = _MAX_VALUES
        self._depth = 0
        self._open_references = ["#"]

    def value(self, schema: Any) -> Any:
        self._values_left -= 1
        self._depth += 1
        try:
            if schema is False or self._values_left < 0 or self._depth > _MAX_DEPTH:
                return None
            return self._described(schema) if isinstance(schema, dict) else self._text
        finally:
            self._depth -= 1

    def _described(self, schema: dict[str, Any]) -> Any:
        if isinstance(schema.get("$ref"), str):
            return self._referenced(schema["$ref"])
        if _COMBINATIONS & schema.keys():
            return self.value(_combined(schema, self._root))
        for word in ("const", "default"):
            if word in schema:
                return schema[word]
        for word in ("enum", "examples"):
            if isinstance(schema.get(word), list) and schema[word]:
                return schema[word][0]
        return self._of_type(_type(schema), schema)

    def _referenced(self, reference: str) -> Any:
        if reference in self._open_references:
            return None  # a type that requires itself has no finite value
        self._open_references.append(reference)
        try:
            return self.value(_resolved(reference, self._root))
        finally:
            self._open_references.pop()

    def _of_type(self, name: str, schema: dict[str, Any]) -> Any:
        if name == "object":
            return self._object(schema)
        if name == "array":
            return self._array(schema)
        if name in ("number", "integer"):
            return _number(schema, whole=name == "integer")
        if name == "boolean":
            return False
        return None if name == "null" else _string(schema, self._text)

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        known = _dict(schema, "properties")
        required = _list(schema, "required")
        return {name: self.value(known.get(name, True)) for name in required if isinstance(name, str)}

    def _array(self, schema: dict[str, Any]) -> list[Any]:
        first = _list(schema, "prefixItems")
        count = min(int(_limit(schema, "minItems") or 0), _MAX_VALUES)
        return [self.value(first[at] if at < len(first) else schema.get("items", True)) for at in range(count)]


def _combined(schema: dict[str, Any], root: Any) -> Any:
    """`schema` with all of `allOf` and the first of `anyOf` and `oneOf` laid into it."""
    flat = {key: value for key, value in schema.items() if key not in _COMBINATIONS}
    inner = [
        each for word, most in (("allOf", None), ("anyOf", 1), ("oneOf", 1)) for each in _list(schema, word)[:most]
    ]
    if len(inner) == 1 and not flat.keys() & {"type", *_KEYWORD_TYPES}:
        return inner[0]  # keeps a lone `$ref`, and with it the guard against loops
    for each in inner:
        _lay(flat, each, root)
    return flat


def _lay(flat: dict[str, Any], schema: Any, root: Any) -> None:
    if isinstance(schema, dict) and isinstance(schema.get("$ref"), str):
        schema = _resolved(schema["$ref"], root)
    if not isinstance(schema, dict):
        return
    properties = {**_dict(flat, "properties"), **_dict(schema, "properties")}
    required = [*_list(flat, "required"), *_list(schema, "required")]
    flat.update(schema)
    flat.update({key: value for key, value in (("properties", properties), ("required", required)) if value})


def _resolved(reference: str, root: Any) -> Any:
    """The part of `root` a local `$ref` points to; anything else counts as unrestricted."""
    at = root
    for word in reference.removeprefix("#").split("/")[1:]:
        name = word.replace("~1", "/").replace("~0", "~")
        if not isinstance(at, dict) or name not in at:
            return True
        at = at[name]
    return at if reference.startswith("#") else True


def _type(schema: dict[str, Any]) -> str:
    given = schema.get("type")
    if isinstance(given, list) and given:
        given = next((each for each in given if each != "null"), "null")
    if isinstance(given, str):
        return given
    return next((kind for keyword, kind in _KEYWORD_TYPES.items() if keyword in schema), "string")


def _string(schema: dict[str, Any], text: str) -> str:
    if str(schema.get("format")) in _FORMATS:
        return _FORMATS[schema["format"]]
    least = min(int(_limit(schema, "minLength") or 0), _MAX_PADDING)
    most = _limit(schema, "maxLength")
    return text.ljust(least, ".")[: None if most is None else int(most)]


def _number(schema: dict[str, Any], *, whole: bool) -> float:
    """Zero if it is allowed, else the first that is among the limits, their neighbours and the middle."""
    lows, highs = _limits(schema, "minimum", "exclusiveMinimum"), _limits(schema, "maximum", "exclusiveMaximum")
    low, high = max(lows, default=-math.inf), min(highs, default=math.inf)
    step = _limit(schema, "multipleOf") or (1 if whole else 0)
    gap = step or 1
    near = [each for each in (low, high, low + gap, high - gap, (low + high) / 2) if math.isfinite(each)]
    if step > 0:
        counts = [each / step for each in near if math.isfinite(each / step)]
        near = [rounded * step for count in counts for rounded in (math.ceil(count), math.floor(count))]
    number = next((each for each in [0, *near] if _admitted(each, schema)), 0)
    return int(number) if float(number).is_integer() else number


def _admitted(number: float, schema: dict[str, Any]) -> bool:
    return (
        all(number >= limit for limit in _limits(schema, "minimum"))
        and all(number > limit for limit in _limits(schema, "exclusiveMinimum"))
        and all(number <= limit for limit in _limits(schema, "maximum"))
        and all(number < limit for limit in _limits(schema, "exclusiveMaximum"))
    )


def _limits(schema: dict[str, Any], *keywords: str) -> list[float]:
    return [limit for limit in (_limit(schema, keyword) for keyword in keywords) if limit is not None]


def _limit(schema: dict[str, Any], keyword: str) -> float | None:
    value = schema.get(keyword)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _list(schema: dict[str, Any], keyword: str) -> list[Any]:
    value = schema.get(keyword)
    return value if isinstance(value, list) else []


def _dict(schema: dict[str, Any], keyword: str) -> dict[str, Any]:
    value = schema.get(keyword)
    return value if isinstance(value, dict) else {}
