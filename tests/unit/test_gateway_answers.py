"""What the gateway is answered when something went wrong that nobody thought of."""

import json
from typing import Any, cast

import pytest
from jan.auth.v1 import gateway_pb2
from prometheus_client import CollectorRegistry

from services.auth.exchange import Exchange, Passed
from services.auth.gateway import GatewayServicer
from services.runtime.errors import RateLimited
from services.runtime.metrics import Metrics


class Scripted:
    """An exchange that does what it was made with."""

    def __init__(self, *acts: Passed | Exception) -> None:
        self._acts = list(acts)

    async def authorize(self, authorization: str, x_api_key: str, address: str) -> Passed:
        act = self._acts.pop(0)
        if isinstance(act, Exception):
            raise act
        return act


async def ask(servicer: GatewayServicer, **headers: str) -> gateway_pb2.CheckResponse:
    request = gateway_pb2.CheckRequest()
    request.attributes.request.http.headers.update({"x-request-id": "req_1", **headers})
    return await servicer.Check(request, cast(Any, None))


async def test_a_fault_of_ours_lets_nobody_in_and_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    servicer = GatewayServicer(cast(Exchange, Scripted(KeyError("a secret of ours"))), Metrics(CollectorRegistry()))
    answer = await ask(servicer)
    error = json.loads(answer.denied_response.body)["error"]
    assert (answer.denied_response.status.code, error["code"]) == (500, "server_error")
    assert "secret" not in answer.denied_response.body
    assert "a secret of ours" in caplog.text


async def test_the_outcomes_are_counted() -> None:
    registry = CollectorRegistry()
    acts = Passed("Bearer a", asked=True), Passed("Bearer a"), Passed("Bearer a"), RateLimited("Too many")
    servicer = GatewayServicer(cast(Exchange, Scripted(*acts)), Metrics(registry))
    for _ in acts:
        await ask(servicer)
    counted = {
        outcome: registry.get_sample_value("jan_api_key_exchanges_total", {"outcome": outcome})
        for outcome in ("asked", "remembered", "rate_limit_exceeded")
    }
    assert counted == {"asked": 1, "remembered": 2, "rate_limit_exceeded": 1}


async def test_waiting_times_are_whole_seconds_and_never_none() -> None:
    acts = [RateLimited("Too many", retry_after=seconds) for seconds in (0.0, 0.2, 1.2)]
    servicer = GatewayServicer(cast(Exchange, Scripted(*acts)), Metrics(CollectorRegistry()))
    answers = [await ask(servicer) for _ in acts]
    headers = [{each.header.key: each.header.value for each in a.denied_response.headers} for a in answers]
    assert [each["retry-after"] for each in headers] == ["1", "1", "2"]
