"""What a sandbox is asked and what it says, and the limits that hold in each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

SECONDS = 30.0
"""How long one program may run."""
MEMORY = 512 * 1024 * 1024
"""Bytes that the programs of a session may hold."""
OUTPUT = 256 * 1024
"""Bytes kept of each of standard output and standard error."""
FILE = 16 * 1024 * 1024
"""Bytes of one file."""
DISK = 64 * 1024 * 1024
"""Bytes of all files of a session."""
FILES = 1000
"""Files and directories of a session."""
PICTURES = 8
"""Pictures that one call brings."""
PICTURE_BYTES = 32 * 1024 * 1024
"""Bytes of all of them."""
NAMED = 32
"""Files that one call names."""

FIGURES = tuple(f"figure-{number}.png" for number in range(1, PICTURES + 1))
"""What `guest/jan_figures.py` calls the figures that a program shows or leaves open."""
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Program:
    """Python to run."""

    code: str
    user_id: str
    session_id: str = ""
    """The session that it belongs to; empty: a new one."""


class File(NamedTuple):
    """A file that a program wrote into its working directory. Only pictures come with their bytes."""

    name: str
    data: bytes | None


@dataclass(frozen=True)
class Ran:
    """What came of a program."""

    stdout: str
    stderr: str
    error: str | None
    """Type and message of what ended it; None when it ended well."""
    files: Sequence[File]
    """Those that it wrote, the pictures first."""
    seconds: float = 0.0
    session_id: str | None = None
    """Where the next program finds its variables and files; None when they are gone."""


class Sandbox(Protocol):
    """Runs programs."""

    async def run(self, program: Program, *, deadline: float) -> Ran:
        """Run it, for `SECONDS` at most and never past `deadline` on the event loop's clock. A program that fails has
        run. Raises `ToolFailed`: `sandbox_unavailable`, `sandbox_busy`, `session_not_found`. Cancelled, it stops the
        program."""
        ...


def is_picture(name: str) -> bool:
    """Whether a file of this name is one that users can be shown."""
    return name.lower().endswith(_PICTURES)


def shown(data: bytes, *, cut: bool = False) -> str:
    """A stream of output as text, with a note where it was cut off."""
    text = data[:OUTPUT].decode(errors="replace")
    return f"{text}\n[cut off after {OUTPUT} bytes]" if cut or len(data) > OUTPUT else text


def chosen(files: Sequence[File]) -> list[File]:
    """As many of the files as one call brings; a picture too many is only named."""
    kept: list[File] = []
    bytes_left, pictures_left = PICTURE_BYTES, PICTURES
    for name, data in sorted(files, key=lambda file: (file.data is None, file.name))[:NAMED]:
        if data is not None and (len(data) > bytes_left or pictures_left == 0):
            kept.append(File(name, None))
            continue
        if data is not None:
            bytes_left, pictures_left = bytes_left - len(data), pictures_left - 1
        kept.append(File(name, data))
    return kept
