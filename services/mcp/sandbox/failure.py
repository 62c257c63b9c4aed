"""What ended a program, in a line: found in what Python wrote about it."""

from __future__ import annotations

import re

_LONGEST = 300  # characters
_NO_MEMORY_LEFT = "object type name: MemoryError"  # what the interpreter says that has too little even for a traceback
_LAST = 500  # characters, at the end, where it says so
_TYPE_AND_MESSAGE = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?::.*)?")


def out_of_time(seconds: float) -> str:
    """What is said of a program that was stopped."""
    return f"TimeLimitExceeded: stopped after {round(seconds, 1):g} seconds"


def raised(status: int | None, stderr: str) -> str | None:
    """Type and message of the exception that ended a program with this exit status; None for one that ended well."""
    if status == 0:
        return None
    if _NO_MEMORY_LEFT in stderr[-_LAST:]:
        return "MemoryError"
    if "Traceback (most recent call last)" in stderr or "SyntaxError" in stderr or "IndentationError" in stderr:
        for line in reversed(stderr.splitlines()):
            if _TYPE_AND_MESSAGE.fullmatch(line):
                return line[:_LONGEST]
    return f"SystemExit: {status}"
