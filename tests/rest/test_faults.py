"""What dies and comes back: a worker, the accounts, the database, the supervisor, a model provider."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.fake_upstream import FakeUpstream, answer, completion
from tests.rest.conftest import providers
from tests.rest.server import JanServer, eventually, free_ports, wait_for_end

HELLO = [{"role": "user", "content": "Hello!"}]
UNAVAILABLE = ("upstream_error", "service_unavailable")


@pytest.fixture(scope="module")
def _fake() -> Iterator[FakeUpstream]:
    with FakeUpstream() as fake:
        yield fake


@pytest.fixture
def fake(_fake: FakeUpstream) -> FakeUpstream:
    _fake.forget()
    return _fake


@pytest.fixture(scope="module")
def pair(_fake: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JanServer]:
    """A server with two workers, for tests that kill parts of it and wait until they are back."""
    folder = tmp_path_factory.mktemp("pair")
    (dead,) = free_ports(1)
    nowhere = f"http://127.0.0.1:{dead}/v1"
    entries = [
        {"name": "fake", "url": _fake.url, "models": ["fake"]},
        {"name": "nowhere", "url": nowhere, "models": ["nowhere"]},
        {
            "name": "spare",
            "models": ["spare"],
            "endpoints": [{"url": nowhere}, {"url": f"{_fake.url}/", "priority": 1}],
        },
    ]
    (folder / "providers.yml").write_text(providers(*entries))
    with JanServer(folder, WORKERS="2") as server:
        yield server


@pytest.fixture
async def guest(pair: JanServer) -> AsyncIterator[httpx.AsyncClient]:
    """Plain HTTP to `pair` with a token."""
    headers = {"authorization": f"Bearer {pair.token()}"}
    async with httpx.AsyncClient(base_url=pair.url, headers=headers, timeout=30) as client:
        yield client


async def chat(client: httpx.AsyncClient, model: str = "fake") -> httpx.Response:
    return await client.post("/v1/chat/completions", json={"model": model, "messages": HELLO})


def error(answer: httpx.Response) -> tuple[str, str]:
    """Type and code of a proper error."""
    found = answer.json()["error"]
    assert found["request_id"] == answer.headers["x-request-id"]
    assert found["message"]
    return found["type"], found["code"]


def kill(server: JanServer, name: str) -> int:
    """kill -9 of one process of a server; its number."""
    pid = server.children()[name]
    os.kill(pid, signal.SIGKILL)
    return pid


def back(server: JanServer, name: str, *, instead_of: int) -> bool:
    """Whether the supervisor has put another process in its place that serves."""
    return server.children().get(name, instead_of) != instead_of and server.serves(name)


async def test_killing_a_worker_fails_at_most_what_was_on_it(
    pair: JanServer, guest: httpx.AsyncClient, fake: FakeUpstream
) -> None:
    gate = fake.gate()
    fake.default = lambda _: [gate, *answer(completion("Hello world"))]
    asking = [asyncio.create_task(chat(guest)) for _ in range(20)]
    await asyncio.to_thread(fake.wait_for_posts, 20)
    killed = kill(pair, "worker-0")
    broken = await asyncio.wait_for(until_failed(asking), 10)
    assert 0 < len(broken) < 20
    assert {(each.status_code, error(each)) for each in broken} == {(503, UNAVAILABLE)}
    assert {each.headers["retry-after"] for each in broken} == {"1"}

    asking += [asyncio.create_task(chat(guest)) for _ in range(180)]
    gate.release(400)
    answers = await asyncio.gather(*asking)
    assert len([each for each in answers if each.status_code == 200]) == 200 - len(broken)

    await asyncio.to_thread(eventually, lambda: back(pair, "worker-0", instead_of=killed))
    gate.release(400)
    answers = await asyncio.gather(*(chat(guest) for _ in range(100)))
    assert {each.status_code for each in answers} == {200}


async def until_failed(asking: list[asyncio.Task[httpx.Response]]) -> list[httpx.Response]:
    """The answers that come although the upstream has given none, when those of the dead worker are all in."""
    done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    more, _ = await asyncio.wait([each for each in asking if each not in done], timeout=0.5)
    return [each.result() for each in done | more]


async def test_both_workers_serve_after_one_was_killed(
    pair: JanServer, guest: httpx.AsyncClient, fake: FakeUpstream
) -> None:
    killed = kill(pair, "worker-1")
    await asyncio.to_thread(eventually, lambda: back(pair, "worker-1", instead_of=killed))

    async def serving() -> set[str]:
        for _ in range(20):
            assert (await chat(guest)).status_code == 200
        return {line["upstream"].rpartition("/")[2] for line in pair.access_log()[-20:] if line["upstream"]}

    async with asyncio.timeout(20):
        while not {"worker-0.sock", "worker-1.sock"} <= await serving():
            pass


async def test_tokens_count_without_the_accounts(pair: JanServer, guest: httpx.AsyncClient) -> None:
    killed = kill(pair, "auth")
    logins = await logins_until(lambda: pair.children().get("auth", killed) != killed, guest)
    assert {(each.status_code, error(each)) for each in logins} == {(503, UNAVAILABLE)}
    assert (await guest.get("/auth/me")).status_code == 200


async def test_chat_goes_on_without_the_database(pair: JanServer, guest: httpx.AsyncClient) -> None:
    me = (await guest.get("/auth/me")).json()["data"]["id"]
    killed = kill(pair, "postgres")
    logins = await logins_until(lambda: pair.children().get("postgres", killed) != killed, guest)
    assert {(each.status_code, error(each)) for each in logins} == {(503, UNAVAILABLE)}
    assert {each.headers["retry-after"] for each in logins} == {"1"}
    assert (await guest.get("/auth/me")).json()["data"]["id"] == me


async def logins_until(back: Callable[[], bool], client: httpx.AsyncClient) -> list[httpx.Response]:
    """The refused attempts to sign in until one succeeds because it is `back`; chat works all the time."""
    refused = []
    while True:
        was_back = back()
        login = await client.post("/auth/guest-login")
        assert (await chat(client)).status_code == 200
        if login.status_code != 201:
            refused.append(login)
        elif was_back:
            return refused


async def test_the_gateway_comes_back(pair: JanServer, guest: httpx.AsyncClient) -> None:
    killed = kill(pair, "gateway")
    await asyncio.to_thread(eventually, lambda: pair.children().get("gateway", killed) != killed and pair.is_ready())
    assert (await chat(guest)).status_code == 200


async def test_a_provider_that_is_down_is_an_honest_503(guest: httpx.AsyncClient) -> None:
    down = await chat(guest, "nowhere")
    assert (down.status_code, error(down)) == (503, UNAVAILABLE)
    assert "127.0.0.1" not in down.text


async def test_another_endpoint_answers_when_the_first_is_down(guest: httpx.AsyncClient, fake: FakeUpstream) -> None:
    answers = [await chat(guest, "spare") for _ in range(20)]
    assert {each.status_code for each in answers} == {200}
    assert {each.json()["model"] for each in answers} == {"spare"}
    assert len(fake.posts) == 20


def test_a_killed_supervisor_leaves_no_orphan_and_no_damage(tmp_path: Path) -> None:
    with JanServer(tmp_path, WORKERS="2") as server:
        guest = server.token()
        me = server.get("/auth/me", guest).json()["data"]
        processes = server.tree()
        assert len(processes) > 5
        server.kill()
        wait_for_end(processes, within=10)
    with server:
        assert server.get("/auth/me", guest).json()["data"] == me
        processes = server.tree()
    wait_for_end(processes)
