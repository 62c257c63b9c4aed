"""ModelService: what users are told about models and providers; and a database that is away."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
import yaml
from google.protobuf import json_format
from grpc import StatusCode
from jan.llm.v1 import models_pb2, models_pb2_grpc

from services.llm.models.catalog import Catalog
from services.llm.models.catalog_store import CatalogStore
from services.llm.models.catalog_sync import CatalogSync
from services.llm.providers.http1 import Client
from services.runtime import db
from services.runtime.config import Settings
from services.runtime.db import Database
from services.runtime.errors import Unavailable
from services.runtime.pacing import Pacer
from services.runtime.vault import Vault
from tests.fake_upstream import FakeUpstream, answer, status
from tests.grpc.rig import SECONDS, Rig, details, running

OPENROUTER = {
    "id": "acme/seer-2-instruct",
    "name": "Acme: Seer 2",
    "created": 1700000000,
    "description": "Sees things",
    "context_length": 131072,
    "architecture": {"input_modalities": ["text", "image"]},
    "pricing": {"prompt": "0.000001", "completion": "0.000002"},
    "top_provider": {"max_completion_tokens": 8192},
    "supported_parameters": ["temperature", "tools", "reasoning"],
}
PLAIN = {"id": "text-embedding-3", "object": "model"}


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as upstream:
        upstream.models = answer({"object": "list", "data": [OPENROUTER, PLAIN]})
        yield upstream


@pytest.fixture
def file(tmp_path: Path, upstream: FakeUpstream) -> Path:
    """A provider that says much, one that names its model itself, one that takes new models only when told to."""
    entries = [
        {"name": "router", "type": "openrouter", "url": upstream.url},
        {
            "name": "own",
            "type": "vllm",
            "url": upstream.url,
            "models": [{"id": "house", "upstream_id": "h-7b", "capabilities": ["browser"], "context_window": 4096}],
        },
        {"name": "shy", "type": "custom", "url": upstream.url, "auto_enable_new_models": False},
    ]
    found = tmp_path / "providers.yml"
    found.write_text(yaml.safe_dump({"providers": {"default": entries}}))
    return found


@pytest_asyncio.fixture
async def rig(tmp_path: Path, file: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path, "llm", jan_provider_configs_file=file) as rig:
        yield rig


async def ask(rig: Rig, method: str, *, headers: tuple[tuple[str, str], ...] = (), **members: Any) -> dict[str, Any]:
    stub: Any = models_pb2_grpc.ModelServiceStub(rig.channel)
    request = getattr(models_pb2, f"{method}Request")(**members)
    said = await getattr(stub, method)(request, metadata=(*rig.signed_in, *headers), timeout=SECONDS)
    return json_format.MessageToDict(said, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


async def refused(call: Any) -> tuple[StatusCode, str, str]:
    """Code, reason and parameter of the refusal."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    info: Any = details(error.value)["ErrorInfo"]
    return error.value.code(), info.reason, info.metadata.get("param", "")


async def test_what_a_provider_tells_of_a_model_is_told_on(rig: Rig) -> None:
    row = (await ask(rig, "GetCatalog", id="acme/seer-2-instruct"))["data"]
    assert row == {
        "id": "acme/seer-2-instruct",
        "object": "model.catalog",
        "public_id": "openrouter/acme/seer-2-instruct",
        "name": "Acme: Seer 2",
        "provider": "openrouter",
        "description": "Sees things",
        "available": True,
        "capabilities": ["text", "vision", "tools", "reasoning"],
        "context_window": 131072,
        "family": "seer-2",
        "tags": [],
        "experimental": False,
        "supported_parameters": {"names": ["temperature", "tools", "reasoning"], "default": {}},
        "architecture": {
            "modality": "text+image->text",
            "input_modalities": ["text", "image"],
            "output_modalities": ["text"],
        },
        "created_at": 1700000000,
        "updated_at": 1700000000,
    }


async def test_what_the_file_says_of_a_model_is_told_on(rig: Rig) -> None:
    row = (await ask(rig, "GetCatalog", id="vllm/house"))["data"]
    assert (row["id"], row["capabilities"], row["context_window"]) == ("house", ["browser"], 4096)


async def test_every_model_has_a_catalog_row(rig: Rig) -> None:
    models = [model["id"] for model in (await ask(rig, "ListModels"))["data"]]
    listed = await ask(rig, "ListCatalogs")
    assert [row["id"] for row in listed["data"]] == models
    assert models == ["acme/seer-2-instruct", "all-minilm-l6-v2", "house", "text-embedding-3"]
    assert (listed["object"], listed["total_count"], listed["has_more"]) == ("list", 4, False)
    for model in models:
        assert (await ask(rig, "GetCatalog", id=model))["data"]["available"] is True


@pytest.mark.parametrize(
    ("capability", "ids"),
    [
        ("vision", ["acme/seer-2-instruct"]),
        ("images", ["acme/seer-2-instruct"]),
        ("embeddings", ["all-minilm-l6-v2", "text-embedding-3"]),
        ("browser", ["house"]),
        ("levitation", []),
    ],
)
async def test_catalog_rows_are_filtered_by_capability(rig: Rig, capability: str, ids: list[str]) -> None:
    listed = await ask(rig, "ListCatalogs", capability=capability)
    assert ([row["id"] for row in listed["data"]], listed["total_count"]) == (ids, len(ids))


async def test_catalog_rows_come_page_by_page(rig: Rig) -> None:
    first = await ask(rig, "ListCatalogs", limit=3)
    assert (len(first["data"]), first["has_more"], first["next_after"]) == (3, True, "house")
    rest = await ask(rig, "ListCatalogs", after="house")
    assert ([row["id"] for row in rest["data"]], rest["has_more"]) == (["text-embedding-3"], False)
    bad = (StatusCode.INVALID_ARGUMENT, "INVALID_CURSOR", "after")
    assert await refused(ask(rig, "ListCatalogs", after="nope")) == bad


@pytest.mark.parametrize("name", ["nope", "", "vllm/nope", "openai/house", "a\0b"])
async def test_a_row_that_does_not_exist_is_not_found(rig: Rig, name: str) -> None:
    assert await refused(ask(rig, "GetCatalog", id=name)) == (StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", "")


async def test_providers_are_listed(rig: Rig) -> None:
    listed = await ask(rig, "ListProviders")
    assert sorted((row["name"], row["vendor"], row["active"]) for row in listed["data"]) == [
        ("jan-server", "jan-server", True),
        ("own", "vllm", True),
        ("router", "openrouter", True),
        ("shy", "custom", True),
    ]
    assert "sk-" not in str(listed)
    assert listed["data"] == sorted(listed["data"], key=lambda row: str(row["id"]))


async def test_models_tell_their_provider_to_whoever_wants_to_know(rig: Rig) -> None:
    asked = (("x-provider-data", "true"),)
    model = await ask(rig, "GetModel", id="house", headers=asked)
    assert (model["provider_name"], model["provider_vendor"]) == ("own", "vllm")
    assert (await ask(rig, "ListModels", headers=asked))["data"][0]["provider_name"] == "router"
    assert "provider_name" not in await ask(rig, "GetModel", id="house")


async def test_strangers_are_told_nothing(rig: Rig) -> None:
    rig.token = ""
    for method in ("ListCatalogs", "GetCatalog", "ListProviders"):
        assert (await refused(ask(rig, method)))[0] == StatusCode.UNAUTHENTICATED


# The database


async def test_a_model_that_vanishes_is_unavailable_and_not_forgotten(
    tmp_path: Path, file: Path, database_url: str, upstream: FakeUpstream
) -> None:
    settings: dict[str, Any] = {"jan_provider_configs_file": file, "database_url": database_url}
    async with running(tmp_path, "auth", "llm", **settings) as rig:
        before = (await ask(rig, "GetCatalog", id="text-embedding-3"))["data"]
    upstream.models = answer({"object": "list", "data": [OPENROUTER]})
    async with running(tmp_path, "auth", "llm", **settings) as rig:
        row = (await ask(rig, "GetCatalog", id="text-embedding-3"))["data"]
        assert (row["available"], row["created_at"]) == (False, before["created_at"])
        assert "text-embedding-3" not in [model["id"] for model in (await ask(rig, "ListModels"))["data"]]
        missing = (StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", "model")
        assert await refused(ask(rig, "GetModel", id="text-embedding-3")) == missing


async def test_models_of_a_provider_that_is_down_are_known_all_the_same(
    tmp_path: Path, file: Path, database_url: str, upstream: FakeUpstream
) -> None:
    settings: dict[str, Any] = {"jan_provider_configs_file": file, "database_url": database_url}
    async with running(tmp_path, "auth", "llm", **settings):
        pass
    upstream.models = status(503)
    async with running(tmp_path, "auth", "llm", **settings) as rig:
        assert (await ask(rig, "GetCatalog", id="text-embedding-3"))["data"]["available"] is False
        assert (await refused(ask(rig, "GetModel", id="text-embedding-3")))[1] == "NO_PROVIDER_AVAILABLE"


async def test_models_first_seen_are_kept_with_their_time(
    tmp_path: Path, file: Path, database_url: str, database: Database
) -> None:
    async with running(tmp_path, "auth", "llm", jan_provider_configs_file=file, database_url=database_url):
        rows = await database.fetch("SELECT model_id, enabled, changes FROM provider_models ORDER BY model_id")
    assert [tuple(row.values()) for row in rows] == [
        ("acme/seer-2-instruct", None, "{}"),
        ("acme/seer-2-instruct", None, "{}"),
        ("all-minilm-l6-v2", None, "{}"),
        ("house", None, "{}"),
        ("text-embedding-3", None, "{}"),
        ("text-embedding-3", None, "{}"),
    ]


async def test_without_its_database_the_catalog_is_made_from_the_file(file: Path) -> None:
    database, client = await db.connect("postgresql://jan@127.0.0.1:9/jan"), Client(Pacer())
    catalog = Catalog(Settings(jan_provider_configs_file=file), client)
    sync = CatalogSync(Settings(), catalog, CatalogStore(database, Vault(b"secret")))
    await sync.start()
    assert "house" in [model.id for model in catalog.models()]
    with pytest.raises(Unavailable):
        await sync.reload()
    assert catalog.get("house").context_window == 4096
    for each in (database, client, catalog):
        await each.close()
