"""Images named by ids in messages: found once, shown as data or by URL, never in the way of a conversation."""

from typing import Any

import pytest

from services.llm.generation import pictures as module
from services.llm.generation.pictures import Picture, Pictures
from services.runtime.errors import Conflict, NotFound, TooLarge, UpstreamFailed
from tests.album import Album

ONE, TWO, THREE = (f"jan_{digit * 26}" for digit in "123")


def image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def saying(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


async def test_messages_without_ids_are_passed_on_as_they_are_and_nobody_is_asked() -> None:
    album = Album()
    pictures, messages = Pictures(album), saying(image("https://a/b.png"), {"type": "text", "text": ONE})
    await pictures.require(messages)
    assert not pictures
    assert album.asked == []


@pytest.mark.parametrize(
    "url",
    [
        ONE,
        ONE.upper(),
        f"data:image/png;{ONE}",
        f"data:image/png;base64,{ONE}",
        f"data:;base64,{ONE}",
        f"data:image/png;a=b;{ONE}",
    ],
)
async def test_an_id_or_a_placeholder_becomes_the_data_of_the_image(url: str) -> None:
    pictures = Pictures(Album(ONE))
    messages = saying(image(url, detail="low"))
    await pictures.require(messages)
    shown = await pictures.shown(messages, by_url=False)
    assert shown == saying(image("data:image/png;base64,cG5n", detail="low"))


async def test_for_a_provider_that_fetches_it_becomes_a_signed_url_and_is_not_loaded() -> None:
    album = Album(ONE)
    pictures, messages = Pictures(album), saying(image(ONE))
    await pictures.require(messages)
    assert await pictures.shown(messages, by_url=True) == saying(image(f"https://store/{ONE}"))
    assert album.loaded == []


async def test_an_image_is_looked_up_and_loaded_once_however_often_it_is_shown() -> None:
    album = Album(ONE, TWO)
    pictures, messages = Pictures(album), [*saying(image(ONE), image(TWO)), *saying(image(ONE))]
    await pictures.require(messages)
    await pictures.shown(messages, by_url=False)
    await pictures.shown(messages, by_url=False)
    assert album.asked == [[ONE, TWO]]
    assert sorted(album.loaded) == [ONE, TWO]


async def test_an_image_of_nobody_is_refused_by_the_name_of_its_parameter() -> None:
    with pytest.raises(NotFound) as refused:
        await Pictures(Album(ONE)).require([*saying(image(ONE)), *saying({"type": "text", "text": "x"}, image(TWO))])
    assert (refused.value.code, refused.value.param) == ("media_not_found", "messages[1].content[1].image_url.url")


async def test_an_image_whose_bytes_have_not_come_is_said_to_be_pending() -> None:
    album = Album(ONE)
    album.awaited = {TWO}
    with pytest.raises(Conflict) as refused:
        await Pictures(album).require(saying(image(ONE), image(TWO)))
    assert (refused.value.code, refused.value.param) == ("upload_pending", "messages[0].content[1].image_url.url")


async def test_too_many_bytes_are_refused_before_any_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 5)
    album = Album(ONE, TWO)
    with pytest.raises(TooLarge) as refused:
        await Pictures(album).require(saying(image(ONE), image(ONE), image(TWO)))
    assert refused.value.param == "messages[0].content[2].image_url.url"
    assert album.loaded == []


async def test_an_image_of_the_past_that_has_gone_is_words_now() -> None:
    pictures, messages = Pictures(Album(ONE)), saying(image(ONE), image(TWO))
    await pictures.add(messages)
    (shown,) = await pictures.shown(messages, by_url=True)
    assert shown["content"][0] == image(f"https://store/{ONE}")
    assert "not there any more" in shown["content"][1]["text"]


async def test_of_the_past_the_newest_images_are_shown_as_far_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 6)
    pictures, messages = Pictures(Album(ONE, TWO, THREE)), saying(image(ONE), image(TWO), image(THREE))
    await pictures.add(messages)
    (shown,) = await pictures.shown(messages, by_url=True)
    assert "too large" in shown["content"][0]["text"]
    assert shown["content"][1:] == [image(f"https://store/{each}") for each in (TWO, THREE)]


class Ruin(Album):
    """A gallery whose images cannot be loaded."""

    async def load(self, picture: Picture) -> bytes:
        raise UpstreamFailed("The object store failed", code="storage_error")


async def test_the_error_of_the_gallery_is_that_of_the_request() -> None:
    pictures, messages = Pictures(Ruin(ONE, TWO)), saying(image(ONE), image(TWO))
    await pictures.require(messages)
    with pytest.raises(UpstreamFailed) as failed:
        await pictures.shown(messages, by_url=False)
    assert failed.value.code == "storage_error"


async def test_what_is_no_image_part_is_left_alone() -> None:
    pictures = Pictures(Album(ONE))
    odd = saying(image(ONE), {"type": "image_url"}, {"type": "image_url", "image_url": ONE}, "text", None, image(""))
    await pictures.require(odd)
    (shown,) = await pictures.shown(odd, by_url=True)
    assert shown["content"][1:] == odd[0]["content"][1:]
