"""The models this process can route to: who offers them, kept fresh by reading the upstreams' own lists and by what
administrators say in whichever process. Looking a model up is one look into a dict; everything else happens before."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from services.llm.models.allowance import Allowance
from services.llm.models.offers import Listed, Offer, listed, model_key, offers_of, unlisted
from services.llm.models.registry import Registry
from services.llm.models.routing import Endpoint, Route
from services.llm.models.upstreams import Upstreams, upstream
from services.llm.providers import discovery, entries
from services.llm.providers.demo import DemoProvider
from services.llm.providers.entries import Address, Entry
from services.llm.providers.http1 import Client
from services.llm.providers.minilm import MiniLmProvider
from services.llm.providers.names import is_for_chat
from services.runtime.config import Settings
from services.runtime.errors import ApiError, NotFound, Unavailable

DEMO, MINILM = "jan-demo", "all-minilm-l6-v2"
BUILTIN = Entry(name="jan-server", type="jan-server", addresses=())
SYNC_TIMEOUT = 5.0
# Between two tries to read a list that never answered, in seconds.
SHORTEST_PAUSE = 2.0

log = logging.getLogger(__name__)


@dataclass
class Model:
    """A model one can ask for."""

    id: str
    created: int
    offers: list[Offer]
    """Who offers it, the one that is asked first in front."""
    context_window: int = 0
    """Longest prompt and answer together, in tokens; 0 when nobody has said it."""
    route: Route = field(default_factory=Route)

    @property
    def owned_by(self) -> str:
        return self.offers[0].entry.type


class Catalog:
    """Every model by id and alias. `start` reads the configuration, `refresh` the upstreams' lists; `apply` takes what
    the database says."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._upstreams = Upstreams(client)
        self._configured: list[Entry] = []
        self._aliases: dict[str, str] = {}
        self._first_seen: dict[str, int] = {}
        self._listed: dict[tuple[str, str], list[Listed]] = {}
        self._read_at: dict[str, int] = {}
        self._allowances: dict[str, Allowance] = {}
        self._offers: list[Offer] = []
        self._models: dict[str, Model] = {}
        self._minilm = MiniLmProvider()
        self._builtin = {
            DEMO: upstream(BUILTIN.type, DEMO, DemoProvider()),
            MINILM: upstream(BUILTIN.type, MINILM, self._minilm),
        }
        self.registry = Registry()

    async def start(self) -> None:
        """Read the configuration and, within `SYNC_TIMEOUT`, the upstreams. Raises `ConfigError`."""
        settings = self._settings
        configured = entries.ProvidersFile()
        if settings.jan_provider_configs:
            configured = entries.read(settings.jan_provider_configs_file, settings.jan_provider_config_set)
        self._configured = list(configured.entries)
        if not self._configured:
            if settings.jan_default_node_setup:
                self._configured += discovery.local_engines(settings)
            self._configured += discovery.vendors(os.environ)
        self._aliases = {**configured.aliases, **settings.model_aliases}
        await self.refresh(self.lists())

    async def refresh(self, lists: Sequence[tuple[Entry, Address]]) -> bool:
        """Read `lists`, make the catalog anew, and return whether all could be read; one that could not stays as it was
        known."""
        done = await asyncio.gather(*(self._read_list(entry, address) for entry, address in lists))
        self._build()
        return all(done)

    def apply(self, registry: Registry) -> None:
        """Make the catalog anew with what the database says now."""
        self.registry = registry
        self._build()

    async def close(self) -> None:
        await self._minilm.aclose()

    def models(self) -> list[Model]:
        """All models, by id."""
        return sorted(self._models.values(), key=lambda model: model.id)

    def offers(self) -> list[Offer]:
        """What providers offer and have offered, whether or not it can be called, provider by provider."""
        return self._offers

    def providers(self) -> list[Entry]:
        """All providers that were asked for, by id: guesses only when they have models."""
        offering = {offer.entry.id for offer in self._offers}
        known = [each for each in (*self._entries(), BUILTIN) if not each.discovered or each.id in offering]
        return sorted(known, key=lambda entry: entry.id)

    def read_at(self, entry: Entry) -> int | None:
        """When this process last read that provider's list, in Unix seconds."""
        return self._read_at.get(entry.id)

    def get(self, name: str) -> Model:
        """The model of that id or alias. Raises `NotFound` (`model_not_found`), or `Unavailable`
        (`no_provider_available`) while a configured provider that may have it has not said what it offers."""
        model = self._models.get(name) or self._models.get(self._alias(name))
        if model is not None:
            return model
        silent = sorted({entry.name for entry, _ in self.unread() if not entry.discovered})
        if silent and not self._is_off(self._alias(name) or name):
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

    def is_on(self, model_id: str) -> bool:
        """Whether the catalog row of that model is switched on."""
        said = self.registry.catalogs.get(model_id)
        return said is None or said.enabled

    def lists(self) -> list[tuple[Entry, Address]]:
        """Every upstream that is asked for its models."""
        if not self._settings.model_sync_enabled:
            return []
        return [
            (entry, address)
            for entry in self._entries()
            if entry.sync_models and entry.active
            for address in entry.addresses
        ]

    def unread(self) -> list[tuple[Entry, Address]]:
        """Those that have not been read since this process started."""
        return [(entry, address) for entry, address in self.lists() if (entry.id, address.url) not in self._listed]

    def _entries(self) -> list[Entry]:
        return [*self._configured, *(made.entry for made in self.registry.providers.values())]

    def _is_off(self, name: str) -> bool:
        """Whether a model is not there because an administrator wants it so."""
        return any(offer.model_id == name and not self._serves(offer) for offer in self._offers if offer.available)

    def _alias(self, name: str) -> str:
        target = self._aliases.get(name, "")
        return self._default_model() if target == "default" else target

    def _default_model(self) -> str:
        """What the alias target `default` stands for: the first chat model of the first provider that has one."""
        return next((model for model in self._models if is_for_chat(model)), "")

    async def _read_list(self, entry: Entry, address: Address) -> bool:
        deadline = asyncio.get_running_loop().time() + SYNC_TIMEOUT
        try:
            rows = await self._upstreams.of(entry, address).provider.list_models(deadline=deadline)
        except ApiError as error:
            level = logging.DEBUG if entry.discovered else logging.WARNING
            log.log(level, "model list not read", extra={"provider": entry.name, "reason": error.message})
            return False
        self._listed[entry.id, address.url] = listed(rows)
        self._read_at[entry.id] = int(time.time())
        return True

    def _build(self) -> None:
        known = self._entries()
        self._forget_all_but(known)
        offers = [offer for entry in known for offer in self._offers_of(entry)]
        # Only guesses may be replaced by the demo model: what an operator configured and is down says so.
        if all(entry.discovered for entry in known if entry.active) and not any(offer.available for offer in offers):
            offers += self._built_in(DEMO)
        if not any(offer.available and offer.model_id == MINILM for offer in offers):
            offers += self._built_in(MINILM)
        self._offers = offers
        self._allowances = dict(self._allowance(offer) for offer in offers if self._is_limited(offer))
        models: dict[str, Model] = {}
        for offer in offers:
            if self._serves(offer):
                self._add(models, offer)
        for model in models.values():
            self._finish(model)
        self._models = models

    def _forget_all_but(self, known: Sequence[Entry]) -> None:
        """What was read of providers, and of places, that are none of these any more."""
        self._upstreams.keep(known)
        places, ids = {(entry.id, each.url) for entry in known for each in entry.addresses}, {each.id for each in known}
        self._listed = {place: rows for place, rows in self._listed.items() if place in places}
        self._read_at = {key: moment for key, moment in self._read_at.items() if key in ids}

    def _offers_of(self, entry: Entry) -> list[Offer]:
        lists = {address.url: self._listed.get((entry.id, address.url), []) for address in entry.addresses}
        return offers_of(entry, lists, self.registry)

    def _built_in(self, model_id: str) -> Iterable[Offer]:
        key = model_key(BUILTIN, model_id)
        known = self.registry.models.get(key)
        created = known.created_at if known else 0
        return [Offer(key, BUILTIN, model_id, model_id, unlisted(model_id), created, (), True, known, True)]

    def _serves(self, offer: Offer) -> bool:
        return offer.callable and self.is_on(offer.model_id)

    def _add(self, models: dict[str, Model], offer: Offer) -> None:
        seen = offer.created or self._first_seen.setdefault(offer.model_id, int(time.time()))
        model = models.setdefault(offer.model_id, Model(offer.model_id, seen, []))
        model.offers.append(offer)
        allowance, temperature = self._allowances.get(offer.id), offer.changes.get("default_temperature")
        model.route.limited |= allowance is not None
        if offer.entry is BUILTIN:
            model.route.endpoints.append(
                Endpoint(self._builtin[offer.model_id], offer.upstream_id, temperature=temperature, allowance=allowance)
            )
        for address in offer.addresses:
            found = self._upstreams.of(offer.entry, address)
            model.route.endpoints.append(
                Endpoint(found, offer.upstream_id, address.priority, address.weight, temperature, allowance)
            )

    def _finish(self, model: Model) -> None:
        """The offer that is asked first in front, and what it takes to know of the model: what an administrator says of
        the provider's model holds before what the catalog row says of all, and that before the provider's own word."""
        model.offers.sort(key=lambda offer: min((each.priority for each in offer.addresses), default=0))
        said, first = self.registry.catalogs.get(model.id), model.offers[0]
        of_all = said.changes.get("context_window") if said else None
        model.context_window = first.changes.get("context_window") or of_all or first.description.context_window

    def _is_limited(self, offer: Offer) -> bool:
        return self._settings.rate_limits == "enforce" and bool(offer.changes.get("rate_limit"))

    def _allowance(self, offer: Offer) -> tuple[str, Allowance]:
        """The same one as before while the limits are the same, so that what was counted stays counted."""
        limit = offer.changes["rate_limit"]
        limits = limit.get("requests_per_minute", 0), limit.get("tokens_per_minute", 0)
        before = self._allowances.get(offer.id)
        if before is not None and before.limits == limits:
            return offer.id, before
        return offer.id, Allowance(*limits, share=1 / self._settings.workers)
