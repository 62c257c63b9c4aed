"""Authorization: what the gateway asks about a request with an API key (Envoy's external authorization).

It does not stand behind the door, for the gateway calls it in its own name. What the door is to a call, `Check` is to
the request it is asked about: here an error becomes the answer that the client gets.
"""

from __future__ import annotations

import base64
import json
import logging
import math
from typing import Any

import grpc
from jan.auth.v1 import gateway_pb2

from services.auth.exchange import Exchange, Passed
from services.runtime.door import CLIENT
from services.runtime.errors import ApiError, Internal
from services.runtime.metrics import Metrics
from services.runtime.statuses import message, status

SERVICE = "envoy.service.auth.v3.Authorization"
NATIVE = "application/grpc"
AUTHENTICATED = ("insufficient_quota",)
"""Codes of refusals whose key was good; the answer says so (CONTRACT 1.3)."""
_OVERWRITE = 2  # HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD

Context = grpc.aio.ServicerContext[Any, Any]
log = logging.getLogger(__name__)


class GatewayServicer:
    """Answers for every request that carries an API key."""

    def __init__(self, exchange: Exchange, metrics: Metrics) -> None:
        self._exchange = exchange
        self._metrics = metrics

    async def Check(self, request: gateway_pb2.CheckRequest, context: Context) -> gateway_pb2.CheckResponse:
        """Whether the request may pass and with which token, or what to answer instead."""
        attributes = request.attributes
        headers = attributes.request.http.headers
        # Behind a proxy the source is that proxy; the gateway knows better.
        client = headers.get(CLIENT) or attributes.source.address.socket_address.address
        try:
            passed = await self._exchange.authorize(
                headers.get("authorization", ""), headers.get("x-api-key", ""), client
            )
        except ApiError as error:
            self._metrics.exchange(error.code)
            return _denied(error, headers)
        except Exception:
            log.exception("unexpected error", extra={"request_id": headers.get("x-request-id", "")})
            self._metrics.exchange("server_error")
            return _denied(Internal("The server failed to check the API key; its log has the cause"), headers)
        self._metrics.exchange("asked" if passed.asked else "remembered")
        return _allowed(passed)


def add_authorization(servicer: GatewayServicer, server: grpc.aio.Server) -> None:
    """Register the servicer, as generated code would."""
    check = grpc.unary_unary_rpc_method_handler(
        servicer.Check,
        request_deserializer=gateway_pb2.CheckRequest.FromString,
        response_serializer=gateway_pb2.CheckResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Check": check}),))


def _allowed(passed: Passed) -> gateway_pb2.CheckResponse:
    changed = gateway_pb2.OkHttpResponse(
        headers=_headers({"authorization": passed.authorization}), headers_to_remove=["x-api-key"]
    )
    return gateway_pb2.CheckResponse(status=gateway_pb2.CheckResponse.Status(code=0), ok_response=changed)


def _denied(error: ApiError, request: Any) -> gateway_pb2.CheckResponse:
    """The answer to a REST request as it is to be; to a native one what the gateway makes a gRPC status of."""
    code = error.kind.grpc.value[0]
    request_id = request.get("x-request-id", "")
    headers = {"retry-after": str(max(1, math.ceil(error.retry_after)))} if error.retry_after is not None else {}
    if request.get("content-type", "").startswith(NATIVE):
        details = base64.b64encode(status(error, request_id).SerializeToString()).decode().rstrip("=")
        headers |= {"x-grpc-status": str(code), "grpc-status-details-bin": details}
        body = message(error)
    else:
        headers |= {"content-type": "application/json"}
        body = json.dumps(error.envelope(request_id), separators=(",", ":"))
    if error.kind.http == 401:
        headers["www-authenticate"] = "Bearer"
    if error.code in AUTHENTICATED:
        headers["x-auth-method"] = "api_key"
    answer = gateway_pb2.DeniedHttpResponse(
        status=gateway_pb2.DeniedHttpResponse.HttpStatus(code=error.kind.http), headers=_headers(headers), body=body
    )
    return gateway_pb2.CheckResponse(status=gateway_pb2.CheckResponse.Status(code=code), denied_response=answer)


def _headers(pairs: dict[str, str]) -> list[gateway_pb2.HeaderValueOption]:
    return [
        gateway_pb2.HeaderValueOption(header=gateway_pb2.HeaderValue(key=key, value=value), append_action=_OVERWRITE)
        for key, value in pairs.items()
    ]
