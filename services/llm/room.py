"""The wiring of this room: providers -> catalog -> engines -> servicers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jan.llm.v1 import (
    admin_models_pb2_grpc,
    admin_providers_pb2_grpc,
    chat_pb2_grpc,
    conversations_pb2_grpc,
    models_pb2_grpc,
    projects_pb2_grpc,
    shares_pb2_grpc,
    users_pb2_grpc,
)

from services.llm.accounting.accounting import Accounting
from services.llm.accounting.usage_ledger import UsageLedger
from services.llm.accounting.usage_store import UsageStore
from services.llm.chat import ChatServicer
from services.llm.conversations.conversation_store import ConversationStore
from services.llm.conversations.conversations import ConversationServicer
from services.llm.conversations.item_store import ItemStore
from services.llm.conversations.project_store import ProjectStore
from services.llm.conversations.projects import ProjectServicer
from services.llm.conversations.regenerate import Regenerator
from services.llm.conversations.share_store import ShareStore
from services.llm.conversations.share_views import Views
from services.llm.conversations.shares import ShareServicer
from services.llm.conversations.turn_keeper import TurnKeeper
from services.llm.conversations.turn_store import TurnStore
from services.llm.conversations.turns import Turns, Wish, nothing
from services.llm.generation.completion import Engine
from services.llm.generation.embedding import EmbeddingEngine
from services.llm.models.admin_models import AdminModelServicer
from services.llm.models.admin_providers import AdminProviderServicer
from services.llm.models.catalog import Catalog
from services.llm.models.catalog_store import CatalogStore
from services.llm.models.catalog_sync import CatalogSync
from services.llm.models.models import ModelServicer
from services.llm.models.provider_store import ProviderStore
from services.llm.peers import MediaRoom
from services.llm.providers.http1 import Client
from services.llm.users.settings import profile_prompt
from services.llm.users.settings_store import SettingsStore
from services.llm.users.users import UserServicer
from services.runtime.config import Settings
from services.runtime.foundation import Foundation, Storage
from services.runtime.pacing import Pacer
from services.runtime.server import Mounted
from services.runtime.vault import Vault


async def furnish(foundation: Foundation) -> list[Mounted]:
    """The services of this room, ready to be mounted."""
    pacer, stack = Pacer(), foundation.stack
    client = Client(pacer)
    stack.push_async_callback(client.close)
    catalog = Catalog(foundation.settings, client)
    stack.push_async_callback(catalog.close)
    sync = await _sync(foundation, catalog)
    accounting = _accounting(foundation)
    engine = Engine(catalog, pacer, accounting, MediaRoom(foundation.neighbours))
    keeper = _keeper(foundation)
    turns = Turns(engine, catalog, keeper, profile=_profile(foundation))
    chat = ChatServicer(turns, engine, EmbeddingEngine(catalog, accounting))
    return [
        Mounted("jan.llm.v1.ChatService", chat_pb2_grpc.add_ChatServiceServicer_to_server, chat),
        Mounted("jan.llm.v1.ModelService", models_pb2_grpc.add_ModelServiceServicer_to_server, ModelServicer(catalog)),
        *_conversations(foundation, engine, catalog, keeper),
        *_projects_and_shares(foundation),
        *_users(foundation),
        *_administration(foundation, sync),
    ]


async def _sync(foundation: Foundation, catalog: Catalog) -> CatalogSync:
    """Fills the catalog, and keeps it up to date for ever."""
    storage = foundation.storage
    store = CatalogStore(storage.database, _vault(foundation.settings, storage)) if storage is not None else None
    sync = CatalogSync(foundation.settings, catalog, store)
    await sync.start()
    if storage is not None:
        sync.follow(storage.watch)
    running = asyncio.create_task(sync.run())
    foundation.stack.callback(running.cancel)
    return sync


def _vault(settings: Settings, storage: Storage) -> Vault:
    """What API keys of providers are encrypted with."""
    return Vault(settings.model_provider_secret.encode()) if settings.model_provider_secret else storage.vault


def _administration(foundation: Foundation, sync: CatalogSync) -> list[Mounted]:
    if foundation.storage is None:
        return []
    database, vault = foundation.storage.database, _vault(foundation.settings, foundation.storage)
    models = AdminModelServicer(CatalogStore(database, vault), sync)
    providers = AdminProviderServicer(ProviderStore(database, vault), sync)
    add_models = admin_models_pb2_grpc.add_AdminModelServiceServicer_to_server
    add_providers = admin_providers_pb2_grpc.add_AdminProviderServiceServicer_to_server
    return [
        Mounted("jan.llm.v1.AdminModelService", add_models, models),
        Mounted("jan.llm.v1.AdminProviderService", add_providers, providers),
    ]


def _accounting(foundation: Foundation) -> Accounting:
    """Its ledger is closed when the server has stopped and every answer is counted, before the database is."""
    if foundation.storage is None:
        return Accounting(foundation.metrics)
    ledger = UsageLedger(UsageStore(foundation.storage.database))
    ledger.start()
    foundation.stack.push_async_callback(ledger.close)
    return Accounting(foundation.metrics, ledger)


def _keeper(foundation: Foundation) -> TurnKeeper | None:
    """Closed when the server has stopped, before what its turns are told to: ledger, upstreams and database."""
    if foundation.storage is None:
        return None
    storage, largest = foundation.storage, foundation.settings.max_body_bytes
    keeper = TurnKeeper(TurnStore(storage.database, storage.watch, largest=largest))
    foundation.stack.push_async_callback(keeper.close)
    return keeper


def _profile(foundation: Foundation) -> Wish:
    if foundation.storage is None or not foundation.settings.profile_prompt_enabled:
        return nothing
    settings = SettingsStore(foundation.storage.database)

    async def profile(user_id: str) -> str | None:
        return profile_prompt(await settings.load(user_id))

    return profile


def _selected(settings: SettingsStore) -> Wish:
    async def selected(user_id: str) -> str | None:
        return str((await settings.load(user_id)).preferences["selected_model"])

    return selected


def _conversations(
    foundation: Foundation, engine: Engine, catalog: Catalog, keeper: TurnKeeper | None
) -> list[Mounted]:
    if foundation.storage is None or keeper is None:
        return []
    database = foundation.storage.database
    selected, profile = _selected(SettingsStore(database)), _profile(foundation)
    regenerator = Regenerator(engine, catalog, keeper, selected=selected, profile=profile)
    items = ItemStore(database, largest=foundation.settings.max_body_bytes)
    conversations = ConversationServicer(ConversationStore(database), items, regenerator)
    add_conversations = conversations_pb2_grpc.add_ConversationServiceServicer_to_server
    return [Mounted("jan.llm.v1.ConversationService", add_conversations, conversations)]


def _projects_and_shares(foundation: Foundation) -> list[Mounted]:
    """Views are written for the last time when the server has stopped, before the database is closed."""
    if foundation.storage is None:
        return []
    database, settings = foundation.storage.database, foundation.settings
    store = ShareStore(database, largest=settings.max_body_bytes)
    views = Views(store.count_views)
    views.start()
    foundation.stack.push_async_callback(views.close)
    conversations = ConversationStore(database)
    projects = ProjectServicer(ProjectStore(database), conversations)
    shares = ShareServicer(settings, store, views, conversations, _galleries(foundation, foundation.storage))
    add_projects = projects_pb2_grpc.add_ProjectServiceServicer_to_server
    add_shares = shares_pb2_grpc.add_ShareServiceServicer_to_server
    return [
        Mounted("jan.llm.v1.ProjectService", add_projects, projects),
        Mounted("jan.llm.v1.ShareService", add_shares, shares),
    ]


def _galleries(foundation: Foundation, storage: Storage) -> Callable[[str], MediaRoom]:
    """The images of a user who is not there."""
    return lambda user_id: MediaRoom(foundation.neighbours, token=storage.grants.act_for(user_id))


def _users(foundation: Foundation) -> list[Mounted]:
    if foundation.storage is None:
        return []
    users = UserServicer(SettingsStore(foundation.storage.database), UsageStore(foundation.storage.database))
    return [Mounted("jan.llm.v1.UserService", users_pb2_grpc.add_UserServiceServicer_to_server, users)]
