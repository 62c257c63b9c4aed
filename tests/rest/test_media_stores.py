"""The same flows over REST with every store: a directory, S3, and S3 that clients are sent to for the bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.pictures import data_url, png
from tests.rest.server import JanServer, eventually
from tests.s3 import BUCKET, KEY, SECRET, S3Server, rclone

pytestmark = pytest.mark.patience(120)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A store of our own: it goes away for a while."""
    server = rclone(tmp_path_factory.mktemp("s3"))
    yield server.start()
    server.stop()


@pytest.fixture(scope="module", params=["local", "s3", "redirects"])
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JanServer]:
    """A server for each store."""
    settings = {"MEDIA_STORAGE_BACKEND": "local"}
    if request.param != "local":
        store: S3Server = request.getfixturevalue("bucket")
        settings = {
            "MEDIA_STORAGE_BACKEND": "s3",
            "MEDIA_S3_ENDPOINT": store.url,
            "MEDIA_S3_BUCKET": BUCKET,
            "MEDIA_S3_ACCESS_KEY_ID": KEY,
            "MEDIA_S3_SECRET_ACCESS_KEY": SECRET,
            "MEDIA_PROXY_DOWNLOAD": str(request.param != "redirects").lower(),
        }
    server = JanServer(tmp_path_factory.mktemp("kept"), **settings)
    server.settings["PUBLIC_BASE_URL"] = server.url
    with server:
        yield server


@pytest.fixture
def ann(kept: JanServer) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {kept.token()}"}
    with httpx.Client(base_url=kept.url, headers=headers, timeout=30) as client:
        yield client


def image() -> bytes:
    return png(tail=os.urandom(100_000))


def upload(ann: httpx.Client, data: bytes) -> Any:
    return said(ann.post("/v1/media/upload", files={"file": ("cat.png", data)}))


def said(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def is_redirected(kept: JanServer) -> bool:
    return kept.settings.get("MEDIA_PROXY_DOWNLOAD") == "false"


def test_an_image_comes_is_shown_and_goes(kept: JanServer, ann: httpx.Client) -> None:
    data = image()
    media = upload(ann, data)
    again = said(ann.post("/v1/media", json={"source": {"type": "data_url", "data_url": data_url(data)}}))
    assert (again["id"], again["deduped"]) == (media["id"], True)
    for url in (media["presigned_url"], said(ann.get(f"/v1/media/{media['id']}/presign"))["url"]):
        shown = httpx.get(url)
        assert (shown.status_code, shown.headers["content-type"], shown.content) == (200, "image/png", data)
    assert httpx.get(f"{media['presigned_url'][:-1]}x").status_code in (401, 403)
    assert ann.delete(f"/v1/media/{media['id']}").status_code == 204
    assert httpx.get(media["presigned_url"]).status_code == 404


def test_the_bytes_come_whole_and_in_part(kept: JanServer, ann: httpx.Client) -> None:
    data = image()
    path = f"/v1/media/{upload(ann, data)['id']}/content"
    answer = ann.get(path)
    if is_redirected(kept):
        assert (answer.status_code, answer.headers["cache-control"]) == (302, "private, no-store")
        with httpx.Client() as stranger:  # who must not send our credential to the store
            assert stranger.get(answer.headers["location"]).content == data
            part = stranger.get(answer.headers["location"], headers={"range": "bytes=1-3"})
        assert part.content == b"PNG"  # rclone says 200
    else:
        assert answer.content == data
        part = ann.get(path, headers={"range": "bytes=1-3"})
        assert (part.status_code, part.content) == (206, b"PNG")
    head = ann.head(path)  # the store's URL would be signed for a GET
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(data)))


def test_an_upload_past_the_server_becomes_an_image_at_its_first_use(ann: httpx.Client) -> None:
    prepared = said(ann.post("/v1/media/prepare-upload", json={"content_type": "image/png"}))
    assert said(ann.get(f"/v1/media/{prepared['id']}"), 409)["error"]["code"] == "upload_pending"
    assert said(chat(ann, prepared["id"]), 409)["error"]["code"] == "upload_pending"
    data = image()
    sent = httpx.put(prepared["upload_url"], content=data, headers={"content-type": "image/png"})
    assert sent.status_code in (200, 204)
    media = said(ann.get(f"/v1/media/{prepared['id']}"))
    assert (media["bytes"], media["mime"]) == (len(data), "image/png")
    assert httpx.get(media["url"]).content == data
    wrong = said(ann.post("/v1/media/prepare-upload", json={"content_type": "image/png"}))
    assert httpx.put(wrong["upload_url"], content=b"<svg/>").status_code in (200, 204)
    assert said(ann.get(f"/v1/media/{wrong['id']}"), 400)["error"]["code"] == "unsupported_media_type"
    assert said(ann.get(f"/v1/media/{wrong['id']}"), 404)["error"]["code"] == "not_found"


def chat(ann: httpx.Client, media_id: str, **more: Any) -> httpx.Response:
    content = [{"type": "image_url", "image_url": {"url": media_id}}]
    asked = {"model": "jan-demo", "messages": [{"role": "user", "content": content}], **more}
    return ann.post("/v1/chat/completions", json=asked)


def test_the_model_and_readers_of_a_share_see_the_image(ann: httpx.Client) -> None:
    data = image()
    media_id = upload(ann, data)["id"]
    conversation = said(ann.post("/v1/conversations", json={}), 200)["data"]["id"]
    answer = said(chat(ann, media_id, conversation=conversation))["choices"][0]["message"]["content"]
    assert f"{len(data):,} bytes" in answer or f"{len(data)} bytes" in answer
    share = said(ann.post(f"/v1/conversations/{conversation}/share", json={}), 201)["data"]
    shown = said(ann.get(f"/v1/public/shares/{share['slug']}"))["data"]["items"][0]["content"][0]["image_url"]["url"]
    assert httpx.get(shown).content == data


def test_while_the_store_is_away_only_what_needs_it_fails(
    kept: JanServer, ann: httpx.Client, request: pytest.FixtureRequest
) -> None:
    if kept.settings["MEDIA_STORAGE_BACKEND"] == "local":
        pytest.skip("a directory that goes away: tests/unit/test_blob_stores.py")
    store: S3Server = request.getfixturevalue("bucket")
    media_id = upload(ann, image())["id"]
    hello = {"model": "jan-demo", "messages": [{"role": "user", "content": "Hello!"}]}
    store.stop()
    try:
        for answer in (
            chat(ann, media_id),
            chat(ann, media_id, stream=True),
            ann.post("/v1/media/upload", files={"file": image()}),
        ):
            assert failure(answer) == (502, "storage_error")
        if not is_redirected(kept):
            assert failure(ann.get(f"/v1/media/{media_id}/content")) == (502, "storage_error")
        said(ann.get(f"/v1/media/{media_id}"))
        said(ann.post("/v1/chat/completions", json=hello))
    finally:
        store.start()
    eventually(lambda: chat(ann, media_id).status_code == 200)
    upload(ann, image())


def failure(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]
