"""What the media room asks of an object store. Two there are: a directory (local_blobs.py) and S3 (s3_blobs.py)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

PIECE = 256 * 1024
"""Bytes that are read at once, at most."""


class BlobMissing(Exception):
    """There is no object under that key."""


@dataclass(frozen=True)
class Blob:
    """An object as the store knows it."""

    key: str
    size: int
    """Bytes."""
    modified: datetime
    """In UTC."""


@dataclass(frozen=True)
class UploadTarget:
    """Where a client sends bytes by itself."""

    put_url: str
    """For a PUT of the bytes, whatever its content type."""
    post_url: str
    post_fields: Mapping[str, str]
    """The form of a POST: exactly key, policy, x-amz-algorithm, x-amz-credential, x-amz-date, x-amz-signature. Only S3
    with temporary credentials needs one more, x-amz-security-token."""


class BlobStore(Protocol):
    """Objects by key. A key is `[a-z0-9/_.-]+`, made by us, never by a client. Objects are never changed, only made and
    removed. Every method raises `UpstreamFailed` (`storage_error`) when the store fails or does not answer in time."""

    async def put(self, key: str, file: Path, *, mime: str) -> None:
        """Store the bytes of `file`, which the caller removes and does not write to any more. After this they survive a
        crash of the machine; before, there is no object, never half of one."""
        ...

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to, not including, `end`, in pieces of at most `PIECE`. Raises `BlobMissing` before
        the first piece."""
        ...

    async def stat(self, key: str) -> Blob | None:
        """What there is under that key."""
        ...

    async def delete(self, key: str) -> None:
        """Remove the object; that there is none is no error."""
        ...

    def keys(self, prefix: str) -> AsyncGenerator[Blob, None]:
        """Every object whose key begins with `prefix`."""
        ...

    async def url(self, key: str, media_id: str, *, mime: str, expires: int) -> str:
        """An absolute URL that shows the object to whoever has it until `expires`, in Unix seconds, without headers."""
        ...

    async def upload_target(self, key: str, media_id: str, *, largest: int, expires: int) -> UploadTarget:
        """Where a client may make the object `key`, of 1 to `largest` bytes, until `expires`, in Unix seconds."""
        ...

    async def ready(self) -> bool:
        """Whether the store answers."""
        ...

    async def close(self) -> None: ...
