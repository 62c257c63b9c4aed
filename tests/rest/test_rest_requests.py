"""How REST requests of typed methods are read, through the real gateway: strictly, and as CONTRACT 0.1 and 0.3 say."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.rest.server import JanServer
from tests.rest.test_bad_input import NO_JSON, TOO_LARGE, WRONG, Bad, check

KEYS, REFRESH, UPGRADE = "/auth/api-keys", "/auth/refresh", "/auth/upgrade"
NO_CURSOR = (400, "invalid_request_error", "invalid_cursor")
NOT_FOUND = (404, "not_found_error", "not_found")
MEGABYTE = 1024 * 1024


def make(rest: httpx.Client, name: str, path: str = KEYS) -> str:
    """Make a key; its id."""
    answer = rest.post(path, json={"name": name})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["data"]["id"])


def listed(rest: httpx.Client, query: str = "") -> dict[str, Any]:
    answer = rest.get(KEYS + query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


# --- bodies

LENIENT = {
    "a trailing comma": b'{"name": "x",}',
    "single quotes": b"{'name': 'x'}",
    "names without quotes": b'{name: "x"}',
    "a comment": b'{"name": "x"} // why',
    "bytes after the end": b'{"name": "x"}x',
    "two values": b'{"name": "x"}{"name": "y"}',
    "spaces alone": b" \n",
    "a leading zero": b'{"name": "x", "expires_in_days": 030}',
    "a hexadecimal number": b'{"name": "x", "expires_in_days": 0x10}',
    "an unknown escape": b'{"name": "\\q"}',
    "a line break in a text": b'{"name": "a\nb"}',
    "capital letters": b'{"name": "x", "scopes": NULL}',
    "a byte order mark": b'\xef\xbb\xbf{"name": "x"}',
    "something compressed": gzip.compress(b'{"name": "x"}'),
    "a form": b"name=x",
}
WRONG_VALUES = [
    (KEYS, b"[]", None),
    (KEYS, b'"name"', None),
    (KEYS, b"null", None),
    (KEYS, b"", "name"),
    (KEYS, b"{}", "name"),
    (KEYS, b'{"name": null}', "name"),
    (KEYS, b'{"name": 5}', "name"),
    (KEYS, b'{"name": ["x"]}', "name"),
    (KEYS, b'{"Name": "x"}', "name"),
    (KEYS, b'{"name": "x", "expires_in_days": "5"}', "expires_in_days"),
    (KEYS, b'{"name": "x", "expires_in_days": 5.0}', "expires_in_days"),
    (KEYS, b'{"name": "x", "expires_in_days": 5e0}', "expires_in_days"),
    (KEYS, b'{"name": "x", "expires_in_days": true}', "expires_in_days"),
    (KEYS, b'{"name": "x", "expires_in_days": 0}', "expires_in_days"),
    (KEYS, b'{"name": "x", "expires_in_days": 4294967296}', "expires_in_days"),
    (KEYS, b'{"name": "x", "expires_in_days": 99999999999999999999999}', "expires_in_days"),
    (KEYS, b'{"name": "x", "scopes": "read"}', "scopes"),
    (KEYS, b'{"name": "x", "scopes": {"read": true}}', "scopes"),
    (KEYS, b'{"name": "x", "scopes": ["read", 5]}', "scopes[1]"),
    (KEYS, b'{"name": "x", "scopes": ["read", null]}', "scopes[1]"),
    (KEYS, b'{"name": "x", "scopes": ["read", "fly"]}', "scopes[1]"),
    (REFRESH, b'{"refresh_token": 5}', "refresh_token"),
    (REFRESH, b'{"refreshToken": "x"}', "refresh_token"),
    (UPGRADE, b'{"email": {"at": "x"}}', "email"),
    (UPGRADE, b'{"email": "a@b.test", "password": 12345678}', "password"),
]


@pytest.mark.parametrize("name", LENIENT)
def test_json_that_is_nearly_right_is_refused(rest: httpx.Client, name: str) -> None:
    check(Bad(name, NO_JSON), rest.post(KEYS, content=LENIENT[name]))
    assert listed(rest)["total_count"] == 0


@pytest.mark.parametrize(("path", "body", "param"), WRONG_VALUES)
def test_a_wrong_value_is_named(rest: httpx.Client, path: str, body: bytes, param: str | None) -> None:
    check(Bad("wrong", WRONG, param), rest.post(path, content=body))


@pytest.mark.parametrize("prefix", ["", "/llm", "/api/llm"])
def test_an_alias_reads_as_strictly(rest: httpx.Client, prefix: str) -> None:
    check(Bad("wrong", WRONG, "name"), rest.post(f"{prefix}{KEYS}", content=b'{"name": 5}'))
    check(Bad("wrong", WRONG, "limit"), rest.get(f"{prefix}{KEYS}?limit=x"))
    assert make(rest, "x", f"{prefix}{KEYS}").startswith("key_")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/grpc"])
def test_a_body_is_json_whatever_it_says_it_is(rest: httpx.Client, kind: str) -> None:
    answer = rest.post(KEYS, content=b'{"name": "x"}', headers={"content-type": kind})
    assert (answer.status_code, answer.json()["data"]["name"]) == (201, "x")


def test_a_body_may_come_in_pieces(rest: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        yield from (b'{"na', b'me": ', b'"x"', b"}")

    assert rest.post(KEYS, content=pieces()).json()["data"]["name"] == "x"


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_413(rest: httpx.Client, declared: bool) -> None:
    def pieces() -> Iterator[bytes]:
        yield from (b" " * MEGABYTE for _ in range(40))

    check(Bad("large", TOO_LARGE), rest.post(KEYS, content=b" " * 40 * MEGABYTE if declared else pieces()))


def test_null_counts_as_absent_and_what_no_field_knows_is_ignored(rest: httpx.Client) -> None:
    body = {"name": "x", "expires_in_days": None, "scopes": None, "unknown": {"a": [1]}, "id": 5, "http_body": "x"}
    assert rest.post(KEYS, json=body).json()["data"]["scopes"] == ["read", "write"]


def test_text_survives_as_it_was_sent(rest: httpx.Client) -> None:
    name = "Łódź \U0001f600 \u2028 \"quoted\" \\ 'x'"
    assert rest.post(KEYS, content=json.dumps({"name": name})).json()["data"]["name"] == name
    assert listed(rest)["data"][0]["name"] == name


# --- paths


def test_the_path_wins_over_body_and_query(rest: httpx.Client) -> None:
    first, second = make(rest, "first"), make(rest, "second")
    for method in ("PATCH", "POST"):
        for other in (second, 5, None):
            body = {"name": f"by {method}", "id": other}
            answer = rest.request(method, f"{KEYS}/{first}?id={second}&name=query", json=body)
            assert (answer.json()["data"]["id"], answer.json()["data"]["name"]) == (first, f"by {method}")
    assert rest.delete(f"{KEYS}/{first}?id={second}").status_code == 204
    assert {row["id"]: row["is_active"] for row in listed(rest)["data"]} == {first: False, second: True}


def test_an_id_that_is_no_text_is_refused(rest: httpx.Client) -> None:
    check(Bad("bytes", WRONG), rest.delete(f"{KEYS}/%ff"))


def test_an_update_changes_what_it_names_and_null_is_no_name(rest: httpx.Client) -> None:
    id_ = make(rest, "name")
    assert rest.patch(f"{KEYS}/{id_}").json()["data"]["name"] == "name"
    assert rest.patch(f"{KEYS}/{id_}", json={"scopes": ["read"]}).json()["data"]["name"] == "name"
    check(Bad("null", WRONG, "name"), rest.patch(f"{KEYS}/{id_}", json={"name": None}))


def test_strangers_keys_are_not_there(server: JanServer, rest: httpx.Client) -> None:
    mine = make(rest, "mine")
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {server.token()}"}) as other:
        own = make(other, "own")
        check(Bad("foreign", NOT_FOUND), other.patch(f"{KEYS}/{mine}", json={"name": "x", "id": own}))
        check(Bad("foreign", NOT_FOUND), other.delete(f"{KEYS}/{mine}?id={own}"))
        check(Bad("foreign", NO_CURSOR, "after"), other.get(f"{KEYS}?after={mine}"))
        assert [row["id"] for row in listed(other)["data"]] == [own]
    assert [row["name"] for row in listed(rest)["data"]] == ["mine"]


# --- queries


@pytest.mark.parametrize(
    ("query", "deserves", "param"),
    [
        ("limit=x", WRONG, "limit"),
        ("limit=5.0", WRONG, "limit"),
        ("limit=%2B5", WRONG, "limit"),
        ("limit=true", WRONG, "limit"),
        ("offset=-1", WRONG, "offset"),
        ("offset=one", WRONG, "offset"),
        ("offset=0&after=key_x", WRONG, "after"),
        ("order=up", WRONG, "order"),
        ("order=DESC", WRONG, "order"),
        ("after=key_x", NO_CURSOR, "after"),
        ("after=%00", NO_CURSOR, "after"),
        ("after=%27%20OR%201%3D1", NO_CURSOR, "after"),
        ("after=%ff", WRONG, None),
    ],
)
def test_a_wrong_parameter_of_a_list_is_named(
    rest: httpx.Client, query: str, deserves: tuple[int, str, str], param: str | None
) -> None:
    check(Bad(query, deserves, param), rest.get(f"{KEYS}?{query}"))


@pytest.mark.parametrize(
    "query", ["", "?", "?limit=&after=&offset=&order=", "?unknown=1&Limit=x", "?limit=1000000", "?limit", "?user_id=me"]
)
def test_what_is_not_given_or_not_known_changes_nothing(rest: httpx.Client, query: str) -> None:
    id_ = make(rest, "only")
    assert [row["id"] for row in listed(rest, query)["data"]] == [id_]


def test_a_list_is_walked_by_its_cursor_and_by_offsets(rest: httpx.Client) -> None:
    ids = [make(rest, f"key {number}") for number in range(5)]
    first = listed(rest, "?order=asc&limit=2")
    assert {name: value for name, value in first.items() if name != "data"} == {
        "object": "list",
        "first_id": ids[0],
        "last_id": ids[1],
        "has_more": True,
        "total_count": 5,
        "next_after": ids[1],
    }
    rest_of_it = listed(rest, f"?order=asc&after={first['next_after']}")
    assert [row["id"] for row in rest_of_it["data"]] == ids[2:]
    assert (rest_of_it["has_more"], rest_of_it.get("next_after")) == (False, None)
    assert [row["id"] for row in listed(rest, "?limit=-3&offset=1")["data"]] == [ids[3]]
    assert (listed(rest, "?offset=99")["data"], listed(rest, "?offset=99")["total_count"]) == ([], 5)


def test_the_query_of_a_method_with_a_body_is_not_read(rest: httpx.Client) -> None:
    for content in (b"", b"{}"):
        check(Bad("in the query", WRONG, "name"), rest.post(f"{KEYS}?name=x", content=content))
    assert rest.post(f"{KEYS}?name=5&scopes=fly", json={"name": "x"}).json()["data"]["name"] == "x"


@pytest.mark.parametrize("body", [b"{}", b'{"limit":"x"}', b"{", b"[1]", b"\xff\0"])
def test_the_body_of_a_method_without_one_is_not_read(rest: httpx.Client, body: bytes) -> None:
    id_ = make(rest, "x")
    assert rest.request("GET", KEYS, content=body).json()["total_count"] == 1
    assert rest.request("GET", "/auth/me", content=body).status_code == 200
    assert rest.request("DELETE", f"{KEYS}/{id_}", content=body).status_code == 204


@pytest.mark.parametrize("path", ["/auth/me", "/v1/users/me", "/llm/v1/users/me"])
def test_both_paths_of_a_method_lead_to_it(rest: httpx.Client, path: str) -> None:
    assert rest.get(f"{path}?id=usr_other&unknown=1").json()["data"]["is_guest"] is True


def test_a_client_cannot_say_what_the_gateway_says(server: JanServer, rest: httpx.Client) -> None:
    make(rest, "only")
    claims = {"x-envoy-original-path": f"{KEYS}?limit=x", "x-envoy-original-method": "POST"}
    assert rest.get(KEYS, headers=claims).json()["total_count"] == 1
