"""Rate limits at the gateway, which it counts itself (CONTRACT 13.1)."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from typing import Any

import grpc
import httpx
import pytest
from edge_backend import key
from google.rpc import error_details_pb2, status_pb2
from jan.llm.v1 import models_pb2, models_pb2_grpc
from jan.media.v1 import media_pb2, media_pb2_grpc

from services.runtime.limits import Limit
from tests.rest.edge_rig import Rig, error, refused, running

STUB: Any = media_pb2_grpc.MediaServiceStub  # the generated code is not annotated
LIMIT = 5
TOO_MANY = (429, "rate_limit_error", "rate_limit_exceeded")
HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
_callers = count()

Answers = list[httpx.Response]


@pytest.fixture(scope="module")
def strict() -> Iterator[Rig]:
    """A gateway that lets everybody make LIMIT requests a minute, behind a proxy of ours."""
    with running(rate_limit_mode="enforce", rate_limit_per_minute=LIMIT, trusted_proxies=1) as rig:
        yield rig


@pytest.fixture
async def http(strict: Rig) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=strict.url, timeout=20) as http:
        yield http


async def in_one_minute(scenario: Callable[[str], Awaitable[Answers]]) -> Answers:
    """The answers of a scenario for a new caller, once more when a minute ended while it ran."""
    while True:
        answers = await scenario(f"caller_{next(_callers)}")
        if len({answer.headers["x-ratelimit-reset"] for answer in answers}) == 1:
            return answers


async def until_refused(call: Callable[[], Awaitable[Any]]) -> None:
    for _ in range(2 * LIMIT + 1):  # a minute may end in between
        await call()


def told(answer: httpx.Response) -> tuple[int, int]:
    """Limit and what remains of it, after looking at what every counted answer has."""
    headers = answer.headers
    assert headers["x-ratelimit-limit-minute"] == headers["x-ratelimit-limit"]
    assert headers["x-ratelimit-remaining-minute"] == headers["x-ratelimit-remaining"]
    assert int(headers["x-ratelimit-reset"]) % 60 == 0
    assert not [name for name in headers if name.startswith("x-edge-")]
    return int(headers["x-ratelimit-limit"]), int(headers["x-ratelimit-remaining"])


def api_key(rig: Rig, per_minute: int, **claims: Any) -> str:
    return key(token=rig.keys.token(auth_method="api_key", **Limit(per_minute).claims(), **claims))


async def test_one_more_than_the_limit_is_refused_before_any_work(http: httpx.AsyncClient, strict: Rig) -> None:
    async def scenario(caller: str) -> Answers:
        headers = strict.bearer(sub=caller)
        return [await http.get("/v1/models", headers=headers) for _ in range(LIMIT + 2)]

    before = await strict.counter("cluster.worker.upstream_rq_total")
    answers = await in_one_minute(scenario)
    assert [answer.status_code for answer in answers] == [200] * LIMIT + [429] * 2
    assert [told(answer) for answer in answers] == [(LIMIT, left) for left in (4, 3, 2, 1, 0, 0, 0)]
    assert (await strict.counter("cluster.worker.upstream_rq_total") - before) % LIMIT == 0
    assert error(answers[-1]) == TOO_MANY
    assert answers[-1].headers["x-user-id"] == answers[-1].headers["x-principal-id"]
    assert answers[-1].headers["x-auth-method"] == "jwt"


async def test_a_refusal_says_when_to_come_again(http: httpx.AsyncClient, strict: Rig) -> None:
    async def scenario(caller: str) -> Answers:
        headers = {**strict.bearer(sub=caller), "origin": "https://app.test"}
        return [await http.get("/v1/models", headers=headers) for _ in range(LIMIT + 1)]

    started = time.time()
    answer = (await in_one_minute(scenario))[-1]
    again = int(answer.headers["x-ratelimit-reset"]) - int(answer.headers["retry-after"])
    assert started - 1 <= again <= time.time() + 1
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert answer.headers["access-control-allow-origin"] == "https://app.test"
    assert "x-ratelimit-remaining" in answer.headers["access-control-expose-headers"]


async def test_callers_share_nothing_but_ports_and_prefixes_do(http: httpx.AsyncClient, strict: Rig) -> None:
    direct = f"http://127.0.0.1:{strict.settings.llm_api_port}"

    async def scenario(caller: str) -> Answers:
        headers = strict.bearer(sub=caller)
        urls = ["/v1/models", "/llm/v1/models", f"{direct}/v1/models", f"{direct}/llm/v1/models", "/auth/me"]
        first = [await http.get(url, headers=headers) for url in urls]
        over = await http.get(f"{direct}/v1/models", headers=headers)
        return [*first, over, await http.get("/v1/models", headers=strict.bearer(sub=f"{caller}_other"))]

    *answers, over, other = await in_one_minute(scenario)
    assert {answer.status_code for answer in answers} == {200}
    assert error(over) == TOO_MANY
    assert (other.status_code, told(other)) == (200, (LIMIT, LIMIT - 1))


async def test_the_count_is_exact_over_all_threads(strict: Rig) -> None:
    async def one(caller: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=strict.url, timeout=20) as http:
            return await http.get("/v1/models", headers=strict.bearer(sub=caller))

    async def scenario(caller: str) -> Answers:
        return await asyncio.gather(*(one(caller) for _ in range(20)))

    answers = await in_one_minute(scenario)
    assert sorted(answer.status_code for answer in answers) == [200] * LIMIT + [429] * 15


@pytest.mark.parametrize("per_minute", [1, 3, 7, 60])
async def test_a_key_has_its_own_limit(http: httpx.AsyncClient, strict: Rig, per_minute: int) -> None:
    async def scenario(caller: str) -> Answers:
        headers = {"x-api-key": api_key(strict, per_minute, sub="usr_keys", sid=caller)}
        return [await http.get("/v1/models", headers=headers) for _ in range(per_minute + 1)]

    answers = await in_one_minute(scenario)
    assert [answer.status_code for answer in answers] == [200] * per_minute + [429]
    assert [told(answer)[1] for answer in answers] == [*reversed(range(per_minute)), 0]
    assert {told(answer)[0] for answer in answers} == {per_minute}
    assert error(answers[-1]) == TOO_MANY
    assert answers[-1].headers["x-auth-method"] == "api_key"


async def test_where_a_credential_is_optional_the_account_counts_or_the_address_and_never_both(
    http: httpx.AsyncClient, strict: Rig
) -> None:
    async def scenario(caller: str) -> Answers:
        number = int(caller.removeprefix("caller_"))
        stranger = {"x-forwarded-for": f"198.51.{number // 250}.{number % 250}"}
        url = "/v1/media/1/content?exp=metadata"
        known = [await http.get(url, headers={**stranger, **strict.bearer(sub=caller)}) for _ in range(2)]
        known.append(await http.get("/v1/models", headers={**stranger, **strict.bearer(sub=caller)}))
        unknown = [await http.get(url, headers=stranger) for _ in range(2)]
        unknown.append(await http.get(url, headers={**stranger, "authorization": "Basic x"}))
        unknown.append(await http.get(url, headers={**stranger, "x-edge-stranger": "1"}))
        unknown.append(await http.get("/v1/public/x", headers=stranger))
        return [*known, *unknown, await http.get(url, headers=stranger)]

    answers = await in_one_minute(scenario)
    assert [told(answer)[1] for answer in answers] == [4, 3, 2, 4, 3, 2, 1, 0, 0]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 200, 401, 200, 200, 429]
    assert error(answers[-1]) == TOO_MANY


async def test_a_native_stranger_is_counted_by_address(strict: Rig) -> None:
    asked = media_pb2.GetMediaContentRequest(id="1", exp="metadata")
    metadata = (("x-forwarded-for", "203.0.113.99"),)
    async with grpc.aio.insecure_channel(strict.target) as channel:
        stub: Any = STUB(channel)

        async def call() -> None:
            [each async for each in stub.GetMediaContentHttp(asked, metadata=metadata)]

        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await until_refused(call)
    assert refused(failed.value)[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMIT_EXCEEDED")


@pytest.mark.parametrize("per_minute", [1, 2, 3, 100, 999, 1000, 31_622, 1_000_000])
def test_the_units_of_a_bucket_are_as_many_requests_as_a_key_may_make(per_minute: int) -> None:
    hits = int(Limit(per_minute).claims()["hits"])
    assert 1_000_000_000 // hits == per_minute
    assert 1 <= hits <= 1_000_000_000  # Envoy takes no more


async def test_keys_do_not_take_from_each_other_nor_from_their_owner(http: httpx.AsyncClient, strict: Rig) -> None:
    async def scenario(caller: str) -> Answers:
        keys = [api_key(strict, 1, sub=caller, sid=f"{caller}_{n}") for n in range(2)]
        answers = [await http.get("/v1/models", headers={"x-api-key": each}) for each in keys]
        return [*answers, await http.get("/v1/models", headers=strict.bearer(sub=caller))]

    first, second, owner = await in_one_minute(scenario)
    assert [answer.status_code for answer in (first, second, owner)] == [200, 200, 200]
    assert told(owner) == (LIMIT, LIMIT - 1)


async def test_who_sends_no_credential_is_counted_by_address(http: httpx.AsyncClient, strict: Rig) -> None:
    async def login(address: str) -> httpx.Response:
        return await http.post("/auth/guest-login", headers={"x-forwarded-for": address})

    async def scenario(caller: str) -> Answers:
        number = int(caller.partition("_")[2])
        answers = [await login(f"10.0.0.{number}") for _ in range(LIMIT + 1)]
        answers += [await login(f"2001:db8:0:{number}::{n:x}") for n in range(LIMIT + 1)]
        return [*answers, await login(f"10.0.1.{number}")]

    answers = await in_one_minute(scenario)
    assert [answer.status_code for answer in answers] == [*[201] * LIMIT, 429, *[201] * LIMIT, 429, 201]
    assert error(answers[LIMIT]) == TOO_MANY
    assert told(answers[-1]) == (LIMIT, LIMIT - 1)
    assert "x-auth-method" not in answers[LIMIT].headers


@pytest.mark.parametrize(
    "path",
    ["/healthz", "/llm/healthz", "/readyz", "/llm/readyz", "/v1/version", "/.well-known/jwks.json",
     "/.well-known/openid-configuration", "/nope"],
)  # fmt: skip
async def test_some_paths_are_not_counted(http: httpx.AsyncClient, path: str) -> None:
    headers = {"x-forwarded-for": "192.0.2.99"}
    answers = [await http.get(path, headers=headers) for _ in range(LIMIT + 1)]
    assert {answer.status_code for answer in answers} <= {200, 404, 501}
    assert not [name for name in answers[-1].headers if name in HEADERS]


async def test_a_preflight_and_a_refused_credential_are_not_counted(http: httpx.AsyncClient) -> None:
    asks = {"origin": "https://app.test", "access-control-request-method": "POST"}
    answers = [await http.options("/v1/models", headers=asks) for _ in range(LIMIT + 1)]
    answers += [await http.get("/v1/models") for _ in range(LIMIT + 1)]
    assert [answer.status_code for answer in answers] == [200] * (LIMIT + 1) + [401] * (LIMIT + 1)
    assert not [answer for answer in answers if HEADERS[0] in answer.headers]


async def test_over_grpc_it_is_resource_exhausted_with_retry_info(http: httpx.AsyncClient, strict: Rig) -> None:
    metadata = tuple(strict.bearer(sub="usr_grpc").items())
    async with grpc.aio.insecure_channel(strict.target) as channel:
        stub = models_pb2_grpc.ModelServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await until_refused(lambda: stub.ListModels(models_pb2.ListModelsRequest(), metadata=metadata))
    expected = (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMIT_EXCEEDED", "Too many requests.")
    assert refused(failed.value) == expected
    headers = dict(failed.value.trailing_metadata() or ()) | dict(failed.value.initial_metadata() or ())
    retry = error_details_pb2.RetryInfo()
    assert status_pb2.Status.FromString(headers["grpc-status-details-bin"]).details[1].Unpack(retry)
    assert str(retry.retry_delay.seconds) == headers["retry-after"]
    assert headers["x-ratelimit-remaining"] == "0"
    assert "x-http-status" not in headers
    connect = {"content-type": "application/proto", "connect-protocol-version": "1", **strict.bearer(sub="usr_grpc")}
    answers = [await http.post("/jan.llm.v1.ModelService/ListModels", headers=connect) for _ in range(2 * LIMIT + 1)]
    answers = [answer for answer in answers if answer.status_code != 200]
    assert answers[-1].json() == {"code": "resource_exhausted", "message": "Too many requests."}
    assert answers[-1].status_code == 429
    web = {"content-type": "application/grpc-web+proto", **strict.bearer(sub="usr_grpc")}
    path = "/jan.llm.v1.ModelService/ListModels"
    answers = [await http.post(path, content=bytes(5), headers=web) for _ in range(2 * LIMIT + 1)]
    last = [answer for answer in answers if "grpc-status" in answer.headers][-1]
    over = last.headers
    assert (last.status_code, over["grpc-status"], over["grpc-message"]) == (200, "8", "Too many requests.")
    details = status_pb2.Status.FromString(base64.b64decode(over["grpc-status-details-bin"] + "==")).details
    assert details[1].Unpack(retry)
    assert str(retry.retry_delay.seconds) == over["retry-after"]


async def test_a_limit_of_a_service_is_not_the_gateway_s(http: httpx.AsyncClient, strict: Rig) -> None:
    script = {"fail": "RateLimited", "with": {"message": "slow", "retry_after": 77, "code": "upstream_rate_limited"}}
    answer = await http.post("/v1/chat/completions", json=script, headers=strict.bearer(sub="usr_upstream"))
    assert error(answer)[2] == "upstream_rate_limited"
    assert answer.headers["retry-after"] == "77"
    assert told(answer)[0] == LIMIT


def test_the_next_window_works() -> None:
    seconds = {"%START_TIME(%Y%m%d%H%M)%": "%START_TIME(%Y%m%d%H%M%S)%"}  # windows of a second, not of a minute
    statuses = []
    with (
        running(rate_limit_mode="enforce", rate_limit_per_minute=2, replacing=seconds) as rig,
        httpx.Client(base_url=rig.url, headers=rig.bearer()) as http,
    ):
        while statuses[-2:] != [429, 200]:
            statuses.append(http.get("/v1/models").status_code)
    assert set(statuses) == {200, 429}


def test_report_tells_and_refuses_nothing() -> None:
    with (
        running(rate_limit_mode="report", rate_limit_per_minute=2) as rig,
        httpx.Client(base_url=rig.url, headers=rig.bearer()) as http,
    ):
        answers = [http.get("/v1/models") for _ in range(7)]
    assert {answer.status_code for answer in answers} == {200}
    assert 0 in [told(answer)[1] for answer in answers]
    assert {told(answer)[0] for answer in answers} == {2}
    assert not [answer for answer in answers if "retry-after" in answer.headers]


def test_off_says_nothing() -> None:
    with running(rate_limit_mode="off", rate_limit_per_minute=1) as rig:
        with httpx.Client(base_url=rig.url, headers=rig.bearer()) as http:
            answers = [http.get("/v1/models") for _ in range(3)]
        assert "ratelimit" not in rig.config.read_text().replace("x-ratelimit", "")
    assert {answer.status_code for answer in answers} == {200}
    assert not [name for answer in answers for name in answer.headers if "ratelimit" in name]
