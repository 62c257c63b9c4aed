"""What the documents name exists, and docs/errors.md lists exactly the errors that this build can answer with."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import yaml
from jan.common.v1 import error_reason_pb2

from services.llm.providers.discovery import KEY_VARIABLES
from services.runtime import errors
from services.runtime.config import Settings
from tests.documents import ROOT, blocks, links, rows, words

SOURCES = sorted((ROOT / "services").rglob("*.py"))
REASONS = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()}  # noqa: SIM118  # no dict
# Words in capitals that are neither a setting, a vendor's variable, a gRPC status, an error's reason nor a constant of
# ours.
OTHER_CAPITALS = {
    "DELETE": "an HTTP method",
    "ES256": "a signature algorithm",
    "RS256": "a signature algorithm",
    "GET": "an HTTP method",
    "HEAD": "an HTTP method",
    "GRPC_EXPERIMENTS": "a variable of gRPC's own library",
    "HTTPS_PROXY": "a variable of other programs",
    "POST": "an HTTP method",
    "NAME": "a placeholder",
    "NOT_SERVING": "a status of grpc.health.v1",
    "PATCH": "an HTTP method",
    "PUT": "an HTTP method",
    "TOKEN": "a shell variable of the examples",
    "REFRESH": "another",
    "DOT": "another",
    "KEY": "another",
    "KEY_ID": "another",
    "ADMIN": "another",
    "BASE_URL": "a variable of docs/examples",
    "MODEL": "another",
    "UPSTREAM_URL": "another",
    "FILES_MCP_ENABLED": "a variable of an example in docs/tools.md",
    "FILES_MCP_TOKEN": "another",
}


def test_every_link_leads_to_a_file() -> None:
    assert [(path.name, target) for path, target in links() if not (path.parent / target).exists()] == []


def test_every_make_target_that_is_named_exists() -> None:
    in_blocks = {target for block in blocks("sh") for target in re.findall(r"^make ([\w-]+)", block.text, re.M)}
    in_prose = {target for _, word in words() for target in re.findall(r"^make ([\w-]+)", word)}
    targets = set(re.findall(r"^([\w-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    assert {"run", "test"} <= in_blocks
    assert (in_blocks | in_prose) - targets == set()


def test_every_variable_that_is_named_is_a_setting_or_known_otherwise() -> None:
    settings = {field.name.upper() for field in dataclasses.fields(Settings)}
    known = settings | set(KEY_VARIABLES) | {code.name for code in grpc.StatusCode} | REASONS | constants()
    assert named_capitals() - known - set(OTHER_CAPITALS) == set()
    assert set(OTHER_CAPITALS) - named_capitals() == set()


def named_capitals() -> set[str]:
    """`NAME` and `NAME=value` in the prose, `$NAME` and `${NAME}` in blocks."""
    in_prose = {match for _, word in words() for match in re.findall(r"^(?:\$\{)?([A-Z][A-Z0-9_]+)(?=$|[=}:/ ])", word)}
    in_blocks = {match for block in blocks() for match in re.findall(r"\$\{?([A-Z][A-Z0-9_]+)", block.text)}
    return in_prose | in_blocks


def constants() -> set[str]:
    """The names in capitals that modules of services/ define."""
    return {name for path in SOURCES for name in re.findall(r"^([A-Z][A-Z0-9_]+)\b.* = ", path.read_text(), re.M)}


# docs/errors.md

Answer = tuple[str, str, str]
"""HTTP status, type and code."""
CLASSES: dict[str, Any] = {name: each for name, each in vars(errors).items() if hasattr(each, "kind")}
# Functions that hand a `code` they are given on to one class of error.
HAND_ON = {"failure": errors.InvalidRequest}


def test_the_reference_of_errors_lists_what_can_be_answered() -> None:
    documented = {(status, kind, code): code_of_grpc for status, code_of_grpc, kind, code, _ in reference()}
    expected = dict.fromkeys(of_the_gateway(), "none") | dict(of_services())
    assert documented == expected
    assert len(reference()) == len(expected)


def test_the_reference_of_errors_means_what_the_proto_says() -> None:
    meanings = comments()
    assert [row for row in reference() if row[4] != meanings[row[3]]] == []


def test_every_reason_is_in_the_reference() -> None:
    answered = {code for _, _, _, code, _ in reference()}
    assert {reason.lower() for reason in REASONS - {"UNSPECIFIED"}} - answered == set()


def reference() -> list[tuple[str, ...]]:
    """The rows of the table: HTTP status, gRPC status, type, code, meaning."""
    return [row for row in rows("docs/errors.md", columns=5) if row[0].isdigit()]


def comments() -> dict[str, str]:
    """What the proto says about each reason, by the code of REST."""
    text = (ROOT / "proto/jan/common/v1/error_reason.proto").read_text()
    found = re.findall(r"((?:  //.*\n)+)  ERROR_REASON_(\w+) =", text)
    return {name.lower(): " ".join(re.sub(r"^ *//", "", comment, flags=re.M).split()) for comment, name in found}


def of_services() -> Iterator[tuple[Answer, str]]:
    """What the code in services/ raises, each with its gRPC status."""
    for path in set(SOURCES) - {Path(errors.__file__)}:
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
            if name in CLASSES or name in HAND_ON:
                kind = (CLASSES.get(name) or HAND_ON[name]).kind
                for code in codes(node, kind.code):
                    yield (str(kind.http), kind.type, code), kind.grpc.name


def codes(call: ast.Call, default: str) -> Iterator[str]:
    """The codes that one call may give to an error."""
    given = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
    constant = [each.value for value in given for each in ast.walk(value) if isinstance(each, ast.Constant)]
    yield from (code for code in constant if isinstance(code, str))
    if not constant or None in constant:
        yield default


def of_the_gateway() -> Iterator[Answer]:
    """What Envoy answers itself, and what edge.lua makes of gRPC statuses that came without an envelope."""
    for row in mappings(yaml.safe_load((ROOT / "envoy/envoy.yaml").read_text())):
        if {"when", "status", "type", "code"} <= row.keys():
            yield str(row["status"]), row["type"], row["code"]
    lua = (ROOT / "envoy/edge.lua").read_text()
    yield from re.findall(r'\["(\d+)"\] = \{ "(\w+)", "(\w+)"', lua)


def mappings(node: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a YAML document."""
    if isinstance(node, dict):
        yield node
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from mappings(each)
