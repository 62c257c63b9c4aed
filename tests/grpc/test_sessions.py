"""Sessions against a real PostgreSQL: refresh tokens are good once, and what ends a session ends its access tokens."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from jan.auth.v1 import auth_pb2, auth_pb2_grpc

from services.auth import session_store
from services.auth.tokens import digest
from services.runtime.db import Database
from tests.grpc.people import (
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
    revoke,
    until_refused,
    works,
)
from tests.grpc.rig import SECONDS, Rig, running


@pytest_asyncio.fixture
async def rig(tmp_path: Path, database_url: str) -> AsyncIterator[Rig]:
    async with running(tmp_path, "auth", database_url=database_url) as rig:
        yield rig


@pytest.fixture
def auth(rig: Rig) -> Any:
    return auth_pb2_grpc.AuthServiceStub(rig.channel)


@pytest_asyncio.fixture
async def elsewhere(rig: Rig, tmp_path: Path, database_url: str) -> AsyncIterator[Any]:
    """Another process of the same installation."""
    async with running(tmp_path, "auth", database_url=database_url) as other:
        yield auth_pb2_grpc.AuthServiceStub(other.channel)


async def log_out(auth: Any, *, refresh_token: str = "", metadata: Any = ()) -> Any:
    request = auth_pb2.LogoutRequest(refresh_token=refresh_token)
    return await auth.Logout(request, metadata=metadata, timeout=SECONDS)


# Refreshing


async def test_a_refresh_token_is_traded_for_the_next_pair_of_the_same_session(auth: Any) -> None:
    before = await guest(auth)
    after = await refresh(auth, before.refresh_token)
    assert after.refresh_token not in ("", before.refresh_token)
    assert claims(after.access_token)["sid"] == claims(before.access_token)["sid"]
    assert claims(after.access_token)["jti"] != claims(before.access_token)["jti"]
    after.ClearField("access_token")
    after.ClearField("refresh_token")
    before.ClearField("access_token")
    before.ClearField("refresh_token")
    assert after == before


async def test_a_session_can_be_refreshed_again_and_again(auth: Any) -> None:
    tokens = await guest(auth)
    for _ in range(5):
        tokens = await refresh(auth, tokens.refresh_token)
    assert await works(auth, tokens.access_token)


async def test_refreshing_puts_off_the_end_of_the_session(auth: Any, database: Database) -> None:
    tokens = await guest(auth)
    await database.execute("UPDATE sessions SET expires_at = now() + interval '1 minute'")
    await refresh(auth, tokens.refresh_token)
    assert await database.fetchval("SELECT expires_at > now() + interval '29 days' FROM sessions")


async def test_a_refresh_gives_what_the_account_is_now(auth: Any, database: Database) -> None:
    tokens = await account(auth)
    await database.execute("UPDATE users SET roles = '{user,admin}' WHERE id = $1", tokens.user_id)
    assert claims((await refresh(auth, tokens.refresh_token)).access_token)["roles"] == ["user", "admin"]


async def test_using_a_spent_refresh_token_ends_the_session_in_every_process(auth: Any, elsewhere: Any) -> None:
    first = await guest(auth)
    second = await refresh(auth, first.refresh_token)
    bystander = await guest(auth)
    assert await works(elsewhere, second.access_token)
    assert await refusal(refresh(auth, first.refresh_token)) == INVALID_GRANT
    for process in (auth, elsewhere):
        for token in (first.access_token, second.access_token):
            await until_refused(process, token)
    assert await refusal(refresh(elsewhere, second.refresh_token)) == INVALID_GRANT
    assert await works(elsewhere, bystander.access_token)


async def test_of_two_refreshes_at_once_one_wins_and_the_other_counts_as_misuse(auth: Any, elsewhere: Any) -> None:
    tokens = await guest(auth)
    answers = await asyncio.gather(
        *(refresh(process, tokens.refresh_token) for process in (auth, elsewhere)), return_exceptions=True
    )
    (won,) = [each for each in answers if not isinstance(each, BaseException)]
    (lost,) = [each for each in answers if isinstance(each, grpc.aio.AioRpcError)]
    assert lost.code() == grpc.StatusCode.UNAUTHENTICATED
    await until_refused(auth, won.access_token)
    assert await refusal(refresh(auth, won.refresh_token)) == INVALID_GRANT


async def test_many_refreshes_at_once_of_different_sessions_all_work(auth: Any) -> None:
    people = await asyncio.gather(*(guest(auth) for _ in range(20)))
    refreshed = await asyncio.gather(*(refresh(auth, each.refresh_token) for each in people))
    assert [each.user_id for each in refreshed] == [each.user_id for each in people]


@pytest.mark.parametrize("token", ["rt_unknown", "x", "sk_live_0123", "é" * 100, "a.b.c"])
async def test_an_unknown_refresh_token_is_refused(auth: Any, token: str) -> None:
    assert await refusal(refresh(auth, token)) == INVALID_GRANT


async def test_an_access_token_is_no_refresh_token(auth: Any) -> None:
    assert await refusal(refresh(auth, (await guest(auth)).access_token)) == INVALID_GRANT


@pytest.mark.parametrize("token", ["", "x" * 8193])
async def test_a_refresh_needs_a_token_of_sensible_size(auth: Any, token: str) -> None:
    assert await refusal(refresh(auth, token)) == INVALID_PARAMETER


async def test_an_expired_refresh_token_is_refused(auth: Any, database: Database) -> None:
    tokens = await guest(auth)
    await database.execute("UPDATE sessions SET expires_at = now()")
    assert await refusal(refresh(auth, tokens.refresh_token)) == INVALID_GRANT


async def test_the_session_of_an_account_that_is_gone_is_gone(auth: Any, database: Database) -> None:
    tokens = await guest(auth)
    await database.execute("DELETE FROM users")
    assert await refusal(refresh(auth, tokens.refresh_token)) == INVALID_GRANT


# Revoking


async def test_revoking_an_access_token_ends_that_token_alone(auth: Any, elsewhere: Any) -> None:
    first = await guest(auth)
    second = await refresh(auth, first.refresh_token)
    answer = await revoke(auth, first.access_token)
    assert (answer.status, answer.message) == ("revoked", "Token revoked")
    for process in (auth, elsewhere):
        await until_refused(process, first.access_token)
        assert await works(process, second.access_token)
    assert (await refresh(auth, second.refresh_token)).access_token


@pytest.mark.parametrize("field", ["token", "refresh_token"])
async def test_revoking_a_refresh_token_ends_its_session(auth: Any, elsewhere: Any, field: str) -> None:
    tokens, bystander = await guest(auth), await guest(auth)
    await auth.RevokeToken(auth_pb2.RevokeTokenRequest(**{field: tokens.refresh_token}), timeout=SECONDS)
    await until_refused(elsewhere, tokens.access_token)
    assert await refusal(refresh(elsewhere, tokens.refresh_token)) == INVALID_GRANT
    assert await works(elsewhere, bystander.access_token)


async def test_a_spent_refresh_token_still_ends_its_session(auth: Any) -> None:
    first = await guest(auth)
    second = await refresh(auth, first.refresh_token)
    await revoke(auth, first.refresh_token)
    await until_refused(auth, second.access_token)


async def test_both_kinds_can_be_revoked_at_once(auth: Any) -> None:
    one, two = await guest(auth), await guest(auth)
    request = auth_pb2.RevokeTokenRequest(token=one.access_token, refresh_token=two.refresh_token)
    await auth.RevokeToken(request, timeout=SECONDS)
    await until_refused(auth, one.access_token)
    await until_refused(auth, two.access_token)


@pytest.mark.parametrize(
    "token",
    ["rt_unknown", "sk_live_0123456789abcdef", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "é", "x" * 8192],
    ids=range(6),
)
async def test_revoking_what_is_no_token_succeeds_and_changes_nothing(
    auth: Any, database: Database, token: str
) -> None:
    assert (await revoke(auth, token)).status == "revoked"
    assert await database.fetchval("SELECT count(*) FROM revocations") == 0


async def test_revoking_twice_succeeds(auth: Any) -> None:
    tokens = await guest(auth)
    for token in (tokens.access_token, tokens.access_token, tokens.refresh_token, tokens.refresh_token):
        assert (await revoke(auth, token)).status == "revoked"


async def test_a_forged_token_cannot_revoke_a_real_one(auth: Any, database: Database) -> None:
    tokens = await guest(auth)
    head, body, signature = tokens.access_token.split(".")
    await revoke(auth, f"{head}.{body}.{signature[::-1]}")
    assert await database.fetchval("SELECT count(*) FROM revocations") == 0
    assert await works(auth, tokens.access_token)


async def test_revoking_needs_a_token(auth: Any) -> None:
    assert await refusal(auth.RevokeToken(auth_pb2.RevokeTokenRequest(), timeout=SECONDS)) == INVALID_PARAMETER


async def test_a_revoked_access_token_is_remembered_until_nobody_could_believe_it(
    rig: Rig, auth: Any, database: Database
) -> None:
    tokens = await guest(auth)
    await revoke(auth, tokens.access_token)
    (row,) = await database.fetch("SELECT subject, extract(epoch FROM expires_at)::float AS until FROM revocations")
    said = claims(tokens.access_token)
    assert (row["subject"], row["until"]) == (said["jti"], said["exp"] + rig.settings.auth_clock_skew)


async def test_an_ended_session_is_remembered_until_nobody_could_believe_its_tokens(
    tmp_path: Path, database_url: str, database: Database
) -> None:
    async with running(tmp_path, "auth", database_url=database_url, auth_access_token_ttl=7200.0) as rig:
        auth = auth_pb2_grpc.AuthServiceStub(rig.channel)
        tokens = await account(auth)
    async with running(tmp_path, "auth", database_url=database_url) as rig:  # started with shorter lives since
        await revoke(auth_pb2_grpc.AuthServiceStub(rig.channel), tokens.refresh_token)
    until = await database.fetchval("SELECT extract(epoch FROM expires_at)::float FROM revocations")
    assert until > claims(tokens.access_token)["exp"] + rig.settings.auth_clock_skew


async def test_a_revocation_survives_a_restart(tmp_path: Path, database_url: str) -> None:
    async with running(tmp_path, "auth", database_url=database_url) as rig:
        auth = auth_pb2_grpc.AuthServiceStub(rig.channel)
        one, two = await guest(auth), await guest(auth)
        await revoke(auth, one.access_token)
        await revoke(auth, two.refresh_token)
    async with running(tmp_path, "auth", database_url=database_url) as rig:
        auth = auth_pb2_grpc.AuthServiceStub(rig.channel)
        assert [await works(auth, each.access_token) for each in (one, two)] == [False, False]
        assert await works(auth, (await refresh(auth, one.refresh_token)).access_token)


# Logging out


async def test_logging_out_with_the_refresh_token_ends_the_session(auth: Any, elsewhere: Any) -> None:
    tokens = await guest(auth)
    assert (await log_out(auth, refresh_token=tokens.refresh_token)).status == "logged_out"
    await until_refused(elsewhere, tokens.access_token)
    assert await refusal(refresh(auth, tokens.refresh_token)) == INVALID_GRANT


async def test_logging_out_with_the_access_token_ends_the_session(auth: Any, elsewhere: Any) -> None:
    tokens = await guest(auth)
    newer = await refresh(auth, tokens.refresh_token)
    assert (await log_out(auth, metadata=bearer(tokens.access_token))).status == "logged_out"
    for token in (tokens.access_token, newer.access_token):
        await until_refused(elsewhere, token)
    assert await refusal(refresh(auth, newer.refresh_token)) == INVALID_GRANT


async def test_logging_out_on_one_device_leaves_the_others_signed_in(auth: Any) -> None:
    here = await account(auth)
    there = await login(auth)
    await log_out(auth, refresh_token=here.refresh_token)
    await until_refused(auth, here.access_token)
    assert await works(auth, there.access_token)


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer a.b.c", "Basic YTpi", "Bearer sk_live_01", "nonsense"])
async def test_logging_out_always_succeeds(auth: Any, authorization: str) -> None:
    metadata = (("authorization", authorization),) if authorization else ()
    assert (await log_out(auth, metadata=metadata)).status == "logged_out"
    assert (await log_out(auth, refresh_token="rt_unknown", metadata=metadata)).status == "logged_out"


async def test_logging_out_twice_succeeds(auth: Any) -> None:
    tokens = await guest(auth)
    for _ in range(2):
        assert (await log_out(auth, refresh_token=tokens.refresh_token)).status == "logged_out"
        assert (await log_out(auth, metadata=bearer(tokens.access_token))).status == "logged_out"


# Lives of tokens


async def test_guests_have_short_tokens_and_accounts_those_of_the_settings(tmp_path: Path, database_url: str) -> None:
    settings = {"auth_access_token_ttl": 3600.0, "auth_refresh_token_ttl": 7200.0}
    async with running(tmp_path, "auth", database_url=database_url, **settings) as rig:
        auth = auth_pb2_grpc.AuthServiceStub(rig.channel)
        passing, staying = await guest(auth), await account(auth)
        for tokens, seconds in ((passing, 300), (staying, 3600), (await login(auth), 3600)):
            said = claims(tokens.access_token)
            assert (tokens.expires_in, said["exp"] - said["iat"], tokens.refresh_expires_in) == (seconds, seconds, 7200)
        assert (await refresh(auth, staying.refresh_token)).expires_in == 3600


# What is kept


async def test_no_token_and_no_password_can_be_found_in_the_database(auth: Any, database: Database) -> None:
    tokens = await account(auth)
    tokens = await refresh(auth, tokens.refresh_token)
    await revoke(auth, (await guest(auth)).access_token)
    assert await refusal(login(auth, "nobody@example.com", "guessed password"))
    tables = await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    for table in tables:
        for row in await database.fetch(f"SELECT t::text AS line FROM {table['tablename']} AS t"):
            for secret in (tokens.refresh_token, tokens.access_token, PASSWORD, "guessed password"):
                assert secret not in row["line"]
                assert secret.encode().hex() not in row["line"]
    assert await database.fetchval(
        "SELECT count(*) FROM refresh_tokens WHERE token_hash = $1", digest(tokens.refresh_token)
    )
    assert (await database.fetchval("SELECT password_hash FROM users WHERE NOT is_guest")).startswith("$argon2id$")


async def test_what_is_over_is_swept_and_what_is_not_stays(auth: Any, database: Database) -> None:
    over, ended, living = await guest(auth), await guest(auth), await guest(auth)
    sid = {name: claims(tokens.access_token)["sid"] for name, tokens in (("over", over), ("ended", ended))}
    await refresh(auth, living.refresh_token)
    await database.execute("UPDATE refresh_tokens SET spent_at = spent_at - interval '31 days'")
    expire = "UPDATE sessions SET expires_at = now() - interval '1 day'"
    await database.execute(f"{expire}, access_until = now() - interval '1 day' WHERE id = $1", sid["over"])
    await database.execute(f"{expire} WHERE id = $1", sid["ended"])  # an access token of it is still good
    await session_store.sweep(database, session_ttl=30 * 86400)
    left = {row["id"] for row in await database.fetch("SELECT id FROM sessions")}
    assert left == {sid["ended"], claims(living.access_token)["sid"]}
    assert await database.fetchval("SELECT count(*) FROM refresh_tokens WHERE spent_at IS NOT NULL") == 0
    assert (await me(auth, living.access_token)).id == living.user_id


async def test_much_that_is_over_is_swept_in_many_steps(auth: Any, database: Database) -> None:
    living = await guest(auth)
    for _ in range(5):
        living = await refresh(auth, living.refresh_token)
        await guest(auth)
    sid = claims(living.access_token)["sid"]
    await database.execute(
        """
        UPDATE sessions SET expires_at = now() - interval '1 day', access_until = now() - interval '1 day'
        WHERE id <> $1
        """,
        sid,
    )
    await database.execute("UPDATE refresh_tokens SET spent_at = spent_at - interval '31 days'")
    await session_store.sweep(database, session_ttl=30 * 86400, batch=2)
    assert [row["id"] for row in await database.fetch("SELECT id FROM sessions")] == [sid]
    assert await database.fetchval("SELECT count(*) FROM refresh_tokens") == 1
