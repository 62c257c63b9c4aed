"""The wiring of this room: tools -> registry -> servicers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from urllib.parse import urlsplit

from jan.mcp.v1 import admin_tools_pb2_grpc, mcp_pb2_grpc, tools_pb2_grpc

from services import __version__
from services.mcp import bridge_file
from services.mcp.admin_tools import AdminToolServicer
from services.mcp.bridge import Bridge
from services.mcp.builtin.file_search import FileSearchDelete, FileSearchIndex, FileSearchQuery
from services.mcp.builtin.google_search import GoogleSearch
from services.mcp.builtin.python_exec import PythonExec
from services.mcp.builtin.scrape import Scrape
from services.mcp.call_audit import CallAudit
from services.mcp.documents.opening import opened
from services.mcp.mcp import McpServicer
from services.mcp.page import PageReader
from services.mcp.peers import LlmRoom, MediaRoom
from services.mcp.protocol import Protocol
from services.mcp.registry import Registry
from services.mcp.sandbox.engine import Sandbox
from services.mcp.sandbox.fusion import Fusion
from services.mcp.sandbox.local import LocalSandbox
from services.mcp.search.engine import Engine
from services.mcp.search.searxng import SearXNG
from services.mcp.search.serper import Serper
from services.mcp.tool import Tool
from services.mcp.tool_store import ToolStore
from services.mcp.tools import ToolServicer, calling
from services.runtime.addresses import Guard
from services.runtime.config import ConfigError
from services.runtime.db import Database
from services.runtime.foundation import Foundation, Storage
from services.runtime.outgoing import Fetcher
from services.runtime.server import Mounted

USER_AGENT = f"jan-server/{__version__} (+https://github.com/janhq/server)"
"""Says who asks, so that a site can let us in or keep us out."""


async def furnish(foundation: Foundation) -> list[Mounted]:
    """The services of this room, ready to be mounted. Raises `ConfigError` without a database."""
    if foundation.storage is None:
        raise ConfigError("the mcp room needs DATABASE_URL")
    settings, store = foundation.settings, ToolStore(foundation.storage.database)
    registry = await _registry(foundation, foundation.storage, store)
    bridge = Bridge(bridge_file.read(settings.mcp_providers_file), registry.offer)
    bridge.start()
    foundation.stack.push_async_callback(bridge.close)
    mcp = McpServicer(Protocol(registry, calling), origins=settings.cors_allowed_origins)
    add_mcp = mcp_pb2_grpc.add_McpServiceServicer_to_server
    add_tools = tools_pb2_grpc.add_ToolServiceServicer_to_server
    add_admin = admin_tools_pb2_grpc.add_AdminToolServiceServicer_to_server
    return [
        Mounted("jan.mcp.v1.McpService", add_mcp, mcp),
        Mounted("jan.mcp.v1.ToolService", add_tools, ToolServicer(registry)),
        Mounted("jan.mcp.v1.AdminToolService", add_admin, AdminToolServicer(store)),
    ]


async def _registry(foundation: Foundation, storage: Storage, store: ToolStore) -> Registry:
    """With the tools of this server, and following what administrators set."""
    audit = CallAudit(storage.database)
    audit.start()
    foundation.stack.push_async_callback(audit.close)
    tools = [*_tools(foundation), *await _file_search(foundation, storage.database)]
    registry = Registry(tools, store, audit, seconds=foundation.settings.tool_execution_timeout)
    await registry.start()
    registry.follow(storage.watch)
    running = asyncio.create_task(registry.run())
    foundation.stack.callback(running.cancel)
    return registry


def _tools(foundation: Foundation) -> Iterator[Tool]:
    settings = foundation.settings
    yield GoogleSearch(
        list(_engines(foundation)),
        domains=settings.serper_domain_filter,
        location=settings.serper_location_hint,
        longest_snippet=settings.mcp_max_snippet_chars,
        offline=settings.serper_offline_mode or settings.mcp_search_engine == "offline",
    )
    yield Scrape(
        _fetcher(foundation, *settings.media_remote_allow_hosts),
        PageReader(),
        most_text=settings.mcp_max_scrape_text_chars,
        most_preview=settings.mcp_max_scrape_preview_chars,
    )

    if settings.mcp_enable_python_exec:
        media = MediaRoom(foundation.neighbours)
        yield PythonExec(_sandbox(foundation), media, require_approval=settings.mcp_sandbox_require_approval)


def _sandbox(foundation: Foundation) -> Sandbox:
    settings = foundation.settings
    if url := settings.sandbox_fusion_url:
        return Fusion(_fetcher(foundation, _host(url)), base_url=url)
    local = LocalSandbox(settings.data_dir / "sandbox", cache=settings.sandbox_cache_dir)
    foundation.stack.push_async_callback(local.aclose)
    return local


async def _file_search(foundation: Foundation, database: Database) -> list[Tool]:
    settings = foundation.settings
    if not settings.mcp_enable_file_search:
        return []
    documents = await opened(settings.vector_store_url, database, foundation.stack)
    embeddings = LlmRoom(foundation.neighbours, model=settings.mcp_embedding_model)
    return [FileSearchIndex(documents, embeddings), FileSearchQuery(documents, embeddings), FileSearchDelete(documents)]


def _engines(foundation: Foundation) -> Iterator[Engine]:
    """The engine that is asked first, and whichever else is configured. Raises `ConfigError`."""
    settings = foundation.settings
    names = [settings.mcp_search_engine] if settings.mcp_search_engine else []
    for name in dict.fromkeys([*names, "serper", "searxng"]):
        if name == "serper" and settings.serper_api_key:
            fetcher = _fetcher(foundation, _host(settings.serper_url))
            yield Serper(fetcher, base_url=settings.serper_url, api_key=settings.serper_api_key)
        elif name == "searxng" and settings.searxng_url:
            yield SearXNG(_fetcher(foundation, _host(settings.searxng_url)), base_url=settings.searxng_url)
        elif name in names and name != "offline":
            raise ConfigError(f"MCP_SEARCH_ENGINE={name} needs {_NEEDS[name]}")


_NEEDS = {"serper": "SERPER_API_KEY", "searxng": "SEARXNG_URL"}


def _fetcher(foundation: Foundation, *allowed: str) -> Fetcher:
    fetcher = Fetcher(Guard(allowed), user_agent=USER_AGENT)
    foundation.stack.callback(fetcher.close)
    return fetcher


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
