"""Administrators: made by the settings when there is none and by the operator, and by nothing else."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
from argon2 import PasswordHasher
from jan.auth.v1 import auth_pb2, auth_pb2_grpc

from services.auth import admin
from services.auth.admin import FirstAdmin
from services.auth.passwords import Passwords
from services.auth.signing import KeyRing
from services.auth.store import AccountStore
from services.auth.tokens import TokenIssuer
from services.runtime import db
from services.runtime.config import ConfigError
from services.runtime.db import Database
from services.runtime.identity import External, Identity
from tests.grpc import keys
from tests.grpc.people import (
    INVALID_CREDENTIALS,
    PASSWORD,
    account,
    claims,
    guest,
    login,
    me,
    refresh,
    refusal,
    revoke,
    until_refused,
    works,
)
from tests.grpc.rig import SECONDS, Rig, running

EMAIL = "root@example.com"
SKEW = 60.0


@pytest.fixture
def passwords() -> Passwords:
    return Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest_asyncio.fixture
async def rig(tmp_path: Path, database_url: str) -> AsyncIterator[Rig]:
    async with running(tmp_path, "auth", database_url=database_url) as rig:
        yield rig


@pytest.fixture
def auth(rig: Rig) -> Any:
    return auth_pb2_grpc.AuthServiceStub(rig.channel)


@pytest.fixture
def issuer(rig: Rig, tmp_path: Path) -> TokenIssuer:
    keys = KeyRing(tmp_path / "keys", "ES256")
    keys.join()
    return TokenIssuer(keys, issuer=rig.settings.issuer, audience=rig.settings.auth_audience)


async def administrators(database: Database) -> list[str]:
    rows = await database.fetch("SELECT email FROM users WHERE 'admin' = ANY (roles) ORDER BY email")
    return [row["email"] for row in rows]


# The first one


async def test_the_settings_make_the_first_administrator(tmp_path: Path, database_url: str) -> None:
    settings = {"admin_email": EMAIL, "admin_password": PASSWORD}
    async with running(tmp_path, "auth", database_url=database_url, **settings) as rig:
        auth = auth_pb2_grpc.AuthServiceStub(rig.channel)
        tokens = await login(auth, EMAIL)
        seen = await me(auth, tokens.access_token)
    assert (seen.is_admin, list(seen.roles), list(seen.scopes)) == (True, ["user", "admin"], ["read", "write", "admin"])


async def test_when_there_is_an_administrator_the_settings_make_no_second_one(
    database: Database, passwords: Passwords
) -> None:
    await FirstAdmin(database, passwords, email=EMAIL, password=PASSWORD).make()
    await FirstAdmin(database, passwords, email="second@example.com", password=PASSWORD).make()
    before = await database.fetchval("SELECT password_hash FROM users")
    await FirstAdmin(database, passwords, email=EMAIL, password="another password").make()
    assert await administrators(database) == [EMAIL]
    assert await database.fetchval("SELECT password_hash FROM users") == before


async def test_of_processes_that_start_together_one_makes_the_administrator(
    database: Database, passwords: Passwords
) -> None:
    emails = [f"root{number}@example.com" for number in range(5)]
    await asyncio.gather(*(FirstAdmin(database, passwords, email=email, password=PASSWORD).make() for email in emails))
    assert len(await administrators(database)) == 1


async def test_without_the_settings_nobody_is_made_one(database: Database, passwords: Passwords) -> None:
    await FirstAdmin(database, passwords, email="", password="").make()
    assert await database.fetchval("SELECT count(*) FROM users") == 0


async def test_without_a_database_the_first_administrator_has_to_wait(passwords: Passwords, tmp_path: Path) -> None:
    nowhere = await db.connect(f"postgresql://jan@/jan?host={tmp_path}")
    await FirstAdmin(nowhere, passwords, email=EMAIL, password=PASSWORD).make()
    await nowhere.close()


async def test_whoever_took_the_address_before_is_signed_out(auth: Any, database: Database) -> None:
    squatter = await account(auth, EMAIL, "the squatter's own")
    await FirstAdmin(database, Passwords(), email=EMAIL, password=PASSWORD).make()
    await until_refused(auth, squatter.access_token)
    assert await refusal(login(auth, EMAIL, "the squatter's own")) == INVALID_CREDENTIALS
    assert claims((await login(auth, EMAIL)).access_token)["roles"] == ["user", "admin"]


async def test_the_keys_of_whoever_took_the_address_before_are_worth_nothing(
    rig: Rig, auth: Any, database: Database, passwords: Passwords
) -> None:
    squatter = await account(auth, EMAIL, "the squatter's own")
    made = await keys.create(rig, keys.Account(squatter.user_id, squatter.access_token))
    before = keys.passed_on(await keys.check(rig, x_api_key=made.key))
    await FirstAdmin(database, passwords, email=EMAIL, password=PASSWORD).make()
    await until_refused(auth, before)
    assert (await keys.check(rig, x_api_key=made.key)).denied_response.status.code == 401


async def test_the_keys_of_an_account_that_only_gains_the_role_stay_good(
    rig: Rig, auth: Any, database: Database, passwords: Passwords
) -> None:
    owner = await account(auth, EMAIL)
    made = await keys.create(rig, keys.Account(owner.user_id, owner.access_token))
    await admin.create(database, passwords, email=EMAIL, password="")
    assert await works(auth, keys.passed_on(await keys.check(rig, x_api_key=made.key)))


async def test_who_takes_the_address_while_the_administrator_is_made_is_signed_out_too(
    rig: Rig, auth: Any, database: Database, passwords: Passwords
) -> None:
    squatter = await guest(auth)
    async with database.transaction() as taking:
        await taking.execute("UPDATE users SET email = $1, is_guest = false WHERE id = $2", EMAIL, squatter.user_id)
        making = asyncio.create_task(admin.create(database, passwords, email=EMAIL, password=PASSWORD))
        while not await taking.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            pass
    assert not await making
    await until_refused(auth, squatter.access_token)


# By the operator


async def test_an_operator_makes_an_account_for_an_administrator(
    auth: Any, database: Database, passwords: Passwords
) -> None:
    assert await admin.create(database, passwords, email=EMAIL, password=PASSWORD)
    seen = await me(auth, (await login(auth, EMAIL)).access_token)
    assert (seen.email, seen.username, seen.is_admin, seen.is_guest) == (EMAIL, "root", True, False)


async def test_an_account_becomes_an_administrator_and_keeps_what_it_has(
    auth: Any, database: Database, passwords: Passwords
) -> None:
    before = await account(auth, EMAIL)
    assert not await admin.create(database, passwords, email=EMAIL.upper(), password="")
    assert not (await me(auth, before.access_token)).scopes[2:]  # its token says what it was
    after = await refresh(auth, before.refresh_token)
    seen = await me(auth, after.access_token)
    assert (seen.id, seen.is_admin, seen.email) == (before.user_id, True, EMAIL)
    assert await login(auth, EMAIL)


async def test_a_new_password_for_an_account_ends_its_sessions(auth: Any, database: Database) -> None:
    before = await account(auth, EMAIL)
    await admin.create(database, Passwords(), email=EMAIL, password="another password")
    await until_refused(auth, before.access_token)
    assert (await login(auth, EMAIL, "another password")).user_id == before.user_id


@pytest.mark.parametrize(
    ("email", "password", "remedy"),
    [
        (EMAIL, "", "there is no account root@example.com yet: give its password on standard input"),
        (EMAIL, "1234567", "8 to 1024 characters"),
        (EMAIL, "x" * 1025, "8 to 1024 characters"),
        ("root", PASSWORD, "'root' is no mail address"),
        ("", PASSWORD, "'' is no mail address"),
        ("root@example.com\n", PASSWORD, "is no mail address"),
        ("ro ot@example.com", PASSWORD, "is no mail address"),
    ],
    ids=range(7),
)
async def test_what_makes_no_sense_is_refused_with_the_remedy(
    database: Database, passwords: Passwords, email: str, password: str, remedy: str
) -> None:
    with pytest.raises(ConfigError, match=remedy):
        await admin.create(database, passwords, email=email, password=password)
    assert await administrators(database) == []


async def test_the_external_provider_says_who_of_its_people_is_an_administrator(
    database: Database, passwords: Passwords
) -> None:
    person = External("https://login.example.com", "s-1", EMAIL, "Lin Chen")
    await AccountStore(database).welcome(
        Identity("usr_ext", "lin", ("user",), False, "jwt", ("read", "write"), 4e9, "", external=person)
    )
    with pytest.raises(ConfigError, match="OIDC_ADMIN_ROLE"):
        await admin.create(database, passwords, email=EMAIL, password=PASSWORD)
    assert await administrators(database) == []


# Tokens for the operator


async def test_an_administrator_s_token_lives_as_long_as_was_asked(
    auth: Any, database: Database, passwords: Passwords, issuer: TokenIssuer
) -> None:
    await admin.create(database, passwords, email=EMAIL, password=PASSWORD)
    token = await admin.token(database, issuer, email=EMAIL, ttl=7200.0, skew=SKEW)
    said = claims(token)
    assert (said["exp"] - said["iat"], said["roles"]) == (7200, ["user", "admin"])
    assert (await me(auth, token)).is_admin


async def test_an_administrator_s_token_ends_like_any_other(
    auth: Any, database: Database, passwords: Passwords, issuer: TokenIssuer
) -> None:
    await admin.create(database, passwords, email=EMAIL, password=PASSWORD)
    one, two, three = [await admin.token(database, issuer, email=EMAIL, ttl=7200.0, skew=SKEW) for _ in range(3)]
    await revoke(auth, one)
    await until_refused(auth, one)
    metadata = (("authorization", f"Bearer {two}"),)
    await auth.Logout(auth_pb2.LogoutRequest(), metadata=metadata, timeout=SECONDS)
    await until_refused(auth, two)
    assert await works(auth, three)
    await admin.create(database, passwords, email=EMAIL, password="another password")
    await until_refused(auth, three)
    latest = await database.fetchval("SELECT extract(epoch FROM max(expires_at))::float FROM revocations")
    assert latest >= claims(three)["exp"] + SKEW


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com", "", "%"])
async def test_nobody_else_gets_one(auth: Any, database: Database, issuer: TokenIssuer, email: str) -> None:
    await account(auth)
    with pytest.raises(ConfigError, match="is no administrator"):
        await admin.token(database, issuer, email=email, ttl=60.0, skew=SKEW)


async def test_no_token_is_made_for_longer_than_a_year(database: Database, issuer: TokenIssuer) -> None:
    with pytest.raises(ConfigError, match="longer than a year"):
        await admin.token(database, issuer, email=EMAIL, ttl=400 * 86400.0, skew=SKEW)


def test_keys_of_another_installation_sign_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set DATA_DIR to that of the server"):
        KeyRing(tmp_path / "keys", "ES256").join()
    for name in ("keys", "others"):
        KeyRing(tmp_path / name, "ES256").prepare()
    (foreign,) = (tmp_path / "others").glob("*.pem")
    published = (tmp_path / "keys/jwks.json").read_bytes()
    with pytest.raises(ConfigError, match="set AUTH_SIGNING_KEY_FILE as there"):
        KeyRing(tmp_path / "keys", "ES256").join(foreign)
    assert (tmp_path / "keys/jwks.json").read_bytes() == published


def test_joining_changes_nothing_and_signs_like_the_server(tmp_path: Path) -> None:
    server, operator = KeyRing(tmp_path, "ES256"), KeyRing(tmp_path, "RS256")
    server.prepare()
    before = sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.iterdir())
    operator.join()
    assert sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.iterdir()) == before
    token = TokenIssuer(operator, issuer="i", audience="a").access_token(
        {"id": "usr_1", "username": "root", "is_guest": False, "roles": ["admin"]}, "ses_1"
    )
    assert jwt.get_unverified_header(token.text)["kid"] == server.current.kid


# Nothing else


async def test_nobody_becomes_an_administrator_by_asking(auth: Any, database: Database) -> None:
    tokens = await guest(auth)
    metadata = (
        ("authorization", f"Bearer {tokens.access_token}"),
        ("x-user-roles", "admin"),
        ("x-scopes", "admin"),
        ("x-auth-method", "jwt"),
    )
    request = auth_pb2.UpgradeGuestRequest(email=EMAIL, password=PASSWORD, username="admin", full_name="admin")
    upgraded = await auth.UpgradeGuest(request, metadata=metadata, timeout=SECONDS)
    assert not upgraded.user.is_admin
    assert claims((await refresh(auth, upgraded.refresh_token)).access_token)["roles"] == ["user"]
    assert await administrators(database) == []
