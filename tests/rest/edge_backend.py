"""Stand-ins for the rooms behind the gateway: real grpc.aio servers that answer with what reached them, and the keys to
call them with. `python edge_backend.py SOCKET` runs one; it serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import edge_media
import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from google.api import annotations_pb2, http_pb2, httpbody_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from jan.auth.v1 import auth_pb2, auth_pb2_grpc
from jan.common.v1 import access_pb2, status_pb2, status_pb2_grpc
from jan.llm.v1 import chat_pb2, chat_pb2_grpc, completions_pb2, models_pb2, models_pb2_grpc

from services.auth.exchange import Passed, presented
from services.auth.gateway import GatewayServicer, add_authorization
from services.runtime import errors
from services.runtime.binding import Reader, reader
from services.runtime.door import TRANSCODED
from services.runtime.metrics import Metrics
from services.runtime.statuses import trailers

ISSUER, AUDIENCE = "https://jan.test", "jan-test"
KEY = "sk_test_"
SERVICES = ("jan.auth.v1.AuthService", "jan.llm.v1.ChatService", "jan.llm.v1.ModelService", "edge_test.NoteService")
OPTIONS = (
    ("grpc.max_receive_message_length", 33 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
    ("grpc.http2.bdp_probe", 0),
)


def _notes() -> Any:
    """A service like those to come: a JSON body bound to typed fields, typed query parameters, a public pattern."""
    file = descriptor_pb2.FileDescriptorProto(name="edge_test/notes.proto", package="edge_test", syntax="proto3")
    file.dependency[:] = [
        annotations_pb2.DESCRIPTOR.name,
        access_pb2.DESCRIPTOR.name,
        struct_pb2.DESCRIPTOR.name,
    ]
    note = file.message_type.add(name="Note")
    kind = descriptor_pb2.FieldDescriptorProto
    fields = [("id", kind.TYPE_STRING), ("title", kind.TYPE_STRING), ("count", kind.TYPE_UINT32)]
    fields += [("done", kind.TYPE_BOOL), ("tags", kind.TYPE_STRING), ("extra", kind.TYPE_MESSAGE)]
    for number, (name, type_) in enumerate(fields, 1):
        label = kind.LABEL_REPEATED if name == "tags" else kind.LABEL_OPTIONAL
        type_name = ".google.protobuf.Value" if type_ == kind.TYPE_MESSAGE else None
        note.field.add(name=name, number=number, type=type_, label=label, type_name=type_name)
    service = file.service.add(name="NoteService")
    for name, rule, access in (
        ("CreateNote", http_pb2.HttpRule(post="/v1/notes", body="*"), access_pb2.ACCESS_USER),
        ("ListNotes", http_pb2.HttpRule(get="/v1/notes"), access_pb2.ACCESS_UNSPECIFIED),
        ("ReplaceNote", http_pb2.HttpRule(put="/v1/notes/{id}", body="*"), access_pb2.ACCESS_USER),
        ("GetNote", http_pb2.HttpRule(get="/v1/notes/{id}"), access_pb2.ACCESS_ADMIN),
        ("DeleteNote", http_pb2.HttpRule(delete="/v1/notes/{id}"), access_pb2.ACCESS_JWT),
        ("GetSharedNote", http_pb2.HttpRule(get="/v1/public/{id=**}"), access_pb2.ACCESS_PUBLIC),
    ):
        method = service.method.add(name=name, input_type=".edge_test.Note", output_type=".edge_test.Note")
        method.options.Extensions[annotations_pb2.http].CopyFrom(rule)
        method.options.Extensions[access_pb2.access] = access
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    return descriptor_pool.Default().FindFileByName(file.name)


NOTES = _notes()
Note = message_factory.GetMessageClass(NOTES.message_types_by_name["Note"])


class Keys:
    """Signing keys with a JWKS file that is replaced as the auth room does it."""

    def __init__(self, jwks: Path, issuer: str = ISSUER) -> None:
        self.jwks = jwks
        self.issuer = issuer
        self.private: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.rotate("k1")

    def rotate(self, kid: str, *, publish: bool = True) -> None:
        """Sign with a new key from now on; the old ones stay listed."""
        self.private[kid] = ec.generate_private_key(ec.SECP256R1())
        if not publish:
            return
        public = [
            {**jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "alg": "ES256"}
            for kid, key in self.private.items()
        ]
        self.jwks.parent.mkdir(parents=True, exist_ok=True)
        new = self.jwks.with_suffix(".new")
        new.write_text(json.dumps({"keys": public}))
        new.replace(self.jwks)

    def token(self, **claims: Any) -> str:
        """A good access token, but for the claims that say otherwise (None: without it)."""
        now = int(time.time())
        good = {"iss": self.issuer, "aud": AUDIENCE, "sub": "usr_1", "iat": now, "nbf": now, "exp": now + 300}
        kid = list(self.private)[-1]
        payload = {name: value for name, value in {**good, **claims}.items() if value is not None}
        return jwt.encode(payload, self.private[kid], algorithm="ES256", headers={"kid": kid})


def _received(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
    return json.dumps({**metadata, "pid": os.getpid()})


async def _fail(
    context: grpc.aio.ServicerContext[Any, Any], error: errors.ApiError, more: Mapping[str, str] | None = None
) -> None:
    """What the door of the rooms does with an error; `more` is trailing metadata of the servicer's own."""
    metadata = dict(context.invocation_metadata())
    sent = trailers(error, metadata.get("x-request-id", ""), rest=TRANSCODED in metadata)
    await context.abort(error.kind.grpc, error.message, (*sent, *(more or {}).items()))


class FakeExchange:
    """Exchanges keys as they say themselves: `key(token=…)` for a token, `key(fail="RateLimited", with={…})` for an
    error. Which credential is looked at is decided by the auth room's own code."""

    async def authorize(self, authorization: str, x_api_key: str, address: str) -> Passed:
        """`Exchange.authorize`."""
        given = presented(authorization, x_api_key)
        try:
            script = json.loads(bytes.fromhex(given.key.removeprefix(KEY)))
        except ValueError:
            raise errors.Unauthenticated(f"There is no such key for {address}") from None
        if given.token:
            raise errors.Unauthenticated("Two credentials", code="conflicting_credentials")
        if script.get("raise"):
            raise RuntimeError("secret detail")
        if name := script.get("fail"):
            raise getattr(errors, name)(**script.get("with", {"message": f"It is {name}"}))
        return Passed(f"Bearer {script['token']}")


def key(**script: Any) -> str:
    """An API key that `FakeExchange` obeys."""
    return KEY + json.dumps(script).encode().hex()


class Auth(auth_pb2_grpc.AuthServiceServicer):
    async def GuestLogin(self, request: Any, context: Any) -> Any:
        await context.send_initial_metadata((("x-http-status", "201"),))
        return auth_pb2.Tokens(username=_received(context))

    async def GetMe(self, request: Any, context: Any) -> Any:
        return auth_pb2.GetMeResponse(data=auth_pb2.User(username=_received(context)))


class Chat(chat_pb2_grpc.ChatServiceServicer):
    async def CreateChatCompletionHttp(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Does what the JSON body says; answers what it received otherwise."""
        try:
            script = json.loads(request.data or b"{}")
        except ValueError:
            script = {}
        initial = script.get("initial", {})
        if status := script.get("status"):
            initial["x-http-status"] = str(status)
        if name := script.get("fail"):
            if initial:
                await context.send_initial_metadata(tuple(initial.items()))
            failure = getattr(errors, name)(**script.get("with", {"message": f'It is {name}: \u00e9 "x"'}))
            await _fail(context, failure, script.get("trailing"))
        if code := script.get("bare"):
            await context.abort(grpc.StatusCode[code], script.get("message", 'some "detail"'))
        if script.get("raise"):
            raise RuntimeError("secret detail")
        if script.get("die"):
            os._exit(9)
        if script.get("stream"):
            await context.send_initial_metadata((("cache-control", "no-cache"), ("x-accel-buffering", "no")))
            for number in range(script["stream"]):
                event = b'data: {"n": %d}\n\n' % number
                yield httpbody_pb2.HttpBody(content_type="text/event-stream", data=event)
                if script.get("hang"):
                    await asyncio.Event().wait()
            if script.get("break"):
                await context.abort(grpc.StatusCode.UNAVAILABLE, "broke")
            yield httpbody_pb2.HttpBody(content_type="text/event-stream", data=b"data: [DONE]\n\n")
            return
        if script.get("hang"):
            await asyncio.Event().wait()
        if initial:
            await context.send_initial_metadata(tuple(initial.items()))
        answer = {"received": json.loads(_received(context)), "size": len(request.data)}
        yield httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(answer).encode())

    async def CreateChatCompletion(self, request: Any, context: Any) -> Any:
        if request.model == "missing":
            await _fail(context, errors.NotFound("No model 'missing'", code="model_not_found", param="model"))
        return chat_pb2.ChatCompletion(id=_received(context))

    async def StreamChatCompletion(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for number in range(3):
            yield chat_pb2.ChatCompletionChunk(id=str(number))

    async def CreateCompletion(self, request: Any, context: Any) -> Any:
        return completions_pb2.Completion(id=_received(context))


class Models(models_pb2_grpc.ModelServiceServicer):
    async def ListModels(self, request: Any, context: Any) -> Any:
        return models_pb2.ListModelsResponse(object="list", data=[models_pb2.Model(owned_by=_received(context))])

    async def GetModel(self, request: Any, context: Any) -> Any:
        if request.id == "missing":
            await _fail(context, errors.NotFound("No model 'missing'", code="model_not_found"))
        return models_pb2.Model(id=request.id, object="model", owned_by=_received(context))


class Status(status_pb2_grpc.StatusServiceServicer):
    async def GetReadiness(self, request: Any, context: Any) -> Any:
        return status_pb2.GetReadinessResponse(status="ready")

    async def GetVersion(self, request: Any, context: Any) -> Any:
        return status_pb2.GetVersionResponse(data=status_pb2.Version(version=_received(context)))


async def _delete(request: Any, context: Any) -> Any:
    await context.send_initial_metadata((("x-http-status", "204"),))
    return Note()


def _echo(read: Reader) -> Any:
    """A method that answers with its request, read as the door of the rooms reads it."""

    async def echo(data: bytes, context: Any) -> Any:
        path = dict(context.invocation_metadata()).get(TRANSCODED)
        try:
            return read(data, path)
        except errors.InvalidRequest as error:
            await _fail(context, error)

    return echo


def _note_service() -> grpc.GenericRpcHandler:
    methods = {
        name: grpc.unary_unary_rpc_method_handler(
            _delete if name == "DeleteNote" else _echo(reader(f"/edge_test.NoteService/{name}", Note.FromString)),
            response_serializer=Note.SerializeToString,
        )
        for name in NOTES.services_by_name["NoteService"].methods_by_name
    }
    return grpc.method_handlers_generic_handler("edge_test.NoteService", methods)


async def serve(socket: str) -> grpc.aio.Server:
    """All services on one unix socket, with health and reflection, as a worker of ours has them."""
    server = grpc.aio.server(options=OPTIONS)
    auth_pb2_grpc.add_AuthServiceServicer_to_server(Auth(), server)
    chat_pb2_grpc.add_ChatServiceServicer_to_server(Chat(), server)
    models_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)
    status_pb2_grpc.add_StatusServiceServicer_to_server(Status(), server)
    server.add_generic_rpc_handlers((_note_service(),))
    metrics = Metrics()
    edge_media.add_media(server, metrics)
    add_authorization(GatewayServicer(FakeExchange(), metrics), server)  # type: ignore[arg-type]
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    reflection.enable_server_reflection(SERVICES, server)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    return server


async def _main(socket: str) -> None:
    server = await serve(socket)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
