"""JSON schemas in the subset that Anthropic's structured outputs accept.

Their constrained decoding refuses keywords such as `minimum` or `pattern`, and objects that allow further properties.
Like the official SDK, what it cannot enforce moves into the description, where the model can still read it.
"""

from __future__ import annotations

from typing import Any

import orjson

from services.llm.providers.provider import Json

_KEPT = {"type", "enum", "const", "title", "description", "required"}
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
_MAPPINGS = {"properties", "$defs", "definitions"}
_CHOICES = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
_IMPLIED = {"additionalProperties", "$schema"}


def narrowed(schema: Any) -> Any:
    """A schema the API accepts in the place of this one; anything but a schema object comes back as it is."""
    if not isinstance(schema, dict):
        return schema
    kept: Json = {}
    unsupported: Json = {}
    for key, value in schema.items():
        if key in _MAPPINGS and isinstance(value, dict):
            kept[key] = {name: narrowed(each) for name, each in value.items()}
        elif key in _CHOICES and isinstance(value, list):
            kept[_CHOICES[key]] = [narrowed(each) for each in value]
        elif key == "items":
            kept[key] = narrowed(value)
        elif key in _KEPT or (key == "format" and str(value) in _FORMATS) or (key == "minItems" and value in (0, 1)):
            kept[key] = value
        elif key not in _IMPLIED:
            unsupported[key] = value
    if "$ref" in schema:
        # A reference tolerates no neighbours but the definitions it may point into.
        return {"$ref": schema["$ref"]} | {key: kept[key] for key in ("$defs", "definitions") if key in kept}
    if "properties" in schema or "object" in _types(schema):
        kept = {"properties": {}} | kept | {"additionalProperties": False}
    return _described(kept, unsupported)


def _types(schema: Json) -> list[Any]:
    kind = schema.get("type")
    return kind if isinstance(kind, list) else [kind]


def _described(kept: Json, unsupported: Json) -> Json:
    if not unsupported:
        return kept
    note = "{" + ", ".join(f"{key}: {orjson.dumps(value).decode()}" for key, value in unsupported.items()) + "}"
    description = kept.get("description")
    return kept | {"description": f"{description}\n\n{note}" if description else note}
