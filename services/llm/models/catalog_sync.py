"""Keeps the catalog of this process up to date: with the upstreams' lists on the schedule, and with the database within
moments of every change in whichever process. Without a database, or while it is away, what was known last serves."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence

from services.llm.models import registry
from services.llm.models.catalog import SHORTEST_PAUSE, Catalog
from services.llm.models.catalog_store import CatalogStore
from services.llm.providers.entries import Address, Entry
from services.runtime.config import Settings
from services.runtime.db import Connection
from services.runtime.errors import ApiError, Unavailable
from services.runtime.watch import Watch

LONGEST_PAUSE = 60.0
RELOAD_PAUSE = 1.0
"""Seconds until news that could not be taken over are tried again."""
NEW_ONES = "new ones"
"""Instead of a provider's id: those that may have been made while nothing could be heard."""

log = logging.getLogger("jan.models")


class CatalogSync:
    """`start` once, then `run` for ever; `follow` a watch to hear of changes elsewhere.

    What administrators change is taken over by a task of its own, so that an upstream which is slow to tell its models
    does not keep it waiting."""

    def __init__(self, settings: Settings, catalog: Catalog, store: CatalogStore | None = None) -> None:
        self._interval = settings.model_sync_interval_minutes * 60.0
        self._catalog = catalog
        self._store = store
        self._loading = asyncio.Lock()  # so that what was read first is never put over what was read later
        self._news = asyncio.Event()
        self._told: set[str] = set()  # whose lists are to be read as soon as the news are taken over
        self._asked = asyncio.Event()
        self._to_read: set[str] = set()  # and whose can be read now
        self._tried = asyncio.Event()
        self.process = secrets.token_hex(8)
        """What this process is called in announcements."""

    async def start(self) -> None:
        """Read the database if it is there, the configuration and the upstreams. Raises `ConfigError`."""
        if self._store is not None:
            try:
                await self.reload()
            except Unavailable:
                log.warning("models_without_database", extra={"remedy": "what administrators have set holds later"})
        await self._catalog.start()
        await self._remember()

    def follow(self, watch: Watch) -> None:
        """Hear what administrators change, in whichever process."""
        watch.on(registry.CHANNEL, self._heard, self._resume)

    async def run(self) -> None:
        """Take over what is heard; read lists on the configured schedule, those that never answered again and again
        until they do, and those of providers that have changed at once."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._take_over_news())
            tasks.create_task(self._read_when_asked())
            tasks.create_task(self._read_on_schedule())

    async def current(self) -> Catalog:
        """The catalog with all that administrators have changed until now, in whichever process. Raises
        `Unavailable`."""
        if self._store is not None:
            async with self._loading:
                if await self._store.changes() != self._catalog.registry.changes:
                    self._catalog.apply(await self._store.load())
        return self._catalog

    async def reload(self, connection: Connection | None = None) -> None:
        """Take over what the database says now, changed or not. Raises `Unavailable`."""
        if self._store is not None:
            async with self._loading:
                self._catalog.apply(await self._store.load(connection))

    async def read(self, provider_id: str) -> bool:
        """Read the lists of one provider now, and return whether it could be asked."""
        return await self._refresh([each for each in self._catalog.lists() if each[0].id == provider_id])

    async def _take_over_news(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self.current()
            except Exception as error:  # whatever it is: the news must not be lost, nor any after them
                expected = isinstance(error, Unavailable)
                log.warning("models_not_reloaded", extra={"reason": repr(error)}, exc_info=None if expected else error)
                await asyncio.sleep(RELOAD_PAUSE)
                self._news.set()
            else:
                self._ask_for_lists()

    def _ask_for_lists(self) -> None:
        self._to_read |= self._told
        self._told = set()
        if self._to_read:
            self._asked.set()

    async def _read_when_asked(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            wanted, self._to_read = self._to_read, set()
            new = self._catalog.unread() if NEW_ONES in wanted else []
            lists = [each for each in self._catalog.lists() if each in new or each[0].id in wanted]
            await self._refresh_safely(lists)
            self._tried.set()

    async def _read_on_schedule(self) -> None:
        loop = asyncio.get_running_loop()
        pause, due = SHORTEST_PAUSE, loop.time() + self._interval
        while True:
            unread = bool(self._catalog.unread())
            if await self._tries_end_within(max(0.0, min(pause, due - loop.time()) if unread else due - loop.time())):
                continue  # there may be one now that did not answer
            pause = min(LONGEST_PAUSE, pause * 2) if unread else SHORTEST_PAUSE
            everything = loop.time() >= due
            await self._refresh_safely(self._catalog.lists() if everything else self._catalog.unread())
            if everything:
                due = loop.time() + self._interval

    async def _tries_end_within(self, seconds: float) -> bool:
        """Whether lists were read, on demand, before that time was over."""
        try:
            async with asyncio.timeout(seconds):
                await self._tried.wait()
        except TimeoutError:
            return False
        self._tried.clear()
        return True

    async def _refresh_safely(self, lists: Sequence[tuple[Entry, Address]]) -> None:
        try:
            await self._refresh(lists)
        except Exception:  # a list of a kind nobody thought of must not end the reading
            log.exception("model lists not refreshed")

    async def _refresh(self, lists: Sequence[tuple[Entry, Address]]) -> bool:
        if not lists:
            return True
        done = await self._catalog.refresh(lists)
        await self._remember()
        return done

    async def _remember(self) -> None:
        """Keep what has been seen for the first time; a database that is away gets it with the next list."""
        new = [offer for offer in self._catalog.offers() if offer.known is None]
        if self._store is None or not new:
            return
        try:
            await self._store.remember(new)
            await self.reload()
        except ApiError as error:
            log.warning("models_not_kept", extra={"reason": error.message})

    def _heard(self, payload: str) -> None:
        provider_id, read_by = registry.heard(payload)
        if provider_id and read_by != self.process:
            self._told.add(provider_id)
        self._news.set()

    async def _resume(self, connection: Connection) -> None:
        await self.reload(connection)
        self._heard(NEW_ONES)
