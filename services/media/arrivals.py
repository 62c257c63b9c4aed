"""What arrives in requests, in each of its forms: a source that is named, pieces over gRPC, JSON or a form over REST,
and the bytes of announced uploads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from urllib.parse import urlsplit

from google.api.httpbody_pb2 import HttpBody
from jan.media.v1 import media_pb2

from services.media import names
from services.media.forms import is_form, read_form
from services.media.ingest import Ingest
from services.media.intake import Intake
from services.media.json_upload import read_upload
from services.media.local_receiver import LocalReceiver
from services.media.sources import Sources
from services.media.spool import readable
from services.runtime.db import Row
from services.runtime.errors import InvalidRequest, NotFound, TooLarge
from services.runtime.typed_json import fill
from services.runtime.validation import validate

LARGEST_CHUNK = 128 * 1024
"""Bytes of a message of `UploadMedia`: a message is whole in memory before anybody can look at it."""


class Arrivals:
    """Every method but the last returns the row of the image, as `Ingest.keep`. Without a `receiver` the store takes
    announced uploads by itself."""

    def __init__(self, ingest: Ingest, intake: Intake, sources: Sources, receiver: LocalReceiver | None) -> None:
        self._ingest = ingest
        self._intake = intake
        self._sources = sources
        self._receiver = receiver

    async def create(self, user_id: str, request: media_pb2.CreateMediaRequest) -> Row:
        """What a source leads to."""
        bringer = names.bringer(user_id, request)
        if not request.HasField("source"):
            raise InvalidRequest("Parameter 'source' is required", param="source")
        async with self._ingest.spool() as spool:
            await self._sources.read(request.source, spool)
            return await self._ingest.keep(spool, bringer)

    async def upload(self, user_id: str, requests: AsyncIterator[media_pb2.UploadMediaRequest]) -> Row:
        """Pieces, behind what is said about them."""
        said = media_pb2.CreateMediaRequest()
        async with self._ingest.spool() as spool, aclosing(self._intake.pieces(requests)) as pieces:
            is_first = True
            async for each in pieces:
                if each.WhichOneof("piece") == "chunk":
                    await spool.feed(_bounded(each.chunk))
                elif each.WhichOneof("piece") == "info" and is_first:
                    said = _said(each.info.user_id, each.info.filename)
                    names.bringer(user_id, said)  # what is wrong is said before the image has come
                else:
                    raise InvalidRequest(
                        "Only the first message can be 'info', and the others are 'chunk'", param="info"
                    )
                is_first = False
                del each  # not to be kept while the next one is waited for
            return await self._ingest.keep(spool, names.bringer(user_id, said))

    async def body(self, user_id: str, bodies: AsyncIterator[HttpBody]) -> Row:
        """A body as it comes over REST: a form, else JSON."""
        async with self._ingest.spool() as spool, aclosing(self._intake.pieces(bodies)) as pieces:
            first = await anext(pieces, HttpBody())
            if is_form(first.content_type):
                form = await read_form(first.content_type, _data(first, pieces), spool)
                said = _said(form.fields.get("user_id", ""), form.fields.get("filename") or form.filename)
                return await self._ingest.keep(spool, names.bringer(user_id, said))
            members, is_here = await read_upload(_data(first, pieces), spool)
            request = media_pb2.CreateMediaRequest()
            fill(request, members)
            validate(request)
            if is_here:
                return await self._ingest.keep(spool, names.bringer(user_id, request))
        return await self.create(user_id, request)

    async def direct(self, target: str, bodies: AsyncIterator[HttpBody]) -> None:
        """The bytes of an announced upload, sent to `target`, path and query of where they are to go."""
        if self._receiver is None:
            raise NotFound("Images are not uploaded here but to the object store", code="route_not_found")
        async with aclosing(self._intake.pieces(bodies)) as pieces:
            first = await anext(pieces, HttpBody())
            if urlsplit(target).path.endswith("/uploads"):
                await self._receiver.receive_form(_data(first, pieces), first.content_type)
            else:
                await self._receiver.receive_put(target, _data(first, pieces))


def _bounded(chunk: bytes) -> bytes:
    if len(chunk) > LARGEST_CHUNK:
        raise TooLarge(f"A 'chunk' is larger than {readable(LARGEST_CHUNK)}; 64KB are a good size", param="chunk")
    return chunk


async def _data(first: HttpBody, others: AsyncGenerator[HttpBody, None]) -> AsyncGenerator[bytes, None]:
    yield first.data
    del first
    async for each in others:
        yield each.data
        del each


def _said(label: str, filename: str) -> media_pb2.CreateMediaRequest:
    """What is said about an image, by the rules of the typed request."""
    said = media_pb2.CreateMediaRequest(user_id=label, filename=filename)
    validate(said)
    return said
