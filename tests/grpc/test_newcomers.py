"""People of the external provider who come with its tokens: they have an account here from their first call on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody
from jan.auth.v1 import auth_pb2, auth_pb2_grpc
from jan.llm.v1 import chat_pb2_grpc, models_pb2, models_pb2_grpc

from services.runtime.db import Database
from services.runtime.identity import External, Identity, external_user_id
from services.runtime.newcomers import KNOWN, Introduced, Newcomers
from tests.fake_provider import CLIENT_ID, ISSUER, ProviderKey
from tests.grpc.rig import SECONDS, Rig, running

ALICE = Identity(
    user_id="usr_alice",
    username="alice",
    roles=("user",),
    is_guest=False,
    auth_method="jwt",
    scopes=("read", "write"),
    expires_at=0.0,
    token="t",
    external=External(ISSUER, "alice", "", ""),
)
ID = external_user_id(ISSUER, "alice")


class Reception:
    """Notes who is welcomed; may be closed."""

    def __init__(self) -> None:
        self.welcomed: list[Identity] = []
        self.closed = False

    async def welcome(self, caller: Identity) -> None:
        self.welcomed.append(caller)
        if self.closed:
            raise ConnectionError("closed")


async def test_everybody_is_welcomed_once() -> None:
    reception = Reception()
    newcomers = Newcomers(reception.welcome)
    bob = replace(ALICE, user_id="usr_bob")
    for caller in (ALICE, bob, ALICE, replace(ALICE, token="another")):
        await newcomers.meet(caller)
    assert reception.welcomed == [ALICE, bob]


async def test_who_has_other_roles_now_is_welcomed_again() -> None:
    reception = Reception()
    newcomers = Newcomers(reception.welcome)
    admin = replace(ALICE, roles=("user", "admin"))
    for caller in (ALICE, admin, admin, ALICE):
        await newcomers.meet(caller)
    assert reception.welcomed == [ALICE, admin, ALICE]


async def test_a_welcome_that_fails_is_tried_again_next_time() -> None:
    reception = Reception()
    newcomers = Newcomers(reception.welcome)
    reception.closed = True
    await newcomers.meet(ALICE)
    reception.closed = False
    await newcomers.meet(ALICE)
    await newcomers.meet(ALICE)
    assert reception.welcomed == [ALICE, ALICE]


async def test_remembering_has_a_limit() -> None:
    newcomers = Newcomers(Reception().welcome)
    for number in range(KNOWN + 1):
        await newcomers.meet(replace(ALICE, user_id=str(number)))
    assert len(newcomers._known) == 1


class Context:
    """Notes what is sent, in its order."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def send_initial_metadata(self, metadata: Any) -> None:
        self.sent.append(metadata)

    async def write(self, message: Any) -> None:
        self.sent.append(message)

    def time_remaining(self) -> float:
        return 5.0


async def test_the_id_goes_once_before_the_first_message() -> None:
    context = Context()
    introduced = Introduced(context, "usr_1")
    assert (introduced.time_remaining(), context.sent) == (5.0, [])
    await introduced.write(b"1")
    await introduced.write(b"2")
    await introduced.introduce()
    assert context.sent == [(("x-user-id", "usr_1"),), b"1", b"2"]


async def test_the_id_goes_with_what_the_method_says_itself() -> None:
    context = Context()
    introduced = Introduced(context, "usr_1")
    await introduced.send_initial_metadata((("x-http-status", "201"),))
    await introduced.introduce()
    assert context.sent == [(("x-http-status", "201"), ("x-user-id", "usr_1"))]


# --- in a server


@pytest.fixture
def key(tmp_path: Path) -> ProviderKey:
    """The provider's key, which every room of `house` knows."""
    return ProviderKey()


@asynccontextmanager
async def house(
    folder: Path, key: ProviderKey, *rooms: str, url: str = "", auth: str | None = None
) -> AsyncIterator[Rig]:
    (folder / "keys").mkdir(parents=True, exist_ok=True)
    (folder / "keys/external.json").write_bytes(orjson.dumps({"issuer": ISSUER, "keys": [key.jwk()]}))
    settings = {"oidc_issuer_url": ISSUER, "oidc_client_id": CLIENT_ID}
    async with running(folder, *rooms, auth=auth, database_url=url, **settings) as rig:
        yield rig


@pytest.fixture
async def auth_room(tmp_path: Path, key: ProviderKey, database_url: str) -> AsyncIterator[Rig]:
    async with house(tmp_path / "auth", key, "auth", url=database_url) as rig:
        yield rig


@pytest.fixture
async def other_room(tmp_path: Path, key: ProviderKey, auth_room: Rig) -> AsyncIterator[Rig]:
    address = f"127.0.0.1:{auth_room.server.port}"
    async with house(tmp_path / "llm", key, "llm", auth=address) as rig:
        yield rig


def signed_in(key: ProviderKey, **claims: Any) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key.sign(**claims)}"),)


async def list_models(rig: Rig, key: ProviderKey, **claims: Any) -> tuple[tuple[str, str], ...]:
    """Initial metadata of the answer."""
    call = models_pb2_grpc.ModelServiceStub(rig.channel).ListModels(
        models_pb2.ListModelsRequest(), metadata=signed_in(key, **claims), timeout=SECONDS
    )
    await call
    return tuple(await call.initial_metadata())


async def test_a_call_to_another_room_makes_the_account(other_room: Rig, key: ProviderKey, database: Database) -> None:
    await list_models(other_room, key, preferred_username="al", email="a@id.test")
    row = await database.fetchrow("SELECT id, username, email, roles, is_guest, issuer, subject FROM users")
    assert row is not None
    assert tuple(row.values()) == (ID, "al", "a@id.test", ["user"], False, ISSUER, "alice")


async def test_answers_to_external_callers_name_their_id(other_room: Rig, key: ProviderKey) -> None:
    assert ("x-user-id", ID) in await list_models(other_room, key)


async def test_answers_to_our_own_callers_do_not(other_room: Rig) -> None:
    call = models_pb2_grpc.ModelServiceStub(other_room.channel).ListModels(
        models_pb2.ListModelsRequest(), metadata=other_room.signed_in, timeout=SECONDS
    )
    await call
    assert "x-user-id" not in dict(await call.initial_metadata())


async def test_an_error_keeps_its_status(other_room: Rig, key: ProviderKey) -> None:
    face = chat_pb2_grpc.ChatServiceStub(other_room.channel).CreateChatCompletionHttp
    call = face(HttpBody(data=b"{}"), metadata=signed_in(key), timeout=SECONDS)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call.read()
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "x-user-id" not in dict(await call.initial_metadata())


async def test_streams_name_the_id_too(other_room: Rig, key: ProviderKey) -> None:
    face = chat_pb2_grpc.ChatServiceStub(other_room.channel).CreateChatCompletionHttp
    body = {"model": "jan-demo", "stream": True, "messages": [{"role": "user", "content": "Hello!"}]}
    call = face(HttpBody(data=orjson.dumps(body)), metadata=signed_in(key), timeout=SECONDS)
    said = b"".join([each.data async for each in call])
    assert said.endswith(b"data: [DONE]\n\n")
    assert ("x-user-id", ID) in tuple(await call.initial_metadata())


async def test_a_call_to_the_auth_room_makes_the_account(auth_room: Rig, key: ProviderKey) -> None:
    me = await auth_pb2_grpc.AuthServiceStub(auth_room.channel).GetMe(
        auth_pb2.GetMeRequest(), metadata=signed_in(key, preferred_username="al"), timeout=SECONDS
    )
    assert (me.data.id, me.data.username, me.data.is_guest, me.data.scopes) == (ID, "al", False, ["read", "write"])


async def test_without_the_auth_room_calls_go_on_and_the_account_comes_later(
    tmp_path: Path, key: ProviderKey, database: Database, database_url: str
) -> None:
    address = f"unix:{tmp_path}/a.sock"
    async with house(tmp_path / "llm", key, "llm", auth=address) as alone:
        assert ("x-user-id", ID) in await list_models(alone, key)
        assert await database.fetchval("SELECT count(*) FROM users") == 0
