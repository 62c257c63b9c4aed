"""Takes away what is over: images that nobody has brought for long, uploads that never came, objects without a row, and
files of processes that were killed. Whatever a crash has left anywhere, some later round finds.

Many processes do this at once, each chore when no other has begun it lately (`sweep_store.py`). Nothing is locked while
the object store is asked.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile

from services.media import spool
from services.media.blobs import BlobStore
from services.media.sweep_store import BATCH, SweepStore
from services.runtime.errors import Unavailable, UpstreamFailed

INTERVAL = 300.0
"""Seconds between two rounds, give or take a tenth."""
HOUR = 3600.0
DAY = 24 * HOUR
_PARTS = 8  # of the object store that are checked in a round: all 257 within three hours, then again the next day
_YOUNG = timedelta(days=1)  # what is older and has no row never gets one
_LONGEST = 36_500  # days that a time can be subtracted by
_FAILURES = 3  # objects that cannot be removed; then the store is left alone until the next round
_MARKS = "installations/"
_SHARED = "give each installation a bucket of its own; remove the mark of one that is no more"
log = logging.getLogger("jan.media.sweeper")


class Sweeper:
    """Works in rounds, in the background, from `start` to `close`. `spools` is where uploads arrive on this machine;
    `clock` is compared with the times that the object store gives."""

    def __init__(
        self,
        store: SweepStore,
        blobs: BlobStore,
        *,
        retention_days: int,
        spools: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._days = min(retention_days, _LONGEST)
        self._spools = spools
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the background."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop at once, in the midst of whatever it is."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def round(self) -> None:
        """Every chore that is due, once. One that fails is logged and does not keep the others from being done."""
        for chore in (
            self._remove_spools,
            self._remove_expired,
            self._remove_uploads,
            self._remove_leftovers,
            self._check_parts,
        ):
            await _done(chore)

    async def _run(self) -> None:
        while True:
            await self.round()
            await asyncio.sleep(INTERVAL * random.uniform(0.9, 1.1))  # noqa: S311  # so that many do not stay in step

    async def _remove_spools(self) -> None:
        """Of this machine, so every process looks."""
        _say("spools_removed", await asyncio.to_thread(spool.sweep, self._spools))

    async def _remove_expired(self) -> None:
        if await self._store.claim("expired", every=HOUR):
            _say("media_expired", await _all(lambda: self._store.expire(days=self._days)))

    async def _remove_uploads(self) -> None:
        if await self._store.claim("uploads", every=HOUR):
            _say("uploads_expired", await _all(self._store.drop_uploads))

    async def _remove_leftovers(self) -> None:
        """Those that resist are passed over, but a store that takes none is not asked for all."""
        if not await self._store.claim("leftovers", every=INTERVAL / 2):
            return
        removed, stuck = 0, list[str]()
        while keys := await self._store.leftovers(besides=stuck):
            for key in keys:
                if await self._remove(key, stuck):
                    removed += 1
        _say("leftovers_removed", removed)

    async def _remove(self, key: str, stuck: list[str]) -> bool:
        """The object first: after a crash in between it is a leftover still."""
        try:
            await self._blobs.delete(key)
        except UpstreamFailed as error:
            stuck.append(key)
            if len(stuck) == _FAILURES:
                raise
            log.warning("leftover_not_removed", extra={"key": key, "reason": repr(error.__cause__ or error)})
            return False
        await self._store.forget(key)
        return True

    async def _check_parts(self) -> None:
        if not await self._owns_store():
            return
        for _ in range(_PARTS):
            part = await self._store.claim_part(every=DAY)
            if part is None:
                return
            await self._check(part)

    async def _check(self, part: str) -> None:
        """Compare what the store has with what it should have. Objects that no row knows become leftovers; a row whose
        object is gone stays, for whoever brings the bytes again brings them back under all their ids."""
        listed = {blob.key: blob.modified async for blob in self._blobs.keys(part)}
        if part.startswith("objects/"):
            await self._report_lost(part, listed.keys())
        young = datetime.fromtimestamp(self._clock(), UTC) - _YOUNG
        old = [key for key, modified in listed.items() if modified < young]
        disowned = 0
        for first in range(0, len(old), BATCH):
            disowned += len(await self._store.disown(old[first : first + BATCH]))
        _say("unknown_objects", disowned)

    async def _report_lost(self, part: str, listed: Collection[str]) -> None:
        missing = [key for key in await self._store.expected(int(part.split("/")[1], 16)) if key not in listed]
        gone = [key for key in missing if await self._blobs.stat(key) is None]  # it may have come since
        if lost := await self._store.stored(gone):
            log.error("objects_lost", extra={"count": len(lost), "keys": lost[:10], "remedy": "upload them again"})

    async def _owns_store(self) -> bool:
        """Whether no other installation has left its mark: those that share a bucket do not know each other's rows."""
        own = f"{_MARKS}{await self._store.installation()}"
        marks = {blob.key async for blob in self._blobs.keys(_MARKS)}
        if own not in marks:
            await self._leave_mark(own)
        if others := sorted(marks - {own}):
            log.warning("object_store_is_shared", extra={"own": own, "others": others, "remedy": _SHARED})
        return not others

    async def _leave_mark(self, key: str) -> None:
        with NamedTemporaryFile() as file:
            file.write(b"Jan Server keeps objects here, see docs/security.md\n")
            file.flush()
            await self._blobs.put(key, Path(file.name), mime="text/plain")


async def _all(batch: Callable[[], Awaitable[int]]) -> int:
    """Batch after batch until one is not full; how much that was."""
    total = 0
    while True:
        count = await batch()
        total += count
        if count < BATCH:
            return total


async def _done(chore: Callable[[], Awaitable[None]]) -> None:
    name = chore.__name__.removeprefix("_")
    try:
        await chore()
    except (Unavailable, UpstreamFailed) as error:
        log.warning("sweep_put_off", extra={"chore": name, "reason": repr(error.__cause__ or error)})
    except Exception:  # whatever it is: the next round must come
        log.exception("sweep_failed", extra={"chore": name})


def _say(event: str, count: int) -> None:
    if count:
        log.info(event, extra={"count": count})
