"""Keeps the catalog of this process up to date: with the upstreams' lists on the schedule, and with the database within
moments of every change in whichever process. Without a database, or while it is away, what was known last serves."""

from __future__ import annotations

import asyncio
import logging
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
NEW_ONES = "new ones"
"""Instead of a provider's id: those that may have been made while nothing could be heard."""

log = logging.getLogger("jan.models")


class CatalogSync:
    """`start` once, then `run` for ever; `follow` a watch to hear of changes elsewhere."""

    def __init__(self, settings: Settings, catalog: Catalog, store: CatalogStore | None = None) -> None:
        self._interval = settings.model_sync_interval_minutes * 60.0
        self._catalog = catalog
        self._store = store
        self._loading = asyncio.Lock()  # so that what was read first is never put over what was read later
        self._news = asyncio.Event()
        self._told: set[str] = set()

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
        """Read all lists on the configured schedule, those that never answered again and again until they do, and those
        of providers that have changed at once."""
        loop = asyncio.get_running_loop()
        pause, due = SHORTEST_PAUSE, loop.time() + self._interval
        while True:
            unread = bool(self._catalog.unread())
            heard = await self._wait(max(0.0, min(pause, due - loop.time()) if unread else due - loop.time()))
            if not heard:
                pause = min(LONGEST_PAUSE, pause * 2) if unread else SHORTEST_PAUSE
            try:
                await self._round(everything=loop.time() >= due, heard=heard)
            except Exception:  # a list of a kind nobody thought of must not end the schedule
                log.exception("model lists not refreshed")
            if loop.time() >= due:
                due = loop.time() + self._interval

    async def reload(self, connection: Connection | None = None) -> None:
        """Take over what the database says now. Raises `Unavailable`."""
        if self._store is not None:
            async with self._loading:
                self._catalog.apply(await self._store.load(connection))

    async def read(self, provider_id: str) -> bool:
        """Read the lists of one provider now, and return whether it could be asked."""
        return await self._refresh([each for each in self._catalog.lists() if each[0].id == provider_id])

    async def _wait(self, seconds: float) -> bool:
        """Whether something was heard in that time."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True

    async def _round(self, *, everything: bool, heard: bool) -> None:
        told, self._told = self._told, set()
        if heard:
            try:
                await self.reload()
            except Unavailable:  # the watch has lost its connection as well, or will: it reads all when it is back
                log.warning("models_not_reloaded")
        lists = self._catalog.lists()
        if not everything:
            unread = self._catalog.unread() if told or not heard else []
            lists = [each for each in lists if each in unread or each[0].id in told]
        await self._refresh(lists)

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
        if payload:
            self._told.add(payload)
        self._news.set()

    async def _resume(self, connection: Connection) -> None:
        await self.reload(connection)
        self._heard(NEW_ONES)
