"""Images for tests: headers of all six types as their specifications say, and pixels that nobody looks at."""

from __future__ import annotations

import base64
import struct


def png(width: int = 640, height: int = 480, *, tail: bytes = b"") -> bytes:
    """`tail` makes it another image."""
    return b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0) + tail


def gif(width: int = 640, height: int = 480) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0;"


def bmp(width: int = 640, height: int = 480) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<IiiHH", 40, width, height, 1, 24) + bytes(24)


def old_bmp(width: int = 640, height: int = 480) -> bytes:
    """Of OS/2, with the short header."""
    return b"BM" + bytes(12) + struct.pack("<IHHHH", 12, width, height, 1, 24)


def jpeg(width: int = 640, height: int = 480, *, before: bytes = b"") -> bytes:
    """`before`: whole segments before the frame header."""
    frame = b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", height, width) + bytes(10)
    return b"\xff\xd8\xff\xe0\x00\x04ab" + before + b"\xff" + frame + b"\xff\xda"


def segment(size: int) -> bytes:
    """A JPEG segment of that size, its marker included."""
    return b"\xff\xe1" + struct.pack(">H", size - 2) + bytes(size - 4)


def _riff(kind: bytes, rest: bytes) -> bytes:
    return b"RIFF\0\0\0\0WEBP" + kind + rest


def lossy_webp(width: int = 640, height: int = 480) -> bytes:
    return _riff(b"VP8 ", bytes(7) + b"\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(8))


def lossless_webp(width: int = 640, height: int = 480) -> bytes:
    return _riff(b"VP8L", bytes(4) + b"\x2f" + struct.pack("<I", width - 1 | height - 1 << 14) + bytes(8))


def extended_webp(width: int = 640, height: int = 480) -> bytes:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return _riff(b"VP8X", bytes(8) + sizes + bytes(8))


def tiff(width: int = 640, height: int = 480, *, order: str = "<", at: int = 8) -> bytes:
    """`at`: where the directory is; its entries come after pixels if it is far."""
    entries = struct.pack(f"{order}HHIHH", 256, 3, 1, width, 0) + struct.pack(f"{order}HHII", 257, 4, 1, height)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at)
    return head.ljust(at, b"\0") + struct.pack(f"{order}H", 2) + entries + bytes(4)


def data_url(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
