"""JSON objects into protobuf messages, strictly (CONTRACT 0.1): every member has the type of its field or is refused.

Fields have the names that `proto/` gives them; other members are ignored. `null` is the same as absent, except in a
google.protobuf.Value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NoReturn

from google.protobuf import struct_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from services.runtime.errors import InvalidRequest

Json = Mapping[str, Any]
Check = Callable[[Any, str], Any]
Write = Callable[[Any, Any, str], None]

DEEPEST = 30
"""Levels of messages, and of a free JSON value; one of its levels is up to three of the hundred that protobuf reads."""
MOST = 100_000
"""Values in one body: they cost more to read than their bytes do."""
_KEY = 64  # characters of a member's own name that an error repeats


def fill(message: Message, members: Json, *, within: str = "") -> None:
    """Set the fields of `message` from JSON. `within` comes before their names in errors.

    Raises `InvalidRequest` whose `param` is the path of the first wrong value, such as `messages[0].content`.
    """
    writes = _writes(message.DESCRIPTOR)
    for name, value in members.items():
        write = writes.get(name)
        if write is not None:
            write(message, value, within + name)


def refuse_many(members: Json) -> None:
    """Raise `InvalidRequest` when there are more than `MOST` values, however nested."""
    unseen: list[Iterable[Any]] = [members.values()]
    count = 0
    while unseen:
        for each in unseen.pop():
            count += 1
            if count > MOST:
                raise InvalidRequest(f"The body has more than {MOST:,} values")
            if isinstance(each, dict | list):
                unseen.append(each.values() if isinstance(each, dict) else each)


def clear(message: Message, members: Json) -> None:
    """Empty the nullable fields that `members` sets to null, as an update means it: they are set, to nothing. A switch
    is on or off and never nothing."""
    for name, value in members.items():
        field = message.DESCRIPTOR.fields_by_name.get(name) if value is None else None
        if field is None or not field.has_presence or field.type == FieldDescriptor.TYPE_BOOL:
            continue
        if field.message_type is None:
            setattr(message, name, field.default_value)
        else:
            getattr(message, name).SetInParent()


@cache
def _writes(kind: Descriptor) -> dict[str, Write]:
    """How each field of a message type is set; those that JSON has no form for here are left out."""
    found = {field.name: _write(field) for field in kind.fields}
    return {name: write for name, write in found.items() if write is not None}


def _write(field: FieldDescriptor) -> Write | None:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return _map(field.name, kind.fields_by_name["value"])
    if kind is not None:
        into = _FREE.get(kind.full_name, _object)
        return _each(field.name, into) if field.is_repeated else _one(field.name, into)
    check = _SCALARS.get(field.type)
    if check is None:
        return None
    return _list(field.name, check) if field.is_repeated else _scalar(field.name, check)


def _scalar(name: str, check: Check) -> Write:
    def write(message: Any, value: Any, path: str) -> None:
        if value is not None:
            setattr(message, name, check(value, path))

    return write


def _list(name: str, check: Check) -> Write:
    def write(message: Any, value: Any, path: str) -> None:
        if value is not None:
            rows = _array(value, path)
            getattr(message, name).extend([check(each, f"{path}[{index}]") for index, each in enumerate(rows)])

    return write


def _one(name: str, into: Write) -> Write:
    def write(message: Any, value: Any, path: str) -> None:
        if value is not None or into is _value:
            target = getattr(message, name)
            target.SetInParent()
            into(target, value, path)

    return write


def _each(name: str, into: Write) -> Write:
    def write(message: Any, value: Any, path: str) -> None:
        if value is not None:
            rows = getattr(message, name)
            for index, each in enumerate(_array(value, path)):
                into(rows.add(), each, f"{path}[{index}]")

    return write


def _map(name: str, field: FieldDescriptor) -> Write:
    """Members of any name; all their values have one type."""
    check, kind = _SCALARS.get(field.type), field.message_type

    def write(message: Any, value: Any, path: str) -> None:
        entries = getattr(message, name)
        for key, each in _members(value, path).items() if value is not None else ():
            if kind is not None:
                _FREE.get(kind.full_name, _object)(entries[key], each, f"{path}.{key[:_KEY]}")
            elif check is not None:
                entries[key] = check(each, f"{path}.{key[:_KEY]}")

    return write


def _object(target: Any, value: Any, path: str) -> None:
    if path.count(".") >= DEEPEST:
        raise _too_deep(path)
    fill(target, _members(value, path), within=f"{path}.")


def _struct(target: Any, value: Any, path: str, depth: int = 1) -> None:
    for name, each in _members(value, path).items():
        _value(target.fields[name], each, path, depth)


def _values(target: Any, value: Any, path: str, depth: int = 1) -> None:
    for each in _array(value, path):
        _value(target.values.add(), each, path, depth)


def _value(target: Any, value: Any, path: str, depth: int = 0) -> None:
    """Anything goes, except what is nested too deeply."""
    if isinstance(value, str):
        target.string_value = value
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int | float):
        target.number_value = value
    elif value is None:
        target.null_value = struct_pb2.NULL_VALUE
    elif depth == DEEPEST:
        raise _too_deep(path)
    elif isinstance(value, dict):
        target.struct_value.SetInParent()
        _struct(target.struct_value, value, path, depth + 1)
    else:
        target.list_value.SetInParent()
        _values(target.list_value, value, path, depth + 1)


def _text(value: object, path: str) -> str:
    return value if isinstance(value, str) else _refuse(path, "a string")


def _boolean(value: object, path: str) -> bool:
    return value if isinstance(value, bool) else _refuse(path, "true or false")


def _number(value: object, path: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        _refuse(path, "a number")
    return value


def _integer(lowest: int, highest: int) -> Check:
    def check(value: object, path: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            _refuse(path, f"an integer from {lowest} to {highest}")
        return value

    return check


def _array(value: object, path: str) -> list[Any]:
    return value if isinstance(value, list) else _refuse(path, "an array")


def _members(value: object, path: str) -> Json:
    return value if isinstance(value, dict) else _refuse(path, "an object")


def _too_deep(path: str) -> InvalidRequest:
    return InvalidRequest(f"Parameter '{path}' is nested more than {DEEPEST} levels deep", param=path)


def _refuse(path: str, expected: str) -> NoReturn:
    raise InvalidRequest(f"Parameter '{path}' must be {expected}", param=path)


_SCALARS: dict[int, Check] = {
    FieldDescriptor.TYPE_STRING: _text,
    FieldDescriptor.TYPE_BOOL: _boolean,
    FieldDescriptor.TYPE_DOUBLE: _number,
    FieldDescriptor.TYPE_INT32: _integer(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: _integer(0, 2**32 - 1),
}
_FREE: dict[str, Write] = {
    "google.protobuf.Value": _value,
    "google.protobuf.Struct": _struct,
    "google.protobuf.ListValue": _values,
}
