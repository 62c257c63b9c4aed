"""AdminModelService against a real PostgreSQL and a scripted upstream, and what it does to requests."""

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
from jan.llm.v1 import admin_models_pb2, admin_models_pb2_grpc, chat_pb2, chat_pb2_grpc, models_pb2, models_pb2_grpc

from services.runtime.db import Database
from tests.fake_upstream import FakeUpstream, answer, completion
from tests.grpc.keys import Account, admin, guest
from tests.grpc.rig import SECONDS, Rig, details, running

NOT_FOUND = (StatusCode.NOT_FOUND, "NOT_FOUND", "")
GONE = (StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", "model")


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(models=["llama-3.1-8b", "org/qwen2.5-vl"]) as upstream:
        yield upstream


def file_of(folder: Path, *entries: dict[str, Any]) -> Path:
    file = folder / "providers.yml"
    file.write_text(yaml.safe_dump({"providers": {"default": list(entries)}, "aliases": {"nickname": "llama-3.1-8b"}}))
    return file


@pytest.fixture
def settings(tmp_path: Path, upstream: FakeUpstream, database_url: str) -> dict[str, Any]:
    """One provider, `engine`, of the kind vllm, whose list is read, and `second`, which has one model as well."""
    engine = {"name": "engine", "type": "vllm", "url": upstream.url}
    second = {"name": "second", "type": "openai", "url": upstream.url, "priority": 1, "models": ["llama-3.1-8b"]}
    return {"jan_provider_configs_file": file_of(tmp_path, engine, second), "database_url": database_url}


@pytest_asyncio.fixture
async def rig(tmp_path: Path, settings: dict[str, Any]) -> AsyncIterator[Rig]:
    async with running(tmp_path, "auth", "llm", rate_limit_mode="enforce", workers=1, **settings) as rig:
        yield rig


@pytest_asyncio.fixture
async def boss(rig: Rig, database: Database) -> Account:
    return await admin(rig, database)


class Admin:
    """Calls as an administrator, requests and answers as plain JSON."""

    def __init__(self, rig: Rig, account: Account) -> None:
        self._stub: Any = admin_models_pb2_grpc.AdminModelServiceStub(rig.channel)
        self._account = account

    async def __call__(self, method: str, request_id: str = "", **members: Any) -> dict[str, Any]:
        request = json_format.ParseDict(members, getattr(admin_models_pb2, f"{method}Request")())
        metadata = (*self._account.signed_in, *((("x-request-id", request_id),) if request_id else ()))
        return plain(await getattr(self._stub, method)(request, metadata=metadata, timeout=SECONDS))

    async def model(self, name: str) -> dict[str, Any]:
        return dict((await self("GetProviderModel", id=name))["data"])

    async def patch(self, name: str, /, **members: Any) -> dict[str, Any]:
        return dict((await self("UpdateProviderModel", id=name, **members))["data"])


@pytest_asyncio.fixture
async def tell(rig: Rig, boss: Account) -> Admin:
    return Admin(rig, boss)


def plain(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


async def refused(call: Any) -> tuple[StatusCode, str, str]:
    """Code, reason and parameter of the refusal."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    info: Any = details(error.value)["ErrorInfo"]
    return error.value.code(), info.reason, info.metadata.get("param", "")


async def chat(rig: Rig, model: str = "llama-3.1-8b", **members: Any) -> str:
    """What the model says."""
    stub: Any = chat_pb2_grpc.ChatServiceStub(rig.channel)
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **members}
    request = json_format.ParseDict(body, chat_pb2.CreateChatCompletionRequest())
    said = await stub.CreateChatCompletion(request, metadata=rig.signed_in, timeout=SECONDS)
    return str(said.choices[0].message.content.string_value)


async def models(rig: Rig) -> list[str]:
    stub: Any = models_pb2_grpc.ModelServiceStub(rig.channel)
    listed = await stub.ListModels(models_pb2.ListModelsRequest(), metadata=rig.signed_in, timeout=SECONDS)
    return [model.id for model in listed.data]


ALL = ["all-minilm-l6-v2", "llama-3.1-8b", "org/qwen2.5-vl"]


# Reading


async def test_every_model_of_every_provider_has_a_row(tell: Admin) -> None:
    listed = await tell("ListProviderModels")
    assert sorted((row["provider"], row["model_id"]) for row in listed["data"]) == [
        ("jan-server", "all-minilm-l6-v2"),
        ("openai", "llama-3.1-8b"),
        ("vllm", "llama-3.1-8b"),
        ("vllm", "org/qwen2.5-vl"),
    ]
    ids = [row["id"] for row in listed["data"]]
    assert ids == sorted(ids)
    assert (listed["object"], listed["total_count"], listed["has_more"]) == ("list", 4, False)
    row = await tell.model("org/qwen2.5-vl")
    assert row.pop("created_at") == row.pop("updated_at") > 0
    assert row.pop("id").startswith("pm_")
    assert row.pop("provider_id").startswith("prov_")
    assert row == {
        "object": "provider_model",
        "model_id": "org/qwen2.5-vl",
        "upstream_id": "org/qwen2.5-vl",
        "name": "org/qwen2.5-vl",
        "provider": "vllm",
        "catalog_id": "vllm/org/qwen2.5-vl",
        "enabled": True,
        "available": True,
        "capabilities": ["text", "vision"],
        "tags": [],
        "family": "qwen2.5",
    }


async def test_rows_come_page_by_page(tell: Admin) -> None:
    ids = [row["id"] for row in (await tell("ListProviderModels"))["data"]]
    first = await tell("ListProviderModels", limit=3)
    assert ([row["id"] for row in first["data"]], first["has_more"], first["next_after"]) == (ids[:3], True, ids[2])
    assert [row["id"] for row in (await tell("ListProviderModels", after=ids[2]))["data"]] == ids[3:]
    assert [row["id"] for row in (await tell("ListProviderModels", offset=1, limit=2))["data"]] == ids[1:3]
    assert [row["id"] for row in (await tell("ListProviderModels", order="desc"))["data"]] == ids[::-1]
    assert await refused(tell("ListProviderModels", after="pm_nothing")) == (
        StatusCode.INVALID_ARGUMENT,
        "INVALID_CURSOR",
        "after",
    )


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"provider": "vllm"}, 2),
        ({"provider": "nobody"}, 0),
        ({"provider_id": "prov_nobody"}, 0),
        ({"enabled": True}, 4),
        ({"enabled": False}, 0),
        ({"capability": "vision"}, 1),
        ({"capability": "images"}, 1),
        ({"capability": "embeddings"}, 1),
        ({"family": "llama-3.1"}, 2),
        ({"search": "QWEN"}, 1),
    ],
)
async def test_rows_are_filtered(tell: Admin, wanted: dict[str, Any], count: int) -> None:
    assert (await tell("ListProviderModels", **wanted))["total_count"] == count


async def test_a_model_id_names_the_row_whose_provider_is_asked_first(tell: Admin) -> None:
    assert (await tell.model("llama-3.1-8b"))["provider"] == "vllm"


@pytest.mark.parametrize("name", ["nope", "pm_nope", "", "a\0b", "x" * 10_000])
async def test_what_does_not_exist_is_not_found(tell: Admin, name: str) -> None:
    assert await refused(tell("GetProviderModel", id=name)) == NOT_FOUND
    assert await refused(tell("UpdateProviderModel", id=name, enabled=False)) == NOT_FOUND
    assert await refused(tell("GetAdminCatalog", id=name)) == NOT_FOUND
    assert await refused(tell("UpdateAdminCatalog", id=name, enabled=False)) == NOT_FOUND


# Changing


async def test_a_model_that_is_switched_off_cannot_be_called_and_is_not_listed(rig: Rig, tell: Admin) -> None:
    assert await models(rig) == ALL
    assert (await tell.patch("org/qwen2.5-vl", enabled=False))["enabled"] is False
    assert await models(rig) == ["all-minilm-l6-v2", "llama-3.1-8b"]
    assert await refused(chat(rig, "org/qwen2.5-vl")) == GONE
    await tell.patch("org/qwen2.5-vl", enabled=True)
    assert await models(rig) == ALL


async def test_a_model_stays_while_another_provider_has_it(rig: Rig, tell: Admin, upstream: FakeUpstream) -> None:
    await tell.patch("llama-3.1-8b", enabled=False)
    assert await models(rig) == ALL
    assert (await tell.model("llama-3.1-8b"))["provider"] == "openai"
    upstream.script(answer(completion("from the second")))
    assert await chat(rig) == "from the second"
    await tell.patch("llama-3.1-8b", enabled=False)
    assert await refused(chat(rig)) == GONE
    assert await refused(chat(rig, "nickname")) == GONE


async def test_the_default_temperature_is_that_of_requests_without_one(
    rig: Rig, tell: Admin, upstream: FakeUpstream
) -> None:
    assert (await tell.patch("org/qwen2.5-vl", default_temperature=0.3))["default_temperature"] == 0.3
    await chat(rig, "org/qwen2.5-vl")
    await chat(rig, "org/qwen2.5-vl", temperature=0)
    assert "default_temperature" not in await tell.patch("org/qwen2.5-vl", default_temperature=None)
    await chat(rig, "org/qwen2.5-vl")
    sent = [request.body.get("temperature") for request in upstream.requests if request.method == "POST"]
    assert sent == [0.3, 0, None]


async def test_a_model_may_be_asked_as_often_as_its_limit_says(rig: Rig, tell: Admin) -> None:
    row = await tell.patch("org/qwen2.5-vl", rate_limit={"requests_per_minute": 2})
    assert row["rate_limit"] == {"requests_per_minute": 2}
    await chat(rig, "org/qwen2.5-vl")
    await chat(rig, "org/qwen2.5-vl")
    too_often = (StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMIT_EXCEEDED", "")
    assert await refused(chat(rig, "org/qwen2.5-vl")) == too_often
    await tell.patch("org/qwen2.5-vl", tags=["a"])
    assert await refused(chat(rig, "org/qwen2.5-vl")) == too_often  # what was counted stays counted
    await chat(rig)  # a limit of each
    assert "rate_limit" not in await tell.patch("org/qwen2.5-vl", rate_limit={})
    await chat(rig, "org/qwen2.5-vl")


async def test_tokens_of_answers_count_against_the_limit(rig: Rig, tell: Admin) -> None:
    await tell.patch("org/qwen2.5-vl", rate_limit={"tokens_per_minute": 5})
    await chat(rig, "org/qwen2.5-vl")  # takes 7
    assert (await refused(chat(rig, "org/qwen2.5-vl")))[1] == "RATE_LIMIT_EXCEEDED"


async def test_limits_are_only_enforced_when_limits_are(
    tmp_path: Path, settings: dict[str, Any], database: Database
) -> None:
    async with running(tmp_path, "auth", "llm", rate_limit_mode="report", **settings) as rig:
        tell = Admin(rig, await admin(rig, database))
        await tell.patch("org/qwen2.5-vl", rate_limit={"requests_per_minute": 1})
        assert [await chat(rig, "org/qwen2.5-vl") for _ in range(3)]


async def test_what_administrators_say_goes_before_what_providers_say(tell: Admin) -> None:
    changes: dict[str, Any] = {
        "name": "Qwen",
        "family": "qwen",
        "tags": ["fast", "small", "fast"],
        "capabilities": ["text", "tools"],
        "context_window": 32_768,
        "max_output_tokens": 4096,
        "pricing": {"prompt": 0.001, "completion": 0, "currency": "EUR"},
    }
    before = await tell.model("org/qwen2.5-vl")
    row = await tell.patch("org/qwen2.5-vl", **changes)
    assert row["updated_at"] >= before["updated_at"]
    assert row == {**before, **changes, "tags": ["fast", "small"], "updated_at": row["updated_at"]}
    emptied = dict(zip(changes, ["", "", [], [], 0, 0, {}], strict=True))
    row = await tell.patch("org/qwen2.5-vl", **emptied)
    assert {name: row.get(name) for name in changes} == {name: before.get(name) for name in changes}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"default_temperature": 2.1}, "default_temperature"),
        ({"default_temperature": -0.1}, "default_temperature"),
        ({"default_temperature": "warm"}, "default_temperature"),
        ({"default_temperature": True}, "default_temperature"),
        ({"rate_limit": {"requests_per_minute": 1_000_001}}, "rate_limit.requests_per_minute"),
        ({"tags": [1]}, "tags[0]"),
        ({"tags": ["a", ""]}, "tags[1]"),
        ({"tags": [str(n) for n in range(33)]}, "tags"),
        ({"capabilities": ["a\0"]}, "capabilities[0]"),
        ({"name": "x" * 257}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"pricing": {"prompt": -1}}, "pricing.prompt"),
        ({"context_window": 100_000_001}, "context_window"),
        ({"reason": "x" * 1025}, "reason"),
        ({"reason": "a\0b"}, "reason"),
        ({"family": "a\0b"}, "family"),
        ({"pricing": {"currency": "\0"}}, "pricing.currency"),
    ],
)
async def test_changes_that_cannot_be_are_refused(tell: Admin, change: dict[str, Any], param: str) -> None:
    before = await tell.model("llama-3.1-8b")
    said = await refused(tell("UpdateProviderModel", id="llama-3.1-8b", **change))
    assert said == (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER", param)
    assert await tell.model("llama-3.1-8b") == before


async def test_changes_outlive_the_server(tmp_path: Path, settings: dict[str, Any], database: Database) -> None:
    async with running(tmp_path, "auth", "llm", **settings) as rig:
        boss = await admin(rig, database)
        await Admin(rig, boss).patch("org/qwen2.5-vl", enabled=False, tags=["kept"])
    async with running(tmp_path, "auth", "llm", **settings) as rig:
        assert "org/qwen2.5-vl" not in await models(rig)
        row = await Admin(rig, boss).model("org/qwen2.5-vl")
        assert (row["enabled"], row["tags"]) == (False, ["kept"])


async def test_another_process_has_a_change_at_once(
    tmp_path: Path, rig: Rig, tell: Admin, settings: dict[str, Any]
) -> None:
    async with running(tmp_path, "llm", **settings) as other:
        assert "org/qwen2.5-vl" in await models(other)
        await tell.patch("org/qwen2.5-vl", enabled=False)
        async with asyncio.timeout(1):
            while "org/qwen2.5-vl" in await models(other):
                pass


async def test_every_change_is_written_to_the_audit_log(tell: Admin, boss: Account, database: Database) -> None:
    row = await tell.model("org/qwen2.5-vl")
    await tell("UpdateProviderModel", "req-1", id=row["id"], tags=["a"], reason="a test")
    await tell("BulkToggleProviderModels", "req-2", model_ids=[row["id"]], enabled=False, reason="too dear")
    await tell("UpdateAdminCatalog", "req-3", id="llama-3.1-8b", notes="old")
    await tell("BulkToggleCatalogs", "req-4", catalog_ids=["llama-3.1-8b"], enabled=False)
    rows = await database.fetch("SELECT actor, action, target, reason, request_id FROM audit_log ORDER BY id")
    assert [tuple(each.values()) for each in rows] == [
        (boss.user_id, "provider_model.update", row["id"], "a test", "req-1"),
        (boss.user_id, "provider_model.disable", row["id"], "too dear", "req-2"),
        (boss.user_id, "catalog.update", "llama-3.1-8b", "", "req-3"),
        (boss.user_id, "catalog.disable", "llama-3.1-8b", "", "req-4"),
    ]


# Many at once


async def test_a_thousand_ids_of_a_large_catalog_do_not_hold_up_the_server(
    tmp_path: Path, database_url: str, database: Database
) -> None:
    names = [f"org/model-{number}" for number in range(3000)]
    file = file_of(tmp_path, {"name": "engine", "url": "http://127.0.0.1:9/v1", "models": names})
    settings = {"jan_provider_configs_file": file, "database_url": database_url}
    async with running(tmp_path, "auth", "llm", **settings) as rig:
        tell = Admin(rig, await admin(rig, database))
        async with asyncio.timeout(3):  # a look through the catalog for each id takes longer than that
            off = await tell("BulkToggleProviderModels", model_ids=names[:1000], enabled=False)
        assert off["data"] == {"count": 1000, "changed_count": 1000, "not_found": []}
        assert len(await models(rig)) == 2001


async def test_many_models_are_switched_at_once(rig: Rig, tell: Admin) -> None:
    row = await tell.model("org/qwen2.5-vl")
    ids = [row["id"], "llama-3.1-8b", "nope", "org/qwen2.5-vl"]
    off = await tell("BulkToggleProviderModels", model_ids=ids, enabled=False)
    assert off["data"] == {"count": 3, "changed_count": 3, "not_found": ["nope"]}
    assert await models(rig) == ["all-minilm-l6-v2"]
    again = await tell("BulkToggleProviderModels", model_ids=ids, enabled=False)
    assert again["data"] == {"count": 3, "changed_count": 0, "not_found": ["nope"]}
    back = await tell("BulkToggleProviderModels", model_ids=["llama-3.1-8b"], enabled=True)
    assert back["data"] == {"count": 2, "changed_count": 2, "not_found": []}
    assert await models(rig) == ["all-minilm-l6-v2", "llama-3.1-8b"]


@pytest.mark.parametrize(("method", "field"), [("ProviderModels", "model_ids"), ("Catalogs", "catalog_ids")])
async def test_what_to_switch_and_how_must_be_said(tell: Admin, method: str, field: str) -> None:
    bad = (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER")
    assert await refused(tell(f"BulkToggle{method}", enabled=True)) == (*bad, field)
    assert await refused(tell(f"BulkToggle{method}", **{field: ["a"]})) == (*bad, "enabled")
    too_many = [str(n) for n in range(1001)]
    assert await refused(tell(f"BulkToggle{method}", enabled=True, **{field: too_many})) == (*bad, field)


async def test_the_demo_model_does_not_come_in_the_place_of_what_was_switched_off(
    tmp_path: Path, database_url: str, database: Database
) -> None:
    settings = {"jan_provider_configs_file": file_of(tmp_path), "database_url": database_url}
    async with running(tmp_path, "auth", "llm", **settings) as rig:
        assert await models(rig) == ["all-minilm-l6-v2", "jan-demo"]
        tell = Admin(rig, await admin(rig, database))
        await tell("BulkToggleProviderModels", model_ids=["jan-demo", "all-minilm-l6-v2"], enabled=False)
        assert await models(rig) == []


# Catalogs


async def test_a_catalog_row_is_what_is_known_of_a_model_and_how_it_was_used(
    rig: Rig, tell: Admin, database: Database
) -> None:
    await tell.patch("org/qwen2.5-vl", pricing={"prompt": 0.5, "completion": 2})
    await database.execute(
        """
        INSERT INTO model_totals (model, requests, prompt_tokens, completion_tokens)
        VALUES ('org/qwen2.5-vl', 3, 20, 4)
        """
    )
    row = (await tell("GetAdminCatalog", id="org/qwen2.5-vl"))["data"]
    assert row.pop("created_at") > 0
    assert row.pop("updated_at") > 0
    assert row == {
        "id": "org/qwen2.5-vl",
        "object": "model.catalog",
        "public_id": "vllm/org/qwen2.5-vl",
        "name": "org/qwen2.5-vl",
        "provider": "vllm",
        "description": "",
        "available": True,
        "capabilities": ["text", "vision"],
        "family": "qwen2.5",
        "tags": [],
        "experimental": False,
        "supported_parameters": {"names": [], "default": {}},
        "architecture": {
            "modality": "text+image->text",
            "input_modalities": ["text", "image"],
            "output_modalities": ["text"],
        },
        "enabled": True,
        "status": "filled",
        "models": ["org/qwen2.5-vl"],
        "notes": "",
        "total_requests": 3.0,
        "total_tokens": 24.0,
        "total_cost": 18.0,
    }
    (listed,) = (await tell("ListAdminCatalogs", search="qwen"))["data"]
    assert (listed["id"], listed["total_requests"]) == ("org/qwen2.5-vl", 3.0)


@pytest.mark.parametrize("name", ["org/qwen2.5-vl", "vllm/org/qwen2.5-vl", "vllm-org-qwen2.5-vl", "org-qwen2.5-vl"])
async def test_a_catalog_row_has_many_names(tell: Admin, name: str) -> None:
    assert (await tell("GetAdminCatalog", id=name))["data"]["id"] == "org/qwen2.5-vl"
    off = await tell("BulkToggleCatalogs", catalog_ids=[name], enabled=False)
    assert off["data"] == {"count": 1, "changed_count": 1, "not_found": []}


async def test_a_disabled_catalog_row_hides_its_models_of_every_provider(rig: Rig, tell: Admin) -> None:
    ids = ["vllm/llama-3.1-8b", "openai-llama-3.1-8b", "nope"]
    off = await tell("BulkToggleCatalogs", catalog_ids=ids, enabled=False)
    assert off["data"] == {"count": 1, "changed_count": 1, "not_found": ["nope"]}
    assert await models(rig) == ["all-minilm-l6-v2", "org/qwen2.5-vl"]
    assert await refused(chat(rig)) == GONE
    assert (await tell.model("llama-3.1-8b"))["enabled"] is True  # the switch of the provider's model is another one
    (row,) = (await tell("ListAdminCatalogs", enabled=False))["data"]
    assert (row["id"], row["enabled"]) == ("llama-3.1-8b", False)
    assert (await tell("UpdateAdminCatalog", id="llama-3.1-8b", enabled=True))["data"]["enabled"] is True
    assert await models(rig) == ALL


async def test_a_changed_catalog_row_keeps_what_was_known(rig: Rig, tell: Admin) -> None:
    await tell.patch("org/qwen2.5-vl", context_window=1000, family="qwen")
    changes: dict[str, Any] = {
        "name": "Qwen VL",
        "description": "Sees",
        "tags": ["eyes"],
        "experimental": True,
        "notes": "ask Ada",
        "supported_parameters": {"names": ["temperature"], "default": {"temperature": 0.5}},
        "architecture": {"modality": "any", "input_modalities": ["text"], "output_modalities": ["text"]},
    }
    row = (await tell("UpdateAdminCatalog", id="org/qwen2.5-vl", **changes))["data"]
    assert {name: row[name] for name in changes} == changes
    assert (row["status"], row["context_window"], row["family"]) == ("updated", 1000, "qwen")
    await tell.patch("org/qwen2.5-vl", context_window=2000, family="other")
    row = (await tell("GetAdminCatalog", id="org/qwen2.5-vl"))["data"]
    assert (row["status"], row["context_window"], row["family"], row["name"]) == ("updated", 1000, "qwen", "Qwen VL")
    row = (await tell("UpdateAdminCatalog", id="org/qwen2.5-vl", context_window=0, capabilities=["audio"]))["data"]
    assert ("context_window" in row, row["capabilities"], row["name"]) == (False, ["audio"], "Qwen VL")


async def test_a_catalog_row_without_a_name_is_called_as_its_model(tell: Admin) -> None:
    await tell("UpdateAdminCatalog", id="org/qwen2.5-vl", name="Qwen VL")
    assert (await tell("UpdateAdminCatalog", id="org/qwen2.5-vl", name=""))["data"]["name"] == "org/qwen2.5-vl"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"description": "a\0b"}, "description"),
        ({"notes": "a\0b"}, "notes"),
        ({"supported_parameters": {"names": ["x" * 16384]}}, "supported_parameters"),
        ({"supported_parameters": {"default": {"stop": "x" * 16384}}}, "supported_parameters"),
        ({"architecture": {"modality": "x" * 16384}}, "architecture"),
        ({"reason": "a\0b"}, "reason"),
    ],
)
async def test_changes_of_a_catalog_row_that_cannot_be_are_refused(
    tell: Admin, change: dict[str, Any], param: str
) -> None:
    said = await refused(tell("UpdateAdminCatalog", id="org/qwen2.5-vl", **change))
    assert said == (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER", param)
    assert (await tell("GetAdminCatalog", id="org/qwen2.5-vl"))["data"]["status"] == "init"


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({}, ALL),
        ({"provider": "vllm"}, ALL[1:]),
        ({"status": "init"}, ["all-minilm-l6-v2", "llama-3.1-8b", "org/qwen2.5-vl"]),
        ({"status": "updated"}, []),
        ({"family": "llama-3.1"}, ["llama-3.1-8b"]),
        ({"search": "LLAMA"}, ["llama-3.1-8b"]),
        ({"capability": "vision"}, ["org/qwen2.5-vl"]),
        ({"order": "desc", "limit": 1}, ["org/qwen2.5-vl"]),
        ({"after": "llama-3.1-8b"}, ["org/qwen2.5-vl"]),
    ],
)
async def test_catalog_rows_are_filtered(tell: Admin, wanted: dict[str, Any], ids: list[str]) -> None:
    assert [row["id"] for row in (await tell("ListAdminCatalogs", **wanted))["data"]] == ids


# Who may


METHODS: dict[str, dict[str, Any]] = {
    "ListProviderModels": {},
    "GetProviderModel": {"id": "llama-3.1-8b"},
    "UpdateProviderModel": {"id": "llama-3.1-8b", "enabled": False},
    "BulkToggleProviderModels": {"model_ids": ["llama-3.1-8b"], "enabled": False},
    "ListAdminCatalogs": {},
    "GetAdminCatalog": {"id": "llama-3.1-8b"},
    "UpdateAdminCatalog": {"id": "llama-3.1-8b", "enabled": False},
    "BulkToggleCatalogs": {"catalog_ids": ["llama-3.1-8b"], "enabled": False},
}


@pytest.mark.parametrize("method", METHODS)
async def test_only_administrators_administer_models(rig: Rig, method: str) -> None:
    somebody = Admin(rig, await guest(rig))
    assert await refused(somebody(method, **METHODS[method])) == (StatusCode.PERMISSION_DENIED, "ADMIN_REQUIRED", "")
    stranger: Any = admin_models_pb2_grpc.AdminModelServiceStub(rig.channel)
    request = json_format.ParseDict(METHODS[method], getattr(admin_models_pb2, f"{method}Request")())
    said = await refused(getattr(stranger, method)(request, timeout=SECONDS))
    assert said == (StatusCode.UNAUTHENTICATED, "UNAUTHORIZED", "")
    assert await models(rig) == ALL


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("method", "place", "param"),
    [
        ("UpdateProviderModel", lambda request: request.default_temperature, "default_temperature"),
        ("UpdateProviderModel", lambda request: request.tags.values.add(), "tags"),
        ("UpdateAdminCatalog", lambda request: default_of(request), "supported_parameters"),
    ],
)
async def test_numbers_that_json_does_not_have_are_refused(
    rig: Rig, boss: Account, method: str, place: Any, param: str, number: float
) -> None:
    request = getattr(admin_models_pb2, f"{method}Request")(id="org/qwen2.5-vl")
    place(request).number_value = number
    stub: Any = admin_models_pb2_grpc.AdminModelServiceStub(rig.channel)
    said = await refused(getattr(stub, method)(request, metadata=boss.signed_in, timeout=SECONDS))
    assert said == (StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER", param)


def default_of(request: Any) -> Any:
    return request.supported_parameters.default.fields["stop"]


async def test_changes_at_the_same_time_all_survive(tell: Admin) -> None:
    changes: dict[str, Any] = {"name": "Qwen", "family": "q", "tags": ["a"], "context_window": 9, "enabled": False}
    await asyncio.gather(
        *(tell.patch("org/qwen2.5-vl", **{name: value}) for name, value in changes.items()),
        *(tell("UpdateAdminCatalog", id="org/qwen2.5-vl", **each) for each in ({"notes": "n"}, {"description": "d"})),
    )
    row = await tell.model("org/qwen2.5-vl")
    assert {name: row[name] for name in changes} == changes
    catalog = (await tell("GetAdminCatalog", id="org/qwen2.5-vl"))["data"]
    assert (catalog["notes"], catalog["description"]) == ("n", "d")
