"""Bubblewrap: what a program may claim about itself, and machines on which it does not work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Timer

import pytest

from services.mcp.sandbox.bubblewrap import Bubblewrap, probe
from services.mcp.sandbox.engine import FILES, File, Ran
from services.mcp.sandbox.interpreter import CannotStart
from tests.sandbox import bubblewrap_works

SAY = """
import json, os, struct, sys
def say(head, data=b''):
    head = json.dumps(head).encode() if not isinstance(head, bytes) else head
    for fd in range(3, 20):
        try:
            os.write(fd, struct.pack('<I', len(head)) + head + data)
        except OSError:
            pass
"""


@pytest.fixture
def interpreter() -> Iterator[Bubblewrap]:
    if not bubblewrap_works():
        pytest.skip("bubblewrap is not to be had here")
    interpreter = Bubblewrap()
    yield interpreter
    interpreter.close()


def run(interpreter: Bubblewrap, code: str, *, seconds: float = 10) -> Ran:
    return interpreter.run(code, seconds=seconds, cancelled=Event())


FORGED = {
    "no JSON": "say(b'not JSON')",
    "no object": "say([1])",
    "no files": "say({'status': 'x', 'files': 7})",
    "odd files": "say({'status': 0, 'files': [['a.png'], ['b.png', -5], [7, 7], ['c.png', 'x'], None]})",
    "a file that is too large": "say({'status': 0, 'files': [['a.png', 1 << 40]]})",
    "nothing": "say(b'')",
}


@pytest.mark.parametrize("answer", FORGED)
def test_an_answer_that_makes_no_sense_is_a_result_without_files(interpreter: Bubblewrap, answer: str) -> None:
    ran = run(interpreter, f"{SAY}\n{FORGED[answer]}\nprint('out')")
    assert ran.files == []


def test_a_program_can_only_forge_files_of_its_own(interpreter: Bubblewrap) -> None:
    ran = run(interpreter, f"{SAY}\nsay({{'status': 0, 'files': [['../../a.png', 3], ['b', None]]}}, b'abc')")
    assert ran.files == [File("../../a.png", b"abc"), File("b", None)]


def test_a_length_that_is_never_reached_ends_with_the_time(interpreter: Bubblewrap) -> None:
    code = (
        f"{SAY}\nfor fd in range(3, 20):\n  try: os.write(fd, b'\\xff' * 4)\n  except OSError: pass\nwhile True: pass"
    )
    ran = run(interpreter, code, seconds=0.5)
    assert (ran.error, ran.files) == ("TimeLimitExceeded: stopped after 0.5 seconds", ())
    assert not interpreter.alive


def test_an_answer_without_end_is_cut_off(interpreter: Bubblewrap) -> None:
    code = (
        f"{SAY}\nwhile True:\n  for fd in range(3, 20):\n    try: os.write(fd, b'x' * 60000)\n    except OSError: pass"
    )
    ran = run(interpreter, code, seconds=1.5)
    assert len(ran.files) == 0


def test_one_that_does_not_listen_any_more_is_stopped_in_time(interpreter: Bubblewrap) -> None:
    run(
        interpreter,
        "import os, threading, time\nfor fd in range(3, 20):\n  try: os.set_blocking(fd, True)\n  except OSError: pass",
    )
    run(interpreter, "threading.Timer(0.05, lambda: [None for _ in iter(int, 1)]).start()")
    ran = run(interpreter, f"x = '{'x' * 1_000_000}'\nwhile True: pass", seconds=0.5)
    assert ran.error == "TimeLimitExceeded: stopped after 0.5 seconds"


def test_a_program_is_stopped_when_nobody_waits_for_it(interpreter: Bubblewrap) -> None:
    cancelled = Event()
    Timer(0.1, cancelled.set).start()
    ran = interpreter.run("while True: pass", seconds=30, cancelled=cancelled)
    assert ran.error == "InterpreterStopped: it ended itself"
    assert not interpreter.alive


def test_there_are_only_so_many_files(interpreter: Bubblewrap) -> None:
    ran = run(
        interpreter, "for n in range(99999):\n  try: open(str(n), 'w').close()\n  except OSError: print(n); break"
    )
    assert int(ran.stdout) < FILES


def test_it_runs_as_nobody_with_no_rights(interpreter: Bubblewrap) -> None:
    ran = run(interpreter, "import os, socket; os.getuid(), os.getgid(), socket.gethostname()")
    assert ran.stdout == "(65534, 65534, 'sandbox')\n"
    header = "header = (0x20080522).to_bytes(4, 'little') + bytes(4)"  # capget(2)
    ran = run(interpreter, f"import ctypes\n{header}\nheld = bytes(24)\nctypes.CDLL(None).capget(header, held)\nheld")
    assert ran.stdout == f"{bytes(24)!r}\n"


def test_a_machine_without_it_says_so() -> None:
    with pytest.raises(CannotStart, match="not installed"):
        probe("no-such-bwrap")


@pytest.mark.parametrize("script", ["exit 1", "echo 'No permissions to create a namespace' >&2; exit 1", "echo 42"])
def test_a_machine_that_does_not_allow_it_says_so(tmp_path: Path, script: str) -> None:
    program = tmp_path / "bwrap"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and "pytest" in str(folder):  # another user has to get there
            folder.chmod(0o755)
    with pytest.raises(CannotStart, match="does not work here"):
        probe(str(program))
