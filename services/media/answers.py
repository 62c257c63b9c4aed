"""What clients are told about images, made of rows and signed URLs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jan.media.v1 import media_pb2

from services.media.library import Signed
from services.media.names import time_of
from services.media.uploads import Announced
from services.runtime.db import Row


def media(row: Row, signed: Signed) -> media_pb2.Media:
    """An image that was brought."""
    return media_pb2.Media(
        id=row["id"],
        mime=row["mime"],
        bytes=row["bytes"],
        deduped=row["deduped"],
        presigned_url=signed.url,
        expires_at=time_of(signed.expires),
        created_at=time_of(row["created_at"]),
    )


def details(row: Row, signed: Signed) -> media_pb2.MediaDetails:
    """All that is known about an image."""
    return media_pb2.MediaDetails(
        id=row["id"],
        mime=row["mime"],
        bytes=row["bytes"],
        filename=row["filename"],
        deduped=row["deduped"],
        created_at=time_of(row["created_at"]),
        presigned_url=signed.url,
        url=signed.url,
        expires_at=time_of(signed.expires),
    )


def listed(row: Row) -> media_pb2.ListedMedia:
    """An image in a list."""
    return media_pb2.ListedMedia(
        id=row["id"],
        object="media",
        mime=row["mime"],
        bytes=row["bytes"],
        filename=row["filename"],
        created_at=time_of(row["created_at"]),
    )


def resolved(row: Row, signed: Signed) -> media_pb2.ResolvedMedia:
    """An image that was asked for among others."""
    return media_pb2.ResolvedMedia(
        id=row["id"],
        presigned_url=signed.url,
        expires_at=time_of(signed.expires),
        mime=row["mime"],
        bytes=row["bytes"],
    )


def presigned(row: Row, signed: Signed) -> Mapping[str, Any]:
    """The fields that say which URL shows an image, in every answer that has them."""
    return {
        "id": row["id"],
        "url": signed.url,
        "expires_in": signed.seconds,
        "expires_at": time_of(signed.expires),
    }


def prepared(announced: Announced, *, seconds: int) -> Mapping[str, Any]:
    """The fields that say where an image is to be sent within so many `seconds`, in every answer that has them."""
    target = announced.target
    return {
        "jan_id": announced.id,
        "id": announced.id,
        "content_type": announced.mime,
        "mime_type": announced.mime,
        "presigned_url": target.put_url,
        "upload_url": target.put_url,
        "presigned_post": media_pb2.PresignedPost(url=target.post_url, fields=target.post_fields),
        "expires_in": seconds,
        "expires_at": time_of(announced.expires),
    }
