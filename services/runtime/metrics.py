"""Counters of one process. The auth process gathers those of all processes and of Envoy and serves them on
METRICS_PORT."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import REGISTRY, Collector

from services.runtime import envoy_admin
from services.runtime.config import LOOPBACK

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """What is counted everywhere. Label values are bounded: methods, codes and model ids that exist."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._calls = Counter(
            "jan_grpc_calls",
            "Calls by method, gRPC code and credential (jwt, api_key, none)",
            ["method", "code", "auth"],
            registry=registry,
        )
        self._seconds = Histogram(
            "jan_grpc_seconds", "Duration of calls in seconds", ["method"], buckets=BUCKETS, registry=registry
        )
        self._tokens = Counter(
            "jan_model_tokens", "Tokens by model and kind (prompt, completion)", ["model", "kind"], registry=registry
        )
        self._exchanges = Counter(
            "jan_api_key_exchanges",
            "Requests with an API key by outcome (remembered, asked: the database, or the code of the refusal)",
            ["outcome"],
            registry=registry,
        )
        self._observers: dict[tuple[str, str, str], tuple[Callable[[], None], Callable[[float], None]]] = {}

    def call(self, method: str, code: str, auth: str, seconds: float) -> None:
        """Count one call; the label lookups are made once per combination."""
        pair = self._observers.get((method, code, auth))
        if pair is None:
            pair = self._calls.labels(method, code, auth).inc, self._seconds.labels(method).observe
            self._observers[method, code, auth] = pair
        pair[0]()
        pair[1](seconds)

    def tokens(self, model: str, prompt: int, completion: int) -> None:
        """Count the tokens of one generation."""
        self._tokens.labels(model, "prompt").inc(prompt)
        self._tokens.labels(model, "completion").inc(completion)

    def exchange(self, outcome: str) -> None:
        """Count one request with an API key."""
        self._exchanges.labels(outcome).inc()


class GatewayCounters(Collector):
    """What Envoy counts of the requests of clients, also of those that no service ever saw."""

    STATS = "/stats/prometheus?usedonly&filter=^http[.]edge[.]downstream_rq_"

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir

    def describe(self) -> list[Metric]:
        """Nothing: they are not known before Envoy runs."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Envoy's numbers of this moment, under the names that the library gives them; none when it does not answer."""
        status, text = asyncio.run(envoy_admin.ask(self._run_dir, self.STATS))  # a thread of the metrics server
        for family in text_string_to_metric_families(text.decode() if status == 200 else ""):
            counter = family.type == "counter"
            metric = Metric(family.name, family.documentation or "Counted by Envoy", family.type)
            for sample in family.samples:
                metric.add_sample(f"{family.name}_total" if counter else sample.name, sample.labels, sample.value)
            yield metric


@dataclass(frozen=True)
class Published:
    """Where metrics are served, and the folder of the socket of the gateway whose own belong to them."""

    port: int
    gateway: Path | None = None


def publish(where: Published) -> Callable[[], None]:
    """Serve Prometheus text on loopback until the returned function is called. With PROMETHEUS_MULTIPROC_DIR set the
    counters of all processes that share the folder are added up."""
    registry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library left it out
    if where.gateway is not None:
        registry.register(GatewayCounters(where.gateway))
    server, _ = start_http_server(where.port, addr=LOOPBACK, registry=registry)
    return server.shutdown
