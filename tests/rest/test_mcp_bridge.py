"""Tools of another MCP server through the whole server: listed, called, switched off, and gone with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fake_mcp_server import FakeMcpServer, in_a_thread, text
from tests.rest.server import JanServer, eventually

FILE = """
providers:
  - {name: files, endpoint: "${FILES_URL}", headers: {Authorization: "Bearer ${FILES_MCP_TOKEN}"}}
  - {name: away, endpoint: "http://127.0.0.1:9/mcp"}
settings: {retry_attempts: 1, retry_delay: 10ms}
"""


@pytest.fixture(scope="module")
def other() -> Iterator[FakeMcpServer]:
    """Another server, with two tools."""
    fake = FakeMcpServer()
    fake.tool("add", text("3", structured_content={"sum": 3}))
    fake.tool("fail", text("no such file", is_error=True))
    with in_a_thread(fake) as server:
        yield server


@pytest.fixture(scope="module")
def server(other: FakeMcpServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JanServer]:
    """Ours, in two processes."""
    folder = tmp_path_factory.mktemp("bridge")
    path = folder / "mcp.yml"
    path.write_text(FILE)
    settings = {"MCP_PROVIDERS_FILE": str(path), "FILES_URL": other.url, "FILES_MCP_TOKEN": "s3cret"}
    with JanServer(folder, WORKERS="2", **settings) as jan:
        yield jan


def asked(server: JanServer, method: str, **params: Any) -> Any:
    """The result of a message of MCP."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    headers = {"authorization": f"Bearer {server.token()}"}
    answer = httpx.post(f"{server.url}/v1/mcp", json=message, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def bridged(server: JanServer) -> set[str]:
    """Names of the tools of other servers."""
    return {tool["name"] for tool in asked(server, "tools/list")["tools"] if tool["description"].startswith("[")}


def test_tools_of_another_server_are_listed_and_called(server: JanServer, other: FakeMcpServer) -> None:
    eventually(lambda: bridged(server) == {"files_add", "files_fail"})
    result = asked(server, "tools/call", name="files_add", arguments={"a": 1})
    assert (result["content"], result["structuredContent"]) == ([{"type": "text", "text": "3"}], {"sum": 3})
    failure = asked(server, "tools/call", name="files_fail", arguments={})
    assert (failure["content"], failure["isError"]) == ([{"type": "text", "text": "no such file"}], True)
    assert other.calls[0] == ("add", {"a": 1})
    assert {each.get("authorization") for each in other.headers} == {"Bearer s3cret"}


def test_the_key_of_another_server_is_in_no_log(server: JanServer) -> None:
    eventually(lambda: "mcp_provider_unavailable" in server.errors)
    assert "s3cret" not in server.errors + server.out
