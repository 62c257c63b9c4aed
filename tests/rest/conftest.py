"""One whole server for the session, a scripted upstream behind it, and its log beside every failure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from itertools import count
from typing import Any

import grpc
import httpx
import openai
import pytest
import yaml

from tests.fake_upstream import FakeUpstream
from tests.rest.edge_rig import Rig, running
from tests.rest.server import JanServer

FRAGILE = 40
_numbers = count()


def providers(*entries: dict[str, Any], aliases: dict[str, str] | None = None) -> str:
    """A providers file."""
    return yaml.safe_dump({"providers": {"default": list(entries)}, "aliases": aliases or {}})


@pytest.fixture(scope="session")
def _upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(_upstream: FakeUpstream) -> FakeUpstream:
    """The model provider that `server` asks, without memory of earlier tests."""
    _upstream.forget()
    return _upstream


@pytest.fixture(scope="session")
def server(_upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JanServer]:
    """A server with the models `fake`, `org/team/fake` (alias `nickname`), `impatient` and those of `fragile_model`."""
    folder = tmp_path_factory.mktemp("server")
    entries = [
        {
            "name": "fake",
            "type": "openai",
            "url": _upstream.url,
            "api_key": "sk-upstream-secret",
            "models": ["fake", {"id": "org/team/fake", "upstream_id": "fake-of-team"}],
        },
        {
            "name": "impatient",
            "url": _upstream.url,
            "models": ["impatient"],
            "timeouts": {"first_byte": 0.3, "idle": 0.3},
        },
        *({"name": f"fragile-{n}", "url": _upstream.url, "models": [f"fragile-{n}"]} for n in range(FRAGILE)),
    ]
    (folder / "providers.yml").write_text(providers(*entries, aliases={"nickname": "fake"}))
    with JanServer(folder) as running:
        yield running


@pytest.fixture
def fragile_model() -> str:
    """A model whose provider no other test makes fail, so that no circuit breaker remembers anything."""
    return f"fragile-{next(_numbers)}"


@pytest.fixture
def token(server: JanServer) -> str:
    """The access token of a guest of the test's own."""
    return server.token()


@pytest.fixture
def rest(server: JanServer, token: str) -> Iterator[httpx.Client]:
    """Plain HTTP to the gateway as a guest."""
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {token}"}, timeout=20) as client:
        yield client


@pytest.fixture
def client(server: JanServer, token: str) -> Iterator[openai.OpenAI]:
    """OpenAI's SDK, which repeats nothing by itself here."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=token, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture(scope="session")
def rig() -> Iterator[Rig]:
    """The gateway alone, with stand-ins behind it and two workers."""
    with running(workers=2) as rig:
        yield rig


@pytest.fixture
async def http(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    """Plain HTTP to the gateway of `rig`, without a credential."""
    async with httpx.AsyncClient(base_url=rig.url, timeout=20) as http:
        yield http


@pytest.fixture
async def channel(rig: Rig) -> AsyncIterator[grpc.aio.Channel]:
    """Native gRPC to the gateway of `rig`, without a credential."""
    async with grpc.aio.insecure_channel(rig.target) as channel:
        yield channel


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the end of the log of every server that a failed test used beside the failure."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for name, value in item.funcargs.items():
            if isinstance(value, JanServer):
                report.sections.append((f"log of {name}", _end(value.errors)))
                report.sections.append((f"standard output of {name}", _end(value.out)))
    return report


def _end(text: str) -> str:
    return text[-4000:]
