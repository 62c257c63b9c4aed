"""Chats in conversations through the whole server: OpenAI's SDK, hang-ups, kill -9, a database that goes away."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.fake_upstream import RESET, STALL, USAGE, FakeUpstream, stream
from tests.rest.conftest import providers
from tests.rest.server import JanServer, eventually, wait_for_end

HELLO = "Hello!"


@pytest.fixture(scope="module")
def _own() -> Iterator[FakeUpstream]:
    with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
def own(_own: FakeUpstream) -> FakeUpstream:
    """The upstream of `fragile`, without memory of earlier tests."""
    _own.forget()
    return _own


@pytest.fixture(scope="module")
def fragile(_own: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JanServer]:
    """A server with two workers, for tests that kill parts of it and wait until they are back."""
    folder = tmp_path_factory.mktemp("fragile")
    (folder / "providers.yml").write_text(providers({"name": "fake", "url": _own.url, "models": ["fake"]}))
    with JanServer(folder, WORKERS="2") as server:
        yield server


@pytest.fixture
def guest(fragile: JanServer) -> Iterator[httpx.Client]:
    """Plain HTTP to `fragile` as a guest, when both workers are there."""
    eventually(lambda: fragile.is_ready() and all(fragile.serves(f"worker-{number}") for number in range(2)))
    headers = {"authorization": f"Bearer {fragile.token()}"}
    with httpx.Client(base_url=fragile.url, headers=headers, timeout=20) as client:
        yield client


def begun(client: httpx.Client) -> str:
    """The id of a new conversation."""
    answer = client.post("/v1/conversations", json={})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"]["id"])


def body(conversation: str | None, text: str = HELLO, **members: Any) -> dict[str, Any]:
    named = {"conversation": conversation} if conversation else {}
    return {"model": "fake", "messages": [{"role": "user", "content": text}], **named, **members}


def say(client: httpx.Client, conversation: str | None, text: str = HELLO, **members: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json=body(conversation, text, **members))


def items(client: httpx.Client, conversation: str) -> list[tuple[str, str, str]]:
    """Role, content and status of what is stored."""
    answer = client.get(f"/v1/conversations/{conversation}/items")
    assert answer.status_code == 200, answer.text
    return [(each["role"], each["content"], each["status"]) for each in answer.json()["data"]]


def error(answer: httpx.Response) -> tuple[int, str, str | None]:
    found = answer.json()["error"]
    return answer.status_code, found["code"], found["param"]


def turn(text: str = HELLO, said: str = "Hello world") -> list[tuple[str, str, str]]:
    return [("user", text, "completed"), ("assistant", said, "completed")]


def test_openai_s_sdk_talks_in_a_conversation(
    client: openai.OpenAI, rest: httpx.Client, upstream: FakeUpstream
) -> None:
    conversation = begun(rest)
    extra = {"conversation": conversation}
    whole = client.chat.completions.create(
        model="fake", messages=[{"role": "user", "content": "One"}], extra_body=extra
    )
    assert whole.to_dict()["conversation"] == {"id": conversation, "title": "One"}
    chunks = list(
        client.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": "Two"}], stream=True, extra_body=extra
        )
    )
    assert "".join(each.choices[0].delta.content or "" for each in chunks) == "Hello world"
    assert chunks[-1].to_dict()["conversation"] == {"id": conversation, "title": "One"}
    assert items(rest, conversation) == turn("One") + turn("Two")
    assert [each["content"] for each in upstream.posts[1].body["messages"]] == ["One", "Hello world", "Two"]
    listed = rest.get(f"/v1/conversations/{conversation}/items").json()["data"]
    assert {name: listed[1]["usage"][name] for name in USAGE} == USAGE


def test_a_conversation_of_somebody_else_is_not_found(server: JanServer, rest: httpx.Client) -> None:
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {server.token()}"}) as stranger:
        theirs = begun(stranger)
        for conversation in (theirs, "conv_nope"):
            for streamed in (False, True):
                answer = say(rest, conversation, stream=streamed)
                assert error(answer) == (404, "conversation_not_found", "conversation")
        assert items(stranger, theirs) == []
    assert error(rest.post("/v1/chat/completions", json=body(None) | {"conversation": 5}))[0] == 400


def test_what_came_before_the_client_hung_up_is_kept(rest: httpx.Client, upstream: FakeUpstream) -> None:
    conversation = begun(rest)
    upstream.script([*stream("Hello", " world")[:2], STALL])
    with rest.stream("POST", "/v1/chat/completions", json=body(conversation, stream=True)) as answer:
        lines = answer.iter_lines()
        next(lines)
        lines.close()
    upstream.wait_for_hang_up()
    eventually(lambda: len(items(rest, conversation)) == 2)
    assert items(rest, conversation)[1] == ("assistant", "Hello", "incomplete")
    assert say(rest, conversation, "Go on").status_code == 200


def test_what_came_before_the_upstream_broke_is_kept(rest: httpx.Client, upstream: FakeUpstream) -> None:
    conversation = begun(rest)
    upstream.script([*stream("Hello", " world")[:2], RESET])
    answer = say(rest, conversation, stream=True)
    assert '"code":"upstream_error"' in answer.text
    assert "[DONE]" not in answer.text
    assert items(rest, conversation)[1] == ("assistant", "Hello", "incomplete")


def test_a_second_generation_is_told_that_the_conversation_is_busy(rest: httpx.Client, upstream: FakeUpstream) -> None:
    conversation = begun(rest)
    upstream.script([*stream("Hello", " world")[:2], STALL])
    with rest.stream("POST", "/v1/chat/completions", json=body(conversation, stream=True)) as answer:
        lines = answer.iter_lines()  # to let go of it would be to hang up
        next(lines)
        refused = say(rest, conversation)
        assert error(refused) == (409, "conversation_busy", "conversation")
        assert refused.headers["retry-after"] == "1"
        anew = rest.post(f"/v1/conversations/{conversation}/items/{first(rest, conversation)}/regenerate")
        assert error(anew) == (409, "conversation_busy", "conversation")
        lines.close()


def test_an_answer_is_given_anew(rest: httpx.Client, upstream: FakeUpstream) -> None:
    conversation = begun(rest)
    say(rest, conversation, "One")
    say(rest, conversation, "Two")
    answered = rest.get(f"/v1/conversations/{conversation}/items").json()["data"][1]["id"]
    path = f"/v1/conversations/{conversation}/items/{answered}/regenerate"
    made = rest.post(path, json={"temperature": 0.5})
    assert made.status_code == 200, made.text
    assert made.json()["data"]["id"] != answered
    assert upstream.posts[2].body["temperature"] == 0.5
    assert items(rest, conversation) == turn("One")
    assert error(rest.post(path))[:2] == (404, "not_found")
    assert error(rest.post(path.replace(answered, first(rest, conversation)), json={"temperature": 9}))[0] == 400


def first(client: httpx.Client, conversation: str) -> str:
    return str(client.get(f"/v1/conversations/{conversation}/items").json()["data"][0]["id"])


# What dies


def kill(server: JanServer, *names: str) -> None:
    """kill -9 of these processes."""
    children = server.children()
    killed = [children[name] for name in names]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_for_end(killed)


def see_complete(client: httpx.Client, conversation: str, text: str, *, then: Callable[[], object]) -> None:
    """Have an answer streamed, and do something the moment its end is there."""
    with client.stream("POST", "/v1/chat/completions", json=body(conversation, text, stream=True)) as answer:
        assert "data: [DONE]" in answer.iter_lines()
        then()


def answered(client: httpx.Client, conversation: str, text: str) -> httpx.Response:
    """The answer as soon as the workers are back."""

    def attempt() -> httpx.Response | None:
        with suppress(httpx.TransportError):
            answer = say(client, conversation, text)
            return answer if answer.status_code < 500 else None
        return None

    found: httpx.Response = eventually(attempt)
    return found


def test_an_answer_that_was_seen_complete_outlives_its_worker(
    fragile: JanServer, guest: httpx.Client, own: FakeUpstream
) -> None:
    conversation = begun(guest)
    for number in range(2):
        see_complete(guest, conversation, f"{number}", then=lambda: None)
    kill(fragile, "worker-0", "worker-1")
    said = answered(guest, conversation, "Still there?")
    assert said.status_code == 200, said.text
    assert items(guest, conversation) == turn("0") + turn("1") + turn("Still there?")


def test_a_conversation_is_free_when_the_worker_that_answered_died(
    fragile: JanServer, guest: httpx.Client, own: FakeUpstream
) -> None:
    conversation = begun(guest)
    own.script([*stream("Hello", " world")[:2], STALL])
    with guest.stream("POST", "/v1/chat/completions", json=body(conversation, stream=True)) as answer:
        lines = answer.iter_lines()
        next(lines)
        kill(fragile, "worker-0", "worker-1")
        with suppress(httpx.TransportError):
            assert "data: [DONE]" not in lines
    eventually(lambda: answered(guest, conversation, HELLO).status_code == 200)
    assert items(guest, conversation) == turn()


def test_without_the_database_chats_go_on_and_conversations_say_so(
    fragile: JanServer, guest: httpx.Client, own: FakeUpstream
) -> None:
    conversation = begun(guest)
    own.script([*stream("Hello", " world")[:2], *(gate := own.gate(),), *stream("Hello", " world")[2:]])
    with guest.stream("POST", "/v1/chat/completions", json=body(conversation, stream=True)) as answer:
        lines = answer.iter_lines()
        next(lines)
        kill(fragile, "postgres")
        gate.release()
        rest = "\n".join(lines)
    assert say(guest, None).status_code == 200
    if "[DONE]" not in rest:  # it was not back yet when the answer was to be kept
        assert json.loads(rest.strip().rpartition("data: ")[2])["error"]["code"] == "service_unavailable"
    eventually(lambda: guest.get("/v1/conversations").status_code == 200)
    eventually(lambda: ("assistant", "Hello world", "completed") in items(guest, conversation))
    assert answered(guest, conversation, "Next").status_code == 200


def test_an_answer_that_was_seen_complete_outlives_a_crash_of_the_database(
    fragile: JanServer, guest: httpx.Client, own: FakeUpstream
) -> None:
    conversation = begun(guest)
    see_complete(guest, conversation, HELLO, then=lambda: kill(fragile, "postgres"))
    eventually(lambda: guest.get("/v1/conversations").status_code == 200)
    assert items(guest, conversation) == turn()


def test_a_clean_stop_keeps_what_came_and_any_end_of_everything_what_was_seen_complete(tmp_path: Path) -> None:
    with FakeUpstream() as upstream:
        (tmp_path / "providers.yml").write_text(providers({"name": "fake", "url": upstream.url, "models": ["fake"]}))
        server = JanServer(tmp_path, SHUTDOWN_TIMEOUT="1s")
        with server:
            headers = {"authorization": f"Bearer {server.token()}"}
            with httpx.Client(base_url=server.url, headers=headers, timeout=20) as client:
                conversation = begun(client)
                upstream.script([*stream("Hello", " world")[:2], STALL])
                with client.stream("POST", "/v1/chat/completions", json=body(conversation, stream=True)) as answer:
                    lines = answer.iter_lines()
                    next(lines)
                    assert server.stop() == 0
                    lines.close()
        with server, httpx.Client(base_url=server.url, headers=headers, timeout=20) as client:
            kept = [("user", HELLO, "completed"), ("assistant", "Hello", "incomplete")]
            assert items(client, conversation) == kept
            see_complete(client, conversation, "Go on", then=server.kill)
            server.start()
            assert items(client, conversation) == kept + turn("Go on")
            see_complete(client, conversation, "Once more", then=lambda: os.kill(server.pid, signal.SIGTERM))
            assert server.wait() == 0
            server.start()
            assert items(client, conversation) == kept + turn("Go on") + turn("Once more")
