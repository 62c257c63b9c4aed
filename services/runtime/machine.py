"""What a server claims of the machine before it starts: its data directory, its ports, a place for its sockets.

Each claim that fails raises `StartError` with one line that names the setting to change.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from services.runtime.supervisor import Account, StartError


@contextmanager
def locked(data_dir: Path, *, patience: float = 30.0) -> Iterator[int]:
    """Hold DATA_DIR for this process and the children that inherit the descriptor it yields. Processes of a killed
    supervisor that are still stopping are waited for; a living one raises `StartError` with its process id."""
    try:
        # Only root's server runs PostgreSQL as another user, who has to pass through to its own directories.
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartError(f"DATA_DIR={data_dir} cannot be used: {error.strerror}") from error
    try:
        _wait_for_lock(descriptor, data_dir, patience)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, data_dir: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "?"
            if Path("/proc", holder).exists() or time.monotonic() > deadline:
                raise StartError(
                    f"DATA_DIR={data_dir} is in use by another jan-server (process {holder}); "
                    "stop it or set DATA_DIR to another directory"
                ) from None
        time.sleep(0.05)


def check_ports(ports: Mapping[str, tuple[str, int]]) -> None:
    """Raise `StartError` naming the variable whose address and port cannot be bound now."""
    with ExitStack() as bound:
        owners: dict[int, str] = {}
        for variable, (address, port) in ports.items():
            if port in owners:
                raise StartError(f"{variable}={port} is the same port as {owners[port]}; set one of them to another")
            owners[port] = variable
            bound.enter_context(_bind(variable, port, address))


def _bind(variable: str, port: int, address: str) -> socket.socket:
    probe = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((address, port))
        probe.listen(1)
    except OSError as error:
        probe.close()
        raise StartError(_cannot_bind(variable, port, address, error)) from error
    return probe


def _cannot_bind(variable: str, port: int, address: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{variable}={port} is taken by another program; stop it or set {variable} to a free port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"BIND_ADDRESS={address} is not an address of this machine"
    return f"{variable}={port} cannot be used: {error.strerror}"


def socket_directory(data_dir: Path, name: str, *, account: Account | None = None) -> Path:
    """A private directory for unix sockets, owned by `account`: DATA_DIR/`name` when sockets work there and the account
    can get there, else a short one under /run or /tmp that DATA_DIR/`name` points to. Undone by `remove_sockets`."""
    remove_sockets(data_dir, name)
    wanted = data_dir.absolute() / name
    wanted.mkdir(mode=0o700)
    if _make_fit(wanted, account):
        return wanted
    wanted.rmdir()
    short = _short_directory(account)
    wanted.symlink_to(short)
    return short


def _short_directory(account: Account | None) -> Path:
    # Only root may write to /run. XDG_RUNTIME_DIR comes last, for it vanishes when the user logs out.
    for root in ("/run", "/tmp", os.environ.get("XDG_RUNTIME_DIR", "")):  # noqa: S108 - mkdtemp below is private
        if root and os.access(root, os.W_OK):
            short = Path(tempfile.mkdtemp(prefix="jan-", dir=root))
            if _make_fit(short, account):
                return short
            short.rmdir()
    raise StartError("no directory can hold unix sockets: DATA_DIR is too deep or on a file system without them")


def remove_sockets(data_dir: Path, name: str) -> None:
    """Remove what `socket_directory` made, now or in an earlier run that was killed."""
    path = data_dir.absolute() / name
    target = path.resolve()
    if path.is_symlink():
        path.unlink()
    if target == path or target.name.startswith("jan-"):
        with suppress(FileNotFoundError):
            for each in target.iterdir():
                each.unlink()
            target.rmdir()


def _make_fit(directory: Path, account: Account | None) -> bool:
    if not _holds_sockets(directory):
        return False
    if account is None:
        return True
    os.chown(directory, *account)
    return may_enter(directory, account)


def _holds_sockets(directory: Path) -> bool:
    """Whether a socket can be bound here: a path has at most 107 bytes, and some mounts know no sockets."""
    path = directory / ".s.PGSQL.5432.lock"  # as long as the longest name used
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind(str(path))
        except OSError:
            return False
    path.unlink()
    return True


def may_enter(path: Path, account: Account) -> bool:
    """Whether that account can reach `path` through the permission bits of it and of its parents."""
    uid, gid = account
    path = path.resolve()
    for each in (path, *path.parents):
        status = each.stat()
        shift = 6 if status.st_uid == uid else 3 if status.st_gid == gid else 0
        if uid != 0 and not status.st_mode >> shift & 1:
            return False
    return True
