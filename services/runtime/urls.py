"""URLs that users name, read once and strictly: whatever two readers could understand differently is refused."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote, urljoin

import idna

from services.runtime.errors import InvalidRequest

LONGEST = 8192  # characters
_LONGEST_NAME = 253
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Url:
    """An http or https URL without credentials and fragment. `host` is an ASCII name or an address without brackets."""

    scheme: str
    host: str
    port: int
    target: str
    """Path and query, percent-encoded."""

    @property
    def authority(self) -> str:
        """Host and port as the `Host` header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """What two URLs of the same server have in common."""
        return self.scheme, self.host, self.port

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    def joined(self, location: str) -> Url:
        """Where a redirect from here leads. Raises as `parse`, and refuses to leave https."""
        try:
            url = parse(urljoin(str(self), location))
        except ValueError as error:  # brackets that are none
            raise _invalid("it redirects to something that is no URL") from error
        if self.scheme == "https" and url.scheme != "https":
            raise not_allowed("The URL redirects from https to http.")
        return url


def parse(text: str) -> Url:
    """Read a URL that a user has named. Raises `InvalidRequest`: `invalid_url`, or `url_not_allowed` for an IPv4
    address in disguise."""
    if len(text) > LONGEST:
        raise _invalid(f"it is longer than {LONGEST} characters")
    if re.search(r"[\x00-\x1f\x7f-\x9f\\]", text) or text != text.strip():
        raise _invalid("it holds a control character, a backslash, or space around it")
    match = re.fullmatch(r"(https?)://([^/?#]*)([^#]*)(?:#.*)?", text, re.IGNORECASE | re.DOTALL)
    if match is None:
        raise _invalid("it does not begin with http:// or https://")
    scheme, authority, rest = match[1].lower(), match[2], match[3]
    if "@" in authority:
        raise _invalid("credentials in it are not accepted")
    host, port = _host_and_port(authority, _PORTS[scheme])
    return Url(scheme, host, port, _target(rest))


def _host_and_port(authority: str, usual: int) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]*\]|[^\[\]:]+)(?::([0-9]{1,5}))?", authority)
    if match is None:
        raise _invalid("its host or port cannot be read")
    port = int(match[2]) if match[2] else usual
    if not 1 <= port <= 65535:
        raise _invalid("its port is not one of 1 to 65535")
    return (_ipv6(match[1][1:-1]) if match[1].startswith("[") else host_name(match[1])), port


def _ipv6(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except ValueError:
        raise _invalid("its IPv6 address cannot be read") from None


def host_name(text: str) -> str:
    """A name in lower case, in ASCII, without the last dot; what ends in a number is an IPv4 address (WHATWG URL, 3.5).
    Raises as `parse`."""
    name = _ascii(text).lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > _LONGEST_NAME or not all(re.fullmatch(r"[a-z0-9_-]{1,63}", label) for label in labels):
        raise _invalid("its host is no name")
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        return _ipv4(name)
    return name


def _ascii(text: str) -> str:
    if text.isascii():
        return text
    if len(text) > _LONGEST_NAME:
        raise _invalid("its host is no name")
    try:
        return idna.encode(text, uts46=True).decode()
    except idna.IDNAError:
        raise _invalid("its host is no name") from None


def _ipv4(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except ValueError:
        pass
    try:
        socket.inet_aton(text)
    except OSError:
        raise _invalid("its IPv4 address cannot be read") from None
    raise not_allowed("An IPv4 address in a URL must be written as four decimal numbers.")


def _target(rest: str) -> str:
    try:
        quoted = quote(rest, safe="/?:@!$&'()*+,;=%-._~[]")
    except UnicodeEncodeError:  # half of a surrogate pair
        raise _invalid("it holds text that is not Unicode") from None
    return quoted if quoted.startswith("/") else f"/{quoted}"


def _invalid(why: str) -> InvalidRequest:
    return InvalidRequest(f"The URL cannot be used: {why}.", code="invalid_url")


def not_allowed(message: str) -> InvalidRequest:
    """The error for a URL that can be read but leads where nobody may."""
    return InvalidRequest(message, code="url_not_allowed")
