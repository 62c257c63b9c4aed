"""What a call answers, as bytes: recorded while it is made, handed on to the client as it comes, kept, played again."""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass
from typing import Any

import orjson
from grpc import StatusCode

from services.runtime.statuses import Metadata, Refusal

REPLAYED = ("idempotent-replayed", "true")


@dataclass(frozen=True, slots=True)
class Answer:
    """All that a client got: `messages` were written, `last` was returned, or there was a refusal."""

    initial: Metadata = ()
    messages: tuple[bytes, ...] = ()
    last: bytes | None = None
    refusal: Refusal | None = None


class Recording:
    """Stands where a servicer expects its context. What it is told is kept up to `largest` bytes, and handed on by
    `hand_on`. When nobody listens any more, it is kept all the same; once there is too much of it to be kept, the
    listener's pace counts, and without one the call is cancelled."""

    def __init__(self, context: Any, *, largest: int) -> None:
        self.error: BaseException | None = None
        self._last: bytes | None = None
        self._context = context
        self._room = largest
        self._initial: Metadata = ()
        self._messages: list[bytes] = []
        self._news: asyncio.Queue[bytes | Metadata | None] = asyncio.Queue()
        self._taken = asyncio.Event()
        self._left = False

    @property
    def begun(self) -> bool:
        """Whether a message has been written."""
        return bool(self._messages) or self.overflowed

    @property
    def overflowed(self) -> bool:
        """Whether this is too much to be kept."""
        return self._room < 0

    @property
    def abandoned(self) -> bool:
        """Whether the client has hung up."""
        return self._left

    def answer(self, refusal: Refusal | None = None) -> Answer:
        """What has been recorded, with the refusal that it ends with."""
        return Answer(self._initial, tuple(self._messages), self._last, refusal)

    def play(self, answer: Answer) -> None:
        """Say all of an earlier answer, and that it is one."""
        refusal = answer.refusal
        if refusal is not None:
            self.error = Refusal(refusal.code, refusal.message, (*refusal.trailers, REPLAYED))
            return
        self._tell((*answer.initial, REPLAYED))
        for message in answer.messages:
            self._tell(message)
        self._last = answer.last

    def finish(self, message: Any) -> None:
        """What the method has returned, which is the last message unless it is None."""
        if message is not None:
            self._last = encoded(message)
            self._room -= len(self._last)

    def end(self) -> None:
        """Say that nothing more comes."""
        self._news.put_nowait(None)

    async def hand_on(self) -> bytes | None:
        """Give the client what comes until the end; return the last message or raise what the call has raised."""
        try:
            while (news := await self._news.get()) is not None:
                if isinstance(news, bytes):
                    await self._context.write(news)
                else:
                    await self._context.send_initial_metadata(news)
                if self._news.empty():
                    self._taken.set()
        finally:
            self._left = True
            self._taken.set()
        if self.error is not None:
            raise self.error
        return self._last

    # What servicers use of a context.

    def invocation_metadata(self) -> Any:
        """What the client sent."""
        return self._context.invocation_metadata()

    def time_remaining(self) -> float | None:
        """Seconds until the client's own deadline, None without one."""
        left: float | None = self._context.time_remaining()
        return left

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """What goes before the first message."""
        self._initial = tuple(metadata)
        self._tell(self._initial)

    async def write(self, message: Any) -> None:
        """One message of a stream."""
        data = encoded(message)
        self._room -= len(data)
        if not self.overflowed:
            self._messages.append(data)
            self._tell(data)
            return
        self._messages.clear()
        self._taken.clear()
        self._tell(data)
        if not self._left:
            await self._taken.wait()
        if self._left:
            raise asyncio.CancelledError("the client has left, and there is too much to be kept for its return")

    def _tell(self, news: bytes | Metadata) -> None:
        if not self._left:
            self._news.put_nowait(news)


def encoded(message: Any) -> bytes:
    """A message as it is on the wire; what is bytes already stays as it is."""
    return message if isinstance(message, bytes) else bytes(message.SerializeToString())


def pack(answer: Answer) -> bytes:
    """An answer as bytes: the length of the head (4 bytes), the head, and the messages, compressed."""
    refusal = answer.refusal
    head = orjson.dumps(
        {
            "initial": _texts(answer.initial),
            "sizes": [len(each) for each in answer.messages],
            "last": answer.last is not None,
            "refusal": refusal and [refusal.code.name, refusal.message, _texts(refusal.trailers)],
        }
    )
    parts = (len(head).to_bytes(4), head, *answer.messages, answer.last or b"")
    return zlib.compress(b"".join(parts), level=1)


def unpack(data: bytes) -> Answer:
    """The answer that was packed."""
    data = zlib.decompress(data)
    at = 4 + int.from_bytes(data[:4])
    head = orjson.loads(data[4:at])
    messages = []
    for size in head["sizes"]:
        messages.append(data[at : at + size])
        at += size
    refusal = None
    if head["refusal"]:
        code, message, trailers = head["refusal"]
        refusal = Refusal(StatusCode[code], message, _metadata(trailers))
    return Answer(_metadata(head["initial"]), tuple(messages), data[at:] if head["last"] else None, refusal)


def _texts(metadata: Metadata) -> list[tuple[str, str]]:
    """JSON has no bytes: those of keys in `-bin` become one character each."""
    return [(key, value.decode("latin-1") if isinstance(value, bytes) else value) for key, value in metadata]


def _metadata(texts: list[list[str]]) -> Metadata:
    return tuple((key, value.encode("latin-1") if key.endswith("-bin") else value) for key, value in texts)
