"""The media room as the gateway sees it: behind a real door, with methods that do what the query says."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast
from urllib.parse import parse_qsl

import grpc
import jwt
from google.api.httpbody_pb2 import HttpBody
from jan.media.v1 import media_pb2, media_pb2_grpc

from services.runtime import call, errors
from services.runtime.door import TRANSCODED, Door
from services.runtime.httpbody import json_body, write_bytes
from services.runtime.identity import Identity
from services.runtime.metrics import Metrics
from services.runtime.policy import Policy

LARGEST_BODY = 32 * 1024 * 1024


class Believer:
    """A policy that believes what the gateway lets through."""

    def admit(self, method: str, authorization: str) -> Identity | None:
        """Whoever the token names."""
        if not authorization:
            return None
        if not authorization.lower().startswith("bearer "):
            raise errors.Unauthenticated("That is no credential")
        claims = jwt.decode(authorization[7:], options={"verify_signature": False})
        return Identity(claims["sub"], "", ("user",), False, "jwt", ("read", "write"), 4e9, authorization[7:])


class Media(media_pb2_grpc.MediaServiceServicer):
    """Remembers under the `name` of a query how far that call came."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._said: dict[str, list[str]] = {}
        self._held = asyncio.Event()

    async def UploadMediaHttp(self, request: AsyncIterator[HttpBody], context: Any) -> HttpBody:
        return await self._received(request, context)

    async def UploadMedia(self, requests: AsyncIterator[media_pb2.UploadMediaRequest], context: Any) -> Any:
        """Remembers it under its file name."""
        first = await anext(requests)
        said = self._said.setdefault(first.info.filename, [])
        try:
            async for piece in requests:
                self._seen[first.info.filename] += len(piece.chunk)
            said.append("ended")
        except asyncio.CancelledError:
            said.append("cancelled")
            raise
        return media_pb2.Media(bytes=self._seen[first.info.filename])

    async def ReceiveUploadHttp(self, request: AsyncIterator[HttpBody], context: Any) -> HttpBody:
        return await self._received(request, context)

    async def GetMedia(self, request: media_pb2.GetMediaRequest, context: Any) -> Any:
        """What became of the call of that name."""
        said = self._said.get(request.id, [])
        return media_pb2.MediaDetails(id=request.id, bytes=self._seen[request.id], mime=" ".join(said))

    async def DeleteMedia(self, request: Any, context: Any) -> Any:
        """Let those go on that hold."""
        self._held.set()
        self._held = asyncio.Event()
        return media_pb2.DeleteMediaResponse()

    async def _received(self, pieces: AsyncIterator[HttpBody], context: Any) -> HttpBody:
        metadata = dict(context.invocation_metadata())
        script = dict(parse_qsl(metadata[TRANSCODED].partition("?")[2]))
        name, stop = script.get("name", ""), int(script.get("stop", -1))
        said = self._said.setdefault(name, [])
        sizes, types, digest = [], [], hashlib.sha256()
        try:
            async for piece in pieces:
                sizes.append(len(piece.data))
                types.append(piece.content_type)
                digest.update(piece.data)
                self._seen[name] += len(piece.data)
                if 0 <= stop <= self._seen[name]:
                    said.append("stopped")
                    break
                if "hold" in script:
                    await self._held.wait()
            else:
                said.append("ended")
        except asyncio.CancelledError:
            said.append("cancelled")
            raise
        except errors.ApiError as error:
            said.append(error.code)
            raise
        if fail := script.get("fail"):
            raise getattr(errors, fail)("As told")
        if status := script.get("status"):
            await context.send_initial_metadata((("x-http-status", status),))
        caller = call.current().caller
        told = {"sizes": sizes, "types": types, "sha256": digest.hexdigest(), "metadata": _texts(metadata)}
        return json_body({**told, "size": sum(sizes), "caller": caller and caller.user_id})

    async def GetMediaContentHttp(self, request: media_pb2.GetMediaContentRequest, context: Any) -> HttpBody:
        """As many bytes as the id says, with the headers that the signature says."""
        headers = {"content-type": "image/png", **json.loads(request.sig or "{}")}
        status = int(headers.pop("status", 200))
        if request.exp == "416":
            raise errors.NotSatisfiable(1000)
        if request.exp == "metadata":
            caller = call.current().caller
            told = {"metadata": _texts(dict(context.invocation_metadata())), "caller": caller and caller.user_id}
            return json_body(told)
        return await write_bytes(context, status, headers, self._bytes(request.exp, int(request.id)))

    async def _bytes(self, name: str, size: int) -> AsyncGenerator[bytes, None]:
        said = self._said.setdefault(name, [])
        try:
            for start in range(0, size, 65536):
                data = bytes([start // 65536 % 251]) * min(65536, size - start)
                self._seen[name] += len(data)
                yield data
            if name == "break":
                raise errors.UpstreamFailed("It broke")
            said.append("ended")
        finally:
            said.append("closed")


def _texts(metadata: dict[str, Any]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if isinstance(value, str)}


def add_media(server: grpc.aio.Server, metrics: Metrics) -> None:
    """Mount it."""
    door = Door(cast(Policy, Believer()), metrics, longest=30, largest_body=LARGEST_BODY)
    door.mount(server, media_pb2_grpc.add_MediaServiceServicer_to_server, Media())
