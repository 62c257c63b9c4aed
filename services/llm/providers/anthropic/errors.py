"""What Anthropic's failures mean to our callers.

A fault of the request keeps the upstream's own words; a fault of the installation (its key, its bill, its model list)
says which provider failed and leaves the details to the log, as the error's cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from services.llm.providers.provider import Json
from services.runtime.errors import (
    ApiError,
    InvalidRequest,
    RateLimited,
    TooLarge,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)

# The status that goes with an error type, for errors in a stream that already answered 200.
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_LONGEST_MESSAGE = 1000
_TOO_LONG = ("prompt is too long", "exceed context limit", "exceeds the context window")


class UpstreamAnswer(Exception):
    """The upstream's own words, kept as the cause of the error that callers see."""


def status_error(status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> ApiError:
    """The error for an HTTP answer other than 200. `headers` have lower-case names."""
    return _error(status, _details(body), retry_after=_seconds(headers.get("retry-after")), provider=provider)


def event_error(event: Json, *, provider: str) -> ApiError:
    """The error for an `error` event, or for an error body under status 200."""
    details = event.get("error")
    details = details if isinstance(details, dict) else {}
    return _error(_STATUSES.get(str(details.get("type")), 500), details, retry_after=None, provider=provider)


def _error(status: int, details: Json, *, retry_after: float | None, provider: str) -> ApiError:
    message = str(details.get("message") or f"Provider '{provider}' refused the request")[:_LONGEST_MESSAGE]
    error = _translated(status, message, retry_after, provider)
    error.__cause__ = UpstreamAnswer(f"{provider}: {status} {details.get('type')}: {message}")
    return error


def _translated(status: int, message: str, retry_after: float | None, provider: str) -> ApiError:
    if status in (400, 422) and "credit balance is too low" not in message:
        if any(words in message for words in _TOO_LONG):
            return InvalidRequest(message, code="context_length_exceeded", param="messages")
        return InvalidRequest(message)
    if status == 413:
        return TooLarge(message)
    if status == 429:
        message = f"Provider '{provider}' limits the rate of requests; try again later"
        return RateLimited(message, code="upstream_rate_limited", retry_after=retry_after or 1)
    if status in (503, 529):
        return Unavailable(f"Provider '{provider}' is overloaded; try again shortly", retry_after=retry_after or 1)
    if status in (408, 504):
        return UpstreamTimeout(f"Provider '{provider}' did not answer in time")
    if status == 404:
        return UpstreamFailed(f"Provider '{provider}' does not serve this model")
    if status < 500:
        return UpstreamFailed(f"Provider '{provider}' refused this installation's request")
    return UpstreamFailed(f"Provider '{provider}' failed with status {status}")


def _details(body: bytes) -> Json:
    """The error object of a body, or nothing: a proxy in between may answer in HTML."""
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    error = parsed.get("error") if isinstance(parsed, dict) else None
    return error if isinstance(error, dict) else {}


def _seconds(retry_after: str | None) -> float | None:
    """`retry-after` in seconds; Anthropic sends no dates."""
    try:
        return max(0.0, float(retry_after or ""))
    except ValueError:
        return None
