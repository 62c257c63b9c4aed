"""An interpreter in a sandbox: what `host.py` keeps one of for each session."""

from __future__ import annotations

from threading import Event
from typing import Protocol

from services.mcp.sandbox.engine import Ran


class CannotStart(Exception):
    """A sandbox does not work here; says why."""


class Interpreter(Protocol):
    """Keeps variables and files from one program to the next. Its methods block, and are called one at a time."""

    @property
    def alive(self) -> bool:
        """Whether it can run another program."""
        ...

    def run(self, code: str, *, seconds: float, cancelled: Event) -> Ran:
        """Run a program, until `seconds` have passed or `cancelled` is set; either may end the interpreter."""
        ...

    def close(self) -> None:
        """End it, and whatever runs in it, at once."""
        ...
