"""What is known about a model without asking an administrator: from its provider's list, the providers file, its name.

Lists differ in what they say and how; the members of OpenRouter, vLLM, Mistral, Groq, llama.cpp and Together are
understood. What has another type than expected is left out: a list is somebody else's.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from services.llm.providers.entries import ListedModel
from services.llm.providers.names import is_for_chat
from services.llm.providers.provider import Json

LARGEST_WINDOW = 100_000_000
_LONGEST_TEXT = 4096

_WINDOWS = ("context_length", "context_window", "max_model_len", "max_context_length", "max_context_tokens")
_OUTPUTS = ("max_output_tokens", "max_completion_tokens", "max_tokens")
_FAMILY = re.compile(r"[a-z]+([-_.]?v?\d+(\.\d+)?)?", re.IGNORECASE)
# What the name of a model tells of what it can do.
_TELLING: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("vision", re.compile(r"vision|llava|pixtral|gpt-4o|gpt-4\.1|gpt-5|gemini|claude|(?<![a-z])vl(?![a-z])", re.I)),
    ("audio", re.compile(r"audio|whisper|transcribe|(?<![a-z])tts(?![a-z])", re.I)),
    ("reasoning", re.compile(r"reason|think|(?<![a-z0-9])(r1|qwq|o[134])(?![a-z0-9])", re.I)),
    ("instruct", re.compile(r"instruct", re.I)),
)


@dataclass(frozen=True)
class Description:
    """Members are named as in `jan.llm.v1.ProviderModel` and `ModelCatalog`. What nobody has said is 0, empty or {}."""

    name: str
    family: str
    description: str = ""
    capabilities: tuple[str, ...] = ()
    context_window: int = 0
    max_output_tokens: int = 0
    pricing: Json = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ("text",)
    outputs: tuple[str, ...] = ("text",)
    told: bool = False
    """Whether more is known than what the name tells."""


def describe(model_id: str, row: Json, named: ListedModel | None = None) -> Description:
    """Put together what the provider's list says in `row` and the file in `named`; the file is right."""
    window = (named.context_window if named else 0) or _window(row)
    capabilities = (named.capabilities if named else ()) or _capabilities(row)
    pricing, parameters = _pricing(row.get("pricing")), _words(row.get("supported_parameters"))
    told = bool(window or capabilities or pricing or parameters or row.get("description"))
    capabilities = capabilities or told_by_name(model_id)
    return Description(
        name=_text(row.get("name")) or model_id,
        family=family(model_id),
        description=_text(row.get("description")),
        capabilities=capabilities,
        context_window=window,
        max_output_tokens=_first_count(row, _OUTPUTS) or _first_count(_object(row.get("top_provider")), _OUTPUTS),
        pricing=pricing,
        parameters=parameters,
        inputs=("text", *(("image",) if "vision" in capabilities or "images" in capabilities else ())),
        outputs=("embedding",) if "embeddings" in capabilities else ("text",),
        told=told,
    )


def told_by_name(model_id: str) -> tuple[str, ...]:
    """What a model of that name can probably do."""
    if re.search(r"embed|minilm|(?<![a-z])(bge|gte|e5)(?![a-z])", model_id, re.I):
        return ("embeddings",)
    kinds = tuple(capability for capability, tells in _TELLING if tells.search(model_id))
    return ("text", *kinds) if is_for_chat(model_id) else kinds


def family(model_id: str) -> str:
    """The line of models that the name tells: `qwen2.5` of `org/Qwen2.5-0.5B-Instruct`."""
    found = _FAMILY.match(model_id.rsplit("/", 1)[-1])
    return found[0].lower() if found else ""


def _capabilities(row: Json) -> tuple[str, ...]:
    """As the list names them, or as the kinds of input and parameters that it names tell."""
    said = row.get("capabilities")
    if isinstance(said, dict):  # Mistral: {"vision": true, "completion_chat": true}
        renamed = {"completion_chat": "text", "function_calling": "tools", "vision": "vision", "audio": "audio"}
        return tuple(word for name, word in renamed.items() if said.get(name) is True)
    if words := _words(said):
        return words
    inputs = _words(_object(row.get("architecture")).get("input_modalities"))
    parameters = _words(row.get("supported_parameters"))
    from_inputs = {"text": "text", "image": "vision", "audio": "audio", "video": "video"}
    from_parameters = {"tools": "tools", "reasoning": "reasoning"}
    found = [word for name, word in from_inputs.items() if name in inputs]
    return (*found, *(word for name, word in from_parameters.items() if name in parameters))


def _window(row: Json) -> int:
    return _first_count(row, _WINDOWS) or _first_count(_object(row.get("meta")), ("n_ctx", "n_ctx_train"))


def _first_count(row: Json, names: tuple[str, ...]) -> int:
    counts = [row[name] for name in names if type(row.get(name)) is int and 0 < row[name] <= LARGEST_WINDOW]
    return counts[0] if counts else 0


def _pricing(said: Any) -> Json:
    """OpenRouter writes its prices, in dollars per token, as text."""
    prices = {name: _price(_object(said).get(name)) for name in ("prompt", "completion")}
    known = {name: price for name, price in prices.items() if price is not None}
    return {**known, "currency": "USD"} if known else {}


def _price(said: Any) -> float | None:
    try:
        price = float(said) if isinstance(said, str) else math.nan
    except ValueError:
        return None
    return price if math.isfinite(price) and price >= 0 else None


def _object(said: Any) -> Json:
    return said if isinstance(said, dict) else {}


def _text(said: Any) -> str:
    return said[:_LONGEST_TEXT] if isinstance(said, str) else ""


def _words(said: Any) -> tuple[str, ...]:
    if not isinstance(said, list):
        return ()
    return tuple(word for word in said if isinstance(word, str) and 0 < len(word) <= 64)[:64]
