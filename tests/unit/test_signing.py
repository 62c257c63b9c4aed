"""Signing keys on disk: made once, published, rotated without a token ever failing."""

import os
import stat
from pathlib import Path

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from services.auth.signing import GENERATORS, LONGEST_LIFE, RETIRED_FOR, SETTLE, KeyRing
from services.runtime.config import ConfigError
from services.runtime.identity import JWKS

NOW = 1_760_000_000.0
ALGORITHMS = list(GENERATORS)


class Clock:
    """The ring's clock; files get their times from it, too, by `settle`."""

    now = NOW

    def __call__(self) -> float:
        return self.now


def ring(folder: Path, algorithm: str = "ES256", clock: Clock | None = None, given: Path | None = None) -> KeyRing:
    keys = KeyRing(folder, algorithm, clock=clock or Clock())
    keys.prepare(given)
    return keys


def date(folder: Path, kid: str, made_at: float) -> None:
    """Make a key as old as the scene needs it."""
    os.utime(folder / f"{kid}.pem", (made_at, made_at))


def published(folder: Path) -> list[str]:
    return [each["kid"] for each in orjson.loads((folder / JWKS).read_bytes())["keys"]]


def pem(private: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_first_start_makes_a_key_that_the_published_set_verifies(tmp_path: Path, algorithm: str) -> None:
    key = ring(tmp_path / "keys", algorithm).current
    (public,) = jwt.PyJWKSet.from_dict(orjson.loads((tmp_path / "keys" / JWKS).read_bytes())).keys
    token = jwt.encode({"sub": "u"}, key.private, algorithm=key.algorithm)
    assert jwt.decode(token, public, algorithms=[algorithm]) == {"sub": "u"}
    assert (public.key_id, public.algorithm_name) == (key.kid, algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nothing_private_is_published(tmp_path: Path, algorithm: str) -> None:
    (public,) = ring(tmp_path, algorithm).public()
    allowed = {"kty", "kid", "use", "alg", "crv", "x", "y", "n", "e"}
    assert set(public) <= allowed


def test_private_files_are_for_the_owner_only(tmp_path: Path) -> None:
    kid = ring(tmp_path / "keys").current.kid
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("keys", f"keys/{kid}.pem", f"keys/{JWKS}")]
    assert modes == [0o700, 0o600, 0o644]


def test_a_second_start_uses_the_same_key(tmp_path: Path) -> None:
    assert ring(tmp_path).current.kid == ring(tmp_path).current.kid


def test_a_new_key_is_published_before_it_signs(tmp_path: Path) -> None:
    clock = Clock()
    keys = ring(tmp_path, clock=clock)
    old = keys.current.kid
    date(tmp_path, old, NOW - 100)
    new = keys.rotate()
    date(tmp_path, new, NOW)
    keys.prepare()
    assert (published(tmp_path), keys.current.kid) == ([new, old], old)
    clock.now += SETTLE
    assert keys.current.kid == new


def test_a_rotation_by_another_process_is_seen(tmp_path: Path) -> None:
    clock = Clock()
    keys = ring(tmp_path, clock=clock)
    old = keys.current.kid
    date(tmp_path, old, NOW - 100)
    new = KeyRing(tmp_path, "ES256", clock=clock).rotate()
    assert [each["kid"] for each in keys.public()] == [new, old]


def test_keys_are_not_rotated_in_a_folder_that_no_server_uses(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/typo/keys does not exist: set DATA_DIR"):
        KeyRing(tmp_path / "typo" / "keys", "ES256").rotate()
    assert not (tmp_path / "typo").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_makes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    ring(tmp_path)
    os.chown(tmp_path, 12345, 54321)
    kid = KeyRing(tmp_path, "ES256").rotate()
    made = [(tmp_path / name).stat() for name in (f"{kid}.pem", JWKS)]
    assert [(each.st_uid, each.st_gid) for each in made] == [(12345, 54321)] * 2


def test_a_retired_key_is_listed_until_its_last_token_has_expired(tmp_path: Path) -> None:
    clock = Clock()
    keys = ring(tmp_path, clock=clock)
    first = keys.current.kid
    date(tmp_path, first, NOW - 30 * 24 * 3600)
    second = keys.rotate()
    date(tmp_path, second, NOW - 60)  # until a minute ago the first one signed
    third = keys.rotate()
    date(tmp_path, third, NOW)
    assert set(published(tmp_path)) == {first, second, third}
    clock.now += RETIRED_FOR
    fourth = keys.rotate()
    assert set(published(tmp_path)) == {second, third, fourth}


def test_keys_that_are_rotated_every_day_stay_listed_for_the_longest_life_of_a_token(tmp_path: Path) -> None:
    clock = Clock()
    keys = ring(tmp_path, clock=clock)
    first = keys.current.kid
    date(tmp_path, first, NOW)
    for _ in range(3):
        clock.now += 24 * 3600
        date(tmp_path, keys.rotate(), clock.now)
    clock.now = NOW + LONGEST_LIFE
    keys.rotate()
    assert first in published(tmp_path)


def test_a_key_that_leaked_is_not_believed_any_more_once_its_file_is_gone(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    leaked = keys.current.kid
    (tmp_path / f"{leaked}.pem").unlink()
    new = KeyRing(tmp_path, "ES256").rotate()
    assert (published(tmp_path), keys.current.kid) == ([new], new)


def test_another_algorithm_makes_a_new_key_and_keeps_the_old_one_listed(tmp_path: Path) -> None:
    old = ring(tmp_path, "ES256").current.kid
    date(tmp_path, old, NOW - 100)
    keys = ring(tmp_path, "EdDSA")
    assert [each["alg"] for each in keys.public()] == ["EdDSA", "ES256"]


def test_a_given_key_is_used_alone(tmp_path: Path) -> None:
    ring(tmp_path / "keys")
    given = tmp_path / "signing.pem"
    given.write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    keys = ring(tmp_path / "keys", given=given)
    ring(tmp_path / "keys", given=given)  # another process publishes the same set
    os.utime(tmp_path / "keys" / JWKS, (NOW, NOW))
    assert (keys.current.kid, [each["kid"] for each in keys.public()]) == ("signing", ["signing"])


BAD_KEYS = {
    "no key": b"hello",
    "a public key": ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "a key with a password": pem(ec.generate_private_key(ec.SECP256R1()), b"secret"),
    "another curve": pem(ec.generate_private_key(ec.SECP384R1())),
}


@pytest.mark.parametrize("content", BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_a_key_that_cannot_be_used_stops_the_start_by_name(tmp_path: Path, content: bytes) -> None:
    given = tmp_path / "signing.pem"
    given.write_bytes(content)
    with pytest.raises(ConfigError, match=r"signing\.pem"):
        ring(tmp_path / "keys", given=given)


def test_a_given_key_that_is_missing_stops_the_start_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.pem"):
        ring(tmp_path / "keys", given=tmp_path / "none.pem")
