"""What Prometheus reads: the calls of every process, the tokens of every model and what the gateway itself refused."""

from __future__ import annotations

from typing import Any

import httpx
import openai
from prometheus_client.parser import text_string_to_metric_families

from tests.rest.server import JanServer

ME = "/jan.auth.v1.AuthService/GetMe"
VERSION = "/jan.common.v1.StatusService/GetVersion"


def value(server: JanServer, name: str, **labels: str) -> float:
    """The sum of the samples of that name that have those labels."""
    answer = httpx.get(f"http://127.0.0.1:{server.metrics_port}/metrics")
    assert answer.status_code == 200
    samples: list[Any] = [each for family in text_string_to_metric_families(answer.text) for each in family.samples]
    return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())


def test_calls_are_counted_by_code_and_credential(server: JanServer) -> None:
    def counts() -> tuple[float, ...]:
        return (
            value(server, "jan_grpc_calls_total", method=VERSION, code="OK", auth="none"),
            value(server, "jan_grpc_calls_total", method=ME, code="OK", auth="jwt"),
        )

    before = counts()
    server.get("/v1/version")
    server.get("/auth/me", server.token())
    assert counts() == (before[0] + 1, before[1] + 1)


def test_durations_are_measured_finer_than_milliseconds(server: JanServer) -> None:
    server.get("/auth/me", server.token())
    milliseconds = 1000 * value(server, "jan_grpc_seconds_sum", method=ME)
    assert milliseconds > 0
    assert abs(milliseconds - round(milliseconds)) > 1e-6


def test_tokens_of_embeddings_are_counted(server: JanServer, client: openai.OpenAI) -> None:
    before = value(server, "jan_model_tokens_total", model="all-minilm-l6-v2", kind="prompt")
    spent = client.embeddings.create(model="all-minilm-l6-v2", input="How many are these?").usage.prompt_tokens
    assert spent > 0
    assert value(server, "jan_model_tokens_total", model="all-minilm-l6-v2", kind="prompt") == before + spent


def test_what_the_gateway_refused_by_itself_is_counted(server: JanServer) -> None:
    def refused() -> float:
        return value(server, "envoy_http_downstream_rq_xx_total", envoy_response_code_class="4")

    before = refused()
    assert server.get("/v1/models").status_code == 401
    assert refused() == before + 1
