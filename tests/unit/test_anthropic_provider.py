"""The provider against a scripted peer of the HTTP client: what it sends, and what answers and failures become."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from services.llm.providers.anthropic.adapter import AnthropicProvider
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

DEADLINE = 1e9
BODY = {"model": "claude-opus-4-5", "messages": [{"role": "user", "content": "Hello"}]}
ASKED = {
    "model": "claude-opus-4-5",
    "max_tokens": 4096,
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
}
HEADERS = {"x-api-key": "sk-ant-secret", "anthropic-version": "2023-06-01", "content-type": "application/json"}
MESSAGE = {
    "id": "msg_01",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-4-5",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 1},
}
START = {"type": "message_start", "message": MESSAGE | {"content": [], "stop_reason": None}}
HI = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}
END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
STOP = {"type": "message_stop"}


class ScriptedResponse:
    """An answer with the given body parts; an exception among them is raised in its turn."""

    def __init__(self, *parts: bytes | ApiError, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.headers = headers or {}
        self.drained = self.closed = False
        self._parts = parts

    async def read(self, limit: int = 1 << 26) -> bytes:
        return b"".join([data async for data in self.chunks()])[:limit]

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        for part in self._parts:
            if isinstance(part, ApiError):
                raise part
            yield part

    def drain(self) -> None:
        self.drained = True


class ScriptedClient:
    """Answers each request with the next response and remembers what was sent."""

    def __init__(self, *responses: ScriptedResponse) -> None:
        self.sent: list[tuple[str, str, Mapping[str, str], Any]] = []
        self._responses = iter(responses)

    @asynccontextmanager
    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, deadline: float
    ) -> AsyncIterator[ScriptedResponse]:
        self.sent.append(("POST", url, headers, orjson.loads(body)))
        async with self._answer(deadline) as response:
            yield response

    @asynccontextmanager
    async def get(self, url: str, headers: Mapping[str, str], *, deadline: float) -> AsyncIterator[ScriptedResponse]:
        self.sent.append(("GET", url, headers, None))
        async with self._answer(deadline) as response:
            yield response

    @asynccontextmanager
    async def _answer(self, deadline: float) -> AsyncIterator[ScriptedResponse]:
        assert deadline == DEADLINE
        response = next(self._responses)
        try:
            yield response
        finally:
            response.closed = True


def provider(*responses: ScriptedResponse) -> tuple[AnthropicProvider, ScriptedClient]:
    client = ScriptedClient(*responses)
    base_url = "https://api.anthropic.com/v1/"
    return AnthropicProvider(client, base_url=base_url, api_key="sk-ant-secret", name="claude"), client  # type: ignore[arg-type]  # a peer of the client


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (event["type"].encode(), orjson.dumps(event)) for event in events)


async def streamed(*parts: bytes | ApiError) -> tuple[list[list[dict[str, Any]]], ApiError | None]:
    """The batches of a stream, and the error that ended it."""
    under_test, _ = provider(ScriptedResponse(*parts))
    batches: list[list[dict[str, Any]]] = []
    try:
        async for batch in under_test.stream_chat(BODY, deadline=DEADLINE):
            batches.append([orjson.loads(chunk) for chunk in batch])
    except ApiError as error:
        return batches, error
    return batches, None


def content(batches: list[list[dict[str, Any]]]) -> str:
    choices = [choice for batch in batches for chunk in batch for choice in chunk["choices"]]
    return "".join(choice["delta"].get("content", "") for choice in choices)


def is_finished(batches: list[list[dict[str, Any]]]) -> bool:
    chunks = [chunk for batch in batches for chunk in batch]
    return any(choice["finish_reason"] for chunk in chunks for choice in chunk["choices"])


async def test_chat_sends_a_messages_request_and_returns_a_completion():
    under_test, client = provider(ScriptedResponse(orjson.dumps(MESSAGE)))
    answer = await under_test.chat(BODY | {"stream": True}, deadline=DEADLINE)
    assert client.sent == [("POST", "https://api.anthropic.com/v1/messages", HEADERS, ASKED)]
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Hi", "refusal": None}
    assert (answer["id"], answer["usage"]["total_tokens"]) == ("chatcmpl-01", 4)


async def test_a_stream_asks_for_one_and_ends_with_the_usage():
    response = ScriptedResponse(sse(START, HI), b"", sse(END, STOP), sse({"type": "ping"}))
    under_test, client = provider(response)
    batches = [batch async for batch in under_test.stream_chat(BODY, deadline=DEADLINE)]
    assert client.sent[0][3] == ASKED | {"stream": True}
    assert [len(batch) for batch in batches] == [2, 0, 2]
    assert orjson.loads(batches[-1][-1])["usage"]["total_tokens"] == 4
    assert (response.drained, response.closed) == (True, True)


async def test_only_silence_makes_an_empty_batch():
    start, rest = sse(START)[:9], sse(START)[9:]
    ping = sse({"type": "ping"})
    batches, error = await streamed(ping, start, rest, ping, b"", sse(HI), ping, sse(END), sse(STOP))
    assert ([len(batch) for batch in batches], error) == ([1, 0, 1, 2], None)


async def test_a_stream_that_ends_without_its_stop_event_has_no_empty_batch():
    batches, error = await streamed(sse(START, HI), sse(END))
    assert ([len(batch) for batch in batches], error) == ([2, 2], None)


async def test_events_cut_anywhere_make_the_same_stream():
    whole = sse(START, HI, END, STOP)
    batches, error = await streamed(*[whole[index : index + 7] for index in range(0, len(whole), 7)])
    assert (content(batches), is_finished(batches), error) == ("Hi", True, None)


@pytest.mark.parametrize("tail", [[], [UpstreamFailed("reset")], [b'data: {"type":"message_stop"}'], [b"data: {\n\n"]])
async def test_after_the_stop_reason_nothing_can_be_lost(tail: list[bytes | ApiError]):
    batches, error = await streamed(sse(START, HI, END), *tail)
    assert (content(batches), is_finished(batches), error) == ("Hi", True, None)
    assert [chunk["choices"] for batch in batches for chunk in batch][-1] == []


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ([], UpstreamFailed),
        ([UpstreamTimeout("silence")], UpstreamTimeout),
        ([b"data: {broken\n\n"], UpstreamFailed),
        ([b"data: []\n\n"], UpstreamFailed),
        ([sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})], Unavailable),
    ],
)
async def test_a_broken_stream_delivers_what_came_and_raises(tail: list[bytes | ApiError], expected: type[ApiError]):
    batches, error = await streamed(sse(START, HI), *tail)
    assert (content(batches), is_finished(batches), type(error)) == ("Hi", False, expected)


async def test_chunks_that_share_a_read_with_an_error_come_first():
    failure = {"type": "error", "error": {"type": "api_error", "message": "no"}}
    batches, error = await streamed(sse(START, HI, failure))
    assert (content(batches), type(error)) == ("Hi", UpstreamFailed)


async def test_closing_the_stream_closes_the_upstream_call():
    response = ScriptedResponse(sse(START, HI), sse(END, STOP))
    under_test, _ = provider(response)
    stream = under_test.stream_chat(BODY, deadline=DEADLINE)
    await anext(stream)
    await stream.aclose()
    assert (response.closed, response.drained) == (True, False)


async def test_json_where_a_stream_was_asked_for_is_an_error():
    response = ScriptedResponse(orjson.dumps(MESSAGE), headers={"content-type": "application/json"})
    under_test, _ = provider(response)
    with pytest.raises(UpstreamFailed, match="without a stream"):
        await anext(under_test.stream_chat(BODY, deadline=DEADLINE))


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (400, "invalid_request_error", InvalidRequest),
        (422, "invalid_request_error", InvalidRequest),
        (413, "request_too_large", TooLarge),
        (401, "authentication_error", UpstreamRefused),
        (402, "billing_error", UpstreamRefused),
        (403, "permission_error", UpstreamRefused),
        (404, "not_found_error", UpstreamRefused),
        (408, "timeout_error", UpstreamTimeout),
        (429, "rate_limit_error", RateLimited),
        (500, "api_error", UpstreamFailed),
        (503, "api_error", Unavailable),
        (504, "timeout_error", UpstreamTimeout),
        (529, "overloaded_error", Unavailable),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_error_statuses(status: int, kind: str, expected: type[ApiError], stream: bool):
    said = {"type": "error", "error": {"type": kind, "message": "upstream words"}, "request_id": "req_1"}
    under_test, _ = provider(ScriptedResponse(orjson.dumps(said), status=status))
    call = (
        anext(under_test.stream_chat(BODY, deadline=DEADLINE)) if stream else under_test.chat(BODY, deadline=DEADLINE)
    )
    with pytest.raises(expected) as raised:
        await call
    assert type(raised.value) is expected
    assert ("upstream words" in raised.value.message) is (expected in (InvalidRequest, TooLarge))
    assert "upstream words" in str(raised.value.__cause__)


async def test_a_rate_limit_says_when_to_come_back():
    under_test, _ = provider(ScriptedResponse(b"{}", status=429, headers={"retry-after": "17"}))
    with pytest.raises(RateLimited) as raised:
        await under_test.chat(BODY, deadline=DEADLINE)
    assert (raised.value.code, raised.value.retry_after) == ("upstream_rate_limited", 17.0)


@pytest.mark.parametrize(
    ("words", "expected", "code"),
    [
        ("prompt is too long: 210000 tokens > 200000 maximum", InvalidRequest, "context_length_exceeded"),
        ("Your credit balance is too low to access the Anthropic API.", UpstreamFailed, "upstream_error"),
        ("messages: something else", InvalidRequest, "invalid_parameter"),
    ],
)
async def test_bad_requests_that_mean_something_more(words: str, expected: type[ApiError], code: str):
    said = {"type": "error", "error": {"type": "invalid_request_error", "message": words}}
    under_test, _ = provider(ScriptedResponse(orjson.dumps(said), status=400))
    with pytest.raises(expected) as raised:
        await under_test.chat(BODY, deadline=DEADLINE)
    assert raised.value.code == code


@pytest.mark.parametrize(
    "answer",
    [b"<html>", b"[]", b"{}", b'{"type":"message","id":"msg_1","model":"m","content":null}'],
)
async def test_an_answer_of_another_shape_is_an_upstream_error(answer: bytes):
    under_test, _ = provider(ScriptedResponse(answer))
    with pytest.raises(UpstreamFailed, match="cannot be read"):
        await under_test.chat(BODY, deadline=DEADLINE)


async def test_an_error_under_status_200_and_an_html_error_page_are_errors():
    said = orjson.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    page = ScriptedResponse(b"<html>bad gateway</html>", status=502)
    unfinished = ScriptedResponse(UpstreamFailed("reset"), status=529)
    under_test, _ = provider(ScriptedResponse(said), page, unfinished)
    for expected in (Unavailable, UpstreamFailed, Unavailable):
        with pytest.raises(expected):
            await under_test.chat(BODY, deadline=DEADLINE)


async def test_models_are_listed_page_by_page():
    opus = {
        "id": "claude-opus-5",
        "type": "model",
        "display_name": "Claude Opus 5",
        "created_at": "2026-07-01T00:00:00Z",
        "max_input_tokens": 1000000,
        "max_tokens": 128000,
    }
    first = {"data": [opus], "has_more": True, "first_id": "claude-opus-5", "last_id": "claude-opus-5"}
    second = {"data": [{"id": "other"}], "has_more": False, "last_id": "other"}
    under_test, client = provider(ScriptedResponse(orjson.dumps(first)), ScriptedResponse(orjson.dumps(second)))
    assert await under_test.list_models(deadline=DEADLINE) == [
        {
            "id": "claude-opus-5",
            "object": "model",
            "created": 1782864000,
            "owned_by": "anthropic",
            "name": "Claude Opus 5",
            "context_window": 1000000,
            "max_output_tokens": 128000,
        },
        {"id": "other", "object": "model", "created": 0, "owned_by": "anthropic"},
    ]
    assert [url for _, url, _, _ in client.sent] == [
        "https://api.anthropic.com/v1/models?limit=1000",
        "https://api.anthropic.com/v1/models?limit=1000&after_id=claude-opus-5",
    ]


async def test_embeddings_are_refused_in_plain_words():
    under_test, _ = provider()
    with pytest.raises(InvalidRequest, match="no embeddings") as refused:
        await under_test.embed({"model": "claude-opus-5", "input": "x"}, deadline=DEADLINE)
    assert refused.value.param == "model"


async def test_dropped_parameters_are_told():
    under_test, _ = provider()
    assert under_test.dropped(BODY | {"seed": 1, "temperature": 0.5}) == ["seed"]


async def test_no_error_holds_the_key():
    under_test, _ = provider(ScriptedResponse(b"{}", status=401))
    with pytest.raises(UpstreamFailed) as raised:
        await under_test.chat(BODY, deadline=DEADLINE)
    assert "sk-ant-secret" not in f"{raised.value.message} {raised.value.__cause__}"
