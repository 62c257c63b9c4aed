"""Access tokens: ours are believed until they expire, and nothing else is."""

import base64
import hashlib
import hmac
import os
import time
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.auth.signing import KeyRing
from services.auth.tokens import KEY_TTL, TokenIssuer, digest, new_refresh_token
from services.runtime.errors import Unauthenticated
from services.runtime.identity import CACHED_TOKENS, JWKS, LONGEST_TOKEN, Identity, KeyFile, TokenVerifier
from services.runtime.limits import Limit

ISSUER, AUDIENCE, SKEW = "https://jan.test", "jan-server", 60.0
GUEST = {"id": "usr_1", "username": "guest-1", "is_guest": True, "roles": ["guest"]}
ACCOUNT = {"id": "usr_2", "username": "ada", "is_guest": False, "roles": ["user"]}


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class House:
    """Keys, an issuer and a verifier that reads what the keys publish."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.keys = KeyRing(folder, "ES256")
        self.keys.prepare()
        self.issuer = TokenIssuer(self.keys, issuer=ISSUER, audience=AUDIENCE, ttl=3600.0, clock=self.clock)
        self.denied: set[str] = set()
        self.denied_calls: list[tuple[str, str]] = []
        self.verifier = TokenVerifier(
            KeyFile(folder / JWKS),
            issuer=ISSUER,
            audience=AUDIENCE,
            skew=SKEW,
            denies=self._denies,
            clock=self.clock,
        )

    def _denies(self, token_id: str, session_id: str) -> bool:
        self.denied_calls.append((token_id, session_id))
        return not self.denied.isdisjoint((token_id, session_id))

    def token(self, *, without: str = "", headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token signed by the current key, with those claims changed."""
        now = int(self.clock.now)
        all_claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "usr_1", "iat": now, "exp": now + 300, **claims}
        all_claims.pop(without, None)
        key = self.keys.current
        return jwt.encode(all_claims, key.private, algorithm="ES256", headers={"kid": key.kid, **(headers or {})})


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def refused(house: House, token: str) -> str:
    with pytest.raises(Unauthenticated) as error:
        house.verifier.verify(token)
    return error.value.code


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode()


def test_our_own_token_names_its_principal(house: House) -> None:
    token = house.issuer.access_token(GUEST, "ses_1").text
    claims = jwt.decode(token, options={"verify_signature": False})
    assert house.verifier.verify(token) == Identity(
        user_id="usr_1",
        username="guest-1",
        roles=("guest",),
        is_guest=True,
        auth_method="jwt",
        scopes=("read", "write"),
        expires_at=int(house.clock.now) + 300,
        token=token,
        token_id=claims["jti"],
        session_id="ses_1",
    )


def test_our_own_token_has_the_claims_of_the_contract(house: House) -> None:
    access = house.issuer.access_token(GUEST, "ses_1", ttl=300)
    now = int(house.clock.now)
    claims = jwt.decode(access.text, options={"verify_signature": False})
    assert claims.pop("jti").startswith("tok_")
    assert (access.expires_in, claims) == (
        300,
        {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "usr_1",
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "sid": "ses_1",
            "preferred_username": "guest-1",
            "guest": True,
            "roles": ["guest"],
        },
    )


def test_an_administrator_has_every_scope(house: House) -> None:
    caller = house.verifier.verify(house.token(roles=["user", "admin"]))
    assert (caller.is_admin, caller.scopes) == (True, ("read", "write", "admin"))


def test_a_token_of_an_api_key_keeps_to_its_scopes(house: House) -> None:
    caller = house.verifier.verify(house.token(auth_method="api_key", scopes=["read"], roles=["admin"]))
    assert (caller.auth_method, caller.scopes) == ("api_key", ("read",))


def test_a_token_of_an_api_key_without_any_scope_may_do_nothing(house: House) -> None:
    assert house.verifier.verify(house.token(auth_method="api_key", scopes=[], roles=["user"])).scopes == ()


def test_what_a_key_is_exchanged_for_names_the_key_its_scopes_and_its_limit(house: House) -> None:
    token = house.issuer.key_token(ACCOUNT, "key_1", ["write"], Limit(60))
    caller = house.verifier.verify(token)
    assert (caller.user_id, caller.session_id, caller.auth_method, caller.scopes) == (
        "usr_2",
        "key_1",
        "api_key",
        ("write",),
    )
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == KEY_TTL
    assert claims["limit"] == {"requests_per_unit": 60, "unit": "MINUTE"}


def test_guests_have_short_tokens_and_others_those_of_the_settings(house: House) -> None:
    lives = [house.issuer.access_token(user, "ses_1").expires_in for user in (GUEST, ACCOUNT)]
    assert (lives, house.issuer.longest) == ([300, 3600], 3600)
    assert house.issuer.access_token(ACCOUNT, "ses_1", ttl=7).expires_in == 7


def test_a_token_without_an_id_is_known_by_its_digest(house: House) -> None:
    token = house.token()
    assert house.verifier.verify(token).token_id == hashlib.sha256(token.encode()).hexdigest()


def test_a_token_is_not_shown_when_an_identity_is_printed(house: House) -> None:
    token = house.token()
    assert token not in repr(house.verifier.verify(token))


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://evil.test"},
        {"aud": "another-server"},
        {"aud": []},
        {"without": "iss"},
        {"without": "aud"},
        {"without": "sub"},
        {"without": "exp"},
        {"without": "iat"},
        {"sub": ""},
        {"sub": 5},
        {"exp": "tomorrow"},
        {"exp": float("inf")},
        {"nbf": 4_000_000_000},
        {"iat": 4_000_000_000},
        {"roles": 5},
        {"scopes": 5},
        {"headers": {"kid": "another"}},
        {"headers": {"kid": "../../etc/passwd"}},
    ],
    ids=str,
)
def test_a_token_with_a_wrong_claim_is_refused(house: House, change: dict[str, Any]) -> None:
    assert refused(house, house.token(**change)) == "unauthorized"


def test_clocks_may_differ_by_the_skew(house: House) -> None:
    now = int(house.clock.now)
    assert house.verifier.verify(house.token(exp=now - SKEW + 5, iat=now + SKEW - 5, nbf=now + SKEW - 5))


def test_an_expired_token_says_so(house: House) -> None:
    assert refused(house, house.token(exp=int(house.clock.now) - SKEW - 1)) == "token_expired"


def test_a_token_that_was_good_expires_all_the_same(house: House) -> None:
    token = house.token()
    house.verifier.verify(token)
    house.clock.now += 300 + SKEW - 2
    house.verifier.verify(token)
    house.clock.now += 3
    assert refused(house, token) == "token_expired"


def test_a_good_token_is_verified_once(house: House) -> None:
    token = house.token()
    assert house.verifier.verify(token) is house.verifier.verify(token)


def test_a_refused_token_is_not_remembered(house: House) -> None:
    token = house.token(headers={"kid": "later"})
    refused(house, token)
    (house.folder / "later.pem").write_bytes((house.folder / f"{house.keys.current.kid}.pem").read_bytes())
    KeyRing(house.folder, "ES256").prepare()
    assert house.verifier.verify(token).user_id == "usr_1"


def test_remembering_has_a_limit(house: House) -> None:
    identity = house.verifier.verify(house.token())
    house.verifier._known = {str(number): identity for number in range(CACHED_TOKENS)}
    house.verifier.verify(house.token(jti="another"))
    assert len(house.verifier._known) == 1


def test_a_token_of_a_new_key_is_believed_and_those_of_the_old_one_still_are(house: House) -> None:
    old = house.token()
    kid = KeyRing(house.folder, "ES256").rotate()
    past = time.time() - 60
    os.utime(house.folder / f"{kid}.pem", (past + 30, past + 30))
    for pem in house.folder.glob("*.pem"):
        if pem.stem != kid:
            os.utime(pem, (past, past))
    house.keys.prepare()
    new = house.token()
    assert jwt.get_unverified_header(new)["kid"] == kid
    assert [house.verifier.verify(token).user_id for token in (new, old)] == ["usr_1", "usr_1"]


# Revocation


@pytest.mark.parametrize("subject", ["tok_1", "ses_1"])
def test_a_revoked_token_is_refused_although_it_was_good_before(house: House, subject: str) -> None:
    token = house.token(jti="tok_1", sid="ses_1")
    house.verifier.verify(token)
    house.denied.add(subject)
    assert refused(house, token) == "unauthorized"
    assert refused(house, house.token(jti="tok_1", sid="ses_1", another="token of both")) == "unauthorized"


def test_other_tokens_and_sessions_are_not_touched_by_a_revocation(house: House) -> None:
    house.denied |= {"tok_1", "ses_1"}
    assert house.verifier.verify(house.token(jti="tok_2", sid="ses_2"))
    assert house.verifier.verify(house.token())


def test_a_forged_token_is_refused_before_anybody_asks_whether_it_is_revoked(house: House) -> None:
    house.denied_calls.clear()
    refused(house, f"{house.token()}x")
    assert house.denied_calls == []


# Forgeries


def test_a_token_signed_by_somebody_else_is_refused(house: House) -> None:
    claims = jwt.decode(house.token(), options={"verify_signature": False})
    stranger = ec.generate_private_key(ec.SECP256R1())
    assert refused(house, jwt.encode(claims, stranger, "ES256", {"kid": house.keys.current.kid})) == "unauthorized"


def test_a_token_with_other_claims_under_a_good_signature_is_refused(house: House) -> None:
    head, _, signature = house.token().split(".")
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "usr_admin", "iat": 0, "exp": 4e9, "roles": ["admin"]}
    assert refused(house, f"{head}.{part(claims)}.{signature}") == "unauthorized"


@pytest.mark.parametrize("name", ["none", "None", "nOnE"])
def test_a_token_without_signature_is_refused(house: House, name: str) -> None:
    claims = jwt.decode(house.token(), options={"verify_signature": False})
    head = part({"alg": name, "kid": house.keys.current.kid})
    for signature in ("", house.token().split(".")[2]):
        assert refused(house, f"{head}.{part(claims)}.{signature}") == "unauthorized"


def test_a_public_key_is_not_taken_for_a_shared_secret(house: House) -> None:
    public = house.keys.current.private.public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = jwt.decode(house.token(), options={"verify_signature": False})
    signed = f"{part({'alg': 'HS256', 'kid': house.keys.current.kid})}.{part(claims)}"
    signature = base64.urlsafe_b64encode(hmac.digest(secret, signed.encode(), hashlib.sha256)).rstrip(b"=").decode()
    assert refused(house, f"{signed}.{signature}") == "unauthorized"


def test_a_key_that_comes_with_the_token_is_not_used(house: House) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    jwk = jwt.get_algorithm_by_name("ES256").to_jwk(stranger.public_key(), as_dict=True)
    claims = jwt.decode(house.token(), options={"verify_signature": False})
    headers = {"jwk": jwk, "jku": "https://evil.test/jwks.json", "kid": "evil"}
    assert refused(house, jwt.encode(claims, stranger, "ES256", headers)) == "unauthorized"


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "a.b.c", "Bearer", "ééé", "\udcff", "sk_live_0123", "a" * (LONGEST_TOKEN + 1), "e30.e30.e30"],
    ids=range(10),
)
def test_what_is_no_token_is_refused(house: House, token: str) -> None:
    assert refused(house, token) == "unauthorized"


@pytest.mark.parametrize(
    "header", [{"alg": "ES256", "kid": 5}, {"alg": "ES256", "kid": ["x"]}, {"alg": "ES256"}, [], 5]
)
def test_an_odd_header_is_refused(house: House, header: Any) -> None:
    assert refused(house, f"{part(header)}.{part({})}.AAAA") == "unauthorized"


def test_a_huge_token_is_refused_before_anything_is_computed(house: House) -> None:
    assert refused(house, house.token(padding="x" * LONGEST_TOKEN)) == "unauthorized"


# The key file


async def test_without_keys_nothing_is_ready_and_every_token_refused(tmp_path: Path, house: House) -> None:
    nowhere = TokenVerifier(KeyFile(tmp_path / "none.json"), issuer=ISSUER, audience=AUDIENCE, skew=SKEW)
    assert not await nowhere.ready()
    with pytest.raises(Unauthenticated):
        nowhere.verify(house.token())


async def test_keys_that_come_later_are_found(tmp_path: Path, house: House) -> None:
    path = tmp_path / "later.json"
    verifier = TokenVerifier(KeyFile(path), issuer=ISSUER, audience=AUDIENCE, skew=SKEW)
    assert not await verifier.ready()
    path.write_bytes((house.folder / JWKS).read_bytes())
    assert await verifier.ready()


def test_a_damaged_key_file_keeps_the_keys_that_were_known(house: House) -> None:
    house.verifier.verify(house.token())
    (house.folder / JWKS).write_text("{")
    token = house.token(jti="not remembered")
    assert house.verifier.verify(token).token == token


def test_refresh_tokens_are_long_and_only_their_digest_is_stored() -> None:
    tokens = {new_refresh_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(token.startswith("rt_") and len(token) == 46 for token in tokens)
    assert digest("rt_x") == hashlib.sha256(b"rt_x").digest()
