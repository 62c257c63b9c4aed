"""Metrics: what is counted, and that a gateway which does not answer takes nothing from the rest."""

from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from services.runtime.metrics import GatewayCounters, Metrics


def test_calls_are_counted_by_method_code_and_credential() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.call("/a", "OK", "jwt", 0.25)
    metrics.call("/a", "OK", "jwt", 0.5)
    metrics.call("/a", "NOT_FOUND", "none", 0.125)
    count = [
        registry.get_sample_value("jan_grpc_calls_total", {"method": "/a", "code": code, "auth": auth})
        for code, auth in (("OK", "jwt"), ("NOT_FOUND", "none"))
    ]
    assert count == [2, 1]
    assert registry.get_sample_value("jan_grpc_seconds_sum", {"method": "/a"}) == 0.875


def test_a_gateway_that_does_not_answer_leaves_the_other_metrics(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    Metrics(registry).tokens("m", 3, 4)
    registry.register(GatewayCounters(tmp_path))
    assert b'jan_model_tokens_total{kind="prompt",model="m"} 3.0' in generate_latest(registry)
