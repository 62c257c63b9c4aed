"""The banner: snippets that work as pasted, whatever the server says about its models."""

import json
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from services.hello import Offer, banner, hello
from services.runtime.config import Settings


def text(*models: str, complaint: str = "", guests: bool = True, **settings: object) -> str:
    return banner(Settings(**settings), Offer(models, complaint, guests))  # type: ignore[arg-type]  # fields by name


def snippets(shown: str) -> str:
    """All but the lines about the server itself."""
    return shown.partition("Models: ")[2].partition("\n")[2]


def test_a_complaint_is_shown_but_is_no_model_name() -> None:
    shown = text(complaint="not known (HTTP Error 503)")
    assert "Models: not known (HTTP Error 503)\n" in shown
    assert shown.count("503") == 1
    assert '"model": "jan-demo"' in shown
    assert 'model="jan-demo"' in shown


def test_the_snippets_use_a_model_that_chats() -> None:
    shown = snippets(text("BAAI/bge-m3", "dall-e-3", "gpt-4o-mini", "jan-demo", "whisper-1"))
    assert '"model": "gpt-4o-mini"' in shown
    assert 'model="gpt-4o-mini"' in shown


def test_a_long_list_of_models_is_cut() -> None:
    names = [f"m{number}" for number in range(15)]
    assert f"Models: {', '.join(names[:12])} and 3 more\n" in text(*names)
    assert f"Models: {', '.join(names[:12])}\n" in text(*names[:12])


@pytest.mark.parametrize(
    ("address", "base"),
    [
        ("127.0.0.1", "http://localhost:8000"),
        ("::", "http://localhost:8000"),
        ("192.0.2.7", "http://192.0.2.7:8000"),
        ("2001:db8::7", "http://[2001:db8::7]:8000"),
    ],
)
def test_the_address_can_be_pasted(address: str, base: str) -> None:
    shown = text("m", bind_address=address, public_base_url="https://ai.example.com")
    assert f"is up: {base} " in shown
    assert f"curl {base}/v1/chat/completions" in shown


def test_without_guests_the_snippets_say_where_a_token_comes_from() -> None:
    shown = text(guests=False, complaint="-", auth_issuer="https://id.example.com", auth_audience="staff")
    assert "guest-login" not in shown
    assert "iss https://id.example.com, aud staff" in shown
    assert "  TOKEN=...\n" in shown
    assert '  token = "..."' in shown


class Answers(BaseHTTPRequestHandler):
    """A gateway whose answers its class knows."""

    login = (201, {"access_token": "t"})
    models = (200, {"data": [{"id": "m1"}]})

    def do_POST(self) -> None:
        self._send(*self.login)

    def do_GET(self) -> None:
        self._send(*self.models)

    def log_message(self, *_: object) -> None:
        """Not here."""

    def _send(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.mark.parametrize(
    ("login", "models", "line"),
    [
        ((201, {"access_token": "t"}), (200, {"data": [{"id": "m1"}]}), "Models: m1"),
        ((403, {}), (200, {}), "/v1/models lists them for a token"),
        ((503, {}), (200, {}), "Models: not known (HTTP Error 503: Service Unavailable)"),
        ((201, {"access_token": "t"}), (500, {}), "Models: not known (HTTP Error 500: Internal Server Error)"),
        ((201, []), (200, {}), "Models: not known ("),
        ((201, {"access_token": "t"}), (200, {"data": None}), "Models: not known ("),
        ((201, {"access_token": "t"}), (200, {"data": []}), "Models: none yet"),
    ],
)
def test_whatever_the_server_answers_there_is_a_banner(
    login: tuple[int, object], models: tuple[int, object], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = type("Scripted", (Answers,), {"login": login, "models": models})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            hello(Settings(gateway_port=server.server_port))
        finally:
            server.shutdown()
            thread.join()
    shown = capsys.readouterr().out
    assert line in shown
    assert ("guest-login" in shown) is (login[0] != 403)


def test_a_server_that_is_not_there_gets_a_banner(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        hello(Settings(gateway_port=closed.getsockname()[1]))
    assert "Models: not known (" in capsys.readouterr().out
