"""Calls that may be repeated: a second call with the same idempotency key gets the first one's answer (CONTRACT 13.2).

A call with a key runs in a task of its own, which a client that hangs up does not end: its repetition finds the answer.
Before the client gets the last word, the answer is kept. Kept are successes, and errors that would come again; after
anything else, a cancellation or a crash included, the key is free.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from services.runtime import call as calls
from services.runtime.errors import ApiError, InvalidRequest, Unavailable
from services.runtime.idempotency_store import AnswerStore, Attempt
from services.runtime.policy import keyed
from services.runtime.recording import Answer, Recording
from services.runtime.statuses import Refusal, refused

KEY, FIELD = "idempotency-key", "request_id"
LARGEST = 32 * 1024 * 1024
PASSING = frozenset({401, 408, 409, 429})
_SHAPE = re.compile(r"[\x20-\x7e]{1,255}")
_SLACK = 1.0  # seconds in which a call may say by itself that its deadline has passed
_AGAIN = 1.0  # seconds between attempts to tell a database that went away in the meantime

Run = Callable[[Any], Awaitable[Any]]
"""What a call does, given its context."""
Finder = Callable[[Mapping[str, str | bytes], Message], str | None]
"""Finds the idempotency key of a call in its metadata or its request."""
log = logging.getLogger("jan.idempotency")


class Idempotency:
    """The calls with a key that run in this process. Answers above `largest` bytes are given, but not kept."""

    def __init__(self, store: AnswerStore, services: Iterable[ServiceDescriptor], *, largest: int = LARGEST) -> None:
        services = list(services)
        methods = {f"/{each.full_name}/{method.name}": method for each in services for method in each.methods}
        self._named = {name: FIELD in methods[name].input_type.fields_by_name for name in keyed(services)}
        self._store = store
        self._largest = largest
        self._tasks: set[asyncio.Task[None]] = set()

    def finder(self, method: str) -> Finder | None:
        """What finds the key of a call of `method`; None when it takes none."""
        return partial(key_of, named=self._named[method]) if method in self._named else None

    async def once(self, attempt: Attempt, run: Run, context: Any, *, rest: bool) -> bytes | None:
        """What `run` answers, or what it answered the first time; raises what it raises, or the `Refusal` that it ended
        with the first time. Raises `Conflict` as `AnswerStore.claim`, and `Unavailable` without the database."""
        if not self._store.reachable:
            raise Unavailable("Idempotency keys need the database, which is not reachable right now; try again shortly")
        recording = Recording(context, largest=self._largest)
        self._start(self._attend(attempt, run, recording, rest=rest))
        return await recording.hand_on()

    async def drain(self, grace: float) -> None:
        """Give the calls that run `grace` seconds, then cancel them, which frees their keys."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, attempt: Attempt, run: Run, recording: Recording, *, rest: bool) -> None:
        """A call from its claim to the end, whether or not its client stays to hear of it."""
        try:
            earlier = await self._claimed(attempt)
            if earlier is not None:
                recording.play(earlier)
            else:
                await self._first(attempt, run, recording, rest=rest)
        except Exception as error:
            recording.error = error
        except asyncio.CancelledError as error:
            recording.error = error
            raise
        finally:
            if recording.error is not None and recording.abandoned:
                fields = {"request_id": calls.current().request_id, "cause": repr(recording.error)[:500]}
                log.warning("request_failed_without_client", extra=fields)
            recording.end()

    async def _claimed(self, attempt: Attempt) -> Answer | None:
        try:
            return await self._store.claim(attempt)
        except Unavailable:  # whether the claim came through nobody knows
            self._start(self._tell_at_last(attempt, None))
            raise

    async def _first(self, attempt: Attempt, run: Run, recording: Recording, *, rest: bool) -> None:
        answer = None
        try:
            answer = await _recorded(run, recording, rest=rest)
        finally:
            await self._settle(attempt, answer)

    async def _settle(self, attempt: Attempt, answer: Answer | None) -> None:
        """Keep the answer, or free the key; without the database as soon as it is back."""
        try:
            await self._tell(attempt, answer)
        except Unavailable as error:
            log.warning("idempotency_not_settled", extra={"reason": error.message, "remedy": "it is tried again"})
            self._start(self._tell_at_last(attempt, answer))

    async def _tell(self, attempt: Attempt, answer: Answer | None) -> None:
        if answer is None:
            await self._store.free(attempt)
        else:
            await self._store.keep(attempt, answer)

    async def _tell_at_last(self, attempt: Attempt, answer: Answer | None) -> None:
        """Until the database has heard it, the key says that its first call still runs. There are never many of these:
        without the database nobody gets as far as needing one."""
        while True:
            await asyncio.sleep(_AGAIN)
            with suppress(Unavailable):
                return await self._tell(attempt, answer)


async def _recorded(run: Run, recording: Recording, *, rest: bool) -> Answer | None:
    """Run to the end; what of it is to be kept, if anything."""
    try:
        async with asyncio.timeout_at(calls.current().deadline + _SLACK):
            recording.finish(await run(recording))
    except Exception as error:
        recording.error = error
    if recording.overflowed:
        log.warning("idempotency_answer_too_large", extra={"request_id": calls.current().request_id})
        return None
    if recording.error is None:
        return recording.answer()
    refusal = None if recording.begun else _refusal(recording.error, rest=rest)
    return recording.answer(refusal) if refusal else None


def _refusal(error: BaseException, *, rest: bool) -> Refusal | None:
    """The error as the door says it, if the same request would meet it again."""
    if not isinstance(error, ApiError) or error.kind.http >= 500 or error.kind.http in PASSING:
        return None
    return refused(error, calls.current().request_id, rest=rest)


def key_of(metadata: Mapping[str, str | bytes], request: Message, *, named: bool) -> str | None:
    """The idempotency key of a call, None without one: in its metadata, or when `named` in the request itself. Raises
    `InvalidRequest` for what is no key, and for two."""
    given = metadata.get(KEY)
    field = getattr(request, FIELD) if named else ""
    if given is None and not field:
        return None
    param, key = (KEY, str(given)) if given is not None else (FIELD, field)
    if not _SHAPE.fullmatch(key):
        raise InvalidRequest("An idempotency key has 1 to 255 printable ASCII characters", param=param)
    if field and field != key:
        raise InvalidRequest(f"'{KEY}' and '{FIELD}' must be the same when both are given", param=KEY)
    return key


def attempt_of(key: str, method: str, path: str | None, request: Message) -> Attempt:
    """The attempt of the caller to have `request` done once by `method`; `path` is what a REST client asked for, with
    its query."""
    path, _, query = (path or method).partition("?")
    scope = hashlib.sha256("\n".join((calls.caller().user_id, path, key)).encode())
    fingerprint = hashlib.sha256(f"{method}\n{query}\n".encode())
    fingerprint.update(_meant(request))
    return Attempt(scope.digest(), fingerprint.digest())


def _meant(request: Message) -> bytes:
    """What is asked, without what only says how it came here."""
    if isinstance(request, HttpBody):
        return bytes(request.data)
    if FIELD in request.DESCRIPTOR.fields_by_name:
        asked = type(request)()
        asked.CopyFrom(request)
        asked.ClearField(FIELD)
        request = asked
    return request.SerializeToString(deterministic=True)
