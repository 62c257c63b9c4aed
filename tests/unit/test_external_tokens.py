"""Access tokens of the external provider: who they stand for here, and which are refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.auth.signing import KeyRing
from services.auth.tokens import TokenIssuer
from services.runtime.errors import Unauthenticated
from services.runtime.identity import (
    JWKS,
    External,
    Identity,
    KeyFile,
    Provider,
    TokenVerifier,
    external_user_id,
    roles_at,
)
from tests.fake_provider import CLIENT_ID, ISSUER, MAKERS, ProviderKey

PROVIDER = Provider(issuer=ISSUER, audience=CLIENT_ID, roles_claim="realm_access.roles", admin_role="jan-admin")
OURS, SKEW = "https://jan.test", 60.0


class House:
    """Our keys and the provider's, and a verifier that reads both."""

    def __init__(self, folder: Path) -> None:
        self.ours = KeyRing(folder, "ES256")
        self.ours.prepare()
        self.folder = folder
        self.now = time.time()
        self.external = folder / "external.json"
        self.verifier = TokenVerifier(
            KeyFile(folder / JWKS),
            issuer=OURS,
            audience="jan-server",
            skew=SKEW,
            external=(PROVIDER, KeyFile(self.external)),
            clock=lambda: self.now,
        )

    def publish(self, *jwks: dict[str, Any]) -> None:
        self.external.write_bytes(orjson.dumps({"issuer": ISSUER, "keys": jwks}))


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def key(house: House) -> ProviderKey:
    key = ProviderKey()
    house.publish(key.jwk())
    return key


def refused(house: House, token: str) -> str:
    with pytest.raises(Unauthenticated) as error:
        house.verifier.verify(token)
    return error.value.code


def test_an_external_person_is_an_account_of_ours(house: House, key: ProviderKey) -> None:
    expires = int(time.time()) + 300
    token = key.sign(preferred_username="al", email="alice@id.test", name="Alice A", exp=expires, jti="1", sid="2")
    assert house.verifier.verify(token) == Identity(
        user_id=external_user_id(ISSUER, "alice"),
        username="al",
        roles=("user",),
        is_guest=False,
        auth_method="jwt",
        scopes=("read", "write"),
        expires_at=expires,
        token=token,
        token_id=hashlib.sha256(f"{ISSUER}\n1".encode()).hexdigest(),
        external=External(ISSUER, "alice", "alice@id.test", "Alice A"),
    )


def test_the_account_depends_on_issuer_and_subject_only() -> None:
    ids = {
        external_user_id(issuer, subject)
        for issuer, subject in [("https://a", "1"), ("https://a", "2"), ("https://b", "1"), ("https://a1", "")]
    }
    assert len(ids) == 4
    assert external_user_id("https://a", "1") == external_user_id("https://a", "1")
    assert all(each.startswith("usr_") and each[4:].isalnum() and each.islower() and len(each) == 30 for each in ids)


@pytest.mark.parametrize("algorithm", MAKERS)
@pytest.mark.parametrize("told", [True, False], ids=["with alg", "without alg"])
def test_every_public_key_algorithm_is_believed(house: House, algorithm: str, told: bool) -> None:
    key = ProviderKey(algorithm)
    house.publish(key.jwk() if told else key.jwk(alg=None, use=None))
    assert house.verifier.verify(key.sign()).external


def test_a_key_does_not_sign_with_another_algorithm_than_it_says(house: House) -> None:
    key = ProviderKey("RS256")
    house.publish(key.jwk(alg="PS256"))
    assert refused(house, key.sign()) == "unauthorized"


@pytest.mark.parametrize(
    ("claims", "roles"),
    [
        ({"realm_access": {"roles": ["jan-admin", "other"]}}, ("user", "admin")),
        ({"realm_access": {"roles": "jan-admin"}}, ("user", "admin")),
        ({"realm_access": {"roles": ["admin"]}}, ("user",)),
        ({"realm_access": {"roles": []}}, ("user",)),
        ({"realm_access": {"roles": [["jan-admin"], None, 5]}}, ("user",)),
        ({"realm_access": ["jan-admin"]}, ("user",)),
        ({"realm_access": None}, ("user",)),
        ({"realm_access.roles": ["jan-admin"]}, ("user",)),
        ({"roles": ["admin", "jan-admin"]}, ("user",)),
        ({}, ("user",)),
    ],
)
def test_only_the_configured_role_in_the_configured_claim_makes_an_administrator(
    house: House, key: ProviderKey, claims: dict[str, Any], roles: tuple[str, ...]
) -> None:
    assert house.verifier.verify(key.sign(**claims)).roles == roles


def test_claims_that_only_we_may_make_have_no_effect(house: House, key: ProviderKey) -> None:
    caller = house.verifier.verify(
        key.sign(auth_method="api_key", scopes=["admin"], guest=True, roles=["admin"], user_id="usr_1", sid="ses_1")
    )
    assert (caller.auth_method, caller.scopes, caller.is_guest, caller.is_admin) == (
        "jwt", ("read", "write"), False, False,
    )  # fmt: skip
    assert (caller.user_id, caller.session_id) == (external_user_id(ISSUER, "alice"), "")


def test_no_id_of_an_external_token_is_one_of_ours_or_long(house: House, key: ProviderKey) -> None:
    ids = {house.verifier.verify(key.sign(jti=jti)).token_id for jti in ("tok_ours", "x" * 4000, None, "")}
    assert len(ids) == 4
    assert all(len(each) == 64 for each in ids)


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"preferred_username": "al", "email": "a@id.test"}, "al"),
        ({"email": "a@id.test"}, "a@id.test"),
        ({"email": "a@id.test", "email_verified": False}, "alice"),
        ({"preferred_username": "a\x00l\n\ud800", "email": "a@id.test"}, "al"),
        ({"preferred_username": "x" * 1000}, "x" * 254),
        ({}, "alice"),
    ],
)
def test_a_person_has_the_best_name_that_is_known(
    house: House, key: ProviderKey, claims: dict[str, Any], name: str
) -> None:
    assert house.verifier.verify(key.sign(**claims)).username == name


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"}, {"aud": None}, {"aud": []}, {"aud": "jan-server"}, {"iss": "https://evil.test"},
        {"iss": f"{ISSUER}/"}, {"iss": None}, {"sub": None}, {"sub": ""}, {"sub": 5}, {"sub": "a\x00"}, {"sub": "a\n"},
        {"sub": "x" * 256}, {"sub": "\ud800"}, {"exp": None},
        {"exp": "tomorrow"}, {"nbf": 4_000_000_000}, {"at_hash": "x"}, {"c_hash": "x"}, {"events": {}}, {"typ": "ID"},
    ],
    ids=str,
)  # fmt: skip
def test_an_external_token_with_a_wrong_claim_is_refused(
    house: House, key: ProviderKey, claims: dict[str, Any]
) -> None:
    assert refused(house, key.sign(**claims)) == "unauthorized"


def test_one_audience_among_several_is_enough(house: House, key: ProviderKey) -> None:
    assert house.verifier.verify(key.sign(aud=["account", CLIENT_ID]))


def test_an_external_token_expires_and_clocks_may_differ_by_the_skew(house: House, key: ProviderKey) -> None:
    now = int(time.time())
    assert house.verifier.verify(key.sign(exp=now - SKEW + 10, nbf=now + SKEW - 10))
    assert refused(house, key.sign(exp=now - SKEW - 1)) == "token_expired"


def test_an_external_token_that_was_good_expires_all_the_same(house: House, key: ProviderKey) -> None:
    token = key.sign()
    house.verifier.verify(token)
    house.now += 300 + SKEW + 1
    assert refused(house, token) == "token_expired"


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode()


@pytest.mark.parametrize("name", ["none", "None", "nOnE"])
def test_an_external_token_without_signature_is_refused(house: House, key: ProviderKey, name: str) -> None:
    _, claims, signature = key.sign().split(".")
    head = part({"alg": name, "kid": key.kid})
    assert refused(house, f"{head}.{claims}.") == "unauthorized"
    assert refused(house, f"{head}.{claims}.{signature}") == "unauthorized"


def test_the_providers_public_key_is_not_taken_for_a_shared_secret(house: House, key: ProviderKey) -> None:
    secret = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{part({'alg': 'HS256', 'kid': key.kid})}.{key.sign().split('.')[1]}"
    signature = base64.urlsafe_b64encode(hmac.digest(secret, signed.encode(), hashlib.sha256)).rstrip(b"=").decode()
    assert refused(house, f"{signed}.{signature}") == "unauthorized"


def test_a_shared_secret_in_the_key_file_is_not_used(house: House) -> None:
    secret = b"x" * 64
    house.publish({"kty": "oct", "kid": "shared", "alg": "HS256", "k": base64.urlsafe_b64encode(secret).decode()})
    claims = jwt.decode(ProviderKey().sign(), options={"verify_signature": False})
    assert refused(house, jwt.encode(claims, secret, "HS256", {"kid": "shared"})) == "unauthorized"


def test_the_provider_cannot_sign_tokens_of_ours(house: House, key: ProviderKey) -> None:
    assert refused(house, key.sign(iss=OURS, aud="jan-server", roles=["admin"])) == "unauthorized"


def test_our_key_cannot_sign_tokens_of_the_provider(house: House, key: ProviderKey) -> None:
    claims = jwt.decode(key.sign(), options={"verify_signature": False})
    current = house.ours.current
    assert refused(house, jwt.encode(claims, current.private, "ES256", {"kid": current.kid})) == "unauthorized"


def test_a_key_id_of_ours_at_the_provider_changes_nothing(house: House) -> None:
    key = ProviderKey(kid=house.ours.current.kid)
    house.publish(key.jwk())
    assert refused(house, key.sign(iss=OURS, aud="jan-server")) == "unauthorized"
    assert house.verifier.verify(key.sign()).external


def test_our_own_tokens_are_believed_beside_the_providers(house: House, key: ProviderKey) -> None:
    issuer = TokenIssuer(house.ours, issuer=OURS, audience="jan-server")
    token = issuer.access_token({"id": "usr_1", "username": "u", "is_guest": False, "roles": ["user"]}, "ses_1").text
    assert house.verifier.verify(token).external is None
    assert house.verifier.verify(key.sign()).external is not None


def test_keys_of_the_provider_are_used_as_soon_as_the_file_has_them_and_no_longer(house: House) -> None:
    old, new = ProviderKey(kid="old"), ProviderKey(kid="new")
    house.publish(old.jwk())
    assert refused(house, new.sign()) == "unauthorized"
    house.publish(new.jwk())
    assert house.verifier.verify(new.sign())
    assert refused(house, old.sign(jti="not remembered")) == "unauthorized"


@pytest.mark.parametrize("damaged", [{}, {"kty": "RSA"}, {"kty": "EC", "crv": "P-256", "x": "!", "y": "!"}, "key", 5])
def test_a_damaged_key_does_not_take_the_others_with_it(house: House, damaged: Any) -> None:
    key = ProviderKey()
    if isinstance(damaged, dict):
        house.publish({**damaged, "kid": "damaged"}, key.jwk())
        assert house.verifier.verify(key.sign())
    else:
        house.publish(key.jwk())
        assert house.verifier.verify(key.sign())
        house.publish(damaged, key.jwk(), key.jwk(kid="more"))
        assert house.verifier.verify(key.sign(jti="another"))


def test_without_a_provider_its_tokens_are_refused(tmp_path: Path, house: House, key: ProviderKey) -> None:
    alone = TokenVerifier(KeyFile(house.folder / JWKS), issuer=OURS, audience="jan-server", skew=SKEW)
    with pytest.raises(Unauthenticated):
        alone.verify(key.sign())


def test_roles_are_found_at_a_dotted_path() -> None:
    claims = {"a": {"b": ["x"], "c": "y"}, "d": ["z"]}
    assert [roles_at(claims, path) for path in ("a.b", "a.c", "d", "a.e", "d.e", "e")] == [
        ["x"], ["y"], ["z"], None, None, None,
    ]  # fmt: skip
