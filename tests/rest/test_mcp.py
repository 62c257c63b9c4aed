"""MCP through the whole server, with two workers: official clients, plain requests, administration."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import httpx
import httpx2
import pytest
from google.protobuf import json_format
from jan.mcp.v1 import tools_pb2, tools_pb2_grpc
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from tests.rest.server import JanServer, eventually
from tests.sandbox import compiled_python  # noqa: F401  # a fixture

EMAIL, PASSWORD = "root@example.com", "correct horse battery staple"
LOOKS = 20
"""As many requests reach every worker, as good as certainly."""
NEW = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": NEW, "io.modelcontextprotocol/clientCapabilities": {}}
BUILTIN = {"file_search_delete", "file_search_index", "file_search_query", "google_search", "python_exec", "scrape"}

pytestmark = pytest.mark.patience(120)


class Site(BaseHTTPRequestHandler):
    """A page, and one that never comes."""

    asked = threading.Event()
    left = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/never":
            Site.asked.set()
            with suppress(ConnectionError):
                assert self.connection.recv(1) == b""  # until the client has left
            Site.left.set()
            return
        page = b"<html><head><title>A page</title></head><body><p>Some words to read, and some more.</p></body></html>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(page)))
        self.end_headers()
        self.wfile.write(page if self.path == "/page" else b"")

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, compiled_python: Path) -> Iterator[JanServer]:  # noqa: F811
    server = JanServer(
        tmp_path_factory.mktemp("house"),
        WORKERS="2",
        RATE_LIMIT_PER_MINUTE="60000",
        ADMIN_EMAIL=EMAIL,
        ADMIN_PASSWORD=PASSWORD,
        MEDIA_REMOTE_ALLOW_HOSTS="127.0.0.1",
        CORS_ALLOWED_ORIGINS="https://app.example",
    )
    server.settings["PUBLIC_BASE_URL"] = server.url  # URLs of figures lead there
    with server:
        yield server


@pytest.fixture
def user(house: JanServer) -> Iterator[httpx.Client]:
    with closing(client(house, house.token())) as http:
        yield http


@pytest.fixture
def boss(house: JanServer) -> Iterator[httpx.Client]:
    answer = httpx.post(f"{house.url}/auth/login", json={"email": EMAIL, "password": PASSWORD})
    with closing(client(house, answer.json()["access_token"])) as http:
        yield http


def client(server: JanServer, token: str) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {token}"}, timeout=20)


def post(http: httpx.Client, method: str, path: str = "/v1/mcp", **members: Any) -> httpx.Response:
    headers = members.pop("headers", {})
    return http.post(path, json={"jsonrpc": "2.0", "id": 1, "method": method, **members}, headers=headers)


def result(answer: httpx.Response) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json"), answer.text
    said = answer.json()
    assert (said["jsonrpc"], said["id"]) == ("2.0", 1)
    return dict(said["result"])


def run(http: httpx.Client, name: str, **arguments: Any) -> dict[str, Any]:
    """What a tool says, well or not."""
    call = {"name": name, "arguments": arguments}
    return dict(result(post(http, "tools/call", params=call))["structuredContent"])


def fault(answer: httpx.Response) -> tuple[int, int]:
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert answer.headers["x-auth-method"] == "jwt"
    return answer.status_code, answer.json()["error"]["code"]


def key(house: JanServer, scopes: list[str]) -> str:
    with closing(client(house, house.token())) as http:
        return str(http.post("/auth/api-keys", json={"name": "a key", "scopes": scopes}).json()["data"]["key"])


# The official client


@asynccontextmanager
async def connected(url: str, mode: str, header: tuple[str, str]) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers=dict([header]), timeout=20) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


@pytest.mark.parametrize("mode", ["legacy", "auto", NEW])
@pytest.mark.parametrize("credential", ["token", "key"])
async def test_the_official_client_lists_and_calls_every_tool(
    house: JanServer, site: str, mode: str, credential: str
) -> None:
    header = ("authorization", f"Bearer {house.token()}")
    if credential == "key":
        header = ("x-api-key", key(house, ["read", "write"]))
    async with connected(f"{house.url}/v1/mcp", mode, header) as client:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == BUILTIN
        assert [tool.name for tool in tools] == sorted(tool.name for tool in tools)
        assert all(tool.title and tool.description and tool.input_schema["type"] == "object" for tool in tools)

        async def call(name: str, **arguments: Any) -> dict[str, Any]:
            said = await client.call_tool(name, arguments)
            assert not said.is_error, said
            return dict(said.structured_content or {})

        assert (await call("google_search", q="jan"))["live"] is False
        assert (await call("scrape", url=f"{site}/page"))["title"] == "A page"
        text = await call("file_search_index", text="Green tea is brewed at eighty degrees.")
        found = await call("file_search_query", query="How hot should the water be?")
        assert [passage["document_id"] for passage in found["results"]] == [text["document_id"]]
        assert (await call("file_search_delete", document_ids=[text["document_id"]]))["count"] == 1
        ran = await call("python_exec", code="x = 6")
        assert (await call("python_exec", code="x * 7", session_id=ran["session_id"]))["stdout"] == "42\n"
        with pytest.raises(MCPError) as error:
            await client.call_tool("nothing", {})
        assert (error.value.error.code, error.value.error.data) == (-32602, {"tool": "nothing"})


@pytest.mark.parametrize("path", ["/v1/mcp", "/mcp", "/api/mcp", "/mcp/v1/mcp", "/llm/v1/mcp"])
def test_the_endpoint_is_at_every_path_of_the_gateway(user: httpx.Client, path: str) -> None:
    assert result(post(user, "ping", path)) == {}


@pytest.mark.parametrize("path", ["/v1/mcp", "/mcp", "/api/mcp", "/mcp/v1/mcp"])
def test_so_it_is_at_the_port_of_its_own(house: JanServer, path: str) -> None:
    headers = {"authorization": f"Bearer {house.token()}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{house.mcp_port}", headers=headers) as http:
        assert result(post(http, "ping", path)) == {}
        assert http.get("/v1/models").status_code == 404
        assert http.get("/mcp/healthz").status_code == 200


# Users, and clients of gRPC


def test_what_one_user_has_is_not_there_for_another(house: JanServer, user: httpx.Client) -> None:
    run(user, "file_search_index", document_id="tea", text="Green tea is brewed at eighty degrees.")
    ran = run(user, "python_exec", code="x = 1")
    named = run(user, "python_exec", code="x = 1", session_id="mine")
    with closing(client(house, house.token())) as other:
        assert run(other, "file_search_query", query="tea", document_ids=["tea"])["results"] == []
        assert run(other, "file_search_delete", document_ids=["tea"])["deleted"] == []
        refused = run(other, "python_exec", code="x", session_id=ran["session_id"])
        assert refused["error"]["code"] == "session_not_found"
        assert run(other, "python_exec", code="x", session_id="mine")["error"].startswith("NameError")
    assert run(user, "python_exec", code="x", session_id=named["session_id"])["stdout"] == "1\n"
    assert run(user, "file_search_query", query="tea")["count"] == 1


def test_a_figure_has_a_url_that_opens(user: httpx.Client) -> None:
    drawn = run(user, "python_exec", code="import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()")
    assert [artifact["name"] for artifact in drawn["artifacts"]] == ["figure-1.png"]
    assert httpx.get(drawn["artifacts"][0]["url"]).content.startswith(b"\x89PNG")


def test_clients_of_grpc_list_and_call_as_well(house: JanServer) -> None:
    metadata = (("authorization", f"Bearer {house.token()}"),)
    asked = tools_pb2.CallToolRequest(name="python_exec")
    asked.arguments.update({"code": "6 * 7"})
    with grpc.insecure_channel(f"127.0.0.1:{house.port}") as channel:
        stub: Any = tools_pb2_grpc.ToolServiceStub  # the generated code is not annotated
        tools = stub(channel)
        assert {tool.name for tool in tools.ListTools(tools_pb2.ListToolsRequest(), metadata=metadata).data} == BUILTIN
        said = tools.CallTool(asked, metadata=metadata)
        assert json_format.MessageToDict(said.structured_content)["stdout"] == "42\n"
        reader = (("x-api-key", key(house, ["read"])),)
        with pytest.raises(grpc.RpcError) as refused:
            tools.CallTool(asked, metadata=reader)
        assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


# Plain requests


def test_curl_needs_no_header_of_mcp(house: JanServer) -> None:
    body = '{"jsonrpc":"2.0","id":"a","method":"tools/list"}'
    headers = {"authorization": f"Bearer {house.token()}", "content-type": "application/x-www-form-urlencoded"}
    said = httpx.post(f"{house.url}/v1/mcp", content=body, headers=headers).json()
    assert {tool["name"] for tool in said["result"]["tools"]} >= BUILTIN


def test_a_call_without_id_is_done_and_answered(user: httpx.Client) -> None:
    call = {"name": "google_search", "arguments": {"q": "jan"}}
    said = user.post("/v1/mcp", json={"jsonrpc": "2.0", "method": "tools/call", "params": call}).json()
    assert (said["id"], said["result"]["isError"]) == (None, False)
    assert json.loads(said["result"]["content"][0]["text"]) == said["result"]["structuredContent"]


def test_a_notification_is_accepted(user: httpx.Client) -> None:
    answer = user.post(
        "/v1/mcp",
        json={"jsonrpc": "2.0", "method": "notifications/initialized"},
        headers={"mcp-session-id": "mine"},
    )
    assert (answer.status_code, answer.content, answer.headers["mcp-session-id"]) == (202, b"", "mine")


@pytest.mark.parametrize("session", [b"a b", "süß".encode(), b"a" * 2000])
def test_odd_sessions_are_no_fault_of_ours(user: httpx.Client, session: bytes) -> None:
    answer = post(user, "ping", headers={b"mcp-session-id": session})
    assert result(answer) == {}
    assert "mcp-session-id" not in answer.headers


def test_a_modern_request_stands_alone(user: httpx.Client) -> None:
    headers = {"mcp-protocol-version": NEW, "mcp-method": "server/discover", "mcp-session-id": "mine"}
    answer = post(user, "server/discover", params={"_meta": META}, headers=headers)
    assert result(answer)["supportedVersions"][0] == NEW
    assert "mcp-session-id" not in answer.headers


def test_errors_of_json_rpc_pass_the_gateway_as_they_are(user: httpx.Client) -> None:
    modern = {"mcp-protocol-version": NEW, "mcp-method": "nothing"}
    assert fault(user.post("/v1/mcp", content=b"{")) == (400, -32700)
    assert fault(user.post("/v1/mcp", content=b"[]")) == (400, -32600)
    assert fault(post(user, "nothing")) == (200, -32601)
    assert fault(post(user, "nothing", params={"_meta": META}, headers=modern)) == (404, -32601)
    assert fault(post(user, "ping", params={"_meta": META}, headers=modern)) == (400, -32020)
    assert fault(post(user, "ping", headers={"mcp-protocol-version": "1999-01-01"})) == (400, -32022)
    assert fault(post(user, "tools/call", params={"name": "scrape", "arguments": {}})) == (200, -32602)


def test_a_header_that_is_there_twice_is_seen(user: httpx.Client) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": META}})
    headers = [("mcp-protocol-version", NEW), ("mcp-method", "ping"), ("mcp-method", "tools/call")]
    assert fault(user.post("/v1/mcp", content=body, headers=headers)) == (400, -32020)


def test_what_the_transport_refuses_has_the_usual_envelope(house: JanServer, user: httpx.Client) -> None:
    assert httpx.post(f"{house.url}/v1/mcp", content="{}").status_code == 401
    for method in ("GET", "DELETE"):
        answer = user.request(method, "/v1/mcp")
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"
    answer = post(user, "ping", headers={"origin": "https://evil.example"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_not_allowed")
    assert result(post(user, "ping", headers={"origin": "https://app.example"})) == {}


def test_an_event_for_those_who_take_nothing_else(user: httpx.Client) -> None:
    answer = post(user, "ping", headers={"accept": "text/event-stream"})
    assert answer.headers["content-type"] == "text/event-stream"
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")
    assert answer.text == 'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'


def test_a_key_does_what_its_scopes_allow(house: JanServer) -> None:
    call: dict[str, Any] = {"params": {"name": "google_search", "arguments": {"q": "jan"}}}
    for scope, listing, calling in (("read", 200, 403), ("write", 403, 200)):
        with httpx.Client(base_url=house.url, headers={"x-api-key": key(house, [scope])}) as http:
            assert post(http, "tools/list").status_code == listing
            answer = post(http, "tools/call", **call)
            assert answer.status_code == calling
            assert answer.headers["x-auth-method"] == "api_key"


def test_tools_are_listed_over_rest_as_well(user: httpx.Client) -> None:
    found = user.get("/v1/mcp/tools").json()
    assert {tool["name"] for tool in found["data"]} >= BUILTIN
    assert set(found["data"][0]) == {
        "id", "object", "name", "title", "description", "category", "input_schema", "provider"
    }  # fmt: skip
    assert user.get("/v1/mcp/tools", params={"limit": 1}).json()["has_more"] is True


def test_a_client_that_leaves_ends_its_tool(user: httpx.Client, site: str) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    body |= {"params": {"name": "scrape", "arguments": {"url": f"{site}/never"}}}

    async def leave() -> None:
        headers = {"authorization": user.headers["authorization"]}
        async with httpx.AsyncClient(base_url=user.base_url, headers=headers) as http:
            asking = asyncio.create_task(http.post("/v1/mcp", json=body))
            assert await asyncio.to_thread(Site.asked.wait, 20)
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking

    asyncio.run(leave())
    assert Site.left.wait(10)


# Administration


def test_administration_is_for_administrators(house: JanServer, user: httpx.Client) -> None:
    for prefix in ("/v1/admin/mcp/tools", "/v1/admin/mcp-tools"):
        for method, path in (("GET", ""), ("GET", "/scrape"), ("PATCH", "/scrape"), ("PUT", "/scrape/filters")):
            answer = user.request(method, prefix + path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "admin_required")
    assert httpx.get(f"{house.url}/v1/admin/mcp/tools").status_code == 401


def test_a_tool_that_is_switched_off_is_gone_everywhere_at_once(boss: httpx.Client, user: httpx.Client) -> None:
    def seen() -> set[bool]:
        """Whether it is listed, according to every worker."""
        lists = [result(post(user, "tools/list"))["tools"] for _ in range(LOOKS)]
        return {any(tool["name"] == "scrape" for tool in tools) for tools in lists}

    answer = boss.patch("/v1/admin/mcp/tools/scrape", json={"enabled": False, "reason": "for a test"})
    assert (answer.status_code, answer.json()["data"]["is_active"]) == (200, False)
    eventually(lambda: seen() == {False}, within=1)
    for _ in range(LOOKS):
        said = result(post(user, "tools/call", params={"name": "scrape", "arguments": {"url": "https://example.com"}}))
        assert (said["isError"], said["structuredContent"]["error"]["code"]) == (True, "tool_disabled")
    row = boss.get("/v1/admin/mcp-tools/scrape").json()["data"]
    assert boss.patch(f"/v1/admin/mcp-tools/{row['id']}", json={"is_active": True}).status_code == 200
    eventually(lambda: seen() == {True}, within=1)


def test_null_brings_the_built_in_description_back(boss: httpx.Client) -> None:
    before = boss.get("/v1/admin/mcp/tools/scrape").json()["data"]
    path = f"/v1/admin/mcp/tools/{before['id']}"
    notes = {"metadata": {"a": None, "b": [1]}, "category": "reading"}
    changed = boss.patch(path, json={"description": "Ours.", "enabled": None, **notes}).json()["data"]
    assert (changed["description"], changed["enabled"]) == ("Ours.", True)
    assert {name: changed[name] for name in notes} == notes
    nothing = dict.fromkeys(("description", "category", "metadata", "disallowed_keywords", "content_filter"))
    assert boss.patch(path, json=nothing).json()["data"] == {
        **before, "updated_at": boss.get(path).json()["data"]["updated_at"],
    }  # fmt: skip


def test_filters_are_put_and_their_patterns_checked(boss: httpx.Client, user: httpx.Client) -> None:
    path = "/v1/admin/mcp/tools/google_search/filters"
    answer = boss.put(path, json={"disallowed_keywords": ["("]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "disallowed_keywords[0]")
    row = boss.put(path, json={"disallowed_keywords": ["forbidd?en"]}).json()["data"]
    assert row["content_filter"] == {"disallowed_keywords": ["forbidd?en"], "require_approval_for": []}

    def outcomes() -> set[bool]:
        call = {"name": "google_search", "arguments": {"q": "a FORBIDDEN word"}}
        return {result(post(user, "tools/call", params=call))["isError"] for _ in range(LOOKS)}

    eventually(lambda: outcomes() == {True}, within=1)
    assert boss.put(path, json={}).json()["data"]["disallowed_keywords"] == []
    eventually(lambda: outcomes() == {False}, within=1)


def test_lists_of_tools_are_filtered_and_paged(boss: httpx.Client) -> None:
    for path in ("/v1/admin/mcp/tools", "/v1/admin/mcp-tools"):
        found = boss.get(path, params={"category": "search", "enabled": "true", "search": "GOOGLE"}).json()
        assert [tool["name"] for tool in found["data"]] == ["google_search"]
        assert boss.get(path, params={"limit": 1}).json()["has_more"] is True
        assert boss.get(path, params={"enabled": "maybe"}).status_code == 400
    assert boss.get("/v1/admin/mcp/tools/nothing").status_code == 404
