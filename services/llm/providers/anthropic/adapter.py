"""The provider for Anthropic's Messages API: translation at the door, OpenAI's JSON inside.

The translation itself is pure and lives in the files beside this one; here is only the talking.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import orjson

from services.llm.providers.anthropic.answer import completion
from services.llm.providers.anthropic.errors import event_error, status_error
from services.llm.providers.anthropic.request import dropped, request
from services.llm.providers.anthropic.stream import StreamTranslator
from services.llm.providers.failures import LARGEST_ERROR
from services.llm.providers.http1 import Client, Response
from services.llm.providers.provider import Json
from services.llm.providers.sse import Events
from services.runtime.errors import ApiError, InvalidRequest, UpstreamFailed

_VERSION = "2023-06-01"
_MALFORMED = (KeyError, TypeError, AttributeError, ValueError)  # what reading a JSON of another shape can raise


class AnthropicProvider:
    """A `Provider` for api.anthropic.com and servers that speak its Messages API.

    `base_url` may end in `/v1` or not; `name` is how errors call this provider.
    """

    def __init__(
        self, client: Client, *, base_url: str, api_key: str, name: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._client = client
        self._url = base_url.rstrip("/").removesuffix("/v1") + "/v1"
        own = {"x-api-key": api_key, "anthropic-version": _VERSION, "content-type": "application/json"}
        self._headers = {**own, **(headers or {})}
        self._name = name

    def dropped(self, body: Json) -> list[str]:
        """Names of the parameters of an OpenAI chat body that this upstream has no counterpart for."""
        return dropped(body)

    async def chat(self, body: Json, *, deadline: float) -> Json:
        asked = orjson.dumps(request(body, stream=False))
        async with self._client.post(f"{self._url}/messages", self._headers, asked, deadline=deadline) as response:
            message = await self._json(response)
        try:
            return completion(message, created=int(time.time()))
        except _MALFORMED as error:
            raise self._unreadable() from error

    async def stream_chat(self, body: Json, *, deadline: float) -> AsyncGenerator[list[bytes], None]:
        asked = orjson.dumps(request(body, stream=True))
        translator = StreamTranslator(created=int(time.time()), provider=self._name)
        async with self._client.post(f"{self._url}/messages", self._headers, asked, deadline=deadline) as response:
            if response.status != 200 or "event-stream" not in response.headers.get("content-type", "event-stream"):
                await self._json(response)
                raise UpstreamFailed(f"Provider '{self._name}' answered a streamed request without a stream")
            events = Events()
            try:
                async for data in response.chunks():
                    chunks, failure = self._translated(translator, events.feed, data)
                    if chunks or not data:  # an empty batch marks silence, not an event without words
                        yield chunks
                    if failure is not None:
                        raise failure
                    if translator.finished:
                        response.drain()
                        return
            except ApiError:
                # A connection that breaks after the stop reason took nothing from the answer.
                if not translator.complete:
                    raise
        chunks, failure = self._translated(translator, events.finish)
        if chunks:
            yield chunks
        if failure is not None and not translator.complete:
            raise failure
        if chunks := translator.finish():
            yield chunks

    async def embed(self, body: Json, *, deadline: float) -> Json:
        raise InvalidRequest("Anthropic offers no embeddings: choose an embedding model", param="model")

    async def list_models(self, *, deadline: float) -> list[Json]:
        rows: list[Json] = []
        query = {"limit": "1000"}
        while True:
            url = f"{self._url}/models?{urlencode(query)}"
            async with self._client.get(url, self._headers, deadline=deadline) as response:
                page = await self._json(response)
            try:
                rows += [_model(row) for row in page["data"]]
            except _MALFORMED as error:
                raise self._unreadable() from error
            if not page.get("has_more") or not page.get("last_id"):
                return rows
            query["after_id"] = str(page["last_id"])

    def _translated(
        self, translator: StreamTranslator, split: Callable[..., list[bytes]], *data: bytes
    ) -> tuple[list[bytes], ApiError | None]:
        """The chunks of some events and the error that ended them: what arrived before an error still counts."""
        chunks: list[bytes] = []
        try:
            for payload in split(*data):
                chunks += translator.feed(orjson.loads(payload))
        except ApiError as error:
            return chunks, error
        except _MALFORMED as error:
            failure = self._unreadable()
            failure.__cause__ = error
            return chunks, failure
        return chunks, None

    async def _json(self, response: Response) -> Json:
        """The JSON object an answer holds; raises what an error answer means."""
        if response.status != 200:
            raise await self._refusal(response)
        try:
            parsed: Any = orjson.loads(await response.read())
        except orjson.JSONDecodeError as error:
            raise self._unreadable() from error
        if not isinstance(parsed, dict):
            raise self._unreadable()
        if parsed.get("type") == "error":
            raise event_error(parsed, provider=self._name)
        return parsed

    async def _refusal(self, response: Response) -> ApiError:
        try:
            body = await response.read(LARGEST_ERROR)
        except ApiError:
            body = b""  # the status alone says enough
        return status_error(response.status, response.headers, body, provider=self._name)

    def _unreadable(self) -> ApiError:
        return UpstreamFailed(f"Provider '{self._name}' sent an answer that cannot be read")


def _model(row: Json) -> Json:
    """A row of their model list as a row of OpenAI's, with the sizes when they are told."""
    released = row.get("created_at")
    extras = {
        "name": row.get("display_name"),
        "context_window": row.get("max_input_tokens"),
        "max_output_tokens": row.get("max_tokens"),
    }
    return {
        "id": row["id"],
        "object": "model",
        "created": int(datetime.fromisoformat(released).timestamp()) if released else 0,
        "owned_by": "anthropic",
    } | {name: value for name, value in extras.items() if value is not None}
