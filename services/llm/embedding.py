"""The embeddings engine: the same routing as chat, vectors instead of words."""

from __future__ import annotations

from services.llm.catalog import Catalog
from services.llm.providers.provider import Json
from services.llm.request import check_embeddings
from services.llm.routing import Endpoint, first_success
from services.runtime.errors import UpstreamFailed
from services.runtime.metrics import Metrics


class EmbeddingEngine:
    """Runs embeddings on the upstreams of a catalog."""

    def __init__(self, catalog: Catalog, metrics: Metrics) -> None:
        self._catalog = catalog
        self._metrics = metrics

    async def embed(self, body: Json, *, deadline: float) -> Json:
        """OpenAI's embeddings `list` for a request body; `model` repeats the requested name."""
        check_embeddings(body)

        async def ask(endpoint: Endpoint) -> Json:
            with endpoint.upstream.lease(deadline):
                answer = await endpoint.upstream.provider.embed({**body, "model": endpoint.model}, deadline=deadline)
                if not isinstance(answer.get("data"), list):
                    raise UpstreamFailed(f"Provider '{endpoint.upstream.name}' answered without vectors")
                return answer

        answer = await first_success(self._catalog.route(body["model"]), ask, deadline=deadline)
        self._count(body["model"], answer.get("usage"))
        return {**answer, "object": "list", "model": body["model"]}

    def _count(self, model: str, usage: object) -> None:
        spent = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        self._metrics.tokens(model, spent if isinstance(spent, int) and spent > 0 else 0, 0)
