"""What nobody should send: each of it is answered with the one error body there is, and with nothing in the log but the
line that every request leaves (CONTRACT 2)."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.fake_upstream import FakeUpstream
from tests.rest.server import JanServer, eventually

HELLO = [{"role": "user", "content": "a word in confidence"}]
FORTY_MEGABYTES = 40 * 1024 * 1024
WRONG, NO_JSON = (400, "invalid_request_error", "invalid_parameter"), (400, "invalid_request_error", "invalid_json")
NO_MODEL = (404, "not_found_error", "model_not_found")
NO_ROUTE = (404, "not_found_error", "route_not_found")
TOO_LARGE = (413, "size_error", "max_size_exceeded")
REFUSED, EXPIRED = (401, "auth_error", "unauthorized"), (401, "auth_error", "token_expired")
CHAT, COMPLETIONS, EMBEDDINGS, LOGIN = "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/auth/guest-login"

Content = bytes | Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Bad:
    """A request and what it deserves: status, type and code, and the parameter to blame."""

    name: str
    deserves: tuple[int, str, str]
    param: str | None = None
    content: Content = b""
    path: str = CHAT
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)

    def send(self, rest: httpx.Client, **headers: str) -> httpx.Response:
        content = self.content if isinstance(self.content, bytes) else self.content()
        return rest.request(self.method, self.path, content=content, headers=self.headers | headers)


def chat(**changes: Any) -> bytes:
    """A good chat request, but for these."""
    return json.dumps({"model": "fake", "messages": HELLO} | changes).encode()


def message(value: Any) -> bytes:
    return chat(messages=[*HELLO, value])


def nested(depth: int) -> bytes:
    return b'{"model":"fake","messages":[{"role":"user","content":"x"}],"extra":' + b"[" * depth + b"]" * depth + b"}"


def pieces() -> Iterator[bytes]:
    yield b'{"model": "'
    for _ in range(40):
        yield b"m" * (FORTY_MEGABYTES // 40)
    yield b'"}'


def not_json(path: str) -> list[Bad]:
    """Bodies that are no JSON object, for one path."""
    bodies = {
        "half an object": b'{"model": "fake"',
        "words": b"hello there",
        "bytes after the end": chat() + b"x",
        "two values": chat() + chat(),
        "a byte order mark": b"\xef\xbb\xbf" + chat(),
        "UTF-16": chat().decode().encode("utf-16"),
        "UTF-8 that is none": b'{"model": "\xff\xfe"}',
        "a naked NUL": b'{"model": "a\0b"}',
        "only a NUL": b"\0",
        "NaN": b'{"temperature": NaN}',
        "half a surrogate pair": b'{"model": "\\ud800"}',
        "nesting without end": b"[" * 100_000,
        "a form": b"model=fake&messages=hello",
        "a compressed body": gzip.compress(chat()),
    }
    return [Bad(f"{name} to {path}", NO_JSON, None, body, path) for name, body in bodies.items()]


BODIES = [
    *(bad for path in (CHAT, COMPLETIONS, EMBEDDINGS, LOGIN) for bad in not_json(path)),
    Bad("an array", WRONG, None, b"[]"),
    Bad("a number", WRONG, None, b"5"),
    Bad("null", WRONG, None, b"null"),
    Bad("an array to a typed method", WRONG, None, b"[]", LOGIN),
    Bad("nothing", WRONG, "model", b""),
    Bad("an empty object", WRONG, "model", b"{}"),
    Bad("no model", WRONG, "model", json.dumps({"messages": HELLO}).encode()),
    Bad("a model that is a number", WRONG, "model", chat(model=5)),
    Bad("a model without name", WRONG, "model", chat(model="")),
    Bad("a model with a long name", WRONG, "model", chat(model="m" * 300)),
    Bad("a model nobody knows", NO_MODEL, "model", chat(model="nobody")),
    Bad("a model with a NUL", NO_MODEL, "model", chat(model="fake\0")),
    Bad("a model in another script", NO_MODEL, "model", chat(model="Łódź\r\n\u2028\U0001f600")),
    Bad("the model twice", NO_MODEL, "model", b'{"model":"fake",' + chat(model="nobody")[1:]),
    Bad("no messages", WRONG, "messages", json.dumps({"model": "fake"}).encode()),
    Bad("an empty conversation", WRONG, "messages", chat(messages=[])),
    Bad("messages that are an object", WRONG, "messages", chat(messages={})),
    Bad("a message that is a string", WRONG, "messages[1]", message("hello")),
    Bad("a message without role", WRONG, "messages[1].role", message({"content": "x"})),
    Bad("a message of nobody we know", WRONG, "messages[1].role", message({"role": "king", "content": "x"})),
    Bad("a message without content", WRONG, "messages[1].content", message({"role": "user"})),
    Bad("content that is a number", WRONG, "messages[1].content", message({"role": "user", "content": 5})),
    Bad("a part without type", WRONG, "messages[1].content[0].type", message({"role": "user", "content": [{}]})),
    Bad(
        "an image without address",
        WRONG,
        "messages[1].content[0].image_url.url",
        message({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}),
    ),
    Bad("a tool's answer to no call", WRONG, "messages[1].tool_call_id", message({"role": "tool", "content": "x"})),
    Bad("stream: yes", WRONG, "stream", chat(stream="yes")),
    Bad("stream: 1", WRONG, "stream", chat(stream=1)),
    Bad("a temperature in words", WRONG, "temperature", chat(temperature="hot")),
    Bad("a temperature too high", WRONG, "temperature", chat(temperature=3)),
    Bad("a number in quotes", WRONG, "n", chat(n="5")),
    Bad("half a choice", WRONG, "n", chat(n=1.5)),
    Bad("a negative limit", WRONG, "max_tokens", chat(max_tokens=-1)),
    Bad("a true limit", WRONG, "max_tokens", chat(max_tokens=True)),
    Bad("a seed without end", WRONG, "seed", chat(seed=10**40)),
    Bad("tools that are a number", WRONG, "tools", chat(tools=5)),
    Bad("a tool without name", WRONG, "tools[0].function.name", chat(tools=[{"type": "function", "function": {}}])),
    Bad("a format nobody knows", WRONG, "response_format.type", chat(response_format={"type": "xml"})),
    Bad("stream options that are a list", WRONG, "stream_options", chat(stream_options=[])),
    Bad("nesting that is too deep", NO_JSON, None, nested(5000)),
    Bad("nesting that is a little too deep", NO_JSON, None, nested(600)),
    Bad("no prompt", WRONG, "prompt", b'{"model": "fake"}', COMPLETIONS),
    Bad("a prompt that is an object", WRONG, "prompt", b'{"model": "fake", "prompt": {}}', COMPLETIONS),
    Bad("no input", WRONG, "input", b'{"model": "fake"}', EMBEDDINGS),
    Bad("an empty input", WRONG, "input", b'{"model": "fake", "input": []}', EMBEDDINGS),
    Bad("too many inputs", WRONG, "input", json.dumps({"model": "fake", "input": ["x"] * 2049}).encode(), EMBEDDINGS),
    Bad("an input that is true", WRONG, "input", b'{"model": "all-minilm-l6-v2", "input": true}', EMBEDDINGS),
    Bad("an input of objects", WRONG, "input[0]", b'{"model": "all-minilm-l6-v2", "input": [{}]}', EMBEDDINGS),
    Bad(
        "an unknown encoding",
        WRONG,
        "encoding_format",
        b'{"model":"fake","input":"x","encoding_format":"hex"}',
        EMBEDDINGS,
    ),
    Bad("forty declared megabytes", TOO_LARGE, None, b" " * FORTY_MEGABYTES),
    Bad("forty megabytes in pieces", TOO_LARGE, None, pieces),
    Bad("forty declared megabytes to a typed method", TOO_LARGE, None, b" " * FORTY_MEGABYTES, LOGIN),
]
ROUTES = [
    Bad("GET where only POST is", NO_ROUTE, method="GET"),
    Bad("PUT where only POST is", NO_ROUTE, method="PUT"),
    Bad("DELETE where only GET is", NO_ROUTE, method="DELETE", path="/v1/models/fake"),
    Bad("PATCH where nothing can change", NO_ROUTE, method="PATCH", path="/v1/models"),
    Bad("an unknown path", NO_ROUTE, method="GET", path="/v1/nothing"),
    Bad("an unknown path with a body", NO_ROUTE, content=b"{", path="/v1/nothing"),
    Bad("a trailing slash", NO_ROUTE, path=f"{CHAT}/"),
    Bad("a double slash", NO_ROUTE, method="GET", path="/v1//nothing"),
    Bad("the way to a file", NO_ROUTE, method="GET", path="/v1/..%2f..%2fetc/passwd"),
    Bad("a gRPC path without gRPC", NO_ROUTE, content=b"{}", path="/jan.llm.v1.ChatService/CreateChatCompletion"),
    Bad("a path of Envoy's", NO_ROUTE, method="GET", path="/server_info"),
    Bad("metrics on a public port", NO_ROUTE, method="GET", path="/metrics"),
    Bad("a model that does not exist", NO_MODEL, "model", method="GET", path="/v1/models/nobody"),
    Bad("a model whose name is no text", NO_MODEL, "model", method="GET", path="/v1/models/a%20%7B%22b"),
]


def check(bad: Bad, answer: httpx.Response) -> None:
    """The answer is the documented one to the letter."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) == {"type", "code", "message", "param", "request_id"}
    assert ((answer.status_code, error["type"], error["code"]), error["param"]) == (bad.deserves, bad.param), error
    assert error["request_id"] == answer.headers["x-request-id"]
    assert isinstance(error["message"], str)
    assert 0 < len(error["message"]) < 1000
    for secret in ("Traceback", "services/", ".py", "127.0.0.1", ".sock", "grpc", "Envoy", "object at 0x"):
        assert secret not in answer.text.replace(bad.path, "")


@pytest.mark.parametrize("bad", BODIES, ids=lambda bad: bad.name)
def test_a_bad_body_is_explained(rest: httpx.Client, upstream: FakeUpstream, bad: Bad) -> None:
    check(bad, bad.send(rest))
    assert upstream.posts == []


@pytest.mark.parametrize("bad", ROUTES, ids=lambda bad: bad.name)
def test_what_does_not_exist_is_not_found(rest: httpx.Client, bad: Bad) -> None:
    check(bad, bad.send(rest))


@pytest.mark.parametrize("bad", ROUTES, ids=lambda bad: bad.name)
def test_strangers_learn_no_more(rest: httpx.Client, bad: Bad) -> None:
    if bad.deserves == NO_MODEL:
        bad = Bad(bad.name, REFUSED, method=bad.method, path=bad.path)
    del rest.headers["authorization"]
    check(bad, bad.send(rest))


# --- tokens


def forged(server: JanServer, *, own_key: bool = False, **changes: Any) -> str:
    """A token like ours, but for these claims, and signed by somebody else unless `own_key`."""
    token = server.token()
    header, claims = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})
    key: Any = ec.generate_private_key(ec.SECP256R1())
    if own_key:
        key = load_pem_private_key((server.data_dir / "keys" / f"{header['kid']}.pem").read_bytes(), None)
    return jwt.encode({**claims, **changes}, key, algorithm="ES256", headers={"kid": header["kid"]})


def unsigned(server: JanServer) -> str:
    claims = jwt.decode(server.token(), options={"verify_signature": False})
    return jwt.encode(claims, None, algorithm="none")


def signed_with_the_public_key(server: JanServer) -> str:
    """The old trick: HMAC with the key that everybody may read."""
    public = server.get("/.well-known/jwks.json").json()["keys"][0]
    head, body = (
        {"alg": "HS256", "kid": public["kid"]},
        jwt.decode(server.token(), options={"verify_signature": False}),
    )
    return jwt.api_jws.encode(json.dumps(body).encode(), public["x"].encode() * 2, "HS256", headers=head)


def tampered(server: JanServer) -> str:
    head, body, signature = server.token().split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    body = base64.urlsafe_b64encode(json.dumps(claims | {"roles": ["admin"]}).encode()).decode().rstrip("=")
    return f"{head}.{body}.{signature}"


TOKENS: dict[str, tuple[Callable[[JanServer], str | None], tuple[int, str, str]]] = {
    "no token": (lambda server: None, REFUSED),
    "no scheme": (lambda server: server.token(), REFUSED),
    "an empty token": (lambda server: "Bearer", REFUSED),
    "another scheme": (lambda server: f"Basic {server.token()}", REFUSED),
    "words": (lambda server: "Bearer let me in", REFUSED),
    "a key": (lambda server: "Bearer sk_live_0123456789", REFUSED),
    "a forged token": (lambda server: f"Bearer {forged(server)}", REFUSED),
    "a tampered token": (lambda server: f"Bearer {tampered(server)}", REFUSED),
    "an unsigned token": (lambda server: f"Bearer {unsigned(server)}", REFUSED),
    "a token signed with our public key": (lambda server: f"Bearer {signed_with_the_public_key(server)}", REFUSED),
    "a token for somebody else": (lambda server: f"Bearer {forged(server, own_key=True, aud='other')}", REFUSED),
    "a token of somebody else": (lambda server: f"Bearer {forged(server, own_key=True, iss='other')}", REFUSED),
    "a token that has expired": (
        lambda server: f"Bearer {forged(server, own_key=True, exp=time.time() - 61)}",
        EXPIRED,
    ),
    "a token of tomorrow": (
        lambda server: f"Bearer {forged(server, own_key=True, nbf=time.time() + 3600)}",
        REFUSED,
    ),
}


@pytest.mark.parametrize("name", TOKENS)
def test_a_bad_token_is_refused(server: JanServer, upstream: FakeUpstream, name: str) -> None:
    make, deserves = TOKENS[name]
    token = make(server)
    headers = {} if token is None else {"authorization": token}
    with httpx.Client(base_url=server.url) as stranger:
        for path, content in ((CHAT, chat()), ("/v1/models", b""), ("/auth/me", b"")):
            bad = Bad(name, deserves, None, content, path, "POST" if content else "GET", headers)
            answer = bad.send(stranger)
            check(bad, answer)
            assert answer.headers["www-authenticate"] == "Bearer"
    assert upstream.posts == []


# --- below HTTP


def raw(server: JanServer, request: bytes) -> httpx.Response:
    """The answer to these bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())


TORN = {
    "a header with a NUL": b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-a: b\0c\r\n\r\n",
    "a path with a NUL": b"GET /v1/mod\0els HTTP/1.1\r\nhost: x\r\n\r\n",
    "no HTTP": b"hello there\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64 + b"\r\n\r\n",
    "two lengths": b"POST /v1/models HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "a length beside pieces": b"POST /v1/models HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n"
    b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a method nobody knows": b"BREW /v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
    "no host": b"GET /v1/models HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", TORN)
def test_what_is_no_request_is_400(server: JanServer, name: str) -> None:
    check(Bad(name, WRONG), raw(server, TORN[name]))


def test_headers_without_end_are_431(server: JanServer) -> None:
    request = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-a: " + b"a" * 70_000 + b"\r\n\r\n"
    check(Bad("large", (431, "size_error", "max_size_exceeded")), raw(server, request))


def test_a_query_without_end_is_431(server: JanServer) -> None:
    request = b"GET /v1/models?" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n"
    check(Bad("large", (431, "size_error", "max_size_exceeded")), raw(server, request))


# --- the log


def test_bad_requests_leave_one_line_each(server: JanServer, rest: httpx.Client) -> None:
    before, errors = len(server.access_log()), server.errors
    sent = {f"bad-{number}": bad for number, bad in enumerate([*BODIES, *ROUTES])}
    for name, bad in sent.items():
        bad.send(rest, **{"x-request-id": name})

    def mine() -> list[dict[str, Any]]:
        return [line for line in server.access_log()[before:] if line["request_id"] in sent]

    lines = eventually(lambda: (found := mine()) and len(found) >= len(sent) and found)
    assert {line["request_id"]: line["status"] for line in lines} == {
        name: bad.deserves[0] for name, bad in sent.items()
    }
    assert len(lines) == len(sent)
    assert server.errors == errors
    assert "confidence" not in server.out
    assert rest.headers["authorization"].rpartition(".")[2] not in server.out


@pytest.mark.parametrize("name", ["x-note", "x-note-bin"])
def test_a_header_that_is_no_text_is_nobody_s_fault(server: JanServer, rest: httpx.Client, name: str) -> None:
    errors = server.errors
    assert rest.get("/v1/models", headers={name.encode(): b"a word in confidence \xff"}).status_code == 200
    assert server.errors == errors
