"""What is done for a turn whoever leaves, with a store that fails as a test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest

from services.llm.conversations.item_store import Draft
from services.llm.conversations.turn_keeper import GRACE, TurnKeeper
from services.llm.conversations.turn_store import Run, TurnStore
from services.runtime.errors import Conflict, NotFound, Unavailable
from tests.clock import run

RUN, ANSWER = Run("usr_1", "conv_1"), Draft(role="assistant", content="Hi")
MISSING = NotFound("There is no such conversation")
AWAY = Unavailable("The database is away")


class FakeStore:
    """`failures` are raised one after the other by what is asked for; `done` is what came through."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.done: list[str] = []
        self.reachable = True
        self.gate = asyncio.Event()
        self.gate.set()

    async def keep(self, of: Run, answer: Draft) -> None:
        await self._do("keep")

    async def replace(self, of: Run, answer: Draft, *, after: int) -> None:
        await self._do("replace")

    async def free(self, of: Run) -> None:
        await self._do("free")

    @asynccontextmanager
    async def opening(self, of: Run, missing: NotFound) -> AsyncIterator[None]:
        yield
        await self._do("open")

    async def _do(self, name: str) -> None:
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.done.append(name)


def keeper_of(store: FakeStore) -> TurnKeeper:
    return TurnKeeper(cast(TurnStore, store))


async def opened(keeper: TurnKeeper, error: BaseException | None = None) -> None:
    async with keeper.opening(RUN, MISSING):
        if error is not None:
            raise error


def test_an_answer_is_kept_and_without_one_the_conversation_is_freed() -> None:
    async def scene() -> list[str]:
        store = FakeStore()
        await keeper_of(store).settle(RUN, ANSWER)
        await keeper_of(store).settle(RUN, None)
        return store.done

    assert run(scene()) == ["keep", "free"]


@pytest.mark.parametrize("answer", [ANSWER, None])
def test_without_the_database_the_caller_is_told_and_it_is_tried_until_it_is_back(answer: Draft | None) -> None:
    async def scene() -> list[str]:
        store = FakeStore(*[AWAY] * 3)
        keeper = keeper_of(store)
        with pytest.raises(Unavailable):
            await keeper.settle(RUN, answer)
        assert store.done == []
        await keeper.close()
        return store.done

    assert run(scene()) == ["keep" if answer else "free"]


def test_an_answer_that_cannot_be_stored_does_not_keep_its_conversation_busy() -> None:
    async def scene() -> list[str]:
        store = FakeStore(ValueError("a fault of ours"), AWAY)
        keeper = keeper_of(store)
        with pytest.raises(ValueError, match="ours"):
            await keeper.settle(RUN, ANSWER)
        await keeper.close()
        return store.done

    assert run(scene()) == ["free"]


@pytest.mark.parametrize("name", ["keep", "replace"])
def test_a_client_that_hangs_up_while_its_answer_is_stored_loses_nothing(name: str) -> None:
    async def scene() -> list[str]:
        store = FakeStore()
        keeper = keeper_of(store)
        store.gate.clear()
        work = keeper.settle(RUN, ANSWER) if name == "keep" else keeper.replace(RUN, ANSWER, after=1)
        client = asyncio.create_task(work)
        await asyncio.sleep(0)
        client.cancel()
        with suppress(asyncio.CancelledError):
            await client
        stopping = asyncio.create_task(keeper.close())
        await asyncio.sleep(0)
        assert not stopping.done()
        store.gate.set()
        await stopping
        return store.done

    assert run(scene()) == [name]


def test_a_stop_waits_for_the_turns_that_run() -> None:
    async def scene() -> None:
        keeper, ended = keeper_of(FakeStore()), asyncio.Event()

        async def turn() -> None:
            with keeper.attending():
                await ended.wait()
                await keeper.settle(RUN, ANSWER)

        running = asyncio.create_task(turn())
        await asyncio.sleep(0)
        stopping = asyncio.create_task(keeper.close())
        await asyncio.sleep(0)
        assert not stopping.done()
        ended.set()
        await running
        await stopping

    run(scene())


def test_a_stop_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> float:
        keeper = keeper_of(FakeStore(*[AWAY] * 1000))
        with suppress(Unavailable):
            await keeper.settle(RUN, ANSWER)
        before = asyncio.get_running_loop().time()
        await keeper.close()
        return asyncio.get_running_loop().time() - before

    assert run(scene()) == pytest.approx(GRACE, abs=1)
    assert "turn_lost" in [record.message for record in caplog.records]


@pytest.mark.parametrize("error", [AWAY, asyncio.CancelledError(), ValueError("a fault of ours")])
def test_a_conversation_that_may_have_been_taken_is_freed(error: BaseException) -> None:
    async def scene() -> list[str]:
        store = FakeStore()
        keeper = keeper_of(store)
        with suppress(BaseException):
            await opened(keeper, error)
        await keeper.close()
        return store.done

    assert run(scene()) == ["free"]


@pytest.mark.parametrize("error", [MISSING, Conflict("busy")])
def test_a_conversation_that_was_not_taken_needs_no_freeing(error: Exception) -> None:
    async def scene() -> Any:
        store = FakeStore()
        with pytest.raises(type(error)):
            await opened(keeper_of(store), error)
        return store.done

    assert run(scene()) == []


def test_no_turn_begins_while_others_cannot_see_that_this_process_lives() -> None:
    async def scene() -> list[str]:
        store = FakeStore()
        store.reachable = False
        with pytest.raises(Unavailable):
            await opened(keeper_of(store))
        return store.done

    assert run(scene()) == []
