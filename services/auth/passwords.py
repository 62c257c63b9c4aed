"""The door to argon2: passwords are kept as argon2id hashes, slow on purpose and therefore made in threads."""

from __future__ import annotations

import asyncio
import base64
import os
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

AT_ONCE = 2  # each takes 64 MiB


class Passwords:
    """Hashes and compares, a few at once. Tests give a faster `hasher`."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._decoy = _decoy(self._hasher)

    async def hash(self, password: str) -> str:
        """What is stored of `password`: the hash with its salt and parameters."""
        async with self._turn:
            return await asyncio.to_thread(self._hasher.hash, _canonical(password))

    async def fits(self, password: str, hashed: str | None) -> bool:
        """Whether `hashed` was made of `password`. Without a hash the answer is no, and takes as long."""
        async with self._turn:
            return await asyncio.to_thread(self._fits, _canonical(password), hashed)

    def is_outdated(self, hashed: str) -> bool:
        """Whether new hashes are made with other parameters than `hashed` was."""
        return self._hasher.check_needs_rehash(hashed)

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
