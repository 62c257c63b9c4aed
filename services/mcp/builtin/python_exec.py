"""python_exec: a program of the model's, run in a sandbox."""

from __future__ import annotations

import logging
from typing import Protocol

from services.mcp.sandbox.engine import File, Program, Sandbox
from services.mcp.tool import Calling, Description, Json, Result, ToolFailed
from services.runtime.errors import ApiError

MOST_CODE = 1_000_000
"""Characters of a program."""
_FOR_PICTURES = 2.0  # seconds of a call that are not for running

log = logging.getLogger("jan.tools")

DESCRIPTION = Description(
    name="python_exec",
    title="Run Python",
    text=(
        "Runs a Python program in a sandbox without network and without files of anybody, and returns what it printed. "
        "Use it to compute, to work with data and to draw. The value of a last expression is printed. Pass the "
        "session_id of a result to go on with its variables and files. Pictures that the program saves in its working "
        "directory, and matplotlib figures that it shows, come back as URLs."
    ),
    category="code",
    input_schema={
        "type": "object",
        "properties": {
            "code": {"type": "string", "minLength": 1, "maxLength": MOST_CODE, "description": "The program."},
            "language": {"type": "string", "enum": ["python"], "default": "python"},
            "session_id": {
                "type": "string",
                "default": "",
                "pattern": r"^[A-Za-z0-9_.:-]{0,64}$(?!\n)",
                "description": "Session to go on with, from an earlier result; empty: a new one.",
            },
            "approved": {
                "type": "boolean",
                "default": False,
                "description": "Whether a person has agreed to this run.",
            },
        },
        "required": ["code"],
    },
    output_schema={
        "type": "object",
        "properties": {
            "stdout": {"type": "string"},
            "stderr": {"type": "string"},
            "duration_ms": {"type": "integer"},
            "session_id": {"type": ["string", "null"], "description": "null when nothing is kept of this run."},
            "artifacts": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "url": {"type": ["string", "null"]}},
                    "required": ["name", "url"],
                },
            },
            "error": {"type": ["string", "null"], "description": "What ended the program; null when it ended well."},
        },
        "required": ["stdout", "stderr", "duration_ms", "session_id", "artifacts", "error"],
    },
    annotations={"readOnlyHint": False, "destructiveHint": False, "idempotentHint": False, "openWorldHint": False},
)


class Gallery(Protocol):
    """Keeps pictures."""

    async def upload(self, name: str, data: bytes, *, token: str) -> str:
        """Keep an image of whoever `token` belongs to, and say its URL. Raises `ApiError`."""
        ...


class PythonExec:
    """Runs programs in `sandbox` and puts their pictures into `gallery`."""

    def __init__(self, sandbox: Sandbox, gallery: Gallery, *, require_approval: bool = False) -> None:
        self._sandbox = sandbox
        self._gallery = gallery
        self._require_approval = require_approval

    @property
    def description(self) -> Description:
        return DESCRIPTION

    async def run(self, arguments: Json, calling: Calling) -> Result:
        """A run of CONTRACT 11.2. Raises `ToolFailed`: `approval_required`, `invalid_parameter`, and as `Sandbox.run`
        says."""
        if self._require_approval and arguments["approved"] is not True:
            raise ToolFailed("approval_required", "Running a program needs the approval of a person: `approved: true`")
        program = Program(_text(arguments["code"]), calling.user_id, arguments["session_id"])
        ran = await self._sandbox.run(program, deadline=calling.deadline - _FOR_PICTURES)
        artifacts = [{"name": file.name, "url": await self._url(file, calling)} for file in ran.files]
        return Result(
            {
                "stdout": ran.stdout,
                "stderr": ran.stderr,
                "duration_ms": round(ran.seconds * 1000),
                "session_id": ran.session_id,
                "artifacts": artifacts,
                "error": ran.error,
            }
        )

    async def _url(self, file: File, calling: Calling) -> str | None:
        """Where a picture can be seen; None for what is no picture and what the media room does not take."""
        if file.data is None:
            return None
        try:
            return await self._gallery.upload(file.name.rpartition("/")[2], file.data, token=calling.token)
        except ApiError as error:
            log.warning("artifact_not_kept", extra={"reason": error.code, "request_id": calling.request_id})
            return None


def _text(code: str) -> str:
    """The program, which JSON lets hold what no file of Python can."""
    if "\0" in code or any("\ud800" <= character <= "\udfff" for character in code):
        raise ToolFailed(
            "invalid_parameter", "`code` holds a null character or half a surrogate pair: that is no Python"
        )
    return code
