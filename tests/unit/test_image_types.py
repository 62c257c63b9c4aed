"""What an image is and how large, from the bytes alone; files that lie or break off are no images."""

from __future__ import annotations

import struct
from bisect import bisect_left
from io import BytesIO
from pathlib import Path

import pytest

from services.media.image_types import MOST_PIXELS, TYPES, ImageTypes
from services.runtime.config import ConfigError
from services.runtime.errors import InvalidRequest
from services.runtime.image_header import ImageHeader, image_header
from tests import pictures

ALL = {
    "jpeg": (pictures.jpeg(), "image/jpeg"),
    "png": (pictures.png(), "image/png"),
    "lossy webp": (pictures.lossy_webp(), "image/webp"),
    "lossless webp": (pictures.lossless_webp(), "image/webp"),
    "extended webp": (pictures.extended_webp(), "image/webp"),
    "gif": (pictures.gif(), "image/gif"),
    "old gif": (pictures.gif().replace(b"89a", b"87a"), "image/gif"),
    "bmp": (pictures.bmp(), "image/bmp"),
    "bmp from top to bottom": (pictures.bmp(height=-480), "image/bmp"),
    "old bmp": (pictures.old_bmp(), "image/bmp"),
    "tiff": (pictures.tiff(), "image/tiff"),
    "big-endian tiff": (pictures.tiff(order=">"), "image/tiff"),
    "tiff with its directory at the end": (pictures.tiff(at=300_000), "image/tiff"),
    "jpeg with much before its frame": (pictures.jpeg(before=pictures.segment(65_000) * 40), "image/jpeg"),
    "jpeg with fill bytes": (pictures.jpeg(before=b"\xff" * 100), "image/jpeg"),
}


def read(data: bytes) -> ImageHeader | None:
    return image_header(BytesIO(data))


async def examine(folder: Path, data: bytes, *allowed: str) -> ImageHeader:
    path = folder / "image"
    path.write_bytes(data)
    return await ImageTypes(allowed or TYPES).examine(path)


@pytest.mark.parametrize("name", ALL)
def test_type_and_size_are_read_from_the_header(name: str) -> None:
    data, mime = ALL[name]
    assert read(data) == (mime, 640, 480)


@pytest.mark.parametrize("name", ALL)
def test_a_file_that_ends_before_its_size_is_no_image(name: str) -> None:
    data, _ = ALL[name]
    whole = bisect_left(range(len(data) + 1), True, key=lambda length: read(data[:length]) is not None)
    for length in {0, 1, 2, 3, 8, 11, 12, 15, whole // 2, whole - 1}:
        assert read(data[: min(length, whole - 1)]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<?xml version='1.0'?><svg/>",
        b"<html><body><img></body></html>",
        b"%PDF-1.7\n",
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIDAT" + struct.pack(">II", 640, 480),
        b"\n" + pictures.png(),
        b"<script>" + pictures.gif(),
        b"BMW is a maker of cars, and this is a text about them.",
        b"BM" + bytes(12) + struct.pack("<IiiH", 9999, 640, 480, 1),
        b"BM" + bytes(12) + struct.pack("<IiiH", 40, 640, 480, 7),
        b"RIFF\0\0\0\0WAVEfmt " + bytes(30),
        b"RIFF\0\0\0\0WEBPVP8X",
        b"RIFF\0\0\0\0WEBPVP9 " + bytes(30),
        pictures.lossy_webp().replace(b"\x9d\x01\x2a", b"\0\0\0"),
        pictures.lossless_webp().replace(b"\x2f", b"\0"),
        b"\xff\xd8\xff\xda\0\x02" + bytes(50),
        b"\xff\xd8\xff\xe0\0\0" + bytes(50),
        b"\xff\xd8\xff\xe0\0\x04abNO",
        b"\xff\xd8" + b"\xff" * 5000,
        b"II+\0" + bytes(50),
        b"II*\0" + struct.pack("<I", 8) + b"\0\0",
        b"II*\0" + struct.pack("<I", 0xFFFFFFFF),
        b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(100),
        b"II*\0" + struct.pack("<IHHHIHH", 8, 1, 256, 3, 1, 640, 0),
        b"II*\0" + struct.pack("<IH", 8, 2) + struct.pack("<HHII", 256, 2, 1, 640) + struct.pack("<HHII", 257, 4, 9, 1),
    ],
)
def test_what_only_looks_like_an_image_is_none(data: bytes) -> None:
    assert read(data) is None


def test_a_jpeg_of_very_many_segments_is_not_read_to_its_end() -> None:
    assert read(pictures.jpeg(before=b"\xff\xe1\0\x02" * 5000)) is None


@pytest.mark.parametrize("size", [(0, 480), (640, 0), (MOST_PIXELS + 1, 1), (65_000, 65_000), (2**32 - 1, 2**32 - 1)])
async def test_an_image_without_pixels_or_with_too_many_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequest) as error:
        await examine(tmp_path, pictures.png(*size))
    assert error.value.code == "unsupported_media_type"


async def test_an_image_with_as_many_pixels_as_can_be_is_taken(tmp_path: Path) -> None:
    assert (await examine(tmp_path, pictures.png(20_000, 10_000))).width == 20_000


async def test_a_type_that_is_not_allowed_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="image/gif are not taken: image/jpeg, image/png") as error:
        await examine(tmp_path, pictures.gif(), "image/png", "image/jpeg")
    assert error.value.code == "unsupported_media_type"


@pytest.mark.parametrize("given", ["image/png", "IMAGE/PNG", "image/png; charset=binary"])
def test_the_type_that_a_client_announces_is_understood(given: str) -> None:
    assert ImageTypes(TYPES).require(given, "content_type") == "image/png"


@pytest.mark.parametrize("given", ["image/svg+xml", "png", "text/html", "image/"])
def test_a_type_that_is_announced_and_not_allowed_is_refused(given: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        ImageTypes(TYPES).require(given, "mime_type")
    assert (error.value.code, error.value.param) == ("unsupported_media_type", "mime_type")


@pytest.mark.parametrize("allowed", [(), ("image/svg+xml",), ("image/png", "png")])
def test_a_type_that_cannot_be_recognised_cannot_be_allowed(allowed: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="MEDIA_ALLOWED_TYPES"):
        ImageTypes(allowed)
