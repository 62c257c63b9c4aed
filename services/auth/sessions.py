"""Sessions: opened by signing in, continued by refresh tokens that are good once, ended by the user or by misuse."""

from __future__ import annotations

from jan.auth.v1 import auth_pb2

from services.auth import session_store
from services.auth.session_store import Term, term
from services.auth.store import AccountStore
from services.auth.tokens import TokenIssuer, digest, new_refresh_token
from services.runtime.db import Connection, Database, Row
from services.runtime.errors import Conflict, Unauthenticated
from services.runtime.identity import Identity, TokenVerifier
from services.runtime.revocation import revoke


class Sessions:
    """`refresh_ttl` is how long a session lasts that is not refreshed, `skew` how far clocks may differ, in seconds."""

    def __init__(
        self,
        database: Database,
        accounts: AccountStore,
        *,
        issuer: TokenIssuer,
        verifier: TokenVerifier,
        refresh_ttl: float,
        skew: float,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._issuer = issuer
        self._verifier = verifier
        self._refresh_ttl = refresh_ttl
        self._skew = skew

    async def open_for_guest(self) -> auth_pb2.Tokens:
        """Make a guest and sign it in."""
        refresh_token = new_refresh_token()
        user, session_id = await self._accounts.create_guest(self._term(refresh_token))
        return self._tokens(user, session_id, refresh_token)

    async def open(self, user: Row, *, password_hash: str | None = None) -> auth_pb2.Tokens:
        """Sign in the account, whose right to that somebody else has found out; if by a password, only while it has
        that one. Raises `Unauthenticated`."""
        refresh_token = new_refresh_token()
        session_id = await session_store.begin(
            self._database, user["id"], self._term(refresh_token), password_hash=password_hash
        )
        return self._tokens(user, session_id, refresh_token)

    async def refresh(self, refresh_token: str) -> auth_pb2.Tokens:
        """Trade a refresh token for the next one and an access token. One that is spent ends its session: either the
        thief or the owner has used it, and nobody knows who is who (RFC 9700, 4.14.2). Raises `Unauthenticated`."""
        following, spent, user = new_refresh_token(), digest(refresh_token), None
        async with self._database.transaction() as connection:
            session = await session_store.lock(connection, spent)
            if session is not None and await session_store.spend(connection, spent):
                user = await session_store.renew(connection, session["id"], session["user_id"], self._term(following))
            elif session is not None:
                await session_store.end(connection, session["id"], session["user_id"])
        if session is None or user is None:
            raise Unauthenticated(
                "The refresh token is unknown, spent, revoked or expired; sign in again", code="invalid_grant"
            )
        return self._tokens(user, session["id"], following)

    async def upgrade(
        self, caller: Identity, *, email: str, username: str, full_name: str | None, password_hash: str | None
    ) -> tuple[Row, auth_pb2.Tokens]:
        """Make an account of the calling guest. Its session goes on with further tokens; those it has stay good, for
        they give less. Raises `AlreadyExists` (`email_taken`), `Conflict` (`already_upgraded`), `Unauthenticated`."""
        refresh_token = new_refresh_token()
        async with self._database.transaction() as connection:
            upgraded = await self._accounts.upgrade(
                connection,
                caller.user_id,
                email=email,
                username=username,
                full_name=full_name,
                password_hash=password_hash,
            )
            if not upgraded:
                raise Conflict("This account is no guest's any more", code="already_upgraded")
            following = self._term(refresh_token)
            user = await session_store.renew(connection, caller.session_id, caller.user_id, following)
            if user is None:
                raise Unauthenticated("The session of this token has ended; sign in again")
        return user, self._tokens(user, caller.session_id, refresh_token)

    async def revoke(self, token: str) -> None:
        """Make a token worthless: a refresh token with its session, an access token by itself. Others are ignored."""
        identity = self._believed(token)
        async with self._database.transaction() as connection:
            await session_store.end_of_refresh_token(connection, digest(token))
            await self._deny(connection, identity)

    async def log_out(self, *, refresh_token: str, access_token: str) -> None:
        """End the session of the refresh token or, without one, of the access token. Others are ignored."""
        identity = None if refresh_token else self._believed(access_token)
        async with self._database.transaction() as connection:
            if refresh_token:
                await session_store.end_of_refresh_token(connection, digest(refresh_token))
            if identity is not None:
                await session_store.end(connection, identity.session_id, identity.user_id)
            await self._deny(connection, identity)  # it may belong to no session of ours

    async def sweep(self) -> None:
        """Forget the sessions that are over."""
        await session_store.sweep(self._database, session_ttl=self._refresh_ttl)

    def _believed(self, token: str) -> Identity | None:
        """Whose access token it is; None for anything else, such as what the gateway makes of an API key."""
        try:
            identity = self._verifier.verify(token)
        except Unauthenticated:
            return None
        return identity if identity.auth_method == "jwt" else None

    async def _deny(self, connection: Connection, identity: Identity | None) -> None:
        if identity is not None:
            await revoke(connection, [identity.token_id], until=identity.expires_at + self._skew)

    def _term(self, refresh_token: str) -> Term:
        access_ttl = self._issuer.longest + self._skew
        return term(digest(refresh_token), session_ttl=self._refresh_ttl, access_ttl=access_ttl)

    def _tokens(self, user: Row, session_id: str, refresh_token: str) -> auth_pb2.Tokens:
        access = self._issuer.access_token(user, session_id)
        return auth_pb2.Tokens(
            access_token=access.text,
            refresh_token=refresh_token,
            token_type="Bearer",  # noqa: S106  # the scheme's name, RFC 6750
            expires_in=access.expires_in,
            refresh_expires_in=int(self._refresh_ttl),
            user_id=user["id"],
            principal_id=user["id"],
            username=user["username"],
        )
