"""What a model has said in a turn of a conversation, as the item that is kept of it: of several choices the first."""

from __future__ import annotations

from typing import Any

from services.llm.conversations.item_store import Draft
from services.llm.providers.provider import Json

LONGEST_LATENCY = 2**31 - 1
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


class Received:
    """Fed with chunks as they come, or with a whole answer."""

    def __init__(self) -> None:
        self._usage: Json = {}
        self._begun: set[int] = set()
        self._finished: dict[int, str] = {}
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, Json] = {}

    @property
    def finished(self) -> bool:
        """Whether every choice that has begun has its `finish_reason`: this may be all, or another one begins."""
        return bool(self._begun) and self._begun <= self._finished.keys()

    def take(self, chunk: Json) -> None:
        """Add a chunk that the engine has let through."""
        for choice in chunk["choices"]:
            self._take_choice(choice, choice.get("delta") or {})

    def take_whole(self, answer: Json) -> None:
        """Take a whole answer that the engine has let through."""
        self._usage = answer["usage"]
        for place, choice in enumerate(answer["choices"]):
            ended = {"index": place, **choice, "finish_reason": choice.get("finish_reason") or "stop"}
            self._take_choice(ended, choice["message"])

    def spend(self, usage: Json) -> None:
        """Take what the answer has cost."""
        self._usage = usage

    def draft(self, *, model: str, seconds: float, reasoning: bool) -> Draft | None:
        """The item to keep; None when nothing has been said. Without an end it is `incomplete`."""
        content, thoughts = "".join(self._content), "".join(self._reasoning) if reasoning else ""
        reason = self._finished.get(0)
        if reason is None and not (content or thoughts or self._calls):
            return None
        return Draft(
            role="assistant",
            content=content,
            status="incomplete" if reason is None else "completed",
            model=model,
            usage=_counted(self._usage),
            finish_reason=reason,
            latency_ms=min(round(seconds * 1000), LONGEST_LATENCY),
            tool_calls=list(self._calls.values()) or None,
            reasoning_content=thoughts or None,
        )

    def _take_choice(self, choice: Json, said: Any) -> None:
        index = choice.get("index") or 0
        self._begun.add(index)
        if choice.get("finish_reason"):
            self._finished[index] = _kept(choice["finish_reason"])
        if index != 0 or not isinstance(said, dict):
            return
        self._content.append(_kept(said.get("content") or said.get("refusal")))
        self._reasoning.append(_kept(said.get("reasoning_content")))
        calls = said.get("tool_calls")
        for place, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict):
                index = call.get("index")
                self._take_call(call, index if isinstance(index, int) else place)

    def _take_call(self, part: Json, index: int) -> None:
        call = self._calls.setdefault(index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call["id"] = _kept(part.get("id")) or call["id"]
        call["type"] = _kept(part.get("type")) or call["type"]
        given = part.get("function")
        function: Json = given if isinstance(given, dict) else {}
        for name, so_far in call["function"].items():
            call["function"][name] = so_far + _kept(function.get(name))


def _kept(text: Any) -> str:
    """A text, or the texts of parts, as PostgreSQL can keep it: without U+0000."""
    if isinstance(text, list):
        return "".join(_kept(each.get("text")) for each in text if isinstance(each, dict))
    return text.replace("\0", "") if isinstance(text, str) else ""


def _counted(usage: Json) -> dict[str, int] | None:
    """The counts in a usage, as far as an upstream gave numbers."""
    counts = {name: usage.get(name) for name in _COUNTS}
    found = {name: count for name, count in counts.items() if isinstance(count, int) and 0 <= count < 2**31}
    return found or None
