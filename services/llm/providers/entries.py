"""The providers file (`deploy/config/providers.yml`): which upstreams there are and what they offer (CONTRACT 4.4)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from services.llm.providers.http1 import Timeouts
from services.runtime.config import ConfigError

# Where each vendor's API lives. A type without an address needs `url`.
BASE_URLS = {
    "anthropic": "https://api.anthropic.com",
    "cohere": "https://api.cohere.ai/compatibility/v1",
    "deepinfra": "https://api.deepinfra.com/v1/openai",
    "google": "https://generativelanguage.googleapis.com/v1beta/openai",
    "groq": "https://api.groq.com/openai/v1",
    "huggingface": "https://router.huggingface.co/v1",
    "mistral": "https://api.mistral.ai/v1",
    "ollama": "http://localhost:11434/v1",
    "openai": "https://api.openai.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "perplexity": "https://api.perplexity.ai",
    "togetherai": "https://api.together.xyz/v1",
    "azure_openai": "",
    "custom": "",
    "jan": "",
    "vllm": "",
}
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass(frozen=True)
class Address:
    """One place an upstream answers at."""

    url: str
    weight: int = 1
    priority: int = 0


@dataclass(frozen=True)
class ListedModel:
    """A model named in the file."""

    id: str
    upstream_id: str


@dataclass(frozen=True)
class Entry:
    """One provider, as configured or as discovered."""

    name: str
    type: str
    addresses: tuple[Address, ...]
    api_key: str = field(default="", repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    models: tuple[ListedModel, ...] = ()
    sync_models: bool = True
    max_concurrency: int = 0
    stream_usage: bool = True
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass(frozen=True)
class ProvidersFile:
    """What the file says."""

    entries: tuple[Entry, ...] = ()
    aliases: dict[str, str] = field(default_factory=dict)


def read(path: Path, chosen_set: str, environ: Mapping[str, str] = os.environ) -> ProvidersFile:
    """Read one set of the file; a missing file is empty. Raises `ConfigError` naming file, provider and field."""
    if not path.exists():
        return ProvidersFile()
    try:
        document = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    document = _expand(document, environ)
    if not isinstance(document, dict) or not isinstance(document.get("providers") or {}, dict):
        raise ConfigError(f"{path}: expected `providers:` with a set such as `default:` that holds a list")
    rows = (document.get("providers") or {}).get(chosen_set) or []
    entries = tuple(_entry(row, f"{path}: providers.{chosen_set}[{index}]") for index, row in enumerate(rows))
    return ProvidersFile(
        entries=tuple(each for each in entries if each is not None),
        aliases={str(alias): str(target) for alias, target in (document.get("aliases") or {}).items()},
    )


def _expand(node: Any, environ: Mapping[str, str]) -> Any:
    """Replace `${NAME}` and `${NAME:-default}`; an unset variable without default is empty."""
    if isinstance(node, str):
        return _VARIABLE.sub(lambda match: environ.get(match[1]) or match[2] or "", node)
    if isinstance(node, list):
        return [_expand(each, environ) for each in node]
    if isinstance(node, dict):
        return {key: _expand(value, environ) for key, value in node.items()}
    return node


def _entry(row: Any, at: str) -> Entry | None:
    """One entry; None when it is switched off (`active: false`, or an empty `active` or `url` from the environment)."""
    if not isinstance(row, dict) or not row.get("name"):
        raise ConfigError(f"{at}: a provider needs a name")
    kind = row.get("type", "custom")
    if kind not in BASE_URLS:
        raise ConfigError(f"{at}.type: {kind!r} is not one of {', '.join(sorted(BASE_URLS))}")
    if str(row.get("active", True)).lower() in ("false", "", "none", "0", "no"):
        return None
    addresses = _addresses(row, BASE_URLS[kind], at)
    if not addresses:
        return None
    timeouts = row.get("timeouts") or {}
    try:
        return Entry(
            name=str(row["name"]),
            type=kind,
            addresses=addresses,
            api_key=str(row.get("api_key") or ""),
            headers={str(name): str(value) for name, value in (row.get("headers") or {}).items()},
            models=tuple(_model(each, f"{at}.models[{index}]") for index, each in enumerate(row.get("models") or [])),
            sync_models=bool(row.get("sync_models", not row.get("models"))),
            max_concurrency=int(row.get("max_concurrency", 0)),
            stream_usage=bool(row.get("stream_usage", True)),
            timeouts=Timeouts(**{name: float(value) for name, value in timeouts.items()}),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{at}: {error}") from error


def _addresses(row: dict[str, Any], default: str, at: str) -> tuple[Address, ...]:
    given = row.get("endpoints") or [{"url": row.get("url", default)}]
    found = []
    for index, each in enumerate(given):
        url = str(each.get("url") or "")
        if not url:
            continue
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ConfigError(f"{at}.endpoints[{index}].url: expected http(s)://host without credentials, got {url!r}")
        weight = int(each.get("weight", row.get("weight", 1)))
        if weight < 1:
            raise ConfigError(f"{at}.endpoints[{index}].weight: must be at least 1")
        found.append(Address(url, weight, int(each.get("priority", row.get("priority", 0)))))
    return tuple(found)


def _model(row: Any, at: str) -> ListedModel:
    if isinstance(row, str):
        return ListedModel(row, row)
    if not isinstance(row, dict) or not row.get("id"):
        raise ConfigError(f"{at}: a model needs an id")
    return ListedModel(str(row["id"]), str(row.get("upstream_id") or row["id"]))
