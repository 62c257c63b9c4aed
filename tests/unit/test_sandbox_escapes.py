"""What programs try to get out of the sandbox, or to take more than they are given: on every engine there is here."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from services.mcp.sandbox.bubblewrap import Bubblewrap
from services.mcp.sandbox.engine import OUTPUT, Program, Ran
from services.mcp.sandbox.local import LocalSandbox
from services.mcp.tool import ToolFailed
from tests.rest.server import eventually, wait_for_end
from tests.sandbox import ROOT, SECRET, bubblewrap_works, compiled_python, host  # noqa: F401  # a fixture

NASTY_SECONDS = 3.0
LONGEST_LAG = 1.0
"""Of the event loop, on a machine that runs other tests at the same time."""


@pytest.fixture(scope="module", params=["wasm", "bubblewrap"])
def place(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    compiled_python: Path,  # noqa: F811
) -> Iterator[Path]:
    if request.param == "bubblewrap" and not bubblewrap_works():
        pytest.skip("bubblewrap is not to be had here")
    directory = tmp_path_factory.mktemp(request.param)
    with host(directory, compiled_python, request.param):
        yield directory


@pytest.fixture
def sandbox(place: Path, compiled_python: Path) -> LocalSandbox:  # noqa: F811
    return LocalSandbox(place, cache=compiled_python)


async def run(sandbox: LocalSandbox, code: str, session: str = "", *, user: str = "usr_1", seconds: float = 40) -> Ran:
    deadline = asyncio.get_running_loop().time() + seconds
    return await sandbox.run(Program(code, user, session), deadline=deadline)


async def works(sandbox: LocalSandbox, session: str | None = "") -> bool:
    return (await run(sandbox, "6 * 7", session or "")).stdout == "42\n"


FAILING = {
    "a file of the host": "open('/etc/shadow').read()",
    "the server's own files": f"open({str(ROOT / 'pyproject.toml')!r}).read()",
    "a way up": f"open('../../../../../..{ROOT / 'pyproject.toml'}').read()",
    "the memory of another process": "open('/proc/1/mem', 'rb').read(1)",
    "writing to the memory of another process": "open('/proc/1/mem', 'r+b').write(b'x')",
    "another process's files": "import os; os.listdir('/proc/2/root/etc/ssl/private')",
    "a directory of the host": f"import os; os.listdir({str(ROOT)!r})",
    "a link to the host": "import os; os.symlink('/etc/shadow', 'link'); open('link').read()",
    "a hard link to the host": "import os; os.link('/etc/passwd', 'link'); open('link').read()",
    "writing to the system": "open('/usr/written', 'w')",
    "writing to the root": "open('/written', 'w')",
    "writing over our own parts": "open('/opt/jan/jan_figures.py', 'w')",
    "a socket": "import socket; socket.socket()",
    "a socket of the machine": "import socket; socket.socket(socket.AF_UNIX).connect('/run/docker.sock')",
    "a look-up of a name": "import socket; socket.create_connection(('localhost', 80))",
    "a page of the web": "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz')",
    "a process": "import subprocess; subprocess.run(['ls'])",
    "a shell": "import os; 1 / (os.system('ls') == 0)",
    "a spawned process": "import os; os.posix_spawn('/bin/ls', ['ls'], {})",
    "another program in our place": "import os; os.execv('/bin/ls', ['ls'])",
    "a fork": "import os; os.fork()",
    "a fork bomb": "import os\nwhile True: os.fork()",
    "eight gigabytes": "x = bytearray(8 << 30)",
    "eight gigabytes in pieces": "x = []\nwhile True: x.append(bytearray(1 << 20))",
    "a file that is too large": "f = open('large', 'wb')\nfor _ in range(40): f.write(bytes(1 << 20))\nf.close()",
    "a full disk": "for n in range(20):\n  with open(f'{n}', 'wb') as f: f.write(bytes(8 << 20))",
    "empty files without end": "for n in range(5000): open(str(n), 'w').close()",
    "mounting": "import ctypes; 1 // (ctypes.CDLL(None).mount(b'tmpfs', b'/work', b'tmpfs', 0, None) == 0)",
    "recursion": "def f(): return f()\nf()",
    "an exception": "1 / 0",
    "leaving": "import sys; sys.exit(3)",
    "no Python": "this is no Python",
}


@pytest.mark.parametrize("attempt", FAILING)
async def test_what_must_not_work_fails_and_the_next_program_runs(sandbox: LocalSandbox, attempt: str) -> None:
    ran = await run(sandbox, FAILING[attempt])
    assert ran.error
    assert ran.stdout == ""
    assert ran.session_id is not None
    assert await works(sandbox, ran.session_id)


ENDLESS_CALLS = """
import sys
class A:
    def __repr__(self): return repr(self)
sys.setrecursionlimit(10**9)
repr(A())
"""
ENDING = {
    "leaving at once": "import os; os._exit(0)",
    "a signal to itself": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "memory that is not its own": "import ctypes; ctypes.string_at(1)",
    "calls without end": ENDLESS_CALLS,
    "calling what is nothing": "import ctypes; ctypes.CFUNCTYPE(None)(1)()",
    "an interpreter without its insides": "import ctypes, sys; ctypes.memset(id(sys), 0xFF, 4096); sys.path; del sys",
    "an interpreter that is shut": "import os; os.closerange(0, 64); print(1)",
}


@pytest.mark.parametrize("attempt", ENDING)
async def test_a_program_that_breaks_its_interpreter_breaks_nothing_else(sandbox: LocalSandbox, attempt: str) -> None:
    other = (await run(sandbox, "kept = 'kept'", user="usr_other")).session_id
    ran = await run(sandbox, ENDING[attempt], seconds=8)
    assert ran.error is None or ran.error != ""
    assert await works(sandbox)
    assert (await run(sandbox, "kept", other or "", user="usr_other")).stdout == "'kept'\n"


ENDLESS = {
    "a loop": "while True: pass",
    "output": "while True: print('x' * 1000)",
    "errors": "import sys\nwhile True: sys.stderr.write('x' * 1000)",
    "a nap": "import time; time.sleep(3600)",
    "one long computation": "9 ** 9 ** 9",
    "a search that explodes": "import re; re.match(r'(a+)+$', 'a' * 40 + 'b')",
    "refusing to be stopped": "while True:\n  try:\n    while True: pass\n  except BaseException: pass",
    "files": "while True: open('f', 'w').write('x' * 100000)",
}


@pytest.mark.parametrize("attempt", ENDLESS)
async def test_what_would_never_end_is_ended_with_what_it_has_said(sandbox: LocalSandbox, attempt: str) -> None:
    ran = await run(sandbox, ENDLESS[attempt], seconds=2.5)
    assert ran.error
    assert ran.error.startswith(("TimeLimitExceeded: stopped after 1.", "InterpreterStopped: out of file calls"))
    assert ran.session_id is None
    assert ran.seconds < 5
    assert len(ran.stdout) < OUTPUT + 100
    assert len(ran.stderr) < OUTPUT + 100
    if attempt == "output":
        assert ran.stdout.endswith(f"\n[cut off after {OUTPUT} bytes]")
    assert await works(sandbox)


async def test_nothing_of_the_server_is_in_the_environment_or_the_processes(sandbox: LocalSandbox) -> None:
    code = """
import glob, os
print(dict(os.environ))
for path in glob.glob('/proc/*/environ') + glob.glob('/proc/*/cmdline') + ['/proc/self/environ']:
    try:
        print(open(path, errors='replace').read())
    except OSError:
        pass
"""
    ran = await run(sandbox, code)
    assert ran.error is None
    assert SECRET not in ran.stdout
    assert "jan-server" not in ran.stdout
    assert "pytest" not in ran.stdout


async def test_a_listening_port_of_the_machine_is_not_reached(sandbox: LocalSandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        ran = await run(sandbox, f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)")
        assert ran.error
        with pytest.raises(BlockingIOError):
            listener.accept()


async def test_c_functions_do_not_reach_the_machine(sandbox: LocalSandbox, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    await run(sandbox, f"import ctypes; ctypes.CDLL(None).system(b'touch {mark}')")
    await run(sandbox, f"import ctypes; ctypes.CDLL(None).open(b'{mark}', 0o101, 0o600)")
    assert not mark.exists()
    assert await works(sandbox)


async def test_signals_reach_no_process_of_the_machine(sandbox: LocalSandbox) -> None:
    await run(sandbox, "import os\nfor n in (1, os.getppid(), -1):\n  os.kill(n, 9)", seconds=8)
    assert await works(sandbox)


async def test_threads_end_with_their_session(sandbox: LocalSandbox) -> None:
    code = "import threading, time\nfor _ in range(500): threading.Thread(target=time.sleep, args=(60,)).start()"
    ran = await run(sandbox, code, seconds=10)
    assert ran.error
    assert await works(sandbox)


async def test_a_session_sees_nothing_of_another(sandbox: LocalSandbox) -> None:
    first = await run(sandbox, "x = 1; open('mine', 'w').write('mine'); open('/tmp/mine', 'w').write('mine')")
    ran = await run(sandbox, "import os; (os.path.exists('mine'), os.path.exists('/tmp/mine'), 'x' in globals())")
    assert ran.stdout == "(False, False, False)\n"
    with pytest.raises(ToolFailed) as failure:
        await run(sandbox, "x", first.session_id or "", user="usr_2")
    assert failure.value.code == "session_not_found"
    assert (await run(sandbox, "open('mine').read()", first.session_id or "")).stdout == "'mine'\n"


async def test_a_link_is_no_picture(sandbox: LocalSandbox) -> None:
    ran = await run(sandbox, "import os; os.symlink('/proc/self/environ', 'a.png')")
    assert [file for file in ran.files if file.data] == []


async def test_the_server_answers_while_programs_do_their_worst(sandbox: LocalSandbox) -> None:
    loop, lags = asyncio.get_running_loop(), []
    worst = [ENDLESS["output"], FAILING["eight gigabytes in pieces"], FAILING["a fork bomb"], ENDLESS["a loop"]]

    async def beat() -> None:
        while True:
            due = loop.time() + 0.01
            await asyncio.sleep(0.01)
            lags.append(loop.time() - due)

    async with asyncio.TaskGroup() as group:
        beating = group.create_task(beat())
        programs = [run(sandbox, code, user=f"usr_{n}", seconds=NASTY_SECONDS) for n, code in enumerate(worst)]
        await asyncio.gather(*programs, return_exceptions=True)
        beating.cancel()
    assert max(lags) < LONGEST_LAG
    assert await works(sandbox)


@pytest.mark.skipif(not bubblewrap_works(), reason="bubblewrap is not to be had here")
def test_every_process_of_a_sandbox_ends_with_it() -> None:
    interpreter = Bubblewrap()
    inside = [int(pid) for pid in children(interpreter._process.pid)]
    assert inside
    code = "import ctypes\nctypes.CDLL(None).prctl(1, 0)\nwhile True: pass"
    ran = interpreter.run(code, seconds=1, cancelled=Event())
    assert ran.error == "TimeLimitExceeded: stopped after 1 seconds"
    wait_for_end(inside)


def children(pid: int) -> list[str]:
    """The process under a process, and those under it."""
    own = eventually(lambda: Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [*own, *eventually(lambda: Path(f"/proc/{own[0]}/task/{own[0]}/children").read_text().split())]
