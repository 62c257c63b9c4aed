"""MediaService against a real PostgreSQL and a directory: what comes in, who can read it, and how it is refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc import StatusCode
from jan.common.v1 import status_pb2, status_pb2_grpc
from jan.media.v1 import media_pb2, media_pb2_grpc

from services.media.room import keeps_locally
from services.runtime.config import ConfigError, Settings
from services.runtime.db import Database
from tests.grpc.keys import Account, guest
from tests.grpc.rig import SECONDS, Rig, running
from tests.grpc.talks import MISSING, NO_CURSOR, WRONG, plain, refused, value
from tests.pictures import data_url, gif, jpeg, png

PICTURE = png()
NOBODY = "jan_01k9x4zz01k9x4zz01k9x4zz01"
NO_IDS = ["", "nonsense", "jan_", NOBODY[:-1], f"{NOBODY}0", NOBODY.replace("k", "u"), "jan_\0", "' OR 1=1", "x" * 9999]
LARGEST = 1024 * 1024
GOOD_SIZE = 64 * 1024
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class Owner:
    """A person with images."""

    def __init__(self, rig: Rig, account: Account) -> None:
        self.user_id = account.user_id
        self._metadata = account.signed_in
        make: Any = media_pb2_grpc.MediaServiceStub
        self._stub = make(rig.channel)

    def call(self, method: str, **fields: Any) -> Any:
        request = getattr(media_pb2, f"{method}Request")(**fields)
        return getattr(self._stub, method)(request, metadata=self._metadata, timeout=SECONDS)

    async def bring(self, data: bytes = PICTURE, **fields: Any) -> Any:
        """An image that is new here, or not."""
        return await self.call("CreateMedia", source=source(data_url(data)), **fields)

    async def send(self, *pieces: Any) -> Any:
        """An image in pieces: bytes, and what else a message can be."""
        messages = [message for each in pieces for message in (chunks(each) if isinstance(each, bytes) else [each])]
        requests = [media_pb2.UploadMediaRequest(**each) for each in messages]
        return await self._stub.UploadMedia(iter(requests), metadata=self._metadata, timeout=SECONDS)

    async def download(self, media_id: str) -> list[Any]:
        return [each async for each in self.call("DownloadMedia", id=media_id)]


def chunks(data: bytes) -> list[dict[str, bytes]]:
    return [{"chunk": data[at : at + GOOD_SIZE]} for at in range(0, len(data), GOOD_SIZE)]


def source(data: str) -> media_pb2.MediaSource:
    return media_pb2.MediaSource(type="data_url", data_url=data)


@pytest_asyncio.fixture
async def rig(tmp_path: Path, database_url: str) -> AsyncIterator[Rig]:
    settings = {"media_max_bytes": LARGEST, "media_s3_presign_ttl": 300.0}
    async with running(tmp_path, "auth", "media", database_url=database_url, **settings) as rig:
        yield rig


@pytest_asyncio.fixture
async def ada(rig: Rig) -> Owner:
    return Owner(rig, await guest(rig))


@pytest_asyncio.fixture
async def bob(rig: Rig) -> Owner:
    return Owner(rig, await guest(rig))


def files(folder: Path) -> list[Path]:
    """Everything that is kept in the directory of images, except what the sweeper notes."""
    kept = [path for path in (folder / "media").rglob("*") if path.is_file()]
    return [path for path in kept if path.parent.name != "installations" and path.suffix != ".put"]


# --- coming in


async def test_an_image_gets_an_id_and_a_url(ada: Owner) -> None:
    media = await ada.bring(filename="cat.png", user_id="a label")
    assert re.fullmatch(r"jan_[0-9a-hjkmnp-tv-z]{26}", media.id)
    assert (media.mime, media.bytes, media.deduped) == ("image/png", len(PICTURE), False)
    assert media.presigned_url.startswith(f"http://localhost:8000/v1/media/{media.id}/content?exp=")
    assert TIME.fullmatch(media.expires_at)
    assert TIME.fullmatch(media.created_at)


async def test_the_type_is_that_of_the_bytes_and_not_the_one_that_is_claimed(ada: Owner) -> None:
    media = await ada.call("CreateMedia", source=source(data_url(gif(), "image/png")))
    assert media.mime == "image/gif"


async def test_the_same_bytes_are_one_image_whoever_brings_them(
    ada: Owner, bob: Owner, tmp_path: Path, database: Database
) -> None:
    first, second, third = await ada.bring(), await bob.bring(), await ada.bring()
    assert {first.id, second.id, third.id} == {first.id}
    assert [first.deduped, second.deduped, third.deduped] == [False, True, True]
    assert len(files(tmp_path)) == 1
    assert await database.fetchval("SELECT count(*) FROM media_references") == 2
    assert (await ada.call("GetMedia", id=first.id)).deduped is False
    assert (await bob.call("GetMedia", id=first.id)).deduped is True


async def test_what_was_said_about_an_image_first_stays(ada: Owner, bob: Owner) -> None:
    media = await ada.bring(filename="first.png")
    await ada.bring(filename="second.png")
    await bob.bring(filename="other.png")
    assert (await ada.call("GetMedia", id=media.id)).filename == "first.png"
    assert (await bob.call("GetMedia", id=media.id)).filename == "other.png"


async def test_many_who_bring_the_same_bytes_at_once_get_one_image(
    rig: Rig, tmp_path: Path, database: Database
) -> None:
    owners = [Owner(rig, await guest(rig)) for _ in range(8)]
    brought = await asyncio.gather(*(owner.bring() for owner in owners for _ in range(3)))
    assert len({media.id for media in brought}) == 1
    assert [media.deduped for media in brought].count(False) == 1
    assert len(files(tmp_path)) == 1
    assert await database.fetchval("SELECT count(*) FROM media_references") == 8
    assert await database.fetchval("SELECT count(*) FROM media_leftovers") == 0


async def test_images_come_in_pieces_over_grpc(ada: Owner) -> None:
    picture = png(tail=bytes(300_000))
    pieces = [picture[at : at + 70_000] for at in range(0, len(picture), 70_000)]
    media = await ada.send({"info": {"filename": "cat.png", "user_id": "label"}}, *pieces)
    assert (media.bytes, media.mime) == (len(picture), "image/png")
    assert (await ada.call("GetMedia", id=media.id)).filename == "cat.png"
    assert (await ada.bring(picture)).id == media.id


async def test_what_is_said_about_pieces_may_be_left_out(ada: Owner) -> None:
    media = await ada.send(PICTURE)
    assert not (await ada.call("GetMedia", id=media.id)).HasField("filename")


async def test_a_piece_has_a_limit(ada: Owner, tmp_path: Path) -> None:
    picture = PICTURE.ljust(128 * 1024, b"\0")
    assert (await ada.send({"chunk": picture})).bytes == len(picture)
    refusal = await refused(ada.send({"chunk": PICTURE}, {"chunk": bytes(128 * 1024 + 1)}))
    assert refusal == (StatusCode.OUT_OF_RANGE, "MAX_SIZE_EXCEEDED", "chunk")
    assert len(files(tmp_path)) == 1


async def test_text_that_cannot_be_kept_is_refused_before_the_image_is(ada: Owner, tmp_path: Path) -> None:
    for call in (ada.bring(PICTURE, user_id="a\0b"), ada.send({"info": {"user_id": "a\0b"}}, PICTURE)):
        assert await refused(call) == (*WRONG, "user_id")
    assert files(tmp_path) == []


async def test_nothing_else_than_an_info_first_and_chunks_can_be_sent(ada: Owner, tmp_path: Path) -> None:
    for pieces in ([PICTURE, {"info": {}}], [{"info": {}}, {"info": {}}, PICTURE], [{}]):
        assert await refused(ada.send(*pieces)) == (*WRONG, "info")
    assert await refused(ada.send({"info": {"user_id": "x" * 257}}, PICTURE)) == (*WRONG, "user_id")
    assert await refused(ada.send({"info": {"filename": "x" * 256}}, PICTURE)) == (*WRONG, "filename")
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (*WRONG, "source")),
        ({"source": media_pb2.MediaSource()}, (*WRONG, "source.type")),
        ({"source": media_pb2.MediaSource(type="data_url")}, (*WRONG, "source.data_url")),
        ({"source": media_pb2.MediaSource(type="remote_url")}, (*WRONG, "source.url")),
        (
            {"source": media_pb2.MediaSource(type="file", url="x")},
            (StatusCode.INVALID_ARGUMENT, "INVALID_SOURCE_TYPE", "source.type"),
        ),
        ({"source": source("data:image/png;base64,!!!!")}, (StatusCode.INVALID_ARGUMENT, "INVALID_DATA_URL", None)),
        ({"source": source("data:image/png,abcd")}, (StatusCode.INVALID_ARGUMENT, "INVALID_DATA_URL", None)),
        ({"source": source("http://x/cat.png")}, (StatusCode.INVALID_ARGUMENT, "INVALID_DATA_URL", None)),
        ({"source": source("data:image/png;base64,")}, (StatusCode.INVALID_ARGUMENT, "EMPTY_FILE", "")),
        ({"source": source(data_url(PICTURE)), "user_id": "x" * 257}, (*WRONG, "user_id")),
        ({"source": source(data_url(PICTURE)), "filename": "x" * 256}, (*WRONG, "filename")),
        (
            {"source": media_pb2.MediaSource(type="remote_url", url="ftp://example.com/cat.png")},
            (StatusCode.INVALID_ARGUMENT, "INVALID_URL", "source.url"),
        ),
        (
            {"source": media_pb2.MediaSource(type="remote_url", url="http://127.0.0.1/cat.png")},
            (StatusCode.INVALID_ARGUMENT, "URL_NOT_ALLOWED", "source.url"),
        ),
        (
            {"source": media_pb2.MediaSource(type="remote_url", url="http://169.254.169.254/latest")},
            (StatusCode.INVALID_ARGUMENT, "URL_NOT_ALLOWED", "source.url"),
        ),
    ],
)
async def test_what_is_wrong_with_a_request_is_said(
    ada: Owner, tmp_path: Path, fields: dict[str, Any], expected: tuple[StatusCode, str, str | None]
) -> None:
    code, reason, param = expected
    assert await refused(ada.call("CreateMedia", **fields)) == (
        code,
        reason,
        "source.data_url" if param is None else param,
    )
    assert files(tmp_path) == []


async def test_a_source_that_there_is_not_is_named_in_the_message(ada: Owner) -> None:
    with pytest.raises(Exception, match="unknown source type 'floppy'"):
        await ada.call("CreateMedia", source=media_pb2.MediaSource(type="floppy"))


@pytest.mark.parametrize(
    "data",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"<!DOCTYPE html><html></html>",
        b"%PDF-1.7",
        b"GIF",
        b" " + PICTURE,
        png(0, 1),
        png(20_000, 10_001),
    ],
)
async def test_what_is_no_image_that_is_taken_is_refused_and_not_kept(
    ada: Owner, tmp_path: Path, database: Database, data: bytes
) -> None:
    expected = (StatusCode.INVALID_ARGUMENT, "UNSUPPORTED_MEDIA_TYPE", "")
    assert await refused(ada.bring(data)) == expected
    assert await refused(ada.send(data)) == expected
    assert files(tmp_path) == []
    assert await database.fetchval("SELECT count(*) FROM media_leftovers") == 0


async def test_an_image_above_the_limit_is_refused_with_the_limit(ada: Owner, tmp_path: Path) -> None:
    exact = png(tail=bytes(LARGEST - len(PICTURE)))
    assert (await ada.bring(exact)).bytes == LARGEST
    for call in (ada.bring(exact + b"\0"), ada.send(exact, b"\0")):
        with pytest.raises(Exception, match="larger than 1MB") as error:
            await call
        assert error.value.code() == StatusCode.OUT_OF_RANGE  # type: ignore[attr-defined]  # as refused() reads it
    assert await refused(ada.send(exact, b"\0")) == (StatusCode.OUT_OF_RANGE, "MAX_SIZE_EXCEEDED", "")
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\pictures\\cat.png", "cat.png"),
        ("a\r\nSet-Cookie: x\u202e.png", "aSet-Cookie: x.png"),
        ("Katze äöü 猫.png", "Katze äöü 猫.png"),
        ("..", None),
        ("folder/", None),
        ("x" * 255, "x" * 255),
    ],
)
async def test_a_file_name_is_only_a_name(ada: Owner, given: str, kept: str | None) -> None:
    media = await ada.bring(filename=given)
    assert plain(await ada.call("GetMedia", id=media.id)).get("filename") == kept


async def test_an_image_that_the_store_has_lost_comes_back_with_its_bytes(
    ada: Owner, tmp_path: Path, database: Database
) -> None:
    media = await ada.bring()
    (lost,) = files(tmp_path)
    lost.unlink()
    assert (await ada.bring()).id == media.id
    assert await content(ada, media.id) == PICTURE
    assert await database.fetchval("SELECT count(*) FROM media_leftovers") == 0


async def test_repeating_a_call_gives_its_first_answer(ada: Owner) -> None:
    first = await ada.bring(request_id="1")
    assert plain(await ada.bring(request_id="1")) == plain(first)
    other = await refused(ada.bring(gif(), request_id="1"))
    assert other[:2] == (StatusCode.ABORTED, "IDEMPOTENCY_KEY_REUSE")


# --- reading


async def content(owner: Owner, media_id: str) -> bytes:
    return b"".join(each.chunk for each in await owner.download(media_id))


async def test_an_image_is_described_and_downloaded_in_pieces(ada: Owner) -> None:
    picture = jpeg(before=b"") + bytes(600_000)
    media = await ada.bring(picture, filename="cat.jpg")
    got = await ada.call("GetMedia", id=media.id)
    assert (got.id, got.mime, got.bytes, got.filename) == (media.id, "image/jpeg", len(picture), "cat.jpg")
    assert got.url == got.presigned_url != ""
    info, *pieces = await ada.download(media.id)
    assert plain(info) == {"info": {"id": media.id, "mime": "image/jpeg", "bytes": len(picture)}}
    assert len(pieces) > 1
    assert b"".join(each.chunk for each in pieces) == picture


async def test_an_id_is_read_in_any_letter_case(ada: Owner) -> None:
    media = await ada.bring()
    assert (await ada.call("GetMedia", id=media.id.upper())).id == media.id
    assert (await ada.call("PresignMedia", id=media.id.upper())).id == media.id
    assert await content(ada, media.id.upper()) == PICTURE


async def test_a_signed_url_says_how_long_it_is_good(ada: Owner) -> None:
    media = await ada.bring()
    signed = await ada.call("PresignMedia", id=media.id)
    assert (signed.id, signed.expires_in) == (media.id, 300)
    assert signed.url.startswith("http")
    for field in ("id", "jan_id", "media_id"):
        again = await ada.call("CreatePresignedUrl", **{field: media.id})
        assert (again.id, again.expires_in, again.HasField("jan_id")) == (media.id, 300, False)


@pytest.mark.parametrize("media_id", [NOBODY, *NO_IDS])
async def test_what_is_no_readable_id_is_absent(ada: Owner, media_id: str) -> None:
    for method in ("GetMedia", "PresignMedia", "DeleteMedia"):
        assert await refused(ada.call(method, id=media_id)) == MISSING
    assert await refused(ada.download(media_id)) == MISSING


async def test_another_user_does_not_see_an_image_until_it_brings_it(ada: Owner, bob: Owner) -> None:
    media = await ada.bring(filename="secret.png")
    for method in ("GetMedia", "PresignMedia", "DeleteMedia"):
        assert await refused(bob.call(method, id=media.id)) == MISSING
    assert await refused(bob.download(media.id)) == MISSING
    missing = (StatusCode.NOT_FOUND, "MEDIA_NOT_FOUND")
    assert await refused(bob.call("CreatePresignedUrl", id=media.id)) == (*missing, "id")
    assert await refused(bob.call("ResolveMedia", payload=value({"a": [media.id]}))) == (*missing, "payload.a[0]")
    assert (await bob.call("ResolveMedia", ids=[media.id])).missing == [media.id]
    assert (await bob.call("ListMedia")).total_count == 0
    await bob.bring()
    got = await bob.call("GetMedia", id=media.id)
    assert (got.id, got.HasField("filename")) == (media.id, False)


async def test_a_label_grants_nothing(ada: Owner, bob: Owner) -> None:
    media = await ada.bring(user_id=bob.user_id)
    assert await refused(bob.call("GetMedia", id=media.id)) == MISSING


async def test_without_a_token_nothing_is_answered(rig: Rig) -> None:
    stranger = Owner(rig, Account("", ""))
    stranger._metadata = ()
    for method in ("ListMedia", "CreateMedia", "PrepareUpload", "CreatePresignedUrl", "ResolveMedia", "GetMedia"):
        assert (await refused(stranger.call(method)))[0] == StatusCode.UNAUTHENTICATED
    assert (await refused(stranger.send(PICTURE)))[0] == StatusCode.UNAUTHENTICATED


# --- lists


async def test_images_are_listed_the_newest_first_page_by_page(ada: Owner, bob: Owner) -> None:
    ids = [(await ada.bring(png(number, 1))).id for number in range(1, 6)]
    await bob.bring()
    first = await ada.call("ListMedia", limit=2)
    assert [each.id for each in first.data] == ids[:2:-1]
    assert (first.object, first.total_count, first.has_more, first.next_after) == ("list", 5, True, ids[3])
    rest = await ada.call("ListMedia", after=first.next_after.upper())
    assert [each.id for each in rest.data] == ids[2::-1]
    assert (rest.has_more, rest.HasField("next_after")) == (False, False)
    assert [each.id for each in (await ada.call("ListMedia", order="asc", offset=1, limit=1)).data] == [ids[1]]
    assert plain(first.data[0]).keys() == {"id", "object", "mime", "bytes", "created_at"}


async def test_a_cursor_is_an_image_of_the_list(ada: Owner, bob: Owner) -> None:
    foreign = await bob.bring()
    for after in (foreign.id, NOBODY, "nonsense", "\0"):
        assert await refused(ada.call("ListMedia", after=after)) == NO_CURSOR
    own = await ada.bring(gif())
    assert await refused(ada.call("ListMedia", after=own.id, offset=0)) == (*WRONG, "after")
    assert await refused(ada.call("ListMedia", order="up")) == (*WRONG, "order")


# --- resolving


async def test_ids_are_resolved_in_the_order_of_the_request(ada: Owner, bob: Owner) -> None:
    first, second, foreign = await ada.bring(), await ada.bring(gif()), await bob.bring(jpeg())
    ids = [second.id.upper(), NOBODY, first.id, "nonsense", foreign.id, "\0"]
    answer = await ada.call("ResolveMedia", ids=ids)
    assert [each.id for each in answer.media] == [second.id, first.id]
    assert list(answer.missing) == [NOBODY, "nonsense", foreign.id, "\0"]
    assert not answer.HasField("payload")
    assert (answer.media[0].mime, answer.media[1].bytes) == ("image/gif", len(PICTURE))
    assert all(each.presigned_url and TIME.fullmatch(each.expires_at) for each in answer.media)


async def test_a_hundred_ids_can_be_resolved_and_not_none_and_not_more(ada: Owner) -> None:
    assert len((await ada.call("ResolveMedia", ids=[NOBODY] * 100)).missing) == 100
    assert await refused(ada.call("ResolveMedia", ids=[NOBODY] * 101)) == (*WRONG, "ids")
    assert await refused(ada.call("ResolveMedia")) == (*WRONG, "ids")


async def test_every_id_in_a_payload_becomes_a_url_at_any_depth(ada: Owner) -> None:
    media = await ada.bring()
    given = {
        "messages": [{"content": [{"image_url": {"url": f"data:image/png;{media.id}"}}, {"text": f"see {media.id}"}]}],
        "bare": media.id.upper(),
        "base64": f"data:image/jpeg;base64,{media.id}",
        "real": data_url(PICTURE),
        "other": [1, None, True, {}, []],
    }
    answer = plain((await ada.call("ResolveMedia", payload=value(given))).payload)
    url = answer["bare"]
    assert url.startswith("http://localhost:8000/v1/media/")
    assert answer == {
        **given,
        "bare": url,
        "base64": url,
        "messages": [{"content": [{"image_url": {"url": url}}, {"text": f"see {media.id}"}]}],
    }


async def test_a_payload_without_ids_comes_back_as_it_is(ada: Owner) -> None:
    for given in ("text", 5, None, [], {"a": "jan_"}):
        assert plain((await ada.call("ResolveMedia", payload=value(given))).payload) == given


async def test_a_payload_may_be_one_id(ada: Owner) -> None:
    media = await ada.bring()
    answer = await ada.call("ResolveMedia", payload=value(media.id))
    assert answer.payload.string_value.startswith("http")
    expected = (StatusCode.NOT_FOUND, "MEDIA_NOT_FOUND", "payload")
    assert await refused(ada.call("ResolveMedia", payload=value(NOBODY))) == expected


async def test_a_payload_with_too_many_images_is_refused(ada: Owner) -> None:
    ids = [f"jan_{number:026d}" for number in range(1001)]
    assert await refused(ada.call("ResolveMedia", payload=value(ids))) == (*WRONG, "payload")


# --- uploads that are announced


async def test_an_announced_upload_has_an_id_and_says_where_to_send_the_bytes(ada: Owner) -> None:
    prepared = await ada.call("PrepareUpload", content_type="image/png")
    assert (prepared.id, prepared.content_type) == (prepared.jan_id, prepared.mime_type) != ("", "")
    assert prepared.upload_url == prepared.presigned_url != ""
    fields = dict(prepared.presigned_post.fields)
    assert fields.keys() == {
        "key",
        "policy",
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-signature",
    }
    assert fields["key"] == f"images/{prepared.id}"
    assert prepared.expires_in > 0
    same = await ada.call("CreatePresignedUrl", mime_type="image/png")
    assert plain(same).keys() == plain(prepared).keys()


async def test_an_upload_that_has_not_come_is_pending_for_its_owner_and_absent_for_others(
    ada: Owner, bob: Owner
) -> None:
    prepared = await ada.call("PrepareUpload", mime_type="image/png")
    pending = (StatusCode.ABORTED, "UPLOAD_PENDING", "")
    for method in ("GetMedia", "PresignMedia"):
        assert await refused(ada.call(method, id=prepared.id)) == pending
        assert await refused(bob.call(method, id=prepared.id)) == MISSING
    assert await refused(ada.download(prepared.id)) == pending
    assert (await refused(ada.call("CreatePresignedUrl", id=prepared.id)))[1] == "UPLOAD_PENDING"
    assert (await ada.call("ResolveMedia", ids=[prepared.id])).missing == [prepared.id]
    assert (await ada.call("ListMedia")).total_count == 0


async def test_an_announced_upload_can_be_given_up_by_its_owner(ada: Owner, bob: Owner) -> None:
    prepared = await ada.call("PrepareUpload", mime_type="image/png")
    assert await refused(bob.call("DeleteMedia", id=prepared.id)) == MISSING
    await ada.call("DeleteMedia", id=prepared.id)
    assert await refused(ada.call("GetMedia", id=prepared.id)) == MISSING


async def test_an_upload_that_has_come_is_an_image_at_its_first_use(ada: Owner, bob: Owner, tmp_path: Path) -> None:
    known = await bob.bring()
    prepared = await ada.call("PrepareUpload", mime_type="image/png", filename="cat.png")
    arrive(tmp_path, prepared.id, PICTURE)
    other = await ada.call("PrepareUpload", mime_type="image/png")
    arrive(tmp_path, other.id, gif())
    answer = await ada.call("ResolveMedia", ids=[prepared.id, other.id])
    assert [(each.id, each.mime) for each in answer.media] == [(prepared.id, "image/png"), (other.id, "image/gif")]
    got = await ada.call("GetMedia", id=prepared.id)
    assert (got.filename, got.deduped, await content(ada, prepared.id)) == ("cat.png", True, PICTURE)
    assert await refused(ada.call("GetMedia", id=known.id)) == MISSING  # the same bytes under an id of bob's
    assert len(files(tmp_path)) == 2


async def test_an_upload_that_is_no_image_is_missing_from_then_on(ada: Owner, tmp_path: Path) -> None:
    prepared = await ada.call("PrepareUpload", mime_type="image/png")
    arrive(tmp_path, prepared.id, b"no image")
    assert list((await ada.call("ResolveMedia", ids=[prepared.id])).missing) == [prepared.id]
    assert await refused(ada.call("GetMedia", id=prepared.id)) == MISSING


def arrive(folder: Path, media_id: str, data: bytes) -> None:
    """The bytes of an upload, where the store puts them."""
    path = folder / "media/images" / media_id
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("method", "fields", "expected"),
    [
        ("PrepareUpload", {}, (*WRONG, "content_type")),
        ("PrepareUpload", {"content_type": "image/png", "mime_type": "image/gif"}, (*WRONG, "mime_type")),
        ("PrepareUpload", {"content_type": "image/png", "filename": "x" * 256}, (*WRONG, "filename")),
        ("PrepareUpload", {"content_type": "image/png", "user_id": "x" * 257}, (*WRONG, "user_id")),
        (
            "PrepareUpload",
            {"mime_type": "image/svg+xml"},
            (StatusCode.INVALID_ARGUMENT, "UNSUPPORTED_MEDIA_TYPE", "mime_type"),
        ),
        ("CreatePresignedUrl", {}, (*WRONG, "content_type")),
        ("CreatePresignedUrl", {"id": NOBODY, "content_type": "image/png"}, (*WRONG, "content_type")),
        ("CreatePresignedUrl", {"id": NOBODY, "jan_id": NOBODY.replace("k", "z")}, (*WRONG, "jan_id")),
        ("CreatePresignedUrl", {"jan_id": "nonsense"}, (StatusCode.NOT_FOUND, "MEDIA_NOT_FOUND", "jan_id")),
    ],
)
async def test_what_is_wrong_with_an_announcement_is_said(
    ada: Owner, method: str, fields: dict[str, Any], expected: tuple[StatusCode, str, str]
) -> None:
    assert await refused(ada.call(method, **fields)) == expected


# --- deleting


async def test_an_image_goes_with_the_last_reference_and_its_bytes_too(
    ada: Owner, bob: Owner, tmp_path: Path, database: Database
) -> None:
    media = await ada.bring()
    await bob.bring()
    await ada.call("DeleteMedia", id=media.id)
    assert await refused(ada.call("GetMedia", id=media.id)) == MISSING
    assert await refused(ada.call("DeleteMedia", id=media.id)) == MISSING
    assert await content(bob, media.id) == PICTURE
    await bob.call("DeleteMedia", id=media.id.upper())
    assert files(tmp_path) == []
    for table in ("media", "media_objects", "media_references", "media_leftovers"):
        assert await database.fetchval(f"SELECT count(*) FROM {table}") == 0, table


async def test_an_image_that_was_deleted_and_comes_again_is_a_new_one(ada: Owner) -> None:
    media = await ada.bring()
    await ada.call("DeleteMedia", id=media.id)
    again = await ada.bring()
    assert (again.deduped, again.id != media.id) == (False, True)


async def test_an_image_under_two_ids_stays_until_both_are_deleted(ada: Owner, tmp_path: Path) -> None:
    media = await ada.bring()
    prepared = await ada.call("PrepareUpload", mime_type="image/png")
    arrive(tmp_path, prepared.id, PICTURE)
    await ada.call("GetMedia", id=prepared.id)
    await ada.call("DeleteMedia", id=media.id)
    assert await content(ada, prepared.id) == PICTURE
    await ada.call("DeleteMedia", id=prepared.id)
    assert files(tmp_path) == []


async def test_bringing_and_deleting_the_same_bytes_at_once_leaves_what_the_database_says(
    ada: Owner, bob: Owner, tmp_path: Path, database: Database
) -> None:
    async def churn(owner: Owner) -> None:
        for _ in range(15):
            await owner.call("DeleteMedia", id=(await owner.bring()).id)

    await asyncio.gather(churn(ada), churn(bob))
    media = await ada.bring()
    assert await content(ada, media.id) == PICTURE
    assert len(files(tmp_path)) == 1
    assert await database.fetchval("SELECT count(*) FROM media_objects") == 1
    assert await database.fetchval("SELECT count(*) FROM media_leftovers") == 0


# --- where images are kept


def test_in_development_images_are_kept_here_when_nobody_says_where(caplog: pytest.LogCaptureFixture) -> None:
    assert keeps_locally(Settings())
    assert "images_are_kept_locally" in caplog.text
    assert not keeps_locally(Settings(media_s3_bucket="images"))


def test_in_production_somebody_has_to_say_where() -> None:
    production = {"environment": "production", "public_base_url": "https://ai.example.com"}
    with pytest.raises(ConfigError, match="MEDIA_S3_BUCKET"):
        keeps_locally(Settings(**production))
    assert keeps_locally(Settings(**production, media_storage_backend="local"))
    assert not keeps_locally(Settings(**production, media_s3_bucket="images"))


@pytest.mark.parametrize(
    "settings", [{"media_allowed_types": ("image/svg+xml",)}, {"media_s3_presign_ttl": 8 * 24 * 3600.0}]
)
async def test_a_setting_that_cannot_be_used_fails_the_start(
    tmp_path: Path, database_url: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="MEDIA_"):
        async with running(tmp_path, "media", database_url=database_url, **settings):
            pass


async def test_the_room_is_not_ready_without_its_store(rig: Rig, tmp_path: Path) -> None:
    status: Any = status_pb2_grpc.StatusServiceStub(rig.channel)
    await status.GetReadiness(status_pb2.GetReadinessRequest(), timeout=SECONDS)
    (tmp_path / "media").rename(tmp_path / "elsewhere")
    with pytest.raises(grpc.aio.AioRpcError, match="object store"):
        await status.GetReadiness(status_pb2.GetReadinessRequest(), timeout=SECONDS)
