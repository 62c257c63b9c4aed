"""What an administrator asks to change of a model or its catalog row, as the members that are stored: None takes back
what was said before."""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from jan.llm.v1 import admin_models_pb2

from services.llm.providers.provider import Json
from services.runtime.errors import InvalidRequest

MOST_WORDS = 32
_WORD = re.compile(r"[^\x00-\x1f\x7f]{1,64}")
HOTTEST = 2.0
LARGEST_MEMBER = 16 * 1024


def model_changes(request: admin_models_pb2.UpdateProviderModelRequest) -> Json:
    """The members of a provider's model to change. Raises `InvalidRequest` naming the first wrong one."""
    changes: Json = {}
    for name in ("name", "family", "context_window", "max_output_tokens"):
        if request.HasField(name):
            changes[name] = getattr(request, name) or None
    for name in ("rate_limit", "pricing"):
        if request.HasField(name):
            changes[name] = _said(getattr(request, name))
    if request.HasField("default_temperature"):
        changes["default_temperature"] = _temperature(plain("default_temperature", request.default_temperature))
    if request.HasField("tags"):
        changes["tags"] = _words("tags", request.tags) or None
    if request.HasField("capabilities"):
        changes["capabilities"] = _words("capabilities", request.capabilities) or None
    return changes


def catalog_changes(request: admin_models_pb2.UpdateAdminCatalogRequest, model_id: str) -> Json:
    """The members of a catalog row to change; without a name it is called as the model. Raises `InvalidRequest` naming
    the first wrong one."""
    changes: Json = {}
    for name in ("name", "description", "context_window", "family", "experimental", "notes"):
        if request.HasField(name):
            changes[name] = getattr(request, name)
    if changes.get("context_window") == 0:
        changes["context_window"] = None
    if changes.get("name") == "":
        changes["name"] = model_id
    for name in ("supported_parameters", "architecture"):
        if request.HasField(name):
            changes[name] = _whole(name, getattr(request, name))
    if request.HasField("tags"):
        changes["tags"] = _words("tags", request.tags)
    if request.HasField("capabilities"):
        changes["capabilities"] = _words("capabilities", request.capabilities)
    return changes


def plain(name: str, message: Message) -> Any:
    """The parameter of that name as JSON. Raises `InvalidRequest` for numbers that JSON does not have."""
    try:
        return json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    except (json_format.SerializeToJsonError, ValueError) as error:
        raise InvalidRequest(f"Parameter '{name}' must have finite numbers", param=name) from error


def _said(message: Any) -> Json | None:
    """A rate limit or a price list without what is 0 there; None when nothing is left."""
    members = {field.name: value for field, value in message.ListFields() if value or field.name in _PRICES}
    return members or None


_PRICES = ("prompt", "completion")


def _whole(name: str, message: Message) -> Json:
    """What takes the place of all that was said there; kept in memory by every process, it has to be small."""
    if message.ByteSize() > LARGEST_MEMBER:
        raise InvalidRequest(f"Parameter '{name}' may have {LARGEST_MEMBER} bytes", param=name)
    return dict(plain(name, message))


def _temperature(given: Any) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= HOTTEST:
        raise InvalidRequest(
            f"Parameter 'default_temperature' must be a number from 0 to {HOTTEST:g}", param="default_temperature"
        )
    return float(given)


def _words(name: str, given: Any) -> list[str]:
    words = plain(name, given)
    if len(words) > MOST_WORDS:
        raise InvalidRequest(f"Parameter '{name}' must have at most {MOST_WORDS} entries", param=name)
    for index, word in enumerate(words):
        if not isinstance(word, str) or not _WORD.fullmatch(word):
            raise InvalidRequest(
                f"Parameter '{name}[{index}]' must be a text of 1 to 64 characters", param=f"{name}[{index}]"
            )
    return list(dict.fromkeys(words))
