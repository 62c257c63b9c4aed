"""Direct uploads: an id and a place for its bytes are given out, the bytes come past everybody, and at the first use of
the id they are examined and made an image.

What was examined is kept under a key of its own, for whoever may send the bytes may send others after that. Nothing is
locked between processes: two that examine the same upload do the work twice, and the database lets one of them have it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from services.media.blobs import BlobMissing, BlobStore, UploadTarget
from services.media.image_types import ImageTypes
from services.media.ingest import Ingest
from services.media.media_store import Bringer
from services.media.spool import too_large
from services.media.upload_store import UploadStore
from services.runtime import ids
from services.runtime.db import UniqueViolation
from services.runtime.errors import Conflict, InvalidRequest, NotFound, TooLarge, UpstreamFailed

LIFE = 24 * 3600
"""Seconds that an announced upload is waited for."""

log = logging.getLogger("jan.media")


def upload_key(media_id: str) -> str:
    """Where the store gets the bytes of an upload."""
    return f"images/{media_id}"


@dataclass(frozen=True)
class Announced:
    """An id that was given out, and where to send its bytes until `expires`, in Unix seconds."""

    id: str
    mime: str
    target: UploadTarget
    expires: int


class Uploads:
    """Announces uploads and makes images of them. Where to send the bytes is good for `life` seconds, the id for as
    long as an upload is waited for."""

    def __init__(
        self,
        store: UploadStore,
        blobs: BlobStore,
        ingest: Ingest,
        types: ImageTypes,
        *,
        life: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._ingest = ingest
        self._types = types
        self._life = int(life)
        self._clock = clock
        self._locks: defaultdict[str, _Lock] = defaultdict(_Lock)

    async def prepare(self, bringer: Bringer, mime: str, *, param: str = "content_type") -> Announced:
        """Give out an id. Raises `InvalidRequest` (`unsupported_media_type`) for a type that is not taken."""
        essence = self._types.require(mime, param)
        media_id, now = ids.new_id("jan"), int(self._clock())
        expires = now + self._life
        key = upload_key(media_id)
        target = await self._blobs.upload_target(key, media_id, largest=self._ingest.largest, expires=expires)
        expires_at = datetime.fromtimestamp(now + max(LIFE, self._life), UTC)
        await self._store.create(media_id, bringer, mime=essence, key=key, expires_at=expires_at)
        return Announced(media_id, essence, target, expires)

    async def finalise(self, media_id: str, user_id: str) -> bool:
        """Make an image of an upload that has come. False when the user has no such upload, or has it no more because
        somebody else has just made the image: look again.

        Raises `Conflict` (`upload_pending`) when it has not come. What comes and is no image that is taken is removed,
        the id with it, and the first use says why: `TooLarge`, `InvalidRequest` (`empty_file`,
        `unsupported_media_type`).
        """
        async with self._alone(media_id):
            bringer = await self._store.find(media_id, user_id)
            if bringer is None:
                return False
            try:
                await self._make(media_id, bringer)
            except (NotFound, UniqueViolation):  # made or given up by others while we were at it
                return False
            except (TooLarge, InvalidRequest):
                await self._store.remove(media_id, user_id)
                await self._clear(media_id)
                raise
            await self._clear(media_id)
            return True

    async def _make(self, media_id: str, bringer: Bringer) -> None:
        found = await self._blobs.stat(upload_key(media_id))
        if found is None:
            raise await self._missing(media_id)
        if found.size > self._ingest.largest:
            raise too_large(self._ingest.largest)
        async with self._ingest.spool() as spool:
            try:
                async with aclosing(self._blobs.read(found.key)) as pieces:
                    async for piece in pieces:
                        await spool.feed(piece)
            except BlobMissing:
                raise await self._missing(media_id) from None
            await self._ingest.keep(spool, bringer, upload_id=media_id)

    async def _missing(self, media_id: str) -> Conflict | NotFound:
        """Whoever makes the image removes the upload afterwards."""
        if await self._store.waits(media_id):
            return Conflict("The image has not been uploaded yet", code="upload_pending")
        return NotFound("There is no such image")

    async def _clear(self, media_id: str) -> None:
        """If the store does not answer, the sweeper does it later."""
        try:
            await self._blobs.delete(upload_key(media_id))
        except UpstreamFailed as error:
            log.warning("upload_not_removed", extra={"key": upload_key(media_id), "cause": repr(error)})

    @asynccontextmanager
    async def _alone(self, media_id: str) -> AsyncIterator[None]:
        """One at a time in this process: the next one finds it done."""
        lock = self._locks[media_id]
        lock.users += 1
        try:
            async with lock:
                yield
        finally:
            lock.users -= 1
            if not lock.users:
                del self._locks[media_id]


class _Lock(asyncio.Lock):
    users = 0
