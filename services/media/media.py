"""MediaService: images come in, and ids go out that stand for them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.json_format import MessageToDict
from jan.media.v1 import media_pb2, media_pb2_grpc

from services.media import answers, downloads, names, payload
from services.media.arrivals import Arrivals
from services.media.downloads import File
from services.media.ingest import Ingest
from services.media.library import Library
from services.media.media_store import MediaStore
from services.media.uploads import Uploads
from services.runtime import call
from services.runtime.db import Row
from services.runtime.errors import InvalidRequest, NotFound, Unauthenticated
from services.runtime.httpbody import json_body, write_bytes
from services.runtime.pages import Page, page_of

Context = grpc.aio.ServicerContext[Any, Any]
NO_CONTENT = (("x-http-status", "204"),)
# The gateway keeps what a REST request was here when it makes a gRPC call of it.
METHOD, TARGET = "x-envoy-original-method", "x-envoy-original-path"
MOST_IDS = 100
MOST_MENTIONS = 1000
"""Different images that one payload may mention."""


class MediaServicer(media_pb2_grpc.MediaServiceServicer):
    """Every method answers to the user who calls about images that this user has brought. With `redirects` the bytes do
    not come through this server over REST, but from where the object store's URL leads."""

    def __init__(
        self,
        library: Library,
        store: MediaStore,
        ingest: Ingest,
        arrivals: Arrivals,
        uploads: Uploads,
        *,
        redirects: bool = False,
    ) -> None:
        self._library = library
        self._store = store
        self._ingest = ingest
        self._arrivals = arrivals
        self._uploads = uploads
        self._redirects = redirects

    async def ListMedia(self, request: media_pb2.ListMediaRequest, context: Context) -> media_pb2.ListMediaResponse:
        found = await self._store.page(call.caller().user_id, _page(request))
        return media_pb2.ListMediaResponse(data=map(answers.listed, found.rows), **found.envelope())

    async def CreateMedia(self, request: media_pb2.CreateMediaRequest, context: Context) -> media_pb2.Media:
        return await self._media(await self._arrivals.create(call.caller().user_id, request))

    async def UploadMedia(
        self, requests: AsyncIterator[media_pb2.UploadMediaRequest], context: Context
    ) -> media_pb2.Media:
        return await self._media(await self._arrivals.upload(call.caller().user_id, requests))

    async def UploadMediaHttp(self, bodies: AsyncIterator[HttpBody], context: Context) -> HttpBody:
        media = await self._media(await self._arrivals.body(call.caller().user_id, bodies))
        return json_body(
            MessageToDict(media, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        )

    async def PrepareUpload(
        self, request: media_pb2.PrepareUploadRequest, context: Context
    ) -> media_pb2.PreparedUpload:
        return media_pb2.PreparedUpload(**await self._announced(request))

    async def CreatePresignedUrl(
        self, request: media_pb2.CreatePresignedUrlRequest, context: Context
    ) -> media_pb2.CreatePresignedUrlResponse:
        given = _only_one(request, "id", "jan_id", "media_id", "content_type", "mime_type")
        if given in ("content_type", "mime_type"):
            return media_pb2.CreatePresignedUrlResponse(**await self._announced(request))
        row = await self._row(getattr(request, given), code="media_not_found", param=given)
        return media_pb2.CreatePresignedUrlResponse(**answers.presigned(row, await self._library.sign(row)))

    async def ResolveMedia(
        self, request: media_pb2.ResolveMediaRequest, context: Context
    ) -> media_pb2.ResolveMediaResponse:
        if not request.ids and not request.HasField("payload"):
            raise InvalidRequest("Parameter 'ids' is required, or 'payload'", param="ids")
        if len(request.ids) > MOST_IDS:
            raise InvalidRequest(f"Parameter 'ids' has more than {MOST_IDS} ids", param="ids")
        answer = media_pb2.ResolveMediaResponse()
        if request.ids:
            await self._resolve_ids(request.ids, answer)
        if request.HasField("payload"):
            answer.payload.CopyFrom(request.payload)
            await self._resolve_payload(answer)
        return answer

    async def GetMedia(self, request: media_pb2.GetMediaRequest, context: Context) -> media_pb2.MediaDetails:
        row = await self._row(request.id)
        return answers.details(row, await self._library.sign(row))

    async def PresignMedia(self, request: media_pb2.PresignMediaRequest, context: Context) -> media_pb2.PresignedMedia:
        row = await self._row(request.id)
        return media_pb2.PresignedMedia(**answers.presigned(row, await self._library.sign(row)))

    async def DownloadMedia(
        self, request: media_pb2.DownloadMediaRequest, context: Context
    ) -> AsyncGenerator[media_pb2.DownloadMediaResponse, None]:
        row = await self._row(request.id)
        info = media_pb2.DownloadedMedia(id=row["id"], mime=row["mime"], bytes=row["bytes"])
        yield media_pb2.DownloadMediaResponse(info=info)
        async with aclosing(self._library.read(row)) as pieces:
            async for piece in pieces:
                yield media_pb2.DownloadMediaResponse(chunk=piece)

    async def GetMediaContentHttp(self, request: media_pb2.GetMediaContentRequest, context: Context) -> HttpBody:
        row, seconds = await self._shown(request)
        asked: Mapping[str, Any] = dict(context.invocation_metadata() or ())
        method = str(asked.get(METHOD, "GET"))
        if self._redirects and method == "GET":  # the store's URL is signed for nothing else
            location = {"location": (await self._library.sign(row)).url, "cache-control": "private, no-store"}
            return await write_bytes(context, 302, location, _nothing())
        file = File(row["sha256"], row["mime"], row["bytes"], row["filename"])
        found = downloads.answer(file, method, asked, seconds=seconds)
        pieces = self._library.read(row, found.part) if found.part else _nothing()
        return await write_bytes(context, found.status, found.headers, pieces)

    async def DeleteMedia(
        self, request: media_pb2.DeleteMediaRequest, context: Context
    ) -> media_pb2.DeleteMediaResponse:
        await self._ingest.delete(call.caller().user_id, _known(request.id))
        await context.send_initial_metadata(NO_CONTENT)
        return media_pb2.DeleteMediaResponse()

    async def ReceiveUploadHttp(self, bodies: AsyncIterator[HttpBody], context: Context) -> HttpBody:
        metadata: Mapping[str, Any] = dict(context.invocation_metadata() or ())
        await self._arrivals.direct(str(metadata.get(TARGET, "")), bodies)
        await context.send_initial_metadata(NO_CONTENT)
        return HttpBody()

    async def _shown(self, request: media_pb2.GetMediaContentRequest) -> tuple[Row, int | None]:
        """An image for a signed URL, whoever has it, and its seconds; or one of the caller."""
        if request.sig or request.exp:
            return await self._library.shown(_known(request.id), exp=request.exp, sig=request.sig)
        if call.current().caller is None:
            raise Unauthenticated("This needs a credential, or a signed URL")
        return await self._row(request.id), None

    async def _row(self, given: str, *, code: str | None = None, param: str | None = None) -> Row:
        """An image of the caller."""
        media_id = _known(given, code=code, param=param)
        return await self._library.get(call.caller().user_id, media_id, code=code, param=param)

    async def _media(self, row: Row) -> media_pb2.Media:
        return answers.media(row, await self._library.sign(row))

    async def _announced(
        self, request: media_pb2.PrepareUploadRequest | media_pb2.CreatePresignedUrlRequest
    ) -> Mapping[str, Any]:
        """The fields of an announced upload."""
        param = _only_one(request, "content_type", "mime_type")
        bringer = names.bringer(call.caller().user_id, request)
        announced = await self._uploads.prepare(bringer, getattr(request, param), param=param)
        return answers.prepared(announced, seconds=self._library.seconds_until(announced.expires))

    async def _resolve_ids(self, given: Any, answer: media_pb2.ResolveMediaResponse) -> None:
        known = {each: names.media_id(each) for each in given}
        found = await self._library.find(call.caller().user_id, [each for each in known.values() if each])
        for each in given:
            row = found.get(known[each] or "")
            if row is None:
                answer.missing.append(each)
                continue
            answer.media.append(answers.resolved(row, await self._library.sign(row)))

    async def _resolve_payload(self, answer: media_pb2.ResolveMediaResponse) -> None:
        places = dict[str, str]()
        for media_id, path in payload.mentions(answer.payload):
            places.setdefault(media_id, path)
        if len(places) > MOST_MENTIONS:
            raise InvalidRequest(f"Parameter 'payload' mentions more than {MOST_MENTIONS} images", param="payload")
        found = await self._library.find(call.caller().user_id, list(places))
        for media_id, path in places.items():
            if media_id not in found:
                raise _absent(code="media_not_found", param=path)
        urls = {media_id: (await self._library.sign(row)).url for media_id, row in found.items()}
        payload.replace(answer.payload, urls)


async def _nothing() -> AsyncGenerator[bytes, None]:
    for piece in tuple[bytes, ...]():
        yield piece


def _page(request: media_pb2.ListMediaRequest) -> Page:
    request.after = request.after.lower()
    return page_of(request)


def _known(given: str, *, code: str | None = None, param: str | None = None) -> str:
    media_id = names.media_id(given)
    if media_id is None:
        raise _absent(code=code, param=param)
    return media_id


def _absent(*, code: str | None, param: str | None) -> NotFound:
    return NotFound("There is no such image", code=code, param=param)


def _only_one(request: Any, *fields: str) -> str:
    """The one of these fields that is given; aliases that agree count as one. Raises `InvalidRequest`."""
    given = [each for each in fields if getattr(request, each)]
    if not given:
        raise InvalidRequest(f"One of the parameters {', '.join(fields)} is required", param="content_type")
    kinds = {(each in ("content_type", "mime_type"), getattr(request, each)) for each in given}
    if len(kinds) > 1:
        raise InvalidRequest(f"Parameters '{given[0]}' and '{given[1]}' exclude each other", param=given[1])
    return given[0]
