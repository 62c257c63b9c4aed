"""Make the tree importable in this virtual environment and put `jan-server` into its bin: an editable install without
building anything, so that no build tool has to be downloaded."""

from __future__ import annotations

import shlex
import stat
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The kernel reads no more than 127 bytes of a first line and splits it at the first space, so a shell starts Python.
SCRIPT = """\
#!/bin/sh
exec {python} -P -c 'from services.__main__ import main; main()' "$@"
"""


def main() -> None:
    """Write the path file and the command."""
    packages = Path(sysconfig.get_path("purelib"))
    (packages / "jan_server.pth").write_text(f"{ROOT}\n{ROOT / 'gen'}\n")
    command = Path(sysconfig.get_path("scripts")) / "jan-server"
    command.write_text(SCRIPT.format(python=shlex.quote(sys.executable)))
    command.chmod(command.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


if __name__ == "__main__":
    main()
