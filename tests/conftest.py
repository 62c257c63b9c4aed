"""What holds for every level: no test hangs, and gRPC is set up as the server does it."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.s3 import moto_server, rclone_server  # noqa: F401  # fixtures for all levels

PATIENCE = 60
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")  # read when grpc is loaded; else it talks at every fork


@pytest.fixture(autouse=True)
def _no_test_hangs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test after a minute, async or not; `@pytest.mark.patience(seconds)` gives it another limit."""
    marker = request.node.get_closest_marker("patience")
    seconds = marker.args[0] if marker else PATIENCE

    def give_up(*_: object) -> None:
        raise TimeoutError(f"the test took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
