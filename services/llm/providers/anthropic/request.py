"""An OpenAI chat request as a request of Anthropic's Messages API, and the list of what gets lost on the way.

`docs/anthropic.md` is the table of this file for people.
"""

from __future__ import annotations

from typing import Any

from services.llm.providers.anthropic import thinking, tools
from services.llm.providers.anthropic.messages import prompt, text_block
from services.llm.providers.anthropic.schema import narrowed
from services.llm.providers.provider import Json
from services.runtime.errors import InvalidRequest

_TRANSLATED = {
    "model", "messages", "stream", "stream_options", "n",
    "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "stop",
    "tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort",
    "user", "safety_identifier", "thinking", "cache_control",
}  # fmt: skip
_WITHOUT_EFFECT: tuple[Any, ...] = (None, False, {}, [], ["text"], "")


def request(body: Json, *, stream: bool) -> Json:
    """The Messages API body that asks for what `body` asks.

    Raises `InvalidRequest` for what has no counterpart and would change the answer's shape or meaning.
    """
    _refuse(body)
    system, turns = prompt(body.get("messages"))
    if _format_type(body) == "json_object":
        # Their structured outputs need a schema, so "any JSON" can only be asked for in words.
        system = [*system, text_block("Answer with one valid JSON object and nothing else.")]
    asked = {
        "model": body.get("model"),
        "max_tokens": thinking.max_tokens(body),
        "messages": turns,
        "system": system,
        "thinking": thinking.thinking(body),
        "output_config": _output_config(body),
        "stop_sequences": _stops(body),
        "metadata": _metadata(body),
        "cache_control": body.get("cache_control"),
        "stream": stream,
    }
    return {name: value for name, value in asked.items() if value} | _sampling(body) | tools.offer(body, turns)


def dropped(body: Json) -> list[str]:
    """Names of the parameters of `body` that the upstream will not be told of, in alphabetical order.

    Parameters whose value asks for nothing (`logprobs: false`, `presence_penalty: 0`) are not worth a word.
    """
    names = {name for name, value in body.items() if name not in _TRANSLATED and _has_effect(name, value)}
    sampling = _sampling(body)
    names |= {name for name in ("temperature", "top_k") if body.get(name) is not None and name not in sampling}
    if body.get("top_p") not in (None, 1) and "top_p" not in sampling:
        names.add("top_p")
    if body.get("reasoning_effort") and not thinking.thinking(body) and not thinking.level(body):
        names.add("reasoning_effort")
    if len(_stops(body)) < len(_stops(body, blank=True)):
        names.add("stop")
    return sorted(names)


def _has_effect(name: str, value: Any) -> bool:
    return value is not None if name == "seed" else value not in _WITHOUT_EFFECT


def _refuse(body: Json) -> None:
    if body.get("n") not in (None, 1):
        raise InvalidRequest("This model's provider makes one choice; 'n' must be 1", param="n")
    for name in ("functions", "function_call"):
        if body.get(name):
            raise InvalidRequest(f"'{name}' is not supported by this model's provider: use 'tools'", param=name)


def _sampling(body: Json) -> Json:
    """`temperature`, `top_p` and `top_k` as far as the model honours them; the rest is left out, not refused."""
    if not thinking.is_sampled(body):
        return {}
    sampling: Json = {}
    if body.get("temperature") is not None:
        # Theirs ends at 1.0, which is as random as that API gets.
        sampling["temperature"] = min(thinking.number(body["temperature"], "temperature"), 1)
    elif body.get("top_p") not in (None, 1):
        # Since 4.1 a request may not set both.
        sampling["top_p"] = thinking.number(body["top_p"], "top_p")
    if body.get("top_k") is not None:
        sampling["top_k"] = body["top_k"]
    return sampling


def _stops(body: Json, *, blank: bool = False) -> list[str]:
    """The stop sequences; those of white space only (`blank`) are refused by the API."""
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise InvalidRequest("'stop' must be a string or a list of strings", param="stop")
    return [each for each in stops if blank or each.strip()]


def _metadata(body: Json) -> Json:
    user = body.get("safety_identifier") or body.get("user")
    return {"user_id": user} if user else {}


def _output_config(body: Json) -> Json:
    config: Json = {}
    if level := thinking.level(body):
        config["effort"] = level
    if _format_type(body) == "json_schema":
        wanted = body["response_format"].get("json_schema")
        schema = wanted.get("schema") if isinstance(wanted, dict) else None
        if not isinstance(schema, dict):
            raise InvalidRequest("A JSON schema is required", param="response_format.json_schema.schema")
        config["format"] = {"type": "json_schema", "schema": narrowed(schema)}
    return config


def _format_type(body: Json) -> str:
    wanted = body.get("response_format")
    if wanted is None:
        return "text"
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        raise InvalidRequest(f"Response format {kind!r} is not supported", param="response_format.type")
    return str(kind)
