"""Counters of one process. The supervisor gathers those of all processes and serves them on METRICS_PORT."""

from __future__ import annotations

import os
from collections.abc import Callable

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """What is counted everywhere. Label values are bounded: methods, codes and model ids that exist."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._calls = Counter("jan_grpc_calls", "Calls by method and gRPC code", ["method", "code"], registry=registry)
        self._seconds = Histogram(
            "jan_grpc_seconds", "Duration of calls in seconds", ["method"], buckets=BUCKETS, registry=registry
        )
        self._tokens = Counter(
            "jan_model_tokens", "Tokens by model and kind (prompt, completion)", ["model", "kind"], registry=registry
        )
        self._observers: dict[tuple[str, str], tuple[Callable[[], None], Callable[[float], None]]] = {}

    def call(self, method: str, code: str, seconds: float) -> None:
        """Count one call; the label lookups are made once per pair."""
        pair = self._observers.get((method, code))
        if pair is None:
            pair = self._calls.labels(method, code).inc, self._seconds.labels(method).observe
            self._observers[method, code] = pair
        pair[0]()
        pair[1](seconds)

    def tokens(self, model: str, prompt: int, completion: int) -> None:
        """Count the tokens of one generation."""
        self._tokens.labels(model, "prompt").inc(prompt)
        self._tokens.labels(model, "completion").inc(completion)


def publish(port: int) -> Callable[[], None]:
    """Serve Prometheus text on loopback until the returned function is called. With PROMETHEUS_MULTIPROC_DIR set the
    counters of all processes that share the folder are added up."""
    registry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library left it out
    server, _ = start_http_server(port, addr="127.0.0.1", registry=registry)
    return server.shutdown
