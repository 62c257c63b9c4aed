"""`jan-server admin` as an operator uses it: beside a running server, and while it is stopped."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.rest.server import COMMAND, JanServer

EMAIL, PASSWORD = "root@example.com", "correct horse battery staple"
pytestmark = pytest.mark.patience(120)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JanServer]:
    with JanServer(tmp_path_factory.mktemp("running")) as server:
        yield server


def jan_server(server: JanServer, *arguments: str, said: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the settings of `server` and something on its standard input."""
    command = [str(COMMAND), *arguments]
    environ = {"PATH": "/usr/bin:/bin", **server.settings, **settings}
    return subprocess.run(command, env=environ, input=said, capture_output=True, text=True, timeout=60, check=False)


def create(server: JanServer, email: str = EMAIL, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
    return jan_server(server, "admin", "create", "--email", email, said=f"{password}\n")


def token_of(server: JanServer, *more: str) -> str:
    done = jan_server(server, "admin", "token", "--email", EMAIL, *more)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.removesuffix("\n")


def roles(server: JanServer, token: str) -> list[str]:
    answer = server.get("/v1/users/me", token)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"]["roles"])


def test_an_administrator_is_made_beside_the_running_server_and_signs_in(running: JanServer) -> None:
    done = create(running)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{EMAIL} is an administrator now\n", "")
    answer = httpx.post(f"{running.url}/auth/login", json={"email": EMAIL, "password": PASSWORD}, timeout=20)
    assert answer.status_code == 200, answer.text
    assert roles(running, answer.json()["access_token"]) == ["user", "admin"]


def test_making_one_twice_says_that_the_account_was_there(running: JanServer) -> None:
    create(running)
    assert create(running, password="").stdout == f"{EMAIL} is an administrator now; the account was there before\n"


def test_a_token_of_an_administrator_works_at_the_running_server(running: JanServer) -> None:
    create(running)
    for more in ((), ("--ttl", "5m")):
        assert roles(running, token_of(running, *more)) == ["user", "admin"]


@pytest.mark.parametrize(
    ("arguments", "said", "remedy"),
    [
        (("create", "--email", "new@example.com"), "short\n", "a password has 8 to 1024 characters"),
        (("create", "--email", "new@example.com"), "", "give its password on standard input"),
        (("create", "--email", "nonsense"), f"{PASSWORD}\n", "'nonsense' is no mail address"),
        (("token", "--email", "new@example.com"), "", "new@example.com is no administrator"),
    ],
    ids=range(4),
)
def test_what_cannot_be_done_is_one_line(running: JanServer, arguments: list[str], said: str, remedy: str) -> None:
    done = jan_server(running, "admin", *arguments, said=said)
    (line,) = done.stderr.splitlines()
    assert done.returncode != 0
    assert line.startswith("jan-server: ")
    assert remedy in line
    assert done.stdout == ""


def test_while_the_server_is_stopped_its_database_is_started_for_the_moment(tmp_path: Path) -> None:
    server = JanServer(tmp_path)
    assert create(server).returncode == 0  # before the very first start
    with server:
        assert roles(server, token_of(server)) == ["user", "admin"]
    token = token_of(server)
    assert create(server, "second@example.com").returncode == 0
    with server:
        assert roles(server, token) == ["user", "admin"]
        answer = httpx.post(
            f"{server.url}/auth/login", json={"email": "second@example.com", "password": PASSWORD}, timeout=20
        )
        assert answer.status_code == 200


def test_the_first_administrator_comes_from_the_settings(tmp_path: Path) -> None:
    with JanServer(tmp_path, ADMIN_EMAIL=EMAIL, ADMIN_PASSWORD=PASSWORD) as server:
        answer = httpx.post(f"{server.url}/auth/login", json={"email": EMAIL, "password": PASSWORD}, timeout=20)
        assert roles(server, answer.json()["access_token"]) == ["user", "admin"]
        assert PASSWORD not in server.errors + server.out
