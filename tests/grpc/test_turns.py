"""Chats in conversations over a real connection, a real database and a scripted upstream: what is sent and kept."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import orjson
import pytest
import pytest_asyncio
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import json_format
from jan.llm.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    conversations_pb2,
    conversations_pb2_grpc,
    items_pb2,
)

from services.runtime.db import Database
from tests.fake_upstream import RESET, STALL, USAGE, Act, FakeUpstream, answer, chunk, completion, sse, status, stream
from tests.grpc.keys import Account, guest
from tests.grpc.rig import SECONDS, Rig, details, running

CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Hanoi"}'}}
THOUGHT = {"role": "assistant", "content": "42", "reasoning_content": "Hm"}
PATIENT = {"timeout": SECONDS}


@pytest.fixture
def upstream() -> Any:
    with FakeUpstream() as server:
        yield server


@pytest_asyncio.fixture
async def rig(tmp_path: Path, upstream: FakeUpstream, database_url: str) -> AsyncIterator[Rig]:
    async with serving(tmp_path, upstream, database_url) as rig:
        yield rig


def serving(folder: Path, upstream: FakeUpstream, database_url: str, **settings: Any) -> Any:
    """A server with the models `m`, `other` and the small `tiny`, all of the same upstream."""
    models = "[m, other, {id: tiny, context_window: 60}]"
    file = folder / "providers.yml"
    file.write_text(f"providers: {{default: [{{name: fake, url: '{upstream.url}', models: {models}}}]}}")
    return running(folder, "auth", "llm", database_url=database_url, jan_provider_configs_file=file, **settings)


class Talk:
    """A guest's conversation, and its stubs."""

    def __init__(self, rig: Rig, account: Account, conversation_id: str) -> None:
        self.account, self.id = account, conversation_id
        self.chats: Any = chat_pb2_grpc.ChatServiceStub(rig.channel)
        self.conversations: Any = conversations_pb2_grpc.ConversationServiceStub(rig.channel)

    @property
    def options(self) -> dict[str, Any]:
        return {"metadata": self.account.signed_in, **PATIENT}

    def body(self, *said: Any, **members: Any) -> dict[str, Any]:
        messages = [each if isinstance(each, dict) else {"role": "user", "content": each} for each in said]
        return {"model": "m", "messages": messages, "conversation": self.id, **members}

    async def events(self, *said: Any, **members: Any) -> list[bytes]:
        """What the REST face answers, in whole messages."""
        request = HttpBody(data=orjson.dumps(self.body(*said, **members)))
        return [each.data async for each in self.chats.CreateChatCompletionHttp(request, **self.options)]

    async def say(self, *said: Any, **members: Any) -> Any:
        (data,) = await self.events(*said, **members)
        return orjson.loads(data)

    async def stream(self, *said: Any, **members: Any) -> list[Any]:
        """The chunks of a stream that ends well."""
        text = b"".join(await self.events(*said, stream=True, **members)).decode()
        *lines, done = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
        assert done == "[DONE]"
        return [orjson.loads(line) for line in lines]

    async def refused(self, *said: Any, **members: Any) -> tuple[str, str]:
        """Reason and parameter of the error that a chat ends with."""
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self.events(*said, **members)
        return reason(error.value)

    async def items(self) -> list[dict[str, Any]]:
        request = items_pb2.ListItemsRequest(conversation_id=self.id, limit=100)
        found = json_format.MessageToDict(
            await self.conversations.ListItems(request, **self.options), preserving_proto_field_name=True
        )
        return list(found.get("data", []))

    async def said(self) -> list[tuple[str, Any]]:
        return [(each["role"], each.get("content", "")) for each in await self.items()]

    async def title(self) -> str:
        found = await self.conversations.GetConversation(
            conversations_pb2.GetConversationRequest(id=self.id), **self.options
        )
        return str(found.data.title)

    async def add(self, role: str, content: Any) -> str:
        request = json_format.ParseDict(
            {"conversation_id": self.id, "item": {"role": role, "content": content}}, items_pb2.CreateItemRequest()
        )
        return str((await self.conversations.CreateItem(request, **self.options)).data.id)

    async def regenerate(self, item_id: str, **members: Any) -> Any:
        request = items_pb2.RegenerateItemRequest(conversation_id=self.id, item_id=item_id, **members)
        return (await self.conversations.RegenerateItem(request, **self.options)).data


def reason(error: grpc.aio.AioRpcError) -> tuple[str, str]:
    info: Any = details(error)["ErrorInfo"]
    return info.reason.lower(), info.metadata["param"]


async def begun(rig: Rig, *, account: Account | None = None, **members: Any) -> Talk:
    """A new conversation."""
    talk = Talk(rig, account or await guest(rig), "")
    request = conversations_pb2.CreateConversationRequest(**members)
    talk.id = (await talk.conversations.CreateConversation(request, **talk.options)).data.id
    return talk


@pytest_asyncio.fixture
async def talk(rig: Rig) -> Talk:
    return await begun(rig)


async def settled(talk: Talk) -> None:
    """Wait until nobody generates in the conversation any more."""
    async with asyncio.timeout(SECONDS):
        while True:
            with suppress(grpc.aio.AioRpcError):
                await talk.say("probe", store=False)
                return


# What is kept


async def test_both_turns_are_kept_with_all_that_is_known_of_them(talk: Talk) -> None:
    said = await talk.say("What is it?")
    assert said["conversation"] == {"id": talk.id, "title": "What is it?"}
    assert {name: value for name, value in said.items() if name != "conversation"} == completion(
        "Hello world", model="m"
    )
    asked, answered = await talk.items()
    assert (asked["role"], asked["content"], asked["status"]) == ("user", "What is it?", "completed")
    assert (answered["role"], answered["content"], answered["status"]) == ("assistant", "Hello world", "completed")
    assert (answered["model"], answered["finish_reason"], answered["usage"]) == ("m", "stop", USAGE)
    assert "model" not in asked
    assert "trimmed" not in said


async def test_a_streamed_answer_is_kept_and_the_chunk_that_ends_it_names_the_conversation(talk: Talk) -> None:
    chunks = await talk.stream("What is it?")
    assert [each["choices"][0]["finish_reason"] for each in chunks] == [None, None, "stop"]
    assert [each.get("conversation") for each in chunks] == [None, None, {"id": talk.id, "title": "What is it?"}]
    assert await talk.said() == [("user", "What is it?"), ("assistant", "Hello world")]
    assert (await talk.items())[1]["usage"] == USAGE


async def test_every_chunk_that_ends_a_choice_names_the_conversation_however_many_there_are(
    talk: Talk, upstream: FakeUpstream
) -> None:
    ends = [chunk({"content": "a"}, index=n, finish_reason="stop") for n in range(2)]
    for payloads in (ends[:1], ends, [chunk({"content": "b"}, index=1), *ends]):
        upstream.script(sse(*payloads, "[DONE]"))
        chunks = await talk.stream("Hi", n=len(payloads))
        assert len(chunks) == len(payloads)
        named = [each for each in chunks if "conversation" in each]
        assert named == [each for each in chunks if each["choices"][0]["finish_reason"]]


async def test_usage_that_was_asked_for_comes_after_the_end(talk: Talk) -> None:
    *_, ended, last = await talk.stream("Hi", stream_options={"include_usage": True})
    assert (ended["conversation"]["id"], last["choices"], last["usage"]) == (talk.id, [], USAGE)


async def test_latency_is_kept_and_shown(talk: Talk) -> None:
    await talk.say("Hi")
    asked, answered = await talk.items()
    assert "latency_ms" not in asked
    assert 0 <= answered["latency_ms"] < SECONDS * 1000


async def test_the_next_turn_is_sent_with_what_was_said(talk: Talk, upstream: FakeUpstream) -> None:
    await talk.say("One")
    await talk.stream("Two", {"role": "system", "content": "Be brief"}, top_k=40)
    assert upstream.posts[1].body["messages"] == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Hello world"},
        {"role": "user", "content": "Two"},
    ]
    assert upstream.posts[1].body["top_k"] == 40
    assert not {"conversation", "store", "store_reasoning"} & set(upstream.posts[1].body)
    assert [role for role, _ in await talk.said()] == ["user", "assistant", "user", "assistant"]


async def test_a_conversation_may_be_named_by_an_object(talk: Talk) -> None:
    assert (await talk.say("Hi", conversation={"id": talk.id}))["conversation"]["id"] == talk.id


async def test_without_store_history_is_read_and_nothing_written(talk: Talk, upstream: FakeUpstream) -> None:
    await talk.add("user", "One")
    said = await talk.say("Two", store=False)
    assert said["conversation"] == {"id": talk.id, "title": None}
    assert [each["content"] for each in upstream.posts[0].body["messages"]] == ["One", "Two"]
    assert (await talk.said(), await talk.title()) == ([("user", "One")], "")


async def test_reasoning_is_kept_only_when_asked_for(talk: Talk, upstream: FakeUpstream) -> None:
    upstream.script(*[sse(chunk(THOUGHT), chunk({}, finish_reason="stop"), "[DONE]")] * 2)
    await talk.stream("Hi")
    await talk.stream("Again", store_reasoning=True)
    assert [each.get("reasoning_content") for each in await talk.items()] == [None, None, None, "Hm"]
    assert "reasoning_content" not in upstream.posts[1].body["messages"][1]


async def test_tool_calls_are_kept_and_replayed_with_their_outputs(talk: Talk, upstream: FakeUpstream) -> None:
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":'}}
    second = {"index": 0, "function": {"arguments": '"Hanoi"}'}}
    parts = [chunk({"role": "assistant", "content": None, "tool_calls": [first]}), chunk({"tool_calls": [second]})]
    upstream.script(sse(*parts, chunk({}, finish_reason="tool_calls"), "[DONE]"))
    await talk.stream("Weather?")
    called = (await talk.items())[1]
    assert (called["tool_calls"], called["finish_reason"]) == ([CALL], "tool_calls")
    output = {"role": "tool", "content": "30 °C", "tool_call_id": "call_1"}
    await talk.say(output)
    assert upstream.posts[1].body["messages"] == [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        output,
    ]
    assert [(role, content) for role, content in await talk.said()][2:] == [
        ("tool", "30 °C"),
        ("assistant", "Hello world"),
    ]


async def test_of_several_choices_the_first_is_kept(talk: Talk, upstream: FakeUpstream) -> None:
    upstream.script(answer(completion("A", "B")))
    assert len((await talk.say("Hi", n=2))["choices"]) == 2
    upstream.script(
        sse(
            *(chunk({"content": "C"}, index=1), chunk({"content": "D"}), chunk({}, finish_reason="stop")),
            *(chunk({"content": "E"}, index=1), chunk({}, index=1, finish_reason="length"), "[DONE]"),
        )
    )
    assert len(await talk.stream("Hi again", n=2)) == 5
    assert [content for role, content in await talk.said() if role == "assistant"] == ["A", "D"]


async def test_text_that_postgresql_does_not_have_is_left_out_of_answers(talk: Talk, upstream: FakeUpstream) -> None:
    upstream.script(answer(completion("a\0b")))
    await talk.say("Hi")
    assert (await talk.said())[1] == ("assistant", "ab")


# Titles


async def test_a_title_that_was_given_stays(rig: Rig) -> None:
    talk = await begun(rig, title="Mine")
    assert (await talk.say("Hi"))["conversation"]["title"] == "Mine"
    assert await talk.title() == "Mine"


async def test_an_empty_title_is_made_from_the_first_text(talk: Talk) -> None:
    await talk.say([{"type": "text", "text": "  Why is\nthe sky blue " + "and not green " * 10}])
    await talk.say("More")
    assert await talk.title() == "Why is the sky blue and not green and not green and not…"


# The project and the profile


async def test_the_instruction_of_the_project_is_read_at_each_turn(
    talk: Talk, upstream: FakeUpstream, database: Database
) -> None:
    await database.execute(
        "INSERT INTO projects (id, user_id, name, instruction) VALUES ('proj_1', $1, 'Home', '  Be kind \n')",
        talk.account.user_id,
    )
    await database.execute("UPDATE conversations SET project_id = 'proj_1'")
    await talk.say("One")
    await database.execute("UPDATE projects SET instruction = 'Be quick'")
    await talk.say("Two")
    assert [post.body["messages"][0] for post in upstream.posts] == [
        {"role": "system", "content": "Be kind"},
        {"role": "system", "content": "Be quick"},
    ]


async def test_the_profile_is_told_where_that_is_switched_on(
    tmp_path: Path, upstream: FakeUpstream, database_url: str, database: Database
) -> None:
    async with serving(tmp_path, upstream, database_url, profile_prompt_enabled=True) as rig:
        talk = await begun(rig)
        await database.execute(
            "INSERT INTO user_settings (user_id, id, profile_settings) VALUES ($1, 'set_1', $2)",
            *(talk.account.user_id, '{"nick_name": "Ann", "base_style": "Concise"}'),
        )
        await talk.say("Hi")
    told, asked = upstream.posts[0].body["messages"]
    assert (told["role"], "Ann" in told["content"], "concisely" in told["content"]) == ("system", True, True)
    assert asked == {"role": "user", "content": "Hi"}


# Failures


async def test_a_failure_before_the_first_token_leaves_the_message(talk: Talk, upstream: FakeUpstream) -> None:
    upstream.script(*[status(400)] * 2)
    assert (await talk.refused("Hi"))[0] == "invalid_parameter"
    assert (await talk.refused("Hi", stream=True))[0] == "invalid_parameter"
    assert await talk.said() == [("user", "Hi")]
    await talk.say("Hi")
    assert await talk.said() == [("user", "Hi"), ("assistant", "Hello world")]
    assert upstream.posts[2].body["messages"] == [{"role": "user", "content": "Hi"}]


async def test_a_stream_that_breaks_keeps_what_came(talk: Talk, upstream: FakeUpstream) -> None:
    upstream.script([*stream("Hello", " world")[:2], RESET])
    events = b"".join(await talk.events("Hi", stream=True))
    assert b'"code":"upstream_error"' in events
    assert b"[DONE]" not in events
    kept = (await talk.items())[1]
    assert (kept["content"], kept["status"]) == ("Hello", "incomplete")
    assert "finish_reason" not in kept
    await talk.say("Go on")
    assert [each["content"] for each in upstream.posts[1].body["messages"]] == ["Hi", "Hello", "Go on"]


async def test_what_came_before_a_client_hung_up_is_kept(talk: Talk, upstream: FakeUpstream) -> None:
    upstream.script([*stream("Hello", " world")[:2], STALL])
    request = HttpBody(data=orjson.dumps(talk.body("Hi", stream=True)))
    call = talk.chats.CreateChatCompletionHttp(request, **talk.options)
    assert b"Hello" in (await call.read()).data
    call.cancel()
    await settled(talk)
    assert [(each["content"], each["status"]) for each in await talk.items()] == [
        ("Hi", "completed"),
        ("Hello", "incomplete"),
    ]


async def test_a_client_that_hangs_up_before_the_first_token_leaves_its_message(
    talk: Talk, upstream: FakeUpstream
) -> None:
    upstream.script([STALL])
    request = HttpBody(data=orjson.dumps(talk.body("Hi")))
    call = talk.chats.CreateChatCompletionHttp(request, **talk.options)
    await asyncio.to_thread(upstream.wait_for_posts, 1)
    call.cancel()
    await settled(talk)
    assert await talk.said() == [("user", "Hi")]


async def test_a_stop_of_the_server_keeps_what_came(
    tmp_path: Path, upstream: FakeUpstream, database_url: str, database: Database
) -> None:
    upstream.script([*stream("Hello", " world")[:2], STALL])
    async with serving(tmp_path, upstream, database_url) as rig:
        talk = await begun(rig)
        request = HttpBody(data=orjson.dumps(talk.body("Hi", stream=True)))
        call = talk.chats.CreateChatCompletionHttp(request, **talk.options)
        await call.read()
    rows = await database.fetch("SELECT content, status FROM items ORDER BY position")
    assert [(row["content"], row["status"]) for row in rows] == [('"Hi"', "completed"), ('"Hello"', "incomplete")]
    assert await database.fetchval("SELECT count(*) FROM generations") == 0


async def test_the_end_of_a_stream_comes_when_the_answer_is_kept(
    talk: Talk, upstream: FakeUpstream, database: Database
) -> None:
    """While the row of the conversation is locked the answer cannot be stored: the client waits for the end."""
    gate = upstream.gate()
    upstream.script(stream("Hello", gate=gate))
    request = HttpBody(data=orjson.dumps(talk.body("Hi", stream=True)))
    call = talk.chats.CreateChatCompletionHttp(request, **talk.options)
    gate.release()
    assert b"Hello" in (await call.read()).data
    async with database.transaction() as connection:
        await connection.execute("SELECT FROM conversations FOR UPDATE")
        gate.release(3)
        rest = asyncio.create_task(call.read())
        async with asyncio.timeout(SECONDS):
            while not await database.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                pass
        assert not rest.done()
    assert b'"finish_reason":"stop"' in (await rest).data
    assert await database.fetchval("SELECT count(*) FROM items") == 2


# Who may, and when


async def test_a_conversation_that_is_absent_or_somebody_else_s_is_not_found(rig: Rig, talk: Talk) -> None:
    other = await begun(rig)
    for conversation in (other.id, {"id": other.id}, "conv_nope", "", "a\0b", "x" * 5000):
        assert await talk.refused("Hi", conversation=conversation) == ("conversation_not_found", "conversation")
    assert await other.said() == []


@pytest.mark.parametrize("conversation", [5, True, [], {}, {"id": 5}, {"id": None}])
async def test_a_conversation_has_an_id(talk: Talk, conversation: Any) -> None:
    assert await talk.refused("Hi", conversation=conversation) == ("invalid_parameter", "conversation")


async def test_what_no_conversation_can_keep_is_refused(talk: Talk) -> None:
    assert await talk.refused("a\0b") == ("invalid_parameter", "messages[0].content")
    function = {"role": "function", "name": "weather", "content": "30"}
    assert await talk.refused(function) == ("invalid_parameter", "messages[0].role")
    assert await talk.said() == []
    await talk.say("a\0b", store=False)


async def test_a_request_that_cannot_be_is_not_kept(talk: Talk) -> None:
    assert await talk.refused("Hi", model="nope") == ("model_not_found", "model")
    assert await talk.refused("Hi", temperature=9) == ("invalid_parameter", "temperature")
    assert await talk.said() == []


async def test_one_answer_at_a_time_is_generated_in_a_conversation(talk: Talk, upstream: FakeUpstream) -> None:
    gate = upstream.gate()
    upstream.script(stream("Hello", gate=gate))
    first = asyncio.create_task(talk.stream("One"))
    await asyncio.to_thread(upstream.wait_for_posts, 1)
    assert await talk.refused("Two") == ("conversation_busy", "conversation")
    assert await talk.refused("Two", stream=True, store=False) == ("conversation_busy", "conversation")
    gate.release(4)
    await first
    await talk.say("Two")
    assert [role for role, _ in await talk.said()] == ["user", "assistant", "user", "assistant"]


async def test_a_conversation_of_a_living_process_is_busy_and_of_a_dead_one_free(
    talk: Talk, database: Database
) -> None:
    async with database.connection() as connection:
        await connection.execute("SELECT pg_advisory_lock(x'6a616e'::int, 77)")
        await database.execute("INSERT INTO generations VALUES ($1, 77, $2)", talk.id, uuid4())
        assert await talk.refused("Hi") == ("conversation_busy", "conversation")
        await connection.execute("SELECT pg_advisory_unlock_all()")
    await talk.say("Hi")
    assert await database.fetchval("SELECT count(*) FROM generations") == 0


async def test_the_answer_in_a_conversation_that_was_deleted_meanwhile_is_given(
    talk: Talk, upstream: FakeUpstream
) -> None:
    gate = upstream.gate()
    upstream.script(stream("Hello", gate=gate))
    first = asyncio.create_task(talk.stream("One"))
    await asyncio.to_thread(upstream.wait_for_posts, 1)
    await talk.conversations.DeleteConversation(conversations_pb2.DeleteConversationRequest(id=talk.id), **talk.options)
    gate.release(4)
    assert (await first)[-1]["choices"][0]["finish_reason"] == "stop"


# Length


async def test_old_turns_are_left_out_visibly_and_stay_stored(talk: Talk, upstream: FakeUpstream) -> None:
    for number in range(8):
        await talk.add("user" if number % 2 == 0 else "assistant", f"number {number} of eight words in all here")
    said = await talk.say("Hi", model="tiny")
    assert said["trimmed"] is True
    sent = [each["content"] for each in upstream.posts[0].body["messages"]]
    assert 1 < len(sent) < 9
    assert sent[-1] == "Hi"
    assert sent[0].startswith("number 6") or sent[0].startswith("number 4")
    chunks = await talk.stream("Hi", model="tiny")
    assert [each.get("trimmed") for each in chunks] == [None, None, True]
    assert len(await talk.items()) == 12


async def test_a_history_of_more_items_than_a_window_has_room_for_is_trimmed(
    talk: Talk, upstream: FakeUpstream
) -> None:
    for number in range(20):
        await talk.add("user" if number % 2 == 0 else "assistant", "")
    said = await talk.say("Hi", model="tiny")
    assert said["trimmed"] is True
    assert upstream.posts[0].body["messages"][0]["role"] == "user"


async def test_what_is_new_must_fit(talk: Talk) -> None:
    refused = await talk.refused("word " * 100, model="tiny")
    assert refused == ("context_length_exceeded", "messages")
    assert await talk.said() == []
    await talk.say("Hi", model="tiny")


async def test_a_thousand_turns_go_on_in_milliseconds(talk: Talk, database: Database) -> None:
    await database.execute(
        """
        INSERT INTO items (id, conversation_id, position, type, role, content)
        SELECT 'msg_' || n, $1, n, 'message', CASE n % 2 WHEN 1 THEN 'user' ELSE 'assistant' END,
            to_json('turn ' || n || repeat(' and so on', 20))
        FROM generate_series(1, 2000) n
        """,
        talk.id,
    )
    await database.execute("UPDATE conversations SET last_position = 2000, item_count = 2000")
    took = []
    for _ in range(5):
        started = time.perf_counter()
        await talk.say("Go on")
        took.append(time.perf_counter() - started)
    assert min(took) < 0.2
    assert await database.fetchval("SELECT max(position) FROM items") == 2010


async def test_a_history_that_no_request_could_hold_is_trimmed(
    tmp_path: Path, upstream: FakeUpstream, database_url: str
) -> None:
    async with serving(tmp_path, upstream, database_url, max_body_bytes=100_000) as rig:
        talk = await begun(rig)
        picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 40_000}}]
        for number in range(3):
            await talk.add("user", picture)
            await talk.add("assistant", f"Picture {number}")
        said = await talk.say("Which one?")
        assert said["trimmed"] is True
        roles = [each["content"] for each in upstream.posts[0].body["messages"]]
        assert roles == [picture, "Picture 1", picture, "Picture 2", "Which one?"]
        assert len(await talk.items()) < 8
        assert (await talk.regenerate((await talk.items())[0]["id"])).content.string_value == "Hello world"


async def test_a_message_that_is_too_long_for_an_item_is_not_kept(talk: Talk, upstream: FakeUpstream) -> None:
    long = "x" * 100_001
    assert await talk.refused(long) == ("invalid_parameter", "messages[0].content")
    assert await talk.said() == []
    await talk.say(long, store=False)
    await talk.say({"role": "system", "content": long}, "Hi")
    assert await talk.said() == [("user", "Hi"), ("assistant", "Hello world")]


# Typed


async def test_typed_calls_name_their_conversation(talk: Talk) -> None:
    request = json_format.ParseDict(talk.body("Hi"), chat_pb2.CreateChatCompletionRequest())
    said = await talk.chats.CreateChatCompletion(request, **talk.options)
    chunks = [each async for each in talk.chats.StreamChatCompletion(request, **talk.options)]
    marks = chat_pb2.AttachedConversation(id=talk.id, title="Hi")
    assert (said.conversation, chunks[-1].conversation) == (marks, marks)
    assert [role for role, _ in await talk.said()] == ["user", "assistant"] * 2


# Regeneration


@pytest_asyncio.fixture
async def told(talk: Talk, upstream: FakeUpstream) -> list[str]:
    """The ids of two turns."""
    upstream.script(answer(completion("First")), answer(completion("Second")))
    await talk.say("One")
    await talk.say("Two", model="other")
    return [each["id"] for each in await talk.items()]


@pytest.mark.parametrize("which", [2, 3])
async def test_an_answer_is_given_anew_in_the_place_of_the_old_one(
    talk: Talk, told: list[str], upstream: FakeUpstream, which: int
) -> None:
    made = await talk.regenerate(told[which], temperature=0.5, max_tokens=7)
    asked = upstream.posts[2].body
    assert [each["content"] for each in asked["messages"]] == ["One", "First", "Two"]
    assert (asked["model"], asked["temperature"], asked["max_tokens"]) == ("other", 0.5, 7)
    assert (made.role, made.content.string_value, made.model) == ("assistant", "Hello world", "other")
    assert [each["id"] for each in await talk.items()] == [*told[:3], made.id]
    assert made.id not in told


@pytest.mark.parametrize("which", [0, 1])
async def test_everything_after_the_message_leaves(talk: Talk, told: list[str], which: int, database: Database) -> None:
    made = await talk.regenerate(told[which], model="m")
    assert [each["id"] for each in await talk.items()] == [told[0], made.id]
    assert await database.fetchval("SELECT item_count FROM conversations") == 2
    await talk.say("Three")
    assert [role for role, _ in await talk.said()] == ["user", "assistant"] * 2


async def test_a_message_without_an_answer_gets_one(talk: Talk, database: Database) -> None:
    asked = await talk.add("user", "Hi")
    assert (await talk.regenerate(asked)).model == "m"
    await database.execute("""UPDATE user_settings SET preferences = '{"selected_model": "other"}'""")
    assert (await talk.regenerate(asked)).model == "m"  # that of the answer that is replaced
    await database.execute("DELETE FROM items WHERE role = 'assistant'")
    assert (await talk.regenerate(asked)).model == "other"
    await database.execute("UPDATE items SET model = 'gone' WHERE role = 'assistant'")
    await database.execute("""UPDATE user_settings SET preferences = '{"selected_model": "gone"}'""")
    assert (await talk.regenerate(asked)).model == "m"


@pytest.mark.parametrize("act", [status(500), status(400)])
async def test_nothing_changes_when_generation_fails(
    talk: Talk, told: list[str], upstream: FakeUpstream, act: Act
) -> None:
    before = await talk.items()
    upstream.default = lambda request: act
    with pytest.raises(grpc.aio.AioRpcError):
        await talk.regenerate(told[1])
    assert await talk.items() == before
    upstream.forget()
    await talk.say("Three")


async def test_only_answers_and_messages_of_the_user_are_regenerated(rig: Rig, talk: Talk) -> None:
    welcome = await talk.add("assistant", "Welcome")
    instruction = await talk.add("system", "Be brief")
    for item_id in (welcome, instruction):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await talk.regenerate(item_id)
        assert reason(error.value) == ("invalid_parameter", "item_id")


async def test_a_wrong_parameter_of_a_regeneration_is_named_and_nothing_changes(talk: Talk, told: list[str]) -> None:
    before = await talk.items()
    for name, value in (("store_reasoning", "yes"), ("stop", 5), ("n", 0), ("conversation", 5)):
        given = json_format.ParseDict({"extra": {name: value}}, items_pb2.RegenerateItemRequest())
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await talk.regenerate(told[-1], extra=given.extra)
        assert reason(error.value) == ("invalid_parameter", name)
    assert await talk.items() == before


async def test_what_is_absent_or_somebody_else_s_is_not_regenerated(rig: Rig, talk: Talk, told: list[str]) -> None:
    other = await begun(rig)
    for owner, conversation, item_id in (
        (talk, talk.id, "msg_nope"),
        (talk, "conv_nope", told[0]),
        (other, talk.id, told[0]),
        (other, other.id, told[0]),
    ):
        stranger = Talk(rig, owner.account, conversation)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stranger.regenerate(item_id)
        assert reason(error.value)[0] == "not_found"
    assert len(await talk.items()) == 4


async def test_regeneration_waits_for_nobody(talk: Talk, told: list[str], upstream: FakeUpstream) -> None:
    gate = upstream.gate()
    upstream.script([gate, *answer(completion("Anew"))])
    first = asyncio.create_task(talk.regenerate(told[1]))
    await asyncio.to_thread(upstream.wait_for_posts, 3)
    assert await talk.refused("Hi") == ("conversation_busy", "conversation")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await talk.regenerate(told[1])
    assert reason(error.value)[0] == "conversation_busy"
    gate.release()
    assert (await first).content.string_value == "Anew"


async def test_a_message_deleted_meanwhile_gets_no_new_answer(
    talk: Talk, told: list[str], upstream: FakeUpstream
) -> None:
    gate = upstream.gate()
    upstream.script([gate, *answer(completion("Anew"))])
    first = asyncio.create_task(talk.regenerate(told[2]))
    await asyncio.to_thread(upstream.wait_for_posts, 3)
    request = items_pb2.DeleteItemRequest(conversation_id=talk.id, item_id=told[2])
    await talk.conversations.DeleteItem(request, **talk.options)
    gate.release()
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await first
    assert reason(error.value)[0] == "conflict"
    assert [each["id"] for each in await talk.items()] == [told[0], told[1], told[3]]
    await talk.say("Hi")


async def test_a_conversation_deleted_meanwhile_gets_no_new_answer(
    talk: Talk, told: list[str], upstream: FakeUpstream
) -> None:
    gate = upstream.gate()
    upstream.script([gate, *answer(completion("Anew"))])
    first = asyncio.create_task(talk.regenerate(told[2]))
    await asyncio.to_thread(upstream.wait_for_posts, 3)
    await talk.conversations.DeleteConversation(conversations_pb2.DeleteConversationRequest(id=talk.id), **talk.options)
    gate.release()
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await first
    assert reason(error.value)[0] == "not_found"


def nested(depth: int) -> Any:
    return {"a": nested(depth - 1)} if depth else "x"


async def test_what_is_kept_of_a_chat_can_be_shown_and_what_cannot_be_shown_is_not_kept(talk: Talk) -> None:
    await talk.say({"role": "user", "content": [{"type": "odd", "a": nested(28)}]})
    await talk.say({"role": "assistant", "tool_calls": [CALL | {"odd": nested(28)}]}, "Hi")
    assert [role for role, _ in await talk.said()] == ["user", "assistant", "assistant", "user", "assistant"]
    for depth in (29, 30, 200):
        parts = [{"type": "odd", "a": nested(depth)}]
        assert (await talk.refused({"role": "user", "content": parts}))[0] == "invalid_parameter"
        calls = [CALL | {"odd": nested(depth)}]
        assert (await talk.refused({"role": "assistant", "tool_calls": calls}, "Hi"))[0] == "invalid_parameter"
    assert len(await talk.said()) == 5


@pytest.mark.parametrize("kind", ["input_text", "output_text", "input_image", "odd"])
async def test_parts_without_what_their_type_promises_are_the_models_to_judge(
    talk: Talk, upstream: FakeUpstream, kind: str
) -> None:
    parts = [{"type": kind}]
    for _ in range(2):
        await talk.say({"role": "user", "content": parts})
    assert [each["content"] for each in upstream.posts[1].body["messages"]] == [parts, "Hello world", parts]
