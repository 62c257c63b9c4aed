"""The protos as Envoy's transcoder reads them: it makes gRPC calls of REST ones, and leaves bodies and queries alone.

It would read JSON leniently, so it gets nothing to read: in its descriptors the input of a method has the variables of
the path, and a field for the body as it came. `binding.py` reads that, and the query, in the service.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from google.api import annotations_pb2, http_pb2, httpbody_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)
from google.rpc import error_details_pb2

from services.runtime.routes import http_rules, verb_and_path

HTTP_BODY = httpbody_pb2.HttpBody.DESCRIPTOR.full_name
RAW_BODY = FieldDescriptorProto(
    name="raw_body",
    number=2**29 - 1,  # the highest there is
    type=FieldDescriptorProto.TYPE_MESSAGE,
    type_name=f".{HTTP_BODY}",
    label=FieldDescriptorProto.LABEL_OPTIONAL,
)
"""The field with a body as it came, in the place of all the fields that it is about."""

# For the body of a GET, which would be read if it had no place.
_UNREAD = FieldDescriptorProto()
_UNREAD.MergeFrom(RAW_BODY)
_UNREAD.name, _UNREAD.number = "unread_body", RAW_BODY.number - 1
_VARIABLE = r"\{([^=}]+)"


class UnservableRule(Exception):
    """An http rule that the gateway cannot follow; the message says what to write instead."""


def descriptor_set(files: Iterable[FileDescriptor], prefixes: Sequence[str], *, secret: str = "") -> FileDescriptorSet:
    """`files` and all they import, every http rule repeated behind each prefix: what Envoy's transcoder reads.

    Envoy cannot rewrite a path before it transcodes, so aliases are bindings. It gives an error no body when it does
    not know the types of its details. It would fill any field by its name from the query, so the fields that it knows
    have names that contain `secret`. Raises `UnservableRule`.
    """
    everything: dict[str, FileDescriptor] = {}
    for file in (httpbody_pb2.DESCRIPTOR, *files, error_details_pb2.DESCRIPTOR):
        _collect(file, everything)
    result = FileDescriptorSet()
    for file in everything.values():
        file.CopyToProto(result.file.add())
    messages = {f".{file.package}.{message.name}": message for file in result.file for message in file.message_type}
    for file in result.file:
        for service in file.service:
            for method in service.method:
                if method.input_type != f".{HTTP_BODY}":
                    _narrow(method, f"{service.name}_{method.name}_Input", file, messages, secret)
                _repeat(method, prefixes)
    return result


def path_variables(rules: Iterable[http_pb2.HttpRule]) -> frozenset[str]:
    """The fields that the paths of a method's http rules hold, each path all or some of them."""
    return frozenset(name for each in rules for name in re.findall(_VARIABLE, verb_and_path(each)[1]))


def _narrow(
    method: MethodDescriptorProto,
    name: str,
    file: FileDescriptorProto,
    messages: Mapping[str, DescriptorProto],
    secret: str,
) -> None:
    """Give `method` an input of its own with what the transcoder may fill; each field is the same on the wire."""
    rules = http_rules(method.options)
    if not rules:
        return
    variables = path_variables(rules)
    given = {field.name: field for field in messages[method.input_type].field} | {"*": RAW_BODY, "": _UNREAD}
    kept = variables | {each.body for each in rules}
    _check(method.name, {each: given.get(each) for each in kept}, variables)
    fields = {each: _renamed(given[each], secret) for each in sorted(kept)}
    for rule in rules:
        rule.body = fields[rule.body].name
        hidden = re.sub(_VARIABLE, lambda found: "{" + fields[found[1]].name, verb_and_path(rule)[1])
        _set_path(rule, rule, hidden)
    file.message_type.add(name=name, field=fields.values())
    if httpbody_pb2.DESCRIPTOR.name not in file.dependency:
        file.dependency.append(httpbody_pb2.DESCRIPTOR.name)
    method.input_type = f".{file.package}.{name}"


def _check(method: str, fields: Mapping[str, FieldDescriptorProto | None], variables: Collection[str]) -> None:
    """The transcoder may write text of the path and raw bodies. Whatever has another type it would have to read."""
    for name, field in fields.items():
        if name in variables and (field is None or field.type != FieldDescriptorProto.TYPE_STRING):
            raise UnservableRule(f"{method}: the path variable {name!r} must be a string field of the input")
        if name not in variables and (field is None or field.type_name != f".{HTTP_BODY}"):
            raise UnservableRule(f"{method}: the body must be '*' or a field of the type {HTTP_BODY}, not {name!r}")


def _renamed(field: FieldDescriptorProto, secret: str) -> FieldDescriptorProto:
    """The field alone, without the oneof that it is part of, under a name that no client knows."""
    alone = FieldDescriptorProto()
    alone.CopyFrom(field)
    for meaningless in ("json_name", "oneof_index", "proto3_optional", "options"):
        alone.ClearField(meaningless)
    alone.name = f"{field.name}_{secret}"
    return alone


def _repeat(method: MethodDescriptorProto, prefixes: Sequence[str]) -> None:
    more = method.options.Extensions[annotations_pb2.http].additional_bindings
    for rule in http_rules(method.options):
        for prefix in prefixes:
            _set_path(more.add(body=rule.body), rule, prefix + verb_and_path(rule)[1])


def _set_path(rule: http_pb2.HttpRule, like: http_pb2.HttpRule, path: str) -> None:
    """Make `path` the path of `rule`, with the verb of `like`."""
    kind = str(like.WhichOneof("pattern"))
    if kind == "custom":
        rule.custom.kind, rule.custom.path = like.custom.kind, path
    else:
        setattr(rule, kind, path)


def _collect(file: FileDescriptor, found: dict[str, FileDescriptor]) -> None:
    if file.name not in found:
        for imported in file.dependencies:
            _collect(imported, found)
        found[file.name] = file
