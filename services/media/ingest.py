"""From bytes to a row: what arrived in a spool is examined, stored once whoever brings it, and given its id.

Whatever happens in between, a crash included, nothing is left that no row knows: a key is noted before its object is
made, and a key is never used twice.
"""

from __future__ import annotations

import logging
from pathlib import Path

from services.media.blobs import BlobStore
from services.media.image_types import ImageTypes
from services.media.media_store import Bringer, MediaStore, Stored
from services.media.spool import Spool, Spooled
from services.runtime import ids
from services.runtime.db import Row
from services.runtime.errors import Conflict, InvalidRequest, UpstreamFailed
from services.runtime.image_header import ImageHeader

_ATTEMPTS = 5
log = logging.getLogger("jan.media")


class Ingest:
    """Takes images of at most `largest` bytes, which arrive in `directory`."""

    def __init__(
        self, store: MediaStore, blobs: BlobStore, types: ImageTypes, directory: Path, *, largest: int
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._types = types
        self._directory = directory
        self.largest = largest

    def spool(self) -> Spool:
        """Where the bytes of one image are to go, as a context manager around them and `keep`."""
        return Spool(self._directory, largest=self.largest)

    async def keep(self, spool: Spool, bringer: Bringer, *, upload_id: str | None = None) -> Row:
        """Store what is in `spool` and give a reference to who brings it. The row is as in `MediaStore`, but `deduped`
        says whether these bytes were here before this call. An image that was announced keeps its `upload_id`.

        Raises `InvalidRequest` (`empty_file`, `unsupported_media_type`), `UpstreamFailed` when the store does not take
        it, and `NotFound` when `upload_id` does not wait for its bytes any more.
        """
        arrived = await spool.finish()
        if not arrived.size:
            raise InvalidRequest("The image is empty", code="empty_file")
        header = await self._types.examine(arrived.path)
        row = await self._store.take(bringer, arrived.sha256, upload_id)
        if row is None:
            return await self._bring(arrived, header, bringer, upload_id)
        if await self._blobs.stat(row["key"]) is None:
            row = await self._bring_back(arrived, header, bringer, row)
        return {**row, "deduped": True}

    async def delete(self, user_id: str, media_id: str) -> None:
        """Take a user's reference away; the bytes go with the last one. Raises `NotFound`."""
        key = await self._store.release(user_id, media_id)
        if key is not None:
            await self._remove(key)

    async def _bring(self, arrived: Spooled, header: ImageHeader, bringer: Bringer, upload_id: str | None) -> Row:
        media_id = upload_id or ids.new_id("jan")
        stored = await self._put(arrived, header)
        for _ in range(_ATTEMPTS):
            row = await self._store.create(bringer, media_id, stored, upload_id)
            if row is not None:
                return row
            row = await self._store.take(bringer, arrived.sha256, upload_id)
            if row is not None:
                await self._remove(stored.key)
                return {**row, "deduped": True}
        raise Conflict("The same image is being brought and deleted again and again; try again")

    async def _bring_back(self, arrived: Spooled, header: ImageHeader, bringer: Bringer, row: Row) -> Row:
        """The store has lost the object, and here are its bytes."""
        log.warning("object_lost", extra={"key": row["key"], "remedy": "it was brought again"})
        stored = await self._put(arrived, header)
        if await self._store.replace(arrived.sha256, row["key"], stored.key):
            return {**row, "key": stored.key}
        await self._remove(stored.key)
        found = await self._store.find(bringer.user_id, [row["id"]])
        return found.get(row["id"], row)

    async def _put(self, arrived: Spooled, header: ImageHeader) -> Stored:
        digest = arrived.sha256.hex()
        key = f"objects/{digest[:2]}/{digest}/{ids.new_id('obj')}"
        await self._store.expect(key)
        await self._blobs.put(key, arrived.path, mime=header.mime)
        return Stored(key, arrived.sha256, arrived.size, header)

    async def _remove(self, key: str) -> None:
        """If the store does not answer, the sweeper does it later."""
        try:
            await self._blobs.delete(key)
        except UpstreamFailed as error:
            log.warning("object_not_removed", extra={"key": key, "cause": repr(error)})
        else:
            await self._store.forget(key)
