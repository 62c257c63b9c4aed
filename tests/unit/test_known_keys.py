"""What is remembered of API keys, and for how long."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from services.auth.api_key_store import digest, new_secret
from services.auth.guesses import MOST
from services.auth.known_keys import FRESH, GRACE, UNHEARD, KnownKey, KnownKeys
from services.runtime.db import Row
from services.runtime.errors import RateLimited, Unauthenticated, Unavailable
from services.runtime.watch import Watch

HERE = "192.0.2.1"
EPOCH = 1_800_000_000.0


class Table:
    """The keys of a database that counts the questions, may be down, and may be slow."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Row] = {}
        self.asked = 0
        self.down = False
        self.open = asyncio.Event()
        self.open.set()

    async def find(self, secret_hash: bytes) -> Row | None:
        self.asked += 1
        row = self.rows.get(secret_hash)
        await self.open.wait()
        if self.down:
            raise Unavailable("The database is not reachable right now")
        return row

    def add(self, key_id: str, *, expires_at: float = EPOCH + 1e6) -> str:
        secret = new_secret("sk_live").text
        self.rows[digest(secret)] = {"id": key_id, "expires_at": datetime.fromtimestamp(expires_at, UTC)}
        return secret


class Scene:
    """Keys, their table, the time, and whether changes are heard."""

    def __init__(self) -> None:
        self.table = Table()
        self.now = EPOCH
        self.hears = True
        self.keys = KnownKeys(self.table.find, hears=lambda: self.hears, clock=lambda: self.now)

    async def get(self, secret: str, address: str = HERE) -> KnownKey:
        return self.keys.remembered(secret) or await self.keys.find(secret, address)

    async def refuses(self, secret: str, address: str = HERE) -> None:
        with pytest.raises(Unauthenticated, match="unknown, revoked or expired"):
            await self.get(secret, address)


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_key_in_use_is_asked_for_once(scene: Scene) -> None:
    secret = scene.table.add("key_1")
    first = await scene.get(secret)
    assert first.row["id"] == "key_1"
    for _ in range(100):
        assert await scene.get(secret) is first
    assert scene.table.asked == 1


async def test_it_is_confirmed_every_half_minute(scene: Scene) -> None:
    secret = scene.table.add("key_1")
    first = await scene.get(secret)
    scene.now += FRESH
    assert await scene.get(secret) is not first
    assert scene.table.asked == 2


async def test_while_it_is_confirmed_the_others_do_not_wait(scene: Scene) -> None:
    secret = scene.table.add("key_1")
    first = await scene.get(secret)
    scene.now += FRESH
    scene.table.open.clear()
    asking = asyncio.create_task(scene.get(secret))
    await asyncio.sleep(0)
    assert [await scene.get(secret) for _ in range(3)] == [first] * 3
    scene.table.open.set()
    assert (await asking) is not first
    assert scene.table.asked == 2


async def test_those_who_ask_at_once_for_a_new_one_get_one_answer(scene: Scene) -> None:
    secret = scene.table.add("key_1")
    found = await asyncio.gather(*(scene.get(secret) for _ in range(5)))
    assert len({id(each) for each in found}) == 1


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "sk_live_",
        "sk-" + "0" * 48,
        "sk_live_" + "0" * 47,
        "sk_live_" + "0" * 49,
        "sk_live_" + "G" * 48,
        "sk_live_" + "0" * 48 + "\n",
        "sk_" + "0" * 10_000,
        "é" * 50,
    ],
)
async def test_what_cannot_be_a_key_is_refused_unasked(scene: Scene, secret: str) -> None:
    for _ in range(MOST * 2):
        await scene.refuses(secret)
    assert scene.table.asked == 0


async def test_an_unknown_key_is_asked_for_once_a_minute(scene: Scene) -> None:
    secret = new_secret("sk_live").text
    for _ in range(MOST * 2):
        await scene.refuses(secret)
    assert scene.table.asked == 1
    scene.now += 60
    await scene.refuses(secret)
    assert scene.table.asked == 2


async def test_who_guesses_is_slowed_and_known_keys_are_not(scene: Scene) -> None:
    known, fresh = scene.table.add("key_1"), scene.table.add("key_2")
    await scene.get(known)
    for _ in range(MOST):
        await scene.refuses(new_secret("sk_live").text)
    asked = scene.table.asked
    with pytest.raises(RateLimited):
        await scene.get(new_secret("sk_live").text)
    assert scene.table.asked == asked
    await scene.get(known)
    await scene.get(fresh, "192.0.2.2")


async def test_who_begins_with_many_requests_at_once_does_not_guess(scene: Scene) -> None:
    secret, unknown = scene.table.add("key_1"), new_secret("sk_live").text
    scene.table.open.clear()
    asking = [asyncio.create_task(scene.get(secret)) for _ in range(MOST * 2)]
    guessing = [asyncio.create_task(scene.get(unknown)) for _ in range(MOST * 2)]
    await asyncio.sleep(0)
    scene.table.open.set()
    assert len({id(each) for each in await asyncio.gather(*asking)}) == 1
    assert {type(each) for each in await asyncio.gather(*guessing, return_exceptions=True)} == {Unauthenticated}
    for _ in range(MOST - 1):  # all of those guesses were one
        await scene.refuses(new_secret("sk_live").text)
    with pytest.raises(RateLimited):
        await scene.get(new_secret("sk_live").text)


async def test_a_clock_that_is_put_back_makes_no_answer_count_for_longer(scene: Scene) -> None:
    secret = scene.table.add("key_1")
    first = await scene.get(secret)
    scene.now -= 3600
    second = await scene.get(secret)
    assert second is not first  # the token of the first is not good yet
    assert await scene.get(secret) is second
    assert scene.table.asked == 2


async def test_a_change_is_felt_at_once(scene: Scene) -> None:
    secret = scene.table.add("key_1")
    await scene.get(secret)
    scene.table.rows.clear()
    scene.keys.forget("key_1")
    await scene.refuses(secret)


async def test_a_change_of_a_key_that_nobody_used_is_nothing(scene: Scene) -> None:
    scene.keys.forget("key_unknown")


async def test_a_key_revoked_while_it_was_asked_for_is_not_remembered(scene: Scene) -> None:
    secret = scene.table.add("key_1")
    scene.table.open.clear()
    asking = asyncio.create_task(scene.get(secret))
    await asyncio.sleep(0)
    scene.table.rows.clear()
    scene.keys.forget("key_1")
    scene.table.open.set()
    await asking  # it was good when it was asked for
    await scene.refuses(secret)


async def test_after_a_gap_everything_is_asked_for_again(scene: Scene) -> None:
    secret = scene.table.add("key_1")
    watched: list[Any] = []

    class Recorder(Watch):
        def on(self, channel: str, heard: Any, resume: Any) -> None:
            watched.extend((channel, heard, resume))

    scene.keys.follow(Recorder("postgresql://"))
    await scene.get(secret)
    scene.table.rows.clear()
    await watched[2](None)
    assert watched[0] == "api_keys"
    await scene.refuses(secret)


async def test_after_a_gap_nobody_who_was_known_is_taken_for_a_guesser(scene: Scene) -> None:
    secrets = [scene.table.add(f"key_{number}") for number in range(MOST * 2)]
    for secret in secrets:
        await scene.get(secret)
    for _ in range(2):  # the second gap comes before anybody was asked for again
        await scene.keys._resume(cast(Any, None))
    scene.table.open.clear()
    asking = [asyncio.create_task(scene.get(secret)) for secret in secrets]
    await asyncio.sleep(0)
    scene.table.open.set()
    assert len(await asyncio.gather(*asking)) == MOST * 2


async def test_while_nothing_is_heard_an_answer_counts_for_seconds(scene: Scene) -> None:
    secret = scene.table.add("key_1")
    await scene.get(secret)
    scene.hears = False
    await scene.get(secret)
    assert scene.table.asked == 1
    scene.table.rows.clear()
    scene.now += UNHEARD
    await scene.refuses(secret)


async def test_an_expired_key_is_refused_at_once(scene: Scene) -> None:
    secret = scene.table.add("key_1", expires_at=EPOCH + 10)
    await scene.get(secret)
    scene.now += 9.9
    await scene.get(secret)
    scene.now += 0.1
    await scene.refuses(secret)


async def test_without_a_database_a_known_key_works_for_minutes(scene: Scene) -> None:
    secret, other = scene.table.add("key_1"), scene.table.add("key_2")
    first = await scene.get(secret)
    scene.table.down, scene.hears = True, False
    scene.now += GRACE
    assert await scene.get(secret) is first
    asked = scene.table.asked
    assert await scene.get(secret) is first
    assert scene.table.asked == asked  # not every request asks
    with pytest.raises(Unavailable):
        await scene.get(other)
    scene.now += 1
    with pytest.raises(Unavailable):
        await scene.get(secret)
    scene.table.down = False
    await scene.get(secret)


async def test_a_database_that_is_down_makes_nobody_a_guesser(scene: Scene) -> None:
    secret = scene.table.add("key_1")
    scene.table.down = True
    for _ in range(MOST * 2):
        with pytest.raises(Unavailable):
            await scene.get(secret)
    scene.table.down = False
    await scene.get(secret)


async def test_a_known_key_expires_without_a_database_too(scene: Scene) -> None:
    secret = scene.table.add("key_1", expires_at=EPOCH + 10)
    await scene.get(secret)
    scene.table.down, scene.hears = True, False
    scene.now += 10
    await scene.refuses(secret)


async def test_memory_is_bounded(scene: Scene) -> None:
    first = scene.table.add("key_0")
    await scene.get(first)
    for n in range(1, 10_001):
        await scene.get(scene.table.add(f"key_{n}"))
        await scene.refuses(new_secret("sk_live").text, f"10.0.{n // 256}.{n % 256}")
    assert len(scene.keys._known) == len(scene.keys._digests) == len(scene.keys._unknown) == 10_000
    asked = scene.table.asked
    await scene.get(first)  # the one that was not used for longest was forgotten
    assert scene.table.asked == asked + 1
