"""What is sealed can be opened by its owner alone, for its purpose alone, and not after a change."""

import stat
import threading
from pathlib import Path

import pytest

from services.runtime import vault
from services.runtime.config import ConfigError, Settings
from services.runtime.vault import Unreadable, Vault

SECRET = b"0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("data", [b"", b"an answer", bytes(range(256)) * 1000], ids=range(3))
def test_what_is_sealed_is_opened_again(data: bytes) -> None:
    sealed = Vault(SECRET).seal(data, purpose="answers", about=b"row 1")
    assert Vault(SECRET).open(sealed, purpose="answers", about=b"row 1") == data


def test_what_is_sealed_cannot_be_read_and_is_never_the_same_twice() -> None:
    one, two = (Vault(SECRET).seal(b"an answer", purpose="answers") for _ in range(2))
    assert one != two
    assert b"an answer" not in one


@pytest.mark.parametrize(
    ("secret", "purpose", "about"),
    [(b"another" * 5, "answers", b"row 1"), (SECRET, "logins", b"row 1"), (SECRET, "answers", b"row 2")],
)
def test_it_takes_the_same_secret_purpose_and_row_to_open(secret: bytes, purpose: str, about: bytes) -> None:
    sealed = Vault(SECRET).seal(b"an answer", purpose="answers", about=b"row 1")
    with pytest.raises(Unreadable):
        Vault(secret).open(sealed, purpose=purpose, about=about)


def test_what_was_changed_or_cut_is_not_opened() -> None:
    sealed = Vault(SECRET).seal(b"an answer", purpose="answers")
    changed = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    cut = [sealed[:at] for at in range(len(sealed))]
    for each in (*changed, *cut, sealed + b"x"):
        with pytest.raises(Unreadable):
            Vault(SECRET).open(each, purpose="answers")


def test_a_secret_of_the_settings_needs_no_file(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "nowhere", data_secret=SECRET.decode())
    sealed = vault.load(settings).seal(b"x", purpose="answers")
    assert Vault(SECRET).open(sealed, purpose="answers") == b"x"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("left", [b"", b"0123456789abcdef"])
def test_a_file_that_was_cut_is_no_secret(tmp_path: Path, left: bytes) -> None:
    settings = Settings(data_dir=tmp_path)
    vault.load(settings)
    (file,) = (tmp_path / "keys").iterdir()
    file.write_bytes(left)
    with pytest.raises(ConfigError, match=r"data\.secret was cut"):
        vault.load(settings)


def test_a_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    sealed = vault.load(settings).seal(b"x", purpose="answers")
    assert vault.load(settings).open(sealed, purpose="answers") == b"x"
    (file,) = (tmp_path / "keys").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_text()) == 64


def test_processes_that_start_together_have_one_secret(tmp_path: Path) -> None:
    settings, vaults = Settings(data_dir=tmp_path), []
    start = threading.Barrier(8)

    def load() -> None:
        start.wait()
        vaults.append(vault.load(settings))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    sealed = vaults[0].seal(b"x", purpose="answers")
    assert [each.open(sealed, purpose="answers") for each in vaults] == [b"x"] * 8
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["data.secret"]


def test_two_installations_have_two_secrets(tmp_path: Path) -> None:
    one, two = (vault.load(Settings(data_dir=tmp_path / name)) for name in ("one", "two"))
    with pytest.raises(Unreadable):
        two.open(one.seal(b"x", purpose="answers"), purpose="answers")


def test_a_place_that_cannot_hold_a_secret_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a file where a directory should be")
    with pytest.raises(ConfigError, match="set DATA_SECRET instead"):
        vault.load(Settings(data_dir=tmp_path))
