"""Where URLs that users name may lead. What their names resolve to is checked here, and only addresses that have passed
are ever dialled (`outgoing.py`), so that no second look-up can differ from the first.

Refused is every address that is not one of the public internet, unless the operator has listed it or the host's name.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from services.runtime.config import ConfigError
from services.runtime.errors import InvalidRequest, UpstreamFailed
from services.runtime.urls import Url, host_name, not_allowed

_RESOLVERS = 8  # names that are looked up at once; more wait, and so do not take threads from anything else
_LOOPBACK = ("127.0.0.1", "::1")
# Everything that RFC 6890 and its successors set apart, and the one public address that is a cloud's metadata service.
_CLOSED = [
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's metadata and its virtual DNS
        "169.254.0.0/16",  # link-local; metadata of nearly all clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # IETF assignments; Oracle's metadata
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "2001::/23",  # IETF assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which has an IPv4 address inside
        "3fff::/20",  # documentation
    )
]
_GLOBAL = IPv6Network("2000::/3")  # what is handed out of IPv6; loopback, mapped, local and multicast are outside
_NAT64 = IPv6Network("64:ff9b::/96")  # an IPv4 address as machines without IPv4 see it: judged by that address

Ip = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
log = logging.getLogger("jan.outgoing")


class Guard:
    """Resolves and judges. `allow` lists what is open although it is not public: names, which allow whatever they
    resolve to, addresses, and networks such as `10.1.0.0/16`. Raises `ConfigError` for anything else in it.
    `resolve(host, port)` replaces the system's resolver; it raises `OSError` for a name that it cannot find."""

    def __init__(self, allow: Iterable[str] = (), *, resolve: Resolve | None = None) -> None:
        self._names: set[str] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for entry in allow:
            self._list(entry)
        self._threads = ThreadPoolExecutor(_RESOLVERS, "resolve")
        self._resolve = resolve or self._look_up

    async def addresses(self, url: Url) -> list[str]:
        """The addresses to dial for it, in order. A name with one refused address is refused altogether: who mixes them
        means no good. Raises `InvalidRequest` (`url_not_allowed`) and `UpstreamFailed` (`fetch_failed`)."""
        if url.host == "localhost" or url.host.endswith(".localhost"):  # RFC 6761, 6.3: nobody is asked
            found = [each for each in _LOOPBACK if self._opens(url.host, each)]
        else:
            found = await self._resolved(url)
        refused = [each for each in found if not self._opens(url.host, each)]
        if refused or not found:
            log.warning("fetch_refused", extra={"host": url.host, "addresses": refused})
            raise not_allowed("The URL leads to an address that this server does not fetch from.")
        return found

    def close(self) -> None:
        """Take no more names. Those under way are given up by the system's resolver in its own time."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _resolved(self, url: Url) -> list[str]:
        if _is_address(url.host):
            return [url.host]
        try:
            found = await self._resolve(url.host, url.port)
        except (OSError, UnicodeError) as error:
            raise UpstreamFailed("The host of the URL was not found.", code="fetch_failed") from error
        return list(dict.fromkeys(found))

    async def _look_up(self, host: str, port: int) -> list[str]:
        """In threads of our own: a stranger's slow name server must not hold up what else this process looks up."""
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(row[4][0]) for row in rows]

    def _opens(self, host: str, address: str) -> bool:
        ip = ip_address(address)
        return host in self._names or is_public(ip) or any(ip in network for network in self._networks)

    def _list(self, entry: str) -> None:
        try:
            self._networks.append(ip_network(entry.strip("[]")))
        except ValueError:
            self._names.add(_listed_name(entry))


def _listed_name(entry: str) -> str:
    try:
        return host_name(entry)
    except InvalidRequest:
        raise ConfigError(
            f"{entry!r} in MEDIA_REMOTE_ALLOW_HOSTS is no host name, no address and no network such as 10.1.0.0/16"
        ) from None


def is_public(ip: Ip) -> bool:
    """Whether it is an address of the public internet."""
    if ip in _NAT64:
        ip = IPv4Address(int(ip) & 0xFFFFFFFF)
    if isinstance(ip, IPv6Address) and ip not in _GLOBAL:
        return False
    return not any(ip in network for network in _CLOSED)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
