"""A backend of matplotlib, inside the sandbox: figures that are shown, or left open at the end, become files.

What runs here is the sandbox's Python, on no side of the server.
"""

from __future__ import annotations

import atexit
from contextlib import suppress

from matplotlib import pyplot  # type: ignore[import-not-found]  # matplotlib is there inside, not here
from matplotlib.backends.backend_agg import (  # type: ignore[import-not-found]
    FigureCanvasAgg as FigureCanvas,  # noqa: F401  # matplotlib looks for it
)

_MOST = 8
_saved = 0


def show(*_arguments: object, **_options: object) -> None:
    """Save every open figure as `figure-<number>.png` in the working directory, and close it."""
    global _saved
    for number in pyplot.get_fignums():
        if _saved < _MOST:
            _saved += 1
            pyplot.figure(number).savefig(f"figure-{_saved}.png")
        pyplot.close(number)


def begin() -> None:
    """Count from one again: another program begins."""
    global _saved
    _saved = 0


@atexit.register
def _show_the_rest() -> None:
    with suppress(Exception):
        show()
