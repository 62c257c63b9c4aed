"""The OpenAI-compatible adapter against a scripted upstream: what it sends, and what each answer or failure becomes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson
import pytest
import pytest_asyncio
import uvloop

from services.llm.providers.failures import described_failure, embedded_failure, retry_after
from services.llm.providers.http1 import Client
from services.llm.providers.openai import OpenAIProvider
from services.runtime.errors import (
    ApiError,
    InvalidRequest,
    RateLimited,
    TooLarge,
    Unavailable,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from services.runtime.pacing import Pacer
from tests.fake_upstream import (
    CLOSE,
    RESET,
    STALL,
    STREAM_HEAD,
    Act,
    FakeUpstream,
    Raw,
    answer,
    chunk,
    chunked,
    completion,
    event,
    head,
    http,
    page,
    pieces,
    sse,
    status,
    stream,
)

BODY = {"model": "fake", "messages": [{"role": "user", "content": "Hi"}]}
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Scene:
    """The provider, its upstream, and the ways a test asks."""

    def __init__(self, upstream: FakeUpstream, client: Client) -> None:
        self.upstream = upstream
        self.client = client
        self.provider = self.with_options()

    def with_options(self, **options: Any) -> OpenAIProvider:
        return OpenAIProvider(self.client, name="fake", base_url=self.upstream.url + "/", **options)

    @property
    def deadline(self) -> float:
        return asyncio.get_running_loop().time() + 20

    async def chat(self, act: Act, **members: Any) -> Any:
        self.upstream.script(act)
        return await self.provider.chat({**BODY, **members}, deadline=self.deadline)

    async def chunks(self, act: Act, **members: Any) -> list[Any]:
        self.upstream.script(act)
        async with aclosing(self.provider.stream_chat({**BODY, **members}, deadline=self.deadline)) as batches:
            return [orjson.loads(payload) async for batch in batches for payload in batch]


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Scene]:
    with FakeUpstream() as upstream:
        client = Client(Pacer())
        yield Scene(upstream, client)
        await client.close()
        await asyncio.sleep(0)


async def test_a_whole_answer_passes_as_it_is(scene: Scene) -> None:
    said = completion("Hello", "Hallo", service_tier="default", vendor_extra={"n": None})
    assert await scene.chat(answer(said), top_k=40, chat_template_kwargs={"thinking": False}) == said
    (sent,) = scene.upstream.requests
    assert (sent.path, sent.body) == (
        "/v1/chat/completions",
        {**BODY, "top_k": 40, "chat_template_kwargs": {"thinking": False}},
    )
    assert sent.headers["content-type"] == "application/json"
    assert "authorization" not in sent.headers


async def test_key_and_headers_of_the_configuration_are_sent(scene: Scene) -> None:
    provider = scene.with_options(api_key="sk-secret", headers={"x-title": "Jan"})
    await provider.chat(BODY, deadline=scene.deadline)
    headers = scene.upstream.requests[0].headers
    assert (headers["authorization"], headers["x-title"]) == ("Bearer sk-secret", "Jan")


async def test_a_plain_request_never_asks_for_a_stream(scene: Scene) -> None:
    await scene.chat(answer(completion("Hi")), stream=True)
    assert scene.upstream.requests[0].body == {**BODY, "stream": False}


async def test_a_streamed_request_asks_for_the_usage(scene: Scene) -> None:
    await scene.chunks(stream("Hi"), stream_options={"include_obfuscation": False})
    assert scene.upstream.requests[0].body == {
        **BODY,
        "stream": True,
        "stream_options": {"include_obfuscation": False, "include_usage": True},
    }


async def test_an_upstream_without_stream_options_is_not_sent_any(scene: Scene) -> None:
    scene.provider = scene.with_options(stream_usage=False)
    await scene.chunks(stream("Hi"))
    assert scene.upstream.requests[0].body == {**BODY, "stream": True}


ONE, TWO, END = chunk({"content": "Hi"}), chunk({"content": " \u00e9\u20ac"}), chunk({}, finish_reason="stop")
STREAMS: dict[str, Act] = {
    "one event a packet": sse(ONE, TWO, END, "[DONE]"),
    "CRLF": sse(ONE, TWO, END, "[DONE]", newline=b"\r\n"),
    "byte by byte": pieces(sse(ONE, TWO, END, "[DONE]"), 1),
    "seven bytes at a time": pieces(sse(ONE, TWO, END, "[DONE]"), 7),
    "several events in a packet": sse(Raw(event(ONE) + event(TWO)), Raw(event(END) + event("[DONE]"))),
    "everything in one packet": [STREAM_HEAD + b"".join(map(chunked, map(event, (ONE, TWO, END, "[DONE]"))))],
    "comments between": sse(Raw(b": keep-alive\n\n"), ONE, Raw(b":\n\n"), TWO, END, "[DONE]"),
    "named events": sse(Raw(b"event: x\nid: 1\n" + event(ONE)), TWO, END, "[DONE]"),
    "without [DONE]": sse(ONE, TWO, END),
    "without the last blank line": sse(ONE, TWO, END, Raw(b"data: [DONE]")),
    "until the connection ends": [
        head(200, {"content-type": "text/event-stream"}),
        *map(event, (ONE, TWO, END)),
        CLOSE,
    ],
    "with words after [DONE]": sse(ONE, TWO, END, "[DONE]", {"late": True}),
    "with a content type in capitals": [
        head(200, {"content-type": "Text/Event-Stream", "transfer-encoding": "chunked"}),
        *sse(ONE, TWO, END, "[DONE]")[1:],
    ],
}


@pytest.mark.parametrize("act", STREAMS.values(), ids=STREAMS.keys())
async def test_a_stream_gives_the_same_chunks_however_it_is_written(scene: Scene, act: Act) -> None:
    assert await scene.chunks(act) == [ONE, TWO, END]


async def test_half_an_event_is_not_taken_for_silence(scene: Scene) -> None:
    scene.upstream.script(pieces(sse(ONE, TWO, END, "[DONE]"), 1))
    assert all([batch async for batch in scene.provider.stream_chat(BODY, deadline=scene.deadline)])


async def test_a_comment_that_keeps_the_connection_alive_is_passed_on_as_silence(scene: Scene) -> None:
    gate = scene.upstream.gate()
    scene.upstream.script(sse(Raw(b": busy\n\n"), gate, END, "[DONE]"))
    batches = scene.provider.stream_chat(BODY, deadline=scene.deadline)
    assert await anext(batches) == []
    gate.release()
    assert [len(batch) async for batch in batches] == [1]


async def test_after_done_nothing_is_waited_for(scene: Scene) -> None:
    assert await scene.chunks([*sse(ONE, END, "[DONE]")[:-1], STALL]) == [ONE, END]


async def test_each_chunk_is_given_as_soon_as_it_is_there(scene: Scene) -> None:
    gate = scene.upstream.gate()
    scene.upstream.script(sse(ONE, TWO, END, gate=gate))
    got = []
    async with aclosing(scene.provider.stream_chat(BODY, deadline=scene.deadline)) as batches:
        gate.release()
        async for batch in batches:
            got += [orjson.loads(payload) for payload in batch]
            gate.release()
    assert got == [ONE, TWO, END]


async def test_leaving_a_stream_hangs_up(scene: Scene) -> None:
    scene.upstream.script([*sse(ONE)[:2], STALL])
    async with aclosing(scene.provider.stream_chat(BODY, deadline=scene.deadline)) as batches:
        await anext(batches)
    await asyncio.to_thread(scene.upstream.wait_for_hang_up)


REFUSALS: dict[str, tuple[Act, type[ApiError], str]] = {
    "400": (status(400), InvalidRequest, "scripted 400"),
    "400 as a page": (page(400), InvalidRequest, "refused the request"),
    "401": (status(401), UpstreamRefused, "refused the server's credentials"),
    "403": (status(403), UpstreamRefused, "refused the server's credentials"),
    "404": (status(404), UpstreamRefused, "does not serve this model"),
    "408": (status(408), UpstreamTimeout, "did not answer in time"),
    "413": (status(413), TooLarge, "scripted 413"),
    "422": (status(422, {"detail": "x"}), InvalidRequest, "refused the request"),
    "429": (status(429), RateLimited, "rate limited"),
    "500": (status(500), UpstreamFailed, "status 500"),
    "502 as a page": (page(502), UpstreamFailed, "status 502"),
    "503 as a page": (page(503), Unavailable, "overloaded or down"),
    "504": (status(504), UpstreamTimeout, "did not answer in time"),
    "529": (status(529), Unavailable, "overloaded or down"),
    "500 that breaks off": ([head(500, {"content-length": "9"}), CLOSE], UpstreamFailed, "status 500"),
    "301": (http(301, {"location": "/elsewhere"}, b""), UpstreamFailed, "status 301"),
    "a page with status 200": (page(200), UpstreamFailed, "not JSON"),
    "an empty body": (http(200, {"content-type": "application/json"}, b""), UpstreamFailed, "not JSON"),
    "an error with status 200": (answer({"error": {"message": "no GPU"}}), UpstreamFailed, "failed: no GPU"),
    "a rate limit with status 200": (answer({"error": {"code": 429}}), RateLimited, "rate limited"),
    "a list": (answer([1]), UpstreamFailed, "not an object"),
    "half an answer": ([head(200, {"content-length": "99"}) + b'{"id":', CLOSE], UpstreamFailed, "broke off"),
    "a reset": ([RESET], UpstreamFailed, "broke off"),
}


@pytest.mark.parametrize(("act", "kind", "said"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_failure_is_reported_as_what_it_is(scene: Scene, act: Act, kind: type[ApiError], said: str) -> None:
    with pytest.raises(ApiError, match=said) as whole:
        await scene.chat(act)
    with pytest.raises(ApiError, match=said) as streamed:
        await scene.chunks(act)
    assert (type(whole.value), type(streamed.value)) == (kind, kind)


async def test_an_answer_instead_of_a_stream_is_a_failure(scene: Scene) -> None:
    with pytest.raises(UpstreamFailed, match="without a stream"):
        await scene.chunks(answer(completion("Hi")))


async def test_an_event_that_is_too_large_is_a_failure(scene: Scene) -> None:
    with pytest.raises(UpstreamFailed, match="event that is too large"):
        await scene.chunks(sse("x" * (20 * 1024 * 1024)))


async def test_a_stream_that_breaks_off_is_a_failure_after_its_chunks(scene: Scene) -> None:
    gate = scene.upstream.gate()
    scene.upstream.script([*sse(ONE)[:2], gate, RESET])
    batches = scene.provider.stream_chat(BODY, deadline=scene.deadline)
    assert [orjson.loads(payload) for payload in await anext(batches)] == [ONE]
    gate.release()
    with pytest.raises(UpstreamFailed, match="broke off"):
        await anext(batches)


async def test_what_the_upstream_says_about_a_bad_request_is_passed_on() -> None:
    details = {"message": "too long", "param": "messages", "code": "context_length_exceeded"}
    error = described_failure("fake", 400, details, None)
    assert (error.message, error.param, error.code) == ("too long", "messages", "context_length_exceeded")


async def test_an_unknown_code_of_the_upstream_is_not_passed_on() -> None:
    assert described_failure("fake", 400, {"message": "no", "code": "weird", "param": 5}, None).envelope("req_1") == {
        "error": {
            "type": "invalid_request_error",
            "code": "invalid_parameter",
            "message": "no",
            "param": None,
            "request_id": "req_1",
        }
    }


@pytest.mark.parametrize(
    ("details", "kind"),
    [
        ({"message": "slow down", "code": 429}, RateLimited),
        ({"message": "overloaded", "status": "503"}, Unavailable),
        ({"message": "bad", "code": "invalid_api_key"}, UpstreamFailed),
        ({"code": True}, UpstreamFailed),
        ("just words", UpstreamFailed),
        (["odd"], UpstreamFailed),
    ],
)
async def test_an_error_inside_an_answer_counts_as_its_code_says(details: Any, kind: type[ApiError]) -> None:
    assert type(embedded_failure("fake", details)) is kind


async def test_the_wait_that_an_upstream_asks_for_is_kept(scene: Scene) -> None:
    with pytest.raises(RateLimited) as limited:
        await scene.chat(status(429, headers={"retry-after": "7"}))
    assert (limited.value.retry_after, limited.value.code) == (7.0, "upstream_rate_limited")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 -0000"}, 0.0),
    ],
)
async def test_the_wait_is_read_from_any_of_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


async def test_a_wait_until_a_date_is_counted_from_now() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 85 < (retry_after({"retry-after": at}) or 0) <= 90


async def test_the_model_list_is_read(scene: Scene) -> None:
    rows = [{"id": "a", "owned_by": "x"}, {"id": "b"}]
    scene.upstream.models = answer({"object": "list", "data": [*rows, {"name": "no id"}, "odd", {"id": 5}]})
    assert await scene.provider.list_models(deadline=scene.deadline) == rows
    assert [(each.method, each.path) for each in scene.upstream.requests] == [("GET", "/v1/models")]


@pytest.mark.parametrize("act", [answer({"models": []}), answer({"data": {}}), page(200), status(404)])
async def test_a_list_of_another_shape_is_a_failure(scene: Scene, act: Act) -> None:
    scene.upstream.models = act
    with pytest.raises(UpstreamFailed):
        await scene.provider.list_models(deadline=scene.deadline)


async def test_text_completions_and_embeddings_have_their_own_paths(scene: Scene) -> None:
    text = await scene.provider.complete({"model": "fake", "prompt": "Hi"}, deadline=scene.deadline)
    vectors = await scene.provider.embed({"model": "fake", "input": "Hi"}, deadline=scene.deadline)
    streamed = scene.provider.stream_complete({"model": "fake", "prompt": "Hi"}, deadline=scene.deadline)
    said = [orjson.loads(payload)["choices"] async for batch in streamed for payload in batch]
    assert (text["choices"][0]["text"], vectors["data"][0]["embedding"]) == ("Hello world", [0.5, -1.0])
    assert "".join(choices[0]["text"] for choices in said if choices) == "Hello world"
    assert [each.path for each in scene.upstream.requests] == ["/v1/completions", "/v1/embeddings", "/v1/completions"]
