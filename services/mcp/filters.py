"""What administrators forbid tools to be asked: RE2 patterns, which take time in proportion to the text whatever they
are. The only place that knows re2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import re2  # type: ignore[import-untyped]  # the library is not annotated

from services.mcp.tool import Json, Result, failed
from services.runtime.errors import InvalidRequest

LONGEST = 512
"""Characters of a pattern."""
SHOWN = ("title", "snippet", "source_url", "text_preview")
"""What of a search result is looked at; other fields are our own words."""


def check_patterns(patterns: Sequence[str], param: str) -> None:
    """Raise `InvalidRequest` for the first that is no pattern."""
    for index, pattern in enumerate(patterns):
        at = f"{param}[{index}]"
        if not 0 < len(pattern) <= LONGEST or "\0" in pattern:
            raise InvalidRequest(f"Parameter '{at}' must have 1 to {LONGEST} characters", param=at)
        try:
            _compiled(pattern)
        except re2.error as error:
            raise InvalidRequest(f"Parameter '{at}' is no RE2 pattern: {_reason(error)}", param=at) from error


@dataclass(frozen=True)
class Filters:
    """Compiled patterns."""

    disallowed: Sequence[Any] = ()
    approval: Sequence[Any] = ()

    @property
    def empty(self) -> bool:
        """Whether every call passes."""
        return not self.disallowed and not self.approval

    def refusal(self, arguments: Json) -> Result | None:
        """What a call with these arguments is answered instead of being done, if it is not to be done."""
        if _found(self.disallowed, arguments):
            return failed("tool_input_blocked", "The arguments contain something that this tool must not be asked")
        if arguments.get("approved") is not True and _found(self.approval, arguments):
            return failed("approval_required", "This call needs the approval of a person: `approved: true`")
        return None

    def without_disallowed(self, structured: Json) -> Json:
        """Search results without those that contain what is disallowed; `metadata.filtered` says how many."""
        results = structured.get("results")
        if not self.disallowed or not isinstance(results, list):
            return structured
        kept = [row for row in results if not self._hides(row)]
        if len(kept) == len(results):
            return structured
        filtered = {**structured, "results": kept}
        filtered["metadata"] = {**structured.get("metadata", {}), "filtered": len(results) - len(kept)}
        if "count" in structured:
            filtered["count"] = len(kept)
        if isinstance(structured.get("citations"), list):
            urls = {row.get("source_url") for row in kept if isinstance(row, dict)}
            filtered["citations"] = [each for each in structured["citations"] if each in urls]
        return filtered

    def _hides(self, row: Any) -> bool:
        return isinstance(row, dict) and _found(self.disallowed, [row.get(name) for name in SHOWN])


def compiled(disallowed: Sequence[str], approval: Sequence[str]) -> Filters:
    """The filters of patterns that have been checked."""
    return Filters([_compiled(each) for each in disallowed], [_compiled(each) for each in approval])


def _compiled(pattern: str) -> Any:
    return re2.compile(f"(?i){pattern}", _options())


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    return options


def _reason(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


def _found(patterns: Sequence[Any], value: Any) -> bool:
    return any(pattern.search(text) for text in _texts(value) for pattern in patterns)


def _texts(value: Any, *, inside: bool = False) -> Iterator[str]:
    """Every text in a value, at whatever depth. Names are text, too, but for those of arguments themselves."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            if inside:
                yield str(name)
            yield from _texts(each, inside=True)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, inside=True)
