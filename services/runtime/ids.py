"""Public identifiers: a prefix that names the noun, and a ULID that sorts by time of creation."""

from __future__ import annotations

import hashlib

from ulid import ULID


def new_id(prefix: str) -> str:
    """Return a new id, for example `usr_01k9x4…`: prefix, underscore, 26 lower-case Crockford base32 characters."""
    return f"{prefix}_{str(ULID()).lower()}"


def derived_id(prefix: str, *parts: str) -> str:
    """Return the id of what these words name, the same in every process: for what nobody makes and all can see."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"{prefix}_{str(ULID(digest[:16])).lower()}"
