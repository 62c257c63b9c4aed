"""Images as their users see them: by id, also when the bytes of an announced upload have not been looked at yet."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from services.media.blobs import BlobMissing, BlobStore
from services.media.downloads import Part
from services.media.media_store import MediaStore
from services.media.signing import Signer
from services.media.uploads import Uploads
from services.runtime.db import Row
from services.runtime.errors import Conflict, InvalidRequest, NotFound, TooLarge, UpstreamFailed

log = logging.getLogger("jan.media")


@dataclass(frozen=True)
class Signed:
    """A URL that shows an image to whoever has it."""

    url: str
    seconds: int
    """How long it is good."""
    expires: int
    """When it ends, in Unix seconds."""


class Library:
    """Rows are as in `MediaStore`; ids are in lower case. Signed URLs live `life` seconds."""

    def __init__(
        self,
        store: MediaStore,
        uploads: Uploads,
        blobs: BlobStore,
        signer: Signer,
        *,
        life: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._uploads = uploads
        self._blobs = blobs
        self._signer = signer
        self._life = int(life)
        self._clock = clock

    async def get(self, user_id: str, media_id: str, *, code: str | None = None, param: str | None = None) -> Row:
        """An image of a user. Raises `NotFound` with `code` and `param`, and for an upload what `Uploads.finalise`
        does."""
        found = await self._store.find(user_id, [media_id])
        if not found:
            await self._uploads.finalise(media_id, user_id)
            found = await self._store.find(user_id, [media_id])
        if not found:
            raise NotFound("There is no such image", code=code, param=param)
        return found[media_id]

    async def find(self, user_id: str, media_ids: Sequence[str]) -> dict[str, Row]:
        """Those of these images that a user can read, by id. Uploads that have come are images from now on."""
        found = await self._store.find(user_id, media_ids)
        unseen = [each for each in dict.fromkeys(media_ids) if each not in found]
        if not unseen:
            return found
        for media_id in await self._store.pending(user_id, unseen):
            await self._finalise(user_id, media_id)
        return found | await self._store.find(user_id, unseen)

    async def sign(self, row: Row) -> Signed:
        """A URL of an image."""
        expires = int(self._clock()) + self._life
        url = await self._blobs.url(row["key"], row["id"], mime=row["mime"], expires=expires)
        return Signed(url, self._life, expires)

    async def shown(self, media_id: str, *, exp: str, sig: str) -> tuple[Row, int]:
        """An image for whoever has a signed URL of this server, and how many seconds that is good. Raises
        `Unauthenticated` (`invalid_signature`) and `NotFound`."""
        self._signer.check_content(media_id, exp=exp, sig=sig, now=self._clock())
        row = await self._store.shown(media_id)
        if row is None:
            raise NotFound("There is no such image")
        return row, self.seconds_until(int(exp))

    async def read(self, row: Row, part: Part | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes of an image, or a part of them. Raises `UpstreamFailed`, also when the store has lost it."""
        start, end = (part.start, part.end) if part else (0, None)
        try:
            async with aclosing(self._blobs.read(row["key"], start=start, end=end)) as pieces:
                async for piece in pieces:
                    yield piece
        except BlobMissing as error:
            raise UpstreamFailed("The object store has lost this image", code="storage_error") from error

    def seconds_until(self, expires: int) -> int:
        """How long it is until then."""
        return max(0, expires - int(self._clock()))

    async def _finalise(self, user_id: str, media_id: str) -> None:
        """What has not come, or is no image, is not there."""
        try:
            await self._uploads.finalise(media_id, user_id)
        except (Conflict, NotFound, InvalidRequest, TooLarge) as error:
            log.info("upload_not_usable", extra={"media_id": media_id, "code": error.code})
