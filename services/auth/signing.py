"""Signing keys: private PEM files in one folder, and beside them the public key set that everyone verifies with.

    DATA_DIR/keys/<kid>.pem    private, mode 0600; the newest signs
    DATA_DIR/keys/jwks.json    public, replaced atomically; read by every service and served by the gateway

Rotation is adding a file: `rotate` makes the new key known first, and it signs `SETTLE` seconds later, when every
verifier has read it. A retired key stays listed until the last token it signed has expired.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from services.runtime import ids
from services.runtime.config import ConfigError
from services.runtime.identity import JWKS

SETTLE = 5.0
LONGEST_LIFE = 366 * 24 * 3600.0  # of a token: no other may be asked for
RETIRED_FOR = LONGEST_LIFE + 24 * 3600.0

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

GENERATORS: dict[str, Callable[[], PrivateKey]] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


@dataclass(frozen=True)
class SigningKey:
    """A private key with its id, algorithm and time of making."""

    kid: str
    algorithm: str
    private: PrivateKey
    made_at: float

    def public_jwk(self) -> dict[str, Any]:
        """The public half as a JSON Web Key."""
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        jwk = algorithm.to_jwk(self.private.public_key(), as_dict=True)
        jwk.pop("key_ops", None)
        return {**jwk, "kid": self.kid, "use": "sig", "alg": self.algorithm}


class KeyRing:
    """The signing keys of an installation. `current` signs; `public` is what verifiers may trust."""

    def __init__(self, folder: Path, algorithm: str, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._algorithm = algorithm
        self._clock = clock
        self._modified = 0.0
        self._keys: list[SigningKey] = []
        self._given: Path | None = None

    def prepare(self, given: Path | None = None) -> None:
        """Make the folder and a first key, or use the `given` PEM file alone, and publish the key set."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._given = given
        self._keys = self._read()
        if given is None and (not self._keys or self._keys[0].algorithm != self._algorithm):
            self._make()
        self._publish()

    def join(self, given: Path | None = None) -> None:
        """Use the keys of the server that has the folder, or the `given` one, and change nothing. Raises `ConfigError`
        when that server would not believe what they sign."""
        self._given = given
        try:
            published = {key["kid"] for key in orjson.loads((self._folder / JWKS).read_bytes())["keys"]}
        except OSError as error:
            raise ConfigError(
                f"there are no keys in {self._folder}: set DATA_DIR to that of the server, and start it once"
            ) from error
        self._keys = self._read()
        if not {key.kid for key in self._keys} & published:
            raise ConfigError(f"the signing key is none of {self._folder / JWKS}: set AUTH_SIGNING_KEY_FILE as there")

    def rotate(self) -> str:
        """Add a key, drop those long retired, publish, and return the new key's id. Raises `ConfigError` without a
        folder: keys made elsewhere would never be used."""
        if not self._folder.is_dir():
            raise ConfigError(f"{self._folder} does not exist: set DATA_DIR to that of the server whose keys to rotate")
        for successor, retired in pairwise(self._read()):
            if successor.made_at < self._clock() - RETIRED_FOR:  # when it came, the other one retired
                (self._folder / f"{retired.kid}.pem").unlink()
        kid = self._make()
        self._publish()
        return kid

    @property
    def current(self) -> SigningKey:
        """The key to sign with: the newest that every verifier has had time to read."""
        self._refresh()
        settled = [key for key in self._keys if key.made_at <= self._clock() - SETTLE]
        return settled[0] if settled else self._keys[-1]

    def public(self) -> list[dict[str, Any]]:
        """The key set, the newest first."""
        self._refresh()
        return [key.public_jwk() for key in self._keys]

    def _refresh(self) -> None:
        """Another process may have rotated: the published set changes whenever the keys do."""
        modified = (self._folder / JWKS).stat().st_mtime
        if modified != self._modified:
            self._keys = self._read() or self._keys
            self._modified = modified

    def _make(self) -> str:
        kid = ids.new_id("sig")
        pem = GENERATORS[self._algorithm]().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _replace(self._folder / f"{kid}.pem", pem, mode=0o600)
        self._keys = self._read()
        return kid

    def _read(self) -> list[SigningKey]:
        if self._given is not None:
            return [_load(self._given)]
        keys = [_load(path) for path in self._folder.glob("*.pem")]
        return sorted(keys, key=lambda key: (key.made_at, key.kid), reverse=True)

    def _publish(self) -> None:
        _replace(self._folder / JWKS, orjson.dumps({"keys": [key.public_jwk() for key in self._keys]}), mode=0o644)
        self._modified = (self._folder / JWKS).stat().st_mtime


def _load(path: Path) -> SigningKey:
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} is not a readable PEM private key without password: {error}") from error
    if isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, ec.SECP256R1):
        return SigningKey(path.stem, "ES256", private, path.stat().st_mtime)
    if isinstance(private, rsa.RSAPrivateKey):
        return SigningKey(path.stem, "RS256", private, path.stat().st_mtime)
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return SigningKey(path.stem, "EdDSA", private, path.stat().st_mtime)
    raise ConfigError(f"{path} must hold a P-256, RSA or Ed25519 key")


def _replace(path: Path, content: bytes, *, mode: int) -> None:
    scratch = path.with_suffix(".new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        if os.geteuid() == 0:  # an operator at work in the folder of a server that is not root
            folder = path.parent.stat()
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
