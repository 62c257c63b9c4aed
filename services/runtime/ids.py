"""Public identifiers: a prefix that names the noun, and a ULID that sorts by time of creation."""

from __future__ import annotations

from ulid import ULID


def new_id(prefix: str) -> str:
    """Return a new id, for example `usr_01k9x4…`: prefix, underscore, 26 lower-case Crockford base32 characters."""
    return f"{prefix}_{str(ULID()).lower()}"
