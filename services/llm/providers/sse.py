"""Split a byte stream of server-sent events into payloads (WHATWG HTML, section 9.2)."""

from __future__ import annotations

LARGEST_EVENT = 16 * 1024 * 1024


class Events:
    """An incremental splitter. Only `data:` matters to us: every API we speak repeats the event's type inside it."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The payload of each event that `data` completes. Raises ValueError when one grows beyond all reason."""
        text = self.rest + data if self.rest else data
        held = b""
        if b"\r" in text:
            if text.endswith(b"\r"):  # perhaps half of a CRLF
                text, held = text[:-1], b"\r"
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *events, rest = text.split(b"\n\n")
        self.rest = rest + held
        if len(self.rest) > LARGEST_EVENT:
            raise ValueError("an event of the stream is larger than 16 MiB")
        return [payload for event in events if (payload := _payload(event)) is not None]

    def finish(self) -> list[bytes]:
        """Return the payload of a last event whose blank line never came; real servers forget it after `[DONE]`."""
        payload = _payload(self.rest.rstrip(b"\r\n"))
        self.rest = b""
        return [] if payload is None else [payload]


def _payload(event: bytes) -> bytes | None:
    """The data of one event, or None when it has none (a comment, a bare `event:` line)."""
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None
