"""Grants: believed by every room of the installation, by nobody outside, for seconds."""

import time
from pathlib import Path

import jwt
import pytest

from services.auth.signing import KeyRing
from services.runtime.errors import Unauthenticated
from services.runtime.grants import ISSUER, LIFE, Grants
from services.runtime.identity import KeyFile, TokenVerifier

SECRET = b"s" * 32


def verifier(folder: Path, grants: Grants | None) -> TokenVerifier:
    keys = KeyRing(folder, "ES256")
    keys.prepare()
    return TokenVerifier(KeyFile(folder / "jwks.json"), issuer="i", audience="a", skew=0, grants=grants)


def test_a_grant_acts_for_the_user_and_is_no_administrator(tmp_path: Path) -> None:
    grants = Grants(SECRET)
    caller = verifier(tmp_path, grants).verify(grants.act_for("usr_1"))
    assert (caller.user_id, caller.roles, caller.scopes) == ("usr_1", ("user",), ("read", "write"))
    assert not caller.is_admin
    assert not caller.is_guest


def test_a_grant_ends_after_its_life(tmp_path: Path) -> None:
    old = Grants(SECRET, lambda: time.time() - LIFE - 1).act_for("usr_1")
    with pytest.raises(Unauthenticated) as refused:
        verifier(tmp_path, Grants(SECRET)).verify(old)
    assert refused.value.code == "token_expired"


@pytest.mark.parametrize(
    "forged",
    [
        Grants(b"x" * 32).act_for("usr_1"),
        jwt.encode({"iss": ISSUER, "aud": ISSUER, "sub": "usr_1"}, SECRET, algorithm="HS256"),
        jwt.encode({"iss": ISSUER, "sub": "usr_1"}, "", algorithm="none"),
    ],
    ids=["another secret", "without an end", "without a signature"],
)
def test_what_we_have_not_granted_opens_nothing(tmp_path: Path, forged: str) -> None:
    with pytest.raises(Unauthenticated):
        verifier(tmp_path, Grants(SECRET)).verify(forged)


def test_who_has_no_secret_believes_no_grant(tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated):
        verifier(tmp_path, None).verify(Grants(SECRET).act_for("usr_1"))


def test_an_access_token_of_ours_signed_with_the_secret_of_grants_is_none(tmp_path: Path) -> None:
    claims = {"iss": "i", "aud": "a", "sub": "usr_1", "iat": 1, "exp": 2**31, "roles": ["admin"]}
    forged = jwt.encode(claims, SECRET, algorithm="HS256")
    with pytest.raises(Unauthenticated):
        verifier(tmp_path, Grants(SECRET)).verify(forged)
