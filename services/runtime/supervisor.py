"""The processes of one machine: start them in order, restart what dies, stop them in reverse, leave nothing behind.

Every child asks the kernel for a signal when the supervisor dies (PR_SET_PDEATHSIG), so that even `kill -9` of the
supervisor leaves no orphan. Children live in sessions of their own: a terminal's Ctrl-C reaches the supervisor alone.
They inherit stdout; stderr passes through the supervisor, which keeps the end of it to say why a start failed.
This module imports nothing heavy, because the supervisor stays resident for as long as the server runs.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import time
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

log = logging.getLogger("jan.supervisor")

Probe = Callable[[], Awaitable[bool]]
Account = tuple[int, int]  # user id, group id

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 10.0
_HEALTHY_AFTER = 30.0  # a process that lived this long starts its back-off anew
_TAIL = 2048  # bytes of stderr kept for the message of a failed start
_ONE_KEYPRESS = 0.5  # wrappers such as make may deliver one Ctrl-C twice
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class StartError(Exception):
    """The server cannot start; the message is one line that names the thing and the remedy."""


class AlreadySaid(StartError):
    """A process has found that it cannot start, whatever is tried (`os.EX_CONFIG`), and has said why on stderr."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """What to run, when it counts as started, and how it wishes to be stopped."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)  # added to the supervisor's own
    cwd: str | None = None
    account: Account | None = None  # run as this user and group; needs root
    keep_open: tuple[int, ...] = ()  # file descriptors it inherits
    one_shot: bool = False  # must end with status 0 before the next stage starts
    ready: Probe | None = None  # None: ready as soon as it runs
    drain: Callable[[], Awaitable[None]] | None = None  # awaited before `stop_signal`
    stop_signal: signal.Signals = signal.SIGTERM  # also sent by the kernel when the supervisor dies
    kill_signal: signal.Signals = signal.SIGKILL  # when it did not stop in time


def spawn(process: Process, *, stderr: int | None = None, keep_open: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    """Start one process that gets its `stop_signal` when this one dies. Call it on the main thread: the kernel
    counts the death of the thread that forked. Raises `StartError` when the program cannot be run."""
    uid, gid = process.account or (None, None)
    # Python 3.12 warns about a fork beside threads. A supervisor has none; a test process may.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return subprocess.Popen(
                process.command,
                env={**os.environ, **process.env},
                cwd=process.cwd,
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                user=uid,
                group=gid,
                extra_groups=None if uid is None else (),
                pass_fds=(*process.keep_open, *keep_open),
                start_new_session=True,
                preexec_fn=_tie_to_parent(process.stop_signal),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise StartError(f"{process.name}: cannot run {process.command[0]}: {error}") from error


def _tie_to_parent(death_signal: int) -> Callable[[], None]:
    parent = os.getpid()

    def tie() -> None:
        # Runs after the change of user, which would clear the setting.
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return tie


class Supervisor:
    """Runs stages of processes: a stage starts when every process of the one before is ready (a one-shot: done)."""

    def __init__(
        self,
        stages: Sequence[Sequence[Process]],
        *,
        shutdown_timeout: float,
        start_timeout: float = 60.0,
        attempts: int = 3,
        keep_open: tuple[int, ...] = (),
    ) -> None:
        self._shutdown_timeout = shutdown_timeout
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._stop_asked_at = 0.0
        self._stages = [
            [_Keeper(each, start_timeout=start_timeout, attempts=attempts, keep_open=keep_open) for each in stage]
            for stage in stages
        ]

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Start everything, call `started`, return when a signal or `stop()` ended it and every process is gone.
        Raises `StartError`, with every process stopped, when one of them cannot be brought up."""
        with self._signals():
            work = asyncio.create_task(self._bring_up(started))
            stop = asyncio.create_task(self._stopping.wait())
            try:
                await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stop.cancel()
                work.cancel()
                await asyncio.wait({work, stop})
                await self._stop_all()
        if not work.cancelled():
            work.result()

    def stop(self) -> None:
        """Begin the orderly stop; called again, hurry it."""
        now = time.monotonic()
        if not self._stopping.is_set():
            log.info("stopping")
            self._stop_asked_at = now
            self._stopping.set()
        elif now - self._stop_asked_at > _ONE_KEYPRESS:
            log.warning("stopping_at_once")
            self._hurry.set()

    async def _bring_up(self, started: Callable[[], None]) -> None:
        try:
            async with asyncio.TaskGroup() as keepers:
                for stage in self._stages:
                    for keeper in stage:
                        keepers.create_task(keeper.keep())
                    for keeper in stage:
                        await keeper.up.wait()
                started()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _stop_all(self) -> None:
        deadline = time.monotonic() + self._shutdown_timeout
        least = min(5.0, self._shutdown_timeout)  # a slow stage must not take away the time of those under it
        for stage in reversed(self._stages):
            grace = max(least, deadline - time.monotonic())
            async with asyncio.TaskGroup() as group:
                for keeper in stage:
                    group.create_task(keeper.stop(grace, hurry=self._hurry))

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGINT: self.stop, signal.SIGTERM: self.stop, signal.SIGCHLD: self._reap}
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
            handlers[signal.SIGHUP] = self.stop
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _reap(self) -> None:
        for stage in self._stages:
            for keeper in stage:
                if keeper.child:
                    keeper.child.reap()
        if os.getpid() == 1:  # the first process of a container inherits everybody's orphans
            _reap_strangers({keeper.child.pid for stage in self._stages for keeper in stage if keeper.child})


def _reap_strangers(known: set[int]) -> None:
    with suppress(ChildProcessError):
        while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if found.si_pid in known:
                return
            os.waitpid(found.si_pid, 0)


class _Child:
    """One life of a process: passes its stderr on, keeps the end of it, knows when and how it ended."""

    def __init__(self, popen: subprocess.Popen[bytes], stderr: int) -> None:
        self.pid = popen.pid
        self.exited = asyncio.Event()
        self.status = ""
        self._popen = popen
        self._tail = b""
        self._stderr = stderr
        os.set_blocking(stderr, False)
        asyncio.get_running_loop().add_reader(stderr, self._relay)

    @classmethod
    def start(cls, process: Process, keep_open: tuple[int, ...]) -> _Child:
        reading, writing = os.pipe()
        try:
            return cls(spawn(process, stderr=writing, keep_open=keep_open), reading)
        except StartError:
            os.close(reading)
            raise
        finally:
            os.close(writing)

    def reap(self) -> None:
        """Notice the end, if this was the end."""
        if self.exited.is_set() or not os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # what it left behind; the zombie still guards the number
        code = self._popen.wait()
        self.status = f"exit status {code}" if code >= 0 else signal.Signals(-code).name
        while self._relay():
            pass
        self._close()
        self.exited.set()

    def signal(self, number: signal.Signals) -> None:
        if not self.exited.is_set():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number) if number == signal.SIGKILL else os.kill(self.pid, number)

    def last_words(self) -> str:
        """The last lines of its stderr as one line, for a message; empty if it said nothing."""
        lines = [line.strip() for line in self._tail.decode(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-3:])

    def _relay(self) -> bool:
        """Pass a piece on; False when there is none now."""
        if self._stderr < 0:
            return False
        try:
            piece = os.read(self._stderr, 65536)
        except BlockingIOError:
            return False
        if not piece:
            self._close()
            return False
        self._tail = (self._tail + piece)[-_TAIL:]
        with suppress(OSError):  # our own stderr may be gone
            os.write(2, piece)
        return True

    def _close(self) -> None:
        if self._stderr >= 0:
            asyncio.get_running_loop().remove_reader(self._stderr)
            os.close(self._stderr)
            self._stderr = -1


class _Keeper:
    """Keeps one process alive for as long as `keep` runs."""

    def __init__(self, process: Process, *, start_timeout: float, attempts: int, keep_open: tuple[int, ...]) -> None:
        self.up = asyncio.Event()
        self.child: _Child | None = None
        self._process = process
        self._start_timeout = start_timeout
        self._attempts = attempts
        self._keep_open = keep_open

    async def keep(self) -> None:
        """Run the process again whenever it ends; a one-shot once. Raises `StartError` if it never becomes ready."""
        failures = 0
        while True:
            born = time.monotonic()
            how = await self._live()
            if self._process.one_shot:
                return
            failures = 1 if time.monotonic() - born > _HEALTHY_AFTER else failures + 1
            if not self.up.is_set() and failures >= self._attempts:
                raise self._failed(f"ended {failures} times before it was ready ({how})")
            delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** (failures - 1))
            log.warning("process_ended", extra={"child": self._process.name, "how": how, "restart_in": delay})
            await asyncio.sleep(delay)

    async def stop(self, grace: float, *, hurry: asyncio.Event) -> None:
        """End the process: drain, stop signal, then the kill signal after `grace` seconds or when `hurry` is set."""
        child = self.child
        if child is None or child.exited.is_set():
            return
        deadline = time.monotonic() + grace
        if self._process.drain and not hurry.is_set():
            await _first_of(self._drained(self._process.drain), child.exited.wait(), hurry.wait(), within=grace)
        if not hurry.is_set():
            child.signal(self._process.stop_signal)
            await _first_of(child.exited.wait(), hurry.wait(), within=deadline - time.monotonic())
        for number in (self._process.kill_signal, signal.SIGKILL):
            if not child.exited.is_set():
                log.warning("process_killed", extra={"child": self._process.name, "signal": number.name})
                child.signal(number)
                await _first_of(child.exited.wait(), within=10)

    async def _live(self) -> str:
        """One life, from its start to how it ended."""
        try:
            child = self.child = _Child.start(self._process, self._keep_open)
        except StartError as error:
            if not self.up.is_set():
                raise
            return str(error)
        if not self.up.is_set() and not self._process.one_shot:
            await self._wait_until_ready(child)
        await child.exited.wait()
        if not self.up.is_set() and child.status == f"exit status {os.EX_CONFIG}":
            raise AlreadySaid(child.last_words())
        if self._process.one_shot:
            if child.status != "exit status 0":
                raise self._failed(f"failed ({child.status})")
            self.up.set()
        return child.status

    async def _wait_until_ready(self, child: _Child) -> None:
        deadline = time.monotonic() + self._start_timeout
        pause = 0.01
        while not child.exited.is_set():
            if await self._is_ready():
                self.up.set()
                return
            if time.monotonic() > deadline:
                raise self._failed(f"was not ready after {self._start_timeout:.0f} s")
            await _first_of(child.exited.wait(), within=pause)
            pause = min(0.2, pause * 1.5)

    async def _is_ready(self) -> bool:
        if self._process.ready is None:
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                return await self._process.ready()
        return False

    def _failed(self, what: str) -> StartError:
        last_words = self.child.last_words() if self.child else ""
        return StartError(f"{self._process.name} {what}: {last_words or 'it wrote nothing to stderr'}")

    async def _drained(self, drain: Callable[[], Awaitable[None]]) -> None:
        try:
            await drain()
        except Exception:
            log.exception("drain_failed", extra={"child": self._process.name})


async def _first_of(*waits: Coroutine[Any, Any, object], within: float) -> None:
    """Wait until one of them is done or the time is over, and leave none of them running."""
    tasks = [asyncio.ensure_future(each) for each in waits]
    try:
        await asyncio.wait(tasks, timeout=max(0.0, within), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def accepts(address: Path | tuple[str, int]) -> bool:
    """Whether somebody accepts connections on this unix socket, or host and port. A building block for probes."""
    try:
        if isinstance(address, Path):
            _, writer = await asyncio.open_unix_connection(address)
        else:
            _, writer = await asyncio.open_connection(*address)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True
