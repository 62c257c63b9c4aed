"""The gateway's log, and what it does when what is behind it dies or hangs."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import select
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from jan.llm.v1 import chat_pb2, chat_pb2_grpc

from services.runtime import edge, envoy_admin
from tests.fake_upstream import STALL, FakeUpstream, stream
from tests.rest.edge_rig import (
    UNAVAILABLE,
    Backend,
    Rig,
    chat,
    envoy,
    error,
    running,
)
from tests.rest.server import JanServer, free_ports


async def test_the_access_log_tells_what_happened_but_no_secret(http: httpx.AsyncClient, rig: Rig) -> None:
    headers = {"x-request-id": "logged", **rig.bearer(sub="usr_5")}
    await http.get("/v1/notes", params={"title": "query-secret"}, headers=headers)
    line = await logged(http, rig, "logged")
    text = rig.log.read_text()
    assert (line["method"], line["path"], line["status"], line["sub"]) == ("GET", "/v1/notes", 200, "usr_5")
    assert line["upstream"].endswith(".sock")
    assert line["attempts"] == 1
    assert "query-secret" not in text
    assert headers["authorization"].split(".")[-1] not in text


async def logged(http: httpx.AsyncClient, rig: Rig, request_id: str) -> dict[str, Any]:
    """The access log's line of a request, as soon as it is written."""
    async with asyncio.timeout(10):
        while f'"request_id":"{request_id}"' not in rig.log.read_text():
            await http.get("/healthz")
    lines = rig.log.read_text().splitlines()
    return dict(json.loads(next(line for line in lines if f'"request_id":"{request_id}"' in line)))


def test_who_watches_health_takes_no_place_from_others() -> None:
    asked = health_pb2.HealthCheckRequest()
    with (
        running(replacing={"max_requests: 1000": "max_requests: 2"}) as rig,
        grpc.insecure_channel(rig.target) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        watching = [health.Watch(asked) for _ in range(2)]
        assert {next(each).status for each in watching} == {health_pb2.HealthCheckResponse.SERVING}
        with pytest.raises(grpc.RpcError) as refused:
            health.Check(asked)
        assert isinstance(refused.value, grpc.Call)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert httpx.get(f"{rig.url}/v1/models", headers=rig.bearer()).status_code == 200


async def test_the_access_log_has_a_grpc_status_only_for_grpc(
    http: httpx.AsyncClient, channel: grpc.aio.Channel, rig: Rig
) -> None:
    headers = {"x-request-id": "log-429", **rig.bearer()}
    await http.post("/v1/chat/completions", json={"fail": "RateLimited"}, headers=headers)
    await http.get("/v1/models", headers={"x-request-id": "log-401"})
    missing = chat_pb2.CreateChatCompletionRequest(model="missing")
    metadata = (("x-request-id", "log-grpc"), *rig.bearer().items())
    with pytest.raises(grpc.aio.AioRpcError):
        await chat_pb2_grpc.ChatServiceStub(channel).CreateChatCompletion(missing, metadata=metadata)
    for request_id, status, grpc_status in (("log-429", 429, None), ("log-401", 401, None), ("log-grpc", 200, 5)):
        line = await logged(http, rig, request_id)
        assert (request_id, line["status"], line.get("grpc_status")) == (request_id, status, grpc_status)


async def test_envoy_warns_of_nothing(rig: Rig) -> None:
    lines = [json.loads(line) for line in rig.log.read_text().splitlines()]
    assert [line for line in lines if line["logger"] != "access"] == []


def first_to_end(backends: list[Backend]) -> Backend:
    """The backend whose process ends first, noticed by its output, which ends with it."""
    ended, _, _ = select.select([each.process.stdout for each in backends], [], [], 5)
    return next(each for each in backends if each.process.stdout in ended)


async def test_the_other_worker_serves_when_one_dies(http: httpx.AsyncClient, rig: Rig) -> None:
    dying = await chat(http, rig, die=True)
    assert error(dying) == UNAVAILABLE
    assert dying.headers["retry-after"] == "1"
    dead = await asyncio.to_thread(first_to_end, rig.workers)
    answers = [await http.get("/v1/models", headers=rig.bearer()) for _ in range(50)]
    answers += [await chat(http, rig) for _ in range(50)]
    assert {each.status_code for each in answers} == {200}
    dead.restart()


async def test_a_server_that_hangs_is_given_up_quickly(http: httpx.AsyncClient, rig: Rig) -> None:
    os.kill(rig.auth.process.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(20):
            while not await is_down(rig):  # noqa: ASYNC110  # Envoy knows, and has to be asked
                await asyncio.sleep(0.1)
        started = time.monotonic()
        refused = await http.get("/auth/me", headers=rig.bearer())
        assert error(refused) == UNAVAILABLE
        assert refused.headers["retry-after"] == "1"
        connect = {"content-type": "application/proto", "connect-protocol-version": "1", **rig.bearer()}
        refused = await http.post("/jan.auth.v1.AuthService/GetMe", headers=connect)
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert time.monotonic() - started < 1
    finally:
        os.kill(rig.auth.process.pid, signal.SIGCONT)
    async with asyncio.timeout(20):
        while await is_down(rig):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def is_down(rig: Rig) -> bool:
    """Whether Envoy knows that the auth room is ill."""
    _, body = await envoy_admin.ask(rig.run_dir, "/clusters")
    health = [line for line in body.splitlines() if line.startswith(b"auth::") and b"::health_flags::" in line]
    return any(b"/failed_active_hc" in line for line in health)


def test_without_memory_every_request_is_503(rig: Rig, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="edge") as folder:
        gateway, llm = free_ports(2)
        settings = dataclasses.replace(rig.settings, data_dir=tmp_path, gateway_port=gateway, llm_api_port=llm)
        config = edge.write(settings, {"auth": ["unix:/nowhere"], "worker": ["unix:/nowhere"]}, Path(folder))
        assert "max_heap_size_bytes: 2147483648" in config.read_text()
        config.write_text(config.read_text().replace("max_heap_size_bytes: 2147483648", "max_heap_size_bytes: 1000"))
        with envoy(settings, config, Path(folder)):
            deadline = time.monotonic() + 10
            while (answer := httpx.get(f"http://127.0.0.1:{gateway}/healthz")).status_code == 200:
                assert time.monotonic() < deadline
            assert error(answer) == UNAVAILABLE


def test_a_stream_that_lasts_too_long_ends_with_an_error_event(tmp_path: Path, upstream: FakeUpstream) -> None:
    provider = {"name": "fake", "type": "openai", "url": upstream.url, "models": ["fake"]}
    (tmp_path / "providers.yml").write_text(json.dumps({"providers": {"default": [provider]}}))
    head, word, *_ = stream("Hello")
    upstream.script([head, word, STALL])
    body = {"model": "fake", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    with JanServer(tmp_path, STREAM_TIMEOUT="2s") as server:
        headers = {"authorization": f"Bearer {server.token()}"}
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=20)
    last = answer.text.strip().rpartition("data: ")[2]
    assert json.loads(last)["error"]["type"] == "timeout_error"
