"""Images by their ids, from the media room to the model: in prompts, in what conversations remember, in shares."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import struct_pb2
from grpc import StatusCode
from jan.llm.v1 import chat_pb2, chat_pb2_grpc, shares_pb2, shares_pb2_grpc
from jan.media.v1 import media_pb2, media_pb2_grpc

from tests.grpc.keys import guest
from tests.grpc.rig import SECONDS, Rig, running
from tests.grpc.talks import Person, refused


def png(width: int = 3, height: int = 2) -> bytes:
    """A black image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes(width) for _ in range(height)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class Painter(Person):
    """Somebody who brings images and shows them to the demo model."""

    def __init__(self, rig: Rig, account: Any) -> None:
        super().__init__(rig, account)
        stubs: Any = (media_pb2_grpc.MediaServiceStub, chat_pb2_grpc.ChatServiceStub, shares_pb2_grpc.ShareServiceStub)
        self.media, self.chats, self.shares = (stub(rig.channel) for stub in stubs)

    async def bring(self, data: bytes) -> str:
        source = {"type": "data_url", "data_url": f"data:image/png;base64,{base64.b64encode(data).decode()}"}
        request = media_pb2.CreateMediaRequest(source=media_pb2.MediaSource(**source))
        return str((await self.media.CreateMedia(request, metadata=self.metadata, timeout=SECONDS)).id)

    async def drop(self, media_id: str) -> None:
        request = media_pb2.DeleteMediaRequest(id=media_id)
        await self.media.DeleteMedia(request, metadata=self.metadata, timeout=SECONDS)

    def chat(self, content: Any, conversation: str = "") -> Any:
        request = chat_pb2.CreateChatCompletionRequest(model="jan-demo")
        request.messages.add(role="user").content.CopyFrom(value(content))
        if conversation:
            request.conversation.string_value = conversation
        return self.chats.CreateChatCompletion(request, metadata=self.metadata, timeout=SECONDS)

    async def said(self, content: Any, conversation: str = "") -> str:
        return str((await self.chat(content, conversation)).choices[0].message.content)


def value(content: Any) -> struct_pb2.Value:
    message = struct_pb2.Value()
    if isinstance(content, str):
        message.string_value = content
    else:
        message.list_value.extend(content)
    return message


def picture(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


@pytest_asyncio.fixture
async def rig(tmp_path: Path, database_url: str) -> AsyncIterator[Rig]:
    async with running(tmp_path, "auth", "llm", "media", database_url=database_url) as rig:
        yield rig


@pytest_asyncio.fixture
async def ada(rig: Rig) -> Painter:
    return Painter(rig, await guest(rig))


@pytest.mark.parametrize("form", ["{}", "data:image/png;{}", "data:image/png;base64,{}"])
async def test_the_model_sees_an_image_that_is_named_by_its_id(ada: Painter, form: str) -> None:
    media_id = await ada.bring(png(30, 20))
    assert "image/png" in (said := await ada.said([picture(form.format(media_id))]))
    assert "30" in said
    assert "20" in said


async def test_nobody_shows_images_that_somebody_else_has_brought(rig: Rig, ada: Painter) -> None:
    media_id, bob = await ada.bring(png()), Painter(rig, await guest(rig))
    at = "messages[0].content[0].image_url.url"
    assert await refused(bob.chat([picture(media_id)])) == (StatusCode.NOT_FOUND, "MEDIA_NOT_FOUND", at)


async def test_a_conversation_remembers_the_id_and_shows_the_image_again(ada: Painter) -> None:
    media_id, conversation = await ada.bring(png(30, 20)), await ada.create()
    await ada.said([picture(media_id)], conversation.id)
    items = (await ada.get(conversation.id)).items
    assert items[0].content.list_value.values[0].struct_value["image_url"]["url"] == media_id
    await ada.said("again", conversation.id)
    await ada.drop(media_id)
    await ada.said("and again, without it", conversation.id)


async def test_who_shows_an_image_that_is_not_there_leaves_nothing_in_the_conversation(ada: Painter) -> None:
    conversation = await ada.create()
    wrong = ada.chat([picture(f"jan_{'0' * 26}")], conversation.id)
    assert (await refused(wrong))[1] == "MEDIA_NOT_FOUND"
    assert (await ada.get(conversation.id)).item_count == 0


async def test_readers_of_a_share_get_a_signed_url(rig: Rig, ada: Painter) -> None:
    media_id, conversation = await ada.bring(png()), await ada.create()
    await ada.said([picture(media_id)], conversation.id)
    request = shares_pb2.CreateShareRequest(conversation_id=conversation.id)
    share = (await ada.shares.CreateShare(request, metadata=ada.metadata, timeout=SECONDS)).data
    shown = await ada.shares.GetPublicShare(shares_pb2.GetPublicShareRequest(slug=share.slug), timeout=SECONDS)
    url = shown.data.items[0].content.list_value.values[0].struct_value["image_url"]["url"]
    assert f"/v1/media/{media_id}/content?" in url
    assert "sig=" in url


async def test_without_the_media_room_chats_with_images_say_so_and_others_go_on(
    tmp_path: Path, database_url: str
) -> None:
    async with running(tmp_path, "auth", "llm", database_url=database_url) as rig:
        ada = Painter(rig, await guest(rig))
        assert await ada.said("Hello")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await ada.chat([picture(f"jan_{'0' * 26}")])
        assert error.value.code() == StatusCode.UNAVAILABLE
