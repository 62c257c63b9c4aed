"""Where images come from: a URL of somewhere else, or a data URL. Both arrive in a spool piece by piece."""

from __future__ import annotations

from jan.media.v1 import media_pb2

from services.media.data_url import DataUrl
from services.media.spool import Spool
from services.runtime.errors import InvalidRequest
from services.runtime.fetched import Limits
from services.runtime.outgoing import Fetcher

_SLICE = 256 * 1024  # characters of a data URL


class Sources:
    """Reads them. A fetch may take `seconds`."""

    def __init__(self, fetcher: Fetcher, *, seconds: float) -> None:
        self._fetcher = fetcher
        self._seconds = seconds

    async def read(self, source: media_pb2.MediaSource, spool: Spool) -> None:
        """Put the bytes of a source into the spool. Raises `InvalidRequest` (`invalid_source_type`, `invalid_data_url`,
        `invalid_url`, `url_not_allowed`), `TooLarge`, and what the fetcher does."""
        if type_of(source) == "data_url":
            await _decode(required(source.data_url, "source.data_url"), spool)
        else:
            await self._fetch(required(source.url, "source.url"), spool)

    async def _fetch(self, url: str, spool: Spool) -> None:
        limits = Limits(seconds=self._seconds, most=spool.largest)
        async with self._fetcher.get(url, param="source.url", limits=limits) as answer:
            answer.require_success()
            async for piece in answer.body:
                await spool.feed(piece)


def type_of(source: media_pb2.MediaSource) -> str:
    """What a source says that it is. Raises `InvalidRequest` for what there is not."""
    kind = required(source.type, "source.type")
    if kind not in ("remote_url", "data_url"):
        raise InvalidRequest(
            f"unknown source type '{kind[:64]}': there are remote_url and data_url",
            code="invalid_source_type",
            param="source.type",
        )
    return kind


def required(value: str, param: str) -> str:
    """The value of a parameter. Raises `InvalidRequest` when it has none."""
    if not value:
        raise InvalidRequest(f"Parameter '{param}' is required", param=param)
    return value


async def _decode(text: str, spool: Spool) -> None:
    decoder = DataUrl()
    for at in range(0, len(text), _SLICE):
        await spool.feed(decoder.feed(text[at : at + _SLICE].encode("ascii", "replace")))
    decoder.end()
