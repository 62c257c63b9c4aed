"""Anthropic's stream events as OpenAI chunks, one translator per stream.

Per token this is one dictionary lookup and one `orjson.dumps` of the delta: what all chunks share is rendered once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import orjson

from services.llm.providers.anthropic import answer
from services.llm.providers.anthropic.errors import event_error
from services.llm.providers.provider import Json
from services.runtime.errors import UpstreamFailed

_HEAD_END = b',"choices":[{"index":0,"delta":'
_OPEN_END = b',"logprobs":null,"finish_reason":null}]}'


class StreamTranslator:
    """Feed it every event of one answer, in order, then call `finish`.

    `feed` returns the chunks an event makes, as JSON bytes: the role first, content and tool calls as they come, then
    the finish reason and a chunk with `choices: []` and the usage. It raises what an `error` event means. Unknown
    events, pings and blocks of server tools make no chunks.
    """

    def __init__(self, *, created: int, provider: str) -> None:
        self.finished = False  # whether the last chunk was made
        self._created = created
        self._provider = provider
        self._shared = b""  # an open JSON object with what all chunks have in common
        self._head = b""
        self._usage: Json = {}
        self._stop: Json | None = None
        self._calls: dict[int, Json] = {}  # content block index -> tool_use block, its own index and what it holds
        self._thoughts: dict[int, Json] = {}

    @property
    def complete(self) -> bool:
        """Whether the model said why it stopped; what still may be missing carries no content."""
        return self._stop is not None

    def feed(self, event: Json) -> list[bytes]:
        """Chunks for one parsed event; raises `ApiError` for an `error` event."""
        handle = self._HANDLERS.get(event["type"])
        return [] if handle is None else handle(self, event)

    def finish(self) -> list[bytes]:
        """The chunks still owed at the end of the stream; raises `UpstreamFailed` when the answer was cut."""
        if self._stop is None or not self._head:
            raise UpstreamFailed(f"Provider '{self._provider}' broke off in the middle of the answer")
        if self.finished:
            return []
        self.finished = True
        return [*self._signed_thoughts(), *self._refusal(self._stop), self._last(self._stop), self._usage_chunk()]

    def _chunk(self, delta: Json) -> bytes:
        if not self._head:
            raise UpstreamFailed(f"Provider '{self._provider}' began in the middle of an answer")
        return self._head + orjson.dumps(delta) + _OPEN_END

    def _start(self, event: Json) -> list[bytes]:
        message = event["message"]
        shared = {
            "id": answer.completion_id(message),
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": message["model"],
        }
        self._shared = orjson.dumps(shared)[:-1]
        self._head = self._shared + _HEAD_END
        self._count(message.get("usage"))
        return [self._chunk({"role": "assistant", "content": "", "refusal": None})]

    def _block_start(self, event: Json) -> list[bytes]:
        index, block = event["index"], event["content_block"]
        kind = block["type"]
        if kind == "text" and block["text"]:
            return [self._chunk({"content": block["text"]})]
        if kind in answer.THOUGHTS:
            self._thoughts[index] = block
            return [self._chunk({"reasoning_content": block["thinking"]})] if block.get("thinking") else []
        if kind == "tool_use":
            self._calls[index] = {"index": len(self._calls), "input": block.get("input") or {}, "streamed": False}
            function = {"name": block["name"], "arguments": ""}
            return [self._call_chunk(index, {"id": block["id"], "type": "function", "function": function})]
        return []

    def _delta(self, event: Json) -> list[bytes]:
        delta = event["delta"]
        kind = delta["type"]
        if kind == "text_delta":
            return [self._chunk({"content": delta["text"]})] if delta["text"] else []
        index = event["index"]
        if kind == "input_json_delta":
            call = self._calls.get(index)  # absent for the input of a server tool
            if call is None or not delta["partial_json"]:
                return []
            call["streamed"] = True
            return [self._call_chunk(index, {"function": {"arguments": delta["partial_json"]}})]
        if kind == "thinking_delta" and delta["thinking"]:
            self._thoughts[index]["thinking"] += delta["thinking"]
            return [self._chunk({"reasoning_content": delta["thinking"]})]
        if kind == "signature_delta":
            self._thoughts[index]["signature"] = delta["signature"]
        return []

    def _block_stop(self, event: Json) -> list[bytes]:
        call = self._calls.get(event["index"])
        if call is None or call["streamed"]:
            return []
        # A call without arguments streams none, where OpenAI's clients expect an object.
        arguments = orjson.dumps(call["input"]).decode()
        return [self._call_chunk(event["index"], {"function": {"arguments": arguments}})]

    def _message_delta(self, event: Json) -> list[bytes]:
        self._count(event.get("usage"))
        if event["delta"].get("stop_reason"):
            self._stop = event["delta"]
        return []

    def _message_stop(self, _event: Json) -> list[bytes]:
        return self.finish()

    def _error(self, event: Json) -> list[bytes]:
        raise event_error(event, provider=self._provider)

    def _call_chunk(self, block_index: int, call: Json) -> bytes:
        return self._chunk({"tool_calls": [{"index": self._calls[block_index]["index"], **call}]})

    def _count(self, counts: Json | None) -> None:
        """Counts are totals, so later ones replace earlier ones, unless they are left out."""
        self._usage |= {name: count for name, count in (counts or {}).items() if count is not None}

    def _signed_thoughts(self) -> list[bytes]:
        if not self._calls or not self._thoughts:
            return []
        return [self._chunk({"thinking_blocks": list(self._thoughts.values())})]

    def _refusal(self, stop: Json) -> list[bytes]:
        explanation = answer.explanation(stop)
        return [self._chunk({"refusal": explanation})] if explanation else []

    def _last(self, stop: Json) -> bytes:
        reason = answer.finish_reason(stop["stop_reason"])
        return self._head + b'{},"logprobs":null,"finish_reason":' + orjson.dumps(reason) + b"}]}"

    def _usage_chunk(self) -> bytes:
        return self._shared + b',"choices":[],"usage":' + orjson.dumps(answer.usage(self._usage)) + b"}"

    _HANDLERS: ClassVar[dict[str, Callable[[StreamTranslator, Json], list[bytes]]]] = {
        "message_start": _start,
        "content_block_start": _block_start,
        "content_block_delta": _delta,
        "content_block_stop": _block_stop,
        "message_delta": _message_delta,
        "message_stop": _message_stop,
        "error": _error,
    }
