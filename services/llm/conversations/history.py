"""What a model is sent in a conversation: standing instructions, what was said before, what is new (CONTRACT 4.3).

Pure functions between stored items and the messages of a chat request. `compose` puts a request together; what it says
is new is what is to be stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from typing import Any

import orjson

from services.llm.conversations.item_store import Draft
from services.llm.generation import token_counts
from services.llm.providers.provider import Json
from services.runtime.errors import InvalidRequest

INSTRUCTING = ("system", "developer")
LONGEST_TITLE = 60
SHARE_OF_THE_ANSWER = 8
"""Which part of a context window is kept free for an answer whose length nobody has limited."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TEXTS = ("text", "input_text", "output_text")
_KEPT = ("tool_calls", "tool_call_id", "name")


@dataclass(frozen=True, slots=True)
class Past:
    """Stored items, the oldest first; not `whole` when there are older ones, which would not fit anyway."""

    items: Sequence[Json]
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Prompt:
    """What goes to the model, what of it has to be stored, and whether older turns were left out."""

    messages: list[Json]
    new: list[Json]
    trimmed: bool


def compose(body: Json, standing: Sequence[str], past: Past, *, window: int) -> Prompt:
    """The messages of `body` behind those of its conversation, cut to a context window of so many tokens (0: as
    long as it is). `standing` are the instructions that come first.

    Raises `InvalidRequest` (`context_length_exceeded`) when what is new does not fit by itself.
    """
    given: list[Json] = body["messages"]
    leading = [{"role": "system", "content": text} for text in standing if text]
    leading += [each for each in given if each["role"] in INSTRUCTING]
    said = [each for each in given if each["role"] not in INSTRUCTING]
    before = replayed(past.items)
    known = _overlap(before, said)
    history = _paired(before, said[known:])
    if not past.whole:  # they may begin in the middle of a turn
        history = list(dropwhile(lambda message: message["role"] != "user", history))
    kept = _fitting(history, leading, said[known:], body, window) if window else history
    return Prompt([*leading, *kept, *said[known:]], said[known:], trimmed=not past.whole or len(kept) < len(history))


def replayed(items: Sequence[Json]) -> list[Json]:
    """Stored items as messages; calls of tools are joined to what the assistant said before them."""
    messages: list[Json] = []
    for item in items:
        match item["type"]:
            case "message":
                messages.append(_message(item))
            case "function_call":
                _add_call(messages, item)
            case "function_call_output":
                messages.append(_output(item))
            case "mcp_call":
                _add_call(messages, item)
                messages.append(_output(item))
    return messages


def draft_of(message: Json) -> Draft:
    """The item to store for a message of a request."""
    return Draft(
        role=message["role"],
        content=message.get("content"),
        tool_calls=message.get("tool_calls"),
        tool_call_id=message.get("tool_call_id"),
        name=message.get("name"),
    )


def title_of(messages: Sequence[Json]) -> str | None:
    """A title: the first text of a user on one line, cut between two words. None without a text."""
    for message in messages:
        words = _text(message.get("content")).split() if message["role"] == "user" else []
        if text := " ".join(filter(None, (_CONTROL.sub("", word) for word in words))):
            return text if len(text) <= LONGEST_TITLE else _cut(text)
    return None


def _cut(text: str) -> str:
    """At most `LONGEST_TITLE` characters, the last of them the sign that there was more."""
    whole, _, rest = text[:LONGEST_TITLE].rpartition(" ")
    return (whole.rstrip() or rest[: LONGEST_TITLE - 1]) + "…"


def _text(content: Any) -> str:
    """The first text in a message."""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = (part.get("text") for part in parts if isinstance(part, dict) and part.get("type") in _TEXTS)
    return next((text for text in texts if isinstance(text, str) and text.strip()), "")


def _message(item: Mapping[str, Any]) -> Json:
    """A message as chat completions know it; the same for an item and for the message that it was made of."""
    message: Json = {"role": item["role"], "content": _content(item.get("content"))}
    message |= {name: item[name] for name in _KEPT if item.get(name)}
    if message.get("tool_calls") and not message["content"]:
        message["content"] = None  # some templates print a text that is empty
    return message


def _content(content: Any) -> Any:
    """Parts may have been given in the words of the Responses API."""
    return [_part(each) for each in content] if isinstance(content, list) else content


def _part(part: Any) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("input_text", "output_text") and "text" in part:
        return {"type": "text", "text": part["text"]}
    if kind == "input_image" and "image_url" in part:
        image = part["image_url"]
        return {"type": "image_url", "image_url": image if isinstance(image, dict) else {"url": image}}
    return part


def _add_call(messages: list[Json], item: Json) -> None:
    function = {"name": item["name"] or "", "arguments": item["arguments"] or ""}
    call = {"id": _call_id(item), "type": "function", "function": function}
    last = messages[-1] if messages else None
    if last is not None and last["role"] == "assistant":
        last["tool_calls"] = [*last.get("tool_calls", ()), call]
    else:
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})


def _output(item: Json) -> Json:
    output = item["output"] if item["output"] is not None else item["content"]
    text = output if isinstance(output, str) else orjson.dumps(output).decode()
    return {"role": "tool", "content": text, "tool_call_id": _call_id(item)}


def _call_id(item: Json) -> str:
    return str(item["call_id"] or item["id"])


def _overlap(before: list[Json], said: list[Json]) -> int:
    """How many messages at the beginning of `said` are stored already, because an earlier call with them failed: those
    that still wait for an answer, in the same words."""
    waiting = len(list(takewhile(lambda message: message["role"] in ("user", "tool"), reversed(before))))
    same = [_message(each) for each in said]
    for count in range(min(waiting, len(said)), 0, -1):
        if before[-count:] == same[:count]:
            return count
    return 0


def _paired(history: list[Json], said: list[Json]) -> list[Json]:
    """The history with nothing in it that upstreams refuse: calls of tools that nobody has answered, and answers to
    calls that are not there. `said` may answer the last calls."""
    paired: list[Json] = []
    together = history + said
    expected: set[Any] = set()
    for index, message in enumerate(history):
        if message["role"] == "tool":
            if message.get("tool_call_id") in expected:
                paired.append(message)
            continue
        if message.get("tool_calls"):
            answered = {each.get("tool_call_id") for each in _outputs(together, index + 1)}
            message = {**message, "tool_calls": [each for each in message["tool_calls"] if each.get("id") in answered]}
            if not message["tool_calls"]:
                del message["tool_calls"]
        expected = {each.get("id") for each in message.get("tool_calls", ())}
        if message.get("content") or expected or message["role"] != "assistant":
            paired.append(message)
    return paired


def _outputs(messages: list[Json], start: int) -> Iterator[Json]:
    """The outputs of tools from there on."""
    while start < len(messages) and messages[start]["role"] == "tool":
        yield messages[start]
        start += 1


def _fitting(history: list[Json], leading: list[Json], said: list[Json], body: Json, window: int) -> list[Json]:
    """As many of the last turns as there is room for. What answers calls of the last turn goes only with it."""
    turns = _turns(history)
    fixed = token_counts.estimate_prompt([*leading, *said], tools=body.get("tools"))
    least = len(turns) - 1 if turns and (not said or said[0]["role"] == "tool") else len(turns)
    fixed += token_counts.estimate_prompt([message for turn in turns[least:] for message in turn])
    if fixed > window:
        raise InvalidRequest(
            f"What is new has about {fixed} tokens, and the model reads at most {window}",
            code="context_length_exceeded",
            param="messages",
        )
    left = window - fixed - _for_the_answer(body, window)
    first = least
    while first and (left := left - token_counts.estimate_prompt(turns[first - 1])) >= 0:
        first -= 1
    return [message for turn in turns[first:] for message in turn]


def _for_the_answer(body: Json, window: int) -> int:
    """Tokens to keep free. Who asks for more than half of the window gets what there is."""
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    return min(asked, window // 2) if asked else window // SHARE_OF_THE_ANSWER


def _turns(messages: list[Json]) -> list[list[Json]]:
    """What belongs together: a message of the user and all that follows up to the next one."""
    turns: list[list[Json]] = []
    for message in messages:
        if message["role"] == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return turns
