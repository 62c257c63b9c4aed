"""Rate limits and API keys in the whole server: its own auth room exchanges, its own gateway counts."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import httpx
import pytest
from jan.llm.v1 import models_pb2, models_pb2_grpc

from tests.rest.edge_rig import error, refused
from tests.rest.server import JanServer

LIMIT = 6


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JanServer]:
    """A server that lets everybody make LIMIT requests a minute."""
    folder = tmp_path_factory.mktemp("strict")
    with JanServer(folder, RATE_LIMIT_MODE="enforce", RATE_LIMIT_PER_MINUTE=str(LIMIT)) as server:
        yield server


@pytest.fixture(scope="module")
def token(strict: JanServer) -> str:
    return strict.token()


@pytest.fixture(scope="module")
def api_key(strict: JanServer, token: str) -> str:
    headers = {"authorization": f"Bearer {token}"}
    made = httpx.post(f"{strict.url}/auth/api-keys", json={"name": "mine"}, headers=headers)
    assert made.status_code == 201, made.text
    return str(made.json()["data"]["key"])


def until_refused(strict: JanServer, **headers: str) -> list[httpx.Response]:
    """Answers up to the first 429; more than a minute's, when a minute ends in between."""
    answers: list[httpx.Response] = []
    with httpx.Client(base_url=strict.url, headers=headers, timeout=20) as http:
        while not answers or answers[-1].status_code != 429:
            answers.append(http.get("/v1/models"))
    return answers


def test_a_key_is_counted_by_itself_and_its_owner_too(strict: JanServer, token: str, api_key: str) -> None:
    for headers, method in (({"x-api-key": api_key}, "api_key"), ({"authorization": f"Bearer {token}"}, "jwt")):
        *passed, over = until_refused(strict, **headers)
        assert {answer.status_code for answer in passed} == {200}
        assert error(over) == (429, "rate_limit_error", "rate_limit_exceeded")
        assert (over.headers["x-ratelimit-limit"], over.headers["x-auth-method"]) == (str(LIMIT), method)
        assert 1 <= int(over.headers["retry-after"]) <= 60


async def test_an_unknown_key_is_refused_over_rest_and_grpc(strict: JanServer) -> None:
    unknown = "sk_live_" + "0" * 48
    async with httpx.AsyncClient(base_url=strict.url) as http:
        for headers in ({"x-api-key": unknown}, {"authorization": f"Bearer {unknown}"}):
            answer = await http.get("/v1/models", headers=headers)
            assert error(answer) == (401, "auth_error", "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
    async with grpc.aio.insecure_channel(strict.url.removeprefix("http://")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await models_pb2_grpc.ModelServiceStub(channel).ListModels(
                models_pb2.ListModelsRequest(), metadata=(("x-api-key", unknown),)
            )
    assert refused(failed.value)[:2] == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHORIZED")
