"""Rate limits that a service counts for several gateways (`RATE_LIMIT_SERVICE`): the same answers as without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import grpc
import httpx
import pytest
from edge_backend import key
from jan.llm.v1 import models_pb2, models_pb2_grpc

from services.runtime.limits import Limit
from tests.rest.edge_rig import Rig, error, refused, running
from tests.rest.fake_limits import FakeLimits

LIMIT = 4
TOO_MANY = (429, "rate_limit_error", "rate_limit_exceeded")
_callers = count()


@pytest.fixture(scope="module")
def service() -> Iterator[FakeLimits]:
    with FakeLimits(LIMIT) as service:
        yield service


@pytest.fixture(scope="module")
def shared(service: FakeLimits) -> Iterator[Rig]:
    with running(rate_limit_mode="enforce", rate_limit_service=service.address) as rig:
        yield rig


def in_one_minute(scenario: Callable[[str], list[httpx.Response]]) -> list[httpx.Response]:
    """The answers of a scenario for a new caller, once more when a minute ended while it ran."""
    while True:
        answers = scenario(f"caller_{next(_callers)}")
        if len({int(answer.headers["x-ratelimit-reset"]) // 60 for answer in answers}) == 1:
            return answers


def ask(rig: Rig, headers: dict[str, str], times: int) -> list[httpx.Response]:
    with httpx.Client(base_url=rig.url, headers=headers) as http:
        return [http.get("/v1/models") for _ in range(times)]


def told(answer: httpx.Response) -> tuple[int, int]:
    assert answer.headers["x-ratelimit-limit-minute"] == answer.headers["x-ratelimit-limit"]
    assert answer.headers["x-ratelimit-remaining-minute"] == answer.headers["x-ratelimit-remaining"]
    return int(answer.headers["x-ratelimit-limit"]), int(answer.headers["x-ratelimit-remaining"])


def test_one_more_than_the_limit_is_refused_by_any_gateway(service: FakeLimits, shared: Rig) -> None:
    with running(rate_limit_mode="report", rate_limit_service=service.address) as other:

        def scenario(caller: str) -> list[httpx.Response]:
            first = ask(shared, shared.bearer(sub=caller), LIMIT + 1)
            return [*first, *ask(other, other.bearer(sub=caller), 1)]

        *answers, reported = in_one_minute(scenario)
    assert [answer.status_code for answer in answers] == [200] * LIMIT + [429]
    assert [told(answer) for answer in answers] == [(LIMIT, left) for left in (3, 2, 1, 0, 0)]
    assert error(answers[-1]) == TOO_MANY
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert int(answers[-1].headers["x-ratelimit-reset"]) % 60 in (0, 1)
    assert (reported.status_code, told(reported)) == (200, (LIMIT, 0))


def test_a_key_brings_its_own_limit(shared: Rig) -> None:
    def scenario(caller: str) -> list[httpx.Response]:
        token = shared.keys.token(auth_method="api_key", sub=caller, sid=f"key_of_{caller}", **Limit(2).claims())
        answers = ask(shared, {"x-api-key": key(token=token)}, 3)
        return [*answers, *ask(shared, shared.bearer(sub=caller), 1)]

    *answers, owner = in_one_minute(scenario)
    assert [told(answer) for answer in answers] == [(2, 1), (2, 0), (2, 0)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert (owner.status_code, told(owner)) == (200, (LIMIT, LIMIT - 1))


def test_who_sends_no_credential_is_counted_by_address(shared: Rig) -> None:
    with httpx.Client(base_url=shared.url) as http:
        answers = [http.post("/auth/guest-login") for _ in range(2 * LIMIT + 1)]
        assert error(next(answer for answer in answers if answer.is_error)) == TOO_MANY
        assert "x-ratelimit-limit" not in http.get("/readyz").headers


async def test_over_grpc_it_is_resource_exhausted(shared: Rig) -> None:
    metadata = tuple(shared.bearer(sub="usr_grpc").items())
    async with grpc.aio.insecure_channel(shared.target) as channel:
        stub = models_pb2_grpc.ModelServiceStub(channel)
        calls = [stub.ListModels(models_pb2.ListModelsRequest(), metadata=metadata) for _ in range(2 * LIMIT + 1)]
        codes = [await call.code() for call in calls]
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await calls[codes.index(grpc.StatusCode.RESOURCE_EXHAUSTED)]
    assert refused(failed.value)[1] == "RATE_LIMIT_EXCEEDED"


def test_without_the_service_everybody_passes() -> None:
    with FakeLimits(1) as service, running(rate_limit_mode="enforce", rate_limit_service=service.address) as rig:
        service.stop()
        answers = [httpx.get(f"{rig.url}/v1/models", headers=rig.bearer()) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
