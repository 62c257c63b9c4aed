"""The sandbox of this machine, as server processes share it: what comes out of it, and who finds which session."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from services.mcp.sandbox.engine import NAMED, PICTURES, Program, Ran
from services.mcp.sandbox.local import LocalSandbox
from services.mcp.tool import ToolFailed
from tests.rest.server import eventually
from tests.sandbox import compiled_python, host  # noqa: F401  # a fixture


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, compiled_python: Path) -> Iterator[Path]:  # noqa: F811
    directory = tmp_path_factory.mktemp("a directory whose path is longer than that of a socket may be " + "x" * 100)
    with host(directory, compiled_python, "wasm"):
        yield directory


@pytest.fixture
def sandbox(place: Path, compiled_python: Path) -> LocalSandbox:  # noqa: F811
    return LocalSandbox(place, cache=compiled_python)


@pytest_asyncio.fixture
async def two(tmp_path: Path, compiled_python: Path) -> AsyncIterator[tuple[LocalSandbox, LocalSandbox]]:  # noqa: F811
    """Two server processes of an installation."""
    both = [LocalSandbox(tmp_path, cache=compiled_python, engines=("wasm",)) for _ in range(2)]
    yield both[0], both[1]
    for each in both:
        await each.aclose()


async def run(sandbox: LocalSandbox, code: str, session: str | None = "", *, seconds: float = 40) -> Ran:
    deadline = asyncio.get_running_loop().time() + seconds
    return await sandbox.run(Program(code, "usr_1", session or ""), deadline=deadline)


async def test_a_program_says_what_it_has_printed(sandbox: LocalSandbox) -> None:
    ran = await run(sandbox, "import sys\nprint('out')\nprint('err', file=sys.stderr)\n6 * 7")
    assert (ran.stdout, ran.stderr, ran.error) == ("out\n42\n", "err\n", None)
    assert 0 < ran.seconds < 30


async def test_a_program_that_raises_has_run(sandbox: LocalSandbox) -> None:
    ran = await run(sandbox, "print('before')\nraise KeyError('what')")
    assert ran.stdout == "before\n"
    assert ran.stderr.startswith("Traceback (most recent call last):")
    assert ran.error == "KeyError: 'what'"
    assert ran.session_id is not None


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import sys; sys.exit('enough')", "SystemExit: 1"),
        ("import sys; sys.exit(0)", None),
        ("x = [", "SyntaxError: '[' was never closed"),
        ("if True:\npass", "IndentationError: expected an indented block after 'if' statement on line 1"),
        ("class Odd(Exception): pass\nraise Odd", "Odd"),
        ("raise ValueError('two\\nlines')", "ValueError: two"),
        ("pass", None),
    ],
)
async def test_the_error_is_type_and_message(sandbox: LocalSandbox, code: str, error: str | None) -> None:
    assert (await run(sandbox, code)).error == error


async def test_variables_functions_and_files_last_as_long_as_the_session(sandbox: LocalSandbox) -> None:
    first = await run(sandbox, "import json\ndef double(n): return 2 * n\nopen('n.json', 'w').write('21')")
    ran = await run(sandbox, "double(json.load(open('n.json')))", first.session_id)
    assert ran.stdout == "42\n"
    assert ran.session_id == first.session_id


async def test_pictures_come_with_their_bytes_and_other_files_with_their_names(sandbox: LocalSandbox) -> None:
    code = "import os; os.mkdir('d')\nfor n in ('d/b.PNG', 'a.gif', 'data.csv'): print(open(n, 'wb').write(b'GIF89a'))"
    ran = await run(sandbox, code)
    assert [(file.name, file.data) for file in ran.files] == [
        ("a.gif", b"GIF89a"),
        ("d/b.PNG", b"GIF89a"),
        ("data.csv", None),
    ]
    assert (await run(sandbox, "1", ran.session_id)).files == []
    changed = await run(sandbox, "open('a.gif', 'wb').write(b'')", ran.session_id)
    assert [(file.name, file.data) for file in changed.files] == [("a.gif", b"")]


async def test_only_so_many_pictures_and_names_come(sandbox: LocalSandbox) -> None:
    ran = await run(sandbox, "for n in range(99):\n  with open(f'{n:02}.png', 'w') as f: f.write('x')")
    assert len(ran.files) == NAMED
    assert sum(file.data is not None for file in ran.files) == PICTURES


async def test_figures_that_are_shown_or_left_open_come_as_pictures(sandbox: LocalSandbox) -> None:
    code = (
        "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\nplt.figure(); plt.plot([2, 1]); print('drawn')"
    )
    ran = await run(sandbox, code)
    assert (ran.stdout, ran.stderr) == ("drawn\n", "")
    assert [file.name for file in ran.files] == ["figure-1.png", "figure-2.png"]
    assert all(file.data and file.data.startswith(b"\x89PNG") for file in ran.files)
    again = await run(sandbox, "plt.plot([3])\nplt.title('again')\nplt.show()", ran.session_id)
    assert [file.name for file in again.files] == ["figure-1.png"]


async def test_data_is_worked_with(sandbox: LocalSandbox) -> None:
    code = "import numpy, pandas\nint(pandas.DataFrame({'n': numpy.arange(4)}).n.sum())"
    assert (await run(sandbox, code)).stdout == "6\n"


async def test_several_server_processes_share_their_sessions(two: tuple[LocalSandbox, LocalSandbox]) -> None:
    first, second = await asyncio.gather(run(two[0], "x = 1"), run(two[1], "y = 2"))
    assert (await run(two[1], "x", first.session_id)).stdout == "1\n"
    assert (await run(two[0], "y", second.session_id)).stdout == "2\n"


async def test_when_the_process_with_the_host_ends_another_starts_one(two: tuple[LocalSandbox, LocalSandbox]) -> None:
    session = (await run(two[0], "x = 1")).session_id
    await two[0].aclose()
    assert (await run(two[1], "6 * 7")).stdout == "42\n"
    with pytest.raises(ToolFailed) as failure:
        await run(two[1], "x", session)
    assert failure.value.code == "session_not_found"


async def test_a_host_that_is_killed_is_told_and_replaced(
    two: tuple[LocalSandbox, LocalSandbox], tmp_path: Path
) -> None:
    session = (await run(two[0], "import os")).session_id
    running = asyncio.create_task(run(two[0], "while True: pass", session))
    host = await asyncio.to_thread(host_of, tmp_path)
    await asyncio.to_thread(eventually, lambda: is_busy(host))
    os.kill(host, signal.SIGKILL)
    with pytest.raises(ToolFailed) as failure:
        await running
    assert failure.value.code == "sandbox_unavailable"
    assert (await run(two[1], "6 * 7")).stdout == "42\n"


def host_of(directory: Path) -> int:
    """The process that is the host of this directory."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if f"services.mcp.sandbox.host\0{directory}\0" in command.read_text(errors="replace"):
                return int(command.parent.name)
    raise AssertionError("there is none")


def is_busy(pid: int) -> bool:
    """Whether a process has computed for two seconds: it runs a program."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) > 2 * os.sysconf("SC_CLK_TCK")


async def test_a_program_that_nobody_waits_for_any_more_is_stopped(sandbox: LocalSandbox) -> None:
    endless = [asyncio.create_task(run(sandbox, "while True: pass")) for _ in range(3)]
    await asyncio.sleep(0)
    for task in endless:
        task.cancel()
    await asyncio.gather(*endless, return_exceptions=True)
    assert (await run(sandbox, "6 * 7", seconds=20)).stdout == "42\n"


async def test_a_call_without_time_is_refused(sandbox: LocalSandbox) -> None:
    with pytest.raises(ToolFailed) as failure:
        await run(sandbox, "1", seconds=1.2)
    assert failure.value.code == "sandbox_busy"


async def test_before_it_is_compiled_it_says_that_it_is_warming_up(tmp_path: Path) -> None:
    sandbox = LocalSandbox(tmp_path, engines=("wasm",))
    try:
        await sandbox.prepare()
        with pytest.raises(ToolFailed) as failure:
            await run(sandbox, "6 * 7")
    finally:
        await sandbox.aclose()
    assert failure.value.code == "sandbox_unavailable"
    assert "warming up" in failure.value.message
    assert "try again in about 1" in failure.value.message


async def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sandbox = LocalSandbox(tmp_path / "file" / "in it", engines=("wasm",))
    with pytest.raises(ToolFailed) as failure:
        await run(sandbox, "6 * 7")
    assert failure.value.code == "sandbox_unavailable"
    await sandbox.aclose()


async def test_preparing_what_cannot_be_prepared_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    sandbox = LocalSandbox(tmp_path / "file" / "in it", engines=("wasm",))
    await sandbox.prepare()
    await sandbox.aclose()
    assert [record.message for record in caplog.records] == ["sandbox_not_prepared"]
