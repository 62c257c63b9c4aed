"""Shares through the whole server, over REST: made by their owners, read by anybody."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from jan.llm.v1 import shares_pb2, shares_pb2_grpc

from tests.rest.server import JanServer, eventually

ELSEWHERE = {"origin": "https://blog.example"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
TEXT = {"type": "text", "text": "Look"}


def talk(rest: httpx.Client, *contents: Any, title: str = "Trip") -> str:
    """A conversation."""
    items = [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]
    answer = rest.post("/v1/conversations", json={"title": title, "items": items, "metadata": {"private": "metadata"}})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"]["id"])


def share(rest: httpx.Client, conversation: str, **terms: Any) -> dict[str, Any]:
    """A new share."""
    answer = rest.post(f"/v1/conversations/{conversation}/share", json=terms)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()["data"]
    return made


def refusal(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code and parameter; the envelope must be whole."""
    error = answer.json()["error"]
    assert error["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, error["code"], error.get("param")


@pytest.fixture
def public(server: JanServer) -> str:
    """Where shares are read."""
    return f"{server.url}/v1/public/shares/"


def test_the_life_of_a_share(rest: httpx.Client, public: str) -> None:
    conversation = talk(rest, "Hi", [TEXT, PICTURE])
    answer = rest.post(f"/v1/conversations/{conversation}/share", content=b"")
    made = answer.json()["data"]
    assert answer.status_code == 201
    assert answer.json()["meta"] == {"request_id": answer.headers["x-request-id"]}
    assert re.fullmatch(r"[0-9A-Za-z]{22}", made["slug"])
    assert made["share_link"] == made["share_url"] == f"http://localhost:8000/v1/public/shares/{made['slug']}"
    assert (made["read_only"], made["allow_feedback"], made["view_count"]) == (True, False, 0)

    seen = httpx.get(public + made["slug"])
    assert seen.json()["meta"] == {"request_id": seen.headers["x-request-id"]}
    assert seen.json()["data"]["title"] == "Trip"
    assert [(item["role"], item["content"]) for item in seen.json()["data"]["items"]] == [
        ("user", "Hi"),
        ("assistant", [TEXT, PICTURE]),
    ]
    owner = rest.get("/v1/users/me").json()["data"]["id"]
    for private in (owner, "metadata", conversation, made["id"]):
        assert private not in seen.text

    path = f"/v1/conversations/{conversation}/shares"
    assert [each["id"] for each in rest.get(path).json()["data"]] == [made["id"]]
    for _ in range(2):
        gone = rest.delete(f"{path}/{made['id']}")
        assert (gone.status_code, gone.content) == (204, b"")
    assert rest.delete(f"/v1/shares/{made['id']}").status_code == 204
    assert refusal(httpx.get(public + made["slug"])) == (410, "share_revoked", None)
    (listed,) = rest.get("/v1/shares?include_revoked=true").json()["data"]
    assert listed["revoked_at"] >= made["created_at"]
    assert rest.get("/v1/shares?include_revoked=false").json()["data"] == []


def test_only_one_message_without_its_images_can_be_shared(rest: httpx.Client, public: str) -> None:
    conversation = talk(rest, "one", "two", [PICTURE, TEXT], "four", "five")
    items = rest.get(f"/v1/conversations/{conversation}/items").json()["data"]
    made = share(rest, conversation, item_id=items[3]["id"], include_images=False, title="Mine")
    assert (made["item_id"], made["title"]) == (items[3]["id"], "Mine")
    seen = httpx.get(public + made["slug"]).json()["data"]
    assert [item["content"] for item in seen["items"]] == [[TEXT], "four"]


@pytest.mark.parametrize(
    ("terms", "status", "param"),
    [
        ({"expires_in": 59}, 400, "expires_in"),
        ({"expires_in": 31_536_001}, 400, "expires_in"),
        ({"expires_in": -1}, 400, "expires_in"),
        ({"expires_in": 60.5}, 400, "expires_in"),
        ({"expires_in": "60"}, 400, "expires_in"),
        ({"read_only": "yes"}, 400, "read_only"),
        ({"title": "x" * 257}, 400, "title"),
        ({"title": "a\u0000"}, 400, "title"),
        ({"item_id": 5}, 400, "item_id"),
        ({"item_id": "msg_unknown"}, 404, "item_id"),
    ],
)
def test_a_wrong_field_is_named(rest: httpx.Client, terms: dict[str, Any], status: int, param: str) -> None:
    conversation = talk(rest)
    said = refusal(rest.post(f"/v1/conversations/{conversation}/share", json=terms))
    assert said == (status, "not_found" if status == 404 else "invalid_parameter", param)
    assert rest.get("/v1/shares").json()["data"] == []


def test_an_expiry_is_told(rest: httpx.Client, public: str) -> None:
    made = share(rest, talk(rest), expires_in=60)
    assert made["expires_at"] == made["created_at"] + 60
    assert abs(made["created_at"] - time.time()) < 30
    assert httpx.get(public + made["slug"]).json()["data"]["expires_at"] == made["expires_at"]


def test_a_deleted_conversation_is_gone_for_readers(rest: httpx.Client, public: str) -> None:
    conversation = talk(rest, "Hi")
    made = share(rest, conversation)
    assert rest.delete(f"/v1/conversations/{conversation}").status_code == 204
    assert refusal(httpx.get(public + made["slug"])) == (410, "share_revoked", None)
    assert refusal(rest.get(f"/v1/conversations/{conversation}/shares")) == (404, "not_found", None)


@pytest.mark.parametrize("slug", ["0" * 22, "nope", "..%2f..%2fshares", "%27%20OR%201=1"])
def test_an_unknown_address_is_not_found(public: str, slug: str) -> None:
    answer = httpx.get(public + slug)
    assert answer.status_code in ({401, 404} if "%2f" in slug else {404})
    assert "cache-control" not in answer.headers


def test_a_bad_credential_does_not_keep_readers_out(rest: httpx.Client, public: str) -> None:
    made = share(rest, talk(rest))
    assert httpx.get(public + made["slug"], headers={"authorization": "Bearer nonsense"}).status_code == 200


def test_somebody_else_s_shares_are_not_there(rest: httpx.Client, server: JanServer) -> None:
    conversation = talk(rest, "Hi")
    made = share(rest, conversation)
    shares = f"/v1/conversations/{conversation}/shares"
    calls = [
        ("POST", f"/v1/conversations/{conversation}/share"),
        ("GET", shares),
        ("DELETE", f"{shares}/{made['id']}"),
        ("DELETE", f"/v1/shares/{made['id']}"),
    ]
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {server.token()}"}) as other:
        for verb, path in calls:
            assert refusal(other.request(verb, path)) == (404, "not_found", None)
        assert other.get("/v1/shares").json()["data"] == []
        assert refusal(other.get("/v1/shares", params={"after": made["id"]})) == (400, "invalid_cursor", "after")
    for verb, path in (*calls, ("GET", "/v1/shares")):
        assert httpx.request(verb, server.url + path).status_code == 401
    assert rest.get("/v1/shares").json()["data"] == [made]


def test_the_same_call_again_makes_no_second_share(rest: httpx.Client) -> None:
    path, key = f"/v1/conversations/{talk(rest)}/share", {"idempotency-key": "k"}
    again = [rest.post(path, json={}, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in again] == [201, 201]
    assert again[0].json()["data"] == again[1].json()["data"]
    assert rest.get("/v1/shares").json()["total_count"] == 1


# Reading


def test_an_answer_may_be_kept_for_a_minute(rest: httpx.Client, public: str) -> None:
    made = share(rest, talk(rest, "Hi"))
    for ask in (httpx.get, httpx.head):
        assert ask(public + made["slug"]).headers["cache-control"] == "public, max-age=60"


@pytest.mark.parametrize("second", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_a_look_says_what_a_read_would_and_has_no_body(rest: httpx.Client, public: str, second: bool) -> None:
    made = share(rest, talk(rest, "Hi"))
    read = httpx.get(public + made["slug"], headers={"x-request-id": "r"})
    with httpx.Client(http1=not second, http2=second, headers={"x-request-id": "r"}) as http:
        for _ in range(2):  # on one connection: nothing is left over between two answers
            look = http.head(public + made["slug"])
            assert (look.status_code, look.content) == (200, b"")
            assert look.headers["content-type"] == "application/json"
            assert look.headers["content-length"] == str(len(read.content))
        missing = http.head(public + "0" * 22)
        assert (missing.status_code, missing.content) == (404, b"")
        rest.delete(f"/v1/shares/{made['id']}")
        assert http.head(public + made["slug"]).status_code == 410


def test_reads_are_counted_and_looks_are_not(rest: httpx.Client, public: str) -> None:
    made = share(rest, talk(rest, "Hi"))
    for verb in ("HEAD", "GET", "HEAD", "GET"):
        assert httpx.request(verb, public + made["slug"]).status_code == 200
    assert eventually(lambda: rest.get("/v1/shares").json()["data"][0]["view_count"] == 2)


def test_web_pages_of_any_origin_may_read(rest: httpx.Client, public: str) -> None:
    made = share(rest, talk(rest, "Hi"))
    known = {"origin": "http://localhost:3000"}  # of CORS_ALLOWED_ORIGINS, and may send credentials to other paths
    for path in (made["slug"], "0" * 22):
        for origin in (ELSEWHERE, known, {}):
            answer = httpx.get(public + path, headers=origin)
            assert answer.headers.get_list("access-control-allow-origin") == ["*"]
            assert "access-control-allow-credentials" not in answer.headers


def test_a_web_page_may_ask_before_it_reads(rest: httpx.Client, server: JanServer) -> None:
    preflight = {**ELSEWHERE, "access-control-request-method": "GET", "access-control-request-headers": "x-request-id"}
    for path in ("/v1/public/shares/x", "/llm/v1/public/shares/x"):
        answer = httpx.options(server.url + path, headers=preflight)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "x-request-id" in answer.headers["access-control-allow-headers"]
        assert answer.headers["access-control-allow-methods"] == "GET, HEAD"
        assert "access-control-allow-credentials" not in answer.headers
    other = httpx.options(f"{server.url}/v1/shares", headers=preflight)
    assert "access-control-allow-origin" not in other.headers


def test_a_share_is_read_over_grpc_as_well(rest: httpx.Client, server: JanServer) -> None:
    made = share(rest, talk(rest, "Hi"))
    stub: Any = shares_pb2_grpc.ShareServiceStub
    with grpc.insecure_channel(server.url.removeprefix("http://")) as channel:
        seen = stub(channel).GetPublicShare(shares_pb2.GetPublicShareRequest(slug=made["slug"]), timeout=10)
    assert [item.content.string_value for item in seen.data.items] == ["Hi"]


# Another server


def test_sharing_can_be_switched_off_and_readers_are_counted(tmp_path: Path) -> None:
    off = {"CONVERSATION_SHARING_ENABLED": "false", "RATE_LIMIT_MODE": "enforce", "RATE_LIMIT_PER_MINUTE": "10"}
    with (
        JanServer(tmp_path, **off) as server,
        httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {server.token()}"}) as rest,
    ):
        answer = rest.post(f"/v1/conversations/{talk(rest)}/share")
        assert refusal(answer) == (403, "sharing_disabled", None)
        assert rest.get("/v1/shares").status_code == 200
        link = f"{server.url}/v1/public/shares/{'0' * 22}"
        assert refusal(httpx.get(link)) == (403, "sharing_disabled", None)
        too_many = eventually(lambda: (answer := httpx.get(link, headers=ELSEWHERE)).status_code == 429 and answer)
        assert refusal(too_many) == (429, "rate_limit_exceeded", None)
        assert too_many.headers.get_list("access-control-allow-origin") == ["*"]
