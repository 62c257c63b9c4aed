"""What Anthropic's failures mean to our callers.

A fault of the request keeps the upstream's own words; a fault of the installation (its key, its bill, its model list)
says which provider failed and leaves the details to the log, as the error's cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from services.llm.providers.failures import LONGEST_MESSAGE, failure, retry_after
from services.llm.providers.provider import Json
from services.runtime.errors import ApiError

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
_TOO_LONG = ("prompt is too long", "exceed context limit", "exceeds the context window")


class UpstreamAnswer(Exception):
    """The upstream's own words, kept as the cause of the error that callers see."""


def status_error(status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> ApiError:
    """The error for an HTTP answer other than 200. `headers` have lower-case names."""
    return _error(status, _details(body), wait=retry_after(headers), provider=provider)


def event_error(event: Json, *, provider: str) -> ApiError:
    """The error for an `error` event, or for an error body under status 200."""
    details = event.get("error")
    details = details if isinstance(details, dict) else {}
    return _error(_STATUSES.get(str(details.get("type")), 500), details, wait=None, provider=provider)


def _error(status: int, details: Json, *, wait: float | None, provider: str) -> ApiError:
    message = str(details.get("message") or f"Provider '{provider}' refused the request")[:LONGEST_MESSAGE]
    error = _translated(status, message, wait, provider)
    error.__cause__ = UpstreamAnswer(f"{provider}: {status} {details.get('type')}: {message}")
    return error


def _translated(status: int, message: str, wait: float | None, provider: str) -> ApiError:
    if status == 400 and "credit balance is too low" in message:
        status = 402
    too_long = status in (400, 422) and any(words in message for words in _TOO_LONG)
    return failure(
        provider,
        status,
        message=message,
        code="context_length_exceeded" if too_long else None,
        param="messages" if too_long else None,
        wait=wait,
    )


def _details(body: bytes) -> Json:
    """The error object of a body, or nothing: a proxy in between may answer in HTML."""
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    error = parsed.get("error") if isinstance(parsed, dict) else None
    return error if isinstance(error, dict) else {}
