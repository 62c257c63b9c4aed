"""Encryption of what is stored: AES-256-GCM with a key per purpose, all derived from one secret of the installation.

The secret is DATA_SECRET, or a file in DATA_DIR that is made at first use. Without it what was sealed cannot be read.
"""

from __future__ import annotations

import os
import secrets
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.runtime.config import ConfigError, Settings

_FILE = "data.secret"
_NONCE = 12
_SHORTEST = 32  # bytes of a secret; the file has 64


class Unreadable(Exception):
    """What was to be opened was sealed with another secret or for another purpose, or was changed."""


class Vault:
    """Seals and opens. What is sealed for one purpose cannot be opened for another."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._cipher = lru_cache(maxsize=None)(self._derive)

    def seal(self, data: bytes, *, purpose: str, about: bytes = b"") -> bytes:
        """Encrypt `data`; it can be opened only with the same `purpose` and `about`, such as the key of its row."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher(purpose).encrypt(nonce, data, about)

    def open(self, sealed: bytes, *, purpose: str, about: bytes = b"") -> bytes:
        """What was sealed. Raises `Unreadable`."""
        try:
            return self._cipher(purpose).decrypt(sealed[:_NONCE], sealed[_NONCE:], about)
        except (InvalidTag, ValueError) as error:
            raise Unreadable(f"this cannot be opened for {purpose}") from error

    def key(self, purpose: str) -> bytes:
        """32 bytes to sign with for that purpose, the same in every process of the installation."""
        return HKDF(SHA256(), 32, salt=None, info=f"jan-server {purpose}".encode()).derive(self._secret)

    def _derive(self, purpose: str) -> AESGCM:
        return AESGCM(self.key(purpose))


def load(settings: Settings) -> Vault:
    """The vault of this installation. Raises `ConfigError` when its secret can be neither read nor made."""
    if settings.data_secret:
        return Vault(settings.data_secret.encode())
    path = settings.data_dir / "keys" / _FILE
    try:
        if not path.exists():
            _make(path)
        secret = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be used: {error.strerror}; set DATA_SECRET instead") from error
    if len(secret) < _SHORTEST:
        raise ConfigError(f"{path} was cut: bring it back from a backup, or delete it and what was sealed with it")
    return Vault(secret)


def _make(path: Path) -> None:
    """Several processes may do so at once: the first one's stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(scratch)
    except FileExistsError:
        pass
    finally:
        scratch.unlink()
