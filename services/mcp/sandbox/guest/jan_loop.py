"""The program inside the bubblewrap sandbox: runs one piece of Python after the other, in one interpreter.

    python jan_loop.py <questions> <answers> <memory> <file size> <files>        (the first two are file descriptors)

    question   length (uint32, little endian, as all numbers), Python
    answer     length (uint32), JSON {"status": n, "files": [[name, size or null], …]}, the bytes of those with a size

What it says is not believed: the programs that it runs can say it as well.
"""

from __future__ import annotations

import ast
import json
import linecache
import os
import stat
import struct
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

sys.path.insert(0, "/opt/jan")
from jan_confine import confine  # type: ignore[import-not-found]  # its neighbour, inside

_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff")
_MOST_NAMED = 1000

Seen = dict[str, tuple[int, int, int]]


def run(code: str, name: str, names: dict[str, Any]) -> int:
    """The exit status of a program; what its last expression is worth is printed, as in a notebook."""
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    try:
        tree = ast.parse(code, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), names)  # noqa: S102  # what this is for
        if last is not None:
            exec(compile(ast.Interactive([last]), name, "single"), names)  # noqa: S102  # the same
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            return left.code or 0
        print(left.code, file=sys.stderr)  # noqa: T201  # as Python does
        return 1
    except BaseException as error:
        traceback.print_exception(error.with_traceback(error.__traceback__ and error.__traceback__.tb_next))
        return 1
    return 0


def changes(before: Seen) -> tuple[dict[str, int], Seen]:
    """Name and size of the files that are new or changed since, and what there is now. Links are none of them."""
    now: Seen = {}
    for folder, _, names in os.walk("."):
        for name in names[:_MOST_NAMED]:
            path = os.path.relpath(os.path.join(folder, name))
            seen = os.lstat(path)
            if stat.S_ISREG(seen.st_mode):
                now[path] = (seen.st_mtime_ns, seen.st_size, seen.st_ino)
    return {path: seen[1] for path, seen in now.items() if before.get(path) != seen}, now


def answer(status: int, files: dict[str, int]) -> bytes:
    """The bytes of an answer."""
    pictures = {name: Path(name).read_bytes() for name in files if name.lower().endswith(_PICTURES)}
    listed = [(name, len(pictures[name]) if name in pictures else None) for name in sorted(files)[:_MOST_NAMED]]
    head = json.dumps({"status": status, "files": listed}).encode()
    return struct.pack("<I", len(head)) + head + b"".join(pictures[name] for name, _ in listed if name in pictures)


def main(questions: BinaryIO, answers: BinaryIO) -> None:
    """Run what is asked until nothing more is."""
    names: dict[str, Any] = {"__name__": "__main__"}
    files: Seen = {}
    number = 0
    while len(length := questions.read(4)) == 4:
        number += 1
        figures = sys.modules.get("jan_figures")
        if figures:
            figures.begin()
        status = run(questions.read(*struct.unpack("<I", length)).decode(), f"<program {number}>", names)
        with suppress(Exception):  # no room for a figure
            if "jan_figures" in sys.modules:
                sys.modules["jan_figures"].show()
        sys.stdout.flush()
        sys.stderr.flush()
        changed, files = changes(files)
        answers.write(answer(status, changed))
        answers.flush()


if __name__ == "__main__":
    numbers = [int(each) for each in sys.argv[1:6]]
    sys.argv = [""]
    confine(*numbers[2:])
    with os.fdopen(numbers[0], "rb") as asked, os.fdopen(numbers[1], "wb") as said:
        main(asked, said)
