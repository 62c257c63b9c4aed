"""The embeddings engine: the same routing as chat, vectors instead of words."""

from __future__ import annotations

from services.llm.accounting.accounting import Accounting
from services.llm.generation.request import check_embeddings
from services.llm.models.catalog import Catalog
from services.llm.models.routing import Endpoint, first_success
from services.llm.providers.provider import Json
from services.runtime.errors import UpstreamFailed


class EmbeddingEngine:
    """Runs embeddings on the upstreams of a catalog."""

    def __init__(self, catalog: Catalog, accounting: Accounting) -> None:
        self._catalog = catalog
        self._accounting = accounting

    async def embed(self, body: Json, *, deadline: float) -> Json:
        """OpenAI's embeddings `list` for a request body; `model` repeats the requested name."""
        check_embeddings(body)

        async def ask(endpoint: Endpoint) -> Json:
            with endpoint.upstream.lease(deadline):
                answer = await endpoint.upstream.provider.embed({**body, "model": endpoint.model}, deadline=deadline)
                if not isinstance(answer.get("data"), list):
                    raise UpstreamFailed(f"Provider '{endpoint.upstream.name}' answered without vectors")
                endpoint.spend(answer.get("usage"))
                return answer

        model = self._catalog.get(body["model"])
        answer = await first_success(model.route, ask, deadline=deadline)
        self._accounting.spent(model.id, answer.get("usage"))
        return {**answer, "object": "list", "model": body["model"]}
