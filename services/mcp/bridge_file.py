"""The file of other MCP servers (`deploy/config/mcp-providers.yml`, CONTRACT 11.3): whose tools are offered here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from services.mcp.tool import OURS
from services.runtime.config import ConfigError, life
from services.runtime.variables import expanded

TYPE = "mcp-http"
"""Streamable HTTP, of either era of the protocol."""
SETTINGS = {"max_timeout": 120.0, "retry_attempts": 3, "retry_delay": 1.0}
MOST_RETRIES = 10
TIMEOUT = 30.0
_FIELDS = ("name", "description", "enabled", "endpoint", "type", "headers", "timeout", "tools")
_NAME = re.compile(r"[a-z0-9_-]{1,32}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")
_PROTOCOL = {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "last-event-id", "te"}
_PROTOCOL |= {"trailer", "transfer-encoding", "upgrade"}
_YES, _NO = {"true", "yes", "on", "1"}, {"false", "no", "off", "0", "", "none"}


@dataclass(frozen=True)
class Provider:
    """Another MCP server. What may hold a secret is not shown."""

    name: str
    endpoint: str = field(repr=False)
    description: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = TIMEOUT
    """Seconds for one call, and for one listing."""
    tools: tuple[str, ...] | None = None
    """Those that are offered, by the names they have there; None: all."""
    retries: int = 3
    """How often connecting and listing are tried again before its tools are hidden."""
    retry_delay: float = 1.0
    """Seconds between the tries."""


def read(path: Path, environ: Mapping[str, str] = os.environ) -> tuple[Provider, ...]:
    """The enabled providers of the file; none when there is no file. Raises `ConfigError` naming file, provider and
    field, and never the value of a header."""
    if not path.exists():
        return ()
    try:
        document = expanded(yaml.safe_load(path.read_text()) or {}, environ)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {_where(error)}") from None  # the text may hold a secret
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected `providers:` with a list, and perhaps `settings:`")
    _only(document, ("providers", "settings"), str(path))
    settings = _settings(document.get("settings") or {}, f"{path}: settings")
    rows = document.get("providers") or []
    if not isinstance(rows, list):
        raise ConfigError(f"{path}: providers: expected a list")
    named = [(_name(row, f"{path}: providers[{index}]"), row) for index, row in enumerate(rows)]
    names = [name for name, _ in named]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{path}: providers: there are two with the name {twice[0]!r}")
    for name, row in named:
        _only(row, _FIELDS, f"{path}: provider {name!r}")
    return tuple(
        _provider(name, row, settings, f"{path}: provider {name!r}")
        for name, row in named
        if _flag(row, "enabled", f"{path}: provider {name!r}")
    )


def _provider(name: str, row: dict[str, Any], settings: Mapping[str, Any], at: str) -> Provider:
    if (kind := row.get("type", TYPE)) != TYPE:
        raise ConfigError(f"{at}.type: {kind!r} is not {TYPE!r}, the only one there is")
    return Provider(
        name=name,
        endpoint=_endpoint(row.get("endpoint"), f"{at}.endpoint"),
        description=_text(row.get("description"), f"{at}.description"),
        headers=_headers(row.get("headers") or {}, f"{at}.headers"),
        timeout=min(_seconds(row, "timeout", TIMEOUT, at), settings["max_timeout"]),
        tools=_tools(row.get("tools"), f"{at}.tools"),
        retries=settings["retry_attempts"],
        retry_delay=settings["retry_delay"],
    )


def _name(row: Any, at: str) -> str:
    name = row.get("name") if isinstance(row, dict) else None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{at}.name: expected 1 to 32 of a-z, 0-9, _ and -, got {name!r}")
    if name == OURS:
        raise ConfigError(f"{at}.name: {OURS!r} is the name of our own tools")
    return name


def _settings(given: Any, at: str) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise ConfigError(f"{at}: expected `name: value` pairs")
    _only(given, tuple(SETTINGS), at)
    attempts = str(given.get("retry_attempts", SETTINGS["retry_attempts"]))
    if not re.fullmatch(r"\d{1,4}", attempts) or int(attempts) > MOST_RETRIES:
        raise ConfigError(f"{at}.retry_attempts: expected a whole number of 0 to {MOST_RETRIES}, got {attempts!r}")
    durations = {name: _seconds(given, name, SETTINGS[name], at) for name in ("max_timeout", "retry_delay")}
    return {**durations, "retry_attempts": int(attempts)}


def _endpoint(value: Any, at: str) -> str:
    """An address. Not told when it is wrong: its query may be a key."""
    try:
        parts = urlsplit(value if isinstance(value, str) and value.isascii() and value.isprintable() else "")
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and " " not in str(value)
        if known and parts.username is None and not parts.fragment:
            return str(value)
    except ValueError:  # a port that is none, half an IPv6 address
        pass
    raise ConfigError(f"{at}: expected http(s)://host[:port]/path without a password or #; keys go in headers")


def _headers(given: Any, at: str) -> dict[str, str]:
    """Those that are sent along; one whose value comes empty from the environment is not."""
    if not isinstance(given, dict):
        raise ConfigError(f"{at}: expected `name: value` pairs")
    for name, value in given.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ConfigError(f"{at}: {name!r} is no name of a header")
        if name.lower() in _PROTOCOL or name.lower().startswith("mcp-"):
            raise ConfigError(f"{at}.{name}: the protocol itself sets this header")
        if not isinstance(value, str | int | float | None) or not _HEADER_VALUE.fullmatch(str(value)):
            raise ConfigError(f"{at}.{name}: expected one line of ASCII")
    return {name: str(value).strip() for name, value in given.items() if value is not None and str(value).strip()}


def _tools(given: Any, at: str) -> tuple[str, ...] | None:
    if given is None or given == []:
        return None
    if not isinstance(given, list) or not all(isinstance(name, str) and name for name in given):
        raise ConfigError(f"{at}: expected a list of the names that the tools have there")
    return tuple(given)


def _seconds(row: Mapping[str, Any], name: str, default: Any, at: str) -> float:
    try:
        return life(str(row.get(name, default)))
    except ValueError as error:
        raise ConfigError(f"{at}.{name}: {error}, got {row[name]!r}") from error


def _flag(row: dict[str, Any], name: str, at: str) -> bool:
    """Yes or no; from the environment it comes as a word, and an empty one is no."""
    word = str(row.get(name, True)).lower()
    if word not in _YES | _NO:
        raise ConfigError(f"{at}.{name}: expected true or false, got {word!r}")
    return word in _YES


def _text(value: Any, at: str) -> str:
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{at}: expected text")
    return value or ""


def _only(given: dict[Any, Any], known: tuple[str, ...], at: str) -> None:
    if unknown := [str(name) for name in given if name not in known]:
        raise ConfigError(f"{at}: {unknown[0]!r} is none of {', '.join(known)}")


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else "it cannot be read as text"
