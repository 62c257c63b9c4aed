"""The models this process can route to: who offers them, kept fresh by reading the upstreams' own lists."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from services.llm.providers import discovery, entries
from services.llm.providers.anthropic.adapter import AnthropicProvider
from services.llm.providers.demo import DemoProvider
from services.llm.providers.entries import Address, Entry
from services.llm.providers.http1 import Client
from services.llm.providers.minilm import MiniLmProvider
from services.llm.providers.names import is_for_chat
from services.llm.providers.openai import OpenAIProvider
from services.llm.providers.provider import Json, Provider
from services.llm.routing import Breaker, Endpoint, Route, Upstream
from services.runtime.config import Settings
from services.runtime.errors import ApiError, NotFound, Unavailable

DEMO, MINILM = "jan-demo", "all-minilm-l6-v2"
SYNC_TIMEOUT = 5.0
# Between two tries to read a list that never answered, in seconds.
SHORTEST_PAUSE, LONGEST_PAUSE = 2.0, 60.0

log = logging.getLogger(__name__)


def _openai(client: Client, entry: Entry, address: Address) -> Provider:
    return OpenAIProvider(
        client,
        name=entry.name,
        base_url=address.url,
        api_key=entry.api_key,
        headers=entry.headers,
        stream_usage=entry.stream_usage,
    )


def _azure(client: Client, entry: Entry, address: Address) -> Provider:
    headers = {**entry.headers, "api-key": entry.api_key}
    return OpenAIProvider(
        client, name=entry.name, base_url=address.url, headers=headers, stream_usage=entry.stream_usage
    )


def _anthropic(client: Client, entry: Entry, address: Address) -> Provider:
    return AnthropicProvider(
        client, name=entry.name, base_url=address.url, api_key=entry.api_key, headers=entry.headers
    )


# How to speak to each type of provider; all others speak OpenAI's protocol.
ADAPTERS: dict[str, Callable[[Client, Entry, Address], Provider]] = {"anthropic": _anthropic, "azure_openai": _azure}


@dataclass
class Model:
    """A model one can ask for."""

    id: str
    created: int
    owned_by: str
    route: Route


class Catalog:
    """Every model by id and alias. `start` reads the configuration, `refresh` the upstreams' lists."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._upstreams: dict[tuple[str, str], Upstream] = {}
        self._entries: list[Entry] = []
        self._aliases: dict[str, str] = {}
        self._first_seen: dict[str, int] = {}
        self._listed: dict[tuple[str, str], list[Json]] = {}
        self._models: dict[str, Model] = {}
        self._minilm = MiniLmProvider()
        self._builtin = {
            DEMO: self._upstream_of("jan-server", DEMO, DemoProvider()),
            MINILM: self._upstream_of("jan-server", MINILM, self._minilm),
        }

    async def start(self) -> None:
        """Read the configuration and, within `SYNC_TIMEOUT`, the upstreams. Raises `ConfigError`."""
        settings = self._settings
        configured = entries.ProvidersFile()
        if settings.jan_provider_configs:
            configured = entries.read(settings.jan_provider_configs_file, settings.jan_provider_config_set)
        self._entries = list(configured.entries)
        if not self._entries:
            if settings.jan_default_node_setup:
                self._entries += discovery.local_engines(settings)
            self._entries += discovery.vendors(os.environ)
        self._aliases = {**configured.aliases, **settings.model_aliases}
        await self.refresh(self._lists())

    async def refresh(self, lists: Sequence[tuple[Entry, Address]]) -> None:
        """Read `lists` and make the catalog anew; a list that cannot be read stays as it was known."""
        await asyncio.gather(*(self._read_list(entry, address) for entry, address in lists))
        self._build()

    async def refresh_for_ever(self) -> None:
        """Read all lists on the configured schedule, and those that never answered again and again until they do."""
        loop = asyncio.get_running_loop()
        interval, pause = self._settings.model_sync_interval_minutes * 60.0, SHORTEST_PAUSE
        due = loop.time() + interval
        while True:
            unread = self._unread()
            await asyncio.sleep(max(0.0, min(pause, due - loop.time()) if unread else due - loop.time()))
            pause = min(LONGEST_PAUSE, pause * 2) if unread else SHORTEST_PAUSE
            if loop.time() >= due:
                due = loop.time() + interval
                unread = self._lists()
            try:
                await self.refresh(unread)
            except Exception:  # a list of a kind nobody thought of must not end the schedule
                log.exception("model lists not refreshed")

    async def close(self) -> None:
        await self._minilm.aclose()

    def models(self) -> list[Model]:
        """All models, by id."""
        return sorted(self._models.values(), key=lambda model: model.id)

    def get(self, name: str) -> Model:
        """The model of that id or alias. Raises `NotFound` (`model_not_found`), or `Unavailable`
        (`no_provider_available`) while a configured provider that may have it has not said what it offers."""
        model = self._models.get(name) or self._models.get(self._alias(name))
        if model is not None:
            return model
        if silent := sorted({entry.name for entry, _ in self._unread() if not entry.discovered}):
            raise Unavailable(
                f"The model '{name}' is not known, and provider '{silent[0]}' cannot be asked for its models right now",
                code="no_provider_available",
                param="model",
                retry_after=SHORTEST_PAUSE,
            )
        raise NotFound(f"The model '{name}' does not exist", code="model_not_found", param="model")

    def route(self, name: str) -> Route:
        """Where to send a request for `name`. Raises as `get`."""
        return self.get(name).route

    def _alias(self, name: str) -> str:
        target = self._aliases.get(name, "")
        return self._default_model() if target == "default" else target

    def _default_model(self) -> str:
        """What the alias target `default` stands for: the first chat model of the first provider that has one."""
        return next((model for model in self._models if is_for_chat(model)), "")

    def _lists(self) -> list[tuple[Entry, Address]]:
        """Every upstream that is asked for its models."""
        if not self._settings.model_sync_enabled:
            return []
        return [(entry, address) for entry in self._entries if entry.sync_models for address in entry.addresses]

    def _unread(self) -> list[tuple[Entry, Address]]:
        return [(entry, address) for entry, address in self._lists() if (entry.name, address.url) not in self._listed]

    async def _read_list(self, entry: Entry, address: Address) -> None:
        upstream = self._upstream(entry, address)
        deadline = asyncio.get_running_loop().time() + SYNC_TIMEOUT
        try:
            rows = await upstream.provider.list_models(deadline=deadline)
        except ApiError as error:
            level = logging.DEBUG if entry.discovered else logging.WARNING
            log.log(level, "model list not read", extra={"provider": entry.name, "reason": error.message})
        else:
            self._listed[entry.name, address.url] = rows

    def _build(self) -> None:
        models: dict[str, Model] = {}
        for entry in self._entries:
            for address in entry.addresses:
                upstream = self._upstream(entry, address)
                for model_id, upstream_id, created in self._offered(entry, address):
                    endpoint = Endpoint(upstream, upstream_id, address.priority, address.weight)
                    self._add(models, model_id, endpoint, created)
        # Only guesses may be replaced by the demo model: what an operator configured and is down says so.
        if not models and all(entry.discovered for entry in self._entries):
            self._add(models, DEMO, Endpoint(self._builtin[DEMO], DEMO))
        if MINILM not in models:
            self._add(models, MINILM, Endpoint(self._builtin[MINILM], MINILM))
        self._models = models

    def _offered(self, entry: Entry, address: Address) -> Iterable[tuple[str, str, int | None]]:
        """Public id, upstream id and time of making: of those in the file, then of those that the upstream lists."""
        named = {model.upstream_id for model in entry.models}
        yield from ((model.id, model.upstream_id, None) for model in entry.models)
        for row in self._listed.get((entry.name, address.url), ()):
            if row["id"] not in named:
                created = row.get("created")
                yield row["id"], row["id"], created if type(created) is int and 0 < created < 2**32 else None

    def _add(self, models: dict[str, Model], model_id: str, endpoint: Endpoint, created: int | None = None) -> None:
        seen = self._first_seen.setdefault(model_id, created or int(time.time()))
        model = models.setdefault(model_id, Model(model_id, seen, endpoint.upstream.vendor, Route()))
        model.route.endpoints.append(endpoint)

    def _upstream(self, entry: Entry, address: Address) -> Upstream:
        """The same object for the same address, so that health survives a refresh."""
        key = entry.name, address.url
        if key not in self._upstreams:
            adapter = ADAPTERS.get(entry.type, _openai)
            provider = adapter(self._client.with_timeouts(entry.timeouts), entry, address)
            self._upstreams[key] = self._upstream_of(entry.type, entry.name, provider, entry.max_concurrency)
        return self._upstreams[key]

    def _upstream_of(self, vendor: str, name: str, provider: Provider, max_concurrency: int = 0) -> Upstream:
        clock = asyncio.get_running_loop().time
        return Upstream(name, vendor, provider, Breaker(clock), max_concurrency)
