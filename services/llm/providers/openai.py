"""OpenAI-compatible upstreams: OpenAI, vLLM, llama.cpp, Ollama, LM Studio, OpenRouter, Groq, ... and ourselves."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from services.llm.providers.http1 import Client, Response
from services.llm.providers.provider import Json
from services.llm.providers.sse import Events
from services.runtime.errors import (
    ApiError,
    InvalidRequest,
    RateLimited,
    TooLarge,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)

LARGEST_ERROR = 64 * 1024
LONGEST_MESSAGE = 1000
DONE = b"[DONE]"
_NUMBER = re.compile(r"\d{1,9}(\.\d+)?")


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
            raise embedded_error(self._name, answer["error"])
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
        return refusal(self._name, response.status, details, retry_after(response.headers))


def refusal(name: str, status: int, details: Any, wait: float | None) -> ApiError:
    """The error for an upstream's HTTP `status` (CONTRACT 2.2); its own words only for what the caller sent."""
    if status in (400, 422):
        fields = details if isinstance(details, dict) else {"message": details}
        message, param, code = (fields.get(key) for key in ("message", "param", "code"))
        return InvalidRequest(
            _text(message) or f"Provider '{name}' refused the request",
            param=param if isinstance(param, str) else None,
            code="context_length_exceeded" if code == "context_length_exceeded" else None,
        )
    if status == 413:
        return TooLarge(f"Provider '{name}' refused the request as too large")
    if status == 429:
        return RateLimited(f"Provider '{name}' is rate limited", code="upstream_rate_limited", retry_after=wait or 1)
    if status in (401, 403):
        return UpstreamFailed(f"Provider '{name}' refused the server's credentials")
    if status in (408, 504):
        return UpstreamTimeout(f"Provider '{name}' did not answer in time")
    if status in (503, 529):
        return Unavailable(f"Provider '{name}' is overloaded or down", retry_after=wait or 1)
    return UpstreamFailed(f"Provider '{name}' answered with status {status}")


def embedded_error(name: str, details: Any) -> ApiError:
    """The error for an error object inside a 200 or a stream."""
    code = details.get("code") or details.get("status") if isinstance(details, dict) else None
    if isinstance(code, str) and code.isdigit():
        code = int(code)
    if isinstance(code, int) and 400 <= code < 600:
        return refusal(name, code, details, None)
    message = _text(details.get("message") if isinstance(details, dict) else details)
    return UpstreamFailed(f"Provider '{name}' failed: {message}" if message else f"Provider '{name}' failed")


def retry_after(headers: dict[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `retry-after` (RFC 9110, 10.2.3: a number or a date)."""
    milliseconds, value = headers.get("retry-after-ms", ""), headers.get("retry-after", "")
    if _NUMBER.fullmatch(milliseconds):
        return float(milliseconds) / 1000
    if _NUMBER.fullmatch(value):
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, until.timestamp() - time.time())


def _text(value: Any) -> str:
    return value[:LONGEST_MESSAGE] if isinstance(value, str) else ""
