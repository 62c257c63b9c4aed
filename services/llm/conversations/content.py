"""What clients keep in conversations: which content of an item and which metadata are let in (CONTRACT 6).

Content is stored as it was given, a string or an array of parts; only what could not be given back is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf import struct_pb2
from jan.llm.v1 import conversations_pb2, items_pb2

from services.llm.conversations.history import INSTRUCTING
from services.llm.conversations.item_store import Draft
from services.llm.generation.pictures import NAMED
from services.llm.generation.request import URL
from services.llm.providers.provider import Json
from services.runtime.errors import InvalidRequest
from services.runtime.typed_json import DEEPEST, fill
from services.runtime.validation import validate

MOST_PARTS = 100
MOST_CHARACTERS = 100_000
TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Types of parts, and the member with the text of each."""
IMAGES = ("image_url", "input_image")
_WITHOUT_TEXT = ("type", "image_url")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_WHOLE = 2.0**53  # up to here a double is every integer
_KEY = 64  # characters of a member's own name that an error repeats
_PATH = 200  # characters of a path that an error repeats


def draft(new: items_pb2.NewItem, within: str = "") -> Draft:
    """The item to store for a client's message; `within` comes before the names of its fields in errors.

    Raises `InvalidRequest` for what `proto/` has no rule for.
    """
    for name in ("content_type", "tool_call_id"):
        refuse_nul(getattr(new, name), within + name)
    return Draft(
        role=new.role,
        content=content_of(new.content, f"{within}content"),
        content_type=new.content_type or "text",
        metadata=kept(dict(new.metadata), f"{within}metadata"),
        tool_call_id=new.tool_call_id or None,
    )


def content_of(value: struct_pb2.Value, at: str) -> Any:
    """Content as JSON. Raises `InvalidRequest` naming the part to blame by its path, which begins with `at`."""
    if len(value.list_value.values) > MOST_PARTS:
        raise _wrong(at, f"must have at most {MOST_PARTS} parts")
    content = _plain(value, at)
    if content is None:
        raise InvalidRequest(f"Parameter '{at}' is required", param=at)
    if isinstance(content, list) and content:
        for index, part in enumerate(content):
            _check_part(part, f"{at}[{index}]")
    elif not isinstance(content, str):
        raise _wrong(at, "must be a string or an array with at least one part")
    if _characters(content) > MOST_CHARACTERS:
        raise _wrong(at, f"must have at most {MOST_CHARACTERS} characters")
    return content


def metadata_of(struct: struct_pb2.Struct) -> dict[str, str]:
    """The metadata of an update, by the rules that `proto/` states for new ones. Raises `InvalidRequest`."""
    given = {name: _plain(value, f"metadata.{name[:_KEY]}") for name, value in struct.fields.items()}
    checked = conversations_pb2.CreateConversationRequest()
    fill(checked, {"metadata": given})
    validate(checked)
    return kept(given, "metadata")


def kept(metadata: dict[str, str], at: str) -> dict[str, str]:
    """Metadata that can be stored. Raises `InvalidRequest` for text with the character U+0000."""
    for name, value in metadata.items():
        refuse_nul(name + value, f"{at}.{name[:_KEY]}")
    return metadata


def check_storable(messages: Sequence[Json]) -> None:
    """Raise `InvalidRequest` for the first message of a checked chat request that no conversation can keep."""
    for index, message in enumerate(messages):
        at = f"messages[{index}]"
        if message["role"] in INSTRUCTING:
            continue
        if message["role"] == "function":
            raise _wrong(f"{at}.role", "must be `tool` for the output of a function in a conversation")
        said = message.get("content")
        if isinstance(said, list) and len(said) > MOST_PARTS:
            raise _wrong(f"{at}.content", f"must have at most {MOST_PARTS} parts in a conversation")
        if sum(map(len, _texts(said))) > MOST_CHARACTERS:
            raise _wrong(f"{at}.content", f"must have at most {MOST_CHARACTERS} characters in a conversation")
        _check_json(message, at)


def line(text: str, param: str) -> str:
    """A text of one line. Raises `InvalidRequest` for control characters, line breaks among them."""
    if _CONTROL.search(text):
        raise _wrong(param, "must not have control characters")
    return text


def refuse_nul(text: str, param: str) -> None:
    """Raise `InvalidRequest` for text that PostgreSQL does not have."""
    if "\0" in text:
        raise _wrong(param, "must not have the character U+0000")


def _check_part(part: Any, at: str) -> None:
    if not isinstance(part, dict):
        raise _wrong(at, "must be an object")
    kind = part.get("type")
    if kind in IMAGES:
        _check_image(part.get("image_url"), f"{at}.image_url")
    elif not isinstance(kind, str) or kind not in TEXTS:
        raise _wrong(f"{at}.type", f"must be one of {', '.join((*TEXTS, *IMAGES))}")
    elif not isinstance(part.get(TEXTS[kind]), str):
        raise _wrong(f"{at}.{TEXTS[kind]}", "must be a string")


def _check_image(image: Any, at: str) -> None:
    """An image is named by its URL, or by an object that has one."""
    if isinstance(image, dict):
        image, at = image.get("url"), f"{at}.url"
    if not isinstance(image, str):
        raise _wrong(at, "must be a URL, a data URL or a jan_ id")
    if not URL.match(image) and not NAMED.fullmatch(image):
        rule = "must begin with https://, http:// or data:, or be a jan_ id"
        raise InvalidRequest(f"Parameter '{at}' {rule}", code="invalid_url", param=at)


def _check_json(value: Any, at: str, depth: int = 0) -> None:
    """Refuse text that PostgreSQL does not have, wherever it is, and what is nested too deep to be shown again."""
    if isinstance(value, str):
        refuse_nul(value, at)
    if depth > DEEPEST and isinstance(value, dict | list):
        raise _wrong(at, f"is nested more than {DEEPEST} levels deep")
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in members:
        if isinstance(name, str):
            refuse_nul(name, at)
        inside = f"{at}.{name[:_KEY]}" if isinstance(name, str) else f"{at}[{name}]"
        _check_json(each, inside[:_PATH], depth + 1)


def _texts(content: Any) -> Iterator[str]:
    """What a message says; sounds and files, which a model may be sent as well, are no text."""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    for part in parts:
        text = part.get(TEXTS.get(part["type"], "")) if isinstance(part, dict) else None
        if isinstance(text, str):
            yield text


def _characters(value: Any) -> int:
    """Characters of all texts inside; the addresses of images, which may hold the image, are none."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(_characters(each) for name, each in value.items() if name not in _WITHOUT_TEXT)
    return sum(map(_characters, value)) if isinstance(value, list) else 0


def _plain(value: struct_pb2.Value, at: str, depth: int = 0) -> Any:
    """The JSON that a value stands for. Raises `InvalidRequest` for what cannot be kept as JSON."""
    kind = value.WhichOneof("kind")
    if depth == DEEPEST and kind in ("struct_value", "list_value"):
        raise _wrong(at, f"is nested more than {DEEPEST} levels deep")
    match kind:
        case "string_value":
            refuse_nul(value.string_value, at)
            return value.string_value
        case "number_value":
            return _number(value.number_value, at)
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return {name: _member(name, each, at, depth) for name, each in value.struct_value.fields.items()}
        case "list_value":
            rows = value.list_value.values
            return [_plain(each, f"{at}[{index}]", depth + 1) for index, each in enumerate(rows)]
        case _:
            return None


def _member(name: str, value: struct_pb2.Value, at: str, depth: int) -> Any:
    at = f"{at}.{name[:_KEY]}"
    refuse_nul(name, at)
    return _plain(value, at, depth + 1)


def _number(value: float, at: str) -> int | float:
    if not math.isfinite(value):
        raise _wrong(at, "must be a finite number")
    return int(value) if value.is_integer() and abs(value) <= _WHOLE else value


def _wrong(param: str, rule: str) -> InvalidRequest:
    return InvalidRequest(f"Parameter '{param}' {rule}", param=param)
