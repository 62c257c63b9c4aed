"""What a body of MCP asks, by the rules of which era, and what is answered when that cannot be told (CONTRACT 11.1)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.mcp.json_rpc import VERSIONS, Headers, Reply, Request, fault, notification, read, result
from services.runtime.errors import InvalidRequest

NEW, OLD = "2026-07-28", "2025-11-25"
VERSION, CLIENT = "io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities"


def body(method: str = "tools/list", **members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, **members}


def envelope(version: Any = NEW, **params: Any) -> dict[str, Any]:
    return {"_meta": {VERSION: version, CLIENT: {}}, **params}


def modern(method: str = "tools/list", version: str = NEW, **named: str) -> dict[str, str]:
    return {"mcp-protocol-version": version, "mcp-method": method, **named}


def asked(message: Any, headers: dict[str, str] | None = None) -> Request | Reply:
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    return read(data, Headers(tuple((headers or {}).items())))


def request(message: Any, headers: dict[str, str] | None = None) -> Request:
    found = asked(message, headers)
    assert isinstance(found, Request), found
    return found


def refused(message: Any, headers: dict[str, str] | None = None) -> tuple[int, int, Any, Any]:
    """Status, code, id and data of the answer."""
    found = asked(message, headers)
    assert isinstance(found, Reply), found
    said = json.loads(found.body)
    assert said["jsonrpc"] == "2.0"
    assert said["error"]["message"]
    return found.status, said["error"]["code"], said["id"], said["error"].get("data")


# Which rules


def test_a_request_without_any_header_is_of_the_handshake_era() -> None:
    assert request(body()) == Request("tools/list", None, 1, OLD)
    assert not request(body()).modern


@pytest.mark.parametrize("version", ["2025-11-25", "2025-06-18", "2025-03-26"])
def test_a_revision_of_the_handshake_era_is_taken_from_its_header(version: str) -> None:
    assert request(body(), {"mcp-protocol-version": version}).version == version


def test_a_progress_token_alone_makes_no_request_modern() -> None:
    assert request(body(params={"_meta": {"progressToken": 1}})).version == OLD


def test_a_modern_request_says_so_in_its_body_and_its_headers() -> None:
    found = request(body(params=envelope()), modern())
    assert (found.version, found.modern, found.params) == (NEW, True, envelope())


def test_what_a_modern_tool_call_names_is_in_its_header_as_text_or_encoded() -> None:
    message = body("tools/call", params=envelope(name="süß", arguments={}))
    assert request(message, modern("tools/call", **{"mcp-name": "=?base64?c8O8w58=?="})).modern


# Modern checks


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"mcp-protocol-version": NEW},
        {"mcp-method": "tools/list"},
        modern("tools/call"),
        modern(version=OLD),
        modern(version="2027-01-01"),
    ],
)
def test_headers_that_are_missing_or_say_something_else_are_a_mismatch(headers: dict[str, str]) -> None:
    assert refused(body(params=envelope()), headers) == (400, -32020, 1, None)


@pytest.mark.parametrize("named", [{}, {"mcp-name": "scrape"}, {"mcp-name": ""}, {"mcp-name": "=?base64?!?="}])
def test_the_name_of_the_tool_has_to_match_too(named: dict[str, str]) -> None:
    message = body("tools/call", params=envelope(name="google_search"))
    assert refused(message, modern("tools/call", **named))[:2] == (400, -32020)


def test_a_header_that_is_there_twice_is_a_mismatch() -> None:
    pairs = (*modern().items(), ("mcp-method", "tools/call"))
    found = read(json.dumps(body(params=envelope())).encode(), Headers(pairs))
    assert isinstance(found, Reply)
    assert (found.status, json.loads(found.body)["error"]["code"]) == (400, -32020)


def test_a_revision_to_come_is_not_supported() -> None:
    told = {"supported": list(VERSIONS), "requested": "2027-01-01"}
    assert refused(body(params=envelope("2027-01-01")), modern(version="2027-01-01")) == (400, -32022, 1, told)
    assert refused(body(), modern(version="2027-01-01")) == (400, -32022, 1, told)


@pytest.mark.parametrize("meta", [None, {}, {VERSION: NEW}, {CLIENT: {}}, 5])
def test_a_modern_request_without_its_envelope_has_wrong_params(meta: Any) -> None:
    message = body(params={"_meta": meta} if meta is not None else {})
    assert refused(message, modern()) == (400, -32602, 1, {"field": "_meta"})


# Handshake-era checks


@pytest.mark.parametrize("version", ["2024-11-05", "1999-01-01", "banana", "", "9"])
def test_an_unknown_revision_is_not_supported(version: str) -> None:
    told = {"supported": list(VERSIONS), "requested": version}
    assert refused(body(), {"mcp-protocol-version": version}) == (400, -32022, 1, told)


# Without id


@pytest.mark.parametrize("method", ["notifications/initialized", "notifications/cancelled", "notifications/anything"])
@pytest.mark.parametrize("headers", [{}, {"mcp-protocol-version": OLD}, {"mcp-protocol-version": NEW}])
def test_a_notification_is_one_in_either_era(method: str, headers: dict[str, str]) -> None:
    found = request({"jsonrpc": "2.0", "method": method, "params": {"requestId": 1}}, headers)
    assert found.is_notification


def test_a_notification_of_an_unknown_revision_is_refused() -> None:
    message = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    for version in ("2027-01-01", "1999-01-01"):
        assert refused(message, {"mcp-protocol-version": version})[:3] == (400, -32022, None)


def test_any_other_method_without_id_wants_an_answer() -> None:
    message = {"jsonrpc": "2.0", "method": "tools/list"}
    assert not request(message).is_notification
    assert request(message).id is None
    assert not request(body("notifications/initialized")).is_notification  # it has an id


# Bad bodies


@pytest.mark.parametrize(
    "data", [b"", b"{", b"{} {}", b'{"a":NaN}', b"\xff", b"'", b"[" * 2000, b'{"a":' * 300 + b"1" + b"}" * 300]
)
def test_what_cannot_be_parsed_is_a_parse_error(data: bytes) -> None:
    assert refused(data)[:3] == (400, -32700, None)


@pytest.mark.parametrize("message", [[], [body()], 5, "tools/list", None, True, {}])
def test_what_is_no_request_object_is_invalid(message: Any) -> None:
    assert refused(message)[:3] == (400, -32600, None)


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"jsonrpc": "1.0"}, 1),
        ({"jsonrpc": None}, 1),
        ({"method": 5}, 1),
        ({"method": None, "result": {}}, 1),
        ({"id": 1.5}, None),
        ({"id": True}, None),
        ({"id": {}}, None),
        ({"id": 2**70}, None),
    ],
)
def test_a_request_object_has_its_three_members(members: dict[str, Any], told: Any) -> None:
    assert refused({**body(), **members})[:3] == (400, -32600, told)


@pytest.mark.parametrize("params", [[], "q", 5, True])
def test_params_are_an_object(params: Any) -> None:
    assert refused(body(params=params)) == (200, -32602, 1, {"field": "params"})


@pytest.mark.parametrize("given", ["a", "", 0, -1, 2**60, "süß"])
def test_an_id_comes_back_as_it_was(given: Any) -> None:
    assert request(body(id=given)).id == given
    assert json.loads(result(given, {}).body)["id"] == given


def test_a_body_of_a_million_tiny_values_is_refused_before_it_costs_seconds() -> None:
    with pytest.raises(InvalidRequest, match="100,000"):
        asked(body(params={"a": [0] * 200_000}))


# Progress, answers


@pytest.mark.parametrize(
    ("meta", "token"),
    [({"progressToken": "a"}, "a"), ({"progressToken": 0}, 0), ({"progressToken": True}, None), ({}, None), (5, None)],
)
def test_the_progress_token_is_text_or_an_integer(meta: Any, token: Any) -> None:
    assert request(body(params={"_meta": meta})).progress_token == token


def test_answers_are_messages_of_json_rpc() -> None:
    assert result(None, {"a": 1}) == Reply(b'{"jsonrpc":"2.0","id":null,"result":{"a":1}}', 200)
    assert json.loads(fault(-1, "no", id="x").body) == {
        "jsonrpc": "2.0",
        "id": "x",
        "error": {"code": -1, "message": "no"},
    }
    assert json.loads(notification("notifications/progress", {"progress": 1})) == {
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": {"progress": 1},
    }


def test_binary_headers_are_none_of_ours() -> None:
    headers = Headers.of([("origin", "a"), ("x-bin", b"\0"), ("origin", "b")])
    assert headers.pairs == (("origin", "a"), ("origin", "b"))
    assert headers.first["origin"] == "a"
