"""OpenAI's Python SDK against the whole server: what its users see."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.fake_upstream import (
    CLOSE,
    LAST_CHUNK,
    RESET,
    STALL,
    USAGE,
    Act,
    FakeUpstream,
    Raw,
    answer,
    chunk,
    completion,
    page,
    sse,
    status,
    stream,
)
from tests.rest.server import JanServer

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello!"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
ESTIMATED = {"prompt_tokens", "completion_tokens", "total_tokens", "estimated"}


@pytest.fixture
async def aclient(server: JanServer, token: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=token, max_retries=0, timeout=20) as client:
        yield client


# --- chat


def test_a_plain_answer_comes_whole(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    answered = client.chat.completions.create(model="fake", messages=HELLO)
    assert answered.choices[0].message.content == "Hello world"
    assert answered.choices[0].finish_reason == "stop"
    assert answered.to_dict()["usage"] == USAGE
    assert (answered.object, answered.model, answered.id) == ("chat.completion", "fake", "chatcmpl-fake")
    asked = upstream.posts[0]
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == "Bearer sk-upstream-secret"
    assert asked.body == {"model": "fake", "messages": HELLO}


def test_an_alias_and_a_renamed_model_answer_under_the_requested_name(
    client: openai.OpenAI, upstream: FakeUpstream
) -> None:
    for asked, sent in (("nickname", "fake"), ("org/team/fake", "fake-of-team")):
        assert client.chat.completions.create(model=asked, messages=HELLO).model == asked
        assert upstream.posts[-1].body["model"] == sent
        chunks = list(client.chat.completions.create(model=asked, messages=HELLO, stream=True))
        assert {each.model for each in chunks} == {asked}
        assert upstream.posts[-1].body["model"] == sent


def test_usage_is_there_when_the_upstream_gives_none(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    upstream.script(answer(completion("Hello world", usage=None)))
    answered = client.chat.completions.create(model="fake", messages=HELLO).to_dict()
    assert set(answered["usage"]) == ESTIMATED  # type: ignore[arg-type, call-overload]


def test_a_stream_arrives_word_by_word(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    gate = upstream.gate()
    upstream.script(stream("Hello", " world", "!", gate=gate))
    gate.release()
    with client.chat.completions.create(model="fake", messages=HELLO, stream=True) as chunks:
        said = []
        for _ in range(3):
            said.append(next(chunks).choices[0].delta.content)
            gate.release()
        gate.release(5)
        rest = list(chunks)
    assert said == ["Hello", " world", "!"]
    assert [each.choices[0].finish_reason for each in rest] == ["stop"]
    assert {each.id for each in rest} == {"chatcmpl-fake"}


def test_a_stream_ends_with_the_usage_that_was_asked_for(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    options: Any = {"include_usage": True}
    for usage in (USAGE, None):
        upstream.script(stream("Hello", " world", usage=usage))
        chunks = list(client.chat.completions.create(model="fake", messages=HELLO, stream=True, stream_options=options))
        assert [each for each in chunks[:-1] if each.usage or not each.choices] == []
        assert chunks[-1].choices == []
        spent = chunks[-1].to_dict()["usage"]
        assert spent == USAGE if usage else set(spent) == ESTIMATED  # type: ignore[call-overload]


def test_a_stream_has_no_usage_that_nobody_asked_for(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    chunks = list(client.chat.completions.create(model="fake", messages=HELLO, stream=True))
    assert [each for each in chunks if not each.choices] == []


def test_a_tool_call_comes_whole(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Łódź"}'}}
    whole = completion("")
    whole["choices"][0] |= {
        "message": {"role": "assistant", "content": None, "tool_calls": [call]},
        "finish_reason": "tool_calls",
    }
    upstream.script(answer(whole))
    asked = client.chat.completions.create(model="fake", messages=HELLO, tools=[WEATHER], tool_choice="required")
    assert asked.choices[0].message.content is None
    assert [each.to_dict() for each in asked.choices[0].message.tool_calls or ()] == [call]
    assert upstream.posts[0].body["tools"] == [WEATHER]

    turn: list[Any] = [
        *HELLO,
        asked.choices[0].message.to_dict(),
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    client.chat.completions.create(model="fake", messages=turn, tools=[WEATHER])
    assert upstream.posts[1].body["messages"] == turn


def test_streamed_tool_calls_add_up(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    def piece(index: int, arguments: str, **head: Any) -> dict[str, Any]:
        return chunk({"tool_calls": [{"index": index, **head, "function": {"arguments": arguments, **head}}]})

    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    second = {"index": 1, "id": "call_2", "type": "function", "function": {"name": "weather", "arguments": ""}}
    upstream.script(
        sse(
            chunk({"role": "assistant", "content": None, "tool_calls": [first]}),
            piece(0, '{"city":'),
            chunk({"tool_calls": [second]}),
            piece(1, '{"city": "Rome"}'),
            piece(0, ' "Oslo"}'),
            chunk({}, finish_reason="tool_calls"),
            "[DONE]",
        )
    )
    with client.chat.completions.stream(model="fake", messages=HELLO, tools=[WEATHER]) as events:
        final = events.get_final_completion()
    calls = final.choices[0].message.tool_calls or []
    assert final.choices[0].finish_reason == "tool_calls"
    assert [(each.id, each.function.name, json.loads(each.function.arguments)) for each in calls] == [
        ("call_1", "weather", {"city": "Oslo"}),
        ("call_2", "weather", {"city": "Rome"}),
    ]


class Recipe(pydantic.BaseModel):
    dish: str
    minutes: int


def test_a_structured_answer_is_parsed(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    upstream.script(answer(completion('{"dish": "soup", "minutes": 20}')))
    parsed = client.chat.completions.parse(model="fake", messages=HELLO, response_format=Recipe)
    assert parsed.choices[0].message.parsed == Recipe(dish="soup", minutes=20)
    asked = upstream.posts[0].body["response_format"]
    assert asked["type"] == "json_schema"
    assert asked["json_schema"]["schema"]["required"] == ["dish", "minutes"]


def test_several_choices_come_back(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    upstream.script(answer(completion("one", "two")))
    plain = client.chat.completions.create(model="fake", messages=HELLO, n=2)
    assert [(each.index, each.message.content) for each in plain.choices] == [(0, "one"), (1, "two")]
    upstream.script(
        sse(
            chunk({"role": "assistant", "content": "one"}),
            chunk({"role": "assistant", "content": "two"}, index=1),
            chunk({}, finish_reason="stop", index=1),
            chunk({}, finish_reason="length"),
            "[DONE]",
        )
    )
    chunks = client.chat.completions.create(model="fake", messages=HELLO, n=2, stream=True)
    ends = {each.choices[0].index: each.choices[0].finish_reason for each in chunks}
    assert ends == {0: "length", 1: "stop"}
    assert upstream.posts[1].body["n"] == 2


def test_what_we_do_not_know_passes_both_ways(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    logprobs = {"content": [{"token": "Hi", "logprob": -0.25, "bytes": [72, 105], "top_logprobs": []}], "refusal": None}
    whole = completion("Hi", system_fingerprint="fp_1", service_tier="flex", novelty={"a": [1, None, 2.5]})
    whole["choices"][0]["logprobs"] = logprobs
    whole["choices"][0]["message"] |= {"reasoning_content": "hm", "annotations": []}
    upstream.script(answer(whole))
    extra = {"top_k": 40, "chat_template_kwargs": {"enable_thinking": False}, "novelty": None}
    answered = client.chat.completions.create(
        model="fake", messages=HELLO, logprobs=True, top_logprobs=2, seed=7, extra_body=extra
    )
    assert answered.to_dict() | {"model": "fake"} == whole
    assert upstream.posts[0].body == {
        "model": "fake", "messages": HELLO, "logprobs": True, "top_logprobs": 2, "seed": 7, **extra,
    }  # fmt: skip


def test_what_we_do_not_know_passes_in_streams(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    odd = chunk({"content": "Hi", "reasoning_content": "hm"}, system_fingerprint="fp_1", novelty={"a": [1, None]})
    odd["choices"][0]["logprobs"] = {"content": [{"token": "Hi", "logprob": -0.25, "bytes": None, "top_logprobs": []}]}
    upstream.script(sse(odd, chunk({}, finish_reason="stop"), "[DONE]"))
    first = next(iter(client.chat.completions.create(model="fake", messages=HELLO, stream=True, logprobs=True)))
    assert first.to_dict() | {"model": "fake"} == odd


def test_images_reach_the_upstream_as_they_are(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    picture = "data:image/png;base64," + base64.b64encode(b"\x89PNG" + b"\0" * 300_000).decode()
    messages: list[Any] = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": picture, "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
            ],
        }
    ]
    client.chat.completions.create(model="fake", messages=messages)
    assert upstream.posts[0].body["messages"] == messages


# --- completions, embeddings, models


def test_text_completions_work(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    whole = client.completions.create(model="fake", prompt="Say hello", max_tokens=5)
    assert (whole.object, whole.choices[0].text) == ("text_completion", "Hello world")
    chunks = list(client.completions.create(model="fake", prompt=["Say hello"], stream=True))
    assert "".join(each.choices[0].text for each in chunks) == "Hello world"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert [each.path for each in upstream.posts] == ["/v1/completions"] * 2


def test_embeddings_of_an_upstream_pass(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    answered = client.embeddings.create(model="fake", input=["a", "b"], dimensions=2, extra_body={"truncate": "END"})
    assert [each.embedding for each in answered.data] == [[0.5, -1.0]] * 2
    assert answered.usage.total_tokens == 2
    sent = upstream.posts[0].body
    assert (sent["input"], sent["dimensions"], sent["truncate"]) == (["a", "b"], 2, "END")

    packed = base64.b64encode(struct.pack("<2f", 0.5, -1.0)).decode()
    rows = [{"object": "embedding", "index": 0, "embedding": packed}]
    upstream.script(answer({"object": "list", "data": rows, "model": "fake", "usage": {"prompt_tokens": 1}}))
    assert client.embeddings.create(model="fake", input="a").data[0].embedding == [0.5, -1.0]


def test_the_builtin_embeddings_mean_something(client: openai.OpenAI) -> None:
    texts = ["A cat sat on the mat.", "A kitten rests on a rug.", "Interest rates rose again."]
    packed = client.embeddings.create(model="all-minilm-l6-v2", input=texts)
    plain = client.embeddings.create(model="all-minilm-l6-v2", input=texts, encoding_format="float")
    assert [each.embedding for each in packed.data] == [pytest.approx(each.embedding, abs=1e-6) for each in plain.data]
    cat, kitten, rates = (each.embedding for each in plain.data)
    assert len(cat) == 384
    assert sum(a * b for a, b in zip(cat, kitten, strict=True)) > sum(a * b for a, b in zip(cat, rates, strict=True))
    assert packed.usage.prompt_tokens > 10


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    listed = {each.id: each for each in client.models.list()}
    assert {"fake", "org/team/fake", "all-minilm-l6-v2"} <= set(listed)
    for name in ("fake", "org/team/fake"):
        assert client.models.retrieve(name) == listed[name]
    assert listed["fake"].owned_by == "openai"
    assert client.models.retrieve("nickname").id == "fake"


# --- errors


def test_a_wrong_token_is_an_authentication_error(server: JanServer) -> None:
    stranger = openai.OpenAI(base_url=f"{server.url}/v1", api_key="no-token", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as refused:
        stranger.chat.completions.create(model="fake", messages=HELLO)
    assert refused.value.code == "unauthorized"


def test_an_unknown_model_is_a_not_found_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="nobody", messages=HELLO)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError) as unlisted:
        client.models.retrieve("nobody/nowhere")
    assert unlisted.value.code == "model_not_found"


def test_a_wrong_parameter_is_named(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    wrong: list[Any] = [*HELLO, {"role": "user", "content": 5}]
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="fake", messages=wrong)
    assert refused.value.param == "messages[1].content"
    assert refused.value.request_id == refused.value.body["request_id"]  # type: ignore[index]
    assert upstream.posts == []


def test_what_the_upstream_refuses_keeps_its_words(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    said = {"message": "too many words", "type": "x", "param": "messages", "code": "context_length_exceeded"}
    upstream.script(status(400, {"error": said}), status(400, {"error": said}))
    for streamed in (False, True):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="fake", messages=HELLO, stream=streamed)
        assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")
        assert "too many words" in refused.value.message


def test_a_limit_of_the_upstream_says_when_to_come_back(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    upstream.script(status(429, headers={"retry-after": "7"}))
    with pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(model="fake", messages=HELLO)
    assert refused.value.code == "upstream_rate_limited"
    assert refused.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("act", "code", "word"),
    [
        pytest.param(status(500), 502, "upstream_error", id="an upstream that fails"),
        pytest.param(status(401), 502, "upstream_error", id="an upstream that refuses our key"),
        pytest.param(page(200), 502, "upstream_error", id="a page instead of an answer"),
        pytest.param(answer({"error": {"message": "x"}}), 502, "upstream_error", id="an error inside a 200"),
        pytest.param(answer({"choices": []}), 502, "upstream_error", id="an answer without choices"),
        pytest.param([CLOSE], 502, "upstream_error", id="an upstream that hangs up"),
        pytest.param(status(503), 503, "service_unavailable", id="an upstream that is overloaded"),
    ],
)
def test_a_failure_of_the_upstream_is_an_internal_server_error(
    client: openai.OpenAI, upstream: FakeUpstream, fragile_model: str, act: Act, code: int, word: str
) -> None:
    upstream.default = lambda _: act
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model=fragile_model, messages=HELLO)
    assert (failed.value.status_code, failed.value.code) == (code, word)
    assert "secret" not in failed.value.response.text
    assert "127.0.0.1" not in failed.value.response.text


def test_an_upstream_that_does_not_answer_is_a_gateway_timeout(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    upstream.script([STALL])
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model="impatient", messages=HELLO)
    assert (failed.value.status_code, failed.value.code) == (504, "upstream_timeout")
    upstream.wait_for_hang_up()


def test_a_failure_before_the_first_word_is_tried_again(
    client: openai.OpenAI, upstream: FakeUpstream, fragile_model: str
) -> None:
    upstream.script(status(503), sse(Raw(b": hello\n\n"), RESET), stream("Hello"))
    chunks = list(client.chat.completions.create(model=fragile_model, messages=HELLO, stream=True))
    assert chunks[0].choices[0].delta.content == "Hello"
    assert len(upstream.posts) == 3


# --- broken streams

HALF = stream("Hello", " world")[:2]  # its head and the first word
BROKEN: dict[str, Act] = {
    "a reset": [RESET],
    "a connection that closes": [CLOSE],
    "an end without finish reason": [LAST_CHUNK],
    "a [DONE] without finish reason": sse("[DONE]")[1:],
    "an event that is not JSON": sse("{nonsense")[1:],
    "an error event": sse({"error": {"message": "broken"}})[1:],
    "bytes that are not HTTP": [b"zz\r\n"],
}


@pytest.mark.parametrize("ending", BROKEN.values(), ids=BROKEN)
def test_a_broken_stream_raises_after_what_came(
    client: openai.OpenAI, upstream: FakeUpstream, fragile_model: str, ending: Act
) -> None:
    gate = upstream.gate()
    upstream.script([*HALF, gate, *ending])
    chunks = iter(client.chat.completions.create(model=fragile_model, messages=HELLO, stream=True))
    assert next(chunks).choices[0].delta.content == "Hello"
    gate.release()
    with pytest.raises(openai.APIError) as broken:
        next(chunks)
    assert broken.value.code == "upstream_error"
    assert broken.value.body["request_id"].startswith("req_")  # type: ignore[index]
    assert len(upstream.posts) == 1


def test_a_broken_stream_never_looks_complete(rest: httpx.Client, upstream: FakeUpstream, fragile_model: str) -> None:
    gate = upstream.gate()
    upstream.script([*HALF, gate, RESET])
    asked = {"model": fragile_model, "messages": HELLO, "stream": True}
    with rest.stream("POST", "/v1/chat/completions", json=asked) as answered:
        lines = answered.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["choices"][0]["delta"]["content"] == "Hello"
        gate.release()
        rest = [line for line in lines if line]
    (last,) = rest
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error["request_id"] == answered.headers["x-request-id"]
    assert (error["type"], error["code"], error["param"]) == ("upstream_error", "upstream_error", None)


def test_an_upstream_that_falls_silent_raises(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    upstream.script([*HALF, STALL])
    chunks = iter(client.chat.completions.create(model="impatient", messages=HELLO, stream=True))
    assert next(chunks).choices[0].delta.content == "Hello"
    with pytest.raises(openai.APIError) as broken:
        next(chunks)
    assert broken.value.code == "upstream_timeout"


# --- headers, time-outs, hanging up


def test_headers_say_who_asked_and_which_request_it_was(client: openai.OpenAI, server: JanServer) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="fake", messages=HELLO, extra_headers={"x-request-id": "mine-1"}
    )
    me = client.get("/users/me", cast_to=object)["data"]["id"]  # type: ignore[index]
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.headers["x-auth-method"] == "jwt"
    assert raw.headers["x-user-id"] == raw.headers["x-principal-id"] == me
    assert raw.headers["content-type"] == "application/json"
    assert raw.parse()._request_id == "mine-1"
    streamed = client.chat.completions.with_raw_response.create(model="fake", messages=HELLO, stream=True)
    assert streamed.headers["content-type"] == "text/event-stream"
    assert streamed.headers["cache-control"] == "no-cache"
    assert streamed.headers["x-accel-buffering"] == "no"


def test_a_client_that_has_waited_enough_frees_the_upstream(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    upstream.script([STALL])
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).chat.completions.create(model="fake", messages=HELLO)
    upstream.wait_for_hang_up(within=1)


def test_hanging_up_in_a_stream_frees_the_upstream(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    upstream.script([*HALF, STALL])
    chunks = client.chat.completions.create(model="fake", messages=HELLO, stream=True)
    assert next(chunks).choices[0].delta.content == "Hello"
    chunks.close()
    upstream.wait_for_hang_up(within=1)


async def test_a_cancelled_task_frees_the_upstream(aclient: openai.AsyncOpenAI, upstream: FakeUpstream) -> None:
    upstream.script([STALL])
    asking = asyncio.create_task(aclient.chat.completions.create(model="fake", messages=HELLO))
    await asyncio.to_thread(upstream.wait_for_posts, 1)
    asking.cancel()
    await asyncio.to_thread(upstream.wait_for_hang_up, within=1)


async def test_the_async_client_streams_and_hangs_up(aclient: openai.AsyncOpenAI, upstream: FakeUpstream) -> None:
    chunks = await aclient.chat.completions.create(model="fake", messages=HELLO, stream=True)
    assert "".join([each.choices[0].delta.content or "" async for each in chunks]) == "Hello world"
    upstream.script([*HALF, STALL])
    async with await aclient.chat.completions.create(model="fake", messages=HELLO, stream=True) as cut:
        assert (await anext(aiter(cut))).choices[0].delta.content == "Hello"
    await asyncio.to_thread(upstream.wait_for_hang_up, post=1, within=1)


async def test_many_ask_at_once_and_each_gets_its_own_answer(
    aclient: openai.AsyncOpenAI, upstream: FakeUpstream
) -> None:
    upstream.default = lambda request: stream(request.body["messages"][0]["content"], "!")

    async def ask(name: str) -> str:
        chunks = await aclient.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": name}], stream=True
        )
        return "".join([each.choices[0].delta.content or "" async for each in chunks])

    names = [f"client {number}" for number in range(40)]
    assert await asyncio.gather(*map(ask, names)) == [f"{name}!" for name in names]
