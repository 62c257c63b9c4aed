"""Password hashes: slow ones of argon2id, compared without telling whether there was anything to compare with."""

import asyncio
import threading
from typing import Any

import pytest
from argon2 import PasswordHasher, extract_parameters

from services.auth.passwords import AT_ONCE, MOST, Passwords
from services.runtime.errors import Unavailable

FAST = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture
def passwords() -> Passwords:
    return Passwords(FAST)


async def test_a_password_fits_its_hash_and_no_other(passwords: Passwords) -> None:
    hashed = await passwords.hash("correct horse")
    assert await passwords.fits("correct horse", hashed)
    assert not await passwords.fits("correct horse ", hashed)
    assert not await passwords.fits("", hashed)


async def test_one_password_has_many_hashes(passwords: Passwords) -> None:
    assert await passwords.hash("correct horse") != await passwords.hash("correct horse")


async def test_a_password_counts_to_its_last_character(passwords: Passwords) -> None:
    hashed = await passwords.hash("x" * 1023 + "a")
    assert await passwords.fits("x" * 1023 + "a", hashed)
    assert not await passwords.fits("x" * 1023 + "b", hashed)


@pytest.mark.parametrize(("one", "two"), [("caf\u00e9", "cafe\u0301"), ("\uff41bc", "abc")])
async def test_one_text_is_one_password_however_it_is_encoded(passwords: Passwords, one: str, two: str) -> None:
    assert await passwords.fits(two, await passwords.hash(one))


@pytest.mark.parametrize("hashed", ["plain", "$argon2id$v=19$m=8,t=1,p=1$", "", "$2b$12$abcdefghijklmnopqrstuv"])
async def test_a_damaged_hash_fits_nothing(passwords: Passwords, hashed: str) -> None:
    assert not await passwords.fits("plain", hashed)


async def test_without_a_hash_nothing_fits_and_the_same_work_is_done() -> None:
    hasher = Counting()
    assert not await Passwords(hasher).fits("correct horse", None)
    (hashed,) = hasher.compared
    assert extract_parameters(hashed) == extract_parameters(hasher.hash("anything"))


async def test_a_hash_of_other_parameters_is_outdated(passwords: Passwords) -> None:
    stronger = Passwords(PasswordHasher(time_cost=2, memory_cost=8, parallelism=1))
    hashed = await passwords.hash("correct horse")
    assert (passwords.is_outdated(hashed), stronger.is_outdated(hashed)) == (False, True)


async def test_new_hashes_are_of_the_kind_that_rfc_9106_recommends() -> None:
    assert (await Passwords().hash("correct horse")).startswith("$argon2id$v=19$m=65536,t=3,p=4$")


async def test_only_some_are_computed_at_once_and_none_on_the_event_loop() -> None:
    hasher = Crowded()
    passwords = Passwords(hasher)
    await asyncio.gather(*(passwords.hash("correct horse") for _ in range(AT_ONCE * 4)))
    assert hasher.most == AT_ONCE
    assert threading.main_thread() not in hasher.threads


async def test_too_many_at_once_are_told_to_try_again_and_later_ones_are_served() -> None:
    hasher = Held()
    passwords = Passwords(hasher)
    queue = [asyncio.create_task(passwords.hash("correct horse")) for _ in range(MOST)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await passwords.fits("correct horse", None)
    assert refused.value.retry_after
    hasher.go.set()
    await asyncio.gather(*queue)
    assert not await passwords.fits("correct horse", None)


async def test_who_hangs_up_neither_adds_a_thread_nor_keeps_a_place() -> None:
    hasher = Held()
    passwords = Passwords(hasher)
    for _ in range(3):
        queue = [asyncio.create_task(passwords.hash("correct horse")) for _ in range(MOST)]
        await asyncio.sleep(0)
        for each in queue:
            each.cancel()
        assert len(await asyncio.gather(*queue, return_exceptions=True)) == MOST
    last = asyncio.create_task(passwords.hash("battery staple"))
    await asyncio.sleep(0)
    hasher.go.set()
    assert await passwords.fits("battery staple", await last)
    assert hasher.begun <= AT_ONCE + 1  # those that had begun, and the last


class Held(PasswordHasher):
    """Computes nothing before it is told to."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.go = threading.Event()
        self.begun = 0

    def hash(self, password: Any, *, salt: bytes | None = None) -> str:
        self.begun += 1
        self.go.wait(10)
        return super().hash(password, salt=salt)


class Counting(PasswordHasher):
    """Remembers what it compared with."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.compared: list[Any] = []

    def verify(self, hash: Any, password: Any) -> Any:
        self.compared.append(hash)
        return super().verify(hash, password)


class Crowded(PasswordHasher):
    """Counts how many are inside; each waits for a second one, so that they do meet."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.meet = threading.Barrier(AT_ONCE)
        self.lock = threading.Lock()
        self.inside = self.most = 0
        self.threads: set[threading.Thread] = set()

    def hash(self, password: Any, *, salt: bytes | None = None) -> str:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.threads.add(threading.current_thread())
        self.meet.wait(10)
        with self.lock:
            self.inside -= 1
        return super().hash(password, salt=salt)
