"""Spools: bytes arrive in a file that is gone afterwards, whatever happens."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from services.media.spool import Spool, prepare, readable, sweep
from services.runtime.config import ConfigError
from services.runtime.errors import TooLarge, UpstreamFailed

MEGABYTE = 1024 * 1024


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.mark.parametrize("size", [1, 1000, 64 * 1024, 1_000_000])
async def test_what_arrives_is_on_the_disk_with_its_size_and_hash(tmp_path: Path, size: int) -> None:
    data = os.urandom(3_000_001)
    async with Spool(tmp_path, largest=len(data)) as spool:
        for at in range(0, len(data), size if size > 1 else 500_000):
            await spool.feed(data[at : at + (size if size > 1 else 500_000)])
        spooled = await spool.finish()
        assert spooled.path.read_bytes() == data
        assert (spooled.size, spooled.sha256) == (len(data), hashlib.sha256(data).digest())
        assert stat.S_IMODE(spooled.path.stat().st_mode) == 0o600
    assert files(tmp_path) == []


async def test_nothing_is_a_file_too(tmp_path: Path) -> None:
    async with Spool(tmp_path, largest=9) as spool:
        await spool.feed(b"")
        assert (await spool.finish()).size == 0


async def test_one_byte_too_many_is_refused_with_the_limit(tmp_path: Path) -> None:
    async with Spool(tmp_path, largest=20 * MEGABYTE) as spool:
        for _ in range(20):
            await spool.feed(bytes(MEGABYTE))
        with pytest.raises(TooLarge, match="larger than 20MB"):
            await spool.feed(b"x")
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("size", "said"),
    [(20 * MEGABYTE, "20MB"), (64 * 1024, "64KB"), (1000, "1000 bytes"), (MEGABYTE + 1, "1048577 bytes")],
)
def test_a_limit_is_said_as_people_do(size: int, said: str) -> None:
    assert readable(size) == said


async def test_the_file_is_gone_after_an_error(tmp_path: Path) -> None:
    async def fail() -> None:
        async with Spool(tmp_path, largest=MEGABYTE) as spool:
            await spool.feed(bytes(100_000))
            assert len(files(tmp_path)) == 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert files(tmp_path) == []


async def test_the_file_is_gone_when_its_task_is_cancelled_while_it_is_written(tmp_path: Path) -> None:
    async def write(begun: asyncio.Event) -> None:
        async with Spool(tmp_path, largest=10**12) as spool:
            while True:
                begun.set()
                await spool.feed(bytes(100_000))

    for _ in range(20):
        begun = asyncio.Event()
        task = asyncio.create_task(write(begun))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert files(tmp_path) == []


async def test_a_disk_that_does_not_take_it_is_a_failure_of_the_store(tmp_path: Path) -> None:
    async with Spool(tmp_path / "absent", largest=MEGABYTE) as spool:
        with pytest.raises(UpstreamFailed) as error:
            await spool.feed(bytes(100_000))
    assert error.value.code == "storage_error"


async def test_small_pieces_are_written_together(tmp_path: Path) -> None:
    async with Spool(tmp_path, largest=MEGABYTE) as spool:
        for _ in range(10):
            await spool.feed(b"x" * 1000)
        assert files(tmp_path) == []
        assert (await spool.finish()).path.read_bytes() == b"x" * 10_000


LEAVE = """
import asyncio, sys
from pathlib import Path
from services.media.spool import Spool

async def leave() -> None:
    spool = Spool(Path(sys.argv[1]), largest=9)
    await spool.feed(b"left")
    await spool.finish()

asyncio.run(leave())
"""


async def test_what_a_killed_process_left_is_swept_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", LEAVE, str(tmp_path)], check=True)
    (tmp_path / "0123.put").touch()
    async with Spool(tmp_path, largest=9) as spool:
        used = (await spool.finish()).path
        assert len(files(tmp_path)) == 3
        assert sweep(tmp_path) == 1
        assert sorted(files(tmp_path)) == sorted([used, tmp_path / "0123.put"])


def test_what_another_machine_left_is_swept_when_it_is_old(tmp_path: Path) -> None:
    path = tmp_path / "ffffffff-1.1-1.in_01k9x4zz01k9x4zz01k9x4zz01"
    path.touch()
    written = path.stat().st_mtime
    assert sweep(tmp_path, clock=lambda: written + 3600) == 0
    assert sweep(tmp_path, clock=lambda: written + 3601) == 1
    assert files(tmp_path) == []


def test_the_directory_is_made_for_us_alone_and_one_that_cannot_be_is_said(tmp_path: Path) -> None:
    prepare(tmp_path / "media/incoming")
    assert stat.S_IMODE((tmp_path / "media/incoming").stat().st_mode) == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot hold images"):
        prepare(tmp_path / "file/incoming")
