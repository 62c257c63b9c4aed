"""How programs of many users share one machine: sessions, places, who has to wait and who is refused."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable
from threading import Event, Semaphore

import pytest
import pytest_asyncio

from services.mcp.sandbox import runner as running
from services.mcp.sandbox.engine import Program, Ran
from services.mcp.sandbox.runner import Runner
from services.mcp.sandbox.sessions import IDLE, MOST, MOST_OF_USER, Sessions
from services.mcp.tool import ToolFailed


class Interpreter:
    """Says how many programs it has run. `wait` runs until it is stopped or `go` is set; `die` ends it."""

    def __init__(self, begun: Semaphore) -> None:
        self.alive, self.closed, self.count = True, False, 0
        self.go, self.begun = Event(), begun

    def run(self, code: str, *, seconds: float, cancelled: Event) -> Ran:
        self.count += 1
        if code == "wait":
            self.begun.release()
        while code == "wait" and not self.go.wait(0.005) and not cancelled.is_set():
            pass
        self.alive = code != "die" and not cancelled.is_set()
        return Ran(str(self.count), "", None, ())

    def close(self) -> None:
        self.alive, self.closed = False, True


class Machine:
    """A runner of such interpreters, all of which it remembers."""

    def __init__(self, *, most_resident: int = sys.maxsize) -> None:
        self.interpreters: list[Interpreter] = []
        self.begun = Semaphore(0)
        self.runner = Runner(self._open, most_resident=most_resident)

    def _open(self) -> Interpreter:
        self.interpreters.append(Interpreter(self.begun))
        return self.interpreters[-1]

    async def run(self, code: str, session: str = "", *, user: str = "usr_1", seconds: float = 20.0) -> Ran:
        return await self.runner.run(Program(code, user, session), seconds=seconds)

    async def occupied(self, user: str, session: str = "") -> asyncio.Task[Ran]:
        """A program that runs until it is let go."""
        task = asyncio.create_task(self.run("wait", session, user=user))
        await asyncio.to_thread(self.begun.acquire)
        return task

    def let_go(self) -> None:
        for interpreter in self.interpreters:
            interpreter.go.set()


@pytest_asyncio.fixture
async def machine() -> AsyncIterator[Machine]:
    machine = Machine()
    yield machine
    machine.let_go()
    await machine.runner.aclose()


async def refused(attempt: Awaitable[object]) -> str:
    with pytest.raises(ToolFailed) as failure:
        await attempt
    return failure.value.code


async def test_a_session_goes_on_where_it_was(machine: Machine) -> None:
    first = await machine.run("x")
    again = await machine.run("x", first.session_id or "")
    assert (first.stdout, again.stdout) == ("1", "2")
    assert again.session_id == first.session_id
    assert (first.session_id or "").startswith("pyses_")
    assert len(machine.interpreters) == 1


async def test_without_an_id_every_program_has_a_session_of_its_own(machine: Machine) -> None:
    assert (await machine.run("x")).session_id != (await machine.run("x")).session_id


async def test_a_name_of_ones_own_begins_a_session(machine: Machine) -> None:
    assert [(await machine.run("x", "mine")).stdout for _ in range(2)] == ["1", "2"]
    assert (await machine.run("x", "mine", user="usr_2")).stdout == "1"


async def test_the_session_of_another_user_does_not_exist(machine: Machine) -> None:
    session = (await machine.run("x")).session_id or ""
    assert await refused(machine.run("x", session, user="usr_2")) == "session_not_found"
    assert await refused(machine.run("x", "pyses_01k9x4")) == "session_not_found"


async def test_a_program_that_ends_its_interpreter_ends_the_session(machine: Machine) -> None:
    session = (await machine.run("x")).session_id or ""
    assert (await machine.run("die", session)).session_id is None
    assert await refused(machine.run("x", session)) == "session_not_found"
    assert machine.interpreters[0].closed


async def test_programs_of_one_session_run_one_after_the_other(machine: Machine) -> None:
    first = await machine.occupied("usr_1", "mine")
    second = asyncio.create_task(machine.run("x", "mine"))
    await asyncio.sleep(0)
    assert machine.interpreters[0].count == 1
    machine.let_go()
    assert [(await first).stdout, (await second).stdout] == ["1", "2"]


async def test_the_oldest_unused_session_of_a_user_makes_room_for_a_new_one(machine: Machine) -> None:
    sessions = [(await machine.run("x")).session_id or "" for _ in range(MOST_OF_USER)]
    await machine.run("x", sessions[0])
    await machine.run("x")
    assert await refused(machine.run("x", sessions[1])) == "session_not_found"
    assert (await machine.run("x", sessions[0])).stdout == "3"


async def test_sessions_of_others_make_room_when_there_are_too_many_in_all(machine: Machine) -> None:
    first = (await machine.run("x", user="usr_first")).session_id or ""
    for number in range(MOST):
        await machine.run("x", user=f"usr_{number}")
    assert await refused(machine.run("x", first, user="usr_first")) == "session_not_found"
    assert sum(interpreter.alive for interpreter in machine.interpreters) == MOST


async def test_a_user_has_few_programs_at_once(machine: Machine) -> None:
    busy = [await machine.occupied("usr_1") for _ in range(min(running.AT_ONCE, running.OF_USER))]
    waiting = [asyncio.create_task(machine.run("x")) for _ in range(running.OF_USER - len(busy))]
    await asyncio.sleep(0)
    assert await refused(machine.run("x")) == "sandbox_busy"
    machine.let_go()
    await asyncio.gather(*busy, *waiting)
    assert (await machine.run("x")).stdout == "1"


async def test_few_programs_run_at_once_some_wait_and_more_are_refused(machine: Machine) -> None:
    busy = [await machine.occupied(f"usr_{number}") for number in range(running.AT_ONCE)]
    waiting = [asyncio.create_task(machine.run("x", user=f"usr_w{number}")) for number in range(running.WAITING)]
    await asyncio.sleep(0)
    assert await refused(machine.run("x", user="usr_too_many")) == "sandbox_busy"
    assert not any(task.done() for task in waiting)
    machine.let_go()
    assert {ran.stdout for ran in await asyncio.gather(*busy, *waiting)} == {"1"}


async def test_what_has_waited_for_too_long_is_not_begun(machine: Machine) -> None:
    session = await machine.occupied("usr_1", "mine")
    late = asyncio.create_task(machine.run("x", "mine", seconds=0.1))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.2, machine.let_go)
    assert await refused(late) == "sandbox_busy"
    assert (await session).stdout == "1"


async def test_who_stops_waiting_leaves_the_queue(machine: Machine) -> None:
    first = await machine.occupied("usr_1", "mine")
    waiting = asyncio.create_task(machine.run("x", "mine"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    machine.let_go()
    assert (await first).stdout == "1"
    assert (await machine.run("x", "mine")).stdout == "2"


async def test_a_program_that_nobody_waits_for_is_stopped(machine: Machine) -> None:
    task = await machine.occupied("usr_1")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not machine.interpreters[0].alive
    assert machine.interpreters[0].closed
    assert (await machine.run("x")).stdout == "1"


async def test_the_end_of_a_session_is_told_to_who_waits_for_it(machine: Machine) -> None:
    first = await machine.occupied("usr_1", "mine")
    waiting = asyncio.create_task(machine.run("x", "mine"))
    await asyncio.sleep(0)
    first.cancel()
    assert await refused(waiting) == "session_not_found"


async def test_nothing_runs_before_the_sandbox_is_ready() -> None:
    def not_ready() -> None:
        raise ToolFailed("sandbox_unavailable", "warming up")

    runner = Runner(lambda: Interpreter(Semaphore()), not_ready)
    assert await refused(runner.run(Program("x", "usr_1"), seconds=1)) == "sandbox_unavailable"
    await runner.aclose()


async def test_unused_sessions_end_when_memory_is_short() -> None:
    machine = Machine(most_resident=1)
    assert (await machine.run("x")).stdout == "1"
    assert machine.interpreters[0].closed
    await machine.runner.aclose()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def kept(clock: Clock, closed: list[object]) -> Sessions:
    async def opened() -> Interpreter:
        return Interpreter(Semaphore())

    async def close(interpreter: object) -> None:
        closed.append(interpreter)

    return Sessions(opened, close, clock=clock)


async def test_a_session_ends_when_nobody_uses_it() -> None:
    clock, closed = Clock(), list[object]()
    sessions = kept(clock, closed)
    used, unused = await sessions.claim("usr_1", ""), await sessions.claim("usr_1", "")
    await sessions.release(unused)
    clock.now = IDLE - 1
    await sessions.expire()
    assert closed == []
    clock.now = IDLE
    await sessions.expire()
    assert closed == [unused.interpreter]
    assert len(sessions) == 1
    await sessions.release(used)


async def test_using_a_session_keeps_it() -> None:
    clock, closed = Clock(), list[object]()
    sessions = kept(clock, closed)
    session = await sessions.claim("usr_1", "")
    await sessions.release(session)
    for _ in range(3):
        clock.now += IDLE - 1
        await sessions.release(await sessions.claim("usr_1", session.id))
    assert closed == []


async def test_sessions_in_use_are_not_ended_for_others() -> None:
    sessions = kept(Clock(), [])
    for _ in range(MOST_OF_USER):
        await sessions.claim("usr_1", "")
    assert await refused(sessions.claim("usr_1", "")) == "sandbox_busy"
    assert not await sessions.end_oldest()
