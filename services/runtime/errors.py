"""The errors a caller can meet, each raised as what happened and rendered once, at the door.

An `ApiError` knows its HTTP status, its gRPC code and the `type` and `code` of OpenAI's error envelope (CONTRACT 2.2).
Engines and stores raise the subclasses below; `door.py` turns them into a gRPC status with
`google.rpc.ErrorInfo`, `httpbody.write_events` into the last event of a broken stream.

    ApiError
    ├── InvalidRequest     400      ├── Conflict            409
    ├── Unauthenticated    401      │   └── AlreadyExists
    ├── PermissionDenied   403      ├── TooLarge            413
    ├── NotFound           404      ├── RateLimited         429
    ├── MethodNotAllowed   405      ├── Internal            500
    ├── RequestTimeout     408      ├── NotImplementedYet   501
    ├── Gone               410      ├── UpstreamFailed      502
    ├── NotSatisfiable     416      │   └── UpstreamRefused
    │                               ├── Unavailable         503
    │                               └── UpstreamTimeout     504
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from grpc import StatusCode


class Kind(NamedTuple):
    """A row of CONTRACT 2.2: what every error of one class has in common."""

    http: int
    grpc: StatusCode
    type: str
    code: str


class ApiError(Exception):
    """An error whose message is written for the caller; the private cause belongs in `__cause__` and the log."""

    kind: ClassVar[Kind] = Kind(500, StatusCode.INTERNAL, "internal_error", "server_error")
    headers: tuple[tuple[str, str], ...] = ()
    """What the answer to a REST client says besides, names in lower case."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.kind.code
        self.param = param
        self.retry_after = retry_after

    def envelope(self, request_id: str) -> dict[str, Any]:
        """The only error body there is (CONTRACT 2.1), as a JSON-ready dict."""
        return {
            "error": {
                "type": self.kind.type,
                "code": self.code,
                "message": self.message,
                "param": self.param,
                "request_id": request_id,
            }
        }


class InvalidRequest(ApiError):
    """The request can never succeed as sent; `param` is the dotted path of the field to blame."""

    kind = Kind(400, StatusCode.INVALID_ARGUMENT, "invalid_request_error", "invalid_parameter")


class Unauthenticated(ApiError):
    """No credential, or one that is not valid (any more)."""

    kind = Kind(401, StatusCode.UNAUTHENTICATED, "auth_error", "unauthorized")


class PermissionDenied(ApiError):
    """A valid credential that may not do this."""

    kind = Kind(403, StatusCode.PERMISSION_DENIED, "permission_error", "forbidden")


class NotFound(ApiError):
    """Absent, or not the caller's: the two are never told apart."""

    kind = Kind(404, StatusCode.NOT_FOUND, "not_found_error", "not_found")


class MethodNotAllowed(ApiError):
    """A path that exists, with a method it refuses on purpose."""

    kind = Kind(405, StatusCode.UNIMPLEMENTED, "invalid_request_error", "method_not_allowed")


class RequestTimeout(ApiError):
    """The caller's own deadline passed, or it sent its request too slowly."""

    kind = Kind(408, StatusCode.DEADLINE_EXCEEDED, "timeout_error", "request_timeout")


class Conflict(ApiError):
    """The state of the resource forbids this now."""

    kind = Kind(409, StatusCode.ABORTED, "conflict_error", "conflict")


class AlreadyExists(Conflict):
    """What is to be made, or a name that it wants, is there already."""

    kind = Kind(409, StatusCode.ALREADY_EXISTS, "conflict_error", "conflict")


class Gone(ApiError):
    """What was public under this address until its owner, or its time, ended that."""

    kind = Kind(410, StatusCode.NOT_FOUND, "not_found_error", "share_revoked")


class TooLarge(ApiError):
    """A body or an object above its limit; the message names the limit."""

    kind = Kind(413, StatusCode.OUT_OF_RANGE, "size_error", "max_size_exceeded")


class NotSatisfiable(ApiError):
    """The part that was asked for lies behind the end of a file of `size` bytes (RFC 9110, 15.5.17)."""

    kind = Kind(416, StatusCode.OUT_OF_RANGE, "invalid_request_error", "range_not_satisfiable")

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has {size} bytes; 'Range' asks for what lies behind its end")
        self.headers = (("content-range", f"bytes */{size}"),)


class RateLimited(ApiError):
    """A limit of ours or of the upstream; `retry_after` says in seconds when to try again."""

    kind = Kind(429, StatusCode.RESOURCE_EXHAUSTED, "rate_limit_error", "rate_limit_exceeded")


class Internal(ApiError):
    """A fault of ours. Its message says nothing about the cause."""


class NotImplementedYet(ApiError):
    """A documented feature that this installation does not have or has not configured."""

    kind = Kind(501, StatusCode.UNIMPLEMENTED, "not_implemented_error", "not_implemented")


class UpstreamFailed(ApiError):
    """A provider answered wrongly, or broke off."""

    kind = Kind(502, StatusCode.UNAVAILABLE, "upstream_error", "upstream_error")


class UpstreamRefused(UpstreamFailed):
    """A provider that does not do this for us (our key, its model list): another may, the same one will not."""


class Unavailable(ApiError):
    """Something this request needs is down now; it is safe to repeat."""

    kind = Kind(503, StatusCode.UNAVAILABLE, "upstream_error", "service_unavailable")

    def __init__(
        self, message: str, *, code: str | None = None, param: str | None = None, retry_after: float | None = 1
    ) -> None:
        super().__init__(message, code=code, param=param, retry_after=retry_after)


class UpstreamTimeout(ApiError):
    """A provider did not answer within its deadline."""

    kind = Kind(504, StatusCode.DEADLINE_EXCEEDED, "timeout_error", "upstream_timeout")
