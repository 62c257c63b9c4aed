"""`reasoning_effort` as Anthropic's thinking, and what thinking means for the limit and the sampling of a request.

Two generations of models want two things. Those up to 4.5 (and other vendors' models behind this API) take a thinking
budget in tokens, later ones decide how much to think within an effort level. The lists of old models are closed, so a
Claude model they do not name is a current one.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from services.llm.providers.anthropic.messages import objects
from services.llm.providers.anthropic.tools import is_forced
from services.llm.providers.provider import Json
from services.runtime.errors import InvalidRequest

DEFAULT_MAX_TOKENS = 4096
_LEAST_BUDGET = 1024

_BUDGETED = re.compile(r"claude-(instant|[23]|4-|(opus|sonnet|haiku)-4(-[015])?($|[-@]\d{8}))")
_LAST_SAMPLED = re.compile(r"claude-(opus|sonnet|haiku)-4-6($|[-@]\d{8})")


class _Effort(NamedTuple):
    """A row of the `reasoning_effort` table: the tokens an old model may think, the level a current one is told."""

    budget: int
    level: str


_EFFORTS = {
    "minimal": _Effort(1024, "low"),
    "low": _Effort(2048, "low"),
    "medium": _Effort(8192, "medium"),
    "high": _Effort(16384, "high"),
    "xhigh": _Effort(24576, "xhigh"),
    "max": _Effort(24576, "max"),
}


def thinking(body: Json) -> Json | None:
    """The `thinking` to send, if any: the caller's own, or what `reasoning_effort` means to the model.

    Where thinking would make the upstream refuse the request (a forced tool, too little room, a tool round whose
    signed thoughts are missing) it is left out, because an answer without it is what the caller prefers.
    """
    own = body.get("thinking")
    if own is not None:
        if not isinstance(own, dict):
            raise InvalidRequest("'thinking' must be an object", param="thinking")
        return own
    if body.get("reasoning_effort") == "none":
        return {"type": "disabled"}
    effort = _effort(body)
    if effort is None or is_forced(body):
        return None
    if not _takes_budget(body):
        # Some models keep their thoughts to themselves unless asked.
        return {"type": "adaptive", "display": "summarized"}
    budget = min(effort.budget, (_given_limit(body) or effort.budget + 1) - 1)
    if budget < _LEAST_BUDGET or _lost_thoughts(body):
        return None
    return {"type": "enabled", "budget_tokens": budget}


def level(body: Json) -> str | None:
    """The effort level to send, for the models that have one."""
    effort = _effort(body)
    return None if effort is None or _takes_budget(body) else effort.level


def max_tokens(body: Json) -> int:
    """Their limit is required and counts thinking too, so the default makes room for it."""
    given = _given_limit(body)
    return DEFAULT_MAX_TOKENS + _room(body) if given is None else given


def is_sampled(body: Json) -> bool:
    """Whether the model honours `temperature`, `top_p` and `top_k`: current ones do not, and none does thinking."""
    planned = thinking(body)
    if planned is not None and planned.get("type") != "disabled":
        return False
    return _takes_budget(body) or _LAST_SAMPLED.search(str(body.get("model"))) is not None


def number(value: Any, param: str) -> float:
    """`value`, when it is a JSON number; otherwise `InvalidRequest` naming `param`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"'{param}' must be a number", param=param)
    return value


def _room(body: Json) -> int:
    """How many tokens may go into thinking."""
    planned = thinking(body) or {}
    if planned.get("type") == "disabled":
        return 0
    budget = planned.get("budget_tokens")
    if isinstance(budget, int):
        return budget
    if _takes_budget(body):
        return 0
    return (_effort(body) or _EFFORTS["high"]).budget  # current models think unasked


def _given_limit(body: Json) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is not None:
            return int(number(value, name))
    return None


def _effort(body: Json) -> _Effort | None:
    effort = body.get("reasoning_effort")
    if effort is None or effort == "none":
        return None
    if not isinstance(effort, str) or effort not in _EFFORTS:
        allowed = ", ".join(["none", *_EFFORTS])
        raise InvalidRequest(f"'reasoning_effort' must be one of {allowed}", param="reasoning_effort")
    return _EFFORTS[effort]


def _takes_budget(body: Json) -> bool:
    model = str(body.get("model"))
    return "claude" not in model or _BUDGETED.search(model) is not None


def _lost_thoughts(body: Json) -> bool:
    """Whether a tool round is under way whose assistant message came back without its signed thoughts."""
    for message in reversed(objects(body.get("messages"), "messages")):
        if message.get("role") != "tool":
            return bool(message.get("tool_calls")) and not message.get("thinking_blocks")
    return False
