"""OpenAI-compatible upstreams: OpenAI, vLLM, llama.cpp, Ollama, LM Studio, OpenRouter, Groq, ... and ourselves."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import orjson

from services.llm.providers.failures import LARGEST_ERROR, described_failure, embedded_failure, retry_after
from services.llm.providers.http1 import Client, Response
from services.llm.providers.provider import Json
from services.llm.providers.sse import Events
from services.runtime.errors import ApiError, UpstreamFailed

DONE = b"[DONE]"


class OpenAIProvider:
    """A `Provider` that passes bodies on as they are; unknown parameters included."""

    def __init__(
        self,
        client: Client,
        *,
        name: str,
        base_url: str,
        api_key: str = "",
        headers: dict[str, str] | None = None,
        stream_usage: bool = True,
    ) -> None:
        self._client = client
        self._name = name
        self._base_url = base_url.rstrip("/")
        self._stream_usage = stream_usage
        self._headers = {"content-type": "application/json", "accept": "application/json", **(headers or {})}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"

    async def chat(self, body: Json, *, deadline: float) -> Json:
        return await self._post("/chat/completions", body, deadline)

    def stream_chat(self, body: Json, *, deadline: float) -> AsyncGenerator[list[bytes], None]:
        return self._stream("/chat/completions", body, deadline)

    async def complete(self, body: Json, *, deadline: float) -> Json:
        return await self._post("/completions", body, deadline)

    def stream_complete(self, body: Json, *, deadline: float) -> AsyncGenerator[list[bytes], None]:
        return self._stream("/completions", body, deadline)

    async def embed(self, body: Json, *, deadline: float) -> Json:
        return await self._post("/embeddings", body, deadline)

    async def list_models(self, *, deadline: float) -> list[Json]:
        async with self._client.get(f"{self._base_url}/models", self._headers, deadline=deadline) as response:
            rows = (await self._object(response)).get("data")
        if not isinstance(rows, list):
            raise UpstreamFailed(f"Provider '{self._name}' has no model list")
        return [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]

    async def _post(self, path: str, body: Json, deadline: float) -> Json:
        content = orjson.dumps({**body, "stream": False} if body.get("stream") else body)
        async with self._client.post(self._base_url + path, self._headers, content, deadline=deadline) as response:
            return await self._object(response)

    async def _object(self, response: Response) -> Json:
        """The JSON object of an answer. An error page, an error inside a 200 and an empty body are all errors."""
        if response.status != 200:
            raise await self._refusal(response)
        try:
            answer = orjson.loads(await response.read())
        except orjson.JSONDecodeError as error:
            raise UpstreamFailed(f"Provider '{self._name}' answered with something that is not JSON") from error
        if not isinstance(answer, dict):
            raise UpstreamFailed(f"Provider '{self._name}' answered with something that is not an object")
        if answer.get("error"):
            raise embedded_failure(self._name, answer["error"])
        return answer

    async def _stream(self, path: str, body: Json, deadline: float) -> AsyncGenerator[list[bytes], None]:
        body = {**body, "stream": True}
        if self._stream_usage:
            body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        url, content = self._base_url + path, orjson.dumps(body)
        async with self._client.post(url, self._headers, content, deadline=deadline) as response:
            if response.status != 200:
                raise await self._refusal(response)
            if "event-stream" not in response.headers.get("content-type", "event-stream").lower():
                await self._object(response)
                raise UpstreamFailed(f"Provider '{self._name}' answered a streamed request without a stream")
            events = Events()
            async for data in response.chunks():
                payloads = self._split(events, data)
                if DONE in payloads:
                    response.drain()
                    if last := payloads[: payloads.index(DONE)]:
                        yield last
                    return
                # Silence, and comments that keep a connection alive, are passed on as an empty batch.
                if payloads or not data or not events.begun:
                    yield payloads
            if last := [payload for payload in events.finish() if payload != DONE]:
                yield last

    def _split(self, events: Events, data: bytes) -> list[bytes]:
        try:
            return events.feed(data)
        except ValueError as error:
            raise UpstreamFailed(f"Provider '{self._name}' sent an event that is too large") from error

    async def _refusal(self, response: Response) -> ApiError:
        """What an answer other than 200 means to our caller."""
        body = b""
        try:
            body = await response.read(LARGEST_ERROR)
            answer = orjson.loads(body)
        except (ApiError, orjson.JSONDecodeError):
            answer = None
        details = answer.get("error", answer) if isinstance(answer, dict) else None
        return described_failure(self._name, response.status, details, retry_after(response.headers))
