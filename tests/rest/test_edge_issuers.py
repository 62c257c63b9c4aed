"""Tokens of an external issuer at the gateway, beside ours."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from edge_backend import Keys

from services.runtime.identity import EXTERNAL_JWKS
from services.runtime.limits import Limit
from tests.rest.edge_rig import UNAUTHORIZED, UNAVAILABLE, Rig, error, running

THEIRS = "https://login.test/realms/x"
LIMIT = 5


@pytest.fixture(scope="module")
def both() -> Iterator[Rig]:
    """A gateway that accepts a second issuer, whose keys it does not have yet."""
    with running(
        oidc_issuer_url=THEIRS, oidc_client_id="jan", rate_limit_mode="enforce", rate_limit_per_minute=LIMIT
    ) as rig:
        yield rig


@pytest.fixture(scope="module")
def theirs(both: Rig) -> Keys:
    """Their keys, as the auth room has fetched them."""
    assert json.loads((both.keys.jwks.parent / EXTERNAL_JWKS).read_text()) == {"keys": []}
    early = Keys(both.run_dir / "early" / EXTERNAL_JWKS, THEIRS)
    answer = httpx.get(f"{both.url}/v1/models", headers=bearer(early))
    assert error(answer) == UNAVAILABLE
    keys = Keys(both.keys.jwks.parent / EXTERNAL_JWKS, THEIRS)
    asyncio.run(_until_known(both, keys))
    return keys


async def _until_known(rig: Rig, keys: Keys) -> None:
    async with asyncio.timeout(15), httpx.AsyncClient(base_url=rig.url) as http:
        while (await http.get("/v1/models", headers=bearer(keys, sub="known"))).status_code not in (200, 429):
            pass


@pytest.fixture
async def http(both: Rig) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=both.url, timeout=20) as http:
        yield http


def bearer(keys: Keys, **claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {keys.token(**{'aud': 'jan', **claims})}"}


async def test_both_issuers_count(http: httpx.AsyncClient, both: Rig, theirs: Keys) -> None:
    for headers in (bearer(theirs), both.bearer()):
        answer = await http.get("/v1/models", headers=headers)
        assert (answer.status_code, answer.headers["x-auth-method"]) == (200, "jwt")


async def test_who_an_external_token_stands_for_is_said_by_the_service(http: httpx.AsyncClient, theirs: Keys) -> None:
    script = {"initial": {"x-user-id": "usr_of_ours"}}
    answer = await http.post("/v1/chat/completions", json=script, headers=bearer(theirs, sub="subject there"))
    assert answer.headers["x-user-id"] == answer.headers["x-principal-id"] == "usr_of_ours"
    unknown = await http.get("/v1/models", headers=bearer(theirs, sub="subject there"))
    assert not {"x-user-id", "x-principal-id"} & set(unknown.headers)


async def test_our_own_answer_is_not_overruled_by_a_service(http: httpx.AsyncClient, both: Rig) -> None:
    script = {"initial": {"x-user-id": "usr_other"}}
    answer = await http.post("/v1/chat/completions", json=script, headers=both.bearer(sub="usr_a"))
    assert answer.headers["x-user-id"] == answer.headers["x-principal-id"] == "usr_a"


async def test_claims_of_another_issuer_are_never_ours(http: httpx.AsyncClient, theirs: Keys) -> None:
    claims = {"auth_method": "api_key", "sid": "key_1", **Limit(10_000).claims()}
    answer = await http.get("/v1/models", headers=bearer(theirs, sub="clever", **claims))
    assert answer.headers["x-auth-method"] == "jwt"
    assert answer.headers["x-ratelimit-limit"] == str(LIMIT)


async def test_they_are_counted_apart_from_our_own(http: httpx.AsyncClient, both: Rig, theirs: Keys) -> None:
    answers = [await http.get("/v1/models", headers=bearer(theirs, sub="busy")) for _ in range(2 * LIMIT + 1)]
    over = next(answer for answer in answers if answer.status_code != 200)  # a minute may end in between
    assert error(over) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert over.headers["x-auth-method"] == "jwt"
    assert (await http.get("/v1/models", headers=both.bearer(sub="busy"))).status_code == 200


async def test_what_is_wrong_with_a_token_is_said_with_two_issuers_too(
    http: httpx.AsyncClient, both: Rig, theirs: Keys
) -> None:
    past = int(time.time()) - 120
    for headers in (bearer(theirs, exp=past), both.bearer(exp=past)):
        assert error(await http.get("/v1/models", headers=headers)) == (401, "auth_error", "token_expired")
    stranger = Keys(both.run_dir / "stranger" / "jwks.json", "https://evil.test")
    for what, headers in {
        "wrong audience there": bearer(theirs, aud="other"),
        "our audience there": bearer(theirs, aud=both.settings.auth_audience),
        "wrong audience here": both.bearer(aud="other"),
        "unknown issuer": bearer(stranger),
        "their issuer, our key": both.bearer(iss=THEIRS, aud="jan"),
        "our issuer, their key": bearer(theirs, iss=both.settings.issuer, aud=both.settings.auth_audience),
        "no expiry": bearer(theirs, exp=None),
        "garbage": {"authorization": "Bearer x"},
        "none": {},
    }.items():
        answer = await http.get("/v1/models", headers=headers)
        assert (what, error(answer)) == (what, UNAUTHORIZED)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "x-auth-method" not in answer.headers
