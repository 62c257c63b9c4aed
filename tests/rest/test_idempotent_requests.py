"""`Idempotency-Key` as clients of the gateway meet it, and what becomes of keys when a process dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.fake_upstream import STALL, FakeUpstream, answer, completion, status, stream
from tests.rest.conftest import providers
from tests.rest.server import JanServer, eventually, wait_for_end

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"model": "fake", "messages": [{"role": "user", "content": "Hello!"}]}
STREAMED = HELLO | {"stream": True}
KEY = {"idempotency-key": "order-4711"}
# What says something about this very answer, not about what was asked.
OWN = {"date", "x-request-id", "x-envoy-upstream-service-time", "idempotent-replayed"}


def headers_of(said: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in said.headers.items() if name not in OWN and "ratelimit" not in name}


@pytest.mark.parametrize("body", [HELLO, STREAMED])
def test_the_second_answer_is_the_first_one(rest: httpx.Client, upstream: FakeUpstream, body: Any) -> None:
    first, second = (rest.post(CHAT, json=body, headers=KEY) for _ in range(2))
    assert (first.status_code, "idempotent-replayed" in first.headers) == (200, False)
    assert (second.status_code, second.headers["idempotent-replayed"]) == (200, "true")
    assert (second.content, headers_of(second)) == (first.content, headers_of(first))
    assert len(upstream.posts) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "fake", "input": "Hello!"}),
        ("/v1/completions", {"model": "fake", "prompt": "Hello!"}),
        ("/v1/completions", {"model": "fake", "prompt": "Hello!", "stream": True}),
    ],
)
def test_everything_that_generates_takes_a_key(
    rest: httpx.Client, upstream: FakeUpstream, path: str, body: Any
) -> None:
    first, second = (rest.post(path, json=body, headers=KEY) for _ in range(2))
    assert (first.status_code, second.headers["idempotent-replayed"]) == (200, "true")
    assert (second.content, len(upstream.posts)) == (first.content, 1)


def test_an_api_key_is_made_once(rest: httpx.Client) -> None:
    first, second = (rest.post("/auth/api-keys", json={"name": "mine"}, headers=KEY) for _ in range(2))
    assert (first.status_code, second.status_code, second.headers["idempotent-replayed"]) == (201, 201, "true")
    assert (second.content, headers_of(second)) == (first.content, headers_of(first))
    assert [each["id"] for each in rest.get("/auth/api-keys").json()["data"]] == [first.json()["data"]["id"]]


@pytest.mark.parametrize("body", [b"{", b"{}", b'{"model": "nobody", "messages": [{"role": "user", "content": "x"}]}'])
def test_an_error_is_repeated_with_its_request_id(rest: httpx.Client, body: bytes) -> None:
    first, second = (rest.post(CHAT, content=body, headers=KEY) for _ in range(2))
    assert first.status_code in {400, 404}
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert second.headers["idempotent-replayed"] == "true"
    assert (headers_of(second), second.headers["content-type"]) == (headers_of(first), "application/json")


def test_a_failure_of_the_provider_is_tried_again(
    rest: httpx.Client, upstream: FakeUpstream, fragile_model: str
) -> None:
    upstream.default = lambda _: status(500)
    first = rest.post(CHAT, json=HELLO | {"model": fragile_model}, headers=KEY)
    upstream.forget()
    second = rest.post(CHAT, json=HELLO | {"model": fragile_model}, headers=KEY)
    assert (first.status_code, second.status_code, len(upstream.posts)) == (502, 200, 1)


def test_another_body_is_a_conflict(rest: httpx.Client) -> None:
    rest.post(CHAT, json=HELLO, headers=KEY)
    refused = rest.post(CHAT, json=STREAMED, headers=KEY)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "idempotency_key_reuse")


def test_another_content_type_is_not_another_body(rest: httpx.Client) -> None:
    said = [rest.post(CHAT, content=b'{"model":"x"}', headers=KEY | {"content-type": each}) for each in ("a/b", "c/d")]
    assert said[1].headers["idempotent-replayed"] == "true"


def test_another_user_has_keys_of_its_own(rest: httpx.Client, server: JanServer, upstream: FakeUpstream) -> None:
    upstream.script(answer(completion("mine")), answer(completion("yours")))
    other = {"authorization": f"Bearer {server.token()}"}
    said = [rest.post(CHAT, json=HELLO, headers=KEY | more).text for more in ({}, other, {}, other)]
    assert [("mine" in each, "yours" in each) for each in said] == [(True, False), (False, True)] * 2


@pytest.mark.parametrize("key", ["", "x" * 256, "ä"])
def test_what_is_no_key_is_refused(rest: httpx.Client, upstream: FakeUpstream, key: str) -> None:
    refused = rest.post(CHAT, json=HELLO, headers={"idempotency-key": key.encode()})
    found = refused.json()["error"]
    assert (refused.status_code, found["code"], found["param"]) == (400, "invalid_parameter", "idempotency-key")
    assert upstream.posts == []


def test_where_nothing_is_kept_the_header_is_ignored(rest: httpx.Client) -> None:
    users = {rest.post("/auth/guest-login", headers=KEY).json()["user_id"] for _ in range(2)}
    assert len(users) == 2
    assert rest.get("/v1/models", headers={"idempotency-key": ""}).status_code == 200


def test_while_the_first_call_runs_the_second_is_told_when_to_come(rest: httpx.Client, upstream: FakeUpstream) -> None:
    upstream.script(stream("Hello", gate=(gate := upstream.gate())))
    gate.release()
    with rest.stream("POST", CHAT, json=STREAMED, headers=KEY) as first:
        assert first.status_code == 200
        refused = rest.post(CHAT, json=STREAMED, headers=KEY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "idempotency_in_progress")
        assert refused.headers["retry-after"] == "1"
        gate.release(9)
        whole = first.read()
    assert rest.post(CHAT, json=STREAMED, headers=KEY).content == whole


def test_a_stream_that_was_left_is_found_whole(rest: httpx.Client, upstream: FakeUpstream) -> None:
    upstream.script(stream("Hello", " world", gate=(gate := upstream.gate())))
    gate.release()
    with rest.stream("POST", CHAT, json=STREAMED, headers=KEY) as left:
        assert b"Hello" in next(left.iter_bytes())
    gate.release(9)
    again = eventually(lambda: finished(rest.post(CHAT, json=STREAMED, headers=KEY)))
    assert again.headers["idempotent-replayed"] == "true"
    assert again.content == rest.post(CHAT, json=STREAMED).content
    assert len(upstream.posts) == 2


def finished(said: httpx.Response) -> httpx.Response | None:
    return None if said.status_code == 409 else said


def test_the_openai_sdk_gets_its_stream_again(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    texts = []
    for _ in range(2):
        chunks = client.chat.completions.create(
            model="fake", messages=HELLO["messages"], stream=True, extra_headers={"Idempotency-Key": "k"}
        )
        texts.append("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    assert (texts, len(upstream.posts)) == (["Hello world"] * 2, 1)
    assert chunks.response.headers["idempotent-replayed"] == "true"


# Processes that die


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
    """A server with two workers, which the tests kill or stop."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "providers.yml").write_text(providers({"name": "fake", "url": _fake.url, "models": ["fake"]}))
    with JanServer(folder, WORKERS="2") as server:
        yield server


def guest(server: JanServer) -> httpx.Client:
    return httpx.Client(
        base_url=server.url, headers={"authorization": f"Bearer {server.token()}"}, timeout=20, trust_env=False
    )


def test_workers_share_their_answers(pair: JanServer, fake: FakeUpstream) -> None:
    with guest(pair) as client:
        said = [client.post(CHAT, json=STREAMED, headers=KEY).content for _ in range(8)]
    assert (len(set(said)), len(fake.posts)) == (1, 1)


def test_the_death_of_a_worker_frees_its_key_at_once(pair: JanServer, fake: FakeUpstream) -> None:
    fake.script([*stream("Hello")[:2], STALL])
    with guest(pair) as client:
        with client.stream("POST", CHAT, json=STREAMED, headers=KEY) as broken:
            words = broken.iter_bytes()
            assert b"Hello" in next(words)
            kill_workers(pair)
            with pytest.raises(httpx.RemoteProtocolError):
                list(words)
        again = eventually(lambda: served(client.post(CHAT, json=STREAMED, headers=KEY)))
        assert (again.status_code, "idempotent-replayed" in again.headers, len(fake.posts)) == (200, False, 2)
        assert b"[DONE]" in again.content
        assert client.post(CHAT, json=STREAMED, headers=KEY).content == again.content


def kill_workers(server: JanServer) -> None:
    dead = [pid for name, pid in server.children().items() if name.startswith("worker-")]
    for pid in dead:
        os.kill(pid, signal.SIGKILL)
    wait_for_end(dead)


def served(said: httpx.Response) -> httpx.Response | None:
    """The answer, unless no worker is up yet."""
    return None if said.status_code == 503 else said


def test_a_stop_in_the_middle_frees_the_key_and_answers_outlive_it(tmp_path: Path, fake: FakeUpstream) -> None:
    (tmp_path / "providers.yml").write_text(providers({"name": "fake", "url": fake.url, "models": ["fake"]}))
    server = JanServer(tmp_path, SHUTDOWN_TIMEOUT="1s")
    with server, guest(server) as client:
        headers = client.headers
        kept = client.post(CHAT, json=HELLO, headers={"idempotency-key": "kept"})
        fake.script([*stream("Hello")[:2], STALL])
        with client.stream("POST", CHAT, json=STREAMED, headers=KEY) as left:
            assert b"Hello" in next(left.iter_bytes())
    fake.wait_for_hang_up(post=1)
    with server, httpx.Client(base_url=server.url, headers=headers, timeout=20) as client:
        again = client.post(CHAT, json=STREAMED, headers=KEY)
        assert (again.status_code, "idempotent-replayed" in again.headers) == (200, False)
        same = client.post(CHAT, json=HELLO, headers={"idempotency-key": "kept"})
        assert (same.content, same.headers["idempotent-replayed"]) == (kept.content, "true")
