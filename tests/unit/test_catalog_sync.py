"""How the catalog of a process follows the database and the upstreams, with a store that the test moves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from services.llm.models.catalog import SYNC_TIMEOUT, Catalog
from services.llm.models.catalog_store import CatalogStore
from services.llm.models.catalog_sync import CatalogSync
from services.llm.models.offers import Offer
from services.llm.models.registry import CHANNEL, KnownCatalog, MadeProvider, Registry
from services.llm.models.upstreams import Upstreams
from services.llm.providers.entries import Address, Entry
from services.llm.providers.http1 import Client
from services.runtime.config import Settings
from services.runtime.db import Connection
from services.runtime.errors import NotFound, Unavailable
from services.runtime.pacing import Pacer
from services.runtime.watch import Heard, Resume, Watch
from tests.fake_upstream import STALL, FakeUpstream

OFF = Registry(1, catalogs={"house": KnownCatalog(enabled=False, changes={}, created_at=1, updated_at=1)})


class Shelf(CatalogStore):
    """A store that holds one registry. A load takes what is there when it begins, and ends when `gate` is open."""

    def __init__(self) -> None:
        self.holds = Registry(0)
        self.gate = asyncio.Event()
        self.gate.set()
        self.loading = asyncio.Event()
        self.away = False
        self.loads = self.refused = 0

    async def load(self, connection: Connection | None = None) -> Registry:
        if self.away:
            raise Unavailable("away")
        found = self.holds
        self.loads += 1
        self.loading.set()
        await self.gate.wait()
        return found

    async def changes(self) -> int:
        if self.away:
            self.refused += 1
            raise Unavailable("away")
        return self.holds.changes

    async def remember(self, offers: Sequence[Offer]) -> None:
        if self.away:
            raise Unavailable("away")


class Ears(Watch):
    """A watch that hears what the test says."""

    def __init__(self) -> None:
        self.said: Heard

    def on(self, channel: str, heard: Heard, resume: Resume) -> None:
        assert channel == CHANNEL
        self.said, self.resume = heard, resume


class Scene:
    """A catalog with the model `house`, its sync at work, and the store behind it."""

    def __init__(self, folder: Path) -> None:
        file = folder / "providers.yml"
        entry = {"name": "own", "url": "http://127.0.0.1:9/v1", "models": ["house"]}
        file.write_text(yaml.safe_dump({"providers": {"default": [entry]}}))
        self.store, self.ears, self.client = Shelf(), Ears(), Client(Pacer())
        self.catalog = Catalog(Settings(jan_provider_configs_file=file), self.client)
        self.sync = CatalogSync(Settings(), self.catalog, self.store)

    def names(self) -> list[str]:
        return [model.id for model in self.catalog.models()]


@pytest_asyncio.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path)
    scene.sync.follow(scene.ears)
    running = asyncio.create_task(scene.sync.run())
    yield scene
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await scene.client.close()
    await scene.catalog.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # each turn of the loop is one step of the sync
            await asyncio.sleep(0)


async def test_news_are_taken_over(scene: Scene) -> None:
    await scene.sync.start()
    assert "house" in scene.names()
    scene.store.holds = OFF
    scene.ears.said("")
    await until(lambda: "house" not in scene.names())
    with pytest.raises(NotFound):
        scene.catalog.get("house")


async def test_what_was_read_first_is_never_put_over_what_was_read_later(scene: Scene) -> None:
    await scene.sync.start()
    scene.store.gate.clear()
    scene.store.loading.clear()
    slow = asyncio.create_task(scene.sync.reload())
    await scene.store.loading.wait()  # it has taken what was there before the change
    scene.store.holds = OFF
    after = asyncio.create_task(scene.sync.reload())
    scene.store.gate.set()
    await asyncio.gather(slow, after)
    assert "house" not in scene.names()


async def test_without_the_database_it_starts_from_the_file_and_catches_up_later(scene: Scene) -> None:
    scene.store.away, scene.store.holds = True, OFF
    await scene.sync.start()
    assert "house" in scene.names()
    scene.ears.said("")  # nothing can be read, and nothing is lost
    scene.store.away = False
    scene.ears.said("")
    await until(lambda: "house" not in scene.names())


async def test_the_lists_of_a_new_provider_are_read_at_once(scene: Scene) -> None:
    await scene.sync.start()
    with FakeUpstream(models=["llama"]) as upstream:
        entry = Entry("farm", "vllm", (Address(upstream.url),), made_id="prov_1")
        made = MadeProvider(entry, None, 1, 1)
        scene.store.holds = Registry(1, providers={"prov_1": made})
        scene.ears.said("prov_1")
        await until(lambda: "llama" in scene.names())
        assert scene.catalog.read_at(entry) is not None
        scene.store.holds = Registry(2)
        scene.ears.said("")
        await until(lambda: "llama" not in scene.names())


async def test_an_upstream_that_hangs_keeps_no_news_waiting(scene: Scene) -> None:
    with FakeUpstream() as upstream:
        upstream.models = [STALL]
        await scene.sync.start()
        hangs = Entry("hangs", "vllm", (Address(upstream.url),), made_id="prov_1")
        providers = {"prov_1": MadeProvider(hangs, None, 1, 1)}
        scene.store.holds = Registry(1, providers=providers)
        scene.ears.said("prov_1")
        await until(lambda: bool(upstream.requests))
        scene.store.holds = Registry(2, providers=providers, catalogs=OFF.catalogs)
        scene.ears.said("")
        async with asyncio.timeout(SYNC_TIMEOUT / 2):
            await until(lambda: "house" not in scene.names())
        assert not upstream.requests[0].hung_up.is_set()


async def test_news_that_cannot_be_taken_over_are_tried_again(scene: Scene) -> None:
    await scene.sync.start()
    scene.store.holds = OFF
    scene.store.away = True
    scene.ears.said("")
    await until(lambda: scene.store.refused > 0)
    scene.store.away = False
    await until(lambda: "house" not in scene.names())


async def test_a_change_elsewhere_is_there_before_it_is_heard_of(scene: Scene) -> None:
    await scene.sync.start()
    before = scene.store.loads
    assert await scene.sync.current() is scene.catalog
    assert scene.store.loads == before, "nothing has changed"
    scene.store.holds = OFF
    await scene.sync.current()
    await scene.sync.current()
    assert ("house" in scene.names(), scene.store.loads) == (False, before + 1)
    scene.store.away = True
    with pytest.raises(Unavailable):
        await scene.sync.current()


async def test_what_was_read_of_a_provider_that_is_gone_is_forgotten(scene: Scene) -> None:
    await scene.sync.start()
    with FakeUpstream(models=["llama"]) as upstream:
        for change in (1, 2, 3):
            entry = Entry("farm", "vllm", (Address(f"{upstream.url}/{change}"),), made_id=f"prov_{change}")
            scene.store.holds = Registry(change, providers={entry.id: MadeProvider(entry, None, 1, 1)})
            await scene.sync.current()
            assert await scene.sync.read(entry.id)
            assert scene.catalog.read_at(entry)
        scene.store.holds = Registry(4)
        await scene.sync.current()
    assert (scene.catalog._listed, scene.catalog._read_at) == ({}, {})


async def test_an_upstream_stays_the_same_until_its_address_or_key_changes() -> None:
    client = Client(Pacer())
    upstreams = Upstreams(client)
    entry, other = (Entry("e", "vllm", (Address("http://e"),), api_key=key) for key in ("a", "b"))
    first = upstreams.of(entry, entry.addresses[0])
    upstreams.keep([entry])
    assert upstreams.of(entry, entry.addresses[0]) is first
    assert upstreams.of(other, other.addresses[0]) is not first
    upstreams.keep([other])
    assert upstreams.of(entry, entry.addresses[0]) is not first
    await client.close()
