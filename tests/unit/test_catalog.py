"""Which models are offered: what the operator configured, what upstreams list, and when the demo model stands in."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.llm.models.catalog import DEMO, MINILM, Catalog
from services.llm.models.catalog_sync import CatalogSync
from services.llm.models.registry import KnownCatalog, KnownModel, Registry
from services.llm.providers.http1 import Client
from services.runtime.config import Settings
from services.runtime.errors import NotFound, Unavailable
from services.runtime.pacing import Pacer
from tests.clock import HastyLoop
from tests.fake_upstream import FakeUpstream, status

FILE = """
providers:
  default:
    - {{name: engine, type: vllm, url: "{url}"}}
aliases: {{jan-v1-4b: default}}
"""


@asynccontextmanager
async def catalog(folder: Path, text: str) -> AsyncIterator[Catalog]:
    file = folder / "providers.yml"
    file.write_text(text)
    client = Client(Pacer())
    made = Catalog(Settings(jan_provider_configs_file=file, jan_default_node_setup=False), client)
    try:
        await made.start()
        yield made
    finally:
        await client.close()
        await made.close()


def names(made: Catalog) -> list[str]:
    return [model.id for model in made.models()]


@pytest.fixture(autouse=True)
def no_vendors(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GROQ_API_KEY", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)


async def test_with_nothing_configured_the_demo_model_answers_for_the_default(tmp_path: Path) -> None:
    async with catalog(tmp_path, "aliases: {jan-v1-4b: default}") as made:
        assert names(made) == [MINILM, DEMO]
        assert made.get("jan-v1-4b").id == DEMO


async def test_the_window_of_a_provider_s_model_goes_before_that_of_its_catalog_row(tmp_path: Path) -> None:
    file = """
    providers:
      default: [{name: engine, url: "http://127.0.0.1:9/v1", models: [{id: llama, context_window: 100}]}]
    """

    async with catalog(tmp_path, file) as made:
        (offer,) = (each for each in made.offers() if each.model_id == "llama")

        def window(*, of_all: int | None, of_provider: int | None) -> int:
            known = KnownModel(offer.id, offer.entry.id, "llama", "llama", None, said(of_provider), 1, 1)
            row = KnownCatalog(enabled=True, changes=said(of_all), created_at=1, updated_at=1)
            made.apply(Registry(1, models={offer.id: known}, catalogs={"llama": row}))
            return made.get("llama").context_window

        assert window(of_all=None, of_provider=None) == 100
        assert window(of_all=1000, of_provider=None) == 1000
        assert window(of_all=1000, of_provider=200) == 200
        assert window(of_all=None, of_provider=200) == 200


def said(window: int | None) -> dict[str, int]:
    return {} if window is None else {"context_window": window}


async def test_a_configured_provider_that_is_down_is_not_replaced_by_the_demo_model(tmp_path: Path) -> None:
    async with catalog(tmp_path, FILE.format(url="http://127.0.0.1:9/v1")) as made:
        assert names(made) == [MINILM]
        for name in ("jan-v1-4b", "llama"):
            with pytest.raises(Unavailable, match="'engine' cannot be asked") as raised:
                made.get(name)
            assert raised.value.code == "no_provider_available"


async def test_a_name_that_no_provider_lists_does_not_exist(tmp_path: Path) -> None:
    with FakeUpstream(models=["llama"]) as upstream:
        async with catalog(tmp_path, FILE.format(url=upstream.url)) as made:
            with pytest.raises(NotFound, match="'nope' does not exist"):
                made.get("nope")


async def test_the_default_is_the_first_model_that_chats(tmp_path: Path) -> None:
    with FakeUpstream(models=["aaa-embed", "llama"]) as upstream:
        async with catalog(tmp_path, FILE.format(url=upstream.url)) as made:
            assert made.get("jan-v1-4b").id == "llama"


def test_a_list_that_could_not_be_read_is_asked_for_again_until_it_is_there(tmp_path: Path) -> None:
    async def scene() -> list[str]:
        with FakeUpstream(models=["llama"]) as upstream:
            listed, upstream.models = upstream.models, status(503)
            async with catalog(tmp_path, FILE.format(url=upstream.url)) as made:
                schedule = asyncio.create_task(CatalogSync(Settings(), made).run())
                upstream.models = listed
                while "llama" not in names(made):  # noqa: ASYNC110  # on a clock that runs fifty times faster
                    await asyncio.sleep(0.5)
                schedule.cancel()
                return names(made)

    loop = HastyLoop()
    try:
        assert loop.run_until_complete(scene()) == [MINILM, "llama"]
    finally:
        loop.close()
