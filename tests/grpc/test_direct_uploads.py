"""Direct uploads, from the id that is given out to the image: in both stores, between processes, and against whoever
sends something else."""

from __future__ import annotations

import asyncio
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from services.media import s3_blobs
from services.media.blobs import BlobMissing, BlobStore
from services.media.image_types import TYPES, ImageTypes
from services.media.ingest import Ingest
from services.media.local_blobs import LocalBlobs
from services.media.local_receiver import LocalReceiver
from services.media.media_store import Bringer, MediaStore
from services.media.signing import FIELDS, Signer
from services.media.upload_store import UploadStore
from services.media.uploads import LIFE, Announced, Uploads, upload_key
from services.runtime.db import Database, Row
from services.runtime.errors import ApiError
from services.runtime.vault import Vault
from tests.pictures import gif, png
from tests.s3 import S3Server

LARGEST = 256 * 1024
ANN, BOB = Bringer("usr_ann", "cat.png", "label"), Bringer("usr_bob")
SIGNER = Signer(Vault(b"0123456789abcdef0123456789abcdef"))
ROOT = Path(__file__).parents[2]
BOUNDARY = "a-boundary"


def picture(size: int = 0) -> bytes:
    """An image that nobody has brought before."""
    return png(tail=secrets.token_bytes(16)).ljust(size, b"\0")


class Process:
    """What one process of the server has."""

    def __init__(self, database: Database, blobs: BlobStore, folder: Path) -> None:
        self.blobs = blobs
        self.incoming = folder / "incoming"
        self.time = time.time()
        self.media, store, types = MediaStore(database), UploadStore(database), ImageTypes(TYPES)
        self.ingest = Ingest(self.media, blobs, types, self.incoming, largest=LARGEST)
        self.uploads = Uploads(store, blobs, self.ingest, types, life=300, clock=lambda: self.time)
        self.receiver = LocalReceiver(store, blobs, self.ingest, SIGNER, clock=lambda: self.time)

    async def prepare(self, bringer: Bringer = ANN) -> Announced:
        return await self.uploads.prepare(bringer, "image/png")

    async def place(self, announced: Announced, data: bytes) -> None:
        """What S3, or our own receiver, does in the end."""
        file = self.incoming.parent / secrets.token_hex(8)
        file.write_bytes(data)
        await self.blobs.put(upload_key(announced.id), file, mime="application/octet-stream")
        file.unlink()

    async def seen(self, media_id: str, user_id: str = ANN.user_id) -> Row | None:
        """The image, as a user sees it."""
        return (await self.media.find(user_id, [media_id])).get(media_id)

    async def bytes_of(self, media_id: str) -> bytes:
        row = await self.seen(media_id)
        assert row is not None
        return b"".join([piece async for piece in self.blobs.read(row["key"])])

    async def objects(self) -> list[str]:
        return [blob.key async for blob in self.blobs.keys("objects/")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "incoming").mkdir()
    return tmp_path


@pytest.fixture(params=["local", "s3"])
async def blobs(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[BlobStore]:
    if request.param == "local":
        yield local(folder)
        return
    server: S3Server = request.getfixturevalue("rclone_server")
    store = await s3_blobs.connect(server.configured())
    yield store
    await store.close()


def local(folder: Path) -> LocalBlobs:
    store = LocalBlobs(folder, SIGNER, "https://ai.example.com")
    store.prepare()
    return store


@pytest.fixture
def process(database: Database, blobs: BlobStore, folder: Path) -> Process:
    return Process(database, blobs, folder)


@pytest.fixture
def here(database: Database, folder: Path) -> Process:
    """A process whose store is a directory."""
    return Process(database, local(folder), folder)


async def refusal(doing: Any) -> tuple[int, str]:
    with pytest.raises(ApiError) as caught:
        await doing
    return caught.value.kind.http, caught.value.code


PENDING = (409, "upload_pending")


# From the id to the image


async def test_an_upload_becomes_an_image_at_its_first_use(process: Process, database: Database) -> None:
    announced, data = await process.prepare(), picture(100_000)
    assert announced.mime == "image/png"
    await process.place(announced, data)
    assert await process.uploads.finalise(announced.id, ANN.user_id)
    row = await process.seen(announced.id)
    assert row is not None
    assert (row["mime"], row["bytes"], row["filename"], row["deduped"]) == ("image/png", len(data), "cat.png", False)
    assert await process.bytes_of(announced.id) == data
    assert await process.blobs.stat(upload_key(announced.id)) is None
    assert not await process.uploads.finalise(announced.id, ANN.user_id)
    assert await database.fetchval("SELECT count(*) FROM media_uploads") == 0
    assert not list(process.incoming.iterdir())


async def test_before_the_bytes_come_the_upload_is_pending(process: Process) -> None:
    announced = await process.prepare()
    for _ in range(2):
        assert await refusal(process.uploads.finalise(announced.id, ANN.user_id)) == PENDING
    await process.place(announced, picture())
    assert await process.uploads.finalise(announced.id, ANN.user_id)


async def test_to_everybody_else_there_is_no_such_upload(process: Process) -> None:
    announced = await process.prepare()
    await process.place(announced, picture())
    assert not await process.uploads.finalise(announced.id, BOB.user_id)
    assert not await process.uploads.finalise("jan_01kb0000000000000000000001", ANN.user_id)
    assert await process.uploads.finalise(announced.id, ANN.user_id)
    assert await process.seen(announced.id, BOB.user_id) is None


async def test_the_same_bytes_are_one_object_and_both_ids_mean_it(process: Process) -> None:
    data = picture()
    first, second, third = await process.prepare(), await process.prepare(BOB), await process.prepare()
    for announced, user in ((first, ANN), (second, BOB), (third, ANN)):
        await process.place(announced, data)
        assert await process.uploads.finalise(announced.id, user.user_id)
    rows = [await process.seen(each.id, user.user_id) for each, user in ((first, ANN), (second, BOB), (third, ANN))]
    assert [row["deduped"] for row in rows if row] == [False, True, True]
    assert len({row["key"] for row in rows if row}) == 1
    assert await process.seen(first.id, BOB.user_id) is None


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", (400, "empty_file")),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", (400, "unsupported_media_type")),
        (b"<html><script>alert(1)</script>", (400, "unsupported_media_type")),
        (png(20_000, 20_000), (400, "unsupported_media_type")),
        (png().ljust(LARGEST + 1, b"\0"), (413, "max_size_exceeded")),
    ],
    ids=["empty", "svg", "html", "pixels", "large"],
)
async def test_what_is_no_image_is_removed_with_its_id_and_the_first_use_says_why(
    process: Process, data: bytes, error: tuple[int, str]
) -> None:
    announced = await process.prepare()
    await process.place(announced, data)
    assert await refusal(process.uploads.finalise(announced.id, ANN.user_id)) == error
    assert await process.blobs.stat(upload_key(announced.id)) is None
    assert not await process.uploads.finalise(announced.id, ANN.user_id)
    assert await process.seen(announced.id) is None
    assert not list(process.incoming.iterdir())


async def test_the_type_is_that_of_the_bytes_and_not_the_one_announced(process: Process) -> None:
    announced = await process.prepare()
    await process.place(announced, gif(7, 9))
    await process.uploads.finalise(announced.id, ANN.user_id)
    row = await process.seen(announced.id)
    assert row is not None
    assert row["mime"] == "image/gif"


async def test_what_is_sent_after_the_first_use_changes_nothing_and_is_swept(
    process: Process, database: Database
) -> None:
    announced, data = await process.prepare(), picture()
    await process.place(announced, data)
    await process.uploads.finalise(announced.id, ANN.user_id)
    await process.place(announced, b"<script>")
    assert not await process.uploads.finalise(announced.id, ANN.user_id)
    assert await process.bytes_of(announced.id) == data
    left = await database.fetchval(
        "SELECT until > now() + interval '24 hours' FROM media_leftovers WHERE key = $1", upload_key(announced.id)
    )
    assert left  # until nobody can send anything any more


async def test_an_upload_that_nobody_sends_is_forgotten_after_a_day(process: Process, database: Database) -> None:
    announced = await process.prepare()
    assert announced.expires == int(process.time) + 300  # the address; the id lives longer
    lives = await database.fetchval("SELECT extract(epoch FROM expires_at)::bigint FROM media_uploads")
    assert lives == int(process.time) + LIFE
    await process.place(announced, picture())
    await database.execute("UPDATE media_uploads SET expires_at = now() - interval '1 second'")
    assert not await process.uploads.finalise(announced.id, ANN.user_id)


@pytest.mark.parametrize("mime", ["image/svg+xml", "text/html", "image/*", "", "png", "image/png\0"])
async def test_only_types_that_are_taken_are_announced(here: Process, mime: str) -> None:
    assert await refusal(here.uploads.prepare(ANN, mime)) == (400, "unsupported_media_type")


async def test_an_announced_type_is_read_as_people_write_it(here: Process) -> None:
    assert (await here.uploads.prepare(ANN, "Image/JPEG; q=1")).mime == "image/jpeg"


async def test_an_id_is_given_out_with_everything_a_client_needs(here: Process) -> None:
    announced = await here.prepare()
    target = announced.target
    assert sorted(target.post_fields) == sorted(FIELDS)
    assert target.post_fields["key"] == f"images/{announced.id}"
    assert target.put_url.startswith(f"https://ai.example.com/v1/media/uploads/{announced.id}?")


# At once, and after a crash


async def test_many_first_uses_in_several_processes_make_one_image(
    database: Database, blobs: BlobStore, folder: Path
) -> None:
    processes = [Process(database, blobs, folder) for _ in range(3)]
    announced, data = await processes[0].prepare(), picture(100_000)
    await processes[0].place(announced, data)
    uses = [each.uploads.finalise(announced.id, ANN.user_id) for each in processes for _ in range(4)]
    assert sum(await asyncio.gather(*uses)) == 1
    assert await processes[0].bytes_of(announced.id) == data
    assert await database.fetchval("SELECT count(*) FROM media_references") == 1
    leftovers = [row["key"] for row in await database.fetch("SELECT key FROM media_leftovers")]
    kept = await database.fetchval("SELECT key FROM media_objects")
    sha = kept.rpartition("/")[0]
    mine = [key for key in await processes[0].objects() if key.startswith(sha)]
    assert set(mine) - {kept} <= set(leftovers)  # nothing that the sweeper would not find


class Paused:
    """A store whose next `read` waits after the bytes were taken, until `go` is set."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    async def read(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        pieces = [piece async for piece in self._blobs.read(key, start=start, end=end)]
        self.begun.set()
        await self.go.wait()
        for piece in pieces:
            yield piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)


@pytest.mark.parametrize("same", [True, False], ids=["the same bytes", "others"])
async def test_of_two_processes_the_slower_one_finds_the_image_of_the_other(
    database: Database, folder: Path, same: bool
) -> None:
    paused = Paused(local(folder))
    slow, fast = Process(database, paused, folder), Process(database, local(folder), folder)  # type: ignore[arg-type]  # the rest is passed on
    announced, first, second = await fast.prepare(), picture(), picture()
    await fast.place(announced, first)
    using = asyncio.ensure_future(slow.uploads.finalise(announced.id, ANN.user_id))
    await paused.begun.wait()
    if not same:
        await fast.place(announced, second)
    assert await fast.uploads.finalise(announced.id, ANN.user_id)
    paused.go.set()
    assert not await using
    assert await fast.bytes_of(announced.id) == (first if same else second)
    leftovers = {row["key"] for row in await database.fetch("SELECT key FROM media_leftovers")}
    kept = {row["key"] for row in await database.fetch("SELECT key FROM media_objects")}
    assert set(await fast.objects()) <= leftovers | kept


class Vanishing(Paused):
    """A store out of which somebody takes the object between `stat` and `read`."""

    async def read(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        await self._blobs.delete(key)
        raise BlobMissing(key)
        yield b""


async def test_an_object_that_vanishes_while_it_is_looked_at_is_pending_again(database: Database, folder: Path) -> None:
    process = Process(database, Vanishing(local(folder)), folder)  # type: ignore[arg-type]  # the rest is passed on
    announced = await process.prepare()
    await process.place(announced, picture())
    assert await refusal(process.uploads.finalise(announced.id, ANN.user_id)) == PENDING


async def test_a_store_that_fails_leaves_the_upload_for_the_next_use(database: Database, folder: Path) -> None:
    process = Process(database, local(folder), folder)
    announced, data = await process.prepare(), picture()
    await process.place(announced, data)
    (folder / "incoming").rename(folder / "away")
    assert await refusal(process.uploads.finalise(announced.id, ANN.user_id)) == (502, "storage_error")
    (folder / "away").rename(folder / "incoming")
    assert await process.uploads.finalise(announced.id, ANN.user_id)
    assert await process.bytes_of(announced.id) == data


async def test_who_goes_away_in_the_middle_leaves_nothing_but_the_upload(database: Database, folder: Path) -> None:
    paused = Paused(local(folder))
    process = Process(database, paused, folder)  # type: ignore[arg-type]  # the rest is passed on
    announced = await process.prepare()
    await process.place(announced, picture())
    using = asyncio.ensure_future(process.uploads.finalise(announced.id, ANN.user_id))
    await paused.begun.wait()
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    assert not list(process.incoming.iterdir())
    paused.go.set()
    assert await process.uploads.finalise(announced.id, ANN.user_id)


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from services.runtime import db
from tests.grpc.test_direct_uploads import Process, local

async def main(url, folder, moment, media_id):
    process = Process(await db.connect(url), local(folder), folder)
    noun, _, verb = moment.partition(".")
    owner = {"blobs": process.blobs, "store": process.media}[noun]
    work = getattr(owner, verb.removeprefix("after "))

    async def die(*args, **more):
        if verb.startswith("after "):
            await work(*args, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, verb.removeprefix("after "), die)
    await process.uploads.finalise(media_id, "usr_ann")

asyncio.run(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
"""


@pytest.mark.parametrize(
    "moment",
    ["store.take", "store.expect", "store.after expect", "blobs.after put", "store.create", "store.after create"],
)
async def test_after_a_crash_the_next_use_makes_the_image_and_nothing_is_lost_from_sight(
    database: Database, database_url: str, folder: Path, moment: str
) -> None:
    process = Process(database, local(folder), folder)
    announced, data = await process.prepare(), picture()
    await process.place(announced, data)
    command = [sys.executable, "-c", KILLED, database_url, str(folder), moment, announced.id]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}"}
    killed = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, check=False, timeout=50, env=environment)
    assert killed.returncode == -signal.SIGKILL
    made = moment == "store.after create"
    assert await process.uploads.finalise(announced.id, ANN.user_id) is not made
    assert await process.bytes_of(announced.id) == data
    known = {
        row["key"]
        for row in await database.fetch("SELECT key FROM media_leftovers UNION SELECT key FROM media_objects")
    }
    assert {blob.key async for blob in process.blobs.keys("")} <= known


# What the receiver of the local store takes


async def in_pieces(data: bytes, size: int = 1000) -> AsyncGenerator[bytes, None]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def form_body(fields: Mapping[str, str] | list[tuple[str, str]], file: bytes | None, *, after: str = "") -> bytes:
    """A form with those fields, then the file, of a type that does not fit, then perhaps one field more."""
    text = ""
    for name, value in fields.items() if isinstance(fields, Mapping) else fields:
        text += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
    body = text.encode()
    if file is not None:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'
        body += head.encode() + b"Content-Type: text/plain\r\n\r\n" + file + b"\r\n"
    if after:
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{after}"\r\n\r\nx\r\n'.encode()
    return body + f"--{BOUNDARY}--\r\n".encode()


async def send(process: Process, body: bytes, size: int = 1000) -> None:
    await process.receiver.receive_form(in_pieces(body, size), f"multipart/form-data; boundary={BOUNDARY}")


@pytest.mark.parametrize("size", [1, 7, 1000, 10_000_000])
async def test_a_form_is_taken_in_pieces_of_any_size(here: Process, size: int) -> None:
    announced, data = await here.prepare(), picture(3000)
    await send(here, form_body(announced.target.post_fields, data), size)
    assert await here.uploads.finalise(announced.id, ANN.user_id)
    assert await here.bytes_of(announced.id) == data


async def test_a_form_of_an_ordinary_client_is_taken(here: Process) -> None:
    announced, data = await here.prepare(), picture(3000)
    request = httpx.Request(
        "POST", announced.target.post_url, data=dict(announced.target.post_fields), files={"file": ("a.png", data)}
    )
    await here.receiver.receive_form(in_pieces(request.read()), request.headers["content-type"])
    assert await here.uploads.finalise(announced.id, ANN.user_id)


async def test_names_of_fields_may_be_written_as_aws_writes_them_and_fields_after_the_file_do_not_count(
    here: Process,
) -> None:
    announced = await here.prepare()
    fields = {name.title(): value for name, value in announced.target.post_fields.items()} | {"x-ignore-me": "1"}
    await send(here, form_body(fields, picture(), after="submit"))
    assert await here.uploads.finalise(announced.id, ANN.user_id)


async def test_a_put_is_taken_at_its_signed_address(here: Process) -> None:
    announced, data = await here.prepare(), picture(3000)
    await here.receiver.receive_put(path_of(announced.target.put_url), in_pieces(data))
    assert await here.uploads.finalise(announced.id, ANN.user_id)
    assert await here.bytes_of(announced.id) == data


async def test_sending_again_before_the_first_use_replaces_the_bytes(here: Process) -> None:
    announced, data = await here.prepare(), picture()
    await send(here, form_body(announced.target.post_fields, b"a mistake"))
    await here.receiver.receive_put(path_of(announced.target.put_url), in_pieces(data))
    assert await here.uploads.finalise(announced.id, ANN.user_id)
    assert await here.bytes_of(announced.id) == data


async def refused_form(process: Process, announced: Announced, body: bytes) -> tuple[int, str]:
    error = await refusal(send(process, body))
    assert await process.blobs.stat(upload_key(announced.id)) is None
    assert not list(process.incoming.iterdir())
    assert await refusal(process.uploads.finalise(announced.id, ANN.user_id)) == PENDING
    return error


async def test_a_form_that_is_not_the_one_given_out_is_refused(here: Process) -> None:
    announced, other, data = await here.prepare(), await here.prepare(), picture()
    fields, wrong = dict(announced.target.post_fields), (401, "invalid_signature")
    bad = (400, "invalid_parameter")
    for name in FIELDS:
        left = {each: value for each, value in fields.items() if each != name}
        assert await refused_form(here, announced, form_body(left, data)) == bad
        assert await refused_form(here, announced, form_body(fields | {name: "x"}, data)) == wrong
    assert await refused_form(here, announced, form_body(fields | {"key": upload_key(other.id)}, data)) == wrong
    assert await refused_form(here, announced, form_body(fields | {"acl": "public-read"}, data)) == bad
    assert await refused_form(here, announced, form_body(fields, None)) == bad
    assert await refused_form(here, announced, form_body({}, data)) == bad
    assert await refused_form(here, announced, form_body({}, data, after="key")) == bad
    assert await refused_form(here, announced, b"") == bad
    assert await refused_form(here, announced, form_body(fields, data)[:-30]) == bad
    assert await refused_form(here, announced, form_body(fields, b"")) == (400, "empty_file")
    assert await refused_form(here, announced, form_body(fields, bytes(LARGEST + 1))) == (413, "max_size_exceeded")
    here.time = announced.expires
    assert await refused_form(here, announced, form_body(fields, data)) == wrong


async def test_the_bytes_of_a_form_that_may_not_come_are_not_read(here: Process) -> None:
    announced = await here.prepare()
    body = form_body(dict(announced.target.post_fields) | {"x-amz-signature": "0" * 64}, bytes(200_000))
    read = 0

    async def counted() -> AsyncGenerator[bytes, None]:
        nonlocal read
        async for piece in in_pieces(body):
            read += len(piece)
            yield piece

    doing = here.receiver.receive_form(counted(), f"multipart/form-data; boundary={BOUNDARY}")
    assert await refusal(doing) == (401, "invalid_signature")
    assert read < 5000


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/form-data", "multipart/form-data; boundary="])
async def test_what_is_no_form_is_refused(here: Process, kind: str) -> None:
    announced = await here.prepare()
    body = form_body(announced.target.post_fields, picture())
    assert (await refusal(here.receiver.receive_form(in_pieces(body), kind)))[0] == 400


async def test_a_put_elsewhere_later_or_with_too_much_is_refused(here: Process) -> None:
    announced, other = await here.prepare(), await here.prepare()
    url, wrong = path_of(announced.target.put_url), (401, "invalid_signature")
    content = SIGNER.content_query(announced.id, expires=announced.expires)
    for target in (
        url.replace(announced.id, other.id),
        url.replace("sig=", "sig=0"),
        url.partition("&")[0],
        url.partition("?")[0],
        f"{url}&exp=1",
        "",
        "/",
        f"/v1/media/uploads/{announced.id}?{content}",
    ):
        assert await refusal(here.receiver.receive_put(target, in_pieces(picture()))) == wrong, target
    assert await refusal(here.receiver.receive_put(url, in_pieces(b""))) == (400, "empty_file")
    large = here.receiver.receive_put(url, in_pieces(bytes(LARGEST + 1)))
    assert await refusal(large) == (413, "max_size_exceeded")
    here.time = announced.expires
    assert await refusal(here.receiver.receive_put(url, in_pieces(picture()))) == wrong
    assert [blob.key async for blob in here.blobs.keys("images/")] == []
    assert not list(here.incoming.iterdir())


async def test_a_finished_upload_takes_no_more_bytes(here: Process) -> None:
    announced = await here.prepare()
    await send(here, form_body(announced.target.post_fields, picture()))
    await here.uploads.finalise(announced.id, ANN.user_id)
    for doing in (
        send(here, form_body(announced.target.post_fields, picture())),
        here.receiver.receive_put(path_of(announced.target.put_url), in_pieces(picture())),
    ):
        assert await refusal(doing) == (401, "invalid_signature")
    assert await here.blobs.stat(upload_key(announced.id)) is None


async def test_a_sender_that_goes_away_leaves_nothing(here: Process) -> None:
    announced, begun = await here.prepare(), asyncio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        yield form_body(announced.target.post_fields, bytes(100_000))[:90_000]
        begun.set()
        await asyncio.Event().wait()

    sending = asyncio.ensure_future(here.receiver.receive_form(endless(), f"multipart/form-data; boundary={BOUNDARY}"))
    await begun.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert not list(here.incoming.iterdir())
    assert await refusal(here.uploads.finalise(announced.id, ANN.user_id)) == PENDING


async def test_with_s3_the_client_sends_to_the_store_itself(
    database: Database, rclone_server: S3Server, folder: Path
) -> None:
    store = await s3_blobs.connect(rclone_server.configured())
    process = Process(database, store, folder)
    announced, data = await process.prepare(), picture()
    async with httpx.AsyncClient() as client:
        assert (await client.put(announced.target.put_url, content=data)).status_code == 200
    assert await process.uploads.finalise(announced.id, ANN.user_id)
    assert await process.bytes_of(announced.id) == data
    await store.close()
