"""Make the tree importable in this virtual environment and put `jan-server` into its bin: an editable install without
building anything, so that no build tool has to be downloaded."""

from __future__ import annotations

import stat
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """\
#!{python}
from services.__main__ import main

main()
"""


def main() -> None:
    """Write the path file and the command."""
    packages = Path(sysconfig.get_path("purelib"))
    (packages / "jan_server.pth").write_text(f"{ROOT}\n{ROOT / 'gen'}\n")
    command = Path(sysconfig.get_path("scripts")) / "jan-server"
    command.write_text(SCRIPT.format(python=sys.executable))
    command.chmod(command.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


if __name__ == "__main__":
    main()
