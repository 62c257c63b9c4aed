"""Accounts with a password: made of guests, signed in to, and guarded against guessing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from argon2 import PasswordHasher
from grpc import StatusCode
from jan.auth.v1 import auth_pb2, auth_pb2_grpc

from services.auth import session_store
from services.auth.login import FAILURES, WINDOW, PasswordLogin
from services.auth.passwords import Passwords
from services.auth.session_store import term
from services.auth.store import AccountStore
from services.runtime.db import Database
from services.runtime.errors import Unauthenticated, Unavailable
from tests.grpc.people import (
    INVALID_CREDENTIALS,
    INVALID_GRANT,
    INVALID_PARAMETER,
    PASSWORD,
    account,
    bearer,
    claims,
    guest,
    login,
    me,
    refresh,
    refusal,
    until_refused,
    works,
)
from tests.grpc.rig import SECONDS, Rig, details, running

LIMITED = (StatusCode.RESOURCE_EXHAUSTED, "rate_limit_exceeded")


@pytest_asyncio.fixture
async def rig(tmp_path: Path, database_url: str) -> AsyncIterator[Rig]:
    async with running(tmp_path, "auth", database_url=database_url) as rig:
        yield rig


@pytest.fixture
def auth(rig: Rig) -> Any:
    return auth_pb2_grpc.AuthServiceStub(rig.channel)


async def upgrade(auth: Any, token: str, **fields: Any) -> Any:
    return await auth.UpgradeGuest(auth_pb2.UpgradeGuestRequest(**fields), metadata=bearer(token), timeout=SECONDS)


async def set_password(auth: Any, token: str, new: str, current: str | None = None, *, address: str = "") -> Any:
    metadata = (*bearer(token), *((("x-edge-address", address),) if address else ()))
    request = auth_pb2.SetPasswordRequest(new_password=new, current_password=current)
    return await auth.SetPassword(request, metadata=metadata, timeout=SECONDS)


# Upgrading a guest


async def test_an_upgraded_guest_keeps_its_id_and_gets_the_rights_of_an_account(auth: Any) -> None:
    before = await guest(auth)
    after = await upgrade(
        auth, before.access_token, email="Ada@example.com", password=PASSWORD, username="ada", full_name="Ada Lovelace"
    )
    assert (after.status, after.user_id, after.principal_id) == ("upgraded", before.user_id, before.user_id)
    assert (after.token_type, after.expires_in, after.username) == ("Bearer", 300, "ada")
    seen = await me(auth, after.access_token)
    assert seen == after.user
    assert (seen.email, seen.full_name, seen.username) == ("Ada@example.com", "Ada Lovelace", "ada")
    assert (seen.is_guest, seen.is_admin, list(seen.roles)) == (False, False, ["user"])
    said = claims(after.access_token)
    assert (said["sub"], said["guest"], said["roles"]) == (before.user_id, False, ["user"])


async def test_an_upgraded_guest_s_session_goes_on_with_old_and_new_tokens(auth: Any) -> None:
    before = await guest(auth)
    after = await upgrade(auth, before.access_token, email="ada@example.com")
    assert claims(after.access_token)["sid"] == claims(before.access_token)["sid"]
    assert await works(auth, before.access_token)
    for token in (before.refresh_token, after.refresh_token):
        assert claims((await refresh(auth, token)).access_token)["roles"] == ["user"]


async def test_without_a_name_an_upgraded_guest_is_called_after_its_address(auth: Any) -> None:
    assert (await upgrade(auth, (await guest(auth)).access_token, email="grace@example.com")).username == "grace"


async def test_without_a_password_nobody_signs_in_until_one_is_set(auth: Any) -> None:
    tokens = await account(auth, password=None)
    assert await refusal(login(auth)) == INVALID_CREDENTIALS
    assert (await set_password(auth, tokens.access_token, PASSWORD)).status == "updated"
    assert (await login(auth)).user_id == tokens.user_id


@pytest.mark.parametrize("email", ["ada@example.com", "ADA@Example.COM"])
async def test_an_address_that_an_account_has_is_taken_and_the_guest_stays_one(auth: Any, email: str) -> None:
    await account(auth)
    second = await guest(auth)
    assert await refusal(upgrade(auth, second.access_token, email=email, password=PASSWORD)) == (
        StatusCode.ALREADY_EXISTS,
        "email_taken",
    )
    assert (await me(auth, second.access_token)).is_guest


async def test_an_account_is_upgraded_once(auth: Any) -> None:
    first = await guest(auth)
    second = await upgrade(auth, first.access_token, email="ada@example.com")
    for token in (first.access_token, second.access_token):
        assert await refusal(upgrade(auth, token, email="other@example.com", password=PASSWORD)) == (
            StatusCode.ABORTED,
            "already_upgraded",
        )
    assert (await me(auth, second.access_token)).email == "ada@example.com"


async def test_of_two_guests_who_want_one_address_at_once_one_gets_it(auth: Any) -> None:
    guests = await asyncio.gather(*(guest(auth) for _ in range(4)))
    answers = await asyncio.gather(
        *(upgrade(auth, each.access_token, email="ada@example.com") for each in guests), return_exceptions=True
    )
    codes = [each.code() for each in answers if isinstance(each, grpc.aio.AioRpcError)]
    assert codes == [StatusCode.ALREADY_EXISTS] * 3


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"email": "nonsense"},
        {"email": "a@b@c"},
        {"email": f"{'x' * 250}@example.com"},
        {"email": "ada@example.com", "password": "1234567"},
        {"email": "ada@example.com", "password": ""},
        {"email": "ada@example.com", "password": "x" * 1025},
        {"email": "ada@example.com", "username": ""},
        {"email": "ada@example.com", "username": "x" * 121},
        {"email": "ada@example.com", "full_name": "x" * 201},
        {"email": "ada@example.com", "username": "a\0b"},
        {"email": "ada@example.com", "full_name": "\0"},
    ],
    ids=range(12),
)
async def test_an_upgrade_that_makes_no_sense_is_refused_and_changes_nothing(auth: Any, fields: Any) -> None:
    tokens = await guest(auth)
    assert await refusal(upgrade(auth, tokens.access_token, **fields)) == INVALID_PARAMETER
    assert (await me(auth, tokens.access_token)).is_guest


async def test_a_guest_whose_session_has_ended_cannot_become_an_account(auth: Any, database: Database) -> None:
    tokens = await guest(auth)
    await database.execute("UPDATE sessions SET expires_at = now()")
    code, _ = await refusal(upgrade(auth, tokens.access_token, email="ada@example.com"))
    assert code == StatusCode.UNAUTHENTICATED
    assert await database.fetchval("SELECT is_guest FROM users")


async def test_an_upgrade_needs_a_credential(auth: Any) -> None:
    request = auth_pb2.UpgradeGuestRequest(email="ada@example.com")
    assert await refusal(auth.UpgradeGuest(request, timeout=SECONDS)) == (StatusCode.UNAUTHENTICATED, "unauthorized")


# Signing in


@pytest.mark.parametrize("email", ["ada@example.com", "ADA@EXAMPLE.com"])
async def test_address_and_password_open_a_session_of_its_own(auth: Any, email: str) -> None:
    first = await account(auth)
    second = await login(auth, email)
    assert (second.user_id, second.username, second.expires_in) == (first.user_id, "ada", 300)
    assert claims(second.access_token)["sid"] != claims(first.access_token)["sid"]
    assert (await me(auth, second.access_token)).roles == ["user"]


async def test_the_same_password_from_another_keyboard_fits(auth: Any) -> None:
    await account(auth, password="caf\u00e9 au lait")
    assert await login(auth, password="cafe\u0301 au lait")


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("ada@example.com", "wrong"),
        ("ada@example.com", PASSWORD.upper()),
        ("ada@example.com", f"{PASSWORD} "),
        ("nobody@example.com", PASSWORD),
        ("ada", PASSWORD),
        ("%", PASSWORD),
        ("' OR true --", "' OR true --"),
    ],
)
async def test_what_does_not_fit_together_is_refused_in_one_way(auth: Any, email: str, password: str) -> None:
    await account(auth)
    assert await refusal(login(auth, email, password)) == INVALID_CREDENTIALS


@pytest.mark.parametrize(
    ("email", "password"),
    [("", PASSWORD), ("ada@example.com", ""), ("x" * 255, "x"), ("x", "x" * 1025), ("ada\0@example.com", "x")],
    ids=range(5),
)
async def test_a_login_that_makes_no_sense_is_a_bad_request(auth: Any, email: str, password: str) -> None:
    assert await refusal(login(auth, email, password)) == INVALID_PARAMETER


async def test_a_hash_of_weaker_parameters_is_replaced_at_the_next_login(auth: Any, database: Database) -> None:
    await account(auth)
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    await database.execute("UPDATE users SET password_hash = $1", weak)
    await login(auth)
    assert (await database.fetchval("SELECT password_hash FROM users")).startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert await login(auth)


async def test_a_damaged_hash_fits_nothing(auth: Any, database: Database) -> None:
    await account(auth)
    await database.execute("UPDATE users SET password_hash = 'plain text'")
    assert await refusal(login(auth, password="plain text")) == INVALID_CREDENTIALS


# Guessing


async def failures(database: Database, number: int) -> None:
    """As if that many wrong passwords had been tried under everything that was tried so far."""
    await database.execute("UPDATE login_failures SET failures = $1", number)


async def test_after_ten_wrong_passwords_even_the_right_one_is_not_heard(auth: Any, database: Database) -> None:
    await account(auth)
    for _ in range(FAILURES):
        assert await refusal(login(auth, password="wrong")) == INVALID_CREDENTIALS
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await login(auth)
    found = details(error.value)
    assert (error.value.code(), found["ErrorInfo"].reason) == (StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMIT_EXCEEDED")
    assert WINDOW - 60 < found["RetryInfo"].retry_delay.seconds <= WINDOW
    await database.execute("UPDATE login_failures SET until = now()")
    assert await login(auth)


async def test_many_guesses_at_once_are_not_heard_out_either(auth: Any) -> None:
    await account(auth)
    guesses = await asyncio.gather(*(refusal(login(auth, password=f"guess {n}")) for n in range(FAILURES + 5)))
    assert sorted(guesses, key=str) == [LIMITED] * 5 + [INVALID_CREDENTIALS] * FAILURES


async def test_every_process_counts_the_same_failures(auth: Any, tmp_path: Path, database_url: str) -> None:
    async with running(tmp_path, "auth", database_url=database_url) as other:
        elsewhere = auth_pb2_grpc.AuthServiceStub(other.channel)
        for turn in range(FAILURES):
            await refusal(login(auth if turn % 2 else elsewhere, password="wrong"))
        assert [await refusal(login(each, password="wrong")) for each in (auth, elsewhere)] == [LIMITED, LIMITED]


async def test_one_account_and_one_network_address_are_counted_apart_from_others(auth: Any, database: Database) -> None:
    await account(auth)
    await account(auth, "grace@example.com")
    assert await refusal(login(auth, password="wrong", address="203.0.113.1")) == INVALID_CREDENTIALS
    await failures(database, FAILURES)
    assert await refusal(login(auth, address="203.0.113.1")) == LIMITED
    assert await login(auth, address="203.0.113.2")
    assert await login(auth, "grace@example.com", address="203.0.113.1")


async def test_an_ipv6_client_does_not_escape_into_its_many_addresses(auth: Any, database: Database) -> None:
    await account(auth)
    await refusal(login(auth, password="wrong", address="2001:db8::1"))
    await failures(database, FAILURES)
    assert await refusal(login(auth, address="2001:db8::ffff:2")) == LIMITED
    assert await login(auth, address="2001:db8:0:1::1")


async def test_other_spellings_of_an_address_are_not_counted_apart(auth: Any, database: Database) -> None:
    await account(auth, "ida@example.com")
    await refusal(login(auth, "ida@example.com", "wrong"))
    await failures(database, FAILURES)
    for spelling in ("IDA@example.com", "\u0130da@example.com"):  # PostgreSQL takes the second for the same, too
        assert await refusal(login(auth, spelling)) == LIMITED


async def test_unknown_accounts_are_limited_like_known_ones(auth: Any, database: Database) -> None:
    assert await refusal(login(auth, "nobody@example.com")) == INVALID_CREDENTIALS
    await failures(database, FAILURES)
    assert await refusal(login(auth, "Nobody@example.com")) == LIMITED


async def test_success_forgives_the_failures_before(auth: Any, database: Database) -> None:
    await account(auth)
    await refusal(login(auth, password="wrong"))
    await failures(database, FAILURES - 1)
    assert await login(auth)
    assert await database.fetchval("SELECT count(*) FROM login_failures") == 0


async def test_after_the_window_counting_begins_anew(auth: Any, database: Database) -> None:
    await refusal(login(auth, "nobody@example.com"))
    await database.execute("UPDATE login_failures SET failures = 10, until = now()")
    assert await refusal(login(auth, "nobody@example.com")) == INVALID_CREDENTIALS
    assert await database.fetchval("SELECT failures FROM login_failures") == 1


async def test_an_attempt_that_nobody_had_time_to_judge_is_no_failure(database: Database) -> None:
    overrun, idle = (PasswordLogin(database, AccountStore(database), each) for each in (Overrun(), Passwords()))
    for failed in (0, 1):
        for _ in range(FAILURES * 2):
            with pytest.raises(Unavailable):
                await overrun.sign_in("ada@example.com", PASSWORD, address="203.0.113.1")
        assert await database.fetchval("SELECT coalesce(sum(failures), 0) FROM login_failures") == failed
        with pytest.raises(Unauthenticated):
            await idle.sign_in("ada@example.com", PASSWORD, address="203.0.113.1")


class Overrun(Passwords):
    """Too many want something of it."""

    async def fits(self, password: str, hashed: str | None) -> bool:
        raise Unavailable("Too many passwords are being checked right now")


# Setting a password


async def test_a_new_password_replaces_the_old_one(auth: Any) -> None:
    tokens = await account(auth)
    assert (await set_password(auth, tokens.access_token, "a better password", PASSWORD)).status == "updated"
    assert await refusal(login(auth)) == INVALID_CREDENTIALS
    assert (await login(auth, password="a better password")).user_id == tokens.user_id


async def test_a_new_password_ends_the_other_sessions_and_nobody_else_s(auth: Any) -> None:
    stranger = await account(auth, "grace@example.com")
    here = await account(auth)
    there = await login(auth)
    await set_password(auth, here.access_token, "a better password", PASSWORD)
    await until_refused(auth, there.access_token)
    assert await refusal(refresh(auth, there.refresh_token)) == INVALID_GRANT
    assert [await works(auth, each.access_token) for each in (here, stranger)] == [True, True]
    for each in (here, stranger):
        assert await refresh(auth, each.refresh_token)


@pytest.mark.parametrize("current", [None, "", "wrong"])
async def test_the_current_password_is_needed_when_there_is_one(auth: Any, current: str | None) -> None:
    tokens = await account(auth)
    assert await refusal(set_password(auth, tokens.access_token, "a better password", current)) == INVALID_CREDENTIALS
    assert await login(auth)


async def test_the_current_password_cannot_be_guessed_with_a_stolen_token(auth: Any, database: Database) -> None:
    tokens = await account(auth)
    await refusal(set_password(auth, tokens.access_token, "a better password", "wrong", address="203.0.113.1"))
    await failures(database, FAILURES)
    late = set_password(auth, tokens.access_token, "a better password", PASSWORD, address="203.0.113.1")
    assert await refusal(late) == LIMITED


@pytest.mark.parametrize("new", ["", "1234567", "x" * 1025], ids=range(3))
async def test_a_password_of_no_sensible_length_is_refused(auth: Any, new: str) -> None:
    tokens = await account(auth)
    assert await refusal(set_password(auth, tokens.access_token, new, PASSWORD)) == INVALID_PARAMETER


async def test_a_stranger_cannot_set_a_password_for_somebody_else(auth: Any) -> None:
    await account(auth)
    stranger = await account(auth, "grace@example.com", "the stranger's own")
    await set_password(auth, stranger.access_token, "a better password", "the stranger's own")
    assert await login(auth)
    assert await refusal(login(auth, password="a better password")) == INVALID_CREDENTIALS


async def test_setting_a_password_needs_a_credential(auth: Any) -> None:
    request = auth_pb2.SetPasswordRequest(new_password=PASSWORD)
    assert await refusal(auth.SetPassword(request, timeout=SECONDS)) == (StatusCode.UNAUTHENTICATED, "unauthorized")


async def test_a_password_for_an_account_that_is_gone_is_refused(auth: Any, database: Database) -> None:
    tokens = await account(auth)
    await database.execute("DELETE FROM users")
    code, _ = await refusal(set_password(auth, tokens.access_token, "a better password", PASSWORD))
    assert code == StatusCode.UNAUTHENTICATED


async def test_nobody_slips_in_with_the_old_password_while_it_is_changed(auth: Any, database: Database) -> None:
    tokens = await account(auth)
    old = await database.fetchval("SELECT password_hash FROM users")
    first = term(b"a digest", session_ttl=60.0, access_ttl=60.0)
    async with database.transaction() as changing:
        await changing.execute("UPDATE users SET password_hash = 'the new one'")
        late = asyncio.create_task(session_store.begin(database, tokens.user_id, first, password_hash=old))
        while not await changing.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            pass
        await session_store.end_all(changing, tokens.user_id)
    with pytest.raises(Unauthenticated, match="changed just now"):
        await late
    assert await database.fetchval("SELECT count(*) FROM sessions WHERE revoked_at IS NULL") == 0


async def test_of_two_who_change_one_password_at_once_the_second_is_told(auth: Any, database: Database) -> None:
    here, there = await account(auth), await login(auth)
    async with database.transaction() as changing:
        await changing.execute("UPDATE users SET password_hash = 'the new one'")
        late = asyncio.create_task(set_password(auth, there.access_token, "the thief's own", PASSWORD))
        while not await changing.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            pass
    assert await refusal(late) == INVALID_CREDENTIALS
    assert await works(auth, here.access_token)
    assert await database.fetchval("SELECT password_hash FROM users") == "the new one"
