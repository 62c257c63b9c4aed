"""Many streams at once that wait for a model that thinks: all are held, and all end as they should."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.fake_upstream import FakeUpstream, stream
from tests.rest.server import JanServer

STREAMS = 200


@pytest.mark.patience(90)
async def test_idle_streams_are_held_and_end_well(server: JanServer, token: str, upstream: FakeUpstream) -> None:
    gates = [upstream.gate() for _ in range(STREAMS)]
    for gate in gates:
        first, *rest = stream("Hello", " world")
        word, *others = rest
        upstream.script([first, word, gate, *others])
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=30) as client:
        opened = asyncio.Queue[None]()
        asking = [asyncio.create_task(listen(client, token, opened)) for _ in range(STREAMS)]
        for _ in range(STREAMS):
            await opened.get()
        assert len(upstream.posts) == STREAMS

        quick = await client.get("/v1/models", headers={"authorization": f"Bearer {token}"})
        assert quick.status_code == 200

        for gate in gates:
            gate.release()
        bodies = await asyncio.gather(*asking)
    assert {body.count("data: ") for body in bodies} == {4}
    assert all(body.endswith("data: [DONE]\n\n") for body in bodies)


async def listen(client: httpx.AsyncClient, token: str, opened: asyncio.Queue[None]) -> str:
    """One stream to its end; `opened` learns of its first event."""
    body = {"model": "fake", "messages": [{"role": "user", "content": "Hello!"}], "stream": True}
    headers = {"authorization": f"Bearer {token}"}
    async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        assert answer.status_code == 200
        pieces = answer.aiter_text()
        text = await anext(pieces)
        opened.put_nowait(None)
        return text + "".join([piece async for piece in pieces])
