"""People of the external identity provider whom this process meets for the first time: they get their account at once.

Their credential is a token of that provider, so no sign-in of ours has told the auth room about them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from jan.auth.v1 import auth_pb2, auth_pb2_grpc

from services.runtime.identity import Identity
from services.runtime.statuses import Metadata

DEADLINE = 1.0
KNOWN = 10_000
_USER = "x-user-id"

log = logging.getLogger("jan.newcomers")

Welcome = Callable[[Identity], Awaitable[object]]
"""Makes or updates the account of an external person."""


class Newcomers:
    """Remembers whom `welcome` has been told about, as what; a failure fails no call, and the next one tries again."""

    def __init__(self, welcome: Welcome) -> None:
        self._welcome = welcome
        self._known: dict[str, tuple[str, ...]] = {}

    async def meet(self, caller: Identity) -> None:
        """See to it that there is an account with the roles that the token tells."""
        if self._known.get(caller.user_id) == caller.roles:
            return
        try:
            await self._welcome(caller)
        except Exception as error:  # whatever it is, the call may not need the account
            log.warning("newcomer_not_told", extra={"user_id": caller.user_id, "reason": repr(error)[:300]})
            return
        if len(self._known) >= KNOWN:
            self._known.clear()
        self._known[caller.user_id] = caller.roles


class AuthRoom:
    """The auth room in another process, which makes the account of whoever asks it who she is."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        stub: Any = auth_pb2_grpc.AuthServiceStub  # the generated code is not annotated
        self._accounts = stub(self._channel)

    async def welcome(self, caller: Identity) -> None:
        """Ask in the caller's name. Raises what gRPC raises."""
        credential = (("authorization", f"Bearer {caller.token}"),)
        await self._accounts.GetMe(auth_pb2.GetMeRequest(), metadata=credential, timeout=DEADLINE)

    async def close(self) -> None:
        await self._channel.close()


class Introduced:
    """Stands where a servicer expects its context, and tells the gateway the caller's id here: the token, which the
    gateway has read, only knows the id there. It goes before the first message, because what comes after it cannot
    change the status any more."""

    def __init__(self, context: Any, user_id: str) -> None:
        self._context = context
        self._user_id = user_id
        self._introduced = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """What goes before the first message."""
        self._introduced = True
        await self._context.send_initial_metadata((*metadata, (_USER, self._user_id)))

    async def write(self, message: Any) -> None:
        """One message of a stream."""
        await self.introduce()
        await self._context.write(message)

    async def introduce(self) -> None:
        """Say who it is, if that has not been said: what is returned now is the first message."""
        if not self._introduced:
            await self.send_initial_metadata(())
