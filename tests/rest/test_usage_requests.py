"""What is used is accounted: every generation and embedding, whoever asks, however it ends, whatever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fake_upstream import RESET, USAGE, FakeUpstream, answer, completion, status, stream
from tests.rest.conftest import providers
from tests.rest.server import JanServer, eventually

CHAT, TEXT, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
HELLO = {"model": "fake", "messages": [{"role": "user", "content": "Hello!"}]}
NOTHING = {"requests": 0, "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "groups": []}
Client = httpx.Client


@pytest.fixture
def other(server: JanServer) -> Iterator[Client]:
    """Another guest."""
    headers = {"authorization": f"Bearer {server.token()}"}
    with Client(base_url=server.url, headers=headers, timeout=20) as client:
        yield client


def usage(rest: Client, **wanted: str) -> dict[str, Any]:
    said = rest.get("/v1/usage/me", params=wanted)
    assert said.status_code == 200, said.text
    data: dict[str, Any] = said.json()["data"]
    return data


def counted(rest: Client, requests: int, **wanted: str) -> dict[str, Any]:
    """The usage, as soon as it has that many requests: it is written a moment after the answer."""
    return {**eventually(lambda: (found := usage(rest, **wanted))["requests"] >= requests and found)}


def sums(requests: int, prompt: int, completion: int) -> dict[str, int]:
    tokens = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {"requests": requests, **tokens}


def ask(rest: Client, path: str = CHAT, **body: Any) -> httpx.Response:
    return rest.post(path, json={**HELLO, **body} if path == CHAT else body)


def test_whoever_has_used_nothing_has_zeros(rest: Client) -> None:
    assert usage(rest) == NOTHING
    assert usage(rest, group_by="model") == NOTHING


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (CHAT, {}, sums(1, 5, 2)),
        (CHAT, {"stream": True}, sums(1, 5, 2)),
        (TEXT, {"model": "fake", "prompt": "Hello!"}, sums(1, 5, 2)),
        (EMBEDDINGS, {"model": "fake", "input": ["a", "b", "c"]}, sums(1, 3, 0)),
    ],
)
def test_every_kind_of_answer_counts(
    rest: Client, upstream: FakeUpstream, path: str, body: dict[str, Any], expected: dict[str, int]
) -> None:
    assert ask(rest, path, **body).status_code == 200
    assert counted(rest, 1) == {**expected, "groups": []}


def test_the_built_in_embeddings_count_too(rest: Client) -> None:
    spent = ask(rest, EMBEDDINGS, model="all-minilm-l6-v2", input="Hello!").json()["usage"]["prompt_tokens"]
    assert counted(rest, 1) == {**sums(1, spent, 0), "groups": []}


def test_a_stream_that_breaks_counts_what_was_generated(
    rest: Client, upstream: FakeUpstream, fragile_model: str
) -> None:
    upstream.script([*stream("Hello", " world")[:3], RESET])
    assert "[DONE]" not in ask(rest, model=fragile_model, stream=True).text
    found = counted(rest, 1)
    assert found["requests"] == 1
    assert found["completion_tokens"] > 0
    assert found["prompt_tokens"] > 0


def test_a_stream_that_its_reader_left_counts_what_was_generated(rest: Client, upstream: FakeUpstream) -> None:
    gate = upstream.gate()
    upstream.script(stream("Hello", " world", gate=gate))
    gate.release()
    with rest.stream("POST", CHAT, json={**HELLO, "stream": True}) as said:
        assert "Hello" in next(said.iter_text())
    upstream.wait_for_hang_up()
    assert counted(rest, 1)["completion_tokens"] == 1


def test_an_answer_that_never_began_costs_nothing(rest: Client, upstream: FakeUpstream) -> None:
    upstream.script(status(400), answer(completion("Hello")))
    assert ask(rest).status_code == 400
    assert ask(rest, model="unheard-of").status_code == 404
    assert ask(rest, messages=[]).status_code == 400
    ask(rest)
    assert counted(rest, 1)["requests"] == 1


def test_an_upstream_s_own_numbers_are_believed_as_far_as_they_are_numbers(
    rest: Client, upstream: FakeUpstream
) -> None:
    upstream.script(answer(completion("Hello", usage={**USAGE, "prompt_tokens": 2**70, "completion_tokens": 3})))
    ask(rest)
    ask(rest)
    assert counted(rest, 2) == {**sums(2, 5, 5), "groups": []}


def test_an_answer_that_is_repeated_by_its_idempotency_key_counts_once(rest: Client, upstream: FakeUpstream) -> None:
    for _ in range(2):
        assert rest.post(CHAT, json=HELLO, headers={"idempotency-key": "once"}).status_code == 200
    ask(rest)
    assert counted(rest, 2)["requests"] == 2


def test_usage_is_told_apart_by_model_day_and_key(server: JanServer, rest: Client, upstream: FakeUpstream) -> None:
    key = rest.post("/auth/api-keys", json={"name": "CI"}).json()["data"]
    for model in ("org/team/fake", "fake", "nickname"):  # the last is another name of `fake`
        ask(rest, model=model)
    with Client(base_url=server.url, headers={"x-api-key": key["key"]}) as robot:
        ask(robot)
        by_key = counted(robot, 4, group_by="api_key")
    total = sums(4, 20, 8)
    assert by_key == {**total, "groups": [{"key": "", **sums(3, 15, 6)}, {"key": key["id"], **sums(1, 5, 2)}]}
    models = [{"key": "fake", **sums(3, 15, 6)}, {"key": "org/team/fake", **sums(1, 5, 2)}]
    assert usage(rest, group_by="model") == {**total, "groups": models}
    assert usage(rest, group_by="project") == {**total, "groups": [{"key": "", **total}]}
    (day,) = usage(rest, group_by="day")["groups"]
    today = datetime.now(UTC).date()
    assert day == {"key": day["key"], **total}
    assert day["key"] in (today.isoformat(), (today - timedelta(days=1)).isoformat())  # midnight may just have passed


def test_a_chat_in_a_project_s_conversation_is_the_project_s(rest: Client, upstream: FakeUpstream) -> None:
    project = rest.post("/v1/projects", json={"name": "Birds"}).json()["data"]["id"]
    conversation = rest.post("/v1/conversations", json={"project_id": project}).json()["data"]["id"]
    for stream_it in (False, True):
        assert ask(rest, conversation=conversation, store=True, stream=stream_it).status_code == 200
    ask(rest)
    groups = counted(rest, 3, group_by="project")["groups"]
    assert groups == [{"key": "", **sums(1, 5, 2)}, {"key": project, **sums(2, 10, 4)}]


def test_everybody_sees_only_her_own(rest: Client, other: Client, upstream: FakeUpstream) -> None:
    ask(rest)
    ask(other, stream=True)
    ask(other)
    assert counted(other, 2)["requests"] == 2
    assert counted(rest, 1)["requests"] == 1
    mine = rest.get("/v1/users/me").json()["data"]["id"]
    assert usage(other, user_id=mine)["requests"] == 2


def test_a_period_is_asked_for_by_days_or_times(rest: Client, upstream: FakeUpstream) -> None:
    ask(rest)
    counted(rest, 1)
    now = datetime.now(UTC)
    for begin, end, expected in (
        (now - timedelta(hours=2), now, 1),
        (now - timedelta(days=9), now - timedelta(days=8), 0),
    ):
        times = {"from": begin.strftime("%Y-%m-%dT%H:%M:%SZ"), "to": end.isoformat()}
        assert usage(rest, **times)["requests"] == expected
    days = {"from": (now - timedelta(days=1)).date().isoformat(), "to": now.date().isoformat()}
    assert usage(rest, **days)["requests"] == 1


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("from=yesterday", "from"),
        ("from=2026-02-30", "from"),
        ("to=1762000000", "to"),
        ("to=2026-11-01T10:00:00", "to"),
        ("from=2026-11-01T10:00:00+02:00", "from"),  # a plus sign in a query is a space
        ("from=2026-02-02&to=2026-02-01", "from"),
        ("group_by=user", "group_by"),
        ("group_by=DAY", "group_by"),
    ],
)
def test_a_wrong_question_names_its_parameter(rest: Client, query: str, param: str) -> None:
    said = rest.get(f"/v1/usage/me?{query}")
    assert (said.status_code, said.json()["error"]["code"]) == (400, "invalid_parameter")
    assert said.json()["error"]["param"] == param


def test_empty_and_unknown_parameters_are_as_if_not_given(rest: Client) -> None:
    assert usage(rest, **{"from": "", "to": "", "group_by": "", "limit": "x"}) == NOTHING


def test_strangers_are_not_let_in(server: JanServer) -> None:
    assert server.get("/v1/usage/me").status_code == 401


# What dies


@pytest.fixture
def start(_upstream: FakeUpstream, tmp_path: Path) -> Callable[[], JanServer]:
    """A server of the test's own, in front of the same upstream."""
    _upstream.forget()
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "providers.yml").write_text(providers({"name": "fake", "url": _upstream.url, "models": ["fake"]}))
    return lambda: JanServer(folder)


def client(server: JanServer, token: str) -> Client:
    return Client(base_url=server.url, headers={"authorization": f"Bearer {token}"}, timeout=20)


def test_a_stop_writes_what_was_just_counted(start: Callable[[], JanServer]) -> None:
    with start() as server:
        token = server.token()
        with client(server, token) as rest:
            assert ask(rest).status_code == 200
        assert server.stop() == 0
        server.start()
        with client(server, token) as rest:
            assert usage(rest) == {**sums(1, 5, 2), "groups": []}


def test_a_database_that_was_away_loses_nothing(start: Callable[[], JanServer]) -> None:
    with start() as server, client(server, server.token()) as rest:
        ask(rest)
        postgres = server.children()["postgres"]
        os.kill(postgres, signal.SIGKILL)
        assert {ask(rest).status_code for _ in range(5)} == {200}
        eventually(lambda: server.children().get("postgres", postgres) != postgres)
        eventually(lambda: rest.get("/v1/usage/me").status_code == 200)
        assert counted(rest, 6) == {**sums(6, 30, 12), "groups": []}
