"""Objects as files of one directory, and signed URLs of this server that lead to them."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from services.media.blobs import PIECE, Blob, BlobMissing, UploadTarget
from services.media.signing import Signer
from services.runtime.config import ConfigError
from services.runtime.errors import UpstreamFailed

_KEY = re.compile(r"[a-z0-9_-][a-z0-9_.-]*(/[a-z0-9_-][a-z0-9_.-]*)*")
_INCOMING = "incoming"
_STALE = 3600.0  # seconds; no put takes that long
_DEADLINE = 60.0  # seconds for one thing to do with the disk
_PAGE = 500
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_T = TypeVar("_T")
_P = ParamSpec("_P")


class LocalBlobs:
    """A `BlobStore` in `folder`, which several processes may share. `base_url` is where clients reach this server.

    A file is written or linked under `incoming/`, synced, and gets its name at last: a crash leaves all of it or
    nothing that has a key. Without the directory `incoming` the store counts as gone, such as a disk that is not
    mounted, and not as empty.
    """

    def __init__(self, folder: Path, signer: Signer, base_url: str, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._incoming = folder / _INCOMING
        self._signer = signer
        self._media_url = f"{base_url.rstrip('/')}/v1/media"
        self._clock = clock

    def prepare(self) -> None:
        """Make the directory and remove what processes left in it that were killed. Raises `ConfigError`."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._incoming.mkdir(mode=0o700, exist_ok=True)
            for each in self._incoming.glob("*.put"):
                with suppress(FileNotFoundError):
                    if self._clock() - each.stat().st_mtime > _STALE:
                        each.unlink()
        except OSError as error:
            raise ConfigError(
                f"{self._folder} cannot hold images: {error.strerror}; set MEDIA_LOCAL_STORAGE_PATH"
            ) from error

    async def put(self, key: str, file: Path, *, mime: str) -> None:
        await _in_thread(self._put, self._path(key), file)

    async def read(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        with closing(await self._open(key)) as file:
            at = await _in_thread(file.seek, start)
            while piece := await _in_thread(file.read, PIECE if end is None else max(0, min(PIECE, end - at))):
                yield piece
                at += len(piece)

    async def stat(self, key: str) -> Blob | None:
        found = await _in_thread(self._stat, self._path(key))
        return _blob(key, found) if found is not None else None

    async def delete(self, key: str) -> None:
        await _in_thread(self._delete, self._path(key))

    async def keys(self, prefix: str) -> AsyncGenerator[Blob, None]:
        walk = self._walk(prefix)
        while page := await _in_thread(lambda: list(islice(walk, _PAGE))):
            for blob in page:
                yield blob

    async def url(self, key: str, media_id: str, *, mime: str, expires: int) -> str:
        return f"{self._media_url}/{media_id}/content?{self._signer.content_query(media_id, expires=expires)}"

    async def upload_target(self, key: str, media_id: str, *, largest: int, expires: int) -> UploadTarget:
        return UploadTarget(
            put_url=f"{self._media_url}/uploads/{media_id}?{self._signer.upload_query(media_id, expires=expires)}",
            post_url=f"{self._media_url}/uploads",
            post_fields=self._signer.form(key, largest=largest, expires=expires, now=self._clock()),
        )

    async def ready(self) -> bool:
        try:
            return await _in_thread(os.access, self._incoming, os.W_OK | os.X_OK)
        except UpstreamFailed:
            return False

    async def close(self) -> None:
        """There is nothing to close."""

    # What follows runs in threads.

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key) or key.startswith(f"{_INCOMING}/"):
            raise ValueError(f"this is no key: {key!r}")
        return self._folder / key

    def _put(self, path: Path, file: Path) -> None:
        scratch = self._incoming / f"{secrets.token_hex(8)}.put"
        try:
            _take(file, scratch)
            self._give_name(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
        for folder in path.parents:  # all of them: another process may have made some, and not have synced them yet
            _sync(folder)
            if folder == self._folder:
                return

    def _give_name(self, scratch: Path, path: Path) -> None:
        for _ in range(10):
            with suppress(FileNotFoundError):  # whoever deleted the last object beside it took the directory, too
                self._make(path.parent)
                os.replace(scratch, path)
                return
        raise OSError(f"the directory of {path} does not stay")

    def _make(self, folder: Path) -> None:
        """Only below the store's own directory: one that is gone must not come back empty."""
        if folder != self._folder:
            self._make(folder.parent)
            folder.mkdir(mode=0o700, exist_ok=True)

    async def _open(self, key: str) -> BinaryIO:
        """An open file, which is closed as well when the wait for it is cancelled."""
        opening = asyncio.ensure_future(_in_thread(self._opened, self._path(key)))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(lambda done: done.exception() or done.result().close())
            raise

    def _opened(self, path: Path) -> BinaryIO:
        try:
            return path.open("rb")
        except _ABSENT as error:
            self._check_presence()
            raise BlobMissing(str(path)) from error

    def _stat(self, path: Path) -> os.stat_result | None:
        try:
            found = path.stat()
        except _ABSENT:
            self._check_presence()
            return None
        return found if stat.S_ISREG(found.st_mode) else None

    def _delete(self, path: Path) -> None:
        try:
            path.unlink()
        except _ABSENT:
            self._check_presence()
            return
        folder = path.parent
        with suppress(OSError):  # until one is not empty
            while folder != self._folder:
                folder.rmdir()
                folder = folder.parent
        with suppress(FileNotFoundError):
            _sync(folder)

    def _walk(self, prefix: str) -> Iterator[Blob]:
        self._check_presence()
        for folder, folders, files in os.walk(self._folder / prefix.rpartition("/")[0]):
            if Path(folder) == self._folder:
                folders[:] = sorted(set(folders) - {_INCOMING})
            for name in files:
                key = str((Path(folder) / name).relative_to(self._folder))
                if key.startswith(prefix) and (found := self._stat(self._folder / key)):
                    yield _blob(key, found)

    def _check_presence(self) -> None:
        if not self._incoming.is_dir():
            raise FileNotFoundError(f"{self._incoming} is gone")


async def _in_thread(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Do it, under a deadline. Raises `UpstreamFailed`."""
    try:
        async with asyncio.timeout(_DEADLINE):
            return await asyncio.to_thread(work, *args, **kwargs)
    except OSError as error:  # TimeoutError is one
        raise UpstreamFailed("The object store failed; try again shortly.", code="storage_error") from error


def _take(file: Path, scratch: Path) -> None:
    """The bytes of `file` under another name, synced: the same file where that is possible, else a copy."""
    try:
        scratch.hardlink_to(file)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, scratch)
    descriptor = os.open(scratch, os.O_RDONLY)
    try:
        os.fchmod(descriptor, 0o600)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _blob(key: str, found: os.stat_result) -> Blob:
    return Blob(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))
