"""PostgreSQL goes away while twenty clients are busy: what they are told, and what is there afterwards."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.fake_upstream import Act, FakeUpstream, Request, answer, completion, stream
from tests.rest.conftest import providers
from tests.rest.lone_postgres import LonePostgres
from tests.rest.server import JanServer

USERS = 4
OPEN = "open"
"""The text of a stream that waits, once its first word is through, until the test lets it go on."""


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LonePostgres]:
    postgres = LonePostgres(tmp_path_factory.mktemp("postgres"))
    asyncio.run(postgres.create())
    yield postgres
    postgres.close()


@pytest.fixture(scope="module")
def parrot() -> Iterator[FakeUpstream]:
    """An upstream that repeats the last message."""
    with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def loaded(lone: LonePostgres, parrot: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JanServer]:
    """A server with two workers whose database is `lone`."""
    folder = tmp_path_factory.mktemp("loaded")
    (folder / "providers.yml").write_text(providers({"name": "fake", "url": parrot.url, "models": ["fake"]}))
    with JanServer(folder, WORKERS="2", DATABASE_URL=lone.url) as server:
        yield server


@dataclass(frozen=True)
class Answer:
    """What a client got for one request."""

    kind: str
    conversation: str
    text: str
    began_away: bool
    """Whether the database was away when it was asked for, and (below) when the answer had come."""
    ended_away: bool
    seconds: float
    status: int
    retry_after: str | None
    complete: bool
    code: str

    @property
    def is_honest(self) -> bool:
        """A whole answer, or a clear word that there is none now: before a stream has begun a status with the time to
        wait, later an error in the stream. Busy is the conversation whose last answer could not be stored yet."""
        if self.complete or (self.status, self.code) == (200, "service_unavailable"):
            return True
        refusals = {(503, "service_unavailable"), (409, "conversation_busy")}
        return (self.status, self.code) in refusals and self.retry_after == "1"


@dataclass
class Load:
    """Clients that ask all the time, and what they got."""

    answers: list[Answer] = field(default_factory=list)
    away: bool = False
    over: bool = False
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def ask(self, client: httpx.AsyncClient, kind: str, text: str, conversation: str = "") -> None:
        """One request of a kind, noted with its answer."""
        began_away, began = self.away, time.monotonic()
        got = await KINDS[kind](client, text, conversation)
        known = Answer(
            *(kind, conversation, text, began_away, self.away, time.monotonic() - began, got.status_code),
            retry_after=got.headers.get("retry-after"),
            complete=got.status_code == 200 and ("stream" not in kind or "data: [DONE]" in got.text),
            code=code_of(got.text),
        )
        async with self.news:
            self.answers.append(known)
            self.news.notify_all()

    async def go_on(self, user: User, kind: str) -> None:
        """Ask until it is over, never the same twice."""
        number = 0
        while not self.over:
            await self.ask(user.client, kind, f"{user.name} {kind} {number}", user.conversations.get(kind, ""))
            number += 1

    async def until(self, count: int, which: Callable[[Answer], bool], kinds: set[str]) -> None:
        """Wait until there are so many more answers of each of these kinds."""
        before = len(self.answers)
        async with asyncio.timeout(30), self.news:
            await self.news.wait_for(lambda: all(self._more(before, which)[kind] >= count for kind in kinds))

    def _more(self, before: int, which: Callable[[Answer], bool]) -> Counter[str]:
        return Counter(each.kind for each in self.answers[before:] if which(each))


def chat(*, streamed: bool) -> Callable[[httpx.AsyncClient, str, str], Awaitable[httpx.Response]]:
    async def send(client: httpx.AsyncClient, text: str, conversation: str) -> httpx.Response:
        body: dict[str, Any] = {"model": "fake", "stream": streamed, "messages": [{"role": "user", "content": text}]}
        if conversation:
            body["conversation"] = conversation
        return await client.post("/v1/chat/completions", json=body)

    return send


async def listing(client: httpx.AsyncClient, _text: str, _conversation: str) -> httpx.Response:
    return await client.get("/v1/conversations")


async def setting(client: httpx.AsyncClient, text: str, _conversation: str) -> httpx.Response:
    return await client.patch("/v1/users/me/settings", json={"preferences": {"last": text}})


KINDS: dict[str, Callable[[httpx.AsyncClient, str, str], Awaitable[httpx.Response]]] = {
    "plain": chat(streamed=False),
    "plain stream": chat(streamed=True),
    "talk": chat(streamed=False),
    "talk stream": chat(streamed=True),
    "list": listing,
    "settings": setting,
}
PLAIN = {"plain", "plain stream"}
NEEDY = set(KINDS) - PLAIN


def code_of(text: str) -> str:
    """The code of the error that an answer is, or that a stream ends with; empty when there is none."""
    with suppress(ValueError, KeyError):
        return str(json.loads(text.strip().rpartition("data: ")[2])["error"]["code"])
    return ""


def repeat(request: Request, waiting: Act) -> Act:
    """What the upstream answers: the last message, once more."""
    text = request.body["messages"][-1]["content"]
    if text == OPEN:
        return waiting
    return stream(text) if request.body.get("stream") else answer(completion(text))


@dataclass(frozen=True)
class User:
    """A new guest with a conversation for each kind of request that needs one, and one that waits."""

    name: str
    client: httpx.AsyncClient
    conversations: dict[str, str]
    waiting: str

    def items(self, conversation: str) -> Callable[[], Awaitable[list[tuple[str, str]]]]:
        """What reads role and content of all items."""

        async def read() -> list[tuple[str, str]]:
            found, after = list[tuple[str, str]](), ""
            while after is not None:
                path = f"/v1/conversations/{conversation}/items?limit=100&after={after}"
                page = (await self.client.get(path)).json()
                found += [(each["role"], each["content"]) for each in page["data"]]
                after = page.get("next_after")
            return found

        return read

    def is_counted(self, upstream: FakeUpstream) -> Callable[[], Awaitable[bool]]:
        """What tells whether the usage of the user is what the upstream has generated."""
        texts = [each.body["messages"][-1]["content"] for each in upstream.posts]
        generated = 1 + len([text for text in texts if text.startswith(f"{self.name} ")])

        async def compare() -> bool:
            usage = await self.client.get("/v1/usage/me")
            return bool(usage.json()["data"]["requests"] == generated)

        return compare


@asynccontextmanager
async def user(server: JanServer, name: str) -> AsyncIterator[User]:
    headers = {"authorization": f"Bearer {await asyncio.to_thread(server.token)}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=20) as client:

        async def conversation() -> str:
            return str((await client.post("/v1/conversations", json={})).json()["data"]["id"])

        talks = {kind: await conversation() for kind in ("talk", "talk stream")}
        yield User(name, client, talks, await conversation())


@pytest.mark.parametrize(("way", "quick"), [("stop", 4.0), ("kill", 4.0), ("freeze", 12.0)])
async def test_a_database_that_goes_away_under_load_costs_nobody_what_was_acknowledged(
    loaded: JanServer, lone: LonePostgres, parrot: FakeUpstream, way: str, quick: float
) -> None:
    load, gate = Load(), parrot.gate()
    parrot.forget()
    parrot.default = lambda request: repeat(request, [*stream(OPEN)[:2], gate, *stream(OPEN)[2:]])
    async with AsyncExitStack() as stack:
        users = [await stack.enter_async_context(user(loaded, f"{number}")) for number in range(USERS)]
        async with asyncio.TaskGroup() as group:
            begun = [group.create_task(load.ask(each.client, "talk stream", OPEN, each.waiting)) for each in users]
            for each in users:
                for kind in KINDS:
                    group.create_task(load.go_on(each, kind))
            await load.until(2 * USERS, lambda each: each.complete, set(KINDS))
            load.away = True
            getattr(lone, way)()
            gate.release(USERS)
            await load.until(10 * USERS, lambda each: each.began_away and each.complete, PLAIN)
            await load.until(USERS, lambda each: each.ended_away and each.status == 503, NEEDY)
            await asyncio.wait(begun)
            load.away = False
            await lone.start()
            await load.until(2 * USERS, lambda each: not each.began_away and each.complete, set(KINDS))
            load.over = True
        check_answers(load.answers, quick=quick)
        for each in users:
            await check_items(each, load.answers)
            await eventually_async(each.is_counted(parrot))


def check_answers(answers: list[Answer], *, quick: float) -> None:
    """Chats without a conversation go on; everybody else is told the truth, soon."""
    assert [each for each in answers if not each.is_honest] == []
    assert [each for each in answers if each.kind in PLAIN and not each.complete] == []
    assert [each for each in answers if each.text != OPEN and each.seconds > quick] == []
    assert [each.code for each in answers if each.text == OPEN] == ["service_unavailable"] * USERS


async def check_items(user: User, answers: list[Answer]) -> None:
    """What a client saw complete is there, everything is there once, and behind each message comes its own answer."""
    await eventually_async(user.items(user.waiting), [("user", OPEN), ("assistant", OPEN)])
    for conversation in user.conversations.values():
        stored = await user.items(conversation)()
        assert max(Counter(stored).values()) == 1
        acknowledged = {each.text for each in answers if each.conversation == conversation and each.complete}
        assert {(role, text) for text in acknowledged for role in ("user", "assistant")} <= set(stored)
        answered = [(before, text) for (_, before), (role, text) in pairwise(stored) if role == "assistant"]
        assert [pair for pair in answered if pair[0] != pair[1]] == []


async def eventually_async(look: Callable[[], Awaitable[object]], expected: object = True) -> None:
    """Look again and again, for what no event tells."""
    async with asyncio.timeout(10):
        while await look() != expected:
            pass
