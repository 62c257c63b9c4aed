"""ProjectService: folders of conversations with an instruction that all of them follow."""

from __future__ import annotations

from typing import Any

import grpc
from jan.llm.v1 import conversations_pb2, projects_pb2, projects_pb2_grpc

from services.llm.conversations import content
from services.llm.conversations.conversation_store import ConversationStore, Filters
from services.llm.conversations.conversations import conversation
from services.llm.conversations.item_store import known
from services.llm.conversations.project_store import Change, ProjectStore, Wanted
from services.runtime import call
from services.runtime.db import Row
from services.runtime.errors import InvalidRequest
from services.runtime.pages import page_of

Context = grpc.aio.ServicerContext[Any, Any]
CREATED = (("x-http-status", "201"),)
LONGEST_NAME = 120


class ProjectServicer(projects_pb2_grpc.ProjectServiceServicer):
    """Projects live in their store, their conversations in that of all conversations."""

    def __init__(self, store: ProjectStore, conversations: ConversationStore) -> None:
        self._store = store
        self._conversations = conversations

    async def ListProjects(
        self, request: projects_pb2.ListProjectsRequest, context: Context
    ) -> projects_pb2.ListProjectsResponse:
        wanted = Wanted(
            is_archived=request.is_archived if request.HasField("is_archived") else None,
            is_favorite=request.is_favorite if request.HasField("is_favorite") else None,
            search=_text(request.search, "search"),
        )
        found = await self._store.page(call.caller().user_id, wanted, page_of(request))
        return projects_pb2.ListProjectsResponse(data=map(_project, found.rows), **found.envelope())

    async def CreateProject(
        self, request: projects_pb2.CreateProjectRequest, context: Context
    ) -> projects_pb2.CreateProjectResponse:
        row = await self._store.create(
            call.caller().user_id,
            name=named(request.name),
            instruction=_text(request.instruction, "instruction") or None,
            is_favorite=request.is_favorite,
        )
        await context.send_initial_metadata(CREATED)
        return projects_pb2.CreateProjectResponse(data=_project(row), meta=call.meta())

    async def GetProject(
        self, request: projects_pb2.GetProjectRequest, context: Context
    ) -> projects_pb2.GetProjectResponse:
        row = await self._store.get(call.caller().user_id, known(request.id))
        return projects_pb2.GetProjectResponse(data=_project(row), meta=call.meta())

    async def UpdateProject(
        self, request: projects_pb2.UpdateProjectRequest, context: Context
    ) -> projects_pb2.UpdateProjectResponse:
        change, user_id = _change(request), call.caller().user_id
        if change == Change():
            row = await self._store.get(user_id, known(request.id))
        else:
            row = await self._store.update(user_id, known(request.id), change)
        return projects_pb2.UpdateProjectResponse(data=_project(row), meta=call.meta())

    async def DeleteProject(
        self, request: projects_pb2.DeleteProjectRequest, context: Context
    ) -> projects_pb2.DeleteProjectResponse:
        await self._store.delete(call.caller().user_id, known(request.id))
        deleted = projects_pb2.DeletedProject(id=request.id, object="project", deleted=True)
        return projects_pb2.DeleteProjectResponse(data=deleted, meta=call.meta())

    async def ListProjectConversations(
        self, request: projects_pb2.ListProjectConversationsRequest, context: Context
    ) -> conversations_pb2.ListConversationsResponse:
        user_id, page = call.caller().user_id, page_of(request)
        filters = Filters(
            project_id=known(request.id),
            search=_text(request.search, "search"),
            is_archived=request.is_archived if request.HasField("is_archived") else None,
        )
        await self._store.get(user_id, request.id)
        found = await self._conversations.page(user_id, filters, page)
        return conversations_pb2.ListConversationsResponse(data=map(conversation, found.rows), **found.envelope())


def named(name: str) -> str:
    """A project's name without the spaces around it. Raises `InvalidRequest` for one that cannot be."""
    name = content.line(name.strip(), "name")
    if not 1 <= len(name) <= LONGEST_NAME:
        raise InvalidRequest(f"Parameter 'name' must have 1 to {LONGEST_NAME} characters", param="name")
    return name


def _change(request: projects_pb2.UpdateProjectRequest) -> Change:
    return Change(
        name=named(request.name) if request.HasField("name") else None,
        instruction=_text(request.instruction, "instruction") if request.HasField("instruction") else None,
        is_favorite=request.is_favorite if request.HasField("is_favorite") else None,
        is_archived=request.is_archived if request.HasField("is_archived") else None,
    )


def _text(given: str, param: str) -> str:
    content.refuse_nul(given, param)
    return given


def _project(row: Row) -> projects_pb2.Project:
    archived_at = row["archived_at"]
    return projects_pb2.Project(
        id=row["id"],
        object="project",
        name=row["name"],
        instruction=row["instruction"],
        is_favorite=row["is_favorite"],
        is_archived=archived_at is not None,
        archived_at=None if archived_at is None else int(archived_at.timestamp()),
        conversation_count=row["conversation_count"],
        created_at=int(row["created_at"].timestamp()),
        updated_at=int(row["updated_at"].timestamp()),
    )
