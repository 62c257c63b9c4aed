"""OpenAI's legacy text completions on providers that only chat: the prompt becomes a user message."""

from __future__ import annotations

from typing import Any

from services.llm.providers.provider import Json
from services.runtime.errors import InvalidRequest

_CHAT_ONLY = ("prompt", "best_of", "echo", "suffix", "logprobs")


def to_chat(body: Json) -> Json:
    """The chat request that continues `prompt`. Raises `InvalidRequest` for what a chat cannot do."""
    prompt = body["prompt"]
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise InvalidRequest("Parameter 'prompt' must be one string for this model", param="prompt")
    for name in ("suffix", "best_of", "echo", "logprobs"):
        value = body.get(name)
        if value not in (None, "", False) and (name, value) != ("best_of", 1):
            raise InvalidRequest(f"Parameter '{name}' is not supported by this model", param=name)
    kept = {name: value for name, value in body.items() if name not in _CHAT_ONLY}
    return {**kept, "messages": [{"role": "user", "content": prompt}]}


def from_chat(answer: Json) -> Json:
    """The `text_completion` for a `chat.completion` or for one of its chunks."""
    return {**answer, "object": "text_completion", "choices": [_choice(each) for each in answer.get("choices", ())]}


def _choice(choice: Json) -> dict[str, Any]:
    said = choice.get("message") or choice.get("delta") or {}
    return {
        "index": choice.get("index", 0),
        "text": said.get("content") or "",
        "finish_reason": choice.get("finish_reason"),
        "logprobs": None,
    }
