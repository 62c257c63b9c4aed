"""Streams and large bodies through the gateway."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.rest.edge_rig import (
    NO_ROUTE,
    Rig,
    chat,
    error,
    raw,
)


async def test_a_stream_passes_event_by_event(http: httpx.AsyncClient, rig: Rig) -> None:
    body = {"stream": 5, "hang": True}
    async with http.stream("POST", "/v1/chat/completions", json=body, headers=rig.bearer()) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-accel-buffering"] == "no"
        assert await anext(answer.aiter_raw()) == b'data: {"n": 0}\n\n'


async def test_a_stream_that_is_cut_off_does_not_end_well(http: httpx.AsyncClient, rig: Rig) -> None:
    body = {"stream": 1, "hang": True}
    with pytest.raises(httpx.RemoteProtocolError):
        await http.post("/v1/chat/completions", json=body, headers=rig.bearer())


async def test_a_stream_is_exact_to_the_byte(http: httpx.AsyncClient, rig: Rig) -> None:
    answer = await chat(http, rig, stream=3)
    assert answer.text == 'data: {"n": 0}\n\ndata: {"n": 1}\n\ndata: {"n": 2}\n\ndata: [DONE]\n\n'


async def test_a_body_just_under_the_limit_passes(http: httpx.AsyncClient, rig: Rig) -> None:
    body = b"x" * (rig.settings.max_body_bytes - 1024)
    answer = await http.post("/v1/chat/completions", content=body, headers=rig.bearer())
    assert answer.json()["size"] == len(body)


async def test_a_declared_length_over_the_limit_is_refused_before_the_upload(rig: Rig) -> None:
    declared = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 41943040\r\n\r\n"
    status, _, body = await raw(rig.settings.gateway_port, declared)
    assert (status, body["error"]["code"]) == (413, "max_size_exceeded")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/notes"])
async def test_forty_megabytes_in_chunks_are_413(rig: Rig, path: str) -> None:
    curl = await asyncio.create_subprocess_exec(
        "curl", "-s", "-X", "POST", f"{rig.url}{path}", "-T", "-", "-H", "Expect:",
        "-H", f"authorization: {rig.bearer()['authorization']}", "-w", "%{http_code}",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await curl.communicate(b'{"title":"' + b"x" * 40 * 1024 * 1024 + b'"}')
    assert output.endswith(b"413")
    assert b"max_size_exceeded" in output


async def test_http2_without_tls_works(rig: Rig) -> None:
    async with httpx.AsyncClient(base_url=rig.url, http1=False, http2=True) as http:
        answer = await chat(http, rig, stream=2)
        assert answer.http_version == "HTTP/2"
        assert answer.text.endswith("data: [DONE]\n\n")
        assert error(await http.get("/nope")) == NO_ROUTE
