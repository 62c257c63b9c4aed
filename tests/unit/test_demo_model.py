"""jan-demo: every feature of chat, offline, in OpenAI's exact shapes."""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from services.llm.providers.demo import DemoProvider
from services.runtime.errors import InvalidRequest, UpstreamTimeout

INTRODUCTION = "I am jan-demo, the built-in offline demonstration of Jan Server, not an AI: I repeat what you say."
DEMO = DemoProvider(word_delay=0, clock=lambda: 1_700_000_000.5)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time"}}
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", 640, 480)
FORCED_WEATHER = {"type": "function", "function": {"name": "get_weather"}}


def request(content: Any, **more: Any) -> dict[str, Any]:
    return {"model": "jan-demo", "messages": [{"role": "user", "content": content}], **more}


def soon() -> float:
    return asyncio.get_running_loop().time() + 60


async def chat(body: dict[str, Any]) -> dict[str, Any]:
    answer = await DEMO.chat(body, deadline=soon())
    ChatCompletion.model_validate_json(orjson.dumps(answer), strict=True)
    return answer


async def stream(body: dict[str, Any], provider: DemoProvider = DEMO) -> list[dict[str, Any]]:
    chunks = [
        chunk async for batch in provider.stream_chat({**body, "stream": True}, deadline=soon()) for chunk in batch
    ]
    for chunk in chunks:
        ChatCompletionChunk.model_validate_json(chunk, strict=True)
    return [orjson.loads(chunk) for chunk in chunks]


async def message(body: dict[str, Any]) -> dict[str, Any]:
    answer = await chat(body)
    said: dict[str, Any] = answer["choices"][0]["message"]
    return said


async def text(body: dict[str, Any]) -> str:
    return str((await message(body))["content"])


async def calls(body: dict[str, Any]) -> list[tuple[str, str]]:
    functions = [call["function"] for call in (await message(body)).get("tool_calls", ())]
    return [(function["name"], function["arguments"]) for function in functions]


async def test_it_says_what_it_is_and_repeats_the_last_user_message() -> None:
    body = {
        "model": "some-alias",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "ok"},
            {"role": "user", "content": "hello there"},
        ],
    }

    answer = await chat(body)

    assert answer.pop("id").startswith("chatcmpl_")
    assert answer == {
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "some-alias",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": f"{INTRODUCTION} You said: hello there",
                    "refusal": None,
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 6,
            "completion_tokens": 23,
            "total_tokens": 29,
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


async def test_a_stream_is_a_role_then_words_then_a_finish_under_one_id() -> None:
    chunks = await stream(request("hi", response_format={"type": "json_object"}))

    frame = {
        "id": chunks[0]["id"],
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "jan-demo",
    }
    deltas = [({"role": "assistant", "content": "", "refusal": None}, None), ({"content": '{"echo":"hi"'}, None)]
    deltas += [({"content": "}"}, None), ({}, "stop")]
    assert chunks == [
        {**frame, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
        for delta, finish in deltas
    ]


async def test_usage_comes_last_and_without_choices_when_it_is_asked_for() -> None:
    body = request("count my words")

    chunks = await stream({**body, "stream_options": {"include_usage": True}})

    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], (await chat(body))["usage"])


@pytest.mark.parametrize(
    "body",
    [
        request("plain words,  with   spaces\nand lines\n"),
        request("/think let me see\nwhat now?", n=3),
        request("日本語" * 20),
        request('/tool get_weather {"city": "Ho Chi Minh City"}\n/tool get_time', tools=[WEATHER, CLOCK], n=2),
        request("cut this one", max_tokens=7),
    ],
)
async def test_a_stream_adds_up_to_the_whole_answer(body: dict[str, Any]) -> None:
    whole = await chat(body)

    chunks = await stream(body)

    assert len({chunk["id"] for chunk in chunks}) == 1
    assert [added_up(chunks, index) for index in range(body.get("n", 1))] == [
        {"message": choice["message"], "finish_reason": choice["finish_reason"]} for choice in whole["choices"]
    ]


def added_up(chunks: list[dict[str, Any]], index: int) -> dict[str, Any]:
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    first, *deltas, last = [choice["delta"] for choice in choices]
    assert last == {}
    result = dict(first)
    for delta in deltas:
        for name in ("content", "reasoning_content"):
            if name in delta:
                result[name] = (result.get(name) or "") + delta[name]
        for part in delta.get("tool_calls", ()):
            part = dict(part)
            known = result.setdefault("tool_calls", [])
            at = part.pop("index")
            if at == len(known):
                known.append(part)
            else:
                known[at]["function"]["arguments"] += part["function"]["arguments"]
    return {"message": result, "finish_reason": choices[-1]["finish_reason"]}


async def test_a_tool_line_calls_the_tool_with_its_arguments_verbatim() -> None:
    answer = await chat(request('please\n/tool get_weather {"city":  "Rome", "n": 1.0}', tools=[WEATHER]))

    [choice] = answer["choices"]
    call_id = choice["message"]["tool_calls"][0]["id"]
    assert call_id.startswith("call_")
    assert choice == {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "tool_calls": [
                {
                    "id": call_id,
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city":  "Rome", "n": 1.0}'},
                }
            ],
        },
        "logprobs": None,
        "finish_reason": "tool_calls",
    }


async def test_several_tool_lines_are_parallel_calls_unless_the_request_forbids_them() -> None:
    body = request('/tool get_weather {"city":"Rome"}\n/tool get_time', tools=[WEATHER, CLOCK])

    assert await calls(body) == [("get_weather", '{"city":"Rome"}'), ("get_time", "{}")]
    assert await calls({**body, "parallel_tool_calls": False}) == [("get_weather", '{"city":"Rome"}')]


async def test_calls_have_ids_that_differ_in_a_conversation_and_repeat_with_the_request() -> None:
    body = request("/tool get_time\n/tool get_time", tools=[CLOCK])
    longer = {**body, "messages": [*body["messages"], *body["messages"]]}

    def call_ids(said: dict[str, Any]) -> list[str]:
        return [call["id"] for call in said["tool_calls"]]

    first, again, later = [call_ids(await message(each)) for each in (body, body, longer)]
    assert first == again
    assert len({*first, *later}) == 4


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("/tool fly {}", "The tool 'fly' is not offered; offered are: get_weather."),
        ("/tool", "The tool '' is not offered; offered are: get_weather."),
        ("/tool get_weather [1]", "The arguments of the tool 'get_weather' are not a JSON object: [1]"),
    ],
)
async def test_a_tool_line_that_cannot_be_obeyed_is_answered_with_the_reason(line: str, complaint: str) -> None:
    assert await text(request(line, tools=[WEATHER])) == complaint


async def test_broken_arguments_are_said_to_be_broken() -> None:
    said = await text(request("/tool get_weather {city: Rome}", tools=[WEATHER]))

    assert said.startswith("The arguments of the tool 'get_weather' are not valid JSON (")
    assert said.endswith("): {city: Rome}")


async def test_tool_choice_none_calls_nothing() -> None:
    body = request("/tool get_time", tools=[CLOCK], tool_choice="none")

    assert await text(body) == "I do not call the tool 'get_time': tool_choice is none."
    assert await calls(body) == []


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        FORCED_WEATHER,
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [FORCED_WEATHER]}},
    ],
)
async def test_a_forced_call_gets_the_smallest_arguments_that_fit_the_schema(choice: Any) -> None:
    body = request("Rome", tools=[WEATHER, CLOCK], tool_choice=choice)

    assert await calls(body) == [("get_weather", '{"city":"Rome"}')]


async def test_a_named_function_is_the_only_one_called() -> None:
    body = request("/tool get_time {}", tools=[WEATHER, CLOCK], tool_choice=FORCED_WEATHER)

    assert [name for name, _ in await calls(body)] == ["get_weather"]


@pytest.mark.parametrize("choice", ["required", FORCED_WEATHER])
async def test_forcing_what_is_not_offered_is_refused(choice: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await chat(request("hi", tool_choice=choice))

    assert refused.value.param == "tool_choice"


async def test_a_tool_s_result_is_repeated_even_where_a_call_is_forced() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}
    body = request("/tool get_time", tools=[CLOCK], tool_choice="required")
    body["messages"] += [
        {"role": "assistant", "content": None, "tool_calls": [call, {**call, "id": "call_2"}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "12:00"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "noon"}]},
    ]

    assert await text(body) == "The tool returned: 12:00\nThe tool returned: noon"


async def test_a_think_line_is_reasoned_aloud_before_the_answer() -> None:
    body = request("/think they greet me\nhello", response_format={"type": "json_object"})

    answer = await chat(body)

    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": '{"echo":"hello"}',
        "refusal": None,
        "reasoning_content": "they greet me",
    }
    assert answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}


async def test_a_json_schema_is_answered_with_the_smallest_value_that_fits() -> None:
    schema = {
        "type": "object",
        "required": ["title", "pages"],
        "properties": {"title": {"type": "string"}, "pages": {"type": "integer", "minimum": 1}},
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "book", "strict": True, "schema": schema}}

    assert orjson.loads(await text(request("Dune", response_format=wanted))) == {"title": "Dune", "pages": 1}


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_an_answer_is_cut_at_the_token_limit_and_says_so(field: str) -> None:
    answer = await chat(request("/think one two\nhello", **{field: 5}))

    [choice] = answer["choices"]
    assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == ("one two", "I am jan-demo,")
    assert (choice["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 5)


async def test_a_tool_call_is_cut_at_the_token_limit_too() -> None:
    body = request('/tool get_weather {"city": "Rome"}\n/tool get_time', tools=[WEATHER, CLOCK], max_tokens=2)

    answer = await chat(body)

    assert await calls(body) == [("get_weather", '{"city":')]
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 2)


async def test_an_answer_ends_before_the_first_stop_sequence() -> None:
    answer = await chat(request("one, two, three", stop=["three", "two"]))

    assert answer["choices"][0]["message"]["content"] == f"{INTRODUCTION} You said: one, "
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert await text(request("hi", stop=" am")) == "I"


async def test_n_choices_are_n_times_the_same_and_all_are_counted() -> None:
    one, three = await chat(request("hi")), await chat(request("hi", n=3))

    assert three["choices"] == [{**one["choices"][0], "index": index} for index in range(3)]
    assert three["usage"]["completion_tokens"] == 3 * one["usage"]["completion_tokens"]


@pytest.mark.parametrize(("field", "value"), [("n", 0), ("n", 129), ("max_tokens", 0), ("max_completion_tokens", "9")])
async def test_counts_out_of_range_are_refused(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await chat(request("hi", **{field: value}))

    assert refused.value.param == field


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def data_url(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


async def test_images_are_described() -> None:
    parts = [
        {"type": "text", "text": "look"},
        image(data_url("image/png", PNG)),
        image("https://example.com/cat.png"),
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
    ]

    assert await text(request(parts)) == (
        f"{INTRODUCTION} You said: look\n"
        "Image 1: image/png, 24 bytes, 640 x 480 pixels.\n"
        "Image 2: the URL https://example.com/cat.png, which I do not fetch.\n"
        "There is a part of the type 'input_audio', which I cannot read."
    )


JPEG = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc2\x00\x11\x08" + struct.pack(">HH", 480, 640)
WEBP = b"RIFF\x00\x00\x00\x00WEBP"


@pytest.mark.parametrize(
    ("data", "described"),
    [
        (JPEG, "640 x 480 pixels"),
        (b"GIF89a" + struct.pack("<HH", 640, 480), "640 x 480 pixels"),
        (b"BM" + b"\0" * 12 + struct.pack("<IiiH", 40, 640, -480, 1), "640 x 480 pixels"),
        (WEBP + b"VP8 " + b"\0" * 7 + b"\x9d\x01\x2a" + struct.pack("<HH", 640, 480), "640 x 480 pixels"),
        (WEBP + b"VP8L" + b"\0" * 4 + b"\x2f" + struct.pack("<I", 639 | 479 << 14), "640 x 480 pixels"),
        (WEBP + b"VP8X" + b"\0" * 8 + b"\x7f\x02\x00\xdf\x01\x00", "640 x 480 pixels"),
        (PNG[:18], "of a size in pixels that I cannot read"),
        (b"\xff\xd8\xff\xe0", "of a size in pixels that I cannot read"),
        (b"\xff\xd8no segment", "of a size in pixels that I cannot read"),
        (WEBP + b"VP8X", "of a size in pixels that I cannot read"),
        (b"II*\0 a tiff", "of a size in pixels that I cannot read"),
        (b"", "of a size in pixels that I cannot read"),
    ],
)
async def test_the_size_of_an_image_is_read_from_its_header(data: bytes, described: str) -> None:
    said = await text(request([image(data_url("image/x", data))]))

    assert said == f"{INTRODUCTION}\nImage 1: image/x, {len(data)} bytes, {described}."


@pytest.mark.parametrize(
    ("url", "described"),
    [
        ("data:text/plain,hello", "a data URL that is not base64"),
        ("data:image/png;base64,abc", "a data URL whose base64 is broken"),
        ("data:;base64,AAAA", "no type, 3 bytes, of a size in pixels that I cannot read"),
        (data_url("image/png", PNG + bytes(999_999)), "image/png, 1000023 bytes, 640 x 480 pixels"),
    ],
)
async def test_other_data_urls_are_described_as_far_as_they_can_be_read(url: str, described: str) -> None:
    assert await text(request([image(url)])) == f"{INTRODUCTION}\nImage 1: {described}."


async def test_a_long_answer_comes_in_as_few_batches_as_its_pauses_allow() -> None:
    provider = DemoProvider(word_delay=0.00001, longest_delay=0.0001)

    batches = [batch async for batch in provider.stream_chat(request(" ".join(["word"] * 1000)), deadline=soon())]

    assert len(batches) <= 10
    assert sum(map(len, batches)) == 1000 + 21 + 2


async def test_a_stream_past_its_deadline_is_an_upstream_timeout() -> None:
    with pytest.raises(UpstreamTimeout):
        await anext(DEMO.stream_chat(request("hi"), deadline=asyncio.get_running_loop().time()))


async def test_it_lists_itself_and_makes_no_embeddings() -> None:
    assert [model["id"] for model in await DEMO.list_models(deadline=soon())] == ["jan-demo"]
    with pytest.raises(InvalidRequest, match="all-minilm-l6-v2"):
        await DEMO.embed({"input": "hi"}, deadline=soon())
