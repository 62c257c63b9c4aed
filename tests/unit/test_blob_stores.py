"""Both object stores keep the promises of `BlobStore`: a directory, and S3 as rclone serves it from another one."""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import os
import resource
import secrets
import shutil
import stat
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from services.media import local_blobs, s3_blobs
from services.media.blobs import PIECE, BlobMissing, BlobStore
from services.media.local_blobs import LocalBlobs
from services.media.signing import Signer
from services.runtime.config import ConfigError
from services.runtime.errors import UpstreamFailed
from services.runtime.vault import Vault
from tests.s3 import BUCKET, SECRET, S3Server, rclone

ID = "jan_01kb0000000000000000000001"
SIGNER = Signer(Vault(b"0123456789abcdef0123456789abcdef"))
BASE = "https://ai.example.com"
DATA = bytes(range(256)) * 3000  # some pieces, and a part of one
ROOT = Path(__file__).parents[2]
REFUSED = {400, 403}  # rclone says 400 where there is no signature, or an old one


class Place:
    """A store and the directory in which its objects end up."""

    def __init__(self, blobs: BlobStore, folder: Path, scratch: Path) -> None:
        self.blobs = blobs
        self.folder = folder
        self._scratch = scratch

    def key(self, name: str = "x") -> str:
        """A key that no other test has."""
        return f"objects/{secrets.token_hex(8)}/{name}"

    def file(self, data: bytes = DATA) -> Path:
        """A file outside the store."""
        path = self._scratch / secrets.token_hex(8)
        path.write_bytes(data)
        return path

    async def put(self, data: bytes = DATA, key: str = "") -> str:
        """Store bytes; return their key."""
        key = key or self.key()
        await self.blobs.put(key, self.file(data), mime="image/png")
        return key

    def files(self) -> set[str]:
        """Every file that the store has on its disk."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}


def local(folder: Path) -> LocalBlobs:
    """A store that is ready."""
    blobs = LocalBlobs(folder, SIGNER, f"{BASE}/")
    blobs.prepare()
    return blobs


@pytest.fixture(params=["local", "s3"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    (scratch := tmp_path / "scratch").mkdir()
    if request.param == "local":
        yield Place(local(tmp_path / "store"), tmp_path / "store", scratch)
        return
    server: S3Server = request.getfixturevalue("rclone_server")
    blobs = await s3_blobs.connect(server.configured())
    yield Place(blobs, server.folder / BUCKET, scratch)
    await blobs.close()


async def read(blobs: BlobStore, key: str, **part: int) -> bytes:
    async with aclosing(blobs.read(key, **part)) as pieces:
        return b"".join([piece async for piece in pieces])


async def keys(blobs: BlobStore, prefix: str) -> list[str]:
    return sorted([blob.key async for blob in blobs.keys(prefix)])


async def failure(doing: Callable[[], object]) -> float:
    """The store has failed, and the caller is told so; returns after how many seconds."""
    begun = time.monotonic()
    with pytest.raises(UpstreamFailed) as caught:
        await doing()  # type: ignore[misc]  # what is given is awaitable
    assert (caught.value.code, caught.value.kind.http) == ("storage_error", 502)
    assert caught.value.message == "The object store failed; try again shortly."
    return time.monotonic() - begun


# What both promise


@pytest.mark.parametrize("size", [1, PIECE - 1, PIECE, PIECE + 1, len(DATA)])
async def test_what_was_put_is_read_in_pieces(place: Place, size: int) -> None:
    key = await place.put(DATA[:size])
    pieces = [piece async for piece in place.blobs.read(key)]
    assert b"".join(pieces) == DATA[:size]
    assert all(0 < len(piece) <= PIECE for piece in pieces)


async def test_the_file_that_was_put_stays_for_its_owner_to_remove(place: Place) -> None:
    file, key = place.file(), place.key()
    await place.blobs.put(key, file, mime="image/png")
    assert file.read_bytes() == DATA
    file.unlink()
    assert await read(place.blobs, key) == DATA


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, None), (5, None), (0, 1), (5, 10), (PIECE - 1, PIECE + 1), (0, len(DATA)), (5, len(DATA) + 100)],
)
async def test_a_part_is_read(place: Place, start: int, end: int | None) -> None:
    key = await place.put()
    part = {"start": start} | ({"end": end} if end is not None else {})
    assert await read(place.blobs, key, **part) == DATA[start:end]


@pytest.mark.parametrize(("start", "end"), [(7, 7), (9, 7), (len(DATA), None), (len(DATA) + 5, len(DATA) + 9)])
async def test_a_part_that_does_not_exist_is_empty(place: Place, start: int, end: int | None) -> None:
    key = await place.put()
    part = {"start": start} | ({"end": end} if end is not None else {})
    assert await read(place.blobs, key, **part) == b""


@pytest.mark.parametrize("part", [{}, {"start": 3}, {"start": 3, "end": 3}, {"start": 3, "end": 9}], ids=repr)
async def test_what_is_not_there_is_missing(place: Place, part: dict[str, int]) -> None:
    with pytest.raises(BlobMissing):
        await read(place.blobs, place.key(), **part)


async def test_stat_tells_size_and_time(place: Place) -> None:
    key = await place.put()
    found = await place.blobs.stat(key)
    assert found is not None
    assert (found.key, found.size) == (key, len(DATA))
    assert abs((datetime.now(UTC) - found.modified).total_seconds()) < 60
    assert await place.blobs.stat(place.key()) is None
    assert await place.blobs.stat(f"{key}/below") is None
    assert await place.blobs.stat(key.rpartition("/")[0]) is None  # a directory is no object


async def test_what_was_deleted_is_gone_and_deleting_again_is_no_error(place: Place) -> None:
    key = await place.put()
    other = await place.put(b"stays", key.replace("/x", "/y"))
    for _ in range(2):
        await place.blobs.delete(key)
        assert await place.blobs.stat(key) is None
    await place.blobs.delete(place.key())
    assert await read(place.blobs, other) == b"stays"


async def test_an_object_that_is_put_again_is_replaced(place: Place) -> None:
    key = await place.put(b"first")
    await place.put(b"second", key)
    assert await read(place.blobs, key) == b"second"


async def test_keys_are_listed_by_prefix_with_their_sizes(place: Place) -> None:
    prefix = place.key("a")
    made = [
        await place.put(b"1" * size, f"{prefix}{name}") for size, name in enumerate(("b/c", "b/d", "b/e/f", "z"), 1)
    ]
    assert await keys(place.blobs, prefix) == made
    assert await keys(place.blobs, f"{prefix}b/") == made[:3]
    assert await keys(place.blobs, f"{prefix}b/e") == made[2:3]
    assert await keys(place.blobs, place.key()) == []
    assert [blob.size async for blob in place.blobs.keys(f"{prefix}z")] == [4]
    assert set(made) <= set(await keys(place.blobs, ""))


async def test_more_objects_are_listed_than_one_answer_holds(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (local_blobs, s3_blobs):
        monkeypatch.setattr(module, "_PAGE", 3)
    prefix = place.key("many")
    for number in range(10):
        await place.put(b"1", f"{prefix}/{number}")
    assert await keys(place.blobs, f"{prefix}/") == [f"{prefix}/{number}" for number in range(10)]


async def test_many_puts_at_once_do_not_disturb_each_other(place: Place) -> None:
    made = [(place.key(), secrets.token_bytes(100_000)) for _ in range(20)]
    await asyncio.gather(*(place.put(data, key) for key, data in made))
    for key, data in made:
        assert await read(place.blobs, key) == data


async def test_of_puts_under_one_key_one_is_there_whole(place: Place) -> None:
    key, given = place.key(), [bytes([number]) * 300_000 for number in range(8)]
    done = await asyncio.gather(*(place.put(data, key) for data in given), return_exceptions=True)
    assert any(each == key for each in done)
    assert await read(place.blobs, key) in given


async def test_a_put_that_is_interrupted_leaves_all_or_nothing(place: Place) -> None:
    for turns in (1, 2, 3, 5, 8, 20):
        key = place.key()
        putting = asyncio.ensure_future(place.put(key=key))
        for _ in range(turns):
            await asyncio.sleep(0)
        putting.cancel()
        with suppress(asyncio.CancelledError):
            await putting
        if (found := await place.blobs.stat(key)) is not None:
            assert found.size == len(DATA)


async def test_a_reader_that_goes_away_leaves_nothing_open(place: Place) -> None:
    key = await place.put()
    before = open_files()
    async with aclosing(place.blobs.read(key)) as pieces:
        await anext(pieces)
    reading = asyncio.ensure_future(read(place.blobs, key))
    await asyncio.sleep(0)
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading
    assert await read(place.blobs, key) == DATA
    assert open_files() <= before


def open_files() -> int:
    """Files of objects that this process has open."""
    found = 0
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += "/objects/" in os.readlink(each)
    return found


async def test_an_object_that_is_deleted_while_it_is_read_is_read_to_its_end_or_not_at_all(place: Place) -> None:
    key = await place.put()
    async with aclosing(place.blobs.read(key)) as pieces:
        data = await anext(pieces)
        await place.blobs.delete(key)
        with suppress(UpstreamFailed):
            async for piece in pieces:
                data += piece
            assert data == DATA


async def test_a_large_object_passes_through_little_memory(place: Place) -> None:
    size = 48 * 1024 * 1024
    key, file = place.key(), place.file(b"")
    os.truncate(file, size)
    await place.put()  # what is loaded at the first use
    tracemalloc.start()
    await place.blobs.put(key, file, mime="image/png")
    digest = hashlib.sha256()
    async with aclosing(place.blobs.read(key)) as pieces:
        async for piece in pieces:
            digest.update(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert digest.digest() == hashlib.sha256(bytes(size)).digest()
    assert peak < 6 * 1024 * 1024
    await place.blobs.delete(key)


async def test_a_store_that_works_is_ready(place: Place) -> None:
    assert await place.blobs.ready()


async def test_a_file_that_cannot_be_read_is_a_failure_and_no_object(place: Place, tmp_path: Path) -> None:
    key = place.key()
    await failure(lambda: place.blobs.put(key, tmp_path / "absent", mime="image/png"))
    assert await place.blobs.stat(key) is None


# The directory


def modes(folder: Path) -> dict[str, int]:
    """Everything in a directory, with its permissions."""
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "a/",
        "A",
        "a\0b",
        "a/.hidden",
        "..",
        ".",
        "é",
        "a\n",
        "incoming/x",
    ],
)
async def test_nothing_outside_of_the_directory_is_touched(tmp_path: Path, key: str) -> None:
    blobs = local(tmp_path / "store")
    (file := tmp_path / "x").write_bytes(b"x")
    for use in (lambda: blobs.put(key, file, mime=""), lambda: blobs.stat(key), lambda: blobs.delete(key)):
        with pytest.raises(ValueError, match="no key"):
            await use()
    with pytest.raises(ValueError, match="no key"):
        await read(blobs, key)
    assert sorted(modes(tmp_path)) == ["store", "store/incoming", "x"]


async def test_files_and_directories_are_for_the_owner_alone(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        blobs = local(tmp_path / "store")
        (file := tmp_path / "x").write_bytes(b"x")
        await blobs.put("objects/ab/x", file, mime="image/png")
    finally:
        os.umask(previous)
    assert {name: mode for name, mode in modes(tmp_path).items() if name != "x"} == {
        "store": 0o700,
        "store/incoming": 0o700,
        "store/objects": 0o700,
        "store/objects/ab": 0o700,
        "store/objects/ab/x": 0o600,
    }


async def test_directories_go_with_their_last_object(tmp_path: Path) -> None:
    blobs = local(tmp_path / "store")
    (file := tmp_path / "x").write_bytes(b"x")
    for key in ("objects/ab/cd/1", "objects/ab/ef/2"):
        await blobs.put(key, file, mime="image/png")
    await blobs.delete("objects/ab/cd/1")
    assert [each.name for each in (tmp_path / "store/objects/ab").iterdir()] == ["ef"]
    await blobs.delete("objects/ab/ef/2")
    assert [each.name for each in (tmp_path / "store").iterdir()] == ["incoming"]


async def test_putting_and_deleting_in_one_directory_do_not_disturb_each_other(tmp_path: Path) -> None:
    blobs = local(tmp_path / "store")
    (file := tmp_path / "x").write_bytes(b"x")

    async def come_and_go(number: int) -> None:
        for _ in range(5):
            await blobs.put(f"objects/ab/{number}", file, mime="image/png")
            await blobs.delete(f"objects/ab/{number}")

    await asyncio.gather(*(come_and_go(number) for number in range(6)))
    assert await keys(blobs, "") == []


def test_what_killed_processes_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    local(tmp_path)
    old, new, foreign = (tmp_path / "incoming" / name for name in ("old.put", "new.put", "spool"))
    for each in (old, new, foreign):
        each.write_bytes(b"x")
    os.utime(old, (0, 0))
    os.utime(foreign, (0, 0))
    local(tmp_path)
    assert sorted(each.name for each in (tmp_path / "incoming").iterdir()) == ["new.put", "spool"]


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from services.media.local_blobs import LocalBlobs
from services.media.signing import Signer
from services.runtime.vault import Vault

def stop(event, details):
    if event == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

blobs = LocalBlobs(Path(sys.argv[1]), Signer(Vault(b"0" * 32)), "http://x")
blobs.prepare()
sys.addaudithook(stop)
asyncio.run(blobs.put("objects/ab/x", Path(sys.argv[2]), mime="image/png"))
"""


@pytest.mark.parametrize("moment", ["os.link", "os.chmod", "os.rename"])
async def test_a_process_that_is_killed_in_the_middle_of_a_put_leaves_no_object(tmp_path: Path, moment: str) -> None:
    (file := tmp_path / "x").write_bytes(DATA)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "store"), str(file), moment]
    killed = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, check=False, timeout=30)
    assert killed.returncode == -9
    blobs = local(tmp_path / "store")
    assert await blobs.stat("objects/ab/x") is None
    assert await keys(blobs, "") == []
    await blobs.put("objects/ab/x", file, mime="image/png")
    assert await read(blobs, "objects/ab/x") == DATA


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Path]:
    """A file on another file system."""
    file = Path("/dev/shm") / secrets.token_hex(8)
    if not file.parent.is_dir() or file.parent.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    file.write_bytes(DATA)
    yield file
    file.unlink()


async def test_a_file_of_another_file_system_is_copied(tmp_path: Path, foreign: Path) -> None:
    blobs = local(tmp_path / "store")
    await blobs.put("objects/ab/x", foreign, mime="image/png")
    assert await read(blobs, "objects/ab/x") == DATA
    assert modes(tmp_path)["store/objects/ab/x"] == 0o600


async def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, foreign: Path) -> None:
    """A limit on the size of files stands for the disk: writing fails in the middle all the same."""
    blobs = local(tmp_path / "store")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(DATA) // 2, hard))
        await failure(lambda: blobs.put("objects/ab/x", foreign, mime="image/png"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(modes(tmp_path)) == ["store", "store/incoming"]


async def test_a_directory_that_is_gone_is_a_failure_and_not_an_empty_store(tmp_path: Path) -> None:
    blobs = local(tmp_path / "store")
    (file := tmp_path / "x").write_bytes(DATA)
    await blobs.put("objects/ab/x", file, mime="image/png")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    for come_back in (lambda: None, lambda: (tmp_path / "store").mkdir()):  # the mount point without its disk
        come_back()
        assert not await blobs.ready()
        for use in (
            lambda: blobs.put("objects/ab/y", file, mime="image/png"),
            lambda: blobs.stat("objects/ab/x"),
            lambda: blobs.delete("objects/ab/x"),
            lambda: read(blobs, "objects/ab/x"),
            lambda: keys(blobs, "objects/"),
        ):
            assert await failure(use) < 2
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "elsewhere").rename(tmp_path / "store")
    assert await blobs.ready()
    assert await read(blobs, "objects/ab/x") == DATA


def test_a_place_that_cannot_hold_images_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(ConfigError, match="set MEDIA_LOCAL_STORAGE_PATH"):
        local(tmp_path / "file" / "store")


async def test_its_urls_lead_to_this_server(tmp_path: Path) -> None:
    blobs, expires = local(tmp_path), int(time.time()) + 60
    url = await blobs.url("objects/ab/x", ID, mime="image/png", expires=expires)
    assert url == f"{BASE}/v1/media/{ID}/content?{SIGNER.content_query(ID, expires=expires)}"
    target = await blobs.upload_target(f"images/{ID}", ID, largest=10, expires=expires)
    assert target.put_url == f"{BASE}/v1/media/uploads/{ID}?{SIGNER.upload_query(ID, expires=expires)}"
    assert target.post_url == f"{BASE}/v1/media/uploads"
    assert SIGNER.check_form(target.post_fields, now=time.time()).largest == 10


def test_a_server_with_the_directory_does_not_load_aws(tmp_path: Path) -> None:
    code = "import sys, services.media.uploads, services.media.local_blobs; sys.exit('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=30).returncode == 0


# S3


@pytest.fixture
async def s3(rclone_server: S3Server, tmp_path: Path) -> AsyncIterator[Place]:
    blobs = await s3_blobs.connect(rclone_server.configured())
    yield Place(blobs, rclone_server.folder / BUCKET, tmp_path)
    await blobs.close()


def in_a_minute() -> int:
    return int(time.time()) + 60


async def test_a_signed_url_shows_the_object_as_the_image_it_is(s3: Place) -> None:
    url = await s3.blobs.url(await s3.put(), ID, mime="image/webp", expires=in_a_minute())
    async with httpx.AsyncClient() as client:
        seen = await client.get(url)
    assert (seen.status_code, seen.content) == (200, DATA)
    assert (seen.headers["content-type"], seen.headers["content-disposition"]) == ("image/webp", "inline")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("X-Amz-Expires=60", "X-Amz-Expires=600"),
        ("X-Amz-Signature=", "X-Amz-Signature=0"),
        ("image%2Fpng", "text%2Fhtml"),
        ("/x?", "/y?"),
        ("X-Amz-Credential=jantest", "X-Amz-Credential=another"),
    ],
)
async def test_the_store_refuses_a_url_that_was_changed(s3: Place, old: str, new: str) -> None:
    key = await s3.put()
    await s3.put(b"other", key.replace("/x", "/y"))
    url = await s3.blobs.url(key, ID, mime="image/png", expires=in_a_minute())
    assert old in url
    async with httpx.AsyncClient() as client:
        assert (await client.get(url.replace(old, new))).status_code == 403
        assert (await client.put(url, content=b"more")).status_code == 403
        assert (await client.get(url.partition("?")[0])).status_code in REFUSED


async def test_a_url_of_the_store_expires(rclone_server: S3Server, s3: Place) -> None:
    url = await s3.blobs.url(await s3.put(), ID, mime="image/png", expires=int(time.time()) + 1)
    async with asyncio.timeout(10), httpx.AsyncClient() as client:
        while (answer := await client.get(url)).status_code == 200:
            pass
    assert answer.status_code in REFUSED


@pytest.mark.parametrize("headers", [{}, {"content-type": "image/png"}, {"content-type": "text/plain"}], ids=repr)
async def test_bytes_are_put_to_a_signed_url_whatever_their_type(s3: Place, headers: dict[str, str]) -> None:
    key = f"images/{secrets.token_hex(8)}"
    target = await s3.blobs.upload_target(key, ID, largest=10_000_000, expires=in_a_minute())
    async with httpx.AsyncClient() as client:
        assert (await client.put(f"{target.put_url}0", content=DATA, headers=headers)).status_code == 403
        assert await s3.blobs.stat(key) is None
        assert (await client.put(target.put_url, content=DATA, headers=headers)).status_code == 200
    assert await read(s3.blobs, key) == DATA


async def test_clients_are_sent_to_the_public_address(rclone_server: S3Server) -> None:
    settings = rclone_server.configured(media_s3_public_endpoint="https://files.example.com")
    blobs = await s3_blobs.connect(settings)
    target = await blobs.upload_target(f"images/{ID}", ID, largest=10, expires=in_a_minute())
    url = await blobs.url("objects/ab/x", ID, mime="image/png", expires=in_a_minute())
    assert {urlsplit(each).netloc for each in (url, target.put_url, target.post_url)} == {"files.example.com"}
    assert urlsplit(url).path == f"/{BUCKET}/objects/ab/x"
    assert await blobs.ready()
    await blobs.close()


async def test_a_bucket_may_be_in_the_host(rclone_server: S3Server) -> None:
    settings = rclone_server.configured(
        media_s3_use_path_style=False, media_s3_public_endpoint="https://files.example.com"
    )
    blobs = await s3_blobs.connect(settings)
    url = urlsplit(await blobs.url("objects/ab/x", ID, mime="image/png", expires=in_a_minute()))
    assert (url.netloc, url.path) == (f"{BUCKET}.files.example.com", "/objects/ab/x")
    await blobs.close()


async def test_temporary_credentials_add_one_field_to_the_form(
    rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ACCESS_KEY_ID", "ASIA"), ("SECRET_ACCESS_KEY", "secret"), ("SESSION_TOKEN", "token")):
        monkeypatch.setenv(f"AWS_{name}", value)
    settings = rclone_server.configured(media_s3_access_key_id="", media_s3_secret_access_key="")
    blobs = await s3_blobs.connect(settings)
    target = await blobs.upload_target(f"images/{ID}", ID, largest=10, expires=in_a_minute())
    assert target.post_fields["x-amz-security-token"] == "token"
    assert len(target.post_fields) == 7
    await blobs.close()


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ({"media_s3_bucket": "absent"}, "make the bucket, or correct MEDIA_S3_BUCKET"),
        ({"media_s3_secret_access_key": "wrong" * 8}, "correct MEDIA_S3_ACCESS_KEY_ID and MEDIA_S3_SECRET_ACCESS_KEY"),
        ({"media_s3_endpoint": "http://127.0.0.1:1"}, "see MEDIA_S3_ENDPOINT"),
    ],
)
async def test_a_store_that_cannot_be_used_is_not_ready_and_the_log_says_why_once(
    rclone_server: S3Server, caplog: pytest.LogCaptureFixture, wrong: dict[str, str], remedy: str
) -> None:
    blobs = await s3_blobs.connect(rclone_server.configured(**wrong))
    assert [await blobs.ready() for _ in range(3)] == [False] * 3
    (line,) = [each for each in caplog.records if each.getMessage() == "object_store_not_ready"]
    assert remedy in line.__dict__["remedy"]
    assert line.levelno == logging.ERROR
    for use in (
        lambda: blobs.stat("objects/ab/x"),
        lambda: read(blobs, "objects/ab/x"),
        lambda: keys(blobs, "objects/"),
        lambda: blobs.delete("objects/ab/x"),
    ):
        assert await failure(use) < 5
    await blobs.close()


async def test_secrets_are_in_no_log(rclone_server: S3Server, tmp_path: Path) -> None:
    written = io.StringIO()
    handler, root = logging.StreamHandler(written), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        for secret in (SECRET, SECRET[::-1]):
            blobs = await s3_blobs.connect(rclone_server.configured(media_s3_secret_access_key=secret))
            await blobs.ready()
            with suppress(UpstreamFailed):
                await blobs.stat("objects/ab/x")
            await blobs.close()
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert "object_store_failed" in written.getvalue()
    assert SECRET not in written.getvalue()
    assert SECRET[::-1] not in written.getvalue()


async def test_a_store_that_goes_away_fails_quickly_and_is_used_again_when_it_is_back(tmp_path: Path) -> None:
    server = rclone(tmp_path / "own").start()
    blobs = await s3_blobs.connect(server.configured())
    (file := tmp_path / "x").write_bytes(DATA)
    try:
        await blobs.put("objects/ab/x", file, mime="image/png")
        server.stop()
        assert not await blobs.ready()
        assert await failure(lambda: blobs.stat("objects/ab/x")) < 5
        assert await failure(lambda: read(blobs, "objects/ab/x")) < 5
        assert await failure(lambda: blobs.put("objects/ab/y", file, mime="image/png")) < 5
        server.start()
        assert await blobs.ready()
        assert await read(blobs, "objects/ab/x") == DATA
        assert await blobs.stat("objects/ab/y") is None
    finally:
        await blobs.close()
        server.stop()


async def test_a_store_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_blobs, "_ANSWER", 1.0)
    monkeypatch.setattr(s3_blobs, "_PROBE", 1.0)
    server = rclone(tmp_path / "own").start()
    blobs = await s3_blobs.connect(server.configured())
    try:
        assert await blobs.ready()
        server.freeze()
        assert not await blobs.ready()
        assert await failure(lambda: blobs.stat("objects/ab/x")) < 5
        server.thaw()
        assert await blobs.ready()
    finally:
        server.thaw()
        await blobs.close()
        server.stop()


async def test_a_store_that_dies_in_the_middle_of_an_object_does_not_look_like_its_end(tmp_path: Path) -> None:
    server = rclone(tmp_path / "own").start()
    blobs = await s3_blobs.connect(server.configured())
    (file := tmp_path / "x").touch()
    os.truncate(file, 64 * 1024 * 1024)
    try:
        await blobs.put("objects/ab/x", file, mime="image/png")
        async with aclosing(blobs.read("objects/ab/x")) as pieces:
            await anext(pieces)
            server.stop()

            async def rest() -> None:
                async for _ in pieces:
                    pass

            await failure(rest)
    finally:
        await blobs.close()
        with suppress(ProcessLookupError):
            server.stop()


async def test_a_form_is_taken_by_s3_whatever_the_type_of_its_file(moto_server: S3Server) -> None:
    """moto reads forms as S3 does; it believes every signature, as rclone, which checks them, takes no forms."""
    async with httpx.AsyncClient() as client:
        await client.put(f"{moto_server.url}/{BUCKET}")
        blobs = await s3_blobs.connect(moto_server.configured())
        target = await blobs.upload_target(f"images/{ID}", ID, largest=10_000_000, expires=in_a_minute())
        assert sorted(target.post_fields) == [
            "key",
            "policy",
            "x-amz-algorithm",
            "x-amz-credential",
            "x-amz-date",
            "x-amz-signature",
        ]
        for kind in ("image/png", "application/octet-stream", "text/html"):
            files = {"file": ("a.png", DATA, kind)}
            assert (await client.post(target.post_url, data=target.post_fields, files=files)).status_code == 204
            assert await read(blobs, f"images/{ID}") == DATA
            await blobs.delete(f"images/{ID}")
    await blobs.close()
