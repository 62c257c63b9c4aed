"""Every program in docs/examples does what it shows, against a new server, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.documents import ROOT
from tests.fake_upstream import FakeUpstream
from tests.rest.server import JanServer
from tests.sandbox import compiled_python  # noqa: F401  # a fixture

EXAMPLES = ROOT / "docs/examples"
TOPICS = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
RUNNERS = {".sh": "bash", ".py": sys.executable, ".mjs": shutil.which("node") or ""}
PROGRAMS = [f"{topic}/{topic}{suffix}" for topic in TOPICS for suffix in RUNNERS]
PACKAGES = ROOT / "tests/rest/js/node_modules"
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
ADMIN = {"ADMIN_EMAIL": "admin@example.com", "ADMIN_PASSWORD": "difference engine"}


@pytest.fixture(scope="module")
def upstream_url() -> Iterator[str]:
    """An engine with one model, for a provider."""
    with FakeUpstream() as engine:
        yield engine.url


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, compiled_python: Path) -> Iterator[JanServer]:  # noqa: F811
    """A server as it is after the installation, with an administrator."""
    server = JanServer(tmp_path_factory.mktemp("fresh"), **ADMIN)
    server.settings["PUBLIC_BASE_URL"] = server.url  # URLs of images lead there
    with server:
        yield server


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples as somebody copies them, beside what `npm install` brings."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(EXAMPLES, folder, dirs_exist_ok=True)
    (folder / "node_modules").symlink_to(PACKAGES)
    return folder


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_example_does_what_it_shows(fresh: JanServer, upstream_url: str, copy: Path, program: str) -> None:
    runner = RUNNERS[Path(program).suffix]
    if not runner or ("chat.mjs" in program and not (PACKAGES / "openai").exists()):
        pytest.skip("node or the openai package is not installed: npm ci in tests/rest/js")
    before = offered(fresh)
    environ = {"PATH": PATH, "BASE_URL": fresh.url, "UPSTREAM_URL": upstream_url, **ADMIN}
    done = subprocess.run(
        [runner, copy / program], env=environ, cwd=copy, capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout
    assert offered(fresh) == before
    assert "Traceback" not in fresh.errors


def offered(server: JanServer) -> tuple[list[str], list[str]]:
    """The models and the providers that the server has."""
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {server.token()}"}) as client:
        models, providers = (client.get(f"/v1/models{of}").json()["data"] for of in ("", "/providers"))
    return [each["id"] for each in models], [each["name"] for each in providers]


def test_a_wrong_answer_stops_an_example(fresh: JanServer, copy: Path) -> None:
    elsewhere = {"PATH": PATH, "BASE_URL": f"{fresh.url}/elsewhere"}
    ended = [
        subprocess.run([RUNNERS[path.suffix], path], env=elsewhere, cwd=copy, capture_output=True, check=False)
        for path in (copy / "settings").iterdir()
        if RUNNERS[path.suffix]
    ]
    assert 0 not in {each.returncode for each in ended}


def test_every_topic_is_shown_in_three_languages_and_in_the_index() -> None:
    index = (EXAMPLES / "README.md").read_text()
    there = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.*")} - {"README.md"}
    assert there == set(PROGRAMS)
    assert [program for program in PROGRAMS if f"({program})" not in index] == []
