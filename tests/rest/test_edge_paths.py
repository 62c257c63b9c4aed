"""Spellings of paths, ids in them, and request ids, at the gateway."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.rest.edge_rig import (
    Rig,
    get,
    raw,
)

# --- paths

TRICKS = [
    "/v1/public%2F..%2Fnotes", "/v1/public/..%2fnotes", "/v1/public/%2e%2e/notes", "/v1/public/x/../../notes",
    "//v1/notes", "/v1//notes", "/v1/public%2F%2E%2E%2Fnotes", "/v1/public/..%5cnotes", "/v1/public/..\\notes",
    "/healthz/../v1/notes", "/healthz%2F..%2Fv1%2Fnotes", "/auth/guest-login/../../v1/notes", "/v1/./notes",
    "/llm/../v1/notes", "/readyz%2f..%2fv1%2fnotes", "/v1/no%74es", "/.well-known/jwks.json/../../v1/notes",
]  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
async def test_no_spelling_of_a_path_gets_around_authentication(rig: Rig, trick: str) -> None:
    status, _, body = await raw(rig.settings.gateway_port, get(trick))
    assert (status, body["error"]["code"]) in ((401, "unauthorized"), (404, "route_not_found"))


async def test_a_public_pattern_is_public(rig: Rig) -> None:
    for target, id_ in (("/v1/public/x/../y", "y"), ("/v1/public/%252e%252e%252fnotes", "%2e%2e%2fnotes")):
        status, _, body = await raw(rig.settings.gateway_port, get(target))
        assert (status, body["id"]) == (200, id_)


@pytest.mark.parametrize("written", ["org/model", "org%2Fmodel", "hf.co/a/b:Q4_K_M", "a%20b", "jan-v1"])
async def test_a_model_id_may_hold_slashes(http: httpx.AsyncClient, rig: Rig, written: str) -> None:
    answer = await http.get(f"/v1/models/{written}", headers=rig.bearer())
    assert answer.json()["id"] == written.replace("%2F", "/").replace("%20", " ")


@pytest.mark.parametrize("query", ["id=slow", "id=a&id=b", "%69d=slow", "title=x&i%64=slow", "Id=slow", "id_=slow"])
async def test_the_id_in_the_path_wins_over_the_query(rig: Rig, query: str) -> None:
    for path in ("/v1/models/plain", "/llm/v1/models/plain", "/v1/notes/plain", "/v1/public/plain"):
        status, _, body = await raw(rig.settings.gateway_port, get(f"{path}?{query}", rig.bearer()))
        assert (path, status, body["id"]) == (path, 200, "plain")


@pytest.mark.parametrize("body", ['{"id":"slow"}', '{"title":"x","id":"slow"}', '{"id":"plain","id":"slow"}'])
async def test_the_id_in_the_path_wins_over_the_body(http: httpx.AsyncClient, rig: Rig, body: str) -> None:
    answer = await http.put("/v1/notes/plain", content=body, headers=rig.bearer())
    assert (answer.json()["id"], answer.json()["title"]) == ("plain", "x" if "title" in body else "")


async def test_an_id_elsewhere_is_a_query_parameter_like_any_other(http: httpx.AsyncClient, rig: Rig) -> None:
    assert (await http.get("/v1/notes", params={"id": "x"}, headers=rig.bearer())).json()["id"] == "x"


# --- request ids


@pytest.mark.parametrize("sent", ["a", "abc-DEF_1.2:3", "x" * 128, "3f1b2c8e-1111-4222-8333-444455556666"])
async def test_a_good_request_id_is_kept_everywhere(http: httpx.AsyncClient, rig: Rig, sent: str) -> None:
    headers = {"x-request-id": sent, **rig.bearer()}
    answer = await http.post("/v1/chat/completions", headers=headers)
    assert answer.json()["received"]["x-request-id"] == sent
    assert answer.headers.get_list("x-request-id") == [sent]
    refused = await http.get("/v1/models", headers={"x-request-id": sent})
    assert refused.json()["error"]["request_id"] == sent
    assert refused.headers.get_list("x-request-id") == [sent]


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, "é".encode(), "a/b", "a,b", '"', "{}", "%s"])
async def test_another_request_id_is_replaced_everywhere(http: httpx.AsyncClient, rig: Rig, sent: Any) -> None:
    headers = {"x-request-id": sent, **rig.bearer()}
    answer = await http.post("/v1/chat/completions", headers=headers)
    made = answer.headers["x-request-id"]
    assert made.startswith("req_")
    assert made[4:].isalnum()
    assert len(made) >= 20
    assert answer.json()["received"]["x-request-id"] == made
    assert "x-edge-request-id" not in answer.json()["received"]
