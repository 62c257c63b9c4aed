"""The gateway's route table, made from the linked-in protos: their http rules say what exists, their access marks who
may call it. Pure functions of descriptors; `edge.py` puts the result into Envoy's configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)
from google.rpc import error_details_pb2
from jan.common.v1 import access_pb2

from services.runtime.policy import marks

GRPC = "GRPC"
"""The verb of an operation that is called as native gRPC or gRPC-Web."""


class AmbiguousRoute(Exception):
    """A public path pattern also covers a path that needs a credential; one of the two must be renamed."""


class AmbiguousVariable(Exception):
    """A field is a path variable in one http rule of a method and not in another, or lies within another field."""


@dataclass(frozen=True)
class Operation:
    """One way to call one rpc: a verb and a path template behind a prefix, or `GRPC`, `/Method` behind its service."""

    verb: str
    path: str
    cluster: str
    public: bool
    generation: bool
    prefix: str = ""


@dataclass(frozen=True)
class Route:
    """Operations that the gateway treats alike. `regex` matches their paths whole; `path` instead, if there is one."""

    verb: str
    cluster: str
    public: bool
    generation: bool
    regex: str = ""
    path: str = ""


def operations(files: Mapping[str, Sequence[FileDescriptor]]) -> list[Operation]:
    """All operations of the services in `files`, which says for each cluster what it serves."""
    return [
        operation
        for cluster, served in files.items()
        for file in served
        for service in file.services_by_name.values()
        for operation in _of_service(service, cluster)
    ]


def _of_service(service: ServiceDescriptor, cluster: str) -> Iterator[Operation]:
    generation = any(method.server_streaming for method in service.methods)
    access = marks([service])
    for method in service.methods:
        public = access[f"/{service.full_name}/{method.name}"] == access_pb2.ACCESS_PUBLIC
        yield Operation(GRPC, f"/{method.name}", cluster, public, generation, prefix=f"/{service.full_name}")
        for verb, path in bindings(method):
            yield Operation(verb, path, cluster, public, generation)


def bindings(method: MethodDescriptor) -> list[tuple[str, str]]:
    """Verb and path template of every http rule of `method`."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    return [_binding(each) for each in (rule, *rule.additional_bindings) if each.WhichOneof("pattern")]


def _binding(rule: http_pb2.HttpRule) -> tuple[str, str]:
    kind = rule.WhichOneof("pattern")
    if kind == "custom":
        return rule.custom.kind, rule.custom.path
    return kind.upper(), getattr(rule, kind)


def aliases(own: Iterable[Operation], prefixes: Iterable[str]) -> list[Operation]:
    """The REST operations of `own` once more, behind each prefix."""
    rest = [operation for operation in own if operation.verb != GRPC]
    return [replace(operation, prefix=prefix) for prefix in prefixes for operation in rest]


def routes(table: Iterable[Operation], *, exact: Sequence[str] = ()) -> list[Route]:
    """Few routes that cover `table`, in the order in which they must be tried.

    First the paths in `exact`, one route each, then public ones, then those that need a credential; literal paths
    before patterns, as the transcoder decides. The first of two operations with the same verb and path counts.
    Raises `AmbiguousRoute`.
    """
    unique = list({(each.verb, each.prefix + each.path): each for each in reversed(list(table))}.values())[::-1]
    _refuse_shadows(unique)
    hot = [each for each in unique if not each.prefix and each.path in exact]
    rest = sorted((each for each in unique if each not in hot), key=_rank)
    return [
        *(Route(each.verb, each.cluster, each.public, each.generation, path=each.path) for each in hot),
        *(_route(list(group)) for _, group in groupby(rest, key=_rank)),
    ]


def _rank(each: Operation) -> tuple[bool, bool, str, str, bool]:
    return not each.public, "{" in each.path, each.cluster, each.verb, each.generation


def _route(group: Sequence[Operation]) -> Route:
    first = group[0]
    return Route(first.verb, first.cluster, first.public, first.generation, regex=_alternation(group))


def _alternation(group: Iterable[Operation]) -> str:
    """One regex for all paths of `group`; paths with the same prefixes share them: `(?:|/llm)(?:/v1/a|/v1/b)`."""
    prefixes: dict[str, list[str]] = {}
    for each in group:
        prefixes.setdefault(pattern(each.path), []).append(pattern(each.prefix))
    paths: dict[tuple[str, ...], list[str]] = {}
    for path, before in prefixes.items():
        paths.setdefault(tuple(before), []).append(path)
    return _either([(_either(before) if any(before) else "") + _either(after) for before, after in paths.items()])


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"(?:{'|'.join(words)})"


def pattern(template: str) -> str:
    """The regex of a path template: `{id}` is one segment, `{id=**}` at least one; neither ends with a slash."""
    bare = re.sub(r"\{[^=}]+(?:=([^}]+))?\}", lambda variable: variable[1] or "*", template)
    wild = {"**": ".*[^/]", "*": "[^/]+"}
    return "".join(wild.get(part) or re.sub(r"[.+?()|\[\]^$\\]", r"\\\g<0>", part) for part in re.split(r"(\*+)", bare))


def _refuse_shadows(table: Iterable[Operation]) -> None:
    """Public routes are tried first, so a public pattern must not cover a path that needs a credential."""
    table = list(table)
    for open_ in (each for each in table if each.public and "{" in each.path):
        covers = re.compile(pattern(open_.prefix + open_.path))
        for closed in (each for each in table if not each.public and each.verb == open_.verb):
            example = re.sub(r"\{[^}]+\}", "x", closed.prefix + closed.path)
            if covers.fullmatch(example):
                raise AmbiguousRoute(f"{open_.verb} {open_.path} is public and covers {closed.path}, which is not")


def descriptor_set(files: Iterable[FileDescriptor], prefixes: Sequence[str], *, secret: str = "") -> FileDescriptorSet:
    """`files` and all they import, every http rule repeated behind each prefix: what Envoy's transcoder reads.

    Envoy cannot rewrite a path before it transcodes, so aliases are bindings. It gives an error no body when it does
    not know the types of its details. It would let a query parameter or a member of the body win over the path
    variable of the same name, so variables get names that contain `secret`. Raises `AmbiguousVariable`.
    """
    everything: dict[str, FileDescriptor] = {}
    for file in (*files, error_details_pb2.DESCRIPTOR):
        _collect(file, everything)
    result = FileDescriptorSet()
    for file in everything.values():
        file.CopyToProto(result.file.add())
    messages = {f".{file.package}.{message.name}": message for file in result.file for message in file.message_type}
    for file in result.file:
        for service in file.service:
            for method in service.method:
                _hide(method, f"{service.name}_{method.name}_Input", file, messages, secret)
                _repeat(method, prefixes)
    return result


def _hide(
    method: MethodDescriptorProto,
    name: str,
    file: FileDescriptorProto,
    messages: Mapping[str, DescriptorProto],
    secret: str,
) -> None:
    """Rename the path variables of `method`: it reads a copy of its input, which is the same on the wire."""
    rule = method.options.Extensions[annotations_pb2.http]
    rules = [each for each in (rule, *rule.additional_bindings) if each.WhichOneof("pattern")]
    variables = {frozenset(re.findall(r"\{([^=}]+)", _binding(each)[1])) for each in rules}
    if not variables or variables == {frozenset()}:
        return
    if len(variables) > 1 or any("." in each for each in next(iter(variables))):
        raise AmbiguousVariable(f"{method.name}: every http rule must have the same variables, fields of its input")
    hidden = {variable: f"{variable}_{secret}" for variable in next(iter(variables))}
    copy = file.message_type.add()
    copy.CopyFrom(messages[method.input_type])
    before, after = f"{method.input_type}.", f".{file.package}.{name}."
    copy.name = name
    for message in _with_nested(copy):
        for field in message.field:
            if field.type_name.startswith(before):
                field.type_name = after + field.type_name.removeprefix(before)
    for field in copy.field:
        if field.name in hidden:
            field.name = hidden[field.name]
            field.ClearField("json_name")
    method.input_type = after.removesuffix(".")
    for each in rules:
        template = _binding(each)[1]
        path = re.sub(r"\{([^=}]+)", lambda found: "{" + hidden[found[1]], template)
        if each.WhichOneof("pattern") == "custom":
            each.custom.path = path
        else:
            setattr(each, str(each.WhichOneof("pattern")), path)


def _with_nested(message: DescriptorProto) -> Iterator[DescriptorProto]:
    yield message
    for nested in message.nested_type:
        yield from _with_nested(nested)


def _collect(file: FileDescriptor, found: dict[str, FileDescriptor]) -> None:
    if file.name not in found:
        for imported in file.dependencies:
            _collect(imported, found)
        found[file.name] = file


def _repeat(method: MethodDescriptorProto, prefixes: Sequence[str]) -> None:
    rule = method.options.Extensions[annotations_pb2.http]
    for each in [rule, *rule.additional_bindings]:
        kind = each.WhichOneof("pattern")
        for prefix in prefixes if kind else ():
            alias = rule.additional_bindings.add(body=each.body, response_body=each.response_body)
            if kind == "custom":
                alias.custom.CopyFrom(each.custom)
                alias.custom.path = prefix + each.custom.path
            else:
                setattr(alias, kind, prefix + getattr(each, kind))
