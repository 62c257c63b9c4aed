"""The rules of generation requests, the same for REST and gRPC (CONTRACT 4.1); each names the parameter it is about.

OpenAI's parameters are checked where a wrong value can be told without knowing the model. Everything else, known or
not, is the provider's to judge and is forwarded as given.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from services.llm.generation.pictures import NAMED
from services.llm.providers.provider import Json
from services.runtime.errors import InvalidRequest

ROLES = {"system", "developer", "user", "assistant", "tool", "function"}
OURS = ("conversation", "store", "store_reasoning")
INSTEAD_OF_CONTENT = ("tool_calls", "function_call", "refusal", "audio")
MOST_INPUTS = 2048
# What an image URL may begin with.
URL = re.compile(r"https?://|data:", re.IGNORECASE)

Check = Callable[[Any, str], None]


def check_chat(body: Json) -> None:
    """Raise `InvalidRequest` for the first parameter of a chat request that cannot be right."""
    _model(body)
    messages = _required(body, "messages")
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "must be an array with at least one message")
    for index, message in enumerate(messages):
        _message(message, f"messages[{index}]")
    _parameters(body, CHAT)


def check_completion(body: Json) -> None:
    """Raise `InvalidRequest` for the first parameter of a text completion request that cannot be right."""
    _model(body)
    prompt = _required(body, "prompt")
    if isinstance(prompt, list) and prompt:
        _entries(prompt, "prompt")
    elif not isinstance(prompt, str):
        raise _wrong("prompt", "must be a string or an array with at least one entry")
    _parameters(body, COMPLETION)


def check_embeddings(body: Json) -> None:
    """Raise `InvalidRequest` for the first parameter of an embeddings request that cannot be right."""
    _model(body)
    value = _required(body, "input")
    if not isinstance(value, str | list) or not value:
        raise _wrong("input", "must be a string or an array that is not empty")
    if isinstance(value, list):
        if len(value) > MOST_INPUTS and not isinstance(value[0], int):
            raise _wrong("input", f"must have at most {MOST_INPUTS} entries")
        _entries(value, "input")
    _parameters(body, EMBEDDINGS)


def check_sampling(body: Json) -> None:
    """Raise `InvalidRequest` for the first parameter of a chat request without messages that cannot be right."""
    _model(body)
    _parameters(body, CHAT)


def conversation_of(body: Json) -> str:
    """The id of the conversation that a checked chat request belongs to."""
    named: Any = body["conversation"]
    return str(named["id"] if isinstance(named, dict) else named)


def forwarded(body: Json) -> Json:
    """The request without the parameters that are ours."""
    if any(name in body for name in OURS):
        return {name: value for name, value in body.items() if name not in OURS}
    return body


def _required(body: Json, name: str) -> Any:
    value = body.get(name)
    if value is None:
        raise InvalidRequest(f"Parameter '{name}' is required", param=name)
    return value


def _model(body: Json) -> None:
    model = _required(body, "model")
    if not isinstance(model, str) or not 0 < len(model) <= 256:
        raise _wrong("model", "must be a string of 1 to 256 characters")


def _parameters(body: Json, checks: dict[str, Check]) -> None:
    for name, value in body.items():
        check = checks.get(name)
        if check is not None and value is not None:
            check(value, name)


def _conversation(value: Any, name: str) -> None:
    named = value.get("id") if isinstance(value, dict) else value
    if not isinstance(named, str):
        raise _wrong(name, "must be the id of a conversation, or an object with its `id`")


def _message(message: Any, at: str) -> None:
    if not isinstance(message, dict):
        raise _wrong(at, "must be an object")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise _wrong(f"{at}.role", f"must be one of {', '.join(sorted(ROLES))}")
    content = message.get("content")
    if content is None:
        if role != "assistant" or not any(message.get(name) for name in INSTEAD_OF_CONTENT):
            raise InvalidRequest(f"Parameter '{at}.content' is required", param=f"{at}.content")
    elif isinstance(content, list) and content:
        for index, part in enumerate(content):
            _part(part, f"{at}.content[{index}]")
    elif not isinstance(content, str):
        raise _wrong(f"{at}.content", "must be a string or an array with at least one part")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise InvalidRequest(f"Parameter '{at}.tool_call_id' is required", param=f"{at}.tool_call_id")
    if message.get("tool_calls") is not None:
        _tool_calls(message["tool_calls"], f"{at}.tool_calls")


def _part(part: Any, at: str) -> None:
    if not isinstance(part, dict):
        raise _wrong(at, "must be an object")
    kind = part.get("type")
    if not isinstance(kind, str):
        raise _wrong(f"{at}.type", "must be a string")
    if kind == "text" and not isinstance(part.get("text"), str):
        raise _wrong(f"{at}.text", "must be a string")
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else None
        if not isinstance(url, str) or not url:
            raise _wrong(f"{at}.image_url.url", "must be a URL, a data URL or a jan_ id")
        if not URL.match(url) and not NAMED.fullmatch(url):
            rule = "must begin with https://, http:// or data:, or be a jan_ id"
            raise _wrong(f"{at}.image_url.url", rule, code="invalid_url")


def _tool_calls(value: Any, name: str) -> None:
    _objects(value, name)
    for index, call in enumerate(value):
        at = f"{name}[{index}]"
        if not isinstance(call.get("id"), str | None):
            raise _wrong(f"{at}.id", "must be a string")
        function = _function(call, at, required=call.get("type") in (None, "function"))
        if function is not None and not isinstance(function.get("arguments"), str):
            raise _wrong(f"{at}.function.arguments", "must be a string")


def _function(holder: Json, at: str, *, required: bool) -> Json | None:
    """The `function` of a tool, a tool call or a tool choice, which has a name; None where there is none."""
    function = holder.get("function")
    if function is None and not required:
        return None
    if not isinstance(function, dict):
        raise _wrong(f"{at}.function", "must be an object")
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise _wrong(f"{at}.function.name", "must be a string that is not empty")
    return function


def _entries(value: list[Any], name: str) -> None:
    """Texts, token ids, or arrays of token ids; `map` and `set` because there may be millions."""
    kind = type(value[0])
    if kind in (str, int) and set(map(type, value)) == {kind}:
        return
    for index, each in enumerate(value):
        if type(each) is not kind or kind not in (str, int, list):
            raise _wrong(f"{name}[{index}]", "must be a string, a token id or an array of token ids, as all the others")
        if isinstance(each, list) and not set(map(type, each)) <= {int}:
            raise _wrong(f"{name}[{index}]", "must be an array of token ids")


def _wrong(name: str, rule: str, *, code: str | None = None) -> InvalidRequest:
    return InvalidRequest(f"Parameter '{name}' {rule}", code=code, param=name)


def _number(low: float, high: float) -> Check:
    def check(value: Any, name: str) -> None:
        if type(value) not in (int, float) or not low <= value <= high:
            raise _wrong(name, f"must be a number from {low:g} to {high:g}")

    return check


def _integer(low: int, high: int) -> Check:
    def check(value: Any, name: str) -> None:
        if type(value) is not int or not low <= value <= high:
            raise _wrong(name, f"must be an integer from {low} to {high}")

    return check


def _is(kind: type, words: str) -> Check:
    def check(value: Any, name: str) -> None:
        if not isinstance(value, kind):
            raise _wrong(name, f"must be {words}")

    return check


def _one_of(*words: str) -> Check:
    def check(value: Any, name: str) -> None:
        if value not in words:
            raise _wrong(name, f"must be one of {', '.join(words)}")

    return check


def _objects(value: Any, name: str) -> None:
    if not isinstance(value, list):
        raise _wrong(name, "must be an array")
    for index, each in enumerate(value):
        if not isinstance(each, dict):
            raise _wrong(f"{name}[{index}]", "must be an object")


def _tools(value: Any, name: str) -> None:
    _objects(value, name)
    for index, tool in enumerate(value):
        if not isinstance(tool.get("type"), str):
            raise _wrong(f"{name}[{index}].type", "must be a string")
        _function(tool, f"{name}[{index}]", required=tool["type"] == "function")


def _tool_choice(value: Any, name: str) -> None:
    if isinstance(value, str):
        _one_of("none", "auto", "required")(value, name)
    elif not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise _wrong(name, "must be none, auto, required, or an object that names a tool")
    elif value["type"] == "allowed_tools":
        _allowed_tools(value.get("allowed_tools"), f"{name}.allowed_tools")
    else:
        _function(value, name, required=value["type"] == "function")


def _allowed_tools(value: Any, name: str) -> None:
    if not isinstance(value, dict):
        raise _wrong(name, "must be an object")
    if value.get("mode") is not None:
        _one_of("auto", "required")(value["mode"], f"{name}.mode")
    _tools(value.get("tools"), f"{name}.tools")


def _stop(value: Any, name: str) -> None:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or len(texts) > 4 or not all(isinstance(text, str) for text in texts):
        raise _wrong(name, "must be a string or an array of at most 4 strings")


def _response_format(value: Any, name: str) -> None:
    if not isinstance(value, dict) or value.get("type") not in ("text", "json_object", "json_schema"):
        raise _wrong(f"{name}.type", "must be one of text, json_object, json_schema")
    if value["type"] == "json_schema" and not isinstance(value.get("json_schema"), dict):
        raise _wrong(f"{name}.json_schema", "must be an object")


def _stream_options(value: Any, name: str) -> None:
    if not isinstance(value, dict):
        raise _wrong(name, "must be an object")
    if not isinstance(value.get("include_usage", False), bool | None):
        raise _wrong(f"{name}.include_usage", "must be true or false")


_BOOLEAN, _STRING, _OBJECT = _is(bool, "true or false"), _is(str, "a string"), _is(dict, "an object")
_TOKENS = _integer(1, 2**31 - 1)

SAMPLING: dict[str, Check] = {
    "frequency_penalty": _number(-2, 2),
    "logit_bias": _OBJECT,
    "max_tokens": _TOKENS,
    "n": _integer(1, 128),
    "presence_penalty": _number(-2, 2),
    "seed": _integer(-(2**63), 2**63 - 1),
    "stop": _stop,
    "stream": _BOOLEAN,
    "stream_options": _stream_options,
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "user": _STRING,
}
CHAT: dict[str, Check] = SAMPLING | {
    "conversation": _conversation,
    "functions": _objects,
    "logprobs": _BOOLEAN,
    "max_completion_tokens": _TOKENS,
    "metadata": _OBJECT,
    "modalities": _is(list, "an array"),
    "parallel_tool_calls": _BOOLEAN,
    "reasoning_effort": _STRING,
    "response_format": _response_format,
    "store": _BOOLEAN,
    "store_reasoning": _BOOLEAN,
    "tool_choice": _tool_choice,
    "tools": _tools,
    "top_logprobs": _integer(0, 20),
}
COMPLETION: dict[str, Check] = SAMPLING | {"echo": _BOOLEAN, "logprobs": _integer(0, 5), "suffix": _STRING}
EMBEDDINGS: dict[str, Check] = {
    "dimensions": _integer(1, 2**16),
    "encoding_format": _one_of("float", "base64"),
    "user": _STRING,
}
