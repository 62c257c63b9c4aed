"""OpenAI's JavaScript SDK against the whole server: its own reading of headers, streams and errors."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fake_upstream import CLOSE, STALL, USAGE, FakeUpstream, chunk, sse, status, stream
from tests.rest.server import JanServer

FOLDER = Path(__file__).parent / "js"
NODE = shutil.which("node")
HALF = stream("Hello", " world")[:2]  # its head and the first word

pytestmark = [
    pytest.mark.skipif(NODE is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (FOLDER / "node_modules/openai").exists(), reason="js/node_modules is missing: npm ci in tests/rest/js"
    ),
]

Play = Callable[..., Awaitable[list[Any]]]


@pytest.fixture
def play(server: JanServer, token: str, upstream: FakeUpstream) -> Play:
    """Run a scene of `js/scenes.mjs` and return what it saw."""

    async def run(scene: str, *arguments: str) -> list[Any]:
        process = await asyncio.create_subprocess_exec(
            str(NODE), "scenes.mjs", scene, f"{server.url}/v1", token, *arguments,
            cwd=FOLDER, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return [json.loads(line) for line in output.splitlines()]

    return run


async def test_a_plain_answer_comes_whole(play: Play, upstream: FakeUpstream) -> None:
    assert await play("chat") == [{"content": "Hello world", "usage": USAGE, "request_id": "from-node"}]
    assert upstream.posts[0].body["top_k"] == 40


async def test_a_stream_ends_with_its_usage(play: Play) -> None:
    seen = await play("stream")
    assert [each["said"] for each in seen if each["said"]] == ["Hello", " world"]
    assert [each["usage"] for each in seen] == [None, None, None, USAGE]


async def test_streamed_tool_calls_add_up(play: Play, upstream: FakeUpstream) -> None:
    head = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    upstream.script(
        sse(
            chunk({"role": "assistant", "content": None, "tool_calls": [head]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": ' "Oslo"}'}}]}),
            chunk({}, finish_reason="tool_calls"),
            "[DONE]",
        )
    )
    (seen,) = await play("tools")
    assert seen["finish_reason"] == "tool_calls"
    (call,) = seen["calls"]
    assert (call["id"], call["function"]["name"]) == ("call_1", "weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "Oslo"}


async def test_errors_have_their_classes(play: Play, upstream: FakeUpstream) -> None:
    upstream.script(status(429, headers={"retry-after": "7"}))
    seen = await play("errors")
    assert all(each.pop("requestID").startswith("req_") for each in seen)
    assert [(each["name"], each["status"], each["code"], each["param"]) for each in seen] == [
        ("NotFoundError", 404, "model_not_found", "model"),
        ("BadRequestError", 400, "invalid_parameter", "messages[0].content"),
        ("RateLimitError", 429, "upstream_rate_limited", None),
        ("AuthenticationError", 401, "unauthorized", None),
        ("NotFoundError", 404, "model_not_found", "model"),
    ]
    assert seen[2]["retryAfter"] == "7"


async def test_a_broken_stream_raises(play: Play, upstream: FakeUpstream, fragile_model: str) -> None:
    upstream.script([*HALF, CLOSE])
    said, *broken = await play("broken", fragile_model)
    assert said == {"said": "Hello"}
    assert [(each["name"], each["code"]) for each in broken] == [("APIError", "upstream_error")]


async def test_embeddings_work(play: Play) -> None:
    assert await play("embeddings") == [[384, 384], [0.5, -1.0]]


async def test_models_with_slashes_are_found(play: Play) -> None:
    assert await play("models") == [[True, "org/team/fake"]]


async def test_aborting_a_stream_frees_the_upstream(play: Play, upstream: FakeUpstream) -> None:
    upstream.script([*HALF, STALL])
    assert await play("abort") == [{"said": "Hello"}]
    await asyncio.to_thread(upstream.wait_for_hang_up, within=1)
