"""Where direct uploads go when the store is a directory. It behaves as S3 does: a signature decides who may, 204 says
that the bytes are kept, and nobody looks at them yet."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import parse_qs, urlsplit

from services.media.blobs import BlobStore
from services.media.forms import read_form
from services.media.ingest import Ingest
from services.media.signing import Permit, Signer
from services.media.spool import Spool, too_large
from services.media.upload_store import UploadStore
from services.media.uploads import upload_key
from services.runtime.errors import InvalidRequest, Unauthenticated


class LocalReceiver:
    """Takes what `LocalBlobs.upload_target` has given out the means for, of at most as many bytes as `ingest` takes.

    Both methods raise `Unauthenticated` (`invalid_signature`) before they read a byte of the image, `TooLarge`, and
    `InvalidRequest` (`empty_file` among others); then there is no object, or the one that was there before.
    """

    def __init__(
        self,
        store: UploadStore,
        blobs: BlobStore,
        ingest: Ingest,
        signer: Signer,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._ingest = ingest
        self._signer = signer
        self._clock = clock

    async def receive_put(self, target: str, body: AsyncIterator[bytes]) -> None:
        """The body of a PUT to `target`, path and query of a signed URL."""
        url = urlsplit(target)
        media_id, query = url.path.rpartition("/")[2].lower(), parse_qs(url.query)
        exp, sig = ("".join(query.get(name, ())) for name in ("exp", "sig"))
        self._signer.check_upload(media_id, exp=exp, sig=sig, now=self._clock())
        async with self._ingest.spool() as spool:
            async for piece in body:
                await spool.feed(piece)
            await self._keep(spool, Permit(upload_key(media_id), self._ingest.largest))

    async def receive_form(self, body: AsyncIterator[bytes], content_type: str) -> None:
        """A form: the fields that were given out, then the part `file`. What follows that changes nothing."""
        permits: list[Permit] = []

        def begin(fields: Mapping[str, str]) -> None:
            named = {name.lower(): value for name, value in fields.items()}
            permits.append(self._signer.check_form(named, now=self._clock()))

        async with self._ingest.spool() as spool:
            await read_form(content_type, body, spool, begin=begin)
            await self._keep(spool, *permits)

    async def _keep(self, spool: Spool, permit: Permit) -> None:
        spooled = await spool.finish()
        if not spooled.size:
            raise InvalidRequest("The file is empty", code="empty_file")
        if spooled.size > permit.largest:  # the setting has grown since it was signed
            raise too_large(permit.largest)
        if not await self._store.waits(permit.key.rpartition("/")[2]):
            raise Unauthenticated("This upload is finished or given up", code="invalid_signature")
        await self._blobs.put(permit.key, spooled.path, mime="application/octet-stream")
