"""Google's results from Serper (https://serper.dev): POST /search with a JSON body and `X-API-KEY`."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from services.mcp.search.answers import failure, hits, json_object, limits
from services.mcp.search.engine import Hit, Query
from services.runtime.errors import ApiError
from services.runtime.outgoing import Fetcher


class Serper:
    """Asks Serper at `base_url`; `fetcher` must be allowed to go there."""

    name = "serper"

    def __init__(self, fetcher: Fetcher, *, base_url: str, api_key: str) -> None:
        self._fetcher = fetcher
        self._url = f"{base_url.rstrip('/')}/search"
        self._api_key = api_key

    async def search(self, query: Query, *, seconds: float) -> Sequence[Hit]:
        """What it finds, as `Engine.search`."""
        asked = {
            "q": query.restricted,
            "num": query.count,
            "page": query.page,
            "autocorrect": query.autocorrect,
            "gl": query.country,
            "hl": query.language,
            "location": query.location,
            "tbs": query.times,
        }
        content = orjson.dumps({name: value for name, value in asked.items() if value != ""})
        key = {"x-api-key": self._api_key}
        try:
            async with self._fetcher.post(self._url, content, param="q", limits=limits(seconds), headers=key) as answer:
                body = await json_object(answer, "Serper")
        except ApiError as error:
            raise failure("Serper", error) from error
        return list(hits(body.get("organic"), url="link", snippet="snippet"))
