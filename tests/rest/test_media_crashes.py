"""kill -9 of the whole server amid uploads, first uses and deletions: afterwards every image that a client was
told of is there, and what PostgreSQL says and what the store has agree."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import httpx
import pytest

from services.media.local_blobs import LocalBlobs
from services.media.signing import Signer
from services.media.sweep_store import SweepStore
from services.media.sweeper import Sweeper
from services.runtime import db
from services.runtime.postgres import running_url
from services.runtime.vault import Vault
from tests.pictures import png
from tests.rest.server import JanServer

T = TypeVar("T")
MEGABYTE = 1024 * 1024
AT_ONCE = 6
DONE = 4
"""So many have an answer when the server is killed; others are under way."""

pytestmark = pytest.mark.patience(120)


@pytest.fixture(scope="module")
def crashing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JanServer]:
    server = JanServer(tmp_path_factory.mktemp("crashing"))
    server.settings["PUBLIC_BASE_URL"] = server.url
    with server:
        yield server


@pytest.fixture
def ann(crashing: JanServer) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=crashing.url, headers={"authorization": f"Bearer {crashing.token()}"}, timeout=30
    ) as client:
        yield client


def image() -> bytes:
    return png(tail=os.urandom(MEGABYTE))


def upload(ann: httpx.Client, data: bytes) -> str:
    answer = ann.post("/v1/media/upload", files={"file": data})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def killed_in_the_midst(server: JanServer, work: Callable[[T], Any], of: Sequence[T]) -> dict[T, Any]:
    """Do it for all of them at once, kill the server when some have an answer, and start it again; their answers."""
    answers: dict[T, Any] = {}
    some = threading.Event()

    def one(each: T) -> None:
        with suppress(httpx.TransportError, AssertionError):  # what the server does not live to answer
            answers[each] = work(each)
        if len(answers) >= DONE:
            some.set()

    with ThreadPoolExecutor(AT_ONCE) as threads:
        for each in of:
            threads.submit(one, each)
        assert some.wait(30)
        before = dict(answers)
        server.kill()
    server.start()
    return before


def agree(server: JanServer) -> None:
    """After a round of the sweeper in which everything is due, the store has what the rows say and nothing else."""
    asyncio.run(_agree(server))
    assert not list((server.data_dir / "media/incoming").iterdir())


async def _agree(server: JanServer) -> None:
    database = await db.connect(await running_url(server.data_dir))
    try:
        blobs = LocalBlobs(server.data_dir / "media", Signer(Vault(b"of a test")), server.url)
        spools = server.data_dir / "media/incoming"
        await database.execute("UPDATE media_chores SET begun_at = '-infinity'")
        await database.execute("UPDATE media_leftovers SET until = now()")
        await Sweeper(SweepStore(database), blobs, retention_days=30, spools=spools).round()
        rows = {row["key"] for row in await database.fetch("SELECT key FROM media_objects")}
        objects = {blob.key async for blob in blobs.keys("objects/")}
        assert objects == rows
        assert not [blob.key async for blob in blobs.keys("images/")]
        assert not await database.fetchval("SELECT count(*) FROM media_leftovers")
    finally:
        await database.close()


def test_a_crash_amid_uploads_loses_none_that_was_answered(crashing: JanServer, ann: httpx.Client) -> None:
    images = [image() for _ in range(3 * AT_ONCE)]
    brought = killed_in_the_midst(crashing, lambda data: upload(ann, data), images)
    for data, media_id in brought.items():
        assert ann.get(f"/v1/media/{media_id}/content").content == data
    for data in images:  # whatever became of the others, they can come again
        assert ann.get(f"/v1/media/{upload(ann, data)}/content").content == data
    agree(crashing)


def test_a_crash_amid_first_uses_of_direct_uploads_loses_none(crashing: JanServer, ann: httpx.Client) -> None:
    arrived: dict[str, bytes] = {}
    for _ in range(2 * AT_ONCE):
        prepared = ann.post("/v1/media/prepare-upload", json={"content_type": "image/png"}).json()
        arrived[prepared["id"]] = image()
        assert httpx.put(prepared["upload_url"], content=arrived[prepared["id"]]).status_code == 204
    killed_in_the_midst(crashing, lambda media_id: ann.get(f"/v1/media/{media_id}").json()["id"], list(arrived))
    for media_id, data in arrived.items():
        assert ann.get(f"/v1/media/{media_id}/content").content == data
    agree(crashing)


def test_a_crash_amid_deletions_leaves_whole_images_and_nothing_else(crashing: JanServer, ann: httpx.Client) -> None:
    brought = {upload(ann, data): data for data in (image() for _ in range(3 * AT_ONCE))}
    gone = killed_in_the_midst(
        crashing, lambda media_id: ann.delete(f"/v1/media/{media_id}").status_code, list(brought)
    )
    assert set(gone.values()) == {204}
    for media_id, data in brought.items():
        answer = ann.get(f"/v1/media/{media_id}/content")
        assert answer.status_code == 404 or (answer.content == data and media_id not in gone)
    agree(crashing)
