"""A SandboxFusion (https://bytedance.github.io/SandboxFusion): `POST /run_code`. It keeps nothing from one program to
the next, and brings only files that are asked for by name.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from services.mcp.sandbox.engine import FIGURES, FILE, PICTURES, SECONDS, File, Program, Ran, chosen, shown
from services.mcp.sandbox.failure import out_of_time, raised
from services.mcp.tool import ToolFailed
from services.runtime.errors import ApiError
from services.runtime.fetched import Answer, Limits
from services.runtime.outgoing import Fetcher

MOST = 64 * 1024 * 1024
"""Bytes of an answer."""
_ALONGSIDE = 10.0  # seconds that the sandbox may take beyond the running itself

_PICTURE_NAME = re.compile(r"""["']([\w][\w ./-]{0,100}\.(?:png|jpe?g|gif|webp|bmp|tiff?))["']""", re.IGNORECASE)
_BACKEND = Path(__file__).with_name("guest") / "jan_figures.py"
_SETTINGS = b"backend: module://jan_figures\n"


class Fusion:
    """A `Sandbox` at `base_url`; `fetcher` must be allowed to go there. Without sessions."""

    def __init__(self, fetcher: Fetcher, *, base_url: str) -> None:
        self._fetcher = fetcher
        self._url = f"{base_url.rstrip('/')}/run_code"
        self._files = {"matplotlibrc": _packed(_SETTINGS), "jan_figures.py": _packed(_BACKEND.read_bytes())}

    async def run(self, program: Program, *, deadline: float) -> Ran:
        """As `Sandbox.run`."""
        if program.session_id:
            raise ToolFailed("session_not_found", _NO_SESSIONS)
        left = deadline - asyncio.get_running_loop().time()
        seconds = min(SECONDS, max(1.0, left - 2))
        asked = {
            "code": program.code,
            "language": "python",
            "run_timeout": seconds,
            "files": self._files,
            "fetch_files": _pictures(program.code),
        }
        try:
            limits = Limits(seconds=min(left, seconds + _ALONGSIDE), most=MOST)
            async with self._fetcher.post(self._url, orjson.dumps(asked), param="code", limits=limits) as answer:
                said = await _json_object(answer)
        except ApiError as error:
            raise ToolFailed(
                "sandbox_unavailable", f"The sandbox could not be asked ({error.code}); {_ADVICE}"
            ) from error
        return _ran(said, seconds)


_NO_SESSIONS = "The sandbox of this server keeps nothing between programs: run the whole program, without session_id"
_ADVICE = "an operator can see whether SANDBOX_FUSION_URL leads to one that runs"


async def _json_object(answer: Answer) -> dict[str, Any]:
    if answer.status != 200:
        raise ToolFailed("sandbox_unavailable", f"The sandbox answered with status {answer.status}; {_ADVICE}")
    try:
        said = orjson.loads(b"".join([piece async for piece in answer.body]))
    except orjson.JSONDecodeError as error:
        raise _unknown() from error
    if not isinstance(said, dict):
        raise _unknown()
    return said


def _ran(said: dict[str, Any], seconds: float) -> Ran:
    """What `RunCodeResponse` says of a program. Raises `ToolFailed` when it has not run."""
    result = said.get("run_result")
    if said.get("status") not in ("Success", "Failed") or not isinstance(result, dict):
        raise ToolFailed("sandbox_unavailable", f"The sandbox failed; {_ADVICE}")
    stdout, stderr = (shown(str(result.get(name) or "").encode()) for name in ("stdout", "stderr"))
    error = raised(_number(result.get("return_code"), 0), stderr)
    if result.get("status") == "TimeLimitExceeded":
        error = out_of_time(seconds)
    elif result.get("status") != "Finished":
        error = error or "InterpreterStopped: the sandbox ended it"
    took = result.get("execution_time")
    files = said.get("files")
    return Ran(
        stdout, stderr, error, chosen(list(_files(files))), seconds=took if isinstance(took, float | int) else 0.0
    )


def _files(files: object) -> Iterator[File]:
    for name, content in files.items() if isinstance(files, dict) else ():
        try:
            data = base64.b64decode(content, validate=True)
        except (binascii.Error, TypeError, ValueError):
            continue
        if len(data) <= FILE:
            yield File(str(name), data)


def _pictures(code: str) -> list[str]:
    """The names in a program that can be those of pictures that it writes, and those of its figures."""
    named = dict.fromkeys(name for name in _PICTURE_NAME.findall(code) if ".." not in name)
    return [*list(named)[:PICTURES], *(name for name in FIGURES if name not in named)]


def _number(value: object, default: int) -> int:
    return value if isinstance(value, int) else default


def _packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unknown() -> ToolFailed:
    return ToolFailed("sandbox_unavailable", f"The sandbox answered with something that is no result; {_ADVICE}")
