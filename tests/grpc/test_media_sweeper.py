"""The sweeper against a real database and a real directory: what is over goes, what is needed stays, crash or not."""

import asyncio
import hashlib
import logging
import os
import secrets
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from services.media import spool
from services.media.blobs import Blob
from services.media.image_types import ImageTypes
from services.media.ingest import Ingest
from services.media.local_blobs import LocalBlobs
from services.media.media_store import Bringer, MediaStore, Stored
from services.media.signing import Signer
from services.media.sweep_store import BATCH, SweepStore
from services.media.sweeper import DAY, HOUR, INTERVAL, Sweeper
from services.media.upload_store import UploadStore
from services.runtime import ids
from services.runtime.db import Database
from services.runtime.errors import Unavailable, UpstreamFailed
from services.runtime.image_header import ImageHeader
from services.runtime.vault import Vault
from tests.clock import run

ROOT = Path(__file__).parents[2]
SIGNER = Signer(Vault(b"0123456789abcdef0123456789abcdef"))
DAYS = 30
ANNA = Bringer("usr_anna")


class Died(BaseException):
    """What is left of a process at this point."""


class Blobs(LocalBlobs):
    """A directory whose every removal can be made to go wrong."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, SIGNER, "https://ai.example.com")
        self.removals: list[str] = []
        self.before: Callable[[str], Awaitable[None]] = _nothing
        self.after: Callable[[str], Awaitable[None]] = _nothing

    async def delete(self, key: str) -> None:
        self.removals.append(key)
        await self.before(key)
        await super().delete(key)
        await self.after(key)


async def _nothing(_key: str) -> None:
    """All is well."""


async def die(_key: str) -> None:
    raise Died


class Place:
    """The room without its doors."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder / "media"
        self.incoming = self.folder / "incoming"
        self.blobs = Blobs(self.folder)
        self.blobs.prepare()
        self.media = MediaStore(database)
        self.uploads = UploadStore(database)
        self.store = SweepStore(database)

    def sweeper(self, *, ahead: float = 0.0) -> Sweeper:
        """One whose clock is `ahead` seconds before that of the store."""
        return Sweeper(
            self.store,
            self.blobs,
            retention_days=DAYS,
            spools=self.incoming,
            clock=lambda: Path(self.folder).stat().st_mtime + ahead,
        )

    async def sweep(self) -> None:
        """A round in which every chore is due."""
        await self.database.execute("UPDATE media_chores SET begun_at = '-infinity'")
        await self.sweeper().round()

    async def bring(self, content: bytes = b"", bringer: Bringer = ANNA) -> str:
        """Bytes that become an image; the key of the object."""
        content = content or secrets.token_bytes(20)
        sha256 = hashlib.sha256(content).digest()
        key = await self.put(content)
        stored = Stored(key, sha256, len(content), ImageHeader("image/png", 1, 1))
        assert await self.media.create(bringer, ids.new_id("jan"), stored, None)
        return key

    async def put(self, content: bytes, *, expected: bool = True) -> str:
        """The first half of that: here a process may die."""
        digest = hashlib.sha256(content).hexdigest()
        key = f"objects/{digest[:2]}/{digest}/{ids.new_id('obj')}"
        if expected:
            await self.media.expect(key)
        await self.place(key, content)
        return key

    async def place(self, key: str, content: bytes = b"x") -> None:
        """An object that nobody was told of."""
        file = self.folder.parent / secrets.token_hex(8)
        file.write_bytes(content)
        await self.blobs.put(key, file, mime="image/png")
        file.unlink()

    async def age(self, key: str, days: float) -> None:
        """Let it have been brought so long ago."""
        await self.database.execute(
            "UPDATE media_objects SET used_at = now() - make_interval(secs => $2 * 86400) WHERE key = $1", key, days
        )

    async def id_of(self, key: str) -> str:
        return str(await self.database.fetchval("SELECT media_id FROM media_objects WHERE key = $1", key))

    async def rows(self) -> set[str]:
        return {row["key"] for row in await self.database.fetch("SELECT key FROM media_objects")}

    async def leftovers(self) -> set[str]:
        return {row["key"] for row in await self.database.fetch("SELECT key FROM media_leftovers")}

    async def objects(self) -> set[str]:
        """Every object that there is, the sweeper's mark aside."""
        return {blob.key async for blob in self.blobs.keys("")} - await self.marks()

    async def marks(self) -> set[str]:
        return {blob.key async for blob in self.blobs.keys("installations/")}

    async def is_clean(self) -> bool:
        """Whether rows and objects are the same, and nothing else is left."""
        return await self.rows() == await self.objects() and not await self.leftovers()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
async def place(database: Database, tmp_path: Path) -> Place:
    return Place(database, tmp_path)


# Images that nobody has brought for long


async def test_an_image_goes_when_its_time_is_over_and_its_bytes_ids_and_references_with_it(place: Place) -> None:
    old, young = await place.bring(), await place.bring()
    await place.age(old, DAYS + 0.1)
    await place.age(young, DAYS - 0.1)
    await place.sweep()
    assert await place.rows() == {young}
    assert await place.is_clean()
    assert await place.database.fetchval("SELECT count(*) FROM media") == 1
    assert await place.database.fetchval("SELECT count(*) FROM media_references") == 1


async def test_a_retention_of_ages_keeps_everything(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    key = await place.bring()
    await place.age(key, 20_000)
    await Sweeper(place.store, place.blobs, retention_days=10**9, spools=place.incoming).round()
    assert await place.rows() == {key}
    assert warnings(caplog) == []


async def test_bringing_the_same_bytes_again_begins_its_time_anew(place: Place) -> None:
    key = await place.bring(b"the same")
    await place.age(key, DAYS + 1)
    assert await place.media.take(Bringer("usr_bert"), hashlib.sha256(b"the same").digest(), None)
    await place.sweep()
    assert await place.rows() == {key}


async def test_an_image_that_is_brought_at_this_moment_stays(place: Place) -> None:
    key = await place.bring()
    await place.age(key, DAYS + 1)
    async with place.database.transaction() as connection:
        await connection.execute("UPDATE media_objects SET used_at = now() WHERE key = $1", key)
        await place.sweep()
    await place.sweep()
    assert await place.rows() == {key}


async def show(place: Place, content: str) -> None:
    """A conversation with that content."""
    conversation, item = ids.new_id("conv"), ids.new_id("msg")
    await place.database.execute("INSERT INTO conversations (id, user_id) VALUES ($1, 'usr_anna')", conversation)
    await place.database.execute(
        """
        INSERT INTO items (id, conversation_id, position, type, role, content)
        VALUES ($1, $2, 1, 'message', 'user', $3)
        """,
        *(item, conversation, content),
    )


async def share(place: Place, media_id: str, ends: str = "NULL, NULL") -> None:
    await place.database.execute(
        f"""
        INSERT INTO shares (id, slug, user_id, conversation_id, read_only, allow_feedback, items,
                            expires_at, revoked_at)
        VALUES ($1, $1, 'usr_anna', 'conv_1', true, false, $2, {ends})
        """,
        *(ids.new_id("shr"), f'[{{"content": [{{"image_url": {{"url": "{media_id}"}}}}]}}]'),
    )


async def test_images_that_conversations_and_active_shares_show_stay_as_long_as_they_do(place: Place) -> None:
    shown, shared, unshared, expired = [await place.bring() for _ in range(4)]
    for key in (shown, shared, unshared, expired):
        await place.age(key, DAYS + 1)
    await show(place, f'[{{"type": "image_url", "image_url": {{"url": "{(await place.id_of(shown)).upper()}"}}}}]')
    await share(place, await place.id_of(shared))
    await share(place, await place.id_of(unshared), "NULL, now()")
    await share(place, await place.id_of(expired), "now() - interval '1 minute', NULL")
    await place.sweep()
    assert await place.rows() == {shown, shared}
    await place.database.execute("DELETE FROM items")
    await place.database.execute("UPDATE shares SET revoked_at = now()")
    await place.sweep()
    assert await place.rows() == set()
    assert await place.is_clean()


async def test_an_image_stays_for_any_of_its_ids(place: Place) -> None:
    key = await place.bring(b"two ids")
    await place.age(key, DAYS + 1)
    alias = ids.new_id("jan")
    await place.database.execute(
        "INSERT INTO media (id, sha256) VALUES ($1, $2)", alias, hashlib.sha256(b"two ids").digest()
    )
    await show(place, f'[{{"image_url": {{"url": "data:image/png;{alias}"}}}}]')
    await place.sweep()
    assert await place.rows() == {key}


async def test_more_than_a_batch_goes_in_one_round(place: Place) -> None:
    await place.database.execute(
        """
        INSERT INTO media_objects (sha256, media_id, key, mime, bytes, width, height, used_at)
        SELECT sha256(n::text::bytea), 'jan_' || n, 'objects/x/' || n, 'image/png', 1, 1, 1, now() - interval '40 days'
        FROM generate_series(1, $1) AS n
        """,
        BATCH + 10,
    )
    await place.sweep()
    assert await place.rows() == set()
    assert await place.leftovers() == set()


# Objects whose row never came, or has gone


async def test_what_an_upload_that_died_midway_has_left_goes_when_nobody_can_wait_for_it(place: Place) -> None:
    key = await place.put(b"dies after the object is stored")
    await place.media.expect("objects/00/dies-before-the-object-is-stored")
    await place.sweep()
    assert await place.objects() == {key}
    await place.database.execute("UPDATE media_leftovers SET until = now()")
    await place.sweep()
    assert await place.is_clean()


async def test_who_comes_too_late_for_its_row_is_told_so_and_leaves_nothing(place: Place) -> None:
    content = b"suspended for an hour"
    key = await place.put(content)
    await place.database.execute("UPDATE media_leftovers SET until = now()")
    stored = Stored(key, hashlib.sha256(content).digest(), len(content), ImageHeader("image/png", 1, 1))
    with pytest.raises(UpstreamFailed):
        await place.media.create(ANNA, ids.new_id("jan"), stored, None)
    await place.sweep()
    assert await place.rows() == set()
    assert await place.is_clean()


async def test_an_object_that_gets_its_row_at_this_moment_stays(place: Place) -> None:
    key = await place.put(b"at this moment")
    async with place.database.transaction() as connection:
        await connection.execute("DELETE FROM media_leftovers WHERE key = $1", key)
        await place.sweep()
    assert await place.objects() == {key}


async def test_an_object_with_a_row_is_never_removed_as_a_leftover(place: Place) -> None:
    key = await place.bring()
    await place.database.execute("INSERT INTO media_leftovers (key, until) VALUES ($1, now())", key)
    await place.sweep()
    assert await place.objects() == {key}


async def test_a_leftover_that_cannot_be_removed_does_not_keep_the_others(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = await place.put(b"stuck")
    for _ in range(3):
        await place.put(secrets.token_bytes(9))
    await place.database.execute("UPDATE media_leftovers SET until = now() - interval '1 hour' WHERE key = $1", stuck)
    await place.database.execute("UPDATE media_leftovers SET until = now() WHERE key <> $1", stuck)

    async def refuse(key: str) -> None:
        if key == stuck:
            raise UpstreamFailed("The object store failed", code="storage_error")

    place.blobs.before = refuse
    await place.sweep()
    assert await place.leftovers() == {stuck}
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        "leftover_not_removed"
    ]
    place.blobs.before = _nothing
    await place.sweep()
    assert await place.is_clean()


async def test_a_store_that_takes_no_removal_is_left_alone_until_the_next_round(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    keys = {await place.put(secrets.token_bytes(9)) for _ in range(10)}
    await place.database.execute("UPDATE media_leftovers SET until = now()")

    async def refuse(_key: str) -> None:
        raise UpstreamFailed("The object store failed", code="storage_error")

    place.blobs.before = refuse
    await place.sweep()
    assert len(place.blobs.removals) == 3
    assert warnings(caplog) == ["leftover_not_removed", "leftover_not_removed", "sweep_put_off"]
    place.blobs.before = _nothing
    await place.sweep()
    assert await place.is_clean()
    assert keys <= set(place.blobs.removals)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_sweeper_that_dies_at_a_removal_leaves_it_to_the_next(place: Place, moment: str) -> None:
    keys = [await place.bring() for _ in range(3)]
    for key in keys:
        await place.age(key, DAYS + 1)
    setattr(place.blobs, moment, die)
    with pytest.raises(Died):
        await place.sweep()
    assert (await place.rows(), len(await place.leftovers())) == (set(), 3)
    setattr(place.blobs, moment, _nothing)
    await place.sweep()
    assert await place.is_clean()


KILLED = """
    import asyncio, os, signal, sys
    from pathlib import Path
    from services.runtime import db
    from services.media.sweep_store import SweepStore
    from tests.grpc.test_media_sweeper import Place

    url, folder, moment, count = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])

    async def kill(_key):
        global count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    async def main():
        place = Place(await db.connect(url), folder)
        setattr(place.blobs, moment, kill)
        await place.sweep()

    asyncio.run(main())
"""


@pytest.mark.parametrize(("moment", "count"), [("before", 1), ("after", 2)])
async def test_a_sweeper_that_is_killed_leaves_nothing_that_the_next_does_not_find(
    place: Place, database_url: str, tmp_path: Path, moment: str, count: int
) -> None:
    for key in [await place.bring() for _ in range(3)]:
        await place.age(key, DAYS + 1)
    script = [sys.executable, "-c", textwrap.dedent(KILLED), database_url, str(tmp_path), moment, str(count)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}"}
    done = await asyncio.to_thread(subprocess.run, script, cwd=ROOT, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert await place.leftovers() != set()
    await place.sweep()
    assert await place.is_clean()


# Uploads that never came


async def test_an_announced_upload_goes_when_its_time_is_over_with_whatever_came_for_it(place: Place) -> None:
    now = await place.database.fetchval("SELECT now()")
    over, waiting = ids.new_id("jan"), ids.new_id("jan")
    for media_id in (over, waiting):
        key = f"images/{media_id}"
        await place.uploads.create(media_id, ANNA, mime="image/png", key=key, expires_at=now)
        await place.place(key)
    await place.database.execute(
        "UPDATE media_uploads SET expires_at = now() + interval '1 hour' WHERE id = $1", waiting
    )
    await place.sweep()
    assert [row["id"] for row in await place.database.fetch("SELECT id FROM media_uploads")] == [waiting]
    assert len(await place.objects()) == 2
    await place.database.execute("UPDATE media_leftovers SET until = now() WHERE key = $1", f"images/{over}")
    await place.sweep()
    assert await place.objects() == {f"images/{waiting}"}


# Both sides compared


async def every_part(place: Place, *, ahead: float) -> None:
    """Rounds until every part of the store was checked, and one more for what that found."""
    await place.database.execute("UPDATE media_chores SET begun_at = '-infinity'")
    while await place.database.fetchval("SELECT count(*) FROM media_chores WHERE begun_at = '-infinity'"):
        await place.sweeper(ahead=ahead).round()
    await place.database.execute("UPDATE media_chores SET begun_at = '-infinity' WHERE name = 'leftovers'")
    await place.sweeper(ahead=ahead).round()


async def test_objects_that_no_row_knows_go_after_a_day(place: Place) -> None:
    known, expected = await place.bring(), await place.put(b"is about to get its row")
    unknown = [await place.put(secrets.token_bytes(9), expected=False) for _ in range(5)]
    announced, stranger = f"images/{ids.new_id('jan')}", f"images/{ids.new_id('jan')}"
    await place.database.execute(
        "INSERT INTO media_uploads (id, user_id, mime, expires_at) VALUES ($1, 'usr_anna', 'image/png', 'infinity')",
        announced.removeprefix("images/"),
    )
    for key in (announced, stranger):
        await place.place(key)
    everything = {known, expected, *unknown, announced, stranger}
    await every_part(place, ahead=DAY - HOUR)
    assert await place.objects() == everything
    await every_part(place, ahead=DAY + HOUR)
    assert await place.objects() == {known, expected, announced}
    assert await place.leftovers() == {expected}


async def test_a_row_whose_object_is_gone_is_reported_and_stays_for_who_brings_the_bytes_again(
    place: Place, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    image = PIXEL
    directory = tmp_path / "arriving"
    spool.prepare(directory)
    ingest = Ingest(place.media, place.blobs, ImageTypes(("image/gif",)), directory, largest=1000)

    async def bring() -> str:
        async with ingest.spool() as arriving:
            await arriving.feed(image)
            return str((await ingest.keep(arriving, ANNA))["id"])

    media_id, kept = await bring(), await place.bring()
    (lost,) = await place.rows() - {kept}
    await place.blobs.delete(lost)
    await every_part(place, ahead=DAY + HOUR)
    (record,) = [record for record in caplog.records if record.message == "objects_lost"]
    assert (record.count, record.keys) == (1, [lost])  # type: ignore[attr-defined]  # fields of the event
    assert await place.rows() == {lost, kept}
    assert await bring() == media_id
    assert await place.is_clean()


PIXEL = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c000000000100010000020144003b")


async def test_every_part_of_the_store_is_checked_once_a_day(place: Place) -> None:
    parts = []
    while part := await place.store.claim_part(every=DAY):
        parts.append(part)
    assert sorted(parts) == ["images/", *(f"objects/{byte:02x}/" for byte in range(256))]
    await place.database.execute(
        "UPDATE media_chores SET begun_at = now() - interval '25 hours' WHERE name = 'objects/7f/'"
    )
    assert await place.store.claim_part(every=DAY) == "objects/7f/"
    assert await place.store.claim_part(every=DAY) is None


async def test_where_another_installation_keeps_its_objects_nothing_is_removed_as_unknown(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = await place.put(b"of another database", expected=False)
    await place.place("installations/00000000-0000-4000-8000-000000000000")
    await place.sweeper(ahead=DAY + HOUR).round()
    assert await place.objects() == {theirs}
    assert len(await place.marks()) == 2
    assert await place.store.claim_part(every=DAY) == "images/"
    assert "object_store_is_shared" in [record.message for record in caplog.records]
    await place.blobs.delete("installations/00000000-0000-4000-8000-000000000000")
    await every_part(place, ahead=DAY + HOUR)
    assert await place.objects() == set()


async def test_the_mark_of_an_installation_is_left_once(place: Place) -> None:
    for _ in range(3):
        await place.sweep()
    assert await place.marks() == {f"installations/{await place.store.installation()}"}


# Files of processes that were killed


async def test_spools_of_dead_processes_go_and_those_of_living_ones_stay(place: Place) -> None:
    dead = place.incoming / "00000000-0.1-1.in_01kb0000000000000000000001"
    dead.write_bytes(b"half of it")
    os.utime(dead, (0, 0))
    async with spool.Spool(place.incoming, largest=100) as alive:
        await alive.feed(b"x" * 100)
        await alive.finish()
        await place.sweep()
        assert len(list(place.incoming.iterdir())) == 1
    assert not dead.exists()


# Many processes


async def test_each_chore_falls_to_exactly_one_of_many(place: Place) -> None:
    assert sum(await asyncio.gather(*(place.store.claim("expired", every=HOUR) for _ in range(8)))) == 1
    assert not await place.store.claim("expired", every=HOUR)
    await place.database.execute("UPDATE media_chores SET begun_at = now() - interval '1 hour' WHERE name = 'expired'")
    assert sum(await asyncio.gather(*(place.store.claim("expired", every=HOUR) for _ in range(8)))) == 1


async def test_many_sweepers_at_once_remove_the_same_as_one(place: Place) -> None:
    gone = [await place.bring() for _ in range(20)]
    kept = await place.bring()
    for key in gone:
        await place.age(key, DAYS + 1)
    await asyncio.gather(*(place.sweeper().round() for _ in range(5)))
    await place.sweep()
    assert await place.rows() == {kept}
    assert await place.is_clean()


# The course of rounds


async def test_a_sweeper_stops_at_once_in_the_midst_of_a_removal(place: Place) -> None:
    key = await place.put(b"x")
    await place.database.execute("UPDATE media_leftovers SET until = now()")
    begun = asyncio.Event()

    async def hang(_key: str) -> None:
        begun.set()
        await asyncio.Event().wait()

    place.blobs.before = hang
    sweeper = place.sweeper()
    sweeper.start()
    await asyncio.wait_for(begun.wait(), 10)
    await asyncio.wait_for(sweeper.close(), 1)
    assert await place.leftovers() == {key}


async def test_a_sweeper_that_was_never_started_can_be_closed(place: Place) -> None:
    await place.sweeper().close()


class Outage:
    """A database that is away at first, then broken, then there, and an object store with nothing in it."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.fourth = asyncio.Event()

    async def claim(self, chore: str, *, every: float) -> bool:
        if chore == "expired":
            self.asked.append(asyncio.get_running_loop().time())
            if len(self.asked) == 1:
                raise Unavailable("The database is not reachable right now")
            if len(self.asked) == 2:
                raise ZeroDivisionError
            if len(self.asked) == 4:
                self.fourth.set()
        return False

    async def claim_part(self, *, every: float) -> None:
        return None

    async def installation(self) -> str:
        return "x"

    async def keys(self, prefix: str) -> AsyncGenerator[Blob, None]:
        yield Blob("installations/x", 1, datetime.now(UTC))


def test_rounds_go_on_whatever_happens_in_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage()

    async def scene() -> None:
        sweeper = Sweeper(outage, outage, retention_days=DAYS, spools=tmp_path)  # type: ignore[arg-type]  # peers
        sweeper.start()
        await outage.fourth.wait()
        await sweeper.close()

    run(scene())
    pauses = [later - earlier for earlier, later in pairwise(outage.asked)]
    assert all(INTERVAL * 0.89 < pause < INTERVAL * 1.11 for pause in pauses)
    assert warnings(caplog) == ["sweep_put_off", "sweep_failed"]
