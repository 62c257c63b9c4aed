"""Projects through the whole server, over REST."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.rest.server import JanServer


def make(rest: httpx.Client, **fields: Any) -> dict[str, Any]:
    """A new project."""
    answer = rest.post("/v1/projects", json={"name": "a project", **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()["data"]
    return made


def refusal(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code and parameter; the envelope must be whole."""
    error = answer.json()["error"]
    assert error["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, error["code"], error.get("param")


def test_the_life_of_a_project(rest: httpx.Client) -> None:
    answer = rest.post("/v1/projects", json={"name": " Trips ", "instruction": "Be brief.", "is_favorite": True})
    made = answer.json()["data"]
    assert answer.status_code == 201
    assert answer.json()["meta"] == {"request_id": answer.headers["x-request-id"]}
    assert re.fullmatch(r"proj_[0-9a-z]{26}", made["id"])
    assert {name: value for name, value in made.items() if name not in ("id", "created_at", "updated_at")} == {
        "object": "project",
        "name": "Trips",
        "instruction": "Be brief.",
        "is_favorite": True,
        "is_archived": False,
        "conversation_count": 0,
    }
    path = f"/v1/projects/{made['id']}"
    assert rest.get(path).json()["data"] == made
    inside = rest.post("/v1/conversations", json={"project_id": made["id"]}).json()["data"]
    (listed,) = rest.get("/v1/projects").json()["data"]
    assert listed == {**made, "conversation_count": 1}
    (row,) = rest.get(f"{path}/conversations").json()["data"]
    assert row["id"] == inside["id"]
    gone = rest.delete(path)
    assert gone.status_code == 200
    assert gone.json()["data"] == {"id": made["id"], "object": "project", "deleted": True}
    assert refusal(rest.get(path)) == (404, "not_found", None)
    assert rest.get(f"/v1/conversations/{inside['id']}").json()["data"].get("project_id") is None


@pytest.mark.parametrize("verb", ["PATCH", "POST"])
def test_an_update_changes_what_it_mentions(rest: httpx.Client, verb: str) -> None:
    made = make(rest, instruction="Be brief.")
    path = f"/v1/projects/{made['id']}"
    archived = rest.request(verb, path, json={"is_archived": True, "id": "proj_other"}).json()["data"]
    assert archived["is_archived"] is True
    assert archived["archived_at"] >= made["created_at"]
    assert archived["instruction"] == "Be brief."
    assert [each["id"] for each in rest.get("/v1/projects?is_archived=true").json()["data"]] == [made["id"]]
    assert rest.get("/v1/projects?is_archived=false").json()["total_count"] == 0
    back = rest.request(verb, path, json={"is_archived": False, "instruction": None}).json()["data"]
    assert (back["is_archived"], back.get("archived_at"), back.get("instruction")) == (False, None, None)
    assert rest.get(path).json()["data"] == back


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": None}, "name"),
        ({"name": 5}, "name"),
        ({"name": " \n"}, "name"),
        ({"name": "a\u0007b"}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"name": "a", "instruction": "x" * 32_769}, "instruction"),
        ({"name": "a", "instruction": ["x"]}, "instruction"),
        ({"name": "a", "is_favorite": "true"}, "is_favorite"),
    ],
)
def test_a_wrong_field_is_named(rest: httpx.Client, body: dict[str, Any], param: str) -> None:
    assert refusal(rest.post("/v1/projects", json=body)) == (400, "invalid_parameter", param)
    if body:
        path = f"/v1/projects/{make(rest)['id']}"
        assert refusal(rest.patch(path, json=body)) == (400, "invalid_parameter", param)


def test_a_body_that_is_no_json_is_refused(rest: httpx.Client) -> None:
    for body in ("{", '{"name":"a"} x', "[]"):
        status, code, _ = refusal(rest.post("/v1/projects", content=body))
        assert (status, code) in {(400, "invalid_json"), (400, "invalid_parameter")}
    assert rest.get("/v1/projects").json()["data"] == []


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ("limit=x", "invalid_parameter", "limit"),
        ("offset=-1", "invalid_parameter", "offset"),
        ("order=up", "invalid_parameter", "order"),
        ("after=proj_unknown", "invalid_cursor", "after"),
        ("is_archived=yes", "invalid_parameter", "is_archived"),
        ("is_favorite=1", "invalid_parameter", "is_favorite"),
        ("search=%00", "invalid_parameter", "search"),
        (f"search={'x' * 257}", "invalid_parameter", "search"),
    ],
)
def test_a_wrong_parameter_is_named(rest: httpx.Client, query: str, code: str, param: str) -> None:
    project = make(rest)
    assert refusal(rest.get(f"/v1/projects?{query}")) == (400, code, param)
    if param != "is_favorite":
        asked = rest.get(f"/v1/projects/{project['id']}/conversations?{query}")
        assert refusal(asked) == (400, code, param)


def test_lists_are_paged_and_searched(rest: httpx.Client) -> None:
    made = [make(rest, name=name)["id"] for name in ("50% off", "Over", "50 on")]
    page = rest.get("/v1/projects?limit=2&after=").json()
    assert ([each["id"] for each in page["data"]], page["has_more"]) == ([made[2], made[1]], True)
    rest_of_it = rest.get("/v1/projects", params={"limit": 2, "after": page["next_after"]}).json()
    assert ([each["id"] for each in rest_of_it["data"]], rest_of_it["has_more"]) == ([made[0]], False)
    found = rest.get("/v1/projects", params={"search": "0%"}).json()
    assert ([each["name"] for each in found["data"]], found["total_count"]) == (["50% off"], 1)


def test_the_same_call_again_makes_no_second_project(rest: httpx.Client) -> None:
    again = [rest.post("/v1/projects", json={"name": "once"}, headers={"idempotency-key": "k"}) for _ in range(2)]
    assert [answer.status_code for answer in again] == [201, 201]
    assert again[0].json()["data"] == again[1].json()["data"]
    assert rest.get("/v1/projects").json()["total_count"] == 1


def test_somebody_else_s_project_is_not_there(rest: httpx.Client, server: JanServer) -> None:
    made = make(rest)
    path = f"/v1/projects/{made['id']}"
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {server.token()}"}) as other:
        for verb, where in (("GET", ""), ("PATCH", ""), ("POST", ""), ("DELETE", ""), ("GET", "/conversations")):
            assert refusal(other.request(verb, path + where)) == (404, "not_found", None)
        inside = other.post("/v1/conversations", json={"project_id": made["id"]})
        assert refusal(inside) == (404, "project_not_found", "project_id")
    assert rest.get(path).json()["data"] == made
    assert httpx.get(server.url + path).status_code == 401
