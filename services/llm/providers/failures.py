"""What an upstream's HTTP failure means to our caller (CONTRACT 2.2), the same for every kind of provider.

A fault of the request keeps the upstream's own words. A fault of the installation (its key, its bill, its model list)
says which provider failed and no more: that is not the caller's business.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from services.runtime.errors import (
    ApiError,
    InvalidRequest,
    RateLimited,
    TooLarge,
    Unavailable,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)

LARGEST_ERROR = 64 * 1024
"""Bytes of an error answer that are read."""
LONGEST_MESSAGE = 1000
_NUMBER = re.compile(r"\d{1,9}(\.\d+)?")


def failure(
    name: str,
    status: int,
    *,
    message: Any = None,
    code: str | None = None,
    param: str | None = None,
    wait: float | None = None,
) -> ApiError:
    """The error for `status` of provider `name`. `message`, `code` and `param` are the upstream's, for what the caller
    sent; `wait` is its `Retry-After` in seconds."""
    words = message[:LONGEST_MESSAGE] if isinstance(message, str) else ""
    if status in (400, 422):
        return InvalidRequest(words or f"Provider '{name}' refused the request", code=code, param=param)
    if status == 413:
        return TooLarge(words or f"Provider '{name}' refused the request as too large")
    if status == 429:
        return RateLimited(f"Provider '{name}' is rate limited", code="upstream_rate_limited", retry_after=wait or 1)
    if status in (408, 504):
        return UpstreamTimeout(f"Provider '{name}' did not answer in time")
    if status in (503, 529):
        return Unavailable(f"Provider '{name}' is overloaded or down", retry_after=wait or 1)
    if status == 404:
        return UpstreamRefused(f"Provider '{name}' does not serve this model")
    if status in (401, 402, 403):
        return UpstreamRefused(f"Provider '{name}' refused the server's credentials")
    return UpstreamFailed(f"Provider '{name}' answered with status {status}")


def described_failure(name: str, status: int, details: Any, wait: float | None = None) -> ApiError:
    """As `failure`, from OpenAI's error object, or from whatever stands in its place."""
    fields = details if isinstance(details, dict) else {"message": details}
    param, too_long = fields.get("param"), fields.get("code") == "context_length_exceeded"
    return failure(
        name,
        status,
        message=fields.get("message"),
        code="context_length_exceeded" if too_long else None,
        param=param if isinstance(param, str) else None,
        wait=wait,
    )


def embedded_failure(name: str, details: Any) -> ApiError:
    """The error for an error object inside a 200 or a stream."""
    code = details.get("code") or details.get("status") if isinstance(details, dict) else None
    if isinstance(code, str) and code.isdigit():
        code = int(code)
    if isinstance(code, int) and 400 <= code < 600:
        return described_failure(name, code, details)
    message = details.get("message") if isinstance(details, dict) else details
    if isinstance(message, str) and message:
        return UpstreamFailed(f"Provider '{name}' failed: {message[:LONGEST_MESSAGE]}")
    return UpstreamFailed(f"Provider '{name}' failed")


def retry_after(headers: Mapping[str, str]) -> float | None:
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
