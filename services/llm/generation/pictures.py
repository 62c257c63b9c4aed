"""Images that messages name by their `jan_` ids, shown to the model: as data, or by a signed URL where its provider
fetches one (CONTRACT 4.3). Messages without such images cost a look at them.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.llm.providers.provider import Json
from services.runtime.errors import ApiError, Conflict, NotFound, TooLarge

# A media id in the place of an image URL: bare, or as placeholder in a data URL (CONTRACT 4.1).
NAMED = re.compile(r"(?:data:[^,]{0,100};(?:base64,)?)?(jan_[0-9a-z]{26})", re.IGNORECASE)
MOST_BYTES = 32 * 1024 * 1024
"""Of the images in one request."""

_LONGEST = 200  # characters of a URL that names an image; others are data, and long
_GONE: Json = {"type": "text", "text": "[There was an image here, which is not there any more.]"}
_LEFT_OUT: Json = {"type": "text", "text": "[There was an image here, which is too large to be shown again.]"}


@dataclass(frozen=True)
class Picture:
    """An image that the caller can read."""

    id: str
    mime: str
    size: int
    """Bytes."""
    url: str
    """Shows it to whoever has the URL, for some minutes."""


class Gallery(Protocol):
    """Where images are kept. Its methods raise `ApiError` when it cannot be asked."""

    async def find(self, ids: Sequence[str]) -> Mapping[str, Picture]:
        """Those of these images that the caller can read."""
        ...

    async def awaits(self, media_id: str) -> bool:
        """Whether the caller has announced this image, and its bytes have not come yet."""
        ...

    async def load(self, picture: Picture) -> bytes:
        """The bytes of an image."""
        ...


class Pictures:
    """The images of one request. Each is loaded at most once, however many endpoints are tried."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._known: dict[str, Picture | None] = {}
        self._chosen: dict[str, Picture] = {}
        self._data: dict[str, str] = {}

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._known)

    async def require(self, messages: Sequence[Json]) -> None:
        """Find the images of a request's own messages. Raises `NotFound` for the first that the caller cannot read,
        `Conflict` (`upload_pending`) for one whose bytes have not come, and `TooLarge`."""
        named = list(_named(messages))
        await self._find({name for _, name in named})
        for at, name in named:
            picture = self._known[name]
            if picture is None:
                raise await self._absence(name, at)
            if not self._choose(picture):
                limit = f"{MOST_BYTES // 2**20}MB"
                raise TooLarge(f"The images of one request may have {limit} together", param=at)

    async def add(self, messages: Sequence[Json]) -> None:
        """Find the images of what a conversation remembers, the newest first as long as there is room: one that has
        gone, or one too many, is no reason not to go on with the conversation."""
        named = [name for _, name in _named(messages)]
        await self._find(set(named))
        for name in reversed(named):
            if (picture := self._known[name]) is not None:
                self._choose(picture)

    async def shown(self, messages: list[Json], *, by_url: bool) -> list[Json]:
        """The messages with every image in the place of its id; in the place of one that cannot be shown, words."""
        if not by_url:
            await self._load()
        urls = {name: picture.url if by_url else self._data[name] for name, picture in self._chosen.items()}
        return [self._painted(message, urls) for message in messages]

    async def _absence(self, name: str, at: str) -> ApiError:
        if await self._gallery.awaits(name):
            return Conflict("The image has not been uploaded yet", code="upload_pending", param=at)
        return NotFound("There is no such media", code="media_not_found", param=at)

    async def _find(self, names: set[str]) -> None:
        unknown = sorted(names - self._known.keys())
        if unknown:
            found = await self._gallery.find(unknown)
            self._known |= {name: found.get(name) for name in unknown}

    def _choose(self, picture: Picture) -> bool:
        """Whether there is room for it, too."""
        chosen = {**self._chosen, picture.id: picture}
        if sum(each.size for each in chosen.values()) > MOST_BYTES:
            return False
        self._chosen = chosen
        return True

    async def _load(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                for picture in self._chosen.values():
                    if picture.id not in self._data:
                        tasks.create_task(self._load_one(picture))
        except* ApiError as failures:
            failure = failures.exceptions[0]  # the others are cancelled, or say the same
        else:
            return
        raise failure

    async def _load_one(self, picture: Picture) -> None:
        data = base64.b64encode(await self._gallery.load(picture)).decode()
        self._data[picture.id] = f"data:{picture.mime};base64,{data}"

    def _painted(self, message: Json, urls: Mapping[str, str]) -> Json:
        content = message.get("content")
        if not isinstance(content, list) or not any(_name(part) for part in content):
            return message
        return {**message, "content": [self._part(part, urls) for part in content]}

    def _part(self, part: Any, urls: Mapping[str, str]) -> Any:
        name = _name(part)
        if name is None:
            return part
        if name not in urls:
            return _GONE if self._known.get(name) is None else _LEFT_OUT
        return {**part, "image_url": {**part["image_url"], "url": urls[name]}}


def _named(messages: Sequence[Json]) -> Iterator[tuple[str, str]]:
    """The images that messages name, each with the parameter that does."""
    for index, message in enumerate(messages):
        content = message.get("content")
        if isinstance(content, list):
            for number, part in enumerate(content):
                if (name := _name(part)) is not None:
                    yield f"messages[{index}].content[{number}].image_url.url", name


def _name(part: Any) -> str | None:
    """The id that a part of a message has in the place of an image."""
    image = part.get("image_url") if isinstance(part, dict) and part.get("type") == "image_url" else None
    return media_id(image.get("url")) if isinstance(image, dict) else None


def media_id(url: Any) -> str | None:
    """The id that stands where a URL of an image does, in lower case; None where there is none."""
    named = NAMED.fullmatch(url) if isinstance(url, str) and len(url) < _LONGEST else None
    return named[1].lower() if named else None
