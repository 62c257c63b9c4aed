"""The bytes of a data URL (RFC 2397), decoded in pieces as it arrives. The type it claims is not looked at."""

from __future__ import annotations

import binascii
import re
from urllib.parse import unquote_to_bytes

from services.runtime.errors import InvalidRequest

PARAM = "source.data_url"
_LONGEST_HEAD = 1024
_WHITESPACE = b" \t\r\n\f"
_UNFINISHED = re.compile(rb"%[0-9A-Fa-f]?\Z")


class DataUrl:
    """A decoder: `feed` it pieces of the URL, then `end` it. Both return bytes and raise `InvalidRequest`
    (`invalid_data_url`).

    The base64 is strict: its alphabet is the standard one, its padding is there. White space in it is ignored, and it
    may be percent-encoded, as in any URL.
    """

    def __init__(self) -> None:
        self._head: bytes | None = b""
        self._escape = b""
        self._quantum = b""
        self._padded = False

    def feed(self, piece: bytes) -> bytes:
        """The bytes that can be told by now."""
        if self._head is not None:
            head, comma, piece = (self._head + piece).partition(b",")
            self._head = head
            if not comma:
                _check_beginning(head)
                return b""
            _check_head(head)
            self._head = None
        return self._decoded(self._unquoted(piece))

    def end(self) -> bytes:
        """The last bytes, if any."""
        if self._head is not None:
            _check_head(self._head)
            raise _invalid("It has no comma")
        if self._quantum or self._escape:
            raise _invalid("Its base64 ends too early")
        return b""

    def _unquoted(self, piece: bytes) -> bytes:
        piece, self._escape = self._escape + piece, b""
        if b"%" not in piece:
            return piece
        unfinished = _UNFINISHED.search(piece)
        if unfinished:
            self._escape = unfinished[0]
            piece = piece[: unfinished.start()]
        return unquote_to_bytes(piece)

    def _decoded(self, piece: bytes) -> bytes:
        piece = self._quantum + piece.translate(None, _WHITESPACE)
        whole = len(piece) // 4 * 4
        piece, self._quantum = piece[:whole], piece[whole:]
        if not piece:
            return b""
        if self._padded:
            raise _invalid("Its base64 goes on behind the padding")
        try:
            decoded = binascii.a2b_base64(piece, strict_mode=True)
        except binascii.Error as error:
            raise _invalid("Its base64 is broken") from error
        self._padded = piece.endswith(b"=")
        return decoded


def _check_beginning(head: bytes) -> None:
    """Refuse early what cannot become the head of one."""
    begins = head[:5].lower()
    if not b"data:".startswith(begins[: len(head)]):
        raise _invalid("It does not begin with 'data:'")
    if len(head) > _LONGEST_HEAD:
        raise _invalid("It has no comma at its beginning")


def _check_head(head: bytes) -> None:
    _check_beginning(head)
    if not head.lower().endswith(b";base64"):
        raise _invalid("It does not say ';base64'")


def _invalid(reason: str) -> InvalidRequest:
    return InvalidRequest(f"Parameter '{PARAM}' is no data URL: {reason}", code="invalid_data_url", param=PARAM)
