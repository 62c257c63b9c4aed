"""Reading the JSON of a search engine, which may be anything: what is no result is left out, never made up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from services.mcp.search.engine import EngineFailed, Hit
from services.runtime.errors import ApiError
from services.runtime.fetched import Answer, Limits

MOST = 4 * 1024 * 1024
"""Bytes of an answer."""


def limits(seconds: float) -> Limits:
    """What asking an engine may cost."""
    return Limits(seconds=seconds, most=MOST, unpack=True)


async def json_object(answer: Answer, engine: str) -> dict[str, Any]:
    """The JSON object of an answer. Raises `EngineFailed`."""
    if answer.status in (401, 403):
        raise EngineFailed(f"{engine} refused the credentials of this server")
    if answer.status == 429:
        raise EngineFailed(f"{engine} is asked too often")
    if answer.status != 200:
        raise EngineFailed(f"{engine} answered with status {answer.status}")
    try:
        value = orjson.loads(b"".join([piece async for piece in answer.body]))
    except orjson.JSONDecodeError as error:
        raise EngineFailed(f"{engine} answered with something that is not JSON") from error
    if not isinstance(value, dict):
        raise EngineFailed(f"{engine} answered with something that is no object")
    return value


def hits(rows: object, *, url: str, snippet: str) -> Iterator[Hit]:
    """The rows that are results: those with a title and a web address."""
    for row in rows if isinstance(rows, list) else ():
        if not isinstance(row, dict):
            continue
        title, link, text = row.get("title"), row.get(url), row.get(snippet)
        if isinstance(title, str) and isinstance(link, str) and link.startswith(("https://", "http://")):
            yield Hit(title, link, text if isinstance(text, str) else "")


def failure(engine: str, error: ApiError) -> EngineFailed:
    """What is said of an engine that could not be asked."""
    if error.code == "fetch_timeout":
        return EngineFailed(f"{engine} did not answer in time")
    return EngineFailed(f"{engine} could not be reached")
