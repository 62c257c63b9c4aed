"""A SandboxFusion that speaks the shapes of its client package (`sandbox-fusion` 0.3.7, models.py) and runs nothing: it
answers as it is told, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


class FakeSandboxFusion:
    """`answer` is what it says: a `RunCodeResponse` by default, of a program that ends well."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: dict[str, Any] = {}
        self.path = ""
        self.status = 200
        self.silent = False
        self.answer: Any = response()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(line.split(":")[1] for line in head.lower().splitlines() if line.startswith("content-length"))
        self.path = " ".join(head.split()[:2])
        self.asked = json.loads(await reader.readexactly(int(length)))
        if self.silent:
            await reader.read()
        body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        said = f"HTTP/1.1 {self.status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(said.encode() + body)
        writer.close()


def response(
    *, status: str = "Success", run_status: str = "Finished", return_code: int | None = 0, **others: Any
) -> dict[str, Any]:
    """A `RunCodeResponse`; what `run_result` has besides comes from `stdout`, `stderr` and `files`."""
    files = {name: base64.b64encode(data).decode() for name, data in others.pop("files", {}).items()}
    result = {"status": run_status, "execution_time": 0.25, "return_code": return_code, "stdout": "", "stderr": ""}
    return {
        "status": status,
        "message": "",
        "compile_result": None,
        "run_result": {**result, **others},
        "executor_pod_name": None,
        "files": files,
    }


@asynccontextmanager
async def fake_sandbox_fusion() -> AsyncIterator[FakeSandboxFusion]:
    """One that listens."""
    fusion = FakeSandboxFusion()
    async with await asyncio.start_server(fusion.serve, "127.0.0.1", 0) as server:
        fusion.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield fusion
