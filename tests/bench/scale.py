"""`python -m tests.bench.scale`: lists of a user with 100,000 conversations and a conversation of 1,000 turns, through
the gateway, as that user sees them. Prints Markdown."""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from services.runtime import db
from services.runtime.postgres import running_url
from tests.bench.report import machine
from tests.rest.server import JanServer

PAGE = 100
ROUNDS = 30
"""How often each request is timed."""
MODEL = "jan-demo"
LONG = "conv_00000000000000000long"

_CONVERSATIONS = """
INSERT INTO conversations (id, user_id, title, created_at, updated_at)
SELECT 'conv_' || lpad(to_hex(n), 26, '0'), $1, 'Conversation ' || n, moment, moment
FROM generate_series(1, $2::int) AS n, LATERAL (SELECT now() - n * interval '1 minute') AS at (moment)
"""
_LONG_ONE = """
INSERT INTO conversations (id, user_id, title, item_count, last_position)
VALUES ($1, $2, 'A long one', $3::int, $3::int)
"""
_ITEMS = """
INSERT INTO items (id, conversation_id, position, type, role, content, model)
SELECT 'msg_' || lpad(to_hex(n), 26, '0'), $1, n, 'message', role, to_json(repeat('some words ', 20)),
    CASE role WHEN 'assistant' THEN 'jan-demo' END
FROM generate_series(1, $2::int) AS n, LATERAL (SELECT CASE n % 2 WHEN 1 THEN 'user' ELSE 'assistant' END) AS of (role)
"""


async def fill(data_dir: Path, user_id: str, *, conversations: int, turns: int) -> None:
    """Give a user that many conversations, and one of that many turns; what autovacuum does later is done at once."""
    database = await db.connect(await running_url(data_dir), max_size=1)
    try:
        async with database.connection() as connection:
            await connection.execute(_CONVERSATIONS, user_id, conversations - 1, within=None)
            await connection.execute(_LONG_ONE, LONG, user_id, 2 * turns)
            await connection.execute(_ITEMS, LONG, 2 * turns, within=None)
            for table in ("conversations", "items"):
                await connection.execute(f"VACUUM ANALYZE {table}", within=None)
    finally:
        await database.close()


def pages(client: httpx.Client) -> Iterator[tuple[str, list[str], float]]:
    """Every page of the conversations by cursor: the cursor, the ids, the seconds."""
    after: str | None = ""
    while after is not None:
        began = time.perf_counter()
        answer = listed(client, after=after)
        yield after, [row["id"] for row in answer["data"]], time.perf_counter() - began
        after = answer.get("next_after")


def listed(client: httpx.Client, path: str = "/v1/conversations", **query: str | int) -> dict:
    return client.get(path, params={"limit": PAGE, **query}).raise_for_status().json()


def chat(client: httpx.Client, **members: str | bool) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Go on"}], **members}
    client.post("/v1/chat/completions", json=body).raise_for_status()


def milliseconds(request: Callable[[], object]) -> str:
    """The row's numbers of one request: median and the slowest but one in twenty."""
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        request()
        took.append(1000 * (time.perf_counter() - began))
    return f"{statistics.median(took):.1f} | {statistics.quantiles(took, n=20)[-1]:.1f}"


def measure(client: httpx.Client, *, conversations: int) -> Iterator[tuple[str, str]]:
    """What was asked for, and its numbers. Raises when the pages skip or repeat a conversation."""
    walked = list(pages(client))
    ids = [each for _, page, _ in walked for each in page]
    if len(set(ids)) != len(ids) or len(ids) != conversations:
        raise AssertionError(f"{len(ids)} conversations were listed, {len(set(ids))} of them once")
    last = walked[-1][0]
    yield "page 1 by cursor", milliseconds(lambda: listed(client))
    yield f"page {len(walked)} by cursor", milliseconds(lambda: listed(client, after=last))
    yield f"page {len(walked)} by offset", milliseconds(lambda: listed(client, offset=len(ids) - PAGE))
    items = f"/v1/conversations/{LONG}/items"
    yield (
        "the long conversation with its newest 100 items",
        milliseconds(lambda: client.get(f"/v1/conversations/{LONG}").raise_for_status()),
    )
    yield "its first page of items", milliseconds(lambda: listed(client, items))
    middle = listed(client, items, offset=1000)["last_id"]
    yield "its page in the middle", milliseconds(lambda: listed(client, items, after=middle))
    yield "a chat without a conversation", milliseconds(lambda: chat(client))
    yield (
        "a chat in the long conversation, `store: false`",
        milliseconds(lambda: chat(client, conversation=LONG, store=False)),
    )
    yield "a chat in the long conversation", milliseconds(lambda: chat(client, conversation=LONG))


def main() -> None:
    """Start a server, fill it, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale", description=__doc__)
    parser.add_argument("--conversations", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jan-scale-") as folder, JanServer(Path(folder, "server")) as server:
        token = server.token()
        with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {token}"}, timeout=60) as client:
            user_id = client.get("/auth/me").raise_for_status().json()["data"]["id"]
            filling = fill(server.data_dir, user_id, conversations=arguments.conversations, turns=arguments.turns)
            asyncio.run(filling)
            where = machine()
            print(f"{where['date']}, {where['cores']} cores of {where['cpu']}, Linux {where['kernel']};", end=" ")
            print(f"load average before: {where['load_before']}\n\n| request | p50 ms | p95 ms |\n| --- | --: | --: |")
            for what, numbers in measure(client, conversations=arguments.conversations):
                print(f"| {what} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
