"""What an answer took, on its way to everybody who adds it up: the counters of this process, and the usage of whoever
asked."""

from __future__ import annotations

from services.llm.accounting.usage_ledger import UsageLedger
from services.llm.accounting.usage_store import Heading
from services.runtime import call
from services.runtime.metrics import Metrics

MOST_TOKENS = 2**31 - 1
"""A larger number is no count of tokens of one answer; sums of these stay within what a table holds."""


class Accounting:
    """Without a ledger, which only tests are, only the metrics count."""

    def __init__(self, metrics: Metrics, ledger: UsageLedger | None = None) -> None:
        self._metrics = metrics
        self._ledger = ledger

    def spent(self, model: str, usage: object, *, project_id: str = "") -> None:
        """Count one answer of a model, for the caller of the call in progress. `usage` is OpenAI's, as an upstream gave
        it: what is no number of tokens there counts as 0."""
        prompt, completion = _tokens(usage, "prompt_tokens"), _tokens(usage, "completion_tokens")
        self._metrics.tokens(model, prompt, completion)
        if self._ledger is not None:
            caller = call.caller()
            api_key_id = caller.session_id if caller.auth_method == "api_key" else ""
            self._ledger.count(Heading(caller.user_id, model, project_id, api_key_id), prompt, completion)


def _tokens(usage: object, name: str) -> int:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and 0 < count <= MOST_TOKENS else 0
