"""The TypeScript SDKs of MCP against the whole server: version 1, which shakes hands, and version 2, which does not."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import httpx
import pytest

from services import __version__
from tests.rest.server import JanServer
from tests.sandbox import compiled_python  # noqa: F401  # a fixture

FOLDER = Path(__file__).parent / "js"
NODE = shutil.which("node")

pytestmark = [
    pytest.mark.skipif(NODE is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (FOLDER / "node_modules/@modelcontextprotocol/client").exists(),
        reason="js/node_modules is missing: npm ci in tests/rest/js",
    ),
]


def credential(server: JanServer, token: str, kind: str) -> str:
    """A header."""
    if kind == "token":
        return f"authorization:Bearer {token}"
    headers = {"authorization": f"Bearer {token}"}
    made = httpx.post(f"{server.url}/auth/api-keys", json={"name": "a key"}, headers=headers)
    return f"x-api-key:{made.json()['data']['key']}"


@pytest.mark.parametrize("kind", ["token", "key"])
@pytest.mark.parametrize("scene", ["handshake", "default", "modern"])
async def test_the_official_clients_list_and_call_every_tool(
    server: JanServer,
    compiled_python: Path,  # noqa: F811
    token: str,
    scene: str,
    kind: str,
) -> None:
    process = await asyncio.create_subprocess_exec(
        str(NODE), "mcp.mjs", scene, f"{server.url}/v1/mcp", credential(server, token, kind),
        cwd=FOLDER, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    who, tools, *said, refused = (json.loads(line) for line in output.splitlines())
    assert who == {"name": "jan-server", "version": __version__}
    assert tools == [
        "file_search_delete", "file_search_index", "file_search_query", "google_search", "python_exec", "scrape",
    ]  # fmt: skip
    assert said == [{"live": False}, "url_not_allowed", [True], 1, "42\n"]
    assert refused == {"code": -32602, "data": {"tool": "nothing"}}
