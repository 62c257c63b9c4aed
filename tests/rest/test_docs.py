"""Whatever the documents show is done here as a reader would do it: commands and scripts run in their order, against a
new server without a model provider, and the answers that are shown are compared."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from jan.common.v1 import error_reason_pb2

from services.llm.providers import entries
from services.mcp import bridge_file
from tests.documents import DOCUMENTS, ROOT, Block, blocks, outputs, words
from tests.fake_upstream import RESET, FakeUpstream, stream
from tests.rest.server import JanServer

RUN = ("sh", "python", *(["js"] if shutil.which("node") else []))
PROGRAMS = {"python": (sys.executable, ".py"), "js": ("node", ".mjs")}
# Commands that are not run. tests/contract/test_references.py finds out that their targets exist.
NOT_RUN = {
    "make run": "starts a server, as every test here does",
    "make test": "runs the tests, this one too",
}
BEGINNING = "set -o pipefail; trap 'failed=$?' ERR\n"
"""So that the status of a block is that of the last of its commands that failed."""
STREAM_THAT_BREAKS = next(block for block in blocks("text") if "upstream_error" in block.text)
# Paths that stand for others.
PATTERNS = {
    "services/<room>/migrations/NNNN_name.sql": "services/*/migrations/[0-9][0-9][0-9][0-9]_*.sql",
    "keys/<kid>.pem": "keys/sig_*.pem",
    "keys/external.json": "keys/jwks.json",  # only there with an external provider
}


@dataclass(frozen=True)
class Outcome:
    """What a block did."""

    status: int
    output: str
    errors: str


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JanServer]:
    """A server on which nothing is configured but its port."""
    server = JanServer(tmp_path_factory.mktemp("newcomer"))
    server.settings["PUBLIC_BASE_URL"] = f"http://localhost:{server.port}"  # signed URLs lead there
    with server:
        yield server


@pytest.fixture(scope="module")
def run(newcomer: JanServer, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Block], Outcome]:
    """What a block did when its document was worked through, which happens once."""

    @cache
    def work_through(document: str) -> dict[Block, Outcome]:
        folder = tmp_path_factory.mktemp("document")
        steps = [block for block in blocks(*RUN) if block.document == document]
        script = BEGINNING + "".join(step(block, newcomer, folder / str(block.line)) for block in steps)
        environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "DATA_DIR": str(newcomer.data_dir)}
        environ["PUBLIC_BASE_URL"] = newcomer.settings["PUBLIC_BASE_URL"]
        subprocess.run(["bash", "-c", script], cwd=ROOT, env=environ, check=True, timeout=60)
        return {block: outcome(folder / str(block.line)) for block in steps}

    return lambda block: work_through(block.document)[block]


def step(block: Block, server: JanServer, target: Path) -> str:
    """The block as part of its document's script: one shell runs them all, so that variables live on."""
    text = adapted(block.text, server)
    if block.language in PROGRAMS:
        program, suffix = PROGRAMS[block.language]
        target.with_suffix(suffix).write_text(text)
        text = f"{program} {target}{suffix}\n"
    kept = [line for line in text.splitlines() if not any(begins_with(command, line) for command in NOT_RUN)]
    body = "\n".join([":", *kept])
    return f"failed=0; {{ {body}\n}} >{target}.out 2>{target}.err\necho $failed >{target}.status\n"


def begins_with(command: str, line: str) -> bool:
    return line.split()[: len(command.split())] == command.split()


def adapted(text: str, server: JanServer) -> str:
    """The same commands for the ports and the data directory of the test's server."""
    for documented, actual in {8000: server.port, 8080: server.llm_port, 9091: server.metrics_port}.items():
        text = re.sub(rf"(localhost|127\.0\.0\.1):{documented}\b", rf"\1:{actual}", text)
    return re.sub(r"(?<!\S)\.data/", f"{server.data_dir}/", text)


def outcome(target: Path) -> Outcome:
    status, output, errors = (target.with_suffix(suffix).read_text() for suffix in (".status", ".out", ".err"))
    return Outcome(int(status), output, errors)


# --- what is run


@pytest.mark.parametrize("block", blocks(*RUN), ids=str)
def test_what_is_documented_runs(run: Callable[[Block], Outcome], block: Block) -> None:
    done = run(block)
    assert done.status == 0, done.errors
    if block not in outputs():
        assert '"error":' not in done.output


@pytest.mark.parametrize(("block", "shown"), outputs().items(), ids=str)
def test_the_answer_that_is_documented_is_given(run: Callable[[Block], Outcome], block: Block, shown: Block) -> None:
    said = run(block).output
    if shown.language == "json":
        assert json.loads(without_ids(said)) == json.loads(without_ids(shown.text))
    else:
        assert without_ids(said) == without_ids(shown.text)


def without_ids(text: str) -> str:
    return re.sub(r"\breq_\w+", "req_", text)


def test_the_first_three_requests_of_the_readme_are_answered(run: Callable[[Block], Outcome]) -> None:
    readme = [block for block in blocks(*RUN) if block.document == "README.md"]
    curl, sdk, grpc = (
        next(run(block) for block in readme if word in block.text)
        for word in ("curl http", "import openai", "buf curl")
    )
    answer = json.loads(curl.output)
    assert answer["object"] == "chat.completion"
    assert "Hello!" in answer["choices"][0]["message"]["content"]
    assert "Hello!" in sdk.output
    assert "Hello!" in "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in json_values(grpc.output))


def json_values(text: str) -> Iterator[dict[str, Any]]:
    """JSON values that stand one after the other."""
    while text := text.strip():
        value, end = json.JSONDecoder().raw_decode(text)
        yield value
        text = text[end:]


def test_a_rotated_key_is_published(run: Callable[[Block], Outcome], newcomer: JanServer) -> None:
    (block,) = (block for block in blocks("sh") if "keys rotate" in block.text)
    keys = json.loads((newcomer.data_dir / "keys/jwks.json").read_text())["keys"]
    assert run(block).output.strip() in {key["kid"] for key in keys}


def test_a_stream_that_breaks_ends_as_documented(
    server: JanServer, upstream: FakeUpstream, token: str, fragile_model: str
) -> None:
    upstream.script([*stream("Hello", " world")[:2], RESET])
    body = {"model": fragile_model, "stream": True, "messages": [{"role": "user", "content": "Hello!"}]}
    headers = {"authorization": f"Bearer {token}"}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers)
    assert without_ids(answer.text).endswith(f"\n\n{without_ids(STREAM_THAT_BREAKS.text)}\n")


def test_every_block_is_tested_somehow() -> None:
    shown = {*outputs().values(), STREAM_THAT_BREAKS}
    tested = {*blocks(*RUN, "js", "yaml", "proto", ""), *shown}
    assert [str(block) for block in blocks() if block not in tested] == []


def test_only_what_the_documents_show_is_excepted_from_running() -> None:
    shown = "\n".join(block.text for block in blocks("sh"))
    assert [command for command in NOT_RUN if not any(begins_with(command, line) for line in shown.splitlines())] == []


# --- what is read


@pytest.mark.parametrize("block", [block for block in blocks("yaml") if "mcp-http" in block.text], ids=str)
def test_a_file_of_other_mcp_servers_that_is_documented_can_be_read(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "mcp-providers.yml"
    path.write_text(block.text)
    read = bridge_file.read(path, {"FILES_MCP_TOKEN": "value"})
    assert [provider.name for provider in read] == re.findall(r"- name: (\w+)", block.text)
    assert all(provider.headers == {"Authorization": "Bearer value"} for provider in read)


@pytest.mark.parametrize("block", [block for block in blocks("yaml") if "mcp-http" not in block.text], ids=str)
def test_a_providers_file_that_is_documented_can_be_read(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "providers.yml"
    path.write_text(block.text)
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)", block.text), "value")
    read = entries.read(path, "default", environ)
    assert [entry.name for entry in read.entries] == re.findall(r"- name: (\w+)", block.text)
    assert all(entry.api_key == "value" for entry in read.entries if entry.type in ("openai", "anthropic"))


def test_the_providers_file_that_comes_along_can_be_read_with_its_examples(tmp_path: Path) -> None:
    text = (ROOT / "deploy/config/providers.yml").read_text()
    assert entries.read(ROOT / "deploy/config/providers.yml", "default", {}).entries == ()
    path = tmp_path / "providers.yml"
    path.write_text(re.sub(r"^  # ", "    ", text.replace("default: []", "default:"), flags=re.M))
    assert len(entries.read(path, "default", {}).entries) == text.count("# - name: ")


@pytest.mark.parametrize("block", blocks("proto"), ids=str)
def test_an_rpc_that_is_documented_is_in_the_protos(block: Block) -> None:
    protos = [tokens(path.read_text()) for path in (ROOT / "proto").rglob("*.proto")]
    assert any(tokens(block.text) in proto for proto in protos)


def tokens(source: str) -> str:
    """Proto source without comments and line breaks."""
    return " ".join(re.sub(r"//.*", "", source).split())


# --- what is named


def named_paths() -> list[tuple[str, str]]:
    """Words of the prose, and the beginnings of lines in pictures, that look like a file or folder of ours."""
    kinds = "py|md|proto|lua|yaml|yml|toml|sh|pem|json|sql|sock|pb|lock"
    in_pictures = [(each.document, word) for each in blocks("") for word in re.findall(r"^(\S+)  ", each.text, re.M)]
    return [
        (document, word.removeprefix("DATA_DIR/").removeprefix(".data/"))
        for document, word in [*words(), *in_pictures]
        if re.fullmatch(rf"[\w.*<>-][\w.*<>/-]*\.({kinds})|\w[\w.*<>/-]*/", word)
    ]


def test_every_file_that_is_named_exists(newcomer: JanServer) -> None:
    places = [ROOT, *(ROOT / name for name in ("services", "proto", "tests", "envoy", "deploy")), newcomer.data_dir]
    names = {(document, PATTERNS.get(word, word)) for document, word in named_paths()}
    assert len(names) > 30
    assert [name for name in names if not any(exists(place, name[1]) for place in places)] == []


def exists(place: Path, name: str) -> bool:
    """Whether it is there, at the top or, except for the whole tree, somewhere below."""
    return any(place.glob(name.rstrip("/"))) or (place != ROOT and any(place.rglob(name.rstrip("/"))))


def test_every_endpoint_that_is_named_exists(newcomer: JanServer) -> None:
    texts = [path.read_text() for path in DOCUMENTS]
    named = {each for text in texts for each in re.findall(r"\b(GET|POST|PATCH|DELETE) (/[\w./{}-]*[\w}])", text)}
    assert len(named) > 2
    for method, path in named:
        answer = httpx.request(method, newcomer.url + re.sub(r"\{\w+\}", "some_id", path))
        assert "route_not_found" not in answer.text, (method, path)


def test_every_error_code_in_an_example_has_its_reason() -> None:
    shown = {code for block in blocks() for code in re.findall(r'"code": ?"(\w+)"', block.text)}
    assert {f"ERROR_REASON_{code.upper()}" for code in shown} <= set(error_reason_pb2.ErrorReason.keys())
