"""Images in shares: signed URLs for readers, words for what has gone, everything else as it was shared."""

from typing import Any

import pytest

from services.llm.conversations.shared_images import GONE, with_urls
from tests.album import Album

ONE, TWO = f"jan_{'1' * 26}", f"jan_{'2' * 26}"


def item(content: Any) -> dict[str, Any]:
    return {"id": "msg_1", "role": "user", "content": content}


@pytest.mark.parametrize("content", ["text", ONE, [{"type": "text", "text": ONE}], [], None, ["odd", None]])
async def test_what_names_no_image_is_shown_as_it_was_shared_and_nobody_is_asked(content: Any) -> None:
    album = Album(ONE)
    assert await with_urls([item(content)], album) == [item(content)]
    assert album.asked == []


async def test_images_get_signed_urls_in_both_kinds_of_parts() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": ONE.upper(), "detail": "low"}},
        {"type": "input_image", "image_url": f"data:image/png;base64,{ONE}"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]
    (shown,) = await with_urls([item(parts)], Album(ONE))
    assert shown["content"] == [
        {"type": "image_url", "image_url": {"url": f"https://store/{ONE}", "detail": "low"}},
        {"type": "input_image", "image_url": f"https://store/{ONE}"},
        parts[2],
    ]


async def test_an_image_that_has_gone_is_words() -> None:
    (shown,) = await with_urls([item([{"type": "image_url", "image_url": {"url": TWO}}])], Album(ONE))
    assert shown["content"] == [GONE]
