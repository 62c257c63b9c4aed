"""A SandboxFusion as a sandbox: what it is asked, what its answers mean, and what is said when it has none."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from services.mcp.sandbox.engine import OUTPUT, File, Program, Ran
from services.mcp.sandbox.fusion import Fusion
from services.mcp.tool import ToolFailed
from services.runtime.addresses import Guard
from services.runtime.outgoing import Fetcher
from tests.fake_sandbox_fusion import FakeSandboxFusion, fake_sandbox_fusion, response


@pytest_asyncio.fixture
async def fusion() -> AsyncIterator[FakeSandboxFusion]:
    async with fake_sandbox_fusion() as fusion:
        yield fusion


async def run(url: str, code: str = "1", session: str = "", *, seconds: float = 40) -> Ran:
    fetcher = Fetcher(Guard(["127.0.0.1"]), user_agent="jan-server/test")
    try:
        deadline = asyncio.get_running_loop().time() + seconds
        return await Fusion(fetcher, base_url=url).run(Program(code, "usr_1", session), deadline=deadline)
    finally:
        fetcher.close()


async def refused(url: str, **options: Any) -> ToolFailed:
    with pytest.raises(ToolFailed) as failure:
        await run(url, **options)
    return failure.value


async def test_a_program_is_sent_with_its_time(fusion: FakeSandboxFusion) -> None:
    await run(fusion.url + "/", "print(1)")
    assert fusion.path == "POST /run_code"
    assert fusion.asked["code"] == "print(1)"
    assert fusion.asked["language"] == "python"
    assert fusion.asked["run_timeout"] == 30
    await run(fusion.url, seconds=12)
    assert 9 < fusion.asked["run_timeout"] <= 10


async def test_what_it_has_printed_is_the_result_and_nothing_is_kept(fusion: FakeSandboxFusion) -> None:
    fusion.answer = response(stdout="out\n", stderr="err\n")
    assert await run(fusion.url) == Ran("out\n", "err\n", None, [], seconds=0.25, session_id=None)


async def test_a_program_that_raises_has_run(fusion: FakeSandboxFusion) -> None:
    stderr = 'Traceback (most recent call last):\n  File "x.py", line 1\nZeroDivisionError: division by zero\n'
    fusion.answer = response(status="Failed", return_code=1, stderr=stderr)
    ran = await run(fusion.url)
    assert (ran.stderr, ran.error) == (stderr, "ZeroDivisionError: division by zero")


async def test_a_program_that_was_stopped_says_so(fusion: FakeSandboxFusion) -> None:
    fusion.answer = response(status="Failed", run_status="TimeLimitExceeded", return_code=None, stdout="before")
    ran = await run(fusion.url, seconds=12)
    assert ran.stdout == "before"
    assert (ran.error or "").startswith("TimeLimitExceeded: stopped after 10 s")


async def test_a_program_that_the_sandbox_ended_is_no_success(fusion: FakeSandboxFusion) -> None:
    fusion.answer = response(status="Failed", run_status="Error", return_code=None)
    assert (await run(fusion.url)).error == "InterpreterStopped: the sandbox ended it"


async def test_output_is_cut_off(fusion: FakeSandboxFusion) -> None:
    fusion.answer = response(stdout="x" * (OUTPUT + 1))
    assert (await run(fusion.url)).stdout == "x" * OUTPUT + f"\n[cut off after {OUTPUT} bytes]"


async def test_pictures_that_the_program_names_and_its_figures_are_fetched(fusion: FakeSandboxFusion) -> None:
    fusion.answer = response(files={"plot.png": b"png", "figure-1.png": b"figure"})
    ran = await run(fusion.url, "plt.savefig('plot.png'); im.save(\"d/a b.JPEG\"); open('../x.png'); open('data.csv')")
    figures = [f"figure-{number}.png" for number in range(1, 9)]
    assert fusion.asked["fetch_files"] == ["plot.png", "d/a b.JPEG", *figures]
    assert set(fusion.asked["files"]) == {"matplotlibrc", "jan_figures.py"}
    assert ran.files == [File("figure-1.png", b"figure"), File("plot.png", b"png")]


async def test_files_that_cannot_be_read_are_left_out(fusion: FakeSandboxFusion) -> None:
    fusion.answer = response() | {"files": {"a.png": "no base64!", "b.png": None, "c.png": "YWJj"}}
    assert (await run(fusion.url)).files == [File("c.png", b"abc")]


async def test_there_are_no_sessions_and_it_says_so(fusion: FakeSandboxFusion) -> None:
    failure = await refused(fusion.url, session="mine")
    assert failure.code == "session_not_found"
    assert "without session_id" in failure.message
    assert fusion.asked == {}


@pytest.mark.parametrize(
    "answer",
    [
        response(status="SandboxError"),
        response() | {"run_result": None},
        response(status="Unheard"),
        [],
        "text",
        b"<html>not json",
        b"",
    ],
)
async def test_an_answer_that_is_no_result_is_never_made_one(fusion: FakeSandboxFusion, answer: Any) -> None:
    fusion.answer = answer
    assert (await refused(fusion.url)).code == "sandbox_unavailable"


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
async def test_a_refusal_is_told_with_what_an_operator_can_do(fusion: FakeSandboxFusion, status: int) -> None:
    fusion.status = status
    failure = await refused(fusion.url)
    assert failure.code == "sandbox_unavailable"
    assert str(status) in failure.message
    assert "SANDBOX_FUSION_URL" in failure.message


async def test_an_answer_with_odd_values_is_read_as_far_as_it_goes(fusion: FakeSandboxFusion) -> None:
    fusion.answer = response(return_code=None, execution_time="long", stdout=None, stderr=7) | {"files": []}
    assert await run(fusion.url) == Ran("", "7", None, [])


async def test_nobody_there_is_told(unused_port: int) -> None:
    failure = await refused(f"http://127.0.0.1:{unused_port}")
    assert failure.code == "sandbox_unavailable"
    assert "127.0.0.1" not in failure.message


async def test_one_that_does_not_answer_is_given_up_in_time(fusion: FakeSandboxFusion) -> None:
    fusion.silent = True
    assert (await refused(fusion.url, seconds=0.5)).code == "sandbox_unavailable"


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
