"""The rules that `proto/` states for requests (`buf.validate`), checked."""

from __future__ import annotations

from typing import Any

import protovalidate
from buf.validate import validate_pb2
from google.protobuf.message import Message

from services.runtime.errors import InvalidRequest


def validate(request: Message) -> None:
    """Check the rules that `proto/` states (`buf.validate`). Raises `InvalidRequest` naming the first wrong field."""
    if not _has_rules(request.DESCRIPTOR):
        return
    violations = protovalidate.collect_violations(request)
    if violations:
        first = violations[0].proto
        path = ".".join(_element(each) for each in (first.field.elements if first.field else ()))
        raise InvalidRequest(f"Parameter '{path}' {first.message}" if path else first.message, param=path or None)


# Their generated types are too narrow for `HasExtension`.
MESSAGE_RULES: Any = validate_pb2.message
ONEOF_RULES: Any = validate_pb2.oneof
FIELD_RULES: Any = validate_pb2.field
_rules: dict[str, bool] = {}


def _has_rules(message: Any) -> bool:
    """Whether the message or one inside it carries a rule; found out once per type, most have none."""
    known = _rules.get(message.full_name)
    if known is None:
        known = _rules[message.full_name] = any(_states_rules(each) for each in _inside(message))
    return known


def _inside(message: Any) -> list[Any]:
    """The message type and all types that it is made of."""
    found, names = [message], {message.full_name}
    for each in found:
        for field in each.fields:
            if field.message_type is not None and field.message_type.full_name not in names:
                names.add(field.message_type.full_name)
                found.append(field.message_type)
    return found


def _states_rules(message: Any) -> bool:
    return (
        message.GetOptions().HasExtension(MESSAGE_RULES)
        or any(oneof.GetOptions().HasExtension(ONEOF_RULES) for oneof in message.oneofs)
        or any(field.GetOptions().HasExtension(FIELD_RULES) for field in message.fields)
    )


def _element(element: Any) -> str:
    """One step of a field's path, as JSON's readers write it: `messages[0]`, `metadata[key]`."""
    return f"{element.field_name}[{element.subscript.value}]" if element.subscript else str(element.field_name)
