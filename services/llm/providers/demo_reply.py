"""What jan-demo has to say to a request: pure functions from an OpenAI chat body to a `Reply`.

Commands are lines of the last user message:

    /tool name {json}   call this tool with these arguments; several lines are parallel calls
    /think text         think this aloud (`reasoning_content`) before answering
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import orjson

from services.llm.providers.json_instance import instance_of
from services.llm.providers.provider import Json
from services.runtime.errors import InvalidRequest
from services.runtime.image_header import image_header

_INTRODUCTION = "I am jan-demo, the built-in offline demonstration of Jan Server, not an AI: I repeat what you say."
_COMMAND = re.compile(r"^/(tool|think)(?:[ \t]+(.*))?$", re.MULTILINE)
_DATA_URL = re.compile(r"data:([^;,]*)[^,]*;base64,", re.IGNORECASE)
_HEADER_CHARACTERS = 4 * 64 * 1024
"""How much base64 is decoded to find an image's size: a JPEG may carry much before it."""


@dataclass(frozen=True)
class Call:
    """A tool to call, with its arguments as the JSON text to pass on verbatim."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Reply:
    """What to say, before tokens are counted and anything is cut."""

    reasoning: str
    content: str
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class _Asked:
    """The last user message, taken apart."""

    text: str
    thoughts: str
    commands: tuple[str, ...]
    attachments: tuple[str, ...]


@dataclass(frozen=True)
class _Offer:
    """The functions that may be called, by name, and whether one must or none may be."""

    schemas: dict[str, Any]
    forced: bool
    forbidden: bool


def reply_to(body: Json) -> Reply:
    """The answer to a chat request, the same for the same request.

    A tool's result is repeated, whatever `tool_choice` says, so that a loop of forced calls comes to an end. Raises
    `InvalidRequest` when `tool_choice` names what is not offered.
    """
    results = _tool_results(body["messages"])
    asked = _asked(body["messages"])
    if results:
        said = "\n".join(f"The tool returned: {result}" for result in results)
        return Reply("", _formatted(body, said, "\n".join(results)), ())
    offer = _offer(body)
    calls, complaints = _told(asked.commands, offer)
    if offer.forced and not calls:
        name, schema = next(iter(offer.schemas.items()))
        calls = [Call(name, _json(instance_of(schema, asked.text)))]
    if body.get("parallel_tool_calls") is False:
        calls = calls[:1]
    if calls:
        return Reply(asked.thoughts, "\n".join(complaints), tuple(calls))
    said = "\n".join([_spoken(asked), *complaints] if asked.text or not complaints else complaints)
    return Reply(asked.thoughts, _formatted(body, said, asked.text or said), ())


def text_of(content: object) -> str:
    """The text of a message's content: a string, or parts of which the text ones are joined by line ends."""
    if isinstance(content, str):
        return content
    return "\n".join(text for part in _parts(content) if isinstance(text := part.get("text"), str))


def images_of(content: object) -> list[str]:
    """The URLs of the image parts of a message's content."""
    images = [part.get("image_url") for part in _parts(content) if part.get("type") == "image_url"]
    return [str(image.get("url", "")) if isinstance(image, dict) else str(image) for image in images]


def _parts(content: object) -> list[Json]:
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def _tool_results(messages: list[Json]) -> list[str]:
    """The texts of the tool messages that end the conversation, in order."""
    results: list[str] = []
    for message in reversed(messages):
        if message.get("role") not in ("tool", "function"):
            break
        results.insert(0, text_of(message.get("content")))
    return results


def _asked(messages: list[Json]) -> _Asked:
    content = next((each.get("content") for each in reversed(messages) if each.get("role") == "user"), "")
    text = text_of(content)
    commands = _COMMAND.findall(text)
    return _Asked(
        text=_COMMAND.sub("", text).strip() if commands else text,
        thoughts="\n".join(rest.strip() for word, rest in commands if word == "think"),
        commands=tuple(rest.strip() for word, rest in commands if word == "tool"),
        attachments=tuple(_attachments(content)),
    )


def _attachments(content: object) -> list[str]:
    others = [part.get("type") for part in _parts(content) if part.get("type") not in ("text", "image_url")]
    images = [f"Image {number}: {_described(url)}." for number, url in enumerate(images_of(content), 1)]
    return images + [f"There is a part of the type '{kind}', which I cannot read." for kind in others]


def _spoken(asked: _Asked) -> str:
    echo = f"{_INTRODUCTION} You said: {asked.text}" if asked.text else _INTRODUCTION
    return "\n".join([echo, *asked.attachments])


def _offer(body: Json) -> _Offer:
    functions = [tool.get("function") or {} for tool in body.get("tools") or ()]
    schemas = {
        function.get("name", ""): function.get("parameters") or {"type": "object"} for function in functions if function
    }
    choice = body.get("tool_choice") or "auto"
    names, mode = _chosen(choice, schemas) if isinstance(choice, dict) else (list(schemas), choice)
    missing = [name for name in names if name not in schemas]
    if missing or (mode == "required" and not names):
        wanted = f"the tool '{missing[0]}'" if missing else "a tool"
        raise InvalidRequest(f"`tool_choice` demands {wanted}, which `tools` does not offer.", param="tool_choice")
    return _Offer({name: schemas[name] for name in names}, forced=mode == "required", forbidden=mode == "none")


def _chosen(choice: Json, schemas: dict[str, Any]) -> tuple[list[str], str]:
    """The names and the mode of a `tool_choice` object: one function, or a list of allowed ones."""
    if choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools") or {}
        return [_function_name(tool) for tool in allowed.get("tools") or ()], allowed.get("mode") or "auto"
    return [_function_name(choice)], "required"


def _function_name(tool: Json) -> str:
    return str((tool.get("function") or {}).get("name", ""))


def _told(commands: tuple[str, ...], offer: _Offer) -> tuple[list[Call], list[str]]:
    """The calls that `/tool` lines ask for, and a sentence for each that cannot be."""
    calls: list[Call] = []
    complaints: list[str] = []
    for command in commands:
        name, arguments = [*command.split(maxsplit=1), "", ""][:2]
        complaint = _complaint(name, arguments, offer)
        if complaint:
            complaints.append(complaint)
        else:
            calls.append(Call(name, arguments or "{}"))
    return calls, complaints


def _complaint(name: str, arguments: str, offer: _Offer) -> str:
    if offer.forbidden:
        return f"I do not call the tool '{name}': tool_choice is none."
    if name not in offer.schemas:
        return f"The tool '{name}' is not offered; offered are: {', '.join(offer.schemas) or 'none'}."
    try:
        fits = isinstance(orjson.loads(arguments or "{}"), dict)
    except orjson.JSONDecodeError as error:
        return f"The arguments of the tool '{name}' are not valid JSON ({error}): {arguments}"
    return "" if fits else f"The arguments of the tool '{name}' are not a JSON object: {arguments}"


def _formatted(body: Json, said: str, echo: str) -> str:
    """`said`, or `echo` in the JSON that `response_format` demands."""
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_object":
        return _json({"echo": echo})
    if wanted.get("type") == "json_schema":
        schema = (wanted.get("json_schema") or {}).get("schema")
        return _json(instance_of(schema if schema is not None else {"type": "object"}, echo))
    return said


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _described(url: str) -> str:
    if not url.startswith("data:"):
        return f"the URL {url[:200]}, which I do not fetch"
    head = _DATA_URL.match(url[:200])
    if head is None:
        return "a data URL that is not base64"
    characters = len(url) - head.end()
    try:
        data = binascii.a2b_base64(url[head.end() : head.end() + _HEADER_CHARACTERS])
    except binascii.Error:
        return "a data URL whose base64 is broken"
    whole = characters <= _HEADER_CHARACTERS
    length = len(data) if whole else characters * 3 // 4 - url.count("=", -2)
    header = image_header(BytesIO(data))
    pixels = f"{header.width} x {header.height} pixels" if header else "of a size in pixels that I cannot read"
    return f"{head[1] or 'no type'}, {length} bytes, {pixels}"
