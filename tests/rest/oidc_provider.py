"""A real OpenID Connect provider (npm `oidc-provider`) as a child process, and the browsers of the people who have
accounts there.

    with OidcProvider(callback) as provider:
        provider.give_roles("alice", "admin")
        browser = provider.browse(authorization_url, "alice")     # the address that it sends the browser back to
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest

from tests.rest.server import eventually, free_ports

FOLDER = Path(__file__).parent / "oidc"
NODE = shutil.which("node")
CLIENT_ID, CLIENT_SECRET = "jan", "a secret of jan, & its: client"

needed = [
    pytest.mark.skipif(NODE is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (FOLDER / "node_modules/oidc-provider").exists(),
        reason="oidc/node_modules is missing: npm ci in tests/rest/oidc",
    ),
]


class OidcProvider:
    """One provider. It may be started again, with new keys, at the same address."""

    def __init__(self, redirects: Iterable[str], **settings: str) -> None:
        (self._port,) = free_ports(1)
        self.issuer = f"http://127.0.0.1:{self._port}"
        self._settings = {"port": self._port, "redirect_uris": [*redirects, f"{self.issuer}/app"], **settings}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def settings(self) -> dict[str, str]:
        """What Jan Server has to know about it."""
        return {
            "OIDC_ISSUER_URL": self.issuer,
            "OIDC_CLIENT_ID": CLIENT_ID,
            "OIDC_CLIENT_SECRET": CLIENT_SECRET,
            "OIDC_AUDIENCE": "jan-api",
            "OIDC_ADMIN_ROLE": "jan-admin",
        }

    def start(self) -> None:
        """Start it, with keys of its own, and wait until it listens."""
        command = [str(NODE), "provider.mjs", json.dumps(self._settings)]
        self._process = subprocess.Popen(
            command, cwd=FOLDER, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == self.issuer

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def give_roles(self, name: str, *roles: str) -> None:
        """Which roles somebody has from now on."""
        httpx.put(f"{self.issuer}/people/{name}", params={"roles": " ".join(roles)}).raise_for_status()

    def kids(self) -> set[str]:
        """The ids of its keys."""
        return {key["kid"] for key in httpx.get(f"{self.issuer}/jwks").json()["keys"]}

    def browse(self, url: str, name: str) -> str:
        """Sign `name` in with a browser of her own; return the address that she is sent back to."""
        url = f"{url}&login_hint={name}"
        with httpx.Client() as browser:
            while url.startswith(self.issuer) and not url.startswith(f"{self.issuer}/app"):
                answer = browser.get(url)
                assert answer.is_redirect, answer.text
                url = urljoin(url, answer.headers["location"])
        return url

    def access_token(self, name: str) -> str:
        """An access token for Jan Server, as an application gets it that signs people in by itself."""
        return str(self.tokens(name)["access_token"])

    def tokens(self, name: str) -> dict[str, Any]:
        """All that such an application gets."""
        verifier, app = secrets.token_urlsafe(32), f"{self.issuer}/app"
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "client_id": CLIENT_ID, "redirect_uri": app, "response_type": "code", "scope": "openid profile email",
            "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        back = self.browse(str(httpx.URL(f"{self.issuer}/auth", params=query)), name)
        form = {
            "grant_type": "authorization_code", "code": parse_qs(urlsplit(back).query)["code"][0],
            "redirect_uri": app, "code_verifier": verifier, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
        }  # fmt: skip
        answer = httpx.post(f"{self.issuer}/token", data=form)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def published(data_dir: Path, kids: set[str]) -> None:
    """Wait until the services know these keys, and no others."""
    path = data_dir / "keys" / "external.json"
    eventually(lambda: {key["kid"] for key in json.loads(path.read_text())["keys"]} == kids)
