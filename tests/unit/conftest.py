"""The event loops of a module's async tests: asyncio's, or those that its `LOOPS` names."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, LoopFactory]:
    module = getattr(item, "module", None)
    return getattr(module, "LOOPS", {"asyncio": asyncio.new_event_loop})
