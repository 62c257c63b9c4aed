"""The one door of every service: identity, validation, deadline, errors and metrics around each method.

Each method is wrapped once, when its service is mounted, so that a call costs one function around its own: an
interceptor of grpc.aio would cost a coroutine more. Servicers behind the door hold no `try`: what they raise is turned
into a status here.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from time import perf_counter
from typing import Any

import grpc
import protovalidate
from buf.validate import validate_pb2
from google.protobuf.message import DecodeError, Message

from services.runtime import call as calls
from services.runtime import ids
from services.runtime.call import Call
from services.runtime.errors import ApiError, Internal, InvalidRequest
from services.runtime.metrics import Metrics
from services.runtime.policy import Policy
from services.runtime.statuses import message, trailers

# The gateway keeps the path of a REST request here when it makes a gRPC call of it.
TRANSCODED = "x-envoy-original-path"
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

Behaviour = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]
log = logging.getLogger(__name__)


class Door:
    """Lets calls in and errors out. `longest` bounds calls whose client set no deadline, in seconds."""

    def __init__(self, policy: Policy, metrics: Metrics, *, longest: float) -> None:
        self._policy = policy
        self._metrics = metrics
        self._longest = longest

    def mount(self, server: grpc.aio.Server, add: Callable[[Any, Any], None], servicer: object) -> None:
        """Register `servicer` by its generated `add_…Servicer_to_server`, with every method behind the door."""
        add(servicer, _Registrar(server, self._wrap))

    def _wrap(self, method: str, handler: Any) -> Any:
        make, behaviour = {
            (False, False): (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
            (False, True): (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
            (True, False): (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
            (True, True): (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
        }[handler.request_streaming, handler.response_streaming]
        if handler.request_streaming:
            guarded = self._guard(method, _awaitable(behaviour), decode=None)
            return make(guarded, handler.request_deserializer, handler.response_serializer)
        if handler.response_streaming and not inspect.isasyncgenfunction(behaviour):
            # A REST face (httpbody.py): it writes bytes and returns the last message, which as the answer of a "unary"
            # method leaves together with the status. On the wire it is the stream that proto/ says it is.
            make = grpc.unary_unary_rpc_method_handler
        # For bytes that are no message the library would answer with a Python error, and before asking who calls.
        guarded = self._guard(method, _awaitable(behaviour), decode=handler.request_deserializer)
        return make(guarded, None, handler.response_serializer)

    def _guard(self, method: str, behaviour: Behaviour, *, decode: Callable[[bytes], Any] | None) -> Behaviour:
        admit, longest, observe = self._policy.admit, self._longest, self._metrics.call
        loop = asyncio.get_running_loop()

        async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            started, now = perf_counter(), loop.time()  # the loop's clock counts whole milliseconds
            metadata = dict(context.invocation_metadata() or ())
            request_id = _request_id(metadata.get("x-request-id"))
            rest = TRANSCODED in metadata
            outcome, auth = "OK", "none"
            try:
                caller = admit(method, str(metadata.get("authorization", "")))
                if caller is not None:
                    auth = caller.auth_method
                left = context.time_remaining()
                deadline = now + (longest if left is None else min(left, longest))
                calls.enter(Call(request_id, deadline, caller))
                if decode is not None:
                    request = _decoded(decode, request)
                    validate(request)
                return await behaviour(request, context)
            except ApiError as error:
                outcome = error.kind.grpc.name
                _log_fault(error, method, request_id)
                await context.abort(error.kind.grpc, message(error), trailers(error, request_id, rest=rest))
            except (asyncio.CancelledError, grpc.aio.AbortError):
                outcome = "CANCELLED"
                raise
            except Exception:
                outcome = "INTERNAL"
                log.exception("unexpected error", extra={"method": method, "request_id": request_id})
                hidden = Internal("The server failed to handle this request; its log has the cause under this id")
                await context.abort(hidden.kind.grpc, hidden.message, trailers(hidden, request_id, rest=rest))
            finally:
                observe(method, outcome, auth, perf_counter() - started)

        return guarded


class _Registrar:
    """What the generated code takes for a server: it hands every method to the door on the way."""

    def __init__(self, server: grpc.aio.Server, wrap: Callable[[str, Any], Any]) -> None:
        self._server = server
        self._wrap = wrap

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """The same methods come by name, below."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        wrapped = {name: self._wrap(f"/{service}/{name}", handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))


def _decoded(decode: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return decode(data)
    except DecodeError as error:
        raise InvalidRequest("The request is not a message of the type that this method takes") from error


def _awaitable(behaviour: Callable[..., Any]) -> Behaviour:
    """A method as a coroutine that writes; a generator that is left early is closed at once, not when collected."""
    if not inspect.isasyncgenfunction(behaviour):
        return behaviour

    async def write_all(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        async with aclosing(behaviour(request, context)) as messages:
            async for each in messages:
                await context.write(each)

    return write_all


def validate(request: Message) -> None:
    """Check the rules that `proto/` states (`buf.validate`). Raises `InvalidRequest` naming the first wrong field."""
    if not _has_rules(request.DESCRIPTOR):
        return
    violations = protovalidate.collect_violations(request)
    if violations:
        first = violations[0].proto
        path = ".".join(_element(each) for each in (first.field.elements if first.field else ()))
        raise InvalidRequest(f"Parameter '{path}' {first.message}" if path else first.message, param=path or None)


# Their generated types are too narrow for `HasExtension`.
MESSAGE_RULES: Any = validate_pb2.message
ONEOF_RULES: Any = validate_pb2.oneof
FIELD_RULES: Any = validate_pb2.field
_rules: dict[str, bool] = {}


def _has_rules(message: Any) -> bool:
    """Whether the message or one inside it carries a rule; found out once per type, most have none."""
    known = _rules.get(message.full_name)
    if known is None:
        known = _rules[message.full_name] = any(_states_rules(each) for each in _inside(message))
    return known


def _inside(message: Any) -> list[Any]:
    """The message type and all types that it is made of."""
    found, names = [message], {message.full_name}
    for each in found:
        for field in each.fields:
            if field.message_type is not None and field.message_type.full_name not in names:
                names.add(field.message_type.full_name)
                found.append(field.message_type)
    return found


def _states_rules(message: Any) -> bool:
    return (
        message.GetOptions().HasExtension(MESSAGE_RULES)
        or any(oneof.GetOptions().HasExtension(ONEOF_RULES) for oneof in message.oneofs)
        or any(field.GetOptions().HasExtension(FIELD_RULES) for field in message.fields)
    )


def _element(element: Any) -> str:
    """One step of a field's path, as JSON's readers write it: `messages[0]`, `metadata[key]`."""
    return f"{element.field_name}[{element.subscript.value}]" if element.subscript else str(element.field_name)


def _request_id(given: str | bytes | None) -> str:
    if isinstance(given, str) and REQUEST_ID.fullmatch(given):
        return given
    return ids.new_id("req")


def _log_fault(error: ApiError, method: str, request_id: str) -> None:
    """Only faults of the server's side are worth a line besides the gateway's access log."""
    if error.kind.http >= 500:
        fields = {"method": method, "request_id": request_id, "code": error.code, "reason": error.message}
        if error.__cause__ is not None:
            fields["cause"] = repr(error.__cause__)[:500]
        log.warning("request failed", extra=fields)
