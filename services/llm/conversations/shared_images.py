"""The images in what is shared: readers have no right to them, so they get signed URLs of whoever shares them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from services.llm.generation.pictures import Gallery, Picture, media_id
from services.llm.providers.provider import Json

GONE = {"type": "text", "text": "[There was an image here.]"}


async def with_urls(items: list[Json], gallery: Gallery) -> list[Json]:
    """The items with a signed URL in the place of every id; in the place of an image that has gone, words."""
    wanted = sorted({name for item in items for name in _named(item)})
    if not wanted:
        return items
    found = await gallery.find(wanted)
    return [_signed(item, found) for item in items]


def _named(item: Json) -> Iterator[str]:
    for part in _parts(item):
        if (name := media_id(_url(part))) is not None:
            yield name


def _signed(item: Json, found: Mapping[str, Picture]) -> Json:
    if not any(_named(item)):
        return item
    return {**item, "content": [_part(part, found) for part in _parts(item)]}


def _part(part: Any, found: Mapping[str, Picture]) -> Any:
    name = media_id(_url(part))
    if name is None:
        return part
    if name not in found:
        return GONE
    image, url = part["image_url"], found[name].url
    return {**part, "image_url": {**image, "url": url} if isinstance(image, dict) else url}


def _parts(item: Json) -> Sequence[Any]:
    content = item.get("content")
    return content if isinstance(content, list) else ()


def _url(part: Any) -> Any:
    """What a part says about its image: `image_url` with a `url`, or in `input_image` parts the URL itself."""
    image = part.get("image_url") if isinstance(part, dict) else None
    return image.get("url") if isinstance(image, dict) else image
