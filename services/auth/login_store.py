"""Sign-ins at the external provider that have begun, in PostgreSQL: each can be taken up once, for ten minutes."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import orjson

from services.runtime.db import Database
from services.runtime.vault import Unreadable, Vault

LIFE = 600.0
_PURPOSE = "sign-in"


@dataclass(frozen=True)
class Login:
    """What is needed to finish a sign-in: secrets that never leave the server, and where to go afterwards."""

    nonce: str
    verifier: str
    redirect_url: str


class LoginStore:
    """Every method is one statement. Neither a state nor a secret can be read from the table."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def put(self, state: str, login: Login) -> None:
        """Keep it under its state, and forget those that nobody finished."""
        state_hash = _digest(state)
        await self._database.execute(
            """
            WITH swept AS (DELETE FROM logins WHERE expires_at < now())
            INSERT INTO logins (state_hash, sealed, expires_at) VALUES ($1, $2, $3)
            """,
            state_hash,
            self._vault.seal(orjson.dumps(asdict(login)), purpose=_PURPOSE, about=state_hash),
            datetime.now(UTC) + timedelta(seconds=LIFE),
        )

    async def take(self, state: str) -> Login | None:
        """What was kept under that state, once; None when it is unknown, taken already or too old."""
        state_hash = _digest(state)
        row = await self._database.fetchrow(
            "DELETE FROM logins WHERE state_hash = $1 RETURNING sealed, expires_at > now() AS fresh", state_hash
        )
        if row is None or not row["fresh"]:
            return None
        try:
            return Login(**orjson.loads(self._vault.open(row["sealed"], purpose=_PURPOSE, about=state_hash)))
        except Unreadable:  # DATA_SECRET was changed since
            return None


def _digest(state: str) -> bytes:
    return hashlib.sha256(state.encode()).digest()
