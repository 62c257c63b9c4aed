"""The arguments of a call, by the tool's own schema. The only place that knows jsonschema."""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # the library is not annotated
from jsonschema.exceptions import best_match  # type: ignore[import-untyped]  # see above

from services.mcp.tool import Json


class WrongArguments(Exception):
    """They do not fit the schema; `field` is the dotted path of the one to blame, or '' for all of them."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def fitting(arguments: Json, schema: Json) -> Json:
    """The arguments with the schema's defaults for those that are absent or null. Raises `WrongArguments`."""
    properties: dict[str, Any] = schema.get("properties", {})
    given = {name: value for name, value in arguments.items() if value is not None}
    filled = {name: deepcopy(each["default"]) for name, each in properties.items() if "default" in each} | given
    error = best_match(_validator(orjson.dumps(schema)).iter_errors(filled))
    if error is not None:
        path = [str(step) for step in error.absolute_path]
        if error.validator == "required":
            path += [name for name in error.validator_value if name not in error.instance][:1]
        raise WrongArguments(".".join(path), error.message[:500])
    return filled


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> Draft202012Validator:
    return Draft202012Validator(orjson.loads(schema))
