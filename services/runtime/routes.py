"""The gateway's route table, made from the linked-in protos: their http rules say what exists, their access marks who
may call it. Pure functions of descriptors; `edge.py` puts the result into Envoy's configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from jan.common.v1 import access_pb2

from services.runtime.policy import marks

GRPC = "GRPC"
"""The verb of an operation that is called as native gRPC or gRPC-Web."""
SLOW = {"jan.mcp.v1.ToolService"}
"""Services whose answers may take as long as streams, though they are none: a tool has the time that settings say."""


Access = Literal["public", "optional", "user"]
"""Who may pass: anybody, anybody whose credential is good if there is one, or only who has a good one."""
_ACCESS: dict[int, Access] = {access_pb2.ACCESS_PUBLIC: "public", access_pb2.ACCESS_OPTIONAL: "optional"}
_STRICTEST_LAST = ("public", "optional", "user")


class AmbiguousRoute(Exception):
    """A path pattern also covers a path that fewer may call; one of the two must be renamed."""


@dataclass(frozen=True)
class Operation:
    """One way to call one rpc: a verb and a path template behind a prefix, or `GRPC`, `/Method` behind its service."""

    verb: str
    path: str
    cluster: str
    access: Access
    generation: bool
    prefix: str = ""
    pieces: bool = False
    """Whether the request is a stream, such as a body that the service reads as it arrives."""


@dataclass(frozen=True)
class Route:
    """Operations that the gateway treats alike. `regex` matches their paths whole; `path` instead, if there is one."""

    verb: str
    cluster: str
    access: Access
    generation: bool
    pieces: bool = False
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
    generation = service.full_name in SLOW or any(method.server_streaming for method in service.methods)
    found = marks([service])
    for method in service.methods:
        access = _ACCESS.get(found[f"/{service.full_name}/{method.name}"], "user")
        called = Operation(GRPC, f"/{method.name}", cluster, access, generation, pieces=method.client_streaming)
        yield replace(called, prefix=f"/{service.full_name}")
        for verb, path in map(verb_and_path, http_rules(method.GetOptions())):
            yield replace(called, verb=verb, path=path)


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

    First the paths in `exact`, one route each, then public ones, those for whom a credential is optional, and those
    that need one; literal paths before patterns, as the transcoder decides. The first of two operations with the same
    verb and path counts.
    Raises `AmbiguousRoute`.
    """
    unique = list({(each.verb, each.prefix + each.path): each for each in reversed(list(table))}.values())[::-1]
    _refuse_shadows(unique)
    hot = [each for each in unique if not each.prefix and each.path in exact]
    rest = sorted((each for each in unique if each not in hot), key=_rank)
    return [
        *(_like(each, path=each.path) for each in hot),
        *(_route(list(group)) for _, group in groupby(rest, key=_rank)),
    ]


def _rank(each: Operation) -> tuple[int, bool, str, str, bool, bool]:
    strictness = _STRICTEST_LAST.index(each.access)
    return strictness, _is_pattern(each), each.cluster, each.verb, each.generation, each.pieces


def _is_pattern(each: Operation) -> bool:
    return "{" in each.path or "*" in each.path


def _route(group: Sequence[Operation]) -> Route:
    return _like(group[0], regex=_alternation(group))


def _like(each: Operation, *, regex: str = "", path: str = "") -> Route:
    return Route(each.verb, each.cluster, each.access, each.generation, each.pieces, regex, path)


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
    """Who lets more people in is tried first, so its patterns must not cover a path that lets in fewer."""
    table = list(table)
    for wide in (each for each in table if _is_pattern(each) and each.access != "user"):
        covers = re.compile(pattern(wide.prefix + wide.path))
        stricter = _STRICTEST_LAST[_STRICTEST_LAST.index(wide.access) + 1 :]
        for closed in (each for each in table if each.access in stricter and each.verb == wide.verb):
            example = re.sub(r"\{[^}]+\}|\*+", "x", closed.prefix + closed.path)
            if covers.fullmatch(example):
                raise AmbiguousRoute(
                    f"{wide.verb} {wide.path} is {wide.access} and covers {closed.path}, which is {closed.access}"
                )
