"""The providers file (`deploy/config/providers.yml`): which upstreams there are and what they offer (CONTRACT 4.4)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from services.llm.providers.timeouts import Timeouts
from services.runtime import ids
from services.runtime.config import ConfigError
from services.runtime.variables import expanded

# Where each vendor's API lives. A type without an address needs `url`.
IMAGES = "image_input"
"""In an entry of the file `image_input: {url: true}`, in the metadata of a provider `"image_input": "url"`."""
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
_NOT_IN_ADDRESSES = re.compile(r"[@?#\s\\]")


@dataclass(frozen=True)
class Address:
    """One place an upstream answers at."""

    url: str
    weight: int = 1
    priority: int = 0


@dataclass(frozen=True)
class ListedModel:
    """A model named in the file, and what that says about it."""

    id: str
    upstream_id: str
    capabilities: tuple[str, ...] = ()
    context_window: int = 0


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
    discovered: bool = False
    """Whether nobody asked for it: an engine that may or may not run on this machine."""
    made_id: str = ""
    """Id of a provider that an administrator has made; empty for those of the configuration."""
    active: bool = True
    """Whether its models can be called."""
    auto_enable_new_models: bool = True
    """Whether models that only the upstream names can be called before an administrator has said so."""
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def fetches_images(self) -> bool:
        """Whether it gets images from our signed URLs by itself, instead of having them sent along."""
        return self.metadata.get(IMAGES) == "url"

    @cached_property
    def id(self) -> str:
        """The provider's id: everywhere and always the same for one of the configuration with this name."""
        return self.made_id or ids.derived_id("prov", self.name)


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
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    document = expanded(document, environ)
    if not isinstance(document, dict) or not isinstance(document.get("providers") or {}, dict):
        raise ConfigError(f"{path}: expected `providers:` with a set such as `default:` that holds a list")
    sets, aliases = document.get("providers") or {}, document.get("aliases") or {}
    rows = sets.get(chosen_set) or []
    if (sets and chosen_set not in sets) or not isinstance(rows, list):
        raise ConfigError(f"{path}: expected a list under providers.{chosen_set}; there is {', '.join(map(str, sets))}")
    if not isinstance(aliases, dict):
        raise ConfigError(f"{path}: expected `aliases:` with `name: model` pairs")
    entries = tuple(_entry(row, f"{path}: providers.{chosen_set}[{index}]") for index, row in enumerate(rows))
    return ProvidersFile(
        entries=tuple(each for each in entries if each is not None),
        aliases={str(alias): str(target) for alias, target in aliases.items()},
    )


def _entry(row: Any, at: str) -> Entry | None:
    """One entry; None when it is switched off (`active: false`, or an empty `active` or `url` from the environment)."""
    if not isinstance(row, dict) or not row.get("name"):
        raise ConfigError(f"{at}: a provider needs a name")
    kind = str(row.get("type", "custom"))
    if kind not in BASE_URLS:
        raise ConfigError(f"{at}.type: {kind!r} is not one of {', '.join(sorted(BASE_URLS))}")
    if not _flag(row, "active", default=True):
        return None
    addresses = _addresses(row, BASE_URLS[kind], at)
    if not addresses:
        return None
    models = _list(row, "models", at)
    return Entry(
        name=str(row["name"]),
        type=kind,
        addresses=addresses,
        api_key=str(row.get("api_key") or ""),
        headers={str(name): str(value) for name, value in _mapping(row, "headers", at).items()},
        models=tuple(_model(each, f"{at}.models[{index}]") for index, each in enumerate(models)),
        sync_models=_flag(row, "sync_models", default=not models),
        max_concurrency=_number(row, "max_concurrency", 0, at),
        stream_usage=_flag(row, "stream_usage", default=True),
        timeouts=_timeouts(_mapping(row, "timeouts", at), f"{at}.timeouts"),
        auto_enable_new_models=_flag(row, "auto_enable_new_models", default=True),
        metadata=_metadata(row, at),
    )


def _metadata(row: dict[str, Any], at: str) -> dict[str, Any]:
    """What administrators are told about it: `metadata`, and in it the `description`."""
    given = {str(name): str(value) for name, value in _mapping(row, "metadata", at).items()}
    if row.get("description"):
        given["description"] = str(row["description"])
    if _flag(_mapping(row, IMAGES, at), "url", default=False):
        given[IMAGES] = "url"
    return given


def _addresses(row: dict[str, Any], default: str, at: str) -> tuple[Address, ...]:
    given = _list(row, "endpoints", at) or [{"url": row.get("url", default)}]
    found = [_address(each, row, f"{at}.endpoints[{index}]") for index, each in enumerate(given)]
    return tuple(each for each in found if each is not None)


def _address(given: Any, row: dict[str, Any], at: str) -> Address | None:
    """One address; None when its `url` comes empty from the environment."""
    if not isinstance(given, dict):
        raise ConfigError(f"{at}: expected an object with `url`")
    url = str(given.get("url") or "")
    if not url:
        return None
    if not is_address(url):
        raise ConfigError(f"{at}.url: expected http(s)://host[:port]/path without credentials, got {url!r}")
    weight, priority = _number(row | given, "weight", 1, at), _number(row | given, "priority", 0, at)
    if weight < 1:
        raise ConfigError(f"{at}.weight: must be at least 1")
    return Address(url, weight, priority)


def is_address(url: str) -> bool:
    """Whether `url` is one that a provider can answer at: http or https, a host, perhaps a path; no credentials, and
    no query, which may be one, too."""
    if not (url.isascii() and url.isprintable()) or _NOT_IN_ADDRESSES.search(url):
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, half an IPv6 address
        return False


def _timeouts(given: dict[str, Any], at: str) -> Timeouts:
    known = {each.name for each in fields(Timeouts)}
    if unknown := set(given) - known:
        raise ConfigError(f"{at}: {', '.join(map(str, unknown))} is none of {', '.join(sorted(known))}")
    try:
        return Timeouts(**{name: float(value) for name, value in given.items()})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{at}: expected seconds: {error}") from error


def _flag(row: dict[str, Any], name: str, *, default: bool) -> bool:
    """Yes or no; from the environment it comes as a word, and an empty one is no."""
    return str(row.get(name, default)).lower() not in ("false", "", "none", "0", "no", "off")


def _number(row: dict[str, Any], name: str, default: int, at: str) -> int:
    try:
        return int(row.get(name, default))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{at}.{name}: expected a whole number, got {row[name]!r}") from error


def _list(row: dict[str, Any], name: str, at: str) -> list[Any]:
    value = row.get(name) or []
    if not isinstance(value, list):
        raise ConfigError(f"{at}.{name}: expected a list")
    return value


def _mapping(row: dict[str, Any], name: str, at: str) -> dict[str, Any]:
    value = row.get(name) or {}
    if not isinstance(value, dict):
        raise ConfigError(f"{at}.{name}: expected `name: value` pairs")
    return value


def _model(row: Any, at: str) -> ListedModel:
    if isinstance(row, str):
        return ListedModel(row, row)
    if not isinstance(row, dict) or not row.get("id"):
        raise ConfigError(f"{at}: a model needs an id")
    return ListedModel(
        str(row["id"]),
        str(row.get("upstream_id") or row["id"]),
        tuple(str(each) for each in _list(row, "capabilities", at)),
        _number(row, "context_window", 0, at),
    )
