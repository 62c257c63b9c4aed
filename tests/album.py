"""A gallery of images for engines under test."""

from collections.abc import Mapping, Sequence

from services.llm.generation.pictures import Picture


class Album:
    """A gallery of what the test puts into it, which remembers what it was asked for."""

    def __init__(self, *ids: str, size: int = 3) -> None:
        self.pictures = {each: Picture(each, "image/png", size, f"https://store/{each}") for each in ids}
        self.asked: list[Sequence[str]] = []
        self.loaded: list[str] = []
        self.awaited: set[str] = set()

    async def find(self, ids: Sequence[str]) -> Mapping[str, Picture]:
        self.asked.append(ids)
        return {each: self.pictures[each] for each in ids if each in self.pictures}

    async def awaits(self, media_id: str) -> bool:
        return media_id in self.awaited

    async def load(self, picture: Picture) -> bytes:
        self.loaded.append(picture.id)
        return b"png"
