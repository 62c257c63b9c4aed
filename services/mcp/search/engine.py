"""What the search tool asks of a search engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class EngineFailed(Exception):
    """An engine gave no results that can be used; the message is for people and names no address or key."""


@dataclass(frozen=True)
class Query:
    """A search. What an engine has no word for, it leaves out."""

    text: str
    count: int = 10
    """Results wanted, 1 to 100."""
    page: int = 1
    country: str = ""
    """ISO 3166-1 code, lower case (`gl` of Google)."""
    language: str = ""
    """ISO 639-1 code (`hl` of Google)."""
    location: str = ""
    """Place that the search is made from, in words."""
    times: str = ""
    """`tbs` of Google, such as `qdr:w` for the last week."""
    autocorrect: bool = True
    domains: Sequence[str] = ()
    """Where results may come from; none: anywhere."""

    @property
    def restricted(self) -> str:
        """The text with the domains in it, as search engines read them."""
        if not self.domains:
            return self.text
        return f"{self.text} ({' OR '.join(f'site:{domain}' for domain in self.domains)})"


@dataclass(frozen=True)
class Hit:
    """A result, as the engine gave it."""

    title: str
    url: str
    snippet: str


class Engine(Protocol):
    """A search engine."""

    name: str

    async def search(self, query: Query, *, seconds: float) -> Sequence[Hit]:
        """What it finds, best first, within that time. Raises `EngineFailed`."""
        ...
