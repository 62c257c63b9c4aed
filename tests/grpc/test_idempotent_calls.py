"""Calls with an idempotency key: done once, answered as often as asked, free again when there is nothing to repeat."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
import pytest_asyncio
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import json_format
from grpc import StatusCode
from jan.llm.v1 import chat_pb2, chat_pb2_grpc, completions_pb2, embeddings_pb2, models_pb2, models_pb2_grpc

from services.auth.signing import KeyRing
from services.auth.tokens import TokenIssuer
from services.runtime import db
from services.runtime.db import Database
from services.runtime.idempotency_store import sweep
from services.runtime.postgres import EmbeddedPostgres
from tests.fake_upstream import RESET, STALL, FakeUpstream, answer, completion, status, stream
from tests.grpc.rig import ROWS, SECONDS, Rig, details, running

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
TYPED = json_format.ParseDict(BODY, chat_pb2.CreateChatCompletionRequest())
TEXT = json_format.ParseDict({"model": "m", "prompt": "Hi"}, completions_pb2.CreateCompletionRequest())
EMBED = json_format.ParseDict({"model": "m", "input": ["a"]}, embeddings_pb2.CreateEmbeddingsRequest())
PATH = "/v1/chat/completions"
REPLAYED = "idempotent-replayed"
COUNT = "SELECT count(*) FROM idempotency_keys"


@pytest.fixture
def upstream() -> Any:
    with FakeUpstream() as server:
        yield server


@asynccontextmanager
async def serving(folder: Path, upstream: FakeUpstream, database_url: str, **settings: Any) -> AsyncIterator[Rig]:
    file = folder / "providers.yml"
    file.write_text(f"providers: {{default: [{{name: fake, url: '{upstream.url}', models: [m, n]}}]}}")
    settings = {"data_secret": "s" * 32, **settings}
    async with running(folder, "llm", jan_provider_configs_file=file, database_url=database_url, **settings) as rig:
        yield rig


@pytest_asyncio.fixture
async def rig(tmp_path: Path, upstream: FakeUpstream, database_url: str) -> AsyncIterator[Rig]:
    async with serving(tmp_path, upstream, database_url) as rig:
        yield rig


def token(rig: Rig, user: str) -> tuple[str, str]:
    """A credential of another user."""
    keys = KeyRing(rig.settings.data_dir / "keys", "ES256")
    keys.prepare()
    issuer = TokenIssuer(keys, issuer=rig.settings.issuer, audience=rig.settings.auth_audience)
    return ("authorization", f"Bearer {issuer.access_token({**ROWS, 'id': user}, 'ses_2').text}")


class Heard:
    """All that a client has heard of a call."""

    def __init__(self, messages: list[Any], initial: dict[str, Any], trailing: dict[str, Any], error: Any) -> None:
        self.messages = messages
        self.initial = initial
        self.trailing = trailing
        self.error = error

    @property
    def replayed(self) -> bool:
        return REPLAYED in (self.trailing if self.error else self.initial)

    @property
    def text(self) -> bytes:
        return b"".join(each.data for each in self.messages)

    @property
    def reason(self) -> str:
        """Why it was refused."""
        return str(details(self.error)["ErrorInfo"].reason) if self.error else "OK"  # type: ignore[attr-defined]  # a message of that name


async def heard(call: Any) -> Heard:
    messages: list[Any] = []
    error = None
    try:
        if hasattr(call, "read"):
            while (message := await call.read()) is not grpc.aio.EOF:
                messages.append(message)
        else:
            messages.append(await call)
    except grpc.aio.AioRpcError as failure:
        error = failure
    return Heard(messages, dict(await call.initial_metadata()), dict(await call.trailing_metadata()), error)


def ask(
    rig: Rig, method: str, request: Any, key: str | None = "k", *more: tuple[str, str], timeout: float = SECONDS
) -> Any:
    stub = chat_pb2_grpc.ChatServiceStub(rig.channel)
    named = () if key is None else (("idempotency-key", key),)
    own = () if any(name == "authorization" for name, _ in more) else rig.signed_in
    return getattr(stub, method)(request, metadata=(*own, *named, *more), timeout=timeout)


def post(rig: Rig, key: str | None = "k", *more: tuple[str, str], path: str = PATH, **members: Any) -> Any:
    """As the gateway sends a REST request."""
    body = HttpBody(content_type="application/json", data=orjson.dumps({**BODY, **members}))
    return ask(rig, "CreateChatCompletionHttp", body, key, ("x-envoy-original-path", path), *more)


KINDS: dict[str, Callable[[Rig], Any]] = {
    "typed": lambda rig: ask(rig, "CreateChatCompletion", TYPED),
    "typed stream": lambda rig: ask(rig, "StreamChatCompletion", TYPED),
    "typed text": lambda rig: ask(rig, "CreateCompletion", TEXT),
    "typed text stream": lambda rig: ask(rig, "StreamCompletion", TEXT),
    "vectors": lambda rig: ask(rig, "CreateEmbeddings", EMBED),
    "body": post,
    "events": lambda rig: post(rig, stream=True),
}
kinds = pytest.mark.parametrize("kind", KINDS)


# Once


@kinds
async def test_a_repeated_call_gets_the_first_answer_and_generates_nothing(
    rig: Rig, upstream: FakeUpstream, kind: str
) -> None:
    first, second, third = [await heard(KINDS[kind](rig)) for _ in range(3)]
    assert first.error is None
    assert first.messages == second.messages == third.messages
    assert [first.replayed, second.replayed, third.replayed] == [False, True, True]
    assert len(upstream.posts) == 1


@kinds
async def test_an_error_that_would_come_again_is_repeated_to_the_letter(
    rig: Rig, upstream: FakeUpstream, kind: str
) -> None:
    upstream.script(status(400, {"error": {"message": "too much", "code": "context_length_exceeded"}}))
    first, second = [await heard(KINDS[kind](rig)) for _ in range(2)]
    assert (first.error.code(), first.reason, first.replayed) == (
        StatusCode.INVALID_ARGUMENT, "CONTEXT_LENGTH_EXCEEDED", False,
    )  # fmt: skip
    assert (second.error.code(), second.error.details()) == (first.error.code(), first.error.details())
    assert second.trailing == first.trailing | {REPLAYED: "true"}
    assert len(upstream.posts) == 1


@pytest.mark.parametrize(("kind", "code"), [*((kind, 503) for kind in KINDS), ("typed stream", 500), ("body", 429)])
async def test_an_error_that_may_pass_frees_the_key(rig: Rig, upstream: FakeUpstream, kind: str, code: int) -> None:
    upstream.default = lambda _: status(code)
    assert (await heard(KINDS[kind](rig))).error is not None
    upstream.forget()
    again = await heard(KINDS[kind](rig))
    assert (again.error, again.replayed, len(upstream.posts)) == (None, False, 1)


async def test_what_the_proto_refuses_is_repeated_too(rig: Rig) -> None:
    wrong = chat_pb2.CreateChatCompletionRequest(model="", messages=TYPED.messages)
    first, second = [await heard(ask(rig, "CreateChatCompletion", wrong)) for _ in range(2)]
    assert (first.error.code(), first.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER")
    assert second.trailing == first.trailing | {REPLAYED: "true"}


@pytest.mark.parametrize("kind", ["typed stream", "events"])
async def test_a_stream_that_broke_is_not_kept(rig: Rig, upstream: FakeUpstream, kind: str) -> None:
    gate = upstream.gate()
    upstream.script([*stream("Hello")[:2], gate, RESET])
    call = KINDS[kind](rig)
    await call.read()
    gate.release()
    rest = await heard(call)
    assert b'"error"' in rest.text if kind == "events" else rest.error.code() == StatusCode.UNAVAILABLE
    again = await heard(KINDS[kind](rig))
    assert (again.error, again.replayed, len(upstream.posts)) == (None, False, 2)


async def test_a_call_without_a_key_is_done_every_time(rig: Rig, upstream: FakeUpstream, database: Database) -> None:
    for _ in range(2):
        assert not (await heard(post(rig, None))).replayed
    assert (len(upstream.posts), await database.fetchval(COUNT)) == (2, 0)


async def test_a_method_that_takes_no_key_ignores_it(rig: Rig) -> None:
    stub = models_pb2_grpc.ModelServiceStub(rig.channel)
    metadata = (*rig.signed_in, ("idempotency-key", ""))
    assert (await stub.ListModels(models_pb2.ListModelsRequest(), metadata=metadata, timeout=SECONDS)).data


# Whose key it is, and for what


async def test_the_same_key_with_another_body_is_a_conflict(rig: Rig, upstream: FakeUpstream) -> None:
    await heard(post(rig))
    for other in (post(rig, model="n"), post(rig, path=f"{PATH}?a=b")):
        refused = await heard(other)
        assert (refused.error.code(), refused.reason) == (StatusCode.ABORTED, "IDEMPOTENCY_KEY_REUSE")
        assert (refused.trailing["x-http-status"], refused.replayed) == ("409", False)
    assert len(upstream.posts) == 1


async def test_the_content_type_is_not_part_of_what_is_asked(rig: Rig) -> None:
    await heard(post(rig))
    body = HttpBody(content_type="text/plain", data=orjson.dumps(BODY))
    assert (await heard(ask(rig, "CreateChatCompletionHttp", body, "k", ("x-envoy-original-path", PATH)))).replayed


async def test_users_do_not_meet_in_a_key(rig: Rig, upstream: FakeUpstream) -> None:
    upstream.script(answer(completion("mine")), answer(completion("yours")))
    first = await heard(post(rig))
    second = await heard(post(rig, "k", token(rig, "usr_2")))
    assert (b"mine" in first.text, b"yours" in second.text, second.replayed) == (True, True, False)
    assert (await heard(post(rig, "k", token(rig, "usr_2")))).messages == second.messages


async def test_paths_and_methods_do_not_meet_in_a_key(rig: Rig, upstream: FakeUpstream) -> None:
    calls = [
        post(rig),
        post(rig, path="/v1/else"),
        *(KINDS[kind](rig) for kind in ("typed", "typed stream", "typed text")),
    ]
    assert [(each.error, each.replayed) for each in [await heard(call) for call in calls]] == [(None, False)] * 5


async def test_the_field_request_id_is_the_same_as_the_metadata(rig: Rig, upstream: FakeUpstream) -> None:
    named = chat_pb2.CreateChatCompletionRequest(request_id="k")
    named.MergeFrom(TYPED)
    tries = [(named, None), (TYPED, "k"), (named, "k")]
    said = [await heard(ask(rig, "CreateChatCompletion", request, key)) for request, key in tries]
    assert [each.replayed for each in said] == [False, True, True]
    assert "request_id" not in upstream.posts[0].body


@pytest.mark.parametrize("key", ["a", "a b", "~" * 255])
async def test_a_key_is_any_printable_text(rig: Rig, key: str) -> None:
    assert [(await heard(post(rig, key))).replayed for _ in range(2)] == [False, True]


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_a_key_that_is_none_is_refused(rig: Rig, upstream: FakeUpstream, key: str) -> None:
    refused = await heard(post(rig, key))
    info: Any = details(refused.error)["ErrorInfo"]
    assert (refused.error.code(), info.reason, info.metadata["param"]) == (
        StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER", "idempotency-key",
    )  # fmt: skip
    assert upstream.posts == []


async def test_two_different_keys_are_refused(rig: Rig) -> None:
    named = chat_pb2.CreateChatCompletionRequest(request_id="other")
    named.MergeFrom(TYPED)
    assert (await heard(ask(rig, "CreateChatCompletion", named))).reason == "INVALID_PARAMETER"


# While the first call runs


async def test_while_the_first_call_runs_the_second_is_told_to_wait(rig: Rig, upstream: FakeUpstream) -> None:
    gate = upstream.gate()
    upstream.script([gate, *answer(completion("slow"))])
    first = asyncio.create_task(heard(post(rig)))
    await asyncio.to_thread(upstream.wait_for_posts, 1)
    second, other = await heard(post(rig)), await heard(post(rig, model="n"))
    found: dict[str, Any] = details(second.error)
    assert (second.error.code(), second.reason) == (StatusCode.ABORTED, "IDEMPOTENCY_IN_PROGRESS")
    assert (second.trailing["x-http-status"], second.trailing["retry-after"]) == ("409", "1")
    assert found["RetryInfo"].retry_delay.seconds == 1
    assert other.reason == "IDEMPOTENCY_KEY_REUSE"
    gate.release()
    said = await first
    assert (await heard(post(rig))).messages == said.messages


async def test_of_many_at_once_one_is_done(rig: Rig, upstream: FakeUpstream) -> None:
    gate = upstream.gate()
    upstream.default = lambda _: [gate, *answer(completion("slow"))]
    calls = [asyncio.create_task(heard(post(rig))) for _ in range(10)]
    done: set[Any] = set()
    while len(done) < 9:
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    gate.release()
    reasons = [(await each).reason for each in calls]
    assert sorted(reasons) == ["IDEMPOTENCY_IN_PROGRESS"] * 9 + ["OK"]
    assert len(upstream.posts) == 1


@pytest.mark.parametrize("kind", ["typed stream", "events"])
async def test_tokens_of_a_call_with_a_key_come_as_they_are_made(rig: Rig, upstream: FakeUpstream, kind: str) -> None:
    gate = upstream.gate()
    upstream.script(stream("a", "b", gate=gate))
    call = KINDS[kind](rig)
    for word in (b"a", b"b"):
        gate.release()
        assert b'"%s"' % word in (await call.read()).SerializeToString() or kind == "typed stream"
    gate.release(3)
    await heard(call)


# When somebody leaves


@pytest.mark.parametrize("kind", ["typed stream", "events"])
async def test_what_a_client_left_in_the_middle_is_there_when_it_returns(
    rig: Rig, upstream: FakeUpstream, kind: str
) -> None:
    gate = upstream.gate()
    upstream.script(stream("Hello", " world", gate=gate))
    call = KINDS[kind](rig)
    gate.release()
    await call.read()
    call.cancel()
    gate.release(9)
    again = await settled(lambda: KINDS[kind](rig))
    upstream.forget()
    events = kind == "events"
    whole = await heard(post(rig, None, stream=True) if events else ask(rig, "StreamChatCompletion", TYPED, None))
    assert (again.text == whole.text) if events else (again.messages == whole.messages)
    assert again.replayed


async def settled(call: Callable[[], Any]) -> Heard:
    """What a call says when nothing runs under its key any more."""
    while (said := await heard(call())).reason == "IDEMPOTENCY_IN_PROGRESS":
        pass
    return said


async def test_a_plain_call_that_was_left_is_finished_as_well(rig: Rig, upstream: FakeUpstream) -> None:
    gate = upstream.gate()
    upstream.script([gate, *answer(completion("late"))])
    call = post(rig)
    waiting = asyncio.create_task(heard(call))
    await asyncio.to_thread(upstream.wait_for_posts, 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.release()
    again = await settled(lambda: post(rig))
    assert (b"late" in again.text, again.replayed, len(upstream.posts)) == (True, True, 1)


async def test_the_client_s_own_deadline_ends_the_call_and_frees_the_key(rig: Rig, upstream: FakeUpstream) -> None:
    upstream.script([STALL])
    late = await heard(ask(rig, "CreateChatCompletion", TYPED, timeout=0.3))
    assert late.error.code() == StatusCode.DEADLINE_EXCEEDED
    await asyncio.to_thread(upstream.wait_for_hang_up)
    again = await settled(lambda: ask(rig, "CreateChatCompletion", TYPED))
    assert (again.error, again.replayed, len(upstream.posts)) == (None, False, 2)


async def test_a_server_that_stops_finishes_what_it_can(
    tmp_path: Path, upstream: FakeUpstream, database_url: str
) -> None:
    gate = upstream.gate()
    upstream.script([gate, *answer(completion("at last"))])
    async with serving(tmp_path, upstream, database_url) as rig:
        call = post(rig)
        await asyncio.to_thread(upstream.wait_for_posts, 1)
        call.cancel()
        stopping = asyncio.create_task(rig.server.stop(SECONDS))
        gate.release()
        await stopping
    async with serving(tmp_path, upstream, database_url) as rig:
        again = await heard(post(rig))
    assert (b"at last" in again.text, again.replayed) == (True, True)


async def test_a_server_that_stops_at_once_frees_the_key(
    tmp_path: Path, upstream: FakeUpstream, database_url: str, database: Database
) -> None:
    upstream.script([STALL])
    async with serving(tmp_path, upstream, database_url) as rig:
        call = post(rig)
        await asyncio.to_thread(upstream.wait_for_posts, 1)
        await rig.server.stop(0)
        assert (await heard(call)).error is not None
    assert await database.fetchval(COUNT) == 0


# Several processes, one database


async def test_processes_share_their_keys(tmp_path: Path, upstream: FakeUpstream, database_url: str) -> None:
    gate = upstream.gate()
    upstream.script([gate, *answer(completion("slow"))])
    async with (
        serving(tmp_path, upstream, database_url) as one,
        serving(tmp_path, upstream, database_url) as two,
    ):
        first = asyncio.create_task(heard(post(one)))
        await asyncio.to_thread(upstream.wait_for_posts, 1)
        assert (await heard(post(two))).reason == "IDEMPOTENCY_IN_PROGRESS"
        gate.release()
        said = await first
        again = await heard(post(two))
    assert (again.messages, again.replayed, len(upstream.posts)) == (said.messages, True, 1)


async def test_the_key_of_a_process_that_died_is_free(
    tmp_path: Path, upstream: FakeUpstream, database_url: str, database: Database
) -> None:
    upstream.script([STALL])
    async with serving(tmp_path, upstream, database_url) as rig:
        left = post(rig)
        await asyncio.to_thread(upstream.wait_for_posts, 1)
        await database.execute("UPDATE idempotency_keys SET holder = -1")  # a number that no living process has
        again = await heard(post(rig))
        assert (again.error, again.replayed) == (None, False)
        left.cancel()
        assert (await heard(post(rig))).messages == again.messages


async def test_an_answer_is_forgotten_when_it_has_expired(rig: Rig, upstream: FakeUpstream, database: Database) -> None:
    await heard(post(rig))
    assert await database.fetchval("SELECT expires_at > now() + interval '23 hours' FROM idempotency_keys")
    await database.execute("UPDATE idempotency_keys SET expires_at = now()")
    assert not (await heard(post(rig, model="n"))).replayed
    assert len(upstream.posts) == 2


async def test_the_sweep_deletes_what_has_expired(database: Database) -> None:
    await database.execute("""
        INSERT INTO idempotency_keys (scope, fingerprint, holder, run, expires_at)
        SELECT int4send(n), '', 1, gen_random_uuid(), now() + CASE n WHEN 0 THEN interval '1 hour' ELSE '0' END
        FROM generate_series(0, 2500) AS n
    """)
    await sweep(database)
    assert await database.fetchval(COUNT) == 1


async def test_answers_are_encrypted_at_rest(rig: Rig, upstream: FakeUpstream, database: Database) -> None:
    upstream.script(answer(completion("a secret")))
    assert b"a secret" in (await heard(post(rig))).text
    row = await database.fetchrow("SELECT * FROM idempotency_keys")
    assert row is not None
    assert row["answer"]
    assert not [each for each in (b"secret", b"content", b"application") if each in b"".join(map(_bytes, row.values()))]


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


async def test_an_answer_that_cannot_be_read_any_more_is_made_anew(
    tmp_path: Path, upstream: FakeUpstream, database_url: str
) -> None:
    async with serving(tmp_path, upstream, database_url) as rig:
        await heard(post(rig))
    async with serving(tmp_path, upstream, database_url, data_secret="t" * 32) as rig:
        assert [(await heard(post(rig))).replayed for _ in range(2)] == [False, True]
    assert len(upstream.posts) == 2


# Without the database


@asynccontextmanager
async def unreachable(postgres: EmbeddedPostgres, url: str) -> AsyncIterator[None]:
    """Nobody gets at the database of `url` any more, until the end."""
    name = url.partition("?")[0].rpartition("/")[2]
    maintenance = await db.connect(postgres.url_of("postgres", role="postgres"))
    try:
        await maintenance.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
        await maintenance.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        yield
        await maintenance.execute(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
    finally:
        await maintenance.close()


async def test_without_the_database_only_calls_with_a_key_are_refused(
    rig: Rig, upstream: FakeUpstream, postgres: EmbeddedPostgres, database_url: str
) -> None:
    async with unreachable(postgres, database_url):
        refused = await heard(post(rig))
        assert (refused.error.code(), refused.trailing["x-http-status"]) == (StatusCode.UNAVAILABLE, "503")
        assert upstream.posts == []
        assert (await heard(post(rig, None))).error is None
    while (again := await heard(post(rig))).reason == "SERVICE_UNAVAILABLE":
        pass
    assert (again.error, again.replayed) == (None, False)


async def test_an_answer_made_while_the_database_was_gone_is_given_and_kept_when_it_is_back(
    rig: Rig, upstream: FakeUpstream, postgres: EmbeddedPostgres, database_url: str
) -> None:
    gate = upstream.gate()
    upstream.script([gate, *answer(completion("given"))])
    waiting = asyncio.create_task(heard(post(rig)))
    await asyncio.to_thread(upstream.wait_for_posts, 1)
    async with unreachable(postgres, database_url):
        gate.release()
        first = await waiting
        assert b"given" in first.text
    while (again := await heard(post(rig))).reason in {"SERVICE_UNAVAILABLE", "IDEMPOTENCY_IN_PROGRESS"}:
        pass
    assert (again.messages, again.replayed, len(upstream.posts)) == (first.messages, True, 1)
