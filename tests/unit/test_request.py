"""The rules of generation requests: what is refused is refused by the name of its parameter."""

from typing import Any

import pytest

from services.llm.generation.request import (
    check_chat,
    check_completion,
    check_embeddings,
    conversation_of,
    forwarded,
)
from services.runtime.errors import InvalidRequest

USER = {"role": "user", "content": "Hi"}
CHAT = {"model": "m", "messages": [USER]}
TEXT = {"model": "m", "prompt": "Hi"}
VECTORS = {"model": "m", "input": "Hi"}
MEDIA_ID = "jan_01ARZ3NDEKTSV4RRFFQ69G5FAV"
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}


def image(url: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


def called(call: Any) -> dict[str, Any]:
    return {"messages": [{"role": "assistant", "tool_calls": [call]}]}


def allowed(value: Any) -> dict[str, Any]:
    return {"tool_choice": {"type": "allowed_tools", "allowed_tools": value}}


GOOD_CHAT: list[dict[str, Any]] = [
    {},
    {"temperature": 0, "top_p": 1, "frequency_penalty": -2, "presence_penalty": 2.0},
    {"temperature": None, "tools": None, "stop": None, "n": None, "response_format": None, "stream_options": None},
    {"n": 128, "seed": -1, "max_tokens": 1, "max_completion_tokens": 100_000, "top_logprobs": 20, "logprobs": True},
    {"stop": "a"},
    {"stop": ["a", "b", "c", "d"]},
    {"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "c"}}]},
    {"tool_choice": "required"},
    {"tool_choice": {"type": "function", "function": {"name": "f"}}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "s"}}},
    {"stream": True, "stream_options": {"include_usage": True, "other": 1}},
    {"messages": [{"role": "system", "content": [{"type": "text", "text": ""}]}, USER]},
    {"tool_choice": {"type": "custom", "custom": {"name": "c"}}},
    allowed({"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}),
    allowed({"tools": []}),
    {"messages": [{"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c", "content": ""}]},
    called({"function": {"name": "f", "arguments": "not JSON"}}),
    called({"id": "c", "type": "custom", "custom": {"name": "c", "input": "x"}}),
    {"messages": [{"role": "assistant", "content": None, "refusal": "no"}, {"role": "assistant", "content": ""}]},
    {"messages": [{"role": "assistant", "audio": {"id": "a"}}, {"role": "assistant", "function_call": {"name": "f"}}]},
    {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
    {"messages": [image("https://example.test/a.png"), image("data:image/png;base64,AAAA")]},
    {"messages": [image("http://10.0.0.1/a.png"), image("HTTPS://EXAMPLE.TEST/A.PNG")]},
    {"top_k": "whatever", "conversation": None},
]


@pytest.mark.parametrize("members", GOOD_CHAT)
def test_a_chat_request_of_openai_s_shape_passes(members: dict[str, Any]) -> None:
    check_chat({**CHAT, **members})


BAD_CHAT: list[tuple[str, dict[str, Any]]] = [
    ("model", {"model": None}),
    ("model", {"model": ""}),
    ("model", {"model": 5}),
    ("model", {"model": "m" * 257}),
    ("messages", {"messages": None}),
    ("messages", {"messages": []}),
    ("messages", {"messages": "Hi"}),
    ("messages", {"messages": {"0": USER}}),
    ("messages[1]", {"messages": [USER, "Hi"]}),
    ("messages[0].role", {"messages": [{"content": "Hi"}]}),
    ("messages[0].role", {"messages": [{"role": "robot", "content": "Hi"}]}),
    ("messages[0].role", {"messages": [{"role": ["user"], "content": "Hi"}]}),
    ("messages[0].content", {"messages": [{"role": "user"}]}),
    ("messages[0].content", {"messages": [{"role": "tool", "tool_call_id": "c", "content": None}]}),
    ("messages[0].content", {"messages": [{"role": "user", "content": 5}]}),
    ("messages[0].content", {"messages": [{"role": "assistant", "content": {}}]}),
    ("messages[0].content", {"messages": [{"role": "user", "content": []}]}),
    ("messages[0].content", {"messages": [{"role": "assistant"}]}),
    ("messages[0].content", {"messages": [{"role": "assistant", "content": None, "tool_calls": []}]}),
    ("messages[0].content", {"messages": [{"role": "user", "tool_calls": [CALL]}]}),
    ("messages[0].content[1]", {"messages": [{"role": "user", "content": [{"type": "x"}, "Hi"]}]}),
    ("messages[0].content[0].type", {"messages": [{"role": "user", "content": [{}]}]}),
    ("messages[0].content[0].text", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
    ("messages[0].content[0].image_url.url", {"messages": [image(None)]}),
    ("messages[0].content[0].image_url.url", {"messages": [image("")]}),
    ("messages[0].tool_call_id", {"messages": [{"role": "tool", "content": "x"}]}),
    ("messages[0].tool_calls", {"messages": [{"role": "assistant", "content": "", "tool_calls": {}}]}),
    ("messages[0].tool_calls[0]", called("c")),
    ("messages[0].tool_calls[0].function", called({})),
    ("messages[0].tool_calls[0].id", called({"id": ["c"], "function": {"name": "f", "arguments": ""}})),
    ("messages[0].tool_calls[0].function", called({"function": "x"})),
    ("messages[0].tool_calls[0].function", called({"type": "custom", "function": "x"})),
    ("messages[0].tool_calls[0].function.name", called({"function": {"arguments": ""}})),
    ("messages[0].tool_calls[0].function.name", called({"type": "function", "function": {"name": ["f"]}})),
    ("messages[0].tool_calls[0].function.arguments", called({"function": {"name": "f"}})),
    ("messages[0].tool_calls[0].function.arguments", called({"function": {"name": "f", "arguments": 5}})),
    ("messages[0].tool_calls[0].function.arguments", called({"function": {"name": "f", "arguments": {}}})),
    ("temperature", {"temperature": 2.1}),
    ("temperature", {"temperature": -0.1}),
    ("temperature", {"temperature": "1"}),
    ("temperature", {"temperature": True}),
    ("temperature", {"temperature": float("nan")}),
    ("top_p", {"top_p": 1.1}),
    ("frequency_penalty", {"frequency_penalty": -3}),
    ("presence_penalty", {"presence_penalty": 3}),
    ("max_tokens", {"max_tokens": 0}),
    ("max_tokens", {"max_tokens": 5.0}),
    ("max_completion_tokens", {"max_completion_tokens": "5"}),
    ("n", {"n": 0}),
    ("n", {"n": 129}),
    ("n", {"n": True}),
    ("seed", {"seed": 1.5}),
    ("seed", {"seed": 2**63}),
    ("stop", {"stop": 5}),
    ("stop", {"stop": ["a", 5]}),
    ("stop", {"stop": list("abcde")}),
    ("stream", {"stream": "true"}),
    ("stream", {"stream": 1}),
    ("stream_options", {"stream_options": True}),
    ("stream_options.include_usage", {"stream_options": {"include_usage": "yes"}}),
    ("logprobs", {"logprobs": 5}),
    ("top_logprobs", {"top_logprobs": 21}),
    ("logit_bias", {"logit_bias": []}),
    ("metadata", {"metadata": "x"}),
    ("modalities", {"modalities": "text"}),
    ("parallel_tool_calls", {"parallel_tool_calls": 0}),
    ("reasoning_effort", {"reasoning_effort": 5}),
    ("user", {"user": 5}),
    ("store", {"store": "no"}),
    ("store_reasoning", {"store_reasoning": 1}),
    ("functions", {"functions": {}}),
    ("functions[0]", {"functions": ["f"]}),
    ("tools", {"tools": {}}),
    ("tools[0]", {"tools": ["f"]}),
    ("tools[0].type", {"tools": [{}]}),
    ("tools[0].function", {"tools": [{"type": "function"}]}),
    ("tools[0].function", {"tools": [{"type": "custom", "function": "abc"}]}),
    ("tools[0].function.name", {"tools": [{"type": "custom", "function": {"name": ["f"]}}]}),
    ("tools[0].function.name", {"tools": [{"type": "function", "function": {"name": ""}}]}),
    ("tools[1].function.name", {"tools": [{"type": "x"}, {"type": "function", "function": {"name": 5}}]}),
    ("tool_choice", {"tool_choice": "any"}),
    ("tool_choice", {"tool_choice": {}}),
    ("tool_choice", {"tool_choice": 1}),
    ("tool_choice.function", {"tool_choice": {"type": "function"}}),
    ("tool_choice.function", {"tool_choice": {"type": "function", "function": "x"}}),
    ("tool_choice.function", {"tool_choice": {"type": "custom", "function": "x"}}),
    ("tool_choice.function.name", {"tool_choice": {"type": "function", "function": {"name": {}}}}),
    ("tool_choice.allowed_tools", {"tool_choice": {"type": "allowed_tools"}}),
    ("tool_choice.allowed_tools", allowed("x")),
    ("tool_choice.allowed_tools.mode", allowed({"mode": "none", "tools": []})),
    ("tool_choice.allowed_tools.tools", allowed({"mode": "auto"})),
    ("tool_choice.allowed_tools.tools[0]", allowed({"tools": [5]})),
    ("tool_choice.allowed_tools.tools[0].function", allowed({"tools": [{"type": "function", "function": "f"}]})),
    ("response_format.type", {"response_format": {}}),
    ("response_format.type", {"response_format": "json_object"}),
    ("response_format.type", {"response_format": {"type": ["text"]}}),
    ("response_format.json_schema", {"response_format": {"type": "json_schema"}}),
]


@pytest.mark.parametrize(("param", "members"), BAD_CHAT, ids=[f"{name}={value}" for name, value in BAD_CHAT])
def test_a_chat_parameter_that_cannot_be_right_is_named(param: str, members: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as error:
        check_chat({**CHAT, **members})
    assert (error.value.param, error.value.code) == (param, "invalid_parameter")
    assert error.value.message.startswith(f"Parameter '{param}' ")


@pytest.mark.parametrize("name", ["model", "messages"])
def test_a_missing_parameter_is_required(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^Parameter '{name}' is required$"):
        check_chat({key: value for key, value in CHAT.items() if key != name})


@pytest.mark.parametrize(
    "url", [MEDIA_ID, MEDIA_ID.lower(), f"data:image/png;{MEDIA_ID}", f"data:image/png;base64,{MEDIA_ID}"]
)
def test_a_media_id_may_stand_where_an_image_url_does(url: str) -> None:
    check_chat({"model": "m", "messages": [USER, image(url)]})


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://example.test/a.png", "//example.test/a.png", "a.png", " https://x", "jan_1"]
)
def test_an_image_is_only_asked_for_where_a_provider_can_get_it(url: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        check_chat({"model": "m", "messages": [USER, image(url)]})
    assert (error.value.code, error.value.param) == ("invalid_url", "messages[1].content[0].image_url.url")


@pytest.mark.parametrize("conversation", ["conv_1", {"id": "conv_1"}])
def test_a_conversation_is_named_by_its_id_or_by_an_object(conversation: Any) -> None:
    body = {**CHAT, "conversation": conversation}
    check_chat(body)
    assert conversation_of(body) == "conv_1"


@pytest.mark.parametrize("conversation", [5, False, [], {}, {"id": None}])
def test_a_conversation_of_another_type_is_refused(conversation: Any) -> None:
    with pytest.raises(InvalidRequest) as error:
        check_chat({**CHAT, "conversation": conversation})
    assert error.value.param == "conversation"


GOOD_TEXT: list[dict[str, Any]] = [
    {},
    {"prompt": ""},
    {"prompt": ["a", "b"]},
    {"prompt": [1, 2]},
    {"prompt": [[1, 2], [3]]},
    {"logprobs": 5, "echo": True, "suffix": "!"},
]


@pytest.mark.parametrize("members", GOOD_TEXT)
def test_a_text_request_of_openai_s_shape_passes(members: dict[str, Any]) -> None:
    check_completion({**TEXT, **members})


@pytest.mark.parametrize(
    ("param", "members"),
    [
        ("model", {"model": None}),
        ("prompt", {"prompt": None}),
        ("prompt", {"prompt": []}),
        ("prompt", {"prompt": 5}),
        ("prompt[0]", {"prompt": [None]}),
        ("prompt[0]", {"prompt": [True]}),
        ("prompt[1]", {"prompt": ["a", 1]}),
        ("prompt[1]", {"prompt": [[1], ["a"]]}),
        ("logprobs", {"logprobs": 6}),
        ("logprobs", {"logprobs": True}),
        ("echo", {"echo": "yes"}),
        ("suffix", {"suffix": 5}),
        ("max_tokens", {"max_tokens": -1}),
    ],
)
def test_a_text_parameter_that_cannot_be_right_is_named(param: str, members: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as error:
        check_completion({**TEXT, **members})
    assert error.value.param == param


@pytest.mark.parametrize("value", ["Hi", ["a"], [1, 2, 3], [[1], [2]], list(range(3000))])
def test_an_embeddings_request_of_openai_s_shape_passes(value: Any) -> None:
    check_embeddings({**VECTORS, "input": value, "encoding_format": "base64", "dimensions": 8})


@pytest.mark.parametrize(
    ("param", "members"),
    [
        ("model", {"model": None}),
        ("input", {"input": None}),
        ("input", {"input": ""}),
        ("input", {"input": []}),
        ("input", {"input": {}}),
        ("input", {"input": 5}),
        ("input", {"input": ["a"] * 2049}),
        ("input", {"input": [[1]] * 2049}),
        ("input[0]", {"input": [None]}),
        ("input[0]", {"input": [1.5]}),
        ("input[1]", {"input": ["a", None]}),
        ("input[2]", {"input": ["a", "b", 1]}),
        ("input[1]", {"input": [1, True]}),
        ("input[1]", {"input": [1, [1]]}),
        ("input[1]", {"input": [[1], "a"]}),
        ("input[1]", {"input": [[1], [1, "a"]]}),
        ("input[0]", {"input": [[False]]}),
        ("encoding_format", {"encoding_format": "hex"}),
        ("dimensions", {"dimensions": 0}),
        ("user", {"user": 1}),
    ],
)
def test_an_embeddings_parameter_that_cannot_be_right_is_named(param: str, members: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as error:
        check_embeddings({**VECTORS, **members})
    assert error.value.param == param


def test_our_own_parameters_are_not_forwarded() -> None:
    ours = {"conversation": None, "store": True, "store_reasoning": False}
    assert forwarded({**CHAT, **ours, "top_k": 5}) == {**CHAT, "top_k": 5}


def test_a_request_without_our_own_parameters_is_forwarded_itself() -> None:
    assert forwarded(CHAT) is CHAT
