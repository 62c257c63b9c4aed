"""Where a sign-in may bring its tokens: only to origins that the operator has named."""

from __future__ import annotations

from urllib.parse import urlsplit

from services.runtime.errors import InvalidRequest

_DEFAULT_PORTS = {"http": 80, "https": 443}


def allowed_redirect(url: str, allowed: tuple[str, ...]) -> str:
    """`url`, or the first of the `allowed` origins when it is empty. Raises `InvalidRequest` (`invalid_redirect_url`)
    unless a browser that follows it is sure to end up at one of them."""
    places = [place for place in allowed if _origin(place)]  # what is no origin, such as `*`, allows nothing
    if not url and places:
        return places[0]
    if _origin(url) not in [_origin(place) for place in places]:
        raise InvalidRequest(
            "The origin of 'redirect_url' is not on OAUTH_REDIRECT_ALLOWLIST",
            code="invalid_redirect_url",
            param="redirect_url",
        )
    return url


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for what browsers might read in another way (backslashes, tabs, user info), has no
    origin (`javascript:`), or has a fragment, which is where the tokens are to go."""
    if not url.isascii() or not url.isprintable() or set(url) & set(' \\#"<>'):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        return None
    return parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme]
