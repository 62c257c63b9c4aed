"""Which files are taken: images of the six types, known by their bytes and not by what anybody says about them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

from services.runtime.config import ConfigError
from services.runtime.errors import InvalidRequest, UpstreamFailed
from services.runtime.image_header import ImageHeader, image_header

TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff")
MOST_PIXELS = 200_000_000
"""Of an image. A few kilobytes can claim to be more than whoever opens them has memory for."""


class ImageTypes:
    """The types that this installation takes, `allowed` of `TYPES`. Raises `ConfigError` for others."""

    def __init__(self, allowed: Collection[str]) -> None:
        unknown = sorted(set(allowed) - set(TYPES))
        if unknown or not allowed:
            raise ConfigError(f"MEDIA_ALLOWED_TYPES={','.join(allowed)}: only {', '.join(TYPES)} can be recognised")
        self._allowed = tuple(each for each in TYPES if each in allowed)

    async def examine(self, path: Path) -> ImageHeader:
        """What the image in that file is. Raises `InvalidRequest` (`unsupported_media_type`) for any other file."""
        header = await asyncio.to_thread(_header, path)
        if header is None:
            raise self._refused("This is not an image that can be read")
        if header.mime not in self._allowed:
            raise self._refused(f"Images of the type {header.mime} are not taken")
        if header.width < 1 or header.height < 1 or header.width * header.height > MOST_PIXELS:
            raise self._refused(
                f"An image of {header.width} x {header.height} pixels is not taken, only up to {MOST_PIXELS:,} pixels"
            )
        return header

    def require(self, mime: str, param: str) -> str:
        """The media type that a client says its image will have, as we write it. Raises as `examine`."""
        essence = mime.partition(";")[0].strip().lower()
        if essence not in self._allowed:
            raise self._refused(f"Parameter '{param}' is no type that is taken", param=param)
        return essence

    def _refused(self, message: str, *, param: str | None = None) -> InvalidRequest:
        return InvalidRequest(f"{message}: {', '.join(self._allowed)}", code="unsupported_media_type", param=param)


def _header(path: Path) -> ImageHeader | None:
    try:
        with path.open("rb") as file:
            return image_header(file)
    except OSError as error:
        raise UpstreamFailed("The server cannot read what it stored", code="storage_error") from error
