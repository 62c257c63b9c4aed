"""What the gateway itself refuses, and in which words: rows for Envoy's local replies. Each is told in three ways, as
the envelope of REST, as a gRPC status with details, and in Connect's JSON.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from grpc import StatusCode

from services.runtime.errors import (
    ApiError,
    Internal,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    RequestTimeout,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UpstreamTimeout,
)
from services.runtime.statuses import status

_JWT = "jwt_authn_access_denied"


@dataclass(frozen=True)
class Refusal:
    """When Envoy refuses, as a CEL expression, and what that means."""

    when: str
    error: ApiError
    message: str = ""
    """The words for REST, with Envoy's substitutions, when they say more than those of `error`."""
    grpc: StatusCode | None = None
    """The gRPC code, when it is not that of `error`."""

    def row(self) -> dict[str, Any]:
        """The columns of a row of `local_reply_config`."""
        code = self.grpc or self.error.kind.grpc
        return {
            "when": self.when,
            "status": str(self.error.kind.http),
            "type": self.error.kind.type,
            "code": self.error.code,
            "message": self.message or self.error.message,
            "words": self.error.message,
            "connect": code.name.lower(),
            "grpc_status": str(code.value[0]),
            "details": details(self.error, code),
        }


def refusals(max_body_bytes: int) -> list[dict[str, Any]]:
    """The rows, in their order: the first one that holds counts."""
    too_large = TooLarge(f"The request body is larger than {max_body_bytes} bytes.")
    unavailable = Unavailable("The server is temporarily unavailable. Try again.", retry_after=None)
    no_keys = Unavailable("The signing keys are not available. Try again.", retry_after=None)
    expired = Unauthenticated("The access token has expired. Refresh it and try again.", code="token_expired")
    missing = Unauthenticated("A credential is needed: send 'Authorization: Bearer <token>'.")
    twice = Unauthenticated("The request carries more than one credential of a kind.", code="conflicting_credentials")
    no_route = NotFound("There is no such method.", code="route_not_found")
    unknown_url = "Unknown request URL: %REQ(X-ENVOY-ORIGINAL-METHOD?:METHOD)% %PATH(NQ:ORIG_OR_PATH)%"
    table = (
        Refusal(_details_are("Jwt_is_expired"), expired),
        Refusal(_details_are("Jwt_is_missing"), missing),
        Refusal(_details_are("Jwks_remote_fetch_is_failed"), no_keys),
        Refusal(f"response.code_details.startsWith('{_JWT}')", Unauthenticated("The credential is not valid.")),
        Refusal("response.code == 401", twice),  # the route for two of a kind; nothing else is left
        Refusal("response.code == 413", too_large),
        Refusal("response.code_details == 'upgrade_failed'", InvalidRequest("This path cannot be upgraded.")),
        Refusal("response.code == 404", no_route, unknown_url, StatusCode.UNIMPLEMENTED),
        Refusal("response.code == 408", RequestTimeout("The request was not received in time.")),
        Refusal("response.code == 429", _too_many()),
        Refusal("response.code == 504", UpstreamTimeout("The server did not answer in time.")),
        Refusal("response.code == 502 || response.code == 503", unavailable),
        Refusal("response.code >= 500", Internal("Internal error.")),
        Refusal("response.code >= 400", InvalidRequest("The HTTP request is malformed.")),
    )
    return [each.row() for each in table]


def denials() -> list[dict[str, Any]]:
    """Rows for what the auth room refuses when it is asked about an API key. It has found the words already."""
    kinds = (Unauthenticated.kind, PermissionDenied.kind, RateLimited.kind, Unavailable.kind, Internal.kind)
    return [
        {
            "when": f"response.code_details == 'ext_authz_denied' && response.code == {kind.http}",
            "status": str(kind.http),
            "connect": kind.grpc.name.lower(),
        }
        for kind in kinds
    ]


def details(error: ApiError, code: StatusCode) -> str:
    """`grpc-status-details-bin` of `error` as it is on the wire. Made before any request, it names no request id."""
    found = status(error, "")
    found.code = code.value[0]
    return base64.b64encode(found.SerializeToString()).decode().rstrip("=")


def retry_details() -> list[str]:
    """`details` of a caller who came too often and may come again in 1, 2, … 60 seconds."""
    return [details(_too_many(seconds), StatusCode.RESOURCE_EXHAUSTED) for seconds in range(1, 61)]


def too_large_details() -> str:
    """`details` of a request message above the limit, which gRPC refuses by itself and without any."""
    return details(TooLarge("The message is too large."), TooLarge.kind.grpc)


def _too_many(retry_after: float | None = None) -> RateLimited:
    return RateLimited("Too many requests.", retry_after=retry_after)


def _details_are(reason: str) -> str:
    return f"response.code_details == '{_JWT}{{{reason}}}'"
