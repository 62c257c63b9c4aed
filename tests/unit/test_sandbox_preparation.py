"""Compiling the sandbox: once, in the background, and what is said meanwhile and when it fails."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from services.mcp.sandbox.preparation import Preparation, compiled
from services.mcp.tool import ToolFailed


def program(code: str) -> list[str]:
    return [sys.executable, "-c", f"import pathlib, sys, time; cache = pathlib.Path(sys.argv[1]); {code}"]


def why_not(preparation: Preparation) -> str:
    with pytest.raises(ToolFailed) as failure:
        preparation.require()
    assert failure.value.code == "sandbox_unavailable"
    return failure.value.message


async def ended(preparation: Preparation) -> None:
    assert preparation._running is not None
    await asyncio.wait({preparation._running})


async def test_it_compiles_once_and_says_so_meanwhile(tmp_path: Path) -> None:
    told = tmp_path / "told"
    compiling = program(f"open({str(told)!r}, 'a').write('.'); pathlib.Path({str(compiled(tmp_path))!r}).touch()")
    preparation = Preparation(tmp_path, command=compiling)
    assert "warming up" in why_not(preparation)
    assert "in about 100 seconds" in why_not(preparation)
    await ended(preparation)
    preparation.require()
    preparation.begin()
    assert told.read_text() == "."


async def test_what_is_compiled_is_not_compiled_again(tmp_path: Path) -> None:
    compiled(tmp_path).touch()
    preparation = Preparation(tmp_path, command=["/no/such/program"])
    preparation.require()
    await preparation.aclose()


async def test_a_failure_is_told_and_not_repeated_at_once(tmp_path: Path) -> None:
    preparation = Preparation(tmp_path, command=program("sys.exit('no room on the disk')"))
    preparation.begin()
    await ended(preparation)
    assert why_not(preparation) == "The sandbox could not be prepared: no room on the disk"
    assert why_not(preparation) == "The sandbox could not be prepared: no room on the disk"


async def test_being_killed_for_its_memory_is_told_as_that(tmp_path: Path) -> None:
    preparation = Preparation(tmp_path, command=program("import os; os.kill(os.getpid(), 9)"))
    preparation.begin()
    await ended(preparation)
    assert "status -9; it needs two gigabytes of memory" in why_not(preparation)


async def test_it_stops_when_the_server_does(tmp_path: Path) -> None:
    preparation = Preparation(tmp_path, command=program("(cache / 'begun').touch(); time.sleep(600)"))
    preparation.begin()
    await asyncio.sleep(0)
    await preparation.aclose()
    assert preparation._running is not None
    assert preparation._running.cancelled()
