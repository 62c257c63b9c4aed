"""Idempotency keys without a server: what counts as a key and as the same request, and how answers are kept."""

import asyncio
from typing import Any, cast

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from grpc import StatusCode
from jan.auth.v1 import api_keys_pb2, auth_pb2
from jan.llm.v1 import chat_pb2

from services.runtime import api
from services.runtime import call as calls
from services.runtime.call import Call
from services.runtime.errors import Conflict, InvalidRequest, NotFound, Unavailable
from services.runtime.httpbody import Broken
from services.runtime.idempotency import Idempotency, attempt_of, key_of
from services.runtime.idempotency_store import AnswerStore, Attempt
from services.runtime.identity import Identity
from services.runtime.policy import keyed
from services.runtime.recording import Answer, Recording, pack, unpack
from services.runtime.statuses import Refusal, refused

GUEST = Identity("usr_1", "guest-1", ("guest",), True, "jwt", ("read", "write"), 4e9, "good")
CHAT, HTTP = "/jan.llm.v1.ChatService/CreateChatCompletion", "/jan.llm.v1.ChatService/CreateChatCompletionHttp"
NAMED = chat_pb2.CreateChatCompletionRequest
SERVICES = [
    file.DESCRIPTOR.services_by_name[name]
    for file, name in ((chat_pb2, "ChatService"), (auth_pb2, "AuthService"), (api_keys_pb2, "KeyService"))
]


def enter(user: str = "usr_1") -> None:
    """Begin a call of that user."""
    caller = Identity(user, "guest-1", ("guest",), True, "jwt", ("read", "write"), 4e9, "good")
    calls.enter(Call("req_1", asyncio.get_running_loop().time() + 10, caller))


# What counts as a key


@pytest.mark.parametrize(
    ("header", "field", "key"),
    [
        (None, "", None),
        ("a", "", "a"),
        (None, "a", "a"),
        ("a", "a", "a"),
        (" ~", "", " ~"),
        ("x" * 255, "", "x" * 255),
    ],
)
def test_a_key_comes_in_the_metadata_or_in_the_request(header: str | None, field: str, key: str | None) -> None:
    metadata = {} if header is None else {"idempotency-key": header}
    assert key_of(metadata, NAMED(request_id=field), named=True) == key


@pytest.mark.parametrize(
    ("header", "field", "param"),
    [
        ("", "", "idempotency-key"),
        ("", "a", "idempotency-key"),
        ("x" * 256, "", "idempotency-key"),
        ("é", "", "idempotency-key"),
        ("a\tb", "", "idempotency-key"),
        ("a\n", "", "idempotency-key"),
        ("a", "b", "idempotency-key"),
        (None, "é", "request_id"),
        (None, "x" * 256, "request_id"),
    ],
)
def test_what_is_no_key_is_refused_by_its_name(header: str | None, field: str, param: str) -> None:
    metadata = {} if header is None else {"idempotency-key": header}
    with pytest.raises(InvalidRequest) as error:
        key_of(metadata, NAMED(request_id=field), named=True)
    assert (error.value.code, error.value.param) == ("invalid_parameter", param)


def test_only_what_creates_or_generates_takes_keys() -> None:
    idempotency = Idempotency(cast(AnswerStore, Store()), SERVICES)
    assert idempotency.finder("/jan.auth.v1.AuthService/GuestLogin") is None
    assert idempotency.finder("/jan.auth.v1.KeyService/ListApiKeys") is None
    for method in (CHAT, HTTP, "/jan.auth.v1.KeyService/CreateApiKey"):
        find = idempotency.finder(method)
        assert find is not None
        assert find({"idempotency-key": "k"}, NAMED()) == "k"


def test_typed_requests_have_a_field_for_the_key() -> None:
    services = api.services()
    taking = keyed(services)
    types = {each.input_type for service in services for each in service.methods if path_of(each) in taking}
    raw = {"google.api.HttpBody", "jan.llm.v1.CreateItemsHttpRequest"}  # of REST faces
    assert {each.full_name for each in types if "request_id" not in each.fields_by_name} == raw


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


# What counts as the same


async def attempt(
    key: str = "k",
    target: str | None = "/v1/x",
    request: Message | None = None,
    *,
    user: str = "usr_1",
    method: str = HTTP,
) -> tuple[bytes, bytes]:
    enter(user)
    made = attempt_of(key, method, target, request if request is not None else HttpBody(data=b"{}"))
    return made.scope, made.fingerprint


async def test_a_key_belongs_to_its_user_and_path() -> None:
    base = await attempt()
    scopes = [await attempt(), await attempt(user="usr_2"), await attempt("l"), await attempt(target="/v1/y")]
    assert [scope == base[0] for scope, _ in scopes] == [True, False, False, False]
    assert {len(each) for each in base} == {32}


@pytest.mark.parametrize(
    ("target", "request_", "same"),
    [
        ("/v1/x", HttpBody(data=b"{}", content_type="text/plain"), True),
        ("/v1/x", HttpBody(data=b"{} "), False),
        ("/v1/x?a=1", HttpBody(data=b"{}"), False),
    ],
)
async def test_the_same_body_and_query_are_the_same_request(target: str, request_: Message, same: bool) -> None:
    first, second = await attempt(), await attempt(target=target, request=request_)
    assert (first[0] == second[0], first[1] == second[1]) == (True, same)


async def test_another_method_of_a_path_is_another_request() -> None:
    first, second = await attempt(), await attempt(method=CHAT)
    assert (first[0] == second[0], first[1] == second[1]) == (True, False)


async def test_without_a_path_the_method_is_what_a_key_is_for() -> None:
    scopes = [await attempt(target=None, method=method) for method in (HTTP, HTTP, CHAT)]
    assert [scope == scopes[0][0] for scope, _ in scopes] == [True, True, False]


async def test_the_key_itself_is_not_part_of_what_is_asked() -> None:
    request = NAMED(model="m", request_id="k")
    assert await attempt(request=NAMED(model="m")) == await attempt(request=request)
    assert await attempt(request=NAMED(model="n")) != await attempt(request=request)
    assert request.request_id == "k"


# Recordings


class Context:
    """A client: it hears what a call says, one message at a time when `slow`."""

    def __init__(self, *, slow: bool = False) -> None:
        self.heard: list[Any] = []
        self._passes = asyncio.Semaphore(0 if slow else 10**6)

    def listen(self) -> None:
        self._passes.release()

    async def write(self, message: bytes) -> None:
        await self._passes.acquire()
        self.heard.append(message)

    async def send_initial_metadata(self, metadata: Any) -> None:
        self.heard.append(metadata)

    def invocation_metadata(self) -> Any:
        return (("a", "b"),)

    def time_remaining(self) -> float | None:
        return 7.0


REFUSAL = Refusal(StatusCode.NOT_FOUND, "é\n", (("grpc-status-details-bin", bytes(range(256))), ("x", "é")))


@pytest.mark.parametrize(
    "answer",
    [
        Answer(),
        Answer((("x-http-status", "201"),), (), b"{}", None),
        Answer((("a-bin", b"\x00\xff"),), (b"", b"data: 1\n\n", b"\xff" * 70_000), b"", None),
        Answer((), (b"typed",), None, None),
    ],
)
def test_an_answer_is_unpacked_as_it_was_packed(answer: Answer) -> None:
    assert unpack(pack(answer)) == answer


def test_a_refusal_is_unpacked_as_it_was_packed() -> None:
    found = unpack(pack(Answer(refusal=REFUSAL))).refusal
    assert found is not None
    assert (found.code, found.message, found.trailers) == (REFUSAL.code, REFUSAL.message, REFUSAL.trailers)


def test_streams_take_little_room() -> None:
    event = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"delta":{"content":"a"}}]}\n\n'
    assert len(pack(Answer(messages=(event,) * 1000))) < len(event) * 1000 / 10


async def test_what_is_recorded_is_handed_on_in_order() -> None:
    context = Context()
    recording = Recording(context, largest=100)
    assert (recording.invocation_metadata(), recording.time_remaining()) == ((("a", "b"),), 7.0)
    await recording.send_initial_metadata((("x-http-status", "201"),))
    await recording.write(b"")
    await recording.write(HttpBody(data=b"2"))
    recording.finish(HttpBody(data=b"3"))
    recording.end()
    two, three = (HttpBody(data=each).SerializeToString() for each in (b"2", b"3"))
    assert await recording.hand_on() == three
    assert context.heard == [(("x-http-status", "201"),), b"", two]
    assert recording.answer() == Answer((("x-http-status", "201"),), (b"", two), three)


async def test_what_is_too_large_is_handed_on_at_the_client_s_pace() -> None:
    context = Context(slow=True)
    recording = Recording(context, largest=3)

    async def say() -> None:
        for message in (b"ab", b"cd", b"ef"):
            await recording.write(message)
        recording.end()

    saying, hearing = asyncio.create_task(say()), asyncio.create_task(recording.hand_on())
    for _ in range(3):
        assert not saying.done()
        context.listen()
        await asyncio.wait([saying, hearing], timeout=0)
    await saying
    assert (await hearing, context.heard, recording.overflowed) == (None, [b"ab", b"cd", b"ef"], True)


async def test_what_is_too_large_ends_when_nobody_listens() -> None:
    recording = Recording(Context(slow=True), largest=3)
    hearing = asyncio.create_task(recording.hand_on())
    await recording.write(b"ab")
    saying = asyncio.create_task(recording.write(b"cd"))
    await asyncio.wait([saying], timeout=0)
    hearing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saying
    with pytest.raises(asyncio.CancelledError):
        await hearing


# Runs


class Store:
    """Rows in memory. `failures` of the next calls find no database."""

    def __init__(self, *, failures: int = 0) -> None:
        self.reachable = True
        self.rows: dict[bytes, Answer | None] = {}
        self.settled = asyncio.Event()
        self.failures = failures

    async def claim(self, attempt: Attempt) -> Answer | None:
        if attempt.scope in self.rows:
            found = self.rows[attempt.scope]
            if found is None:
                raise Conflict("It runs", code="idempotency_in_progress")
            return found
        self.rows[attempt.scope] = None
        self._fail()
        return None

    async def keep(self, attempt: Attempt, answer: Answer) -> None:
        self._fail()
        self.rows[attempt.scope] = answer
        self.settled.set()

    async def free(self, attempt: Attempt) -> None:
        self._fail()
        del self.rows[attempt.scope]
        self.settled.set()

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("The database is not there")


ATTEMPT = Attempt(b"scope", b"fingerprint")


async def once(
    store: Store, run: Any, context: Context | None = None, *, largest: int = 100, rest: bool = False
) -> Any:
    """One call through a process of its own, which is drained at the end."""
    enter()
    idempotency = Idempotency(cast(AnswerStore, store), SERVICES, largest=largest)
    try:
        return await idempotency.once(ATTEMPT, run, context or Context(), rest=rest)
    finally:
        await idempotency.drain(10)


def saying(*messages: bytes, last: bytes | None = b"last", error: Exception | None = None) -> Any:
    async def run(context: Any) -> bytes | None:
        assert calls.caller().user_id == "usr_1"  # it is the same call
        for message in messages:
            await context.write(message)
        if error is not None:
            raise error
        return last

    return run


async def never(context: Any) -> None:
    raise AssertionError("it is done again")


async def test_an_answer_is_kept_and_played_again() -> None:
    store, context = Store(), Context()
    assert await once(store, saying(b"1")) == b"last"
    assert await once(store, never, context) == b"last"
    assert context.heard == [(("idempotent-replayed", "true"),), b"1"]


async def test_a_refusal_is_kept_as_the_first_client_saw_it() -> None:
    store, error = Store(), NotFound("It is not there", param="id")
    with pytest.raises(NotFound):
        await once(store, saying(error=error), rest=True)
    with pytest.raises(Refusal) as again:
        await once(store, never, rest=True)
    said = refused(error, "req_1", rest=True)
    assert (again.value.code, again.value.message) == (said.code, said.message)
    assert again.value.trailers == (*said.trailers, ("idempotent-replayed", "true"))


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ((), Unavailable("later")),
        ((), RuntimeError("a fault")),
        ((), Conflict("busy")),
        ((b"1",), NotFound("late")),
        ((b"1",), Broken(InvalidRequest("late"), HttpBody(data=b"error"))),
    ],
)
async def test_what_may_not_come_again_frees_the_key(messages: tuple[bytes, ...], error: Exception) -> None:
    store = Store()
    with pytest.raises(type(error)) as raised:
        await once(store, saying(*messages, error=error))
    assert (raised.value, store.rows) == (error, {})


@pytest.mark.parametrize("run", [saying(b"12", b"34", last=None), saying(last=b"1234"), saying(b"12", last=b"34")])
async def test_what_is_too_large_is_given_and_not_kept(run: Any) -> None:
    store = Store()
    await once(store, run, largest=3)
    assert store.rows == {}


async def test_without_the_database_nothing_is_begun() -> None:
    store = Store()
    store.reachable = False
    with pytest.raises(Unavailable):
        await once(store, never)


async def test_a_claim_that_may_have_come_through_is_taken_back() -> None:
    store = Store(failures=1)
    with pytest.raises(Unavailable):
        await once(store, never)
    assert store.rows == {}


async def test_an_answer_that_cannot_be_kept_now_is_given_now_and_kept_later() -> None:
    store = Store()

    async def run(context: Any) -> bytes:
        store.failures = 2
        return b"last"

    assert await once(store, run) == b"last"
    assert store.rows == {ATTEMPT.scope: Answer(last=b"last")}


async def test_a_client_that_leaves_does_not_end_the_call() -> None:
    store, go, begun = Store(), asyncio.Event(), asyncio.Event()
    idempotency = Idempotency(cast(AnswerStore, store), SERVICES)

    async def run(context: Any) -> bytes:
        begun.set()
        await go.wait()
        await context.write(b"1")
        return b"last"

    enter()
    client = asyncio.create_task(idempotency.once(ATTEMPT, run, Context(), rest=False))
    await begun.wait()
    client.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client
    go.set()
    await store.settled.wait()
    assert store.rows == {ATTEMPT.scope: Answer(messages=(b"1",), last=b"last")}


async def test_a_process_that_stops_cancels_what_does_not_end_in_time_and_frees_its_key() -> None:
    store, begun = Store(), asyncio.Event()
    idempotency = Idempotency(cast(AnswerStore, store), SERVICES)

    async def run(context: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    enter()
    client = asyncio.create_task(idempotency.once(ATTEMPT, run, Context(), rest=False))
    await begun.wait()
    await idempotency.drain(0)
    with pytest.raises(asyncio.CancelledError):
        await client
    assert store.rows == {}


async def test_a_call_that_does_not_mind_its_deadline_is_ended() -> None:
    store = Store()

    async def run(context: Any) -> None:
        await asyncio.Event().wait()

    calls.enter(Call("req_1", asyncio.get_running_loop().time() - 5, GUEST))
    idempotency = Idempotency(cast(AnswerStore, store), SERVICES)
    with pytest.raises(TimeoutError):
        await idempotency.once(ATTEMPT, run, Context(), rest=False)
    assert store.rows == {}
