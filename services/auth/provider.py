"""The external identity provider as we reach it over HTTP. The only place that knows httpx.

Every exchange has one deadline, a largest answer and no redirects: an answer is believed only from where it was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import orjson

DEADLINE = 5.0
LARGEST = 512 * 1024  # bytes of an answer; discovery documents and key sets have a few KiB


class ProviderFailed(Exception):
    """The provider is not reachable, or its answer cannot be used. The message is for the log."""


class ProviderClient:
    """Asks for JSON objects. With `secure`, only over HTTPS. Every method raises `ProviderFailed`."""

    def __init__(self, *, secure: bool, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._secure = secure
        # Compressed answers could grow beyond any limit when they are unpacked.
        self._http = httpx.AsyncClient(
            transport=transport,
            timeout=DEADLINE,
            headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "jan-server"},
        )

    async def get(self, url: str, *, bearer: str = "") -> dict[str, Any]:
        """GET, with an access token if there is one."""
        return await self._ask("GET", url, headers={"authorization": f"Bearer {bearer}"} if bearer else {})

    async def post(self, url: str, form: Mapping[str, str], *, login: tuple[str, str] | None = None) -> dict[str, Any]:
        """POST a form; `login` is a client's id and secret for HTTP Basic (RFC 6749, 2.3.1)."""
        auth = httpx.BasicAuth(*(quote(each, safe="") for each in login)) if login else None
        return await self._ask("POST", url, data=form, auth=auth)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _ask(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        self.check(url)
        try:
            async with asyncio.timeout(DEADLINE), self._http.stream(method, url, **options) as answer:
                body = await _read(answer)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise ProviderFailed(f"{method} {url}: {error!r}") from error
        value = _object(body)
        if answer.status_code != 200:
            said = value.get("error") if value else None  # RFC 6749, 5.2
            raise ProviderFailed(f"{method} {url}: status {answer.status_code}, error {str(said)[:200]}")
        if value is None:
            raise ProviderFailed(f"{method} {url}: the answer is not a JSON object")
        return value

    def check(self, url: str) -> None:
        """Refuse addresses that must not be asked or given to a browser."""
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise ProviderFailed(f"{url[:200]!r} is not an address") from error
        if parts.scheme not in (("https",) if self._secure else ("https", "http")) or not parts.hostname:
            raise ProviderFailed(f"{url[:200]!r} is not an address that begins with https://")


async def _read(answer: httpx.Response) -> bytes:
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise ProviderFailed(f"{answer.url}: the answer is compressed, which was not asked for")
    body = b""
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > LARGEST:
            raise ProviderFailed(f"{answer.url}: the answer is larger than {LARGEST} bytes")
    return body


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
