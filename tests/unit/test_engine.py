"""The chat engine over a scripted upstream: OpenAI's answer whatever the upstream does, or an honest error."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from services.llm.accounting.accounting import Accounting
from services.llm.generation.answer import CHAT, Assembly, Chunk
from services.llm.generation.completion import Engine
from services.llm.generation.embedding import EmbeddingEngine
from services.llm.models.catalog import Catalog
from services.llm.providers.http1 import Client
from services.runtime.config import Settings
from services.runtime.errors import (
    ApiError,
    InvalidRequest,
    NotFound,
    RateLimited,
    TooLarge,
    Unavailable,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from services.runtime.metrics import Metrics
from services.runtime.pacing import Pacer
from tests.album import Album
from tests.clock import HastyLoop
from tests.fake_upstream import (
    CLOSE,
    RESET,
    STALL,
    STREAM_HEAD,
    USAGE,
    Act,
    FakeUpstream,
    Gate,
    Raw,
    answer,
    chunk,
    chunked,
    completion,
    head,
    http,
    page,
    sse,
    status,
    stream,
)

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi there"}]}
IMAGE = f"jan_{'1' * 26}"
REGISTRY = CollectorRegistry()
ACCOUNTING = Accounting(Metrics(REGISTRY))
LOOPS = {"hasty": HastyLoop}

PROVIDERS = """
providers:
  default:
    - name: one
      url: {one}
      models: [{{id: m, upstream_id: fake}}, {{id: only-one, upstream_id: fake}}]
      timeouts: {{idle: 5, first_byte: 5}}
    - name: two
      url: {two}
      priority: 1
      image_input: {{url: true}}
      models: [{{id: m, upstream_id: other}}]
aliases: {{alias: only-one}}
"""


class Scene:
    """An engine whose model `m` is offered by `one` and, should that fail, by `two`; `only-one` is what it says."""

    def __init__(self, one: FakeUpstream, two: FakeUpstream) -> None:
        self.one, self.two = one, two
        self.pacer = Pacer()
        self.client = Client(self.pacer)
        self.album = Album(IMAGE)

    async def open(self, folder: Path) -> None:
        file = folder / "providers.yml"
        file.write_text(PROVIDERS.format(one=self.one.url, two=self.two.url))
        self.catalog = Catalog(Settings(jan_provider_configs_file=file, jan_default_node_setup=False), self.client)
        await self.catalog.start()
        self.engine = Engine(self.catalog, self.pacer, ACCOUNTING, self.album)

    async def close(self) -> None:
        await self.client.close()
        await self.catalog.close()
        await asyncio.sleep(0)

    @property
    def deadline(self) -> float:
        return asyncio.get_running_loop().time() + 500

    async def chat(self, *acts: Act, **members: Any) -> Any:
        self.one.script(*acts)
        return await self.engine.chat({**BODY, "model": "only-one", **members}, deadline=self.deadline)

    async def stream(self, *acts: Act, **members: Any) -> tuple[list[Any], ApiError | None]:
        """The chunks of a stream, and the error that ended it."""
        self.one.script(*acts)
        got: list[Chunk] = []
        body = {**BODY, "model": "only-one", "stream": True, **members}
        try:
            async for batch in self.engine.stream_chat(body, deadline=self.deadline):
                got += batch
        except ApiError as error:
            return parsed(got), error
        return parsed(got), None


def parsed(chunks: list[Chunk]) -> list[Any]:
    """What the client sees; what the engine knows of it must be the same."""
    seen = [orjson.loads(each.raw) for each in chunks]
    assert seen == [each.data for each in chunks]
    return seen


def text(chunks: list[Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for each in chunks for choice in each["choices"])


@pytest_asyncio.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    with FakeUpstream() as one, FakeUpstream() as two:
        scene = Scene(one, two)
        await scene.open(tmp_path)
        yield scene
        await scene.close()


# Whole answers


async def test_an_answer_is_the_upstream_s_under_the_name_that_was_asked_for(scene: Scene) -> None:
    assert await scene.chat(answer(completion("Hello", extra=1))) == completion("Hello", extra=1, model="only-one")


async def test_an_alias_is_repeated_as_it_was_asked_for(scene: Scene) -> None:
    said = await scene.chat(model="alias")
    assert (said["model"], scene.one.posts[0].body["model"]) == ("alias", "fake")


async def test_a_model_that_is_not_there_is_named(scene: Scene) -> None:
    with pytest.raises(NotFound, match="'nope' does not exist") as error:
        await scene.chat(model="nope")
    assert (error.value.code, error.value.param) == ("model_not_found", "model")


async def test_parameters_pass_as_given_except_our_own(scene: Scene) -> None:
    extra = {"top_k": 40, "chat_template_kwargs": {"a": [None, 1.5]}, "max_tokens": None}
    await scene.chat(**extra, store=True, store_reasoning=False)
    assert scene.one.posts[0].body == {**BODY, "model": "fake", **extra}


def showing(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


async def test_an_image_named_by_its_id_goes_to_the_upstream_as_data(scene: Scene) -> None:
    await scene.chat(messages=showing(IMAGE))
    assert scene.one.posts[0].body["messages"] == showing("data:image/png;base64,cG5n")


async def test_a_provider_that_fetches_images_gets_a_signed_url_also_when_the_first_one_got_data(scene: Scene) -> None:
    scene.one.script(status(500), status(500), status(500))
    await scene.engine.chat({"model": "m", "messages": showing(IMAGE)}, deadline=scene.deadline)
    assert scene.one.posts[0].body["messages"] == showing("data:image/png;base64,cG5n")
    assert scene.two.posts[0].body["messages"] == showing(f"https://store/{IMAGE}")
    assert scene.album.loaded == [IMAGE]


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_image_that_nobody_has_brought_is_not_found_before_anybody_is_asked(
    scene: Scene, streamed: bool
) -> None:
    messages = showing(f"jan_{'2' * 26}")
    if streamed:
        _, error = await scene.stream(messages=messages)
    else:
        with pytest.raises(NotFound) as refused:
            await scene.chat(messages=messages)
        error = refused.value
    assert error is not None
    assert (error.code, error.param) == ("media_not_found", "messages[0].content[0].image_url.url")
    assert scene.one.posts == []


async def test_a_missing_usage_is_estimated_and_marked(scene: Scene) -> None:
    said = await scene.chat(answer(completion("Hello world", usage=None)))
    assert said["usage"] == {"prompt_tokens": 6, "completion_tokens": 2, "total_tokens": 8, "estimated": True}


@pytest.mark.parametrize("usage", [None, {}, "5", 0])
async def test_a_usage_that_is_none_is_estimated(scene: Scene, usage: Any) -> None:
    assert (await scene.chat(answer({**completion("Hi"), "usage": usage})))["usage"]["estimated"] is True


async def test_what_an_answer_lacks_is_added(scene: Scene) -> None:
    said = await scene.chat(answer({"choices": completion("Hi")["choices"]}))
    assert said["id"].startswith("chatcmpl_")
    assert (said["object"], type(said["created"]), said["model"]) == ("chat.completion", int, "only-one")


HALF = [head(200, {"content-length": "99"}) + b'{"id":', CLOSE]
FAILURES: dict[str, tuple[Act, type[ApiError], str]] = {
    "401": (status(401), UpstreamRefused, "refused the server's credentials"),
    "429": (status(429, headers={"retry-after": "9"}), RateLimited, "rate limited"),
    "500": (status(500), UpstreamFailed, "status 500"),
    "503 as a page": (page(503), Unavailable, "overloaded or down"),
    "504": (status(504), UpstreamTimeout, "did not answer in time"),
    "a page with status 200": (page(200), UpstreamFailed, "not JSON"),
    "an error with status 200": (answer({"error": {"message": "no GPU"}}), UpstreamFailed, "no GPU"),
    "an empty body": (http(200, {"content-type": "application/json"}, b""), UpstreamFailed, "not JSON"),
    "half an answer": (HALF, UpstreamFailed, "broke off"),
    "a reset": ([RESET], UpstreamFailed, "broke off"),
    "another protocol": ([b"SSH-2.0-OpenSSH_9.6\r\n", STALL], UpstreamFailed, "not HTTP"),
    "a stall before the head": ([STALL], UpstreamTimeout, "did not answer"),
}
NO_ANSWERS = {
    "no choices": completion(),
    "choices that are no list": {**completion("Hi"), "choices": "Hi"},
    "choices of another shape": {**completion("Hi"), "choices": ["Hi"]},
    "choices of another shape and no usage": {**completion("Hi", usage=None), "choices": ["Hi"]},
    "a choice without a message": {**completion("Hi"), "choices": [{"index": 0, "finish_reason": "stop"}]},
    "a message that is a text": {**completion("Hi"), "choices": [{"index": 0, "message": "Hi"}]},
}
WHOLE_FAILURES = {
    **FAILURES,
    "a stall in the body": ([*HALF[:-1], STALL], UpstreamTimeout, "stopped sending"),
    **{name: (answer(said), UpstreamFailed, "without choices|another shape") for name, said in NO_ANSWERS.items()},
}


@pytest.mark.parametrize(("act", "kind", "said"), WHOLE_FAILURES.values(), ids=WHOLE_FAILURES.keys())
async def test_a_failure_is_reported_as_what_it_is(scene: Scene, act: Act, kind: type[ApiError], said: str) -> None:
    with pytest.raises(ApiError, match=said) as error:
        await scene.chat(act, act, act)
    assert type(error.value) is kind


@pytest.mark.parametrize(("act", "kind", "said"), WHOLE_FAILURES.values(), ids=WHOLE_FAILURES.keys())
async def test_the_next_provider_answers_where_one_fails(
    scene: Scene, act: Act, kind: type[ApiError], said: str
) -> None:
    assert (await scene.chat(act, model="m"))["choices"] == completion("Hello world")["choices"]
    assert [each.body["model"] for each in (*scene.one.posts, *scene.two.posts)] == ["fake", "other"]


@pytest.mark.parametrize(("code", "kind"), [(400, InvalidRequest), (413, TooLarge), (422, InvalidRequest)])
async def test_what_the_provider_finds_wrong_with_the_request_is_not_tried_again(
    scene: Scene, code: int, kind: type[ApiError]
) -> None:
    with pytest.raises(kind):
        await scene.chat(status(code), model="m")
    assert (len(scene.one.posts), len(scene.two.posts)) == (1, 0)


async def test_a_single_provider_is_asked_again_after_a_moment(scene: Scene) -> None:
    assert (await scene.chat(status(500), status(503), answer(completion("Hi"))))["choices"]
    assert len(scene.one.posts) == 3


async def test_a_provider_that_is_gone_means_unavailable(scene: Scene) -> None:
    scene.one.stop_listening()
    with pytest.raises(Unavailable, match="could not be reached"):
        await scene.chat()


async def test_the_deadline_bounds_the_whole_call(scene: Scene) -> None:
    scene.two.script([STALL])
    with pytest.raises(UpstreamTimeout):
        await scene.engine.chat({**BODY, "model": "m"}, deadline=asyncio.get_running_loop().time())
    assert scene.catalog.route("m").candidates()[0].upstream.breaker.failures == 0


# Streams


async def test_chunks_are_the_upstream_s_under_the_name_that_was_asked_for(scene: Scene) -> None:
    chunks, error = await scene.stream(stream("Hello", " world"))
    mine = {"model": "only-one"}
    assert error is None
    assert chunks == [
        chunk({"role": "assistant", "content": "Hello"}, **mine),
        chunk({"content": " world"}, **mine),
        chunk({}, finish_reason="stop", **mine),
    ]


async def test_chunks_that_need_no_mending_pass_byte_by_byte(scene: Scene) -> None:
    odd = (
        b'{ "id" : "x", "choices" : [ {"index":0,"delta":{"content":"\\u0041"},"finish_reason":"stop"} ], "model": "m"}'
    )
    scene.one.script(sse(odd))
    batches = [batch async for batch in scene.engine.stream_chat(BODY, deadline=scene.deadline)]
    assert [each.raw for batch in batches for each in batch] == [odd]


async def test_usage_comes_last_when_it_is_asked_for(scene: Scene) -> None:
    chunks, _ = await scene.stream(stream("Hi"), stream_options={"include_usage": True})
    last = {**chunk({}, model="only-one"), "choices": [], "usage": USAGE}
    assert chunks[-1] == last
    assert [bool(each.get("usage")) for each in chunks] == [False, False, True]


async def test_usage_is_estimated_where_the_upstream_gives_none(scene: Scene) -> None:
    chunks, _ = await scene.stream(stream("Hello", " world", usage=None), stream_options={"include_usage": True})
    assert chunks[-1]["usage"] == {"prompt_tokens": 6, "completion_tokens": 2, "total_tokens": 8, "estimated": True}


async def test_usage_on_the_last_content_chunk_is_moved_to_its_own(scene: Scene) -> None:
    ending = chunk({}, finish_reason="stop", usage=USAGE)
    chunks, _ = await scene.stream(sse(chunk({"content": "Hi"}), ending), stream_options={"include_usage": True})
    assert [each.get("usage") for each in chunks] == [None, None, USAGE]
    assert [len(each["choices"]) for each in chunks] == [1, 1, 0]


@pytest.mark.parametrize("options", [None, {"include_usage": False}])
async def test_usage_on_a_content_chunk_stays_where_nobody_asked_for_it(scene: Scene, options: Any) -> None:
    ending = chunk({}, finish_reason="stop", usage=USAGE)
    chunks, _ = await scene.stream(sse(chunk({"content": "Hi"}), ending), stream_options=options)
    assert [each.get("usage") for each in chunks] == [None, USAGE]


async def test_usage_on_every_chunk_stays_where_it_was_asked_for(scene: Scene) -> None:
    events = [chunk({"content": "Hi"}, usage=USAGE), chunk({}, finish_reason="stop", usage=USAGE)]
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks, _ = await scene.stream(sse(*events), stream_options=options)
    assert [each.get("usage") for each in chunks] == [USAGE, USAGE, USAGE]


async def test_every_chunk_has_choices_and_the_same_id(scene: Scene) -> None:
    first, content, ending = chunk({"role": "assistant"}), chunk({"content": "Hi"}), chunk({}, finish_reason="stop")
    del first["id"], first["object"], first["created"]
    notice = {"id": "another", "object": "chat.completion.chunk", "prompt_filter_results": []}
    chunks, error = await scene.stream(sse(notice, first, {**content, "choices": None}, content, ending))
    assert error is None
    assert {each["id"] for each in chunks} == {"another"}
    assert [len(each["choices"]) for each in chunks] == [0, 1, 0, 1, 1]
    assert {each["object"] for each in chunks} == {"chat.completion.chunk"}


async def test_choices_and_tool_calls_pass(scene: Scene) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    deltas = [
        chunk({"tool_calls": [call]}),
        chunk({"content": "other"}, index=1),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]}),
        chunk({}, finish_reason="tool_calls"),
        chunk({}, finish_reason="stop", index=1),
    ]
    chunks, error = await scene.stream(sse(*deltas), n=2)
    assert (error, chunks) == (None, [{**each, "model": "only-one"} for each in deltas])


async def test_each_chunk_goes_out_before_the_next_one_is_made(scene: Scene) -> None:
    gate = scene.one.gate()
    scene.one.script(stream("a", "b", "c", gate=gate))
    seen = []
    gate.release()
    async for batch in scene.engine.stream_chat(BODY, deadline=scene.deadline):
        seen += [text([each.data]) for each in batch]
        gate.release()
    assert seen == ["a", "b", "c", ""]


COMPLETE: dict[str, Act] = {
    "without [DONE]": stream("Hi", done=False),
    "cut off instead of [DONE]": [*stream("Hi", usage=None, done=False)[:-1], CLOSE],
    "reset instead of [DONE]": [*stream("Hi", usage=None, done=False)[:-1], RESET],
    "stalled instead of [DONE]": [*stream("Hi", usage=None, done=False)[:-1], STALL],
}


@pytest.mark.parametrize("act", COMPLETE.values(), ids=COMPLETE.keys())
async def test_a_stream_that_lacks_only_its_end_mark_is_complete(scene: Scene, act: Act) -> None:
    chunks, error = await scene.stream(act)
    assert (text(chunks), error) == ("Hi", None)


WORD = chunk({"content": "Hi"})
STREAM_FAILURES: dict[str, tuple[Act, type[ApiError], str]] = {
    **FAILURES,
    "a stall after the head": ([STREAM_HEAD, STALL], UpstreamTimeout, "stopped sending"),
    "a stream without events": (sse(), UpstreamFailed, "empty stream"),
    "a stream of [DONE] only": (sse("[DONE]"), UpstreamFailed, "empty stream"),
    "a stream of comments only": (sse(Raw(b": busy\n\n"), "[DONE]"), UpstreamFailed, "empty stream"),
    "an empty body of a stream": (http(200, {"content-type": "text/event-stream"}, b""), UpstreamFailed, "empty"),
    "an error as first event": (sse({"error": {"message": "no GPU"}}), UpstreamFailed, "no GPU"),
    "a malformed first event": (sse('{"id": '), UpstreamFailed, "not JSON"),
    "an event that is no object": (sse("[1]"), UpstreamFailed, "not an object"),
    "choices of another shape": (sse({**WORD, "choices": ["Hi"]}), UpstreamFailed, "another shape"),
    "a delta of another shape": (sse(chunk("Hi")), UpstreamFailed, "another shape"),  # type: ignore[arg-type]
    "an answer instead of a stream": (answer(completion("Hi")), UpstreamFailed, "without a stream"),
}


@pytest.mark.parametrize(("act", "kind", "said"), STREAM_FAILURES.values(), ids=STREAM_FAILURES.keys())
async def test_a_stream_that_fails_at_once_is_an_error(scene: Scene, act: Act, kind: type[ApiError], said: str) -> None:
    chunks, error = await scene.stream(act, act, act)
    assert (chunks, type(error)) == ([], kind)
    assert said in str(error)


@pytest.mark.parametrize(("act", "kind", "said"), STREAM_FAILURES.values(), ids=STREAM_FAILURES.keys())
async def test_the_next_provider_streams_where_one_fails_at_once(
    scene: Scene, act: Act, kind: type[ApiError], said: str
) -> None:
    chunks, error = await scene.stream(act, model="m")
    assert (text(chunks), error) == ("Hello world", None)


def begun(*rest: Any) -> list[Any]:
    return [*sse(WORD)[:2], *rest]


LATE: dict[str, tuple[list[Any], type[ApiError], str]] = {
    "a cut": (begun(CLOSE), UpstreamFailed, "broke off"),
    "a cut inside an event": (begun(chunked(b'data: {"id"')[:9], CLOSE), UpstreamFailed, "broke off"),
    "a reset": (begun(RESET), UpstreamFailed, "broke off"),
    "a stall": (begun(STALL), UpstreamTimeout, "stopped sending"),
    "half an event at the end": (begun(*sse(Raw(b'data: {"id"'))[1:]), UpstreamFailed, "not JSON"),
    "an end without finish_reason": (begun(*sse("[DONE]")[1:]), UpstreamFailed, "before the answer was complete"),
    "a malformed event": (begun(*sse("{]", "[DONE]")[1:]), UpstreamFailed, "not JSON"),
    "an error event": (begun(*sse({"error": {"message": "no GPU"}})[1:]), UpstreamFailed, "no GPU"),
    "an error after the end": (
        begun(*sse(chunk({}, finish_reason="stop"), {"error": {"message": "late"}})[1:]),
        UpstreamFailed,
        "late",
    ),
    "a choice that never ends": (
        begun(*sse(chunk({"content": "x"}, index=1), chunk({}, finish_reason="stop"), "[DONE]")[1:]),
        UpstreamFailed,
        "before the answer was complete",
    ),
}


@pytest.mark.parametrize(("act", "kind", "said"), LATE.values(), ids=LATE.keys())
async def test_a_stream_that_fails_later_is_an_error_after_its_chunks(
    scene: Scene, act: list[Any], kind: type[ApiError], said: str
) -> None:
    gate = scene.one.gate()
    scene.one.script([*act[:2], gate, *act[2:]])
    got: list[Chunk] = []

    async def read() -> None:
        async for batch in scene.engine.stream_chat({**BODY, "model": "m"}, deadline=scene.deadline):
            got.extend(batch)
            gate.release()

    with pytest.raises(ApiError, match=said) as error:
        await read()
    assert type(error.value) is kind
    assert text(parsed(got)).startswith("Hi")
    assert (len(scene.one.posts), len(scene.two.posts)) == (1, 0)


async def test_chunks_in_the_packet_of_a_late_error_are_not_lost(scene: Scene) -> None:
    gate = scene.one.gate()
    steps = sse(Raw(event_of("a")), gate, Raw(event_of("b") + event_of("c") + b'data: {"error": "boom"}\n\n'))
    scene.one.script(steps)
    got: list[Any] = []

    async def read() -> None:
        async for batch in scene.engine.stream_chat(BODY, deadline=scene.deadline):
            got.extend(text([each.data]) for each in batch)
            gate.release()

    with pytest.raises(UpstreamFailed, match="boom"):
        await read()
    assert got == ["a", "b", "c"]


def event_of(word: str) -> bytes:
    return b"data: " + orjson.dumps(chunk({"content": word})) + b"\n\n"


async def test_a_choice_that_has_not_begun_when_the_connection_breaks_is_missed(scene: Scene) -> None:
    act = [*stream("Hi", usage=None, done=False)[:-1], CLOSE]
    _, error = await scene.stream(act, n=2)
    assert type(error) is UpstreamFailed


async def test_leaving_a_stream_hangs_up_and_frees_the_place(scene: Scene) -> None:
    scene.one.script([*stream("Hi")[:2], STALL])
    async with aclosing(scene.engine.stream_chat(BODY, deadline=scene.deadline)) as batches:
        await anext(batches)
        assert scene.catalog.route("m").endpoints[0].upstream.active == 1
    await asyncio.to_thread(scene.one.wait_for_hang_up)
    assert scene.catalog.route("m").endpoints[0].upstream.active == 0


@pytest.mark.parametrize("act", [[STALL], [STREAM_HEAD, STALL], [*stream("Hi")[:2], STALL]])
async def test_cancelling_a_call_hangs_up_and_frees_the_place(scene: Scene, act: Act) -> None:
    task = asyncio.create_task(scene.stream(act))
    await asyncio.to_thread(scene.one.wait_for_posts, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(scene.one.wait_for_hang_up)
    assert scene.catalog.route("m").endpoints[0].upstream.active == 0


def spent(model: str, kind: str) -> float:
    return REGISTRY.get_sample_value("jan_model_tokens_total", {"model": model, "kind": kind}) or 0.0


async def test_tokens_are_counted_by_the_model_s_id_also_when_an_alias_was_asked_for(scene: Scene) -> None:
    before = spent("only-one", "prompt"), spent("only-one", "completion")
    await scene.chat(model="alias")
    await scene.stream(stream("Hi"), model="alias")
    assert (spent("only-one", "prompt") - before[0], spent("only-one", "completion") - before[1]) == (10, 4)
    assert spent("alias", "prompt") == 0


async def test_tokens_of_a_stream_that_the_client_left_are_spent(scene: Scene) -> None:
    before = spent("m", "completion")
    gate: Gate = scene.one.gate()
    scene.one.script(stream("Hello", gate=gate))
    gate.release()
    async with aclosing(scene.engine.stream_chat(BODY, deadline=scene.deadline)) as batches:
        await anext(batches)
    assert spent("m", "completion") - before == 1


# Accounting


ODD_CALLS: list[Any] = [
    "f",
    ["f"],
    [{"function": "f"}],
    [{"function": {"name": ["f"], "arguments": {"city": "Oslo"}}}],
    [{"function": {"name": None, "arguments": 5}}],
]


@pytest.mark.parametrize("calls", ODD_CALLS)
async def test_what_cannot_be_counted_does_not_break_an_answer(scene: Scene, calls: Any) -> None:
    said = completion("Hello world", usage=None)
    said["choices"][0]["message"]["tool_calls"] = calls
    got = await scene.chat(answer(said))
    assert got["choices"] == said["choices"]
    assert (got["usage"]["completion_tokens"], got["usage"]["estimated"]) == (2, True)


@pytest.mark.parametrize("calls", ODD_CALLS)
async def test_what_cannot_be_counted_does_not_break_a_stream(scene: Scene, calls: Any) -> None:
    events = [chunk({"content": "Hello world"}), chunk({"tool_calls": calls}), chunk({}, finish_reason="stop")]
    chunks, error = await scene.stream(sse(*events), stream_options={"include_usage": True})
    assert (error, chunks[1]["choices"], len(chunks)) == (None, events[1]["choices"], 4)
    assert (chunks[-1]["usage"]["completion_tokens"], chunks[-1]["usage"]["estimated"]) == (2, True)


async def test_a_prompt_is_counted_whatever_else_a_request_holds(scene: Scene) -> None:
    body = {"model": "only-one", "prompt": "Hi there", "messages": 5, "tools": "x"}
    said = {"choices": [{"index": 0, "text": "Hello", "finish_reason": "stop"}]}
    scene.one.script(answer(said), sse(said))
    whole = await scene.engine.text(body, deadline=scene.deadline)
    assert (whole["usage"]["prompt_tokens"], whole["usage"]["completion_tokens"]) == (2, 1)
    before = spent("only-one", "prompt")
    assert [each async for batch in scene.engine.stream_text(body, deadline=scene.deadline) for each in batch]
    assert spent("only-one", "prompt") - before == 2


async def test_a_prompt_that_cannot_be_counted_does_not_break_a_stream() -> None:
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]
    assembly = Assembly({**BODY, "tools": [{"type": "x", "deep": deep}]}, CHAT, "one")
    chunks, failure = assembly.take([orjson.dumps(chunk({"content": "Hi"}, finish_reason="stop"))])
    assert (len(chunks), failure) == (1, None)
    assert assembly.spent() == {"prompt_tokens": 0, "completion_tokens": 1, "total_tokens": 1, "estimated": True}


# Text completions and embeddings


async def test_a_text_completion_has_its_own_shape(scene: Scene) -> None:
    body = {"model": "m", "prompt": "Hi"}
    whole = await scene.engine.text(body, deadline=scene.deadline)
    assert (whole["object"], whole["model"], whole["choices"][0]["text"]) == ("text_completion", "m", "Hello world")
    parts = [each.data async for batch in scene.engine.stream_text(body, deadline=scene.deadline) for each in batch]
    assert "".join(each["choices"][0]["text"] for each in parts) == "Hello world"
    assert {each["model"] for each in parts} == {"m"}


async def test_embeddings_are_the_upstream_s_under_the_name_that_was_asked_for(scene: Scene) -> None:
    body = {"model": "m", "input": ["a", "b"], "truncate": True}
    assert await EmbeddingEngine(scene.catalog, ACCOUNTING).embed(body, deadline=scene.deadline) == {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": [0.5, -1.0]} for index in range(2)],
        "model": "m",
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }
    assert scene.one.posts[0].body == {**body, "model": "fake"}


async def test_the_tokens_of_embeddings_are_spent(scene: Scene) -> None:
    before = spent("m", "prompt"), spent("m", "completion")
    await EmbeddingEngine(scene.catalog, ACCOUNTING).embed({"model": "m", "input": ["a", "b"]}, deadline=scene.deadline)
    assert (spent("m", "prompt"), spent("m", "completion")) == (before[0] + 2, before[1])


async def test_embeddings_come_from_the_next_provider_where_one_fails(scene: Scene) -> None:
    scene.one.script(status(503))
    said = await EmbeddingEngine(scene.catalog, ACCOUNTING).embed({"model": "m", "input": "a"}, deadline=scene.deadline)
    assert (said["model"], len(scene.two.posts)) == ("m", 1)
