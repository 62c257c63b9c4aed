"""The one template language there is: `${name}` and `$each` in YAML, filled in node by node (envoy/envoy.yaml)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")


def fill(node: Any, values: Mapping[str, Any]) -> Any:
    """`node` with every `${name}` replaced and every `$each` item repeated. Raises `KeyError` for an unknown name.

    A text that is nothing but `${name}` becomes the value itself, of whatever type; elsewhere its text is put in.
    """
    if isinstance(node, str):
        whole = _PLACEHOLDER.fullmatch(node)
        return values[whole[1]] if whole else _PLACEHOLDER.sub(lambda name: str(values[name[1]]), node)
    if isinstance(node, list):
        return [each for item in node for each in _repeated(item, values)]
    if isinstance(node, dict):
        return {key: fill(value, values) for key, value in node.items()}
    return node


def _repeated(item: Any, values: Mapping[str, Any]) -> Iterator[Any]:
    if not isinstance(item, dict) or "$each" not in item:
        yield fill(item, values)
        return
    rows = item["$each"]
    body = {key: value for key, value in item.items() if key != "$each"}
    for row in values[rows] if isinstance(rows, str) else fill(rows, values):
        yield fill(body, {**values, **row})
