"""Statuses and error bodies of the gateway, its own and those of services."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.rest.edge_rig import (
    TOO_LARGE,
    UNAUTHORIZED,
    UNAVAILABLE,
    Rig,
    chat,
    error,
    raw,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("InvalidRequest", (400, "invalid_request_error", "invalid_parameter")),
        ("Unauthenticated", UNAUTHORIZED),
        ("PermissionDenied", (403, "permission_error", "forbidden")),
        ("NotFound", (404, "not_found_error", "not_found")),
        ("MethodNotAllowed", (405, "invalid_request_error", "method_not_allowed")),
        ("RequestTimeout", (408, "timeout_error", "request_timeout")),
        ("Conflict", (409, "conflict_error", "conflict")),
        ("TooLarge", TOO_LARGE),
        ("RateLimited", (429, "rate_limit_error", "rate_limit_exceeded")),
        ("Internal", (500, "internal_error", "server_error")),
        ("NotImplementedYet", (501, "not_implemented_error", "not_implemented")),
        ("UpstreamFailed", (502, "upstream_error", "upstream_error")),
        ("Unavailable", UNAVAILABLE),
        ("UpstreamTimeout", (504, "timeout_error", "upstream_timeout")),
    ],
)
async def test_an_error_of_a_service_keeps_its_status_and_words(
    http: httpx.AsyncClient, rig: Rig, name: str, expected: tuple[int, str, str]
) -> None:
    answer = await chat(http, rig, fail=name, **{"with": {"message": 'It "is" é', "param": "messages[0]"}})
    assert error(answer) == expected
    assert answer.json()["error"]["message"] == 'It "is" é'
    assert answer.json()["error"]["param"] == "messages[0]"
    assert answer.headers.get("www-authenticate") == ("Bearer" if name == "Unauthenticated" else None)


async def test_retry_after_of_a_service_is_kept(http: httpx.AsyncClient, rig: Rig) -> None:
    answer = await chat(http, rig, fail="RateLimited", **{"with": {"message": "slow", "retry_after": 7}})
    assert answer.headers["retry-after"] == "7"


async def test_a_typed_method_fails_in_the_same_words(http: httpx.AsyncClient, rig: Rig) -> None:
    answer = await http.get("/v1/models/missing", headers=rig.bearer())
    assert error(answer) == (404, "not_found_error", "model_not_found")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("UNKNOWN", (500, "internal_error", "server_error")),
        ("INTERNAL", (500, "internal_error", "server_error")),
        ("DEADLINE_EXCEEDED", (504, "timeout_error", "upstream_timeout")),
        ("UNAVAILABLE", UNAVAILABLE),
        ("UNIMPLEMENTED", (501, "not_implemented_error", "not_implemented")),
    ],
)
async def test_an_error_without_an_envelope_gets_one(
    http: httpx.AsyncClient, rig: Rig, code: str, expected: tuple[int, str, str]
) -> None:
    assert error(await chat(http, rig, bare=code)) == expected


async def test_an_unexpected_exception_leaks_nothing(http: httpx.AsyncClient, rig: Rig) -> None:
    answer = await chat(http, rig, **{"raise": True})
    assert error(answer) == (500, "internal_error", "server_error")
    assert "secret" not in answer.text


@pytest.mark.parametrize("body", ["{", '{"title":', "nope", '{"title":"x"} x', "{}{}"])
async def test_a_body_that_is_not_json_is_invalid_json(http: httpx.AsyncClient, rig: Rig, body: str) -> None:
    answer = await http.post("/v1/notes", content=body, headers=rig.bearer())
    assert error(answer) == (400, "invalid_request_error", "invalid_json")
    assert "\n" not in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [('{"count":"abc"}', "count"), ('{"count":-1}', "count"), ('{"done":3}', "done"), ('{"tags":[{}]}', "tags[0]"),
     ('{"title":{}}', "title"), ("[1]", None)],
)  # fmt: skip
async def test_a_value_of_the_wrong_type_is_named(
    http: httpx.AsyncClient, rig: Rig, body: str, param: str | None
) -> None:
    answer = await http.post("/v1/notes", content=body, headers=rig.bearer())
    assert error(answer) == (400, "invalid_request_error", "invalid_parameter")
    assert answer.json()["error"]["param"] == param


async def test_a_wrong_query_parameter_is_named_and_an_unknown_one_ignored(http: httpx.AsyncClient, rig: Rig) -> None:
    answer = await http.get("/v1/notes", params={"count": "abc"}, headers=rig.bearer())
    assert error(answer) == (400, "invalid_request_error", "invalid_parameter")
    assert answer.json()["error"]["param"] == "count"
    assert (await http.get("/v1/notes", params={"what": "ever"}, headers=rig.bearer())).status_code == 200


async def test_a_large_typed_answer_passes(http: httpx.AsyncClient, rig: Rig) -> None:
    answer = await http.post("/v1/notes", json={"title": "x" * 20_000_000}, headers=rig.bearer())
    assert len(answer.json()["title"]) == 20_000_000


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/x-www-form-urlencoded", "text/plain", "", "application/grpc",
     "application/grpc+json", "application/grpc-web", "application/grpc-web-text", "application/proto",
     "application/connect+proto"],
)  # fmt: skip
async def test_json_is_read_whatever_its_content_type(http: httpx.AsyncClient, rig: Rig, content_type: str) -> None:
    headers = {"content-type": content_type, "connect-protocol-version": "1", **rig.bearer()}
    answer = await http.post("/v1/notes", content='{"title":"x","extra":{"a":[1,null]}}', headers=headers)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"id": "", "title": "x", "count": 0, "done": False, "tags": [], "extra": {"a": [1, None]}}


async def test_errors_are_envelopes_whatever_the_content_type(http: httpx.AsyncClient, rig: Rig) -> None:
    grpc_ = {"content-type": "application/grpc"}
    refused = await http.post("/v1/chat/completions", headers=grpc_)
    assert error(refused) == UNAUTHORIZED
    assert refused.headers["www-authenticate"] == "Bearer"
    expired = await http.post("/v1/notes", headers={**grpc_, **rig.bearer(exp=1)})
    assert error(expired) == (401, "auth_error", "token_expired")
    wrong = await http.post("/v1/notes", content="{", headers={**grpc_, **rig.bearer()})
    assert error(wrong) == (400, "invalid_request_error", "invalid_json")
    missing = await http.get("/v1/models/missing", headers={**grpc_, **rig.bearer()})
    assert error(missing) == (404, "not_found_error", "model_not_found")


async def test_headers_that_steer_grpc_do_not_pass(http: httpx.AsyncClient, rig: Rig) -> None:
    steering = {
        "grpc-timeout": "1n", "grpc-encoding": "gzip", "grpc-accept-encoding": "x-sent", "grpc-anything": "1",
        "grpc-internal-encoding-request": "gzip", "connect-timeout-ms": "1", "connect-protocol-version": "1",
        "te": "x-sent", "x-picture-bin": "no base64",
    }  # fmt: skip
    answer = await http.post("/v1/chat/completions", json={}, headers={**steering, **rig.bearer()})
    received = answer.json()["received"]
    assert [name for name in received if name.startswith(("connect-", "x-edge-"))] == ["x-edge-address"]
    assert not [name for name in steering if "x-sent" in received.get(name, "")]
    assert not {"grpc-anything", "grpc-timeout", "grpc-encoding", "x-picture-bin"} & set(received)
    guest = await http.post("/auth/guest-login", headers=steering)
    assert (guest.status_code, "grpc-anything" in guest.json()["username"]) == (201, False)
    assert (await http.get("/v1/models", headers={**steering, **rig.bearer()})).status_code == 200


async def test_the_server_says_201_and_204(http: httpx.AsyncClient, rig: Rig) -> None:
    assert (await http.post("/auth/guest-login")).status_code == 201
    assert (await chat(http, rig, status=201)).status_code == 201
    deleted = await http.delete("/v1/notes/1", headers=rig.bearer())
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert not {"content-type", "content-length", "x-http-status"} & set(deleted.headers)


async def test_the_server_sends_a_browser_elsewhere(http: httpx.AsyncClient, rig: Rig) -> None:
    there = "https://app.test/signed-in#access_token=x"
    answer = await chat(http, rig, status=302, initial={"location": there})
    assert (answer.status_code, answer.headers["location"], answer.content) == (302, there, b"")
    assert not {"content-type", "x-http-status"} & set(answer.headers)


async def test_a_replay_is_marked_on_success_and_on_failure(http: httpx.AsyncClient, rig: Rig) -> None:
    replayed = {"idempotent-replayed": "true"}
    assert (await chat(http, rig, initial=replayed)).headers["idempotent-replayed"] == "true"
    assert (await chat(http, rig, initial=replayed, status=201)).status_code == 201
    failed = await chat(http, rig, fail="NotFound", trailing=replayed)
    assert (error(failed)[0], failed.headers["idempotent-replayed"]) == (404, "true")


async def test_an_error_after_initial_metadata_is_an_error_all_the_same(http: httpx.AsyncClient, rig: Rig) -> None:
    answer = await chat(http, rig, fail="Conflict", initial={"idempotent-replayed": "true"}, status=201)
    assert error(answer) == (409, "conflict_error", "conflict")
    assert answer.headers["idempotent-replayed"] == "true"


async def test_headers_that_are_too_large_are_431(rig: Rig) -> None:
    async with httpx.AsyncClient(base_url=rig.url) as http:
        answer = await http.get("/healthz", headers={"x": "a" * 70_000})
    assert error(answer) == (431, "size_error", "max_size_exceeded")


@pytest.mark.parametrize(
    "request_", [b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\nbad header: x\r\n\r\n"]
)
async def test_a_request_that_is_not_http_is_400(rig: Rig, request_: bytes) -> None:
    status, head, body = await raw(rig.settings.gateway_port, request_)
    assert (status, body["error"]["code"]) == (400, "invalid_parameter")
    assert f"x-request-id: {body['error']['request_id']}" in head


def frame(kind: int, stream: int, payload: bytes = b"", *, flags: int = 0) -> bytes:
    """A frame of HTTP/2."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def http2_get(stream: int, path: bytes, header: bytes) -> bytes:
    """A whole GET request with an empty header of this name."""
    fields = ((b":path", path), (b":authority", b"x"), (header, b""))
    literal = [b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields]
    return frame(1, stream, b"\x82\x86" + b"".join(literal), flags=0x5)


async def test_a_malformed_request_does_not_end_the_others_of_its_connection(rig: Rig) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.settings.gateway_port)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0))
    writer.write(http2_get(1, b"/healthz", b"UPPER") + http2_get(3, b"/healthz", b"lower"))
    reset, headers = 3, 1
    ends: dict[int, int] = {}
    async with asyncio.timeout(8):
        while len(ends) < 2:
            head = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(head[:3]))
            if head[3] in (reset, headers):
                ends[int.from_bytes(head[5:])] = head[3]
    writer.close()
    assert ends == {1: reset, 3: headers}


async def test_headers_that_come_too_slowly_are_408(rig: Rig) -> None:
    status, _, body = await raw(rig.settings.gateway_port, b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
    assert (status, body["error"]["code"]) == (408, "request_timeout")


async def test_a_body_that_comes_too_slowly_is_408(rig: Rig) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in rig.bearer().items())
    head = f"POST /v1/notes HTTP/1.1\r\nhost: x\r\n{lines}content-length: 1000\r\n\r\n".encode()
    status, _, body = await raw(rig.settings.gateway_port, head + b"{", drip=b" ")
    assert (status, body["error"]["code"]) == (408, "request_timeout")


async def test_a_generation_that_lasts_too_long_is_504(http: httpx.AsyncClient, rig: Rig) -> None:
    assert error(await chat(http, rig, hang=True)) == (504, "timeout_error", "upstream_timeout")
