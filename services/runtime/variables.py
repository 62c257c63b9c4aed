"""Variables of the environment in the YAML files that an operator edits: `${NAME}` and `${NAME:-default}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def expanded(node: Any, environ: Mapping[str, str]) -> Any:
    """The document with its variables replaced; one that is unset and has no default is empty."""
    if isinstance(node, str):
        return _VARIABLE.sub(lambda match: environ.get(match[1]) or match[2] or "", node)
    if isinstance(node, list):
        return [expanded(each, environ) for each in node]
    if isinstance(node, dict):
        return {key: expanded(value, environ) for key, value in node.items()}
    return node
