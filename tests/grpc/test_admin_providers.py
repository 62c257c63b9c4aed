"""AdminProviderService against a real PostgreSQL and scripted upstreams."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
import yaml
from google.protobuf import json_format
from grpc import StatusCode
from jan.llm.v1 import admin_providers_pb2, admin_providers_pb2_grpc, models_pb2, models_pb2_grpc

from services.llm.models.catalog_store import CatalogStore
from services.llm.models.offers import listed, offers_of
from services.llm.models.registry import Registry
from services.llm.providers.entries import Address, Entry
from services.runtime.audit import Change
from services.runtime.db import Database
from services.runtime.errors import NotFound
from services.runtime.vault import Vault
from tests.fake_upstream import FakeUpstream, status
from tests.grpc.keys import Account, admin, guest
from tests.grpc.rig import SECONDS, Rig, details, running

NOT_FOUND = (StatusCode.NOT_FOUND, "NOT_FOUND", "")
CONFIGURED = (StatusCode.ABORTED, "CONFLICT", "")
NAMES = {"ListProviders": "AdminProviderServiceListProviders"}


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(models=["llama", "qwen"]) as upstream:
        yield upstream


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> dict[str, Any]:
    """One provider in the file, with one model."""
    file = tmp_path / "providers.yml"
    entry = {"name": "engine", "url": "http://127.0.0.1:9/v1", "api_key": "sk-of-the-file", "models": ["fixed"]}
    file.write_text(yaml.safe_dump({"providers": {"default": [entry]}}))
    return {"jan_provider_configs_file": file, "database_url": database_url}


@pytest_asyncio.fixture
async def rig(tmp_path: Path, settings: dict[str, Any]) -> AsyncIterator[Rig]:
    async with running(tmp_path, "auth", "llm", **settings) as rig:
        yield rig


@pytest_asyncio.fixture
async def boss(rig: Rig, database: Database) -> Account:
    return await admin(rig, database)


class Admin:
    """Calls as an administrator, requests and answers as plain JSON."""

    def __init__(self, rig: Rig, account: Account) -> None:
        self._stub: Any = admin_providers_pb2_grpc.AdminProviderServiceStub(rig.channel)
        self._account = account

    def start(self, method: str, members: dict[str, Any]) -> Any:
        message = getattr(admin_providers_pb2, f"{NAMES.get(method, method)}Request")
        request = json_format.ParseDict(members, message())
        return getattr(self._stub, method)(request, metadata=self._account.signed_in, timeout=SECONDS)

    async def __call__(self, method: str, **members: Any) -> dict[str, Any]:
        return json_format.MessageToDict(
            await self.start(method, members),
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )

    async def create(self, url: str, **members: Any) -> dict[str, Any]:
        made = await self("CreateProvider", **{"name": "farm", "vendor": "vllm", "base_url": url, **members})
        return dict(made["data"])


@pytest_asyncio.fixture
async def tell(rig: Rig, boss: Account) -> Admin:
    return Admin(rig, boss)


async def refused(call: Any) -> tuple[StatusCode, str, str]:
    """Code, reason and parameter of the refusal."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    info: Any = details(error.value)["ErrorInfo"]
    return error.value.code(), info.reason, info.metadata.get("param", "")


async def models(rig: Rig) -> list[str]:
    stub: Any = models_pb2_grpc.ModelServiceStub(rig.channel)
    listed = await stub.ListModels(models_pb2.ListModelsRequest(), metadata=rig.signed_in, timeout=SECONDS)
    return [model.id for model in listed.data]


async def until(rig: Rig, wanted: list[str]) -> None:
    """Wait until these are the models beside the one that is always there."""
    async with asyncio.timeout(5):
        while await models(rig) != ["all-minilm-l6-v2", *wanted]:
            pass


async def test_a_new_provider_brings_its_models(rig: Rig, tell: Admin, upstream: FakeUpstream) -> None:
    made = await tell.create(upstream.url, api_key="sk-very-secret-1234", metadata={"rack": 7})
    assert made.pop("created_at") == made.pop("updated_at") > 0
    provider_id = made.pop("id")
    assert provider_id.startswith("prov_")
    for name in ("model_count", "active_model_count", "last_synced_at"):  # the sync may be faster than the answer
        made.pop(name, None)
    assert made == {
        "object": "provider",
        "name": "farm",
        "vendor": "vllm",
        "base_url": upstream.url,
        "endpoints": [{"url": upstream.url, "weight": 1, "priority": 0}],
        "active": True,
        "key_hint": "…1234",
        "metadata": {"rack": 7.0},
    }
    await until(rig, ["fixed", "llama", "qwen"])
    row = (await tell("GetProvider", id=provider_id))["data"]
    assert (row["model_count"], row["active_model_count"]) == (2, 2)
    assert row["last_synced_at"] >= row["created_at"]
    assert upstream.requests[-1].headers["authorization"] == "Bearer sk-very-secret-1234"


async def test_making_one_is_201_and_deleting_one_204_for_the_gateway(tell: Admin, upstream: FakeUpstream) -> None:
    call = tell.start("CreateProvider", {"name": "farm", "base_url": upstream.url})
    assert dict(await call.initial_metadata())["x-http-status"] == "201"
    call = tell.start("DeleteProvider", {"id": (await call).data.id})
    assert dict(await call.initial_metadata())["x-http-status"] == "204"


async def test_another_process_gets_the_models_as_well(
    tmp_path: Path, tell: Admin, settings: dict[str, Any], upstream: FakeUpstream
) -> None:
    async with running(tmp_path, "llm", **settings) as other:
        made = await tell.create(upstream.url)
        await until(other, ["fixed", "llama", "qwen"])
        await tell("UpdateProvider", id=made["id"], active=False)
        await until(other, ["fixed"])
        await tell("UpdateProvider", id=made["id"], active=True)
        await until(other, ["fixed", "llama", "qwen"])
        await tell("DeleteProvider", id=made["id"])
        await until(other, ["fixed"])


async def test_keys_are_stored_encrypted_and_outlive_the_server(
    tmp_path: Path, settings: dict[str, Any], database: Database, upstream: FakeUpstream
) -> None:
    settings["model_provider_secret"] = "s" * 32
    async with running(tmp_path, "auth", "llm", **settings) as rig:
        await Admin(rig, await admin(rig, database)).create(upstream.url, api_key="sk-very-secret-1234")
    (row,) = await database.fetch("SELECT * FROM providers")
    assert "sk-very-secret-1234" not in str(dict(row))
    assert b"sk-very-secret" not in row["api_key"]
    upstream.forget()
    async with running(tmp_path, "auth", "llm", **settings) as rig:
        assert await models(rig) == ["all-minilm-l6-v2", "fixed", "llama", "qwen"]
        assert upstream.requests[-1].headers["authorization"] == "Bearer sk-very-secret-1234"


async def test_a_provider_whose_key_cannot_be_read_is_inactive_until_it_has_a_new_one(
    tmp_path: Path, settings: dict[str, Any], database: Database, upstream: FakeUpstream
) -> None:
    async with running(tmp_path, "auth", "llm", model_provider_secret="a" * 32, **settings) as rig:
        made = await Admin(rig, await admin(rig, database)).create(upstream.url, api_key="sk-very-secret-1234")
    async with running(tmp_path, "auth", "llm", model_provider_secret="b" * 32, **settings) as rig:
        assert await models(rig) == ["all-minilm-l6-v2", "fixed"]
        tell = Admin(rig, await admin(rig, database))
        assert (await tell("GetProvider", id=made["id"]))["data"]["active"] is False
        row = (await tell("UpdateProvider", id=made["id"], api_key="sk-another-one-5678"))["data"]
        assert (row["active"], row["key_hint"]) == (True, "…5678")
        await until(rig, ["fixed", "llama", "qwen"])


async def test_a_provider_is_changed(rig: Rig, tell: Admin, upstream: FakeUpstream) -> None:
    made = await tell.create("http://127.0.0.1:9/v1", api_key="sk-very-secret-1234")
    endpoints = [{"url": upstream.url, "weight": 3, "priority": 1}]
    row = (await tell("UpdateProvider", id=made["id"], name=" barn ", vendor="openai", endpoints=endpoints))["data"]
    assert (row["name"], row["vendor"], row["endpoints"]) == ("barn", "openai", endpoints)
    assert row["key_hint"] == "…1234"
    await until(rig, ["fixed", "llama", "qwen"])
    row = (await tell("UpdateProvider", id=made["id"], api_key="", metadata={"a": "b"}))["data"]
    assert ("key_hint" in row, row["metadata"], row["base_url"]) == (False, {"a": "b"}, upstream.url)


async def test_providers_of_the_configuration_are_listed_but_not_changed(tell: Admin) -> None:
    listed = await tell("ListProviders")
    engine, builtin = sorted(listed["data"], key=lambda row: str(row["name"]))
    assert (engine["name"], engine["base_url"], engine["key_hint"]) == ("engine", "http://127.0.0.1:9/v1", "…")
    assert (builtin["name"], builtin["model_count"], listed["total_count"]) == ("jan-server", 1, 2)
    assert (await tell("GetProvider", id=engine["id"]))["data"] == engine
    for provider_id in (engine["id"], builtin["id"]):
        assert await refused(tell("UpdateProvider", id=provider_id, active=False)) == CONFIGURED
        assert await refused(tell("DeleteProvider", id=provider_id)) == CONFIGURED


async def test_a_deleted_provider_takes_its_models_along(
    rig: Rig, tell: Admin, upstream: FakeUpstream, database: Database
) -> None:
    made = await tell.create(upstream.url)
    await until(rig, ["fixed", "llama", "qwen"])
    await tell("DeleteProvider", id=made["id"])
    assert await models(rig) == ["all-minilm-l6-v2", "fixed"]
    assert await database.fetch("SELECT id FROM provider_models WHERE provider_id = $1", made["id"]) == []
    assert await refused(tell("GetProvider", id=made["id"])) == NOT_FOUND
    assert await refused(tell("DeleteProvider", id=made["id"])) == NOT_FOUND


async def test_a_sync_tells_what_has_changed(rig: Rig, tell: Admin, upstream: FakeUpstream) -> None:
    made = await tell.create(upstream.url)
    await until(rig, ["fixed", "llama", "qwen"])
    assert (await tell("SyncProvider", id=made["id"]))["data"] == {"added": 0, "updated": 0, "unavailable": 0}
    with FakeUpstream(models=["qwen", "new"]) as changed:
        upstream.models = changed.models
    asked = len(upstream.requests)
    assert (await tell("SyncProvider", id=made["id"]))["data"] == {"added": 1, "updated": 0, "unavailable": 1}
    assert len(upstream.requests) == asked + 1
    assert await models(rig) == ["all-minilm-l6-v2", "fixed", "new", "qwen"]
    row = (await tell("GetProvider", id=made["id"]))["data"]
    assert (row["model_count"], row["active_model_count"]) == (3, 2)
    with FakeUpstream(models=["qwen", "new", "llama"]) as changed:
        upstream.models = changed.models
    assert (await tell("SyncProvider", id=made["id"]))["data"] == {"added": 0, "updated": 1, "unavailable": 0}


async def test_a_sync_with_a_provider_that_is_down_says_so(rig: Rig, tell: Admin, upstream: FakeUpstream) -> None:
    down = (StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE", "")
    listed, upstream.models = upstream.models, status(503)
    made = await tell.create(upstream.url)
    assert await refused(tell("SyncProvider", id=made["id"])) == down
    upstream.models = listed
    assert (await tell("SyncProvider", id=made["id"]))["data"]["added"] == 2
    upstream.models = status(503)
    assert await refused(tell("SyncProvider", id=made["id"])) == down
    assert await models(rig) == ["all-minilm-l6-v2", "fixed", "llama", "qwen"]  # as they were known


async def test_names_are_unique(tell: Admin, upstream: FakeUpstream) -> None:
    taken = (StatusCode.ABORTED, "CONFLICT", "name")
    await tell.create(upstream.url)
    other = await tell.create(upstream.url, name="other")
    assert await refused(tell.create(upstream.url)) == taken
    assert await refused(tell.create(upstream.url, name="engine")) == taken
    assert await refused(tell("UpdateProvider", id=other["id"], name="farm")) == taken
    assert (await tell("UpdateProvider", id=other["id"], name="other"))["data"]["name"] == "other"


async def test_the_address_of_a_known_vendor_need_not_be_given(tell: Admin) -> None:
    made = await tell("CreateProvider", name="claude", vendor="anthropic", active=False)
    assert (made["data"]["base_url"], made["data"]["active"]) == ("https://api.anthropic.com", False)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"vendor": "nobody"}, "vendor"),
        ({"base_url": ""}, "base_url"),
        ({"base_url": "file:///etc/passwd"}, "base_url"),
        ({"base_url": "gopher://a/"}, "base_url"),
        ({"base_url": "http://user:word@host/v1"}, "base_url"),
        ({"base_url": "http://:word@host/v1"}, "base_url"),
        ({"base_url": "http://host/v1?key=secret"}, "base_url"),
        ({"base_url": "http://host/v1#part"}, "base_url"),
        ({"base_url": "http://ho st/v1"}, "base_url"),
        ({"base_url": "http://host:x/v1"}, "base_url"),
        ({"base_url": "http://host/\r\nx: y"}, "base_url"),
        ({"endpoints": [{"url": "http://host/v1"}]}, "base_url"),
        ({"base_url": "", "endpoints": [{"url": "host"}]}, "endpoints[0].url"),
        ({"base_url": "", "endpoints": [{"url": "http://host", "weight": 0}]}, "endpoints[0].weight"),
        ({"api_key": "a\r\nb: c"}, "api_key"),
        ({"metadata": {"large": "x" * 65536}}, "metadata"),
        ({"reason": "a\0b"}, "reason"),
    ],
)
async def test_providers_that_cannot_be_are_refused(tell: Admin, members: dict[str, Any], param: str) -> None:
    said = await refused(tell.create("http://127.0.0.1:9/v1", **members))
    assert said == (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER", param)
    assert (await tell("ListProviders"))["total_count"] == 2


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
async def test_notes_with_numbers_that_json_does_not_have_are_refused(rig: Rig, boss: Account, number: float) -> None:
    request = admin_providers_pb2.CreateProviderRequest(name="farm", base_url="http://127.0.0.1:9/v1")
    request.metadata.fields["rack"].number_value = number
    stub: Any = admin_providers_pb2_grpc.AdminProviderServiceStub(rig.channel)
    said = await refused(stub.CreateProvider(request, metadata=boss.signed_in, timeout=SECONDS))
    assert said == (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER", "metadata")


@pytest.mark.parametrize("change", [{"base_url": ""}, {"base_url": "ftp://host"}, {"name": " "}, {"vendor": ""}])
async def test_changes_of_a_provider_that_cannot_be_are_refused(tell: Admin, change: dict[str, Any]) -> None:
    made = await tell.create("http://127.0.0.1:9/v1")
    (param,) = change
    said = await refused(tell("UpdateProvider", id=made["id"], **change))
    assert said == (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER", param)
    kept = (await tell("GetProvider", id=made["id"]))["data"]
    assert (kept["name"], kept["base_url"]) == ("farm", "http://127.0.0.1:9/v1")


async def test_what_one_process_has_made_every_other_knows_before_it_hears_of_it(
    tell: Admin, boss: Account, tmp_path: Path, settings: dict[str, Any]
) -> None:
    async with running(tmp_path, "llm", **settings) as other:
        elsewhere = Admin(other, boss)
        for turn in range(5):
            made = await tell.create("http://127.0.0.1:9/v1", name=f"farm {turn}")
            changed = (await elsewhere("UpdateProvider", id=made["id"], name=f"barn {turn}"))["data"]
            assert (await tell("GetProvider", id=made["id"]))["data"]["name"] == changed["name"]
            await elsewhere("DeleteProvider", id=made["id"])
            assert await refused(tell("GetProvider", id=made["id"])) == NOT_FOUND


async def test_providers_that_are_not_asked_for_their_models_cannot_be_synced(
    tell: Admin, upstream: FakeUpstream
) -> None:
    made = await tell.create(upstream.url, active=False)
    rows = (await tell("ListProviders"))["data"]
    for provider_id in [made["id"], *(row["id"] for row in rows if row["name"] in ("engine", "jan-server"))]:
        assert await refused(tell("SyncProvider", id=provider_id)) == CONFIGURED
    assert not upstream.requests


async def test_models_seen_too_late_do_not_outlive_their_provider(
    tell: Admin, database: Database, upstream: FakeUpstream
) -> None:
    made = await tell.create(upstream.url)
    await database.execute("DELETE FROM provider_models")
    entry = Entry("farm", "vllm", (Address(upstream.url),), made_id=made["id"])
    offers = offers_of(entry, {upstream.url: listed([{"id": "late"}])}, Registry())
    store = CatalogStore(database, Vault(b"s" * 32))
    await store.remember(offers)
    assert await database.fetchval("SELECT count(*) FROM provider_models WHERE model_id = 'late'") == 1
    await tell("DeleteProvider", id=made["id"])
    await store.remember(offers)
    with pytest.raises(NotFound):
        await store.change_model(offers[0], {"name": "Late"}, enabled=None, change=Change("usr_1", "", "req_1"))
    assert await database.fetchval("SELECT count(*) FROM provider_models WHERE model_id = 'late'") == 0


@pytest.mark.parametrize("provider_id", ["", "prov_nothing", "a\0b"])
async def test_a_provider_that_does_not_exist_is_not_found(tell: Admin, provider_id: str) -> None:
    for method in ("GetProvider", "UpdateProvider", "DeleteProvider", "SyncProvider"):
        assert await refused(tell(method, id=provider_id)) == NOT_FOUND


METHODS: dict[str, dict[str, Any]] = {
    "ListProviders": {},
    "CreateProvider": {"name": "farm", "base_url": "http://127.0.0.1:9"},
    "GetProvider": {"id": "prov_1"},
    "UpdateProvider": {"id": "prov_1"},
    "DeleteProvider": {"id": "prov_1"},
    "SyncProvider": {"id": "prov_1"},
}


@pytest.mark.parametrize("method", METHODS)
async def test_only_administrators_administer_providers(rig: Rig, database: Database, method: str) -> None:
    somebody = Admin(rig, await guest(rig))
    assert await refused(somebody(method, **METHODS[method])) == (StatusCode.PERMISSION_DENIED, "ADMIN_REQUIRED", "")
    stranger = Admin(rig, Account("", ""))
    assert await refused(stranger(method, **METHODS[method])) == (StatusCode.UNAUTHENTICATED, "UNAUTHORIZED", "")
    assert await database.fetch("SELECT id FROM providers") == []


async def test_every_change_of_a_provider_is_written_to_the_audit_log(
    tell: Admin, boss: Account, database: Database, upstream: FakeUpstream
) -> None:
    made = await tell.create(upstream.url, reason="more room")
    await tell("UpdateProvider", id=made["id"], active=True, reason="why not")
    await tell("SyncProvider", id=made["id"], reason="new model")
    await tell("DeleteProvider", id=made["id"], reason="sold")
    rows = await database.fetch("SELECT actor, action, target, reason FROM audit_log ORDER BY id")
    assert [tuple(each.values()) for each in rows] == [
        (boss.user_id, "provider.create", made["id"], "more room"),
        (boss.user_id, "provider.update", made["id"], "why not"),
        (boss.user_id, "provider.sync", made["id"], "new model"),
        (boss.user_id, "provider.delete", made["id"], "sold"),
    ]
