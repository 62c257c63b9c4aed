"""What is told of a program: its streams, the line that says what ended it, the files that come along."""

from __future__ import annotations

import pytest

from services.mcp.sandbox.engine import NAMED, OUTPUT, PICTURE_BYTES, PICTURES, File, chosen, is_picture, shown
from services.mcp.sandbox.failure import out_of_time, raised

TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\n    f()\n'


@pytest.mark.parametrize(
    ("status", "stderr", "error"),
    [
        (0, "", None),
        (0, f"{TRACEBACK}ValueError: logged\n", None),
        (1, f"{TRACEBACK}ValueError: what\n", "ValueError: what"),
        (1, f"{TRACEBACK}KeyboardInterrupt\n", "KeyboardInterrupt"),
        (
            1,
            f"{TRACEBACK}json.decoder.JSONDecodeError: Expecting value\n",
            "json.decoder.JSONDecodeError: Expecting value",
        ),
        (1, f"{TRACEBACK}ValueError: two\nlines\n", "ValueError: two"),
        (1, f"{TRACEBACK}Odd: {'x' * 999}\n", f"Odd: {'x' * 295}"),
        (
            1,
            "  File \"x.py\", line 1\n    x = [\nSyntaxError: '[' was never closed\n",
            "SyntaxError: '[' was never closed",
        ),
        (
            1,
            'Traceback (most recent call last):\n  File "x.py", line 2, in <module>\nobject address  : 0x1b225b8\n'
            "object type name: MemoryError\nobject repr     : MemoryError()\nlost sys.stderr\n",
            "MemoryError",
        ),
        (3, "", "SystemExit: 3"),
        (1, "Enough: of this\n", "SystemExit: 1"),
        (None, "", "SystemExit: None"),
    ],
)
def test_what_ended_a_program_is_found_in_what_python_wrote(status: int | None, stderr: str, error: str | None) -> None:
    assert raised(status, stderr) == error


def test_time_is_told_in_tenths_of_seconds() -> None:
    assert out_of_time(1.4792) == "TimeLimitExceeded: stopped after 1.5 seconds"
    assert out_of_time(30.0) == "TimeLimitExceeded: stopped after 30 seconds"


def test_output_is_text_whatever_it_was() -> None:
    assert shown(b"\xc3\xa9 \xff") == "é �"
    assert shown(b"x" * OUTPUT) == "x" * OUTPUT
    assert shown(b"x" * (OUTPUT + 1)) == "x" * OUTPUT + f"\n[cut off after {OUTPUT} bytes]"
    assert shown(b"x", cut=True) == f"x\n[cut off after {OUTPUT} bytes]"


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "d/a.jpeg", "a.tiff", "a.webp"])
def test_pictures_are_known_by_their_names(name: str) -> None:
    assert is_picture(name)


@pytest.mark.parametrize("name", ["png", "a.png.txt", "a.svg", "a.pdf", ""])
def test_other_files_are_no_pictures(name: str) -> None:
    assert not is_picture(name)


def test_pictures_come_first_then_names_in_order() -> None:
    files = [File("z.csv", None), File("b.png", b"b"), File("a.csv", None), File("a.png", b"a")]
    assert chosen(files) == [File("a.png", b"a"), File("b.png", b"b"), File("a.csv", None), File("z.csv", None)]


def test_pictures_that_are_too_many_or_too_large_are_only_named() -> None:
    many = chosen([File(f"{number:02}.png", b"x") for number in range(PICTURES + 2)])
    assert [file.data for file in many] == [b"x"] * PICTURES + [None, None]
    large = chosen([File("a.png", bytes(PICTURE_BYTES)), File("b.png", b"x"), File("c.png", b"")])
    assert [file.data is None for file in large] == [False, True, False]


def test_only_so_many_files_are_named() -> None:
    assert len(chosen([File(f"{number}.csv", None) for number in range(NAMED + 5)])) == NAMED
