"""OpenAI chat messages as Anthropic's `system` blocks and alternating turns.

Pure translation: what cannot be said in the Messages API raises `InvalidRequest` naming `messages[i].content[j]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson

from services.llm.providers.provider import Json
from services.runtime.errors import InvalidRequest

_IMAGE_TYPES = {"image/jpeg", "image/png", "image/gif", "image/webp"}
_NOT_IN_TOOL_ID = re.compile(r"[^a-zA-Z0-9_-]")


def prompt(messages: Any) -> tuple[list[Json], list[Json]]:
    """Return the `system` blocks and the `messages` of a Messages API request.

    System and developer messages are hoisted in their order, neighbours of one role become one turn. A conversation
    of nothing but system messages becomes the user's turn, since the API wants one.
    """
    system: list[Json] = []
    turns: list[Json] = []
    for index, message in enumerate(objects(messages, "messages")):
        where = f"messages[{index}]"
        if message.get("role") in ("system", "developer"):
            system += _system(message, where)
        else:
            _append(turns, *_turn(message, where))
    if not turns and system:
        return [], [{"role": "user", "content": system}]
    if not turns:
        raise InvalidRequest("'messages' holds no content", param="messages")
    return system, turns


def objects(value: Any, param: str) -> list[Json]:
    """`value`, when it is a list of JSON objects; otherwise `InvalidRequest` naming `param`."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidRequest(f"'{param}' must be a list of objects", param=param)
    return value


def text_block(text: str) -> Json:
    return {"type": "text", "text": text}


def _append(turns: list[Json], role: str, blocks: list[Json]) -> None:
    """Add blocks to the conversation; parallel tool results and repeated roles must share one turn."""
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _system(message: Json, where: str) -> list[Json]:
    blocks = _blocks(message.get("content"), where)
    for block in blocks:
        if block["type"] != "text":
            raise InvalidRequest("A system message can only hold text", param=f"{where}.content")
    return blocks


def _turn(message: Json, where: str) -> tuple[str, list[Json]]:
    role = message.get("role")
    if role == "user":
        return "user", _blocks(message.get("content"), where)
    if role == "assistant":
        return "assistant", _assistant(message, where)
    if role == "tool":
        return "user", [_tool_result(message, where)]
    raise InvalidRequest(f"Role {role!r} is not supported by this model's provider", param=f"{where}.role")


def _assistant(message: Json, where: str) -> list[Json]:
    if message.get("function_call"):
        raise InvalidRequest("Use 'tool_calls' instead of 'function_call'", param=f"{where}.function_call")
    # Signed thoughts which a tool round carried (see `answer.py`) come first and unchanged, or are refused.
    blocks = list(objects(message.get("thinking_blocks") or [], f"{where}.thinking_blocks"))
    blocks += _blocks(message.get("content"), where)
    for index, call in enumerate(objects(message.get("tool_calls") or [], f"{where}.tool_calls")):
        blocks.append(_tool_use(call, f"{where}.tool_calls[{index}]"))
    return blocks


def _tool_use(call: Json, where: str) -> Json:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequest("Only function calls are supported by this model's provider", param=where)
    identifier = _tool_id(call.get("id"), f"{where}.id")
    arguments = _arguments(function.get("arguments"), f"{where}.function.arguments")
    return {"type": "tool_use", "id": identifier, "name": function["name"], "input": arguments}


def _arguments(text: Any, param: str) -> Json:
    """The arguments as the object they encode; nothing at all counts as no arguments."""
    if text is None or text == "":
        return {}
    try:
        arguments = orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError) as error:
        raise InvalidRequest("Tool call arguments must be JSON text", param=param) from error
    if not isinstance(arguments, dict):
        raise InvalidRequest("Tool call arguments must be a JSON object", param=param)
    return arguments


def _tool_result(message: Json, where: str) -> Json:
    result: Json = {
        "type": "tool_result",
        "tool_use_id": _tool_id(message.get("tool_call_id"), f"{where}.tool_call_id"),
    }
    blocks = _blocks(message.get("content"), where)
    return result | {"content": blocks} if blocks else result


def _tool_id(value: Any, param: str) -> str:
    """The id in the letters Anthropic allows; ids minted by other providers may hold more (`functions.search:0`)."""
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"'{param}' is required", param=param)
    return _NOT_IN_TOOL_ID.sub("_", value)


def _blocks(content: Any, where: str) -> list[Json]:
    """Content blocks for a string, null or a list of parts. Blank text is left out: the API refuses it."""
    if content is None:
        return []
    if isinstance(content, str):
        return [text_block(content)] if content.strip() else []
    blocks = []
    for index, part in enumerate(objects(content, f"{where}.content")):
        block = _block(part, f"{where}.content[{index}]")
        if block["type"] != "text" or block["text"].strip():
            blocks.append(block)
    return blocks


def _block(part: Json, where: str) -> Json:
    translate = _PARTS.get(str(part.get("type")))
    if translate is None:
        kind = part.get("type")
        raise InvalidRequest(f"Content of type {kind!r} is not supported by this model's provider", param=where)
    block = translate(part, where)
    # The mark OpenRouter and LiteLLM clients use to ask for prompt caching.
    if isinstance(part.get("cache_control"), dict):
        block["cache_control"] = part["cache_control"]
    return block


def _text(part: Json, where: str) -> Json:
    text = part.get(part["type"])
    if not isinstance(text, str):
        raise InvalidRequest("Text content needs a string", param=f"{where}.{part['type']}")
    return text_block(text)


def _image(part: Json, where: str) -> Json:
    param = f"{where}.image_url.url"
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str):
        raise InvalidRequest("An image needs a URL", param=param)
    if url.startswith("https://"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    if not url.startswith("data:"):
        raise InvalidRequest("An image URL must start with https:// or data:", code="invalid_url", param=param)
    media_type, data = _data_url(url, param)
    if media_type not in _IMAGE_TYPES:
        allowed = ", ".join(sorted(_IMAGE_TYPES))
        raise InvalidRequest(f"Images must be one of {allowed}", code="unsupported_media_type", param=param)
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _file(part: Json, where: str) -> Json:
    param = f"{where}.file.file_data"
    file = part.get("file")
    data_url = file.get("file_data") if isinstance(file, dict) else None
    if not isinstance(data_url, str):
        raise InvalidRequest("A file must be sent as a data URL in 'file_data'", param=where)
    media_type, data = _data_url(data_url, param)
    if media_type != "application/pdf":
        raise InvalidRequest("Files must be application/pdf", code="unsupported_media_type", param=param)
    block: Json = {"type": "document", "source": {"type": "base64", "media_type": media_type, "data": data}}
    title = part["file"].get("filename")
    return block | {"title": title} if isinstance(title, str) else block


def _data_url(url: str, param: str) -> tuple[str, str]:
    """Media type and base64 text of `data:<type>;base64,<text>`."""
    head, comma, data = url.partition(",")
    if not head.startswith("data:") or not comma or not head.endswith(";base64"):
        raise InvalidRequest("A data URL must be base64-encoded", code="invalid_data_url", param=param)
    media_type = head[len("data:") :].split(";", 1)[0].lower()
    return "image/jpeg" if media_type == "image/jpg" else media_type, data


_PARTS: dict[str, Callable[[Json, str], Json]] = {"text": _text, "refusal": _text, "image_url": _image, "file": _file}
