"""The gateway's route table, made from the linked-in protos: their http rules say what exists, their access marks who
may call it. Pure functions of descriptors; `edge.py` puts the result into Envoy's configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from jan.common.v1 import access_pb2

from services.runtime.policy import marks

GRPC = "GRPC"
"""The verb of an operation that is called as native gRPC or gRPC-Web."""


class AmbiguousRoute(Exception):
    """A public path pattern also covers a path that needs a credential; one of the two must be renamed."""


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
        for verb, path in map(verb_and_path, http_rules(method.GetOptions())):
            yield Operation(verb, path, cluster, public, generation)


def http_rules(options: MethodOptions) -> list[http_pb2.HttpRule]:
    """All http rules of a method with these options."""
    rule = options.Extensions[annotations_pb2.http]
    return [each for each in (rule, *rule.additional_bindings) if each.WhichOneof("pattern")]


def verb_and_path(rule: http_pb2.HttpRule) -> tuple[str, str]:
    """Verb and path template of an http rule."""
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
