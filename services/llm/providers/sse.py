"""Split a byte stream of server-sent events into payloads (WHATWG HTML, section 9.2)."""

from __future__ import annotations

LARGEST_EVENT = 16 * 1024 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Events:
    """An incremental splitter. Only `data:` matters to us: every API we speak repeats the event's type inside it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._held = b""

    @property
    def begun(self) -> bool:
        """Whether a part of an event is here whose end is not."""
        return bool(self._parts)

    def feed(self, data: bytes) -> list[bytes]:
        """The payload of each event that `data` completes. Raises ValueError when one grows beyond all reason."""
        text = self._lines(data)
        if self._parts:
            if b"\n\n" not in self._parts[-1][-1:] + text:  # the event goes on
                self._keep(text)
                return []
            text = b"".join((*self._parts, text))
            self._parts.clear()
            self._size = 0
        *events, rest = text.split(b"\n\n")
        self._keep(rest)
        return [payload for event in events if (payload := _payload(event)) is not None]

    def finish(self) -> list[bytes]:
        """Return the payload of a last event whose blank line never came; real servers forget it after `[DONE]`."""
        payload = _payload(b"".join(self._parts).rstrip(b"\n"))
        self._parts.clear()
        return [] if payload is None else [payload]

    def _lines(self, data: bytes) -> bytes:
        """`data` with LF as its only line end; a CR at its end is held back, perhaps it is half of a CRLF."""
        if self._held or b"\r" in data:
            data, self._held = self._held + data, b""
            if data.endswith(b"\r"):
                data, self._held = data[:-1], b"\r"
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return data

    def _keep(self, part: bytes) -> None:
        if part:
            self._parts.append(part)
            self._size += len(part)
            if self._size > LARGEST_EVENT:
                raise ValueError("an event of the stream is larger than 16 MiB")


def _payload(event: bytes) -> bytes | None:
    """The data of one event, or None when it has none (a comment, a bare `event:` line)."""
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = event.removeprefix(BYTE_ORDER_MARK).split(b"\n")
    data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
    return b"\n".join(data) if data else None
