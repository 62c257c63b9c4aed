"""OpenAI's `tools`, `tool_choice` and `parallel_tool_calls` in the words of Anthropic's Messages API."""

from __future__ import annotations

from typing import Any

from services.llm.providers.anthropic.messages import objects
from services.llm.providers.anthropic.schema import narrowed
from services.llm.providers.provider import Json
from services.runtime.errors import InvalidRequest

_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_NO_INPUT: Json = {"type": "object", "properties": {}}


def offer(body: Json, turns: list[Json]) -> Json:
    """The `tools` and `tool_choice` to send."""
    tools = objects(body.get("tools") or [], "tools")
    choice = body.get("tool_choice")
    if not tools and choice not in (None, "auto", "none"):
        raise InvalidRequest("'tool_choice' needs 'tools'", param="tool_choice")
    if not tools:
        return _tools_of_history(turns)
    offered = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)]
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        offered, choice = _allowed(offered, choice.get("allowed_tools"))
    selected = _choice(choice)
    if body.get("parallel_tool_calls") is False and selected["type"] != "none":
        selected["disable_parallel_tool_use"] = True
    return {"tools": offered} if selected == {"type": "auto"} else {"tools": offered, "tool_choice": selected}


def is_forced(body: Json) -> bool:
    """Whether the model has to call a tool, which rules thinking out."""
    choice = body.get("tool_choice")
    if not isinstance(choice, dict):
        return choice == "required"
    allowed = choice.get("allowed_tools")
    return not isinstance(allowed, dict) or allowed.get("mode") == "required"


def _tools_of_history(turns: list[Json]) -> Json:
    """Declarations of tools that were called before: a transcript with tool calls is refused without them."""
    blocks = [block for turn in turns for block in turn["content"]]
    names = dict.fromkeys(block["name"] for block in blocks if block["type"] == "tool_use")
    if not names:
        return {}
    return {"tools": [{"name": name, "input_schema": _NO_INPUT} for name in names], "tool_choice": {"type": "none"}}


def _tool(tool: Json, where: str) -> Json:
    function = tool.get("function")
    if tool.get("type") != "function" and isinstance(tool.get("name"), str):
        return tool  # one of Anthropic's own server tools, in their words
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequest("Only function tools are supported", code="unsupported_tool", param=where)
    strict = function.get("strict") is True
    schema = function.get("parameters") or _NO_INPUT
    translated: Json = {"name": function["name"], "input_schema": narrowed(schema) if strict else schema}
    if function.get("description"):
        translated["description"] = function["description"]
    if strict:
        translated["strict"] = True
    if isinstance(tool.get("cache_control"), dict):
        translated["cache_control"] = tool["cache_control"]
    return translated


def _allowed(offered: list[Json], allowed: Any) -> tuple[list[Json], Any]:
    """Their API has no allow-list: offering only the allowed tools means the same."""
    param = "tool_choice.allowed_tools"
    if not isinstance(allowed, dict):
        raise InvalidRequest(f"'{param}' must be an object", param=param)
    named = objects(allowed.get("tools"), f"{param}.tools")
    names = [tool["function"].get("name") for tool in named if isinstance(tool.get("function"), dict)]
    kept = [tool for tool in offered if tool["name"] in names]
    if not kept:
        raise InvalidRequest(f"'{param}.tools' names none of 'tools'", param=f"{param}.tools")
    return kept, allowed.get("mode")


def _choice(choice: Any) -> Json:
    if isinstance(choice, dict):
        function = choice.get("function")
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            return {"type": "tool", "name": function["name"]}
    elif choice is None or (isinstance(choice, str) and choice in _CHOICES):
        return {"type": _CHOICES[choice or "auto"]}
    raise InvalidRequest("'tool_choice' must be none, auto, required or name a function", param="tool_choice")
