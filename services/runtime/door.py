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
from functools import partial
from time import perf_counter
from typing import Any

import grpc

from services.runtime import call as calls
from services.runtime import ids
from services.runtime.binding import Reader, reader
from services.runtime.call import Call
from services.runtime.errors import ApiError, Internal, RequestTimeout
from services.runtime.httpbody import Broken
from services.runtime.idempotency import Idempotency, attempt_of
from services.runtime.identity import Identity
from services.runtime.metrics import Metrics
from services.runtime.newcomers import Introduced, Newcomers
from services.runtime.pieces import Pieces
from services.runtime.policy import Policy
from services.runtime.recording import encoded
from services.runtime.statuses import Refusal, refused
from services.runtime.validation import validate

# The gateway keeps the path of a REST request here when it makes a gRPC call of it.
TRANSCODED = "x-envoy-original-path"
CLIENT = "x-edge-address"
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

Behaviour = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]
Respond = Callable[[Any, Any, Mapping[str, Any], Identity | None], Awaitable[Any]]
log = logging.getLogger(__name__)


class Door:
    """Lets calls in and errors out. `longest` bounds calls whose client set no deadline, in seconds, and `largest_body`
    bodies over REST that arrive in pieces, in bytes. Without `idempotency` keys are ignored; `newcomers` is for servers
    that believe tokens of an external provider."""

    def __init__(
        self,
        policy: Policy,
        metrics: Metrics,
        *,
        longest: float,
        largest_body: int = 32 * 1024 * 1024,
        idempotency: Idempotency | None = None,
        newcomers: Newcomers | None = None,
    ) -> None:
        self._policy = policy
        self._metrics = metrics
        self._longest = longest
        self._largest_body = largest_body
        self._idempotency = idempotency
        self._newcomers = newcomers

    def mount(self, server: grpc.aio.Server, add: Callable[[Any, Any], None], servicer: object) -> None:
        """Register `servicer` by its generated `add_…Servicer_to_server`, with every method behind the door."""
        add(servicer, _Registrar(server, self._wrap))

    async def drain(self, grace: float) -> None:
        """When the server takes no more calls: give what still runs without a client `grace` seconds."""
        if self._idempotency is not None:
            await self._idempotency.drain(grace)

    def _wrap(self, method: str, handler: Any) -> Any:
        make, behaviour = {
            (False, False): (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
            (False, True): (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
            (True, False): (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
            (True, True): (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
        }[handler.request_streaming, handler.response_streaming]
        if handler.request_streaming:
            guarded = self._guard(method, self._respond_to_stream(_awaitable(behaviour)))
            return make(guarded, handler.request_deserializer, handler.response_serializer)
        if handler.response_streaming and not inspect.isasyncgenfunction(behaviour):
            # A REST face (httpbody.py): it writes bytes and returns the last message, which as the answer of a "unary"
            # method leaves together with the status. On the wire it is the stream that proto/ says it is.
            make = grpc.unary_unary_rpc_method_handler
        # For bytes that are no message the library would answer with a Python error, and before asking who calls.
        read = reader(method, handler.request_deserializer)
        guarded = self._guard(method, self._respond(method, _awaitable(behaviour), read))
        return make(guarded, None, encoded)

    def _guard(self, method: str, respond: Respond) -> Behaviour:
        admit, longest, observe = self._policy.admit, self._longest, self._metrics.call
        newcomers = self._newcomers
        loop = asyncio.get_running_loop()

        async def guarded(request: Any, context: Any) -> Any:
            started, now = perf_counter(), loop.time()  # the loop's clock counts whole milliseconds
            metadata: dict[str, Any] = dict(context.invocation_metadata() or ())
            request_id = _request_id(metadata.get("x-request-id"))
            outcome, auth = "OK", "none"
            introduced: Introduced | None = None
            try:
                caller = admit(method, str(metadata.get("authorization", "")))
                if caller is not None:
                    auth = caller.auth_method
                left = context.time_remaining()
                deadline = now + (longest if left is None else min(left, longest))
                calls.enter(Call(request_id, deadline, caller, str(metadata.get(CLIENT, ""))))
                if newcomers is not None and caller is not None and caller.external is not None:
                    await newcomers.meet(caller)
                    context = introduced = Introduced(context, caller.user_id)
                last = await respond(request, context, metadata, caller)
                if introduced is not None:
                    await introduced.introduce()
            except (asyncio.CancelledError, grpc.aio.AbortError):
                outcome = "CANCELLED"
                raise
            except Broken as broken:
                outcome = broken.error.kind.grpc.name
                _log_fault(broken.__cause__, method, request_id)
                return broken.last
            except Exception as error:
                refusal = _refusal(error, method, request_id, rest=TRANSCODED in metadata)
                outcome = refusal.code.name
                await context.abort(refusal.code, refusal.message, refusal.trailers)
            else:
                return last
            finally:
                observe(method, outcome, auth, perf_counter() - started)

        return guarded

    def _respond_to_stream(self, behaviour: Behaviour) -> Respond:
        """What has a stream of requests answered; over REST it is a body in pieces, which is read to its end."""
        largest = self._largest_body

        async def respond(messages: Any, context: Any, metadata: Mapping[str, Any], caller: Identity | None) -> Any:
            if TRANSCODED not in metadata:
                return await behaviour(Pieces(messages, None), context)
            pieces = Pieces(messages, largest)
            try:
                answer = await behaviour(pieces, context)
            except ApiError as error:
                if not isinstance(error, RequestTimeout):
                    await pieces.skip()
                raise
            await pieces.skip()
            return answer

        return respond

    def _respond(self, method: str, behaviour: Behaviour, read: Reader) -> Respond:
        """What reads the request of a call that was let in, and has it answered: by `behaviour`, or when it has an
        idempotency key by whoever has answered it already."""
        idempotency = self._idempotency
        find_key = idempotency.finder(method) if idempotency is not None else None

        async def checked(request: Any, context: Any) -> Any:
            validate(request)
            return await behaviour(request, context)

        def respond(data: Any, context: Any, metadata: Mapping[str, Any], caller: Identity | None) -> Awaitable[Any]:
            path = metadata.get(TRANSCODED)  # over REST
            request = read(data, path)
            key = find_key(metadata, request) if find_key is not None and caller is not None else None
            if key is None or idempotency is None:
                validate(request)
                return behaviour(request, context)
            attempt = attempt_of(key, method, path, request)
            return idempotency.once(attempt, partial(checked, request), context, rest=path is not None)

        return respond


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


def _awaitable(behaviour: Callable[..., Any]) -> Behaviour:
    """A method as a coroutine that writes; a generator that is left early is closed at once, not when collected."""
    if not inspect.isasyncgenfunction(behaviour):
        return behaviour

    async def write_all(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        async with aclosing(behaviour(request, context)) as messages:
            async for each in messages:
                await context.write(each)

    return write_all


def _request_id(given: str | bytes | None) -> str:
    if isinstance(given, str) and REQUEST_ID.fullmatch(given):
        return given
    return ids.new_id("req")


def _refusal(error: Exception, method: str, request_id: str, *, rest: bool) -> Refusal:
    """What a failed call ends with. Nobody is told the cause of a fault that has no name; the log has it."""
    if isinstance(error, Refusal):
        return error
    _log_fault(error, method, request_id)
    if not isinstance(error, ApiError):
        error = Internal("The server failed to handle this request; its log has the cause under this id")
    return refused(error, request_id, rest=rest)


def _log_fault(error: BaseException | None, method: str, request_id: str) -> None:
    """Only faults of the server's side are worth a line besides the gateway's access log."""
    fields = {"method": method, "request_id": request_id}
    if not isinstance(error, ApiError):
        log.error("unexpected error", extra=fields, exc_info=error)
    elif error.kind.http >= 500:
        fields |= {"code": error.code, "reason": error.message}
        if error.__cause__ is not None:
            fields["cause"] = repr(error.__cause__)[:500]
        log.warning("request failed", extra=fields)
