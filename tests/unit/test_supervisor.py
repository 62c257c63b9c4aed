"""The supervisor with real processes. They write what they do into one pipe, the diary, and the tests read it: the
diary's end of file is the proof that no process holding it is left."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.runtime.machine import check_ports, locked, may_enter, remove_sockets, socket_directory
from services.runtime.supervisor import AlreadySaid, Process, StartError, Supervisor, accepts

CHILD = """
import os, signal, sys
name, diary = sys.argv[1], int(sys.argv[2])
def say(what): os.write(diary, f"{name} {what}\\n".encode())
def stopped(*_): say("stopped"); os._exit(0)
signal.signal(signal.SIGTERM, stopped)
signal.signal(signal.SIGINT, lambda *_: say("got Ctrl-C"))
"""
IDLE = CHILD + "say(f'started {os.getpid()}')\nwhile True: signal.pause()"
STUBBORN = (
    CHILD
    + """
import time
signal.signal(signal.SIGTERM, lambda *_: None)
while True: say("lives"); time.sleep(0.1)
"""
)
PARENT = (
    CHILD + "import subprocess; subprocess.Popen(['sleep', '600'], pass_fds=[diary]); say('started'); signal.pause()"
)


class Diary:
    """The reading end of the pipe the processes share."""

    def __init__(self) -> None:
        reading, self.writing = os.pipe()
        self._file = os.fdopen(reading, "rb")
        self._lines = asyncio.StreamReader()

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(self._lines), self._file)

    async def line(self) -> str:
        async with asyncio.timeout(20):
            return (await self._lines.readline()).decode().strip()

    async def rest(self) -> list[str]:
        """Everything until the last process that could write is gone."""
        self.close_writing()
        async with asyncio.timeout(20):
            return (await self._lines.read()).decode().splitlines()

    def close_writing(self) -> None:
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    def close(self) -> None:
        self.close_writing()
        self._transport.close()


@pytest.fixture
async def diary() -> AsyncIterator[Diary]:
    diary = Diary()
    await diary.open()
    yield diary
    diary.close()


def child(name: str, diary: Diary, code: str = IDLE, **how: Any) -> Process:
    command = (sys.executable, "-ISc", code, name, str(diary.writing))
    return Process(name=name, command=command, keep_open=(diary.writing,), **how)


@asynccontextmanager
async def supervised(*stages: list[Process], shutdown_timeout: float = 20, **how: Any) -> AsyncIterator[Supervisor]:
    """A supervisor that has started everything, stopped at the end of the block."""
    supervisor = Supervisor(stages, shutdown_timeout=shutdown_timeout, **how)
    started = asyncio.Event()
    running = asyncio.create_task(supervisor.run(started.set))
    waiting = asyncio.create_task(started.wait())
    async with asyncio.timeout(20):
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        try:
            if not running.done():
                yield supervisor
        finally:
            supervisor.stop()
            await running


async def start(*stages: list[Process], **how: Any) -> None:
    async with supervised(*stages, **how):
        pass


async def test_a_stage_starts_after_the_one_before_is_ready_and_stops_before_it(diary: Diary) -> None:
    written: list[str] = []

    async def base_has_started() -> bool:
        written.append(await diary.line())
        return True

    async with supervised([child("base", diary, ready=base_has_started)], [child("top", diary)]):
        written.append(await diary.line())
    written += await diary.rest()
    assert [" ".join(line.split()[:2]) for line in written] == [
        "base started",
        "top started",
        "top stopped",
        "base stopped",
    ]


async def test_a_process_that_dies_is_started_again(diary: Diary) -> None:
    async with supervised([child("worker", diary)]):
        for _ in range(3):
            _, _, pid = (await diary.line()).split()
            os.kill(int(pid), signal.SIGKILL)
        assert (await diary.line()).startswith("worker started")


async def test_a_one_shot_is_done_before_the_next_stage_starts(diary: Diary) -> None:
    async with supervised([child("migrate", diary, CHILD + "say('done')", one_shot=True)], [child("worker", diary)]):
        assert await diary.line() == "migrate done"
        assert (await diary.line()).startswith("worker started")


async def test_a_one_shot_that_fails_fails_the_start_and_stops_the_rest(diary: Diary) -> None:
    failing = child("migrate", diary, "import sys; sys.exit('0001_accounts.sql: syntax error')", one_shot=True)
    with pytest.raises(StartError, match=r"^migrate failed \(exit status 1\): 0001_accounts.sql: syntax error$"):
        await start([child("base", diary)], [failing], [child("never", diary)])
    assert not any("never" in line for line in await diary.rest())


async def test_a_process_that_keeps_failing_fails_the_start_with_its_last_words(
    diary: Diary, capfd: pytest.CaptureFixture[str]
) -> None:
    async def never() -> bool:
        return False

    failing = child("worker", diary, CHILD + "say('tried'); sys.exit('no such model')", ready=never)
    with pytest.raises(
        StartError, match=r"^worker ended 3 times before it was ready \(exit status 1\): no such model$"
    ):
        await start([failing])
    assert await diary.rest() == ["worker tried"] * 3
    assert capfd.readouterr().err.count("no such model") == 3


@pytest.mark.parametrize("one_shot", [False, True])
async def test_a_process_that_says_it_cannot_start_is_not_tried_again(
    diary: Diary, capfd: pytest.CaptureFixture[str], one_shot: bool
) -> None:
    words = f"import sys; say('tried'); print('KEY=x is no key', file=sys.stderr); sys.exit({os.EX_CONFIG})"
    with pytest.raises(AlreadySaid, match=r"^KEY=x is no key$"):
        await start([child("worker", diary, CHILD + words, one_shot=one_shot, ready=lambda: asyncio.sleep(0, False))])
    assert await diary.rest() == ["worker tried"]
    assert capfd.readouterr().err == "KEY=x is no key\n"


async def test_a_process_that_is_not_ready_in_time_fails_the_start(diary: Diary) -> None:
    async def never() -> bool:
        return False

    with pytest.raises(StartError, match="worker was not ready after 0 s"):
        await start([child("worker", diary, ready=never)], start_timeout=0.1)
    assert (await diary.rest())[-1:] in ([], ["worker stopped"])


async def test_a_program_that_is_not_there_fails_the_start() -> None:
    with pytest.raises(StartError, match=r"^envoy: cannot run /no/such/envoy: .*No such file"):
        await start([Process(name="envoy", command=["/no/such/envoy"])])


async def test_draining_comes_before_the_stop_signal(diary: Diary) -> None:
    async def drain() -> None:
        os.write(diary.writing, b"drained\n")

    async with supervised([child("envoy", diary, drain=drain)]):
        await diary.line()
    assert await diary.rest() == ["drained", "envoy stopped"]


async def test_a_process_that_ignores_the_stop_signal_is_killed_in_the_end(diary: Diary) -> None:
    async with supervised([child("worker", diary, STUBBORN)], shutdown_timeout=0.2):
        await diary.line()
    assert set(await diary.rest()) <= {"worker lives"}


async def test_what_a_dead_process_leaves_behind_is_killed(diary: Diary) -> None:
    async with supervised([child("worker", diary, PARENT)]):
        await diary.line()
    assert await diary.rest() == ["worker stopped"]


SUPERVISOR = """
import asyncio, sys
from tests.unit.test_supervisor import IDLE, STUBBORN
from services.runtime.supervisor import Process, Supervisor
diary, code = int(sys.argv[1]), {"idle": IDLE, "stubborn": STUBBORN}[sys.argv[2]]
children = [
    Process(name=name, command=(sys.executable, "-ISc", code, name, str(diary)), keep_open=(diary,))
    for name in ("a", "b")
]
asyncio.run(Supervisor([children], shutdown_timeout=60).run())
"""


@pytest.fixture
def supervisor_process(diary: Diary) -> Callable[[str], subprocess.Popen[bytes]]:
    def start(kind: str) -> subprocess.Popen[bytes]:
        command = (sys.executable, "-c", SUPERVISOR, str(diary.writing), kind)
        started = subprocess.Popen(
            command, pass_fds=(diary.writing,), start_new_session=True, cwd=Path(__file__).parents[2]
        )
        diary.close_writing()
        return started

    return start


async def test_kill_9_of_the_supervisor_leaves_no_orphan(
    diary: Diary, supervisor_process: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    supervisor = supervisor_process("idle")
    for _ in range(2):
        assert "started" in await diary.line()
    supervisor.kill()
    assert sorted(await diary.rest()) == ["a stopped", "b stopped"]
    supervisor.wait(20)


async def test_ctrl_c_in_the_terminal_stops_the_processes_in_order_through_the_supervisor_alone(
    diary: Diary, supervisor_process: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    supervisor = supervisor_process("idle")
    for _ in range(2):
        assert "started" in await diary.line()
    os.killpg(supervisor.pid, signal.SIGINT)
    assert sorted(await diary.rest()) == ["a stopped", "b stopped"]
    assert supervisor.wait(20) == 0


async def test_a_second_ctrl_c_does_not_wait_for_stubborn_processes(
    diary: Diary, supervisor_process: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    supervisor = supervisor_process("stubborn")
    while line := await diary.line():
        assert line.endswith("lives")
        os.killpg(supervisor.pid, signal.SIGINT)
    assert supervisor.wait(20) == 0


def test_a_data_directory_in_use_is_refused_by_the_process_that_holds_it(tmp_path: Path) -> None:
    refusal = pytest.raises(StartError, match=rf"DATA_DIR={tmp_path} is in use .*\(process {os.getpid()}\)")
    with locked(tmp_path), refusal, locked(tmp_path):
        pass


def test_a_data_directory_is_free_again_after_its_holder(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path):
            pass


async def test_processes_a_killed_supervisor_left_are_waited_for(tmp_path: Path) -> None:
    with locked(tmp_path) as descriptor:
        holder = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, pass_fds=(descriptor,))
    (tmp_path / "lock").write_text("999999999")  # nobody: numbers of processes end far below

    def lock() -> bool:
        with locked(tmp_path):
            return True

    waiting = asyncio.create_task(asyncio.to_thread(lock))
    done, _ = await asyncio.wait({waiting}, timeout=0.2)
    assert not done
    assert holder.stdin
    holder.stdin.close()
    await holder.wait()
    async with asyncio.timeout(20):
        assert await waiting


def test_a_data_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refusal = pytest.raises(StartError, match=f"DATA_DIR={tmp_path}/file/data cannot be used: Not a directory")
    with refusal, locked(tmp_path / "file/data"):
        pass


def test_a_taken_port_is_named_with_its_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"^GATEWAY_PORT={port} is taken .* set GATEWAY_PORT to a free port$"):
            check_ports({"GATEWAY_PORT": ("127.0.0.1", port)})


def test_free_ports_are_free_after_the_check_as_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    for _ in range(2):
        check_ports({"GATEWAY_PORT": ("127.0.0.1", port)})


def test_one_port_for_two_listeners_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    with pytest.raises(StartError, match=f"LLM_API_PORT={port} is the same port as GATEWAY_PORT"):
        check_ports({"GATEWAY_PORT": ("127.0.0.1", port), "LLM_API_PORT": ("127.0.0.1", port)})


def test_a_port_is_tried_on_its_own_address_alone() -> None:
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        check_ports({"METRICS_PORT": ("127.0.0.1", port)})
        with pytest.raises(StartError, match=f"GATEWAY_PORT={port} is taken"):
            check_ports({"GATEWAY_PORT": ("127.0.0.2", port)})


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_an_address_of_another_machine_is_refused(address: str) -> None:
    with pytest.raises(StartError, match=f"^BIND_ADDRESS={re.escape(address)} is not an address of this machine$"):
        check_ports({"GATEWAY_PORT": (address, 8000)})


async def test_sockets_of_a_deep_data_directory_live_in_a_short_one_until_removed(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    directory = socket_directory(deep, "sockets")
    try:
        assert directory == (deep / "sockets").resolve() != deep / "sockets"
        assert directory.stat().st_mode & 0o777 == 0o700
        server = await asyncio.start_unix_server(lambda _, writer: writer.close(), directory / "worker-0.sock")
        assert await accepts(directory / "worker-0.sock")
        server.close()
    finally:
        remove_sockets(deep, "sockets")
    assert not directory.exists()
    assert not await accepts(directory / "worker-0.sock")


def test_sockets_live_in_the_data_directory_when_they_can() -> None:
    short = Path(os.environ.get("TMPDIR", "/tmp"), f"jan-test-{os.getpid()}")
    short.mkdir(mode=0o700)
    try:
        assert socket_directory(short, "sockets") == short / "sockets"
        assert socket_directory(short, "sockets") == short / "sockets"  # a killed server left it
    finally:
        remove_sockets(short, "sockets")
        short.rmdir()


def test_an_account_enters_a_directory_only_through_open_parents(tmp_path: Path) -> None:
    somebody = (4242, 4242)
    assert may_enter(Path("/"), somebody)
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home/open").mkdir(mode=0o755)
    assert not may_enter(tmp_path / "home/open", somebody)
    assert may_enter(tmp_path / "home/open", (0, 0))
