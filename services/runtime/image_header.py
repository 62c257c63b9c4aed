"""What an image is and how large, read from its header: nothing is decoded, and nothing in the file is believed that
could make reading it long."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import BinaryIO, NamedTuple

_SEGMENTS = 2000  # of a JPEG before its frame header; fill bytes count, too


class ImageHeader(NamedTuple):
    """Type and size of an image."""

    mime: str
    width: int
    """Pixels."""
    height: int


class _Unreadable(Exception):
    """The file begins like an image and does not go on like one."""


def image_header(file: BinaryIO) -> ImageHeader | None:
    """The header of a JPEG, PNG, WebP, GIF, BMP or TIFF; None when the file is none of them or ends before its size.
    The first bytes alone decide what it is. `file` can seek."""
    magic = _at(file, 0, 12, short=True)
    for begins, (mime, read) in _FORMATS.items():
        if magic.startswith(begins):
            try:
                width, height = read(file)
            except (_Unreadable, struct.error):
                return None
            return ImageHeader(mime, width, height)
    return None


def _at(file: BinaryIO, offset: int, length: int, *, short: bool = False) -> bytes:
    file.seek(offset)
    data = file.read(length)
    if len(data) < length and not short:
        raise _Unreadable
    return data


def _expect(*, true: bool) -> None:
    if not true:
        raise _Unreadable


def _png(file: BinaryIO) -> tuple[int, int]:
    head = _at(file, 8, 16)
    _expect(true=head[:8] == b"\0\0\0\x0dIHDR")
    return struct.unpack(">II", head[8:])


def _gif(file: BinaryIO) -> tuple[int, int]:
    return struct.unpack("<HH", _at(file, 6, 4))


def _bmp(file: BinaryIO) -> tuple[int, int]:
    """Its magic is two letters, so the rest of the header has to make sense, too."""
    head = _at(file, 14, 14, short=True)
    (header,) = struct.unpack_from("<I", head)
    if header == 12:
        width, height, planes = struct.unpack_from("<HHH", head, 4)
    else:
        _expect(true=40 <= header <= 124)
        width, height, planes = struct.unpack("<iiH", head[4:])
    _expect(true=planes == 1)
    return width, abs(height)  # negative: rows from top to bottom


def _jpeg(file: BinaryIO) -> tuple[int, int]:
    """Walk the segments to the frame header (ITU T.81, B.2.2)."""
    at = 2
    for _ in range(_SEGMENTS):
        head = _at(file, at, 2)
        _expect(true=head[0] == 0xFF)
        kind = head[1]
        if kind == 0xFF:
            at += 1  # fill byte
        elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", _at(file, at + 5, 4))
            return width, height
        else:
            _expect(true=kind not in (0x00, 0xD8, 0xD9, 0xDA))  # the frame header comes before any of these
            (length,) = struct.unpack(">H", _at(file, at + 2, 2))
            _expect(true=length >= 2)
            at += 2 + length
    raise _Unreadable


def _webp(file: BinaryIO) -> tuple[int, int]:
    """Its three kinds: lossy, lossless and extended (RFC 9649)."""
    head = _at(file, 8, 22, short=True)
    _expect(true=head[:4] == b"WEBP")
    kind = head[4:8]
    if kind == b"VP8 ":
        _expect(true=head[15:18] == b"\x9d\x01\x2a")
        width, height = struct.unpack_from("<HH", head, 18)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        _expect(true=head[12:13] == b"\x2f")
        (bits,) = struct.unpack_from("<I", head, 13)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    _expect(true=kind == b"VP8X" and len(head) == 22)
    return int.from_bytes(head[16:19], "little") + 1, int.from_bytes(head[19:22], "little") + 1


def _tiff(file: BinaryIO) -> tuple[int, int]:
    """Width and height are entries 256 and 257 of the first directory, which may be anywhere (TIFF 6.0, section 2)."""
    order = ">" if _at(file, 0, 2) == b"MM" else "<"
    (directory,) = struct.unpack(f"{order}I", _at(file, 4, 4))
    (count,) = struct.unpack(f"{order}H", _at(file, directory, 2))
    entries = _at(file, directory + 2, 12 * count)
    found: dict[int, int] = {}
    for tag, kind, values, value in struct.iter_unpack(f"{order}HHI4s", entries):
        layout = {3: "H", 4: "I"}.get(kind)
        if tag in (256, 257) and values == 1 and layout:
            (found[tag],) = struct.unpack_from(order + layout, value)
    _expect(true=len(found) == 2)
    return found[256], found[257]


_FORMATS: Mapping[bytes, tuple[str, Callable[[BinaryIO], tuple[int, int]]]] = {
    b"\xff\xd8\xff": ("image/jpeg", _jpeg),
    b"\x89PNG\r\n\x1a\n": ("image/png", _png),
    b"RIFF": ("image/webp", _webp),
    b"GIF87a": ("image/gif", _gif),
    b"GIF89a": ("image/gif", _gif),
    b"BM": ("image/bmp", _bmp),
    b"II*\0": ("image/tiff", _tiff),
    b"MM\0*": ("image/tiff", _tiff),
}
