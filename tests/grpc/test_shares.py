"""ShareService against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from grpc import StatusCode
from jan.llm.v1 import shares_pb2, shares_pb2_grpc

from services.llm.conversations.item_store import Draft, ItemStore
from services.llm.conversations.share_store import ShareStore
from services.llm.conversations.share_views import Views
from services.runtime.db import Database
from services.runtime.errors import Unavailable
from tests.grpc.keys import Account, guest
from tests.grpc.rig import SECONDS, Rig, running
from tests.grpc.talks import MISSING, NO_CURSOR, NO_IDS, WRONG, Person, plain, refused

DISABLED = (StatusCode.PERMISSION_DENIED, "SHARING_DISABLED", "")
REVOKED = (StatusCode.NOT_FOUND, "SHARE_REVOKED", "")
EXPIRED = (StatusCode.NOT_FOUND, "SHARE_EXPIRED", "")
LARGEST = 1 << 20
NO_SLUGS = ["0" * 22, "0" * 21, "0" * 23, "a\0" * 11, "' OR 1=1 -- xxxxxxxxxx", "", "ł" * 22, "x" * 9999]
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
OTHER_PICTURE = {"type": "input_image", "image_url": "https://example.com/a.png"}
TEXT = {"type": "text", "text": "look"}


class Sharer(Person):
    """A person with shares."""

    def __init__(self, rig: Rig, account: Account) -> None:
        super().__init__(rig, account)
        make: Any = shares_pb2_grpc.ShareServiceStub
        self._shares = make(rig.channel)

    def call(self, method: str, **fields: Any) -> Any:
        """The call of a method of ShareService."""
        request = getattr(shares_pb2, f"{method}Request")(**fields)
        return getattr(self._shares, method)(request, metadata=self.metadata, timeout=SECONDS)

    async def share(self, conversation_id: str, **terms: Any) -> Any:
        """A new share."""
        return (await self.call("CreateShare", conversation_id=conversation_id, **terms)).data

    async def shares(self, **wanted: Any) -> list[str]:
        """The ids of the shares on a page."""
        return [each.id for each in (await self.call("ListShares", **wanted)).data]

    async def read(self, slug: str) -> Any:
        """What a stranger sees."""
        request = shares_pb2.GetPublicShareRequest(slug=slug)
        return (await self._shares.GetPublicShare(request, timeout=SECONDS)).data

    async def shown(self, slug: str) -> list[Any]:
        """The contents that a stranger sees."""
        return [each["content"] for each in plain(await self.read(slug)).get("items", [])]


@pytest_asyncio.fixture
async def rig(tmp_path: Path, database_url: str) -> AsyncIterator[Rig]:
    async with running(tmp_path, "auth", "llm", database_url=database_url) as rig:
        yield rig


@pytest_asyncio.fixture
async def ada(rig: Rig) -> Sharer:
    return Sharer(rig, await guest(rig))


@pytest_asyncio.fixture
async def bob(rig: Rig) -> Sharer:
    return Sharer(rig, await guest(rig))


async def talk(ada: Sharer, *contents: Any, **fields: Any) -> str:
    """A conversation in which the user and the model speak in turns."""
    made = await ada.create(**fields)
    for n, content in enumerate(contents):
        await ada.add(made.id, content, role=("user", "assistant")[n % 2])
    return str(made.id)


# Making


async def test_a_share_is_an_address_that_nobody_can_guess(ada: Sharer) -> None:
    conversation = await talk(ada, "hi", title="Trip")
    made = await ada.share(conversation)
    assert re.fullmatch(r"[0-9A-Za-z]{22}", made.slug)
    assert made.share_link == made.share_url == f"http://localhost:8000/v1/public/shares/{made.slug}"
    assert re.fullmatch(r"shr_[0-9a-z]{26}", made.id)
    left = plain(made)
    for name in ("id", "slug", "share_link", "share_url", "created_at"):
        del left[name]
    assert left == {"object": "share", "conversation_id": conversation, "title": "Trip", "read_only": True}
    assert (await ada.share(conversation)).slug != made.slug


async def test_a_share_keeps_the_terms_it_was_made_with(ada: Sharer) -> None:
    conversation = await talk(ada, "hi", title="Trip")
    made = await ada.share(conversation, title="Mine", expires_in=60, read_only=False, allow_feedback=True)
    assert (made.title, made.read_only, made.allow_feedback) == ("Mine", False, True)
    assert made.expires_at == made.created_at + 60
    seen = await ada.read(made.slug)
    assert (seen.title, seen.read_only, seen.allow_feedback) == ("Mine", False, True)
    assert (seen.created_at, seen.expires_at) == (made.created_at, made.expires_at)
    assert not (await ada.share(conversation, title="")).HasField("title")
    assert not (await ada.share(await talk(ada))).HasField("title")


async def test_making_a_share_is_201_for_the_gateway(ada: Sharer) -> None:
    call = ada.call("CreateShare", conversation_id=await talk(ada))
    assert dict(await call.initial_metadata())["x-http-status"] == "201"


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        ({"expires_in": 0}, "expires_in"),
        ({"expires_in": 59}, "expires_in"),
        ({"expires_in": 31_536_001}, "expires_in"),
        ({"title": "x" * 257}, "title"),
        ({"title": "a\0b"}, "title"),
        ({"title": "two\nlines"}, "title"),
        ({"item_id": "msg_\0"}, "item_id"),
    ],
)
async def test_terms_that_cannot_be_are_refused_by_name(ada: Sharer, terms: dict[str, Any], param: str) -> None:
    conversation = await talk(ada, "hi")
    assert await refused(ada.share(conversation, **terms)) == (*WRONG, param)
    assert await ada.shares() == []


async def test_a_share_lives_for_a_year_at_most(ada: Sharer) -> None:
    made = await ada.share(await talk(ada), expires_in=31_536_000)
    assert made.expires_at == made.created_at + 31_536_000


@pytest.mark.parametrize("conversation_id", NO_IDS)
async def test_a_conversation_that_does_not_exist_is_not_shared(ada: Sharer, conversation_id: str) -> None:
    assert await refused(ada.share(conversation_id)) == MISSING
    assert await refused(ada.call("ListConversationShares", conversation_id=conversation_id)) == MISSING


# What readers see


async def test_readers_see_the_conversation_and_nothing_of_its_owner(ada: Sharer) -> None:
    conversation = await talk(ada, "hi", [TEXT], title="Trip", metadata={"secret": "metadata"}, referrer="referrer")
    made, items = await ada.share(conversation), (await ada.items(conversation)).data
    seen = plain(await ada.read(made.slug))
    assert seen == {
        "object": "public_share",
        "slug": made.slug,
        "title": "Trip",
        "read_only": True,
        "created_at": made.created_at,
        "items": [
            {"id": items[0].id, "type": "message", "role": "user", "content": "hi", "created_at": items[0].created_at},
            {
                "id": items[1].id,
                "type": "message",
                "role": "assistant",
                "content": [TEXT],
                "created_at": items[1].created_at,
            },
        ],
    }
    assert ada.user_id not in str(seen)


async def test_readers_see_no_prompts_tools_or_reasoning(ada: Sharer, database: Database) -> None:
    conversation = await talk(ada, "What is it?")
    drafts = [
        Draft("system", "You are secret"),
        Draft("assistant", None, tool_calls=[{"id": "c1"}]),
        Draft("assistant", "", tool_calls=[{"id": "c2"}]),
        Draft("tool", "internal result", tool_call_id="c1"),
        Draft("assistant", type="function_call", name="f", arguments="{}", call_id="c3"),
        Draft("tool", type="function_call_output", output={"a": 1}, call_id="c3"),
        Draft("assistant", "I think", type="reasoning", reasoning_content="hm"),
        Draft("assistant", "It is this", reasoning_content="private", model="m", usage={"total_tokens": 1}),
    ]
    await ItemStore(database, largest=LARGEST).append(ada.user_id, conversation, drafts)
    made = await ada.share(conversation)
    assert await ada.shown(made.slug) == ["What is it?", "It is this"]


async def test_a_share_is_frozen(ada: Sharer) -> None:
    conversation = await talk(ada, "before", title="Old")
    made, (item,) = await ada.share(conversation), (await ada.items(conversation)).data
    await ada.add(conversation, "after")
    await ada.ask("DeleteItem", conversation_id=conversation, item_id=item.id)
    await ada.update(conversation, title="New")
    assert (await ada.shown(made.slug), (await ada.read(made.slug)).title) == (["before"], "Old")


async def test_an_empty_conversation_may_be_shared(ada: Sharer) -> None:
    assert await ada.shown((await ada.share(await talk(ada))).slug) == []


async def test_content_is_shown_as_it_was_given(ada: Sharer) -> None:
    contents = [
        "Łódź \U0001f600 \"' \\u0000 </script>",
        [TEXT, PICTURE, {"type": "refusal", "refusal": "no", "n": 1.5}],
    ]
    conversation = await talk(ada, *contents)
    assert await ada.shown((await ada.share(conversation)).slug) == contents


async def test_one_message_is_shared_with_the_one_before(ada: Sharer, database: Database) -> None:
    conversation = await talk(ada, "one", "two", "three")
    call = [Draft("assistant", type="function_call", name="f"), Draft("tool", "x"), Draft("assistant", "four")]
    stored = await ItemStore(database, largest=LARGEST).append(ada.user_id, conversation, call)
    ids = [item.id for item in (await ada.items(conversation)).data]
    made = await ada.share(conversation, item_id=ids[1])
    assert (made.item_id, await ada.shown(made.slug)) == (ids[1], ["one", "two"])
    assert await ada.shown((await ada.share(conversation, item_id=ids[0])).slug) == ["one"]
    assert await ada.shown((await ada.share(conversation, item_id=stored[2]["id"])).slug) == ["three", "four"]


async def test_only_messages_of_that_conversation_can_be_chosen(ada: Sharer, bob: Sharer, database: Database) -> None:
    conversation, other, foreign = await talk(ada, "one"), await talk(ada, "two"), await talk(bob, "three")
    silent = [
        Draft("assistant", type="function_call"),
        Draft("assistant", tool_calls=[{"id": "c"}]),
        Draft("system", "s"),
    ]
    hidden = [
        item["id"] for item in await ItemStore(database, largest=LARGEST).append(ada.user_id, conversation, silent)
    ]
    elsewhere = [(await who.items(which)).data[0].id for who, which in ((ada, other), (bob, foreign))]
    for item_id in (*elsewhere, *hidden, "nonsense"):
        said = await refused(ada.share(conversation, item_id=item_id))
        assert said == (StatusCode.NOT_FOUND, "NOT_FOUND", "item_id")


async def test_images_can_be_left_out(ada: Sharer) -> None:
    conversation = await talk(ada, [PICTURE, TEXT, OTHER_PICTURE], "text", [PICTURE])
    without = await ada.share(conversation, include_images=False)
    assert await ada.shown(without.slug) == [[TEXT], "text", []]
    everything = [[PICTURE, TEXT, OTHER_PICTURE], "text", [PICTURE]]
    assert await ada.shown((await ada.share(conversation, include_images=True)).slug) == everything
    assert await ada.shown((await ada.share(conversation)).slug) == everything


async def test_what_no_reader_could_load_is_not_shared(tmp_path: Path, database_url: str) -> None:
    async with running(tmp_path, "auth", "llm", database_url=database_url, max_body_bytes=1000) as rig:
        ada = Sharer(rig, await guest(rig))
        large = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 600}}
        conversation = await talk(ada, [TEXT, large], "short", [large])
        too_large = (StatusCode.OUT_OF_RANGE, "MAX_SIZE_EXCEEDED", "")
        assert await refused(ada.share(conversation)) == too_large
        assert await ada.shown((await ada.share(conversation, include_images=False)).slug) == [[TEXT], "short", []]


# How a share ends


@pytest.mark.parametrize("slug", NO_SLUGS)
async def test_an_address_that_does_not_exist_is_not_found(ada: Sharer, slug: str) -> None:
    assert await refused(ada.read(slug)) == MISSING


async def test_a_revoked_share_is_gone_for_readers_and_stays_in_the_lists(ada: Sharer) -> None:
    conversation = await talk(ada, "hi")
    made = await ada.share(conversation)
    times = []
    for _ in range(2):
        call = ada.call("RevokeShare", share_id=made.id)
        assert dict(await call.initial_metadata())["x-http-status"] == "204"
        (listed,) = (await ada.call("ListShares")).data
        times.append(listed.revoked_at)
    assert times[0] == times[1] >= made.created_at
    await ada.call("RevokeConversationShare", conversation_id=conversation, share_id=made.id)
    assert await refused(ada.read(made.slug)) == REVOKED
    (listed,) = (await ada.call("ListConversationShares", conversation_id=conversation)).data
    assert listed.id == made.id


async def test_an_expired_share_is_gone_for_readers(ada: Sharer, database: Database) -> None:
    made = await ada.share(await talk(ada, "hi"), expires_in=60)
    await database.execute("UPDATE shares SET expires_at = now()")
    assert await refused(ada.read(made.slug)) == EXPIRED
    await ada.call("RevokeShare", share_id=made.id)
    assert await refused(ada.read(made.slug)) == REVOKED


async def test_a_deleted_conversation_ends_its_shares(ada: Sharer) -> None:
    gone, kept = await talk(ada, "gone"), await talk(ada, "kept")
    ended = [await ada.share(gone) for _ in range(2)]
    other = await ada.share(kept)
    await ada.ask("DeleteConversation", id=gone)
    for share in ended:
        assert await refused(ada.read(share.slug)) == REVOKED
    assert await ada.shown(other.slug) == ["kept"]
    assert await refused(ada.call("ListConversationShares", conversation_id=gone)) == MISSING
    assert await ada.shares() == [other.id, ended[1].id, ended[0].id]
    await ada.ask("BulkDeleteConversations", conversation_ids=[kept])
    assert await refused(ada.read(other.slug)) == REVOKED


async def test_no_share_outlives_a_conversation_that_is_deleted_meanwhile(ada: Sharer) -> None:
    for _ in range(5):
        conversation = await talk(ada, "hi")
        sharing = [ada.share(conversation) for _ in range(5)]
        deleting = ada.ask("DeleteConversation", id=conversation)
        made = await asyncio.gather(*sharing[:2], deleting, *sharing[2:], return_exceptions=True)
        for share in made:
            if isinstance(share, shares_pb2.Share):
                assert await refused(ada.read(share.slug)) == REVOKED


async def test_a_share_of_another_conversation_is_not_revoked(ada: Sharer) -> None:
    one, two = await talk(ada, "one"), await talk(ada, "two")
    made = await ada.share(one)
    said = await refused(ada.call("RevokeConversationShare", conversation_id=two, share_id=made.id))
    assert said == MISSING
    assert await ada.shown(made.slug) == ["one"]


@pytest.mark.parametrize("share_id", NO_IDS)
async def test_a_share_that_does_not_exist_is_not_found(ada: Sharer, share_id: str) -> None:
    assert await refused(ada.call("RevokeShare", share_id=share_id)) == MISSING
    conversation = await talk(ada)
    for asked in ({"conversation_id": conversation, "share_id": share_id}, {"conversation_id": share_id}):
        assert await refused(ada.call("RevokeConversationShare", **asked)) == MISSING


# Listing


async def test_shares_are_listed_newest_first_page_by_page(ada: Sharer) -> None:
    one, two = await talk(ada), await talk(ada)
    made = [(await ada.share(each)).id for each in (one, two, one, two, one)]
    first = await ada.call("ListShares", limit=2)
    assert [each.id for each in first.data] == [made[4], made[3]]
    assert (first.object, first.has_more, first.total_count, first.next_after) == ("list", True, 5, made[3])
    assert await ada.shares(after=made[3]) == [made[2], made[1], made[0]]
    assert await ada.shares(order="asc", offset=3) == [made[3], made[4]]
    of_one = await ada.call("ListConversationShares", conversation_id=one)
    assert ([each.id for each in of_one.data], of_one.total_count) == ([made[4], made[2], made[0]], 3)
    foreign = ada.call("ListConversationShares", conversation_id=one, after=made[1])
    assert await refused(foreign) == NO_CURSOR


async def test_revoked_shares_can_be_left_out_and_still_lead_on(ada: Sharer) -> None:
    conversation = await talk(ada)
    made = [(await ada.share(conversation)).id for _ in range(3)]
    await ada.call("RevokeShare", share_id=made[1])
    assert await ada.shares() == await ada.shares(include_revoked=True) == made[::-1]
    assert await ada.shares(include_revoked=False) == [made[2], made[0]]
    assert await ada.shares(include_revoked=False, after=made[1]) == [made[0]]
    page = await ada.call("ListConversationShares", conversation_id=conversation, include_revoked=False, limit=1)
    assert ([each.id for each in page.data], page.total_count, page.has_more) == ([made[2]], 2, True)


# Who may


async def test_somebody_else_s_shares_are_not_there(ada: Sharer, bob: Sharer) -> None:
    conversation = await talk(ada, "hi")
    made = await ada.share(conversation)
    assert await refused(bob.share(conversation)) == MISSING
    assert await refused(bob.call("ListConversationShares", conversation_id=conversation)) == MISSING
    assert await refused(bob.call("RevokeShare", share_id=made.id)) == MISSING
    for where in (conversation, await talk(bob)):
        said = await refused(bob.call("RevokeConversationShare", conversation_id=where, share_id=made.id))
        assert said == MISSING
    assert (await bob.call("ListShares")).total_count == 0
    assert await refused(bob.call("ListShares", after=made.id)) == NO_CURSOR
    assert await bob.shown(made.slug) == ["hi"]
    assert await ada.shares() == [made.id]


async def test_strangers_may_only_read(ada: Sharer) -> None:
    ada.metadata = ()
    methods = ("CreateShare", "ListConversationShares", "ListShares", "RevokeConversationShare", "RevokeShare")
    for method in methods:
        assert (await refused(ada.call(method)))[1] == "UNAUTHORIZED"


async def test_where_sharing_is_off_nothing_is_shared_or_read(tmp_path: Path, database_url: str) -> None:
    async with running(tmp_path, "auth", "llm", database_url=database_url) as rig:
        ada = Sharer(rig, await guest(rig))
        conversation = await talk(ada, "hi")
        made = await ada.share(conversation)
    off: dict[str, Any] = {"database_url": database_url, "conversation_sharing_enabled": False}
    async with running(tmp_path, "auth", "llm", **off) as rig:
        ada = Sharer(rig, Account(ada.user_id, dict(ada.metadata)["authorization"].removeprefix("Bearer ")))
        assert await refused(ada.share(conversation)) == DISABLED
        assert await refused(ada.read(made.slug)) == DISABLED
        assert await refused(ada.read("0" * 22)) == DISABLED
        assert await ada.shares() == [made.id]
        await ada.call("RevokeShare", share_id=made.id)


# Views


class Ledger:
    """What `Views` writes to: the counts, or nothing while it is `away`."""

    def __init__(self) -> None:
        self.away = False
        self.written: list[Mapping[str, int]] = []

    async def write(self, views: Mapping[str, int]) -> None:
        if self.away:
            raise Unavailable("away")
        self.written.append(dict(views))


async def test_views_are_written_together() -> None:
    ledger = Ledger()
    views = Views(ledger.write, pause=3600)
    views.start()
    for share in ("a", "b", "a", "a"):
        views.count(share)
    assert ledger.written == []
    await views.close()
    assert ledger.written == [{"a": 3, "b": 1}]


async def test_views_wait_for_a_database_that_is_away() -> None:
    ledger = Ledger()
    views = Views(ledger.write, pause=3600)
    ledger.away = True
    views.count("a")
    await views.close()
    ledger.away = False
    views.count("a")
    await views.close()
    assert ledger.written == [{"a": 2}]


async def test_views_are_added_up(ada: Sharer, database: Database) -> None:
    made = [await ada.share(await talk(ada)) for _ in range(2)]
    store = ShareStore(database, largest=0)
    await store.count_views({made[0].id: 2, made[1].id: 1, "shr_gone": 7})
    await store.count_views({made[0].id: 3})
    assert [each.view_count for each in (await ada.call("ListShares", order="asc")).data] == [5, 1]


async def test_reads_are_counted_and_looks_are_not(tmp_path: Path, database_url: str, database: Database) -> None:
    async with running(tmp_path, "auth", "llm", database_url=database_url) as rig:
        ada = Sharer(rig, await guest(rig))
        made = await ada.share(await talk(ada))
        await ada.read(made.slug)
        await ada.read(made.slug)
        ada.metadata = (
            ("x-envoy-original-method", "HEAD"),
            ("x-envoy-original-path", f"/v1/public/shares/{made.slug}"),
        )
        await ada.call("GetPublicShare", slug=made.slug)
    assert await database.fetchval("SELECT view_count FROM shares") == 2  # it has stopped, and written before


async def test_an_answer_may_be_kept_for_a_minute(ada: Sharer) -> None:
    made = await ada.share(await talk(ada))
    call = ada.call("GetPublicShare", slug=made.slug)
    assert dict(await call.initial_metadata())["cache-control"] == "public, max-age=60"
