"""A PostgreSQL of the test's own, for a server's DATABASE_URL. Once it is gone only the test brings it back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

from services.runtime.postgres import EmbeddedPostgres
from services.runtime.supervisor import spawn
from tests.rest.server import descendants_of

PATIENCE = 30.0


class LonePostgres:
    """It goes away by `stop`, `kill` or `freeze` and is back, with its data, by `start`; `close` ends it for good.
    Use it on the main thread (see `spawn`)."""

    def __init__(self, folder: Path) -> None:
        self._embedded = EmbeddedPostgres(folder)
        self._frozen = False

    @property
    def url(self) -> str:
        return self._embedded.url

    async def create(self) -> None:
        """Make the cluster and start it."""
        await self._embedded.initialise()
        await self.start()

    async def start(self) -> None:
        """Start it, or let it go on, and wait until it answers. A server that was killed leaves sessions that end a
        moment later, and until then a new one refuses to start."""
        if self._frozen:
            self._signal_all(signal.SIGCONT)
            self._frozen = False
            return
        async with asyncio.timeout(PATIENCE):
            while not await self._started():
                pass

    def stop(self) -> None:
        """A fast shutdown: sessions are ended, what is committed is written."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(PATIENCE)

    def kill(self) -> None:
        """kill -9, as by a crash."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def freeze(self) -> None:
        """Connections stay open and nothing comes over them."""
        self._signal_all(signal.SIGSTOP)
        self._frozen = True

    def close(self) -> None:
        """End it, in whatever state it is."""
        if self._process.poll() is None:
            self._signal_all(signal.SIGCONT)
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(PATIENCE)
        self._embedded.close()

    async def _started(self) -> bool:
        self._process: subprocess.Popen[bytes] = spawn(self._embedded.process())
        while self._process.poll() is None:
            if await self._embedded.ready():
                return True
            await asyncio.sleep(0.02)
        return False

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in (self._process.pid, *descendants_of(self._process.pid)):
            os.kill(pid, number)
