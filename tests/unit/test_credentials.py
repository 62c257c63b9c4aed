"""Which credential counts, and how long a key's token is handed out."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio

from services.auth.api_key_store import ApiKeyStore, digest, new_secret
from services.auth.exchange import Exchange, Presented, presented
from services.auth.quota import Quota
from services.auth.signing import KeyRing
from services.auth.tokens import TokenIssuer
from services.runtime import db
from services.runtime.config import Settings
from services.runtime.db import Database, Row
from services.runtime.errors import RateLimited, Unauthenticated
from services.runtime.identity import Identity

HERE = "192.0.2.1"
SECRET = new_secret("sk_live").text
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
ROW = {
    "id": "key_1",
    "user_id": "usr_1",
    "scopes": ["read", "admin"],
    "tier": "free",
    "requests_per_minute": 0,
    "requests_per_day": 0,
    "expires_at": datetime(2026, 6, 1, tzinfo=UTC),
    "username": "ada",
    "roles": ["user"],
    "is_guest": False,
    "requests": 0,
}


class OneKey(ApiKeyStore):
    """A store of one key, used today as often as is said."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, skew=60)
        self.row: dict[str, Any] = dict(ROW)
        self.asked: list[date] = []

    async def find(self, secret_hash: bytes, day: date) -> Row | None:
        self.asked.append(day)
        return self.row if secret_hash == digest(SECRET) else None


class Scene:
    """The exchange, its store, and the time."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.now = NOON
        self.store = OneKey(database)
        ring = KeyRing(folder, "ES256")
        ring.prepare()
        issuer = TokenIssuer(ring, issuer="me", audience="jan-server", clock=self.clock)
        quota = Quota(database, enforce=True, clock=self.clock)
        self.exchange = Exchange(
            Settings(), self.store, issuer, quota, verify=self.verify, hears=lambda: True, clock=self.clock
        )

    def clock(self) -> float:
        return self.now

    def verify(self, token: str) -> Identity:
        if token not in ("usr_1", "usr_2"):
            raise Unauthenticated("The access token has expired", code="token_expired")
        return Identity(token, token, ("user",), False, "jwt", ("read", "write"), 4e9, token)

    async def authorize(self, authorization: str = "", x_api_key: str = "") -> str:
        return (await self.exchange.authorize(authorization, x_api_key, HERE)).authorization


@pytest_asyncio.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    database = await db.connect("postgresql://nobody@/nothing?host=/nowhere", min_size=0)  # never asked
    yield Scene(tmp_path / "keys", database)
    await database.close()


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "expected"),
    [
        ("Bearer sk_live_1", "", Presented("sk_live_1", "")),
        ("bearer sk-1", "", Presented("sk-1", "")),
        ("", "sk_live_1", Presented("sk_live_1", "")),
        ("", " hello ", Presented("hello", "")),
        ("Bearer sk_live_1", "sk_live_1", Presented("sk_live_1", "")),
        ("Bearer a.b.c", "sk_live_1", Presented("sk_live_1", "a.b.c")),
        ("Bearer a.b.c", "", Presented("", "a.b.c")),
        ("Bearer SK_1", "", Presented("", "SK_1")),
        ("", "", Presented("", "")),
    ],
)
def test_credentials_are_found_where_they_may_be(authorization: str, x_api_key: str, expected: Presented) -> None:
    assert presented(authorization, x_api_key) == expected


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "code"),
    [
        ("Basic dTpw", "sk_live_1", "unauthorized"),
        ("Bearer", "sk_live_1", "unauthorized"),
        ("Bearer ", "sk_live_1", "unauthorized"),
        ("sk_live_1", "", "unauthorized"),
        ("Bearer sk_live_1", "sk_live_2", "conflicting_credentials"),
        ("Bearer sk_live_1", "é", "conflicting_credentials"),
    ],
)
def test_others_are_refused(authorization: str, x_api_key: str, code: str) -> None:
    with pytest.raises(Unauthenticated) as error:
        presented(authorization, x_api_key)
    assert error.value.code == code


async def test_a_token_is_made_once_for_half_its_life(scene: Scene) -> None:
    first = await scene.authorize(x_api_key=SECRET)
    scene.now += 29.9
    assert await scene.authorize(f"Bearer {SECRET}") == first
    assert len(scene.store.asked) == 1
    scene.now += 0.1
    assert await scene.authorize(x_api_key=SECRET) != first


async def test_it_is_said_whether_the_database_was_asked(scene: Scene) -> None:
    said = [(await scene.exchange.authorize("", SECRET, HERE)).asked for _ in range(2)]
    assert said == [True, False]


async def test_a_changed_key_gets_a_new_token_at_once(scene: Scene) -> None:
    first = await scene.authorize(x_api_key=SECRET)
    scene.store.row["scopes"] = ["write"]
    scene.exchange.forget("key_1")
    second = (await scene.authorize(x_api_key=SECRET)).removeprefix("Bearer ")
    assert second != first
    assert jwt.decode(second, options={"verify_signature": False})["scopes"] == ["write"]


async def test_the_scope_admin_counts_only_with_the_role(scene: Scene) -> None:
    token = (await scene.authorize(x_api_key=SECRET)).removeprefix("Bearer ")
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["scopes"], claims["roles"]) == (["read"], ["user"])


async def test_the_quota_of_a_tier_ends_with_the_day(scene: Scene) -> None:
    scene.store.row["requests"] = 48
    for _ in range(2):
        await scene.authorize(x_api_key=SECRET)
    with pytest.raises(RateLimited) as error:
        await scene.authorize(x_api_key=SECRET)
    assert (error.value.code, error.value.retry_after) == ("insufficient_quota", 12 * 3600)
    scene.now += 12 * 3600
    scene.store.row["requests"] = 0
    await scene.authorize(x_api_key=SECRET)
    assert scene.store.asked == [date(2026, 3, 1), date(2026, 3, 2)]


async def test_a_key_beside_its_owner_s_token_is_checked_and_costs_nothing(scene: Scene) -> None:
    scene.store.row["requests"] = 50
    assert await scene.authorize("Bearer usr_1", SECRET) == "Bearer usr_1"
    with pytest.raises(Unauthenticated) as error:
        await scene.authorize("Bearer usr_2", SECRET)
    assert error.value.code == "conflicting_credentials"
    with pytest.raises(Unauthenticated) as error:
        await scene.authorize("Bearer old", SECRET)
    assert error.value.code == "token_expired"
