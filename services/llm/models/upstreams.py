"""The upstreams of this process: one for each address of each provider, kept while the provider stays as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from services.llm.models.routing import Upstream
from services.llm.providers.anthropic.adapter import AnthropicProvider
from services.llm.providers.entries import Address, Entry
from services.llm.providers.http1 import Client
from services.llm.providers.openai import OpenAIProvider
from services.llm.providers.provider import Provider
from services.runtime.breaker import Breaker


def _openai(client: Client, entry: Entry, address: Address) -> Provider:
    return OpenAIProvider(
        client,
        name=entry.name,
        base_url=address.url,
        api_key=entry.api_key,
        headers=entry.headers,
        stream_usage=entry.stream_usage,
    )


def _azure(client: Client, entry: Entry, address: Address) -> Provider:
    headers = {**entry.headers, "api-key": entry.api_key}
    return OpenAIProvider(
        client, name=entry.name, base_url=address.url, headers=headers, stream_usage=entry.stream_usage
    )


def _anthropic(client: Client, entry: Entry, address: Address) -> Provider:
    return AnthropicProvider(
        client, name=entry.name, base_url=address.url, api_key=entry.api_key, headers=entry.headers
    )


# How to speak to each type of provider; all others speak OpenAI's protocol.
ADAPTERS: dict[str, Callable[[Client, Entry, Address], Provider]] = {"anthropic": _anthropic, "azure_openai": _azure}

Key = tuple[str, str, str, str, bool]


class Upstreams:
    """Makes them over one client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._made: dict[Key, Upstream] = {}

    def of(self, entry: Entry, address: Address) -> Upstream:
        """The same object for the same address and credential, so that health survives whatever else changes."""
        key = _key(entry, address)
        if key not in self._made:
            adapter = ADAPTERS.get(entry.type, _openai)
            provider = adapter(self._client.with_timeouts(entry.timeouts), entry, address)
            made = upstream(entry.type, entry.name, provider)
            made.max_concurrency, made.fetches_images = entry.max_concurrency, entry.fetches_images
            self._made[key] = made
        return self._made[key]

    def keep(self, entries: Iterable[Entry]) -> None:
        """Forget all that are none of these."""
        kept = {_key(entry, address) for entry in entries for address in entry.addresses}
        self._made = {key: made for key, made in self._made.items() if key in kept}


def upstream(vendor: str, name: str, provider: Provider) -> Upstream:
    """A healthy upstream on the clock of the running loop."""
    return Upstream(name, vendor, provider, Breaker(asyncio.get_running_loop().time))


def _key(entry: Entry, address: Address) -> Key:
    return entry.name, entry.type, entry.api_key, address.url, entry.fetches_images
