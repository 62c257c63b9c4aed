"""The door to argon2: passwords are kept as argon2id hashes, slow on purpose and therefore made in threads.

Everybody may ask for that work, so there is a bound to it: a few threads, which those who hang up do not multiply, and
a short queue. Beyond it the answer is "try again" at once, not a wait that grows with every stranger.
"""

from __future__ import annotations

import asyncio
import base64
import os
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from services.runtime.errors import Unavailable

AT_ONCE = 2  # each takes 64 MiB
MOST = 32  # in work or in the queue; those who come last wait for about two seconds

T = TypeVar("T")


class Passwords:
    """Hashes and compares, a few at once. Tests give a faster `hasher`. Every method that takes its time raises
    `Unavailable` when too many are waiting."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="argon2")
        self._asked = 0
        self._decoy = _decoy(self._hasher)

    async def hash(self, password: str) -> str:
        """What is stored of `password`: the hash with its salt and parameters."""
        return await self._turn(lambda: self._hasher.hash(_canonical(password)))

    async def fits(self, password: str, hashed: str | None) -> bool:
        """Whether `hashed` was made of `password`. Without a hash the answer is no, and takes as long."""
        return await self._turn(lambda: self._fits(_canonical(password), hashed))

    def is_outdated(self, hashed: str) -> bool:
        """Whether new hashes are made with other parameters than `hashed` was."""
        return self._hasher.check_needs_rehash(hashed)

    async def _turn(self, work: Callable[[], T]) -> T:
        """Do `work` in one of the threads. Whoever hangs up while queuing is not worked for."""
        if self._asked >= MOST:
            raise Unavailable("Too many passwords are being checked right now; try again shortly")
        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._asked -= 1

    def _fits(self, password: str, hashed: str | None) -> bool:
        try:
            return self._hasher.verify(hashed or self._decoy, password)
        except (VerificationError, InvalidHashError):
            return False


def _decoy(hasher: PasswordHasher) -> str:
    """A hash that no password fits, and that takes as long as any to find that out."""
    salt, digest = (base64.b64encode(os.urandom(size)).decode().rstrip("=") for size in (16, hasher.hash_len))
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${costs}${salt}${digest}"


def _canonical(password: str) -> str:
    """Keyboards write one character in different ways; NIST SP 800-63B asks to make them alike."""
    return unicodedata.normalize("NFKC", password)
