"""The command that `deploy/link.py` installs runs from wherever the virtual environment is."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from services import __version__

LINK = Path(__file__).parents[2] / "deploy/link.py"


@pytest.mark.parametrize("name", ["plain", "with some spaces", "quo'ted", "x" * 140])
def test_the_command_runs_from_any_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    venv.create(folder, symlinks=True)
    subprocess.run([folder / "bin/python", LINK], check=True)
    (tmp_path / "services.py").write_text("raise SystemExit('not this one')")
    command = [folder / "bin/jan-server", "version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __version__


def test_an_installed_command_hands_its_arguments_on() -> None:
    command = [Path(sys.executable).with_name("jan-server"), "keys", "two words"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'two words'" in done.stderr
