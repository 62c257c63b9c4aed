"""Ids and names of images, as clients write them and as they are kept."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from typing import Protocol

from services.media.media_store import Bringer
from services.runtime.errors import InvalidRequest

LONGEST_NAME = 255
_ID = re.compile(r"jan_[0-9a-hjkmnp-tv-z]{26}", re.IGNORECASE | re.ASCII)
_PLACEHOLDER = re.compile(r"data:[^,]{0,255};(?:base64,)?(jan_[0-9a-z]{26})", re.IGNORECASE | re.ASCII)


class Said(Protocol):
    """A request that says something about an image."""

    user_id: str
    filename: str


def bringer(user_id: str, said: Said) -> Bringer:
    """Who brings an image and what is said about it. Raises `InvalidRequest`."""
    if "\0" in said.user_id:  # PostgreSQL would refuse it, but only when the image has been stored
        raise InvalidRequest("Parameter 'user_id' cannot have the character U+0000", param="user_id")
    return Bringer(user_id, filename(said.filename), said.user_id or None)


def media_id(text: str) -> str | None:
    """The id that `text` is, in lower case; None when it is none."""
    return text.lower() if _ID.fullmatch(text) else None


def mentioned(text: str) -> str | None:
    """The id that `text` stands for: one itself, or a data URL with an id in the place of its bytes."""
    placeholder = _PLACEHOLDER.fullmatch(text)
    return media_id(placeholder[1] if placeholder else text)


def filename(given: str) -> str | None:
    """A file's name without directories and control characters; None when nothing is left. Raises `InvalidRequest`."""
    name = re.split(r"[/\\]", given)[-1]
    name = "".join(each for each in name if unicodedata.category(each) not in ("Cc", "Cf", "Zl", "Zp")).strip()
    if len(name) > LONGEST_NAME:
        raise InvalidRequest(f"Parameter 'filename' has more than {LONGEST_NAME} characters", param="filename")
    return name if name.strip(".") else None


def time_of(moment: datetime | float) -> str:
    """A time, or Unix seconds, as RFC 3339 in UTC."""
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
