"""What the search needs of an embedding model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Embedded:
    """Vectors, in the order of the texts, and the tokens that were read for them."""

    vectors: list[list[float]]
    token_count: int


class Embeddings(Protocol):
    """Makes vectors that are alike where texts mean the same."""

    @property
    def model(self) -> str:
        """Which model makes them: those of different models cannot be compared."""
        ...

    async def embed(self, texts: Sequence[str], *, token: str) -> Embedded:
        """A vector for every text, in the name of whoever `token` acts for. Raises `ApiError`."""
        ...
