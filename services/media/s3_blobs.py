"""Objects in a bucket of S3, or of what speaks its protocol: the door to aioboto3, whose errors end here.

Import this module only where the S3 store was chosen: aioboto3 takes a quarter of a second and 40 MB.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aioboto3  # type: ignore[import-untyped]  # ships no annotations; this module is where they begin
import aiohttp
from botocore.config import Config  # type: ignore[import-untyped]  # as aioboto3
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]  # as aioboto3

from services.media.blobs import PIECE, Blob, BlobMissing, UploadTarget
from services.runtime.config import Settings
from services.runtime.errors import UpstreamFailed

log = logging.getLogger(__name__)

_CONNECT = 3.0  # seconds; all of these, too
_SILENCE = 20.0
_ANSWER = 10.0  # for a call that moves no file, its repetitions included
_TRANSFER = 300.0  # for a whole file
_PROBE = 3.0
_PAGE = 1000  # objects that are listed by one call
_NO_OBJECT = {"404", "NoSuchKey", "NotFound"}
_REMEDIES = {
    "404": "make the bucket, or correct MEDIA_S3_BUCKET",
    "NoSuchBucket": "make the bucket, or correct MEDIA_S3_BUCKET",
    "403": "correct MEDIA_S3_ACCESS_KEY_ID and MEDIA_S3_SECRET_ACCESS_KEY, or what the key may do",
    "301": "correct MEDIA_S3_REGION",
    "400": "correct MEDIA_S3_REGION and the credentials",
}


async def connect(settings: Settings) -> S3Blobs:
    """The store that the settings name. Nothing is sent yet: a store that is down now may come back."""
    session = aioboto3.Session(
        aws_access_key_id=settings.media_s3_access_key_id or None,
        aws_secret_access_key=settings.media_s3_secret_access_key or None,
        region_name=settings.media_s3_region,
    )
    stack = AsyncExitStack()
    client = signing = await _client(stack, session, settings, settings.media_s3_endpoint)
    if settings.media_s3_public_endpoint:
        signing = await _client(stack, session, settings, settings.media_s3_public_endpoint)
    return S3Blobs(settings.media_s3_bucket, client, signing, stack)


async def _client(stack: AsyncExitStack, session: Any, settings: Settings, endpoint: str) -> Any:
    config = Config(
        signature_version="s3v4",
        connect_timeout=_CONNECT,
        read_timeout=_SILENCE,
        retries={"mode": "standard", "total_max_attempts": 2},  # every call is safe to repeat: objects never change
        max_pool_connections=64,
        tcp_keepalive=True,
        # Newer checksums are unknown to many stores; hashing a body for its signature would block the event loop.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={
            "addressing_style": "path" if settings.media_s3_use_path_style else "virtual",
            "payload_signing_enabled": False,
        },
    )
    with _translated("connect"):
        return await stack.enter_async_context(session.client("s3", endpoint_url=endpoint or None, config=config))


class S3Blobs:
    """A `BlobStore` in `bucket`. `client` talks to the store; `signing` knows it by the address that clients reach."""

    def __init__(
        self,
        bucket: str,
        client: Any,
        signing: Any,
        stack: AsyncExitStack,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._bucket = bucket
        self._client = client
        self._signing = signing
        self._stack = stack
        self._clock = clock
        self._trouble = ""

    async def put(self, key: str, file: Path, *, mime: str) -> None:
        async with _call("put", within=_TRANSFER):
            with file.open("rb") as body:  # opened by a thread it would stay open after a cancelled wait
                await self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType=mime)

    async def read(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        async with self._body(key, start, end) as body:
            while piece := await _piece(body):
                yield piece

    async def stat(self, key: str) -> Blob | None:
        async with _call("stat"):
            try:
                found = await self._client.head_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if _code(error) not in _NO_OBJECT:
                    raise
                await self._client.head_bucket(Bucket=self._bucket)  # without a bucket the answer is the same
                return None
        return Blob(key, found["ContentLength"], found["LastModified"])

    async def delete(self, key: str) -> None:
        async with _call("delete"):
            await self._client.delete_object(Bucket=self._bucket, Key=key)

    async def keys(self, prefix: str) -> AsyncGenerator[Blob, None]:
        token: dict[str, str] = {}
        while True:
            async with _call("keys"):
                page = await self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, MaxKeys=_PAGE, **token)
            for each in page.get("Contents", ()):
                yield Blob(each["Key"], each["Size"], each["LastModified"])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    async def url(self, key: str, media_id: str, *, mime: str, expires: int) -> str:
        shown = {"ResponseContentType": mime, "ResponseContentDisposition": "inline"}
        return await self._presigned("get_object", key, expires, shown)

    async def upload_target(self, key: str, media_id: str, *, largest: int, expires: int) -> UploadTarget:
        async with _call("sign"):
            form = await self._signing.generate_presigned_post(
                Bucket=self._bucket,
                Key=key,
                Conditions=[["content-length-range", 1, largest]],
                ExpiresIn=self._left(expires),
            )
        return UploadTarget(
            put_url=await self._presigned("put_object", key, expires, {}),
            post_url=form["url"],
            post_fields=form["fields"],
        )

    async def ready(self) -> bool:
        trouble, remedy = await self._probe()
        if trouble != self._trouble:
            self._trouble = trouble
            if trouble:
                log.error("object_store_not_ready", extra={"reason": trouble, "bucket": self._bucket, "remedy": remedy})
            else:
                log.info("object_store_ready", extra={"bucket": self._bucket})
        return not trouble

    async def close(self) -> None:
        await self._stack.aclose()

    async def _presigned(self, operation: str, key: str, expires: int, more: dict[str, str]) -> str:
        async with _call("sign"):
            url: str = await self._signing.generate_presigned_url(
                operation, Params={"Bucket": self._bucket, "Key": key, **more}, ExpiresIn=self._left(expires)
            )
            return url

    def _left(self, expires: int) -> int:
        """The store counts from its signature on."""
        return max(1, expires - int(self._clock()))

    @asynccontextmanager
    async def _body(self, key: str, start: int, end: int | None) -> AsyncIterator[Any]:
        if end is not None and end <= start:
            if await self.stat(key) is None:
                raise BlobMissing(key)
            yield None
            return
        found = await self._get(key, start, end)
        if found is None:
            yield None
            return
        try:
            yield found
        finally:
            found.close()

    async def _get(self, key: str, start: int, end: int | None) -> Any:
        """A body to read from; None when there is nothing at `start`."""
        part = {"Range": f"bytes={start}-{'' if end is None else end - 1}"} if start or end is not None else {}
        async with _call("read"):
            try:
                return (await self._client.get_object(Bucket=self._bucket, Key=key, **part))["Body"]
            except ClientError as error:
                if _code(error) == "NoSuchKey":
                    raise BlobMissing(key) from error
                if _code(error) in ("InvalidRange", "416"):
                    return None
                raise

    async def _probe(self) -> tuple[str, str]:
        """What is wrong, and the remedy; both empty when nothing is."""
        try:
            async with asyncio.timeout(_PROBE):
                await self._client.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            return f"the store answers {_code(error)}", _REMEDIES.get(_code(error), "")
        except (BotoCoreError, aiohttp.ClientError, OSError) as error:
            return type(error).__name__, "the store is tried again; see MEDIA_S3_ENDPOINT"
        return "", ""


async def _piece(body: Any) -> bytes:
    if body is None:
        return b""
    async with _call("read", within=_SILENCE):
        piece: bytes = await body.read(PIECE)
        return piece


@asynccontextmanager
async def _call(operation: str, *, within: float | None = None) -> AsyncIterator[None]:
    with _translated(operation):
        async with asyncio.timeout(within or _ANSWER):
            yield


@contextmanager
def _translated(operation: str) -> Iterator[None]:
    """Raises `UpstreamFailed` in the place of whatever the libraries raise."""
    try:
        yield
    except (ClientError, BotoCoreError, aiohttp.ClientError, OSError) as error:  # TimeoutError is one
        reason = _code(error) if isinstance(error, ClientError) else type(error).__name__
        log.warning("object_store_failed", extra={"operation": operation, "reason": reason})
        raise UpstreamFailed("The object store failed; try again shortly.", code="storage_error") from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
