"""Models, catalogs, providers and their administration through the whole server, with two workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
import yaml

from tests.fake_upstream import STALL, FakeUpstream
from tests.rest.server import JanServer, eventually

EMAIL, PASSWORD = "root@example.com", "correct horse battery staple"
HELLO = [{"role": "user", "content": "Hello!"}]
ADMIN = "/v1/admin/models/provider-models"
CATALOGS = "/v1/admin/models/catalogs"
WORKERS = 2
LOOKS = 20
"""As many requests reach every worker, as good as certainly."""

pytestmark = pytest.mark.patience(120)


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeUpstream]:
    with FakeUpstream(models=["llama", "org/qwen-vl", "spare"]) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def house(engine: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JanServer]:
    """A server whose models are those of `engine`."""
    folder = tmp_path_factory.mktemp("house")
    entry = {"name": "engine", "type": "vllm", "url": engine.url}
    (folder / "providers.yml").write_text(yaml.safe_dump({"providers": {"default": [entry]}}))
    with JanServer(
        folder,
        WORKERS=str(WORKERS),
        RATE_LIMIT_MODE="enforce",
        RATE_LIMIT_PER_MINUTE="60000",
        ADMIN_EMAIL=EMAIL,
        ADMIN_PASSWORD=PASSWORD,
    ) as server:
        yield server


@pytest.fixture
def user(house: JanServer) -> Iterator[httpx.Client]:
    with closing(client(house, house.token())) as http:
        yield http


@pytest.fixture
def boss(house: JanServer) -> Iterator[httpx.Client]:
    signed_in = httpx.post(f"{house.url}/auth/login", json={"email": EMAIL, "password": PASSWORD}, timeout=20)
    with closing(client(house, signed_in.json()["access_token"])) as http:
        yield http


def client(server: JanServer, token: str) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {token}"}, timeout=20)


def outcome(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Status, error code and parameter."""
    error = answer.json()["error"]
    assert error["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, error["code"], error["param"]


def data(answer: httpx.Response, status: int = 200) -> dict[str, Any]:
    """What an enveloped answer is about."""
    assert answer.status_code == status, answer.text
    assert answer.json()["meta"] == {"request_id": answer.headers["x-request-id"]}
    return dict(answer.json()["data"])


def listed(http: httpx.Client) -> list[str]:
    return [model["id"] for model in http.get("/v1/models").json()["data"]]


def agreed(http: httpx.Client, model: str, *, there: bool) -> bool:
    """Whether all of many requests, which reach every worker, agree that a model is there, or is not."""
    return all((model in listed(http)) == there for _ in range(LOOKS))


def chat(http: httpx.Client, model: str, **members: Any) -> httpx.Response:
    return http.post("/v1/chat/completions", json={"model": model, "messages": HELLO, **members})


# For users


def test_models_are_openais_list(user: httpx.Client) -> None:
    answer = user.get("/v1/models").json()
    assert answer["object"] == "list"
    assert [set(model) for model in answer["data"]] == [{"id", "object", "created", "owned_by"}] * 4
    told = user.get("/v1/models", headers={"x-provider-data": "true"}).json()["data"]
    assert {(model["id"], model["provider_name"], model["provider_vendor"]) for model in told} >= {
        ("llama", "engine", "vllm")
    }


@pytest.mark.parametrize("written", ["org/qwen-vl", "org%2Fqwen-vl", "vllm/org/qwen-vl", "vllm%2Forg%2Fqwen-vl"])
def test_a_catalog_row_is_found_by_every_way_to_write_its_id(user: httpx.Client, written: str) -> None:
    row = data(user.get(f"/v1/models/catalogs/{written}"))
    assert (row["id"], row["public_id"], row["provider"]) == ("org/qwen-vl", "vllm/org/qwen-vl", "vllm")
    assert (row["experimental"], row["tags"], row["description"]) == (False, [], "")


def test_every_model_has_a_catalog_row(user: httpx.Client) -> None:
    rows = user.get("/v1/models/catalogs").json()
    assert [row["id"] for row in rows["data"]] == listed(user)
    assert (rows["object"], rows["has_more"], rows["total_count"]) == ("list", False, 4)
    assert outcome(user.get("/v1/models/catalogs/nope")) == (404, "model_not_found", None)


@pytest.mark.parametrize(
    ("capability", "ids"), [("vision", ["org/qwen-vl"]), ("images", ["org/qwen-vl"]), ("levitation", [])]
)
def test_catalog_rows_are_filtered(user: httpx.Client, capability: str, ids: list[str]) -> None:
    rows = user.get("/v1/models/catalogs", params={"capability": capability}).json()
    assert ([row["id"] for row in rows["data"]], rows["total_count"]) == (ids, len(ids))


@pytest.mark.parametrize("path", ["/v1/models/catalogs", "/v1/models/providers"])
@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=a", (400, "invalid_parameter", "limit")),
        ("offset=-1", (400, "invalid_parameter", "offset")),
        ("offset=1&after=llama", (400, "invalid_parameter", "after")),
        ("after=nothing", (400, "invalid_cursor", "after")),
        ("after=%00", (400, "invalid_cursor", "after")),
        ("order=up", (400, "invalid_parameter", "order")),
    ],
)
def test_pages_that_cannot_be_are_refused(
    user: httpx.Client, path: str, query: str, said: tuple[int, str, str]
) -> None:
    assert outcome(user.get(f"{path}?{query}")) == said


def test_providers_are_listed_without_their_secrets(user: httpx.Client) -> None:
    rows = user.get("/v1/models/providers").json()
    assert {(row["name"], row["vendor"], row["active"]) for row in rows["data"]} == {
        ("engine", "vllm", True),
        ("jan-server", "jan-server", True),
    }
    assert {name for row in rows["data"] for name in row} == {"id", "name", "vendor", "active"}


# For administrators


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("GET", ADMIN, None),
        ("GET", f"{ADMIN}/org/qwen-vl", None),
        ("PATCH", f"{ADMIN}/org/qwen-vl", {"enabled": False}),
        ("POST", f"{ADMIN}/bulk-toggle", {"model_ids": ["llama"], "enabled": False}),
        ("GET", CATALOGS, None),
        ("GET", f"{CATALOGS}/llama", None),
        ("PATCH", f"{CATALOGS}/llama", {"enabled": False}),
        ("POST", f"{CATALOGS}/bulk-toggle", {"catalog_ids": ["llama"], "enabled": False}),
        ("GET", "/v1/admin/providers", None),
        ("POST", "/v1/admin/providers", {"name": "farm", "base_url": "http://127.0.0.1:9"}),
        ("GET", "/v1/admin/providers/prov_1", None),
        ("PATCH", "/v1/admin/providers/prov_1", {"active": False}),
        ("DELETE", "/v1/admin/providers/prov_1", None),
        ("POST", "/v1/admin/providers/prov_1/sync", None),
    ],
)
def test_administration_is_for_administrators(
    house: JanServer, user: httpx.Client, verb: str, path: str, body: dict[str, Any] | None
) -> None:
    stranger = httpx.request(verb, house.url + path, json=body)
    assert (outcome(stranger), stranger.headers["www-authenticate"]) == ((401, "unauthorized", None), "Bearer")
    assert outcome(user.request(verb, path, json=body)) == (403, "admin_required", None)


@pytest.mark.parametrize("written", ["org/qwen-vl", "org%2Fqwen-vl"])
def test_a_change_reaches_every_worker_within_a_second(user: httpx.Client, boss: httpx.Client, written: str) -> None:
    row = data(boss.patch(f"{ADMIN}/{written}", json={"enabled": False, "reason": "a test"}))
    changed = time.monotonic()
    assert (row["object"], row["enabled"], row["model_id"]) == ("provider_model", False, "org/qwen-vl")
    eventually(lambda: agreed(user, "org/qwen-vl", there=False))
    assert time.monotonic() - changed < 1 + LOOKS * 0.1
    assert outcome(chat(user, "org/qwen-vl")) == (404, "model_not_found", "model")
    data(boss.patch(f"{ADMIN}/{row['id']}", json={"enabled": True}))
    eventually(lambda: agreed(user, "org/qwen-vl", there=True))
    assert chat(user, "org/qwen-vl").status_code == 200


def test_null_takes_back_what_was_set(boss: httpx.Client, user: httpx.Client, engine: FakeUpstream) -> None:
    members = {
        "default_temperature": 0.7,
        "tags": ["a"],
        "context_window": 99,
        "name": "L",
        "rate_limit": {"requests_per_minute": 1000},
    }
    row = data(boss.patch(f"{ADMIN}/llama", json=members))
    assert {name: row[name] for name in members} == members | {"rate_limit": {"requests_per_minute": 1000}}
    row = data(boss.patch(f"{ADMIN}/llama", json=dict.fromkeys(members)))
    assert {name: row.get(name) for name in members} == dict.fromkeys(members) | {"name": "llama", "tags": []}


@pytest.mark.parametrize("written", ["org/qwen-vl", "org%2Fqwen-vl"])
def test_post_means_patch_where_it_means_nothing_else(boss: httpx.Client, written: str) -> None:
    assert data(boss.post(f"{ADMIN}/{written}", json={"tags": ["eyes"]}))["tags"] == ["eyes"]
    assert data(boss.post(f"{ADMIN}/{written}", json={"tags": None}))["tags"] == []
    assert data(boss.post(f"{CATALOGS}/{written}", json={"experimental": True}))["experimental"] is True
    made = data(boss.post("/v1/admin/providers", json={"name": "hut", "base_url": "http://127.0.0.1:9/v1"}), 201)
    path = f"/v1/admin/providers/{made['id']}"
    assert data(boss.post(path, json={"name": "house"}))["name"] == "house"
    assert boss.delete(path, params={"reason": "moved"}).status_code == 204


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"default_temperature": 3}, (400, "invalid_parameter", "default_temperature")),
        ({"enabled": "no"}, (400, "invalid_parameter", "enabled")),
        ({"tags": "a"}, (400, "invalid_parameter", "tags")),
        ({"rate_limit": 5}, (400, "invalid_parameter", "rate_limit")),
        ({"rate_limit": {"requests_per_minute": -1}}, (400, "invalid_parameter", "rate_limit.requests_per_minute")),
    ],
)
def test_changes_that_cannot_be_are_refused(
    boss: httpx.Client, body: dict[str, Any], said: tuple[int, str, str]
) -> None:
    assert outcome(boss.patch(f"{ADMIN}/llama", json=body)) == said
    assert outcome(boss.patch(f"{ADMIN}/nope", json={"enabled": True})) == (404, "not_found", None)


def test_the_limit_of_a_model_is_enforced(boss: httpx.Client, user: httpx.Client) -> None:
    data(boss.patch(f"{ADMIN}/spare", json={"rate_limit": {"requests_per_minute": WORKERS}}))
    answers = eventually(lambda: limited(user, "spare"))
    assert outcome(answers) == (429, "rate_limit_exceeded", None)
    assert 0 < int(answers.headers["retry-after"]) <= 60
    streamed = [chat(user, "spare", stream=True) for _ in range(LOOKS)]
    assert 429 in [each.status_code for each in streamed]
    data(boss.patch(f"{ADMIN}/spare", json={"rate_limit": None}))


def limited(http: httpx.Client, model: str) -> httpx.Response | None:
    """A refused request, when there is one among many."""
    answers = [chat(http, model) for _ in range(LOOKS)]
    return next((each for each in answers if each.status_code != 200), None)


def test_many_are_switched_at_once(boss: httpx.Client, user: httpx.Client) -> None:
    off = data(boss.post(f"{ADMIN}/bulk-toggle", json={"model_ids": ["llama", "spare", "nope"], "enabled": False}))
    assert off == {"count": 2, "changed_count": 2, "not_found": ["nope"]}
    eventually(lambda: agreed(user, "llama", there=False))
    on = data(boss.post(f"{ADMIN}/bulk-toggle", json={"model_ids": ["llama", "spare"], "enabled": True}))
    assert on == {"count": 2, "changed_count": 2, "not_found": []}
    off = data(boss.post(f"{CATALOGS}/bulk-toggle", json={"catalog_ids": ["vllm-org-qwen-vl"], "enabled": False}))
    assert off == {"count": 1, "changed_count": 1, "not_found": []}
    eventually(lambda: agreed(user, "org/qwen-vl", there=False))
    assert outcome(user.get("/v1/models/catalogs/org/qwen-vl")) == (404, "model_not_found", None)
    row = data(boss.patch(f"{CATALOGS}/vllm/org/qwen-vl", json={"enabled": True, "description": "Sees"}))
    assert (row["enabled"], row["status"], row["description"], row["models"]) == (
        True,
        "updated",
        "Sees",
        ["org/qwen-vl"],
    )
    eventually(lambda: agreed(user, "org/qwen-vl", there=True))


def test_totals_of_a_catalog_row_come_from_real_requests(boss: httpx.Client, user: httpx.Client) -> None:
    def totals() -> tuple[float, float]:
        row = data(boss.get(f"{CATALOGS}/llama"))
        return row["total_requests"], row["total_tokens"]

    eventually(lambda: agreed(user, "llama", there=True))
    requests, tokens = totals()
    answer = chat(user, "llama")
    assert answer.status_code == 200
    spent = answer.json()["usage"]["total_tokens"]
    eventually(lambda: totals() == (requests + 1, tokens + spent))


def test_a_provider_is_made_used_and_deleted(boss: httpx.Client, user: httpx.Client) -> None:
    with FakeUpstream(models=["barn/owl"]) as farm:
        body = {"name": "farm", "vendor": "openai", "base_url": farm.url, "api_key": "sk-upstream-secret-42"}
        answer = boss.post("/v1/admin/providers", json=body)
        made = data(answer, 201)
        assert (made["object"], made["key_hint"]) == ("provider", "…t-42")
        assert "sk-upstream-secret-42" not in answer.text
        eventually(lambda: agreed(user, "barn/owl", there=True))
        assert chat(user, "barn/owl").status_code == 200
        assert farm.requests[-1].headers["authorization"] == "Bearer sk-upstream-secret-42"
        path = f"/v1/admin/providers/{made['id']}"
        synced = data(boss.post(f"{path}/sync"))
        assert synced == {"added": 0, "updated": 0, "unavailable": 0}
        assert data(boss.patch(path, json={"active": False}))["active"] is False
        eventually(lambda: agreed(user, "barn/owl", there=False))
        gone = boss.delete(path)
        assert (gone.status_code, gone.content) == (204, b"")
        assert outcome(boss.get(path)) == (404, "not_found", None)


def test_what_one_worker_has_changed_every_other_knows_at_once(boss: httpx.Client) -> None:
    for turn in range(LOOKS):
        made = data(boss.post("/v1/admin/providers", json={"name": "shed", "base_url": "http://127.0.0.1:9/v1"}), 201)
        path = f"/v1/admin/providers/{made['id']}"
        data(boss.patch(path, json={"name": f"shed {turn}"}))
        assert data(boss.get(path))["name"] == f"shed {turn}"
        assert boss.delete(path).status_code == 204
        assert outcome(boss.get(path)) == (404, "not_found", None)


def test_an_upstream_that_hangs_holds_up_no_change(boss: httpx.Client, user: httpx.Client) -> None:
    with FakeUpstream() as upstream:
        upstream.models = [STALL]
        made = data(boss.post("/v1/admin/providers", json={"name": "hangs", "base_url": upstream.url}), 201)
        eventually(lambda: len(upstream.requests) >= WORKERS)
        for there in (False, True):
            data(boss.patch(f"{ADMIN}/spare", json={"enabled": there}))
            changed = time.monotonic()
            eventually(lambda: agreed(user, "spare", there=there))  # noqa: B023  # looked at before the next turn
            assert time.monotonic() - changed < 1 + LOOKS * 0.1
        assert boss.delete(f"/v1/admin/providers/{made['id']}").status_code == 204


def test_an_idempotency_key_makes_one_provider(boss: httpx.Client) -> None:
    body, headers = {"name": "once", "base_url": "http://127.0.0.1:9/v1"}, {"idempotency-key": "once"}
    first, second = (boss.post("/v1/admin/providers", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["data"]["id"] == second.json()["data"]["id"]
    assert boss.delete(f"/v1/admin/providers/{first.json()['data']['id']}").status_code == 204


def test_a_worker_that_is_born_anew_knows_all(house: JanServer, boss: httpx.Client, user: httpx.Client) -> None:
    data(boss.patch(f"{ADMIN}/spare", json={"enabled": False}))
    before = house.children()
    os.kill(before["worker-0"], signal.SIGKILL)
    eventually(lambda: house.children().get("worker-0", before["worker-0"]) != before["worker-0"])
    eventually(lambda: house.serves("worker-0") and house.is_ready())
    eventually(lambda: agreed(user, "spare", there=False))
    data(boss.patch(f"{ADMIN}/spare", json={"enabled": True}))
