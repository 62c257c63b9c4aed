"""What the engine asks of a model provider.

OpenAI's JSON is the language of the house: requests go in as parsed OpenAI bodies, answers come out as OpenAI
objects, and stream events as the bytes of one OpenAI chunk each. An adapter for an OpenAI-compatible upstream is
therefore almost nothing, and one for a foreign API translates at its own door.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Protocol, runtime_checkable

Json = dict[str, Any]


class Provider(Protocol):
    """A model upstream.

    Every method raises `ApiError` subclasses only: `UpstreamFailed`, `UpstreamTimeout`, `Unavailable`, `RateLimited`
    (with `retry_after`), or `InvalidRequest` when the upstream refuses the request itself. `body["model"]` is the
    upstream's own id. `deadline` is a time on the event loop's clock (`loop.time()`) by which the whole call must end.
    """

    async def chat(self, body: Json, *, deadline: float) -> Json:
        """One whole `chat.completion` object."""
        ...

    def stream_chat(self, body: Json, *, deadline: float) -> AsyncGenerator[list[bytes], None]:
        """The answer as it is made: batches of `chat.completion.chunk` objects, each as JSON bytes without SSE framing.

        A normal end of iteration means a complete answer (a `finish_reason` was seen, or the upstream said `[DONE]`).
        Anything else, also a stream that just stops, raises. Closing the generator cancels the upstream call.
        """
        ...

    async def embed(self, body: Json, *, deadline: float) -> Json:
        """One whole embeddings `list` object."""
        ...

    async def list_models(self, *, deadline: float) -> list[Json]:
        """The upstream's `/models` rows; each has at least `id`."""
        ...


def remaining(deadline: float) -> float:
    """Seconds left until `deadline`, never negative."""
    return max(0.0, deadline - asyncio.get_running_loop().time())


@runtime_checkable
class TextProvider(Provider, Protocol):
    """A provider that also has OpenAI's legacy text completions; on others the engine makes them from chats."""

    async def complete(self, body: Json, *, deadline: float) -> Json:
        """One whole `text_completion` object."""
        ...

    def stream_complete(self, body: Json, *, deadline: float) -> AsyncGenerator[list[bytes], None]:
        """As `stream_chat`, with `text_completion` objects."""
        ...
