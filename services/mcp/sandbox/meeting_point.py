"""The unix socket by which server processes find the sandbox. Paths of sockets are short (108 bytes, unix(7)) and those
of directories need not be, so it is reached through the directory's descriptor.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HEARD = b"."
"""What the host says as soon as it has read a question."""

_NAME = "host.sock"
_WAITING = 128  # connections not yet accepted


def listen(directory: Path) -> socket.socket:
    """The one socket of this directory, in the place of one that was left behind. Raises `OSError`."""
    (directory / _NAME).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    with _reached(directory) as path:
        listener.bind(path)
    listener.listen(_WAITING)
    return listener


async def connect(directory: Path, *, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to whoever listens there; `limit` is as for `asyncio.open_connection`. Raises `OSError` when nobody
    does."""
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    try:
        with _reached(directory) as path:
            await asyncio.get_running_loop().sock_connect(connection, path)
        return await asyncio.open_unix_connection(sock=connection, limit=limit)
    except BaseException:
        connection.close()
        raise


@contextmanager
def _reached(directory: Path) -> Iterator[str]:
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{_NAME}"
    finally:
        os.close(descriptor)
