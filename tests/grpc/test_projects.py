"""ProjectService against a real PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from jan.llm.v1 import projects_pb2, projects_pb2_grpc

from services.runtime.db import Database
from tests.grpc.keys import Account, guest
from tests.grpc.rig import SECONDS, Rig, running
from tests.grpc.talks import MISSING, NO_CURSOR, NO_IDS, WRONG, Person, plain, refused


class Owner(Person):
    """A person with projects."""

    def __init__(self, rig: Rig, account: Account) -> None:
        super().__init__(rig, account)
        make: Any = projects_pb2_grpc.ProjectServiceStub
        self._projects = make(rig.channel)

    def call(self, method: str, **fields: Any) -> Any:
        """The call of a method of ProjectService."""
        name = f"{method}Request"
        request = getattr(projects_pb2, name)(**fields)
        return getattr(self._projects, method)(request, metadata=self.metadata, timeout=SECONDS)

    async def make(self, name: str = "a project", **fields: Any) -> Any:
        """A new project."""
        return (await self.call("CreateProject", name=name, **fields)).data

    async def change(self, project_id: str, **fields: Any) -> Any:
        """A project as it is after the change."""
        return (await self.call("UpdateProject", id=project_id, **fields)).data

    async def read(self, project_id: str) -> Any:
        return (await self.call("GetProject", id=project_id)).data

    async def names(self, **wanted: Any) -> list[str]:
        """The names of the projects on a page."""
        return [each.name for each in (await self.call("ListProjects", **wanted)).data]


@pytest_asyncio.fixture
async def rig(tmp_path: Path, database_url: str) -> AsyncIterator[Rig]:
    async with running(tmp_path, "auth", "llm", database_url=database_url) as rig:
        yield rig


@pytest_asyncio.fixture
async def ada(rig: Rig) -> Owner:
    return Owner(rig, await guest(rig))


@pytest_asyncio.fixture
async def bob(rig: Rig) -> Owner:
    return Owner(rig, await guest(rig))


# Making


async def test_a_project_needs_a_name_only(ada: Owner) -> None:
    made = plain(await ada.make("  Sales Łódź \U0001f600 "))
    assert re.fullmatch(r"proj_[0-9a-z]{26}", made.pop("id"))
    assert made.pop("created_at") == made.pop("updated_at")
    assert made == {"object": "project", "name": "Sales Łódź \U0001f600"}


async def test_a_project_keeps_what_it_was_made_with(ada: Owner) -> None:
    instruction = " Speak like a pirate.\n' OR 1=1\t"
    made = await ada.make("x" * 120, instruction=instruction, is_favorite=True)
    assert (made.name, made.instruction, made.is_favorite, made.is_archived) == ("x" * 120, instruction, True, False)
    assert await ada.read(made.id) == made
    assert not (await ada.make(instruction="")).HasField("instruction")


async def test_names_need_not_be_unique(ada: Owner) -> None:
    assert (await ada.make("twin")).id != (await ada.make("twin")).id


async def test_making_a_project_is_201_for_the_gateway(ada: Owner) -> None:
    call = ada.call("CreateProject", name="a")
    assert dict(await call.initial_metadata())["x-http-status"] == "201"


@pytest.mark.parametrize("name", ["", "  \t ", "x" * 121, "a\0b", "two\nlines", "\x1b[1m", "a\x7f", "a\x85b"])
async def test_a_name_is_one_line_of_a_length(ada: Owner, name: str) -> None:
    kept = await ada.make("kept")
    assert await refused(ada.make(name)) == (*WRONG, "name")
    assert await refused(ada.change(kept.id, name=name)) == (*WRONG, "name")
    assert await ada.names() == ["kept"]


@pytest.mark.parametrize("instruction", ["x" * 32_769, "a\0b"])
async def test_an_instruction_has_bounds(ada: Owner, instruction: str) -> None:
    assert await refused(ada.make(instruction=instruction)) == (*WRONG, "instruction")
    kept = await ada.make(instruction="ł" * 32_768)
    assert await refused(ada.change(kept.id, instruction=instruction)) == (*WRONG, "instruction")
    assert (await ada.read(kept.id)).instruction == "ł" * 32_768


# Listing


async def test_projects_are_listed_last_changed_first_page_by_page(ada: Owner) -> None:
    made = [await ada.make(str(n)) for n in range(5)]
    await ada.change(made[0].id, is_favorite=True)
    first = await ada.call("ListProjects", limit=2)
    assert [each.name for each in first.data] == ["0", "4"]
    assert (first.object, first.has_more, first.total_count) == ("list", True, 5)
    assert (first.first_id, first.last_id, first.next_after) == (made[0].id, made[4].id, made[4].id)
    rest = await ada.call("ListProjects", after=first.next_after)
    assert ([each.name for each in rest.data], rest.has_more) == (["3", "2", "1"], False)
    assert await ada.names(order="asc") == ["1", "2", "3", "4", "0"]
    assert await ada.names(offset=3) == ["2", "1"]
    assert await ada.names(offset=5) == []


async def test_projects_are_filtered(ada: Owner) -> None:
    made = {name: await ada.make(name, is_favorite=name == "b") for name in "abc"}
    await ada.change(made["c"].id, is_archived=True)
    assert await ada.names(is_archived=True) == ["c"]
    assert await ada.names(is_archived=False) == ["b", "a"]
    assert await ada.names(is_favorite=True) == ["b"]
    assert await ada.names(is_favorite=False, is_archived=False) == ["a"]
    assert (await ada.call("ListProjects", is_archived=False, limit=1)).total_count == 2


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("SALES", ["sales 100%"]),
        ("100%", ["sales 100%"]),
        ("_", ["snake_case"]),
        ("%", ["sales 100%"]),
        ("\\", ["back\\slash"]),
        ("' OR 1=1", []),
        ("", ["back\\slash", "snake_case", "sales 100%"]),
    ],
)
async def test_a_search_means_what_it_says(ada: Owner, search: str, found: list[str]) -> None:
    for name in ("sales 100%", "snake_case", "back\\slash"):
        await ada.make(name)
    assert await ada.names(search=search) == found


async def test_a_search_has_bounds(ada: Owner) -> None:
    project = await ada.make()
    for search in ("a\0", "x" * 257):
        assert await refused(ada.call("ListProjects", search=search)) == (*WRONG, "search")
        asked = ada.call("ListProjectConversations", id=project.id, search=search)
        assert await refused(asked) == (*WRONG, "search")


async def test_a_cursor_that_was_archived_still_leads_on(ada: Owner) -> None:
    for name in "abc":
        await ada.make(name)
    page = await ada.call("ListProjects", order="asc", is_archived=False, limit=2)
    await ada.change(page.data[0].id, is_archived=True)
    assert await ada.names(order="asc", is_archived=False, after=page.last_id) == ["c"]


# Changing


async def test_a_change_touches_nothing_else(ada: Owner) -> None:
    made = await ada.make("old", instruction="be kind", is_favorite=True)
    renamed = await ada.change(made.id, name=" new ")
    assert (renamed.name, renamed.instruction, renamed.is_favorite) == ("new", "be kind", True)
    assert (await ada.change(made.id, is_favorite=False)).instruction == "be kind"
    cleared = await ada.change(made.id, instruction="")
    assert (cleared.HasField("instruction"), cleared.name) == (False, "new")
    assert await ada.read(made.id) == cleared


async def test_a_change_of_nothing_changes_nothing(ada: Owner) -> None:
    made = [await ada.make(name) for name in "ab"]
    assert await ada.change(made[0].id) == made[0]
    assert await ada.names() == ["b", "a"]


async def test_archiving_has_a_time_that_archiving_again_keeps(ada: Owner, database: Database) -> None:
    made = await ada.make()
    archived = await ada.change(made.id, is_archived=True)
    assert archived.is_archived
    assert archived.archived_at >= made.created_at
    await database.execute("UPDATE projects SET archived_at = archived_at - interval '1 hour'")
    assert (await ada.change(made.id, is_archived=True)).archived_at <= archived.archived_at - 3599
    assert (await ada.change(made.id, name="x")).is_archived
    back = await ada.change(made.id, is_archived=False)
    assert (back.is_archived, back.HasField("archived_at")) == (False, False)


# Conversations


async def test_the_conversations_of_a_project_are_those_of_the_list_of_all(ada: Owner) -> None:
    project, other = await ada.make("one"), await ada.make("two")
    made = [await ada.create(title=title, project_id=project.id) for title in ("Alpha", "Beta", "Gamma")]
    await ada.create(title="elsewhere", project_id=other.id)
    await ada.create(title="nowhere")
    assert (await ada.read(project.id)).conversation_count == 3
    counts = {each.name: each.conversation_count for each in (await ada.call("ListProjects")).data}
    assert counts == {"one": 3, "two": 1}
    everything = await ada.call("ListProjectConversations", id=project.id)
    assert everything == await ada.list(project_id=project.id)
    await ada.update(made[0].id, is_archived=True)

    async def titles(**wanted: Any) -> list[str]:
        found = await ada.call("ListProjectConversations", id=project.id, **wanted)
        return [each.title for each in found.data]

    assert await titles(is_archived=True) == ["Alpha"]
    assert await titles(search="AMM") == ["Gamma"]
    assert await titles(is_archived=False, order="asc", limit=1) == ["Beta"]
    assert await titles(after=made[2].id) == ["Beta"]


async def test_a_conversation_can_move_between_projects(ada: Owner) -> None:
    one, two = await ada.make("one"), await ada.make("two")
    moved = await ada.create(project_id=one.id)
    await ada.update(moved.id, project_id=two.id)
    assert ((await ada.read(one.id)).conversation_count, (await ada.read(two.id)).conversation_count) == (0, 1)


async def test_deleting_a_project_detaches_its_conversations(ada: Owner) -> None:
    project = await ada.make()
    inside = await ada.create(title="stays", project_id=project.id)
    answer = await ada.call("DeleteProject", id=project.id)
    assert plain(answer.data) == {"id": project.id, "object": "project", "deleted": True}
    left = await ada.get(inside.id)
    assert (left.title, left.HasField("project_id")) == ("stays", False)
    assert await refused(ada.read(project.id)) == MISSING
    assert await refused(ada.call("DeleteProject", id=project.id)) == MISSING
    assert await refused(ada.call("ListProjectConversations", id=project.id)) == MISSING


# Who may


@pytest.mark.parametrize("method", ["GetProject", "UpdateProject", "DeleteProject", "ListProjectConversations"])
@pytest.mark.parametrize("project_id", NO_IDS)
async def test_a_project_that_does_not_exist_is_not_found(ada: Owner, method: str, project_id: str) -> None:
    assert await refused(ada.call(method, id=project_id)) == MISSING


async def test_somebody_else_s_project_is_not_there(ada: Owner, bob: Owner) -> None:
    made = await ada.make("ada's", instruction="secret")
    inside = await ada.create(project_id=made.id)
    for method in ("GetProject", "DeleteProject", "ListProjectConversations"):
        assert await refused(bob.call(method, id=made.id)) == MISSING
    assert await refused(bob.change(made.id, name="bob's")) == MISSING
    assert await refused(bob.change(made.id)) == MISSING
    assert (await bob.call("ListProjects")).total_count == 0
    assert await refused(bob.call("ListProjects", after=made.id)) == NO_CURSOR
    own = await bob.make()
    assert await refused(bob.call("ListProjectConversations", id=own.id, after=inside.id)) == NO_CURSOR
    assert plain(await ada.read(made.id)) == {**plain(made), "conversation_count": 1}


async def test_strangers_have_no_projects(rig: Rig, ada: Owner) -> None:
    ada.metadata = ()
    for method in ("ListProjects", "CreateProject", "GetProject", "UpdateProject", "DeleteProject"):
        assert (await refused(ada.call(method)))[1] == "UNAUTHORIZED"
