"""Forms with a file, read piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from services.media.forms import Form, is_form, read_form
from services.media.spool import Spool
from services.runtime.errors import ApiError, InvalidRequest

TYPE = 'multipart/form-data; boundary="--x--"'
FILE = bytes(range(256)) * 5


def part(name: str, value: bytes | str, *, filename: str | None = None, kind: str = "") -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    named = f'; filename="{filename}"' if filename is not None else ""
    typed = f"Content-Type: {kind}\r\n" if kind else ""
    head = f'----x--\r\nContent-Disposition: form-data; name="{name}"{named}\r\n{typed}\r\n'
    return head.encode() + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"----x----\r\n"


WHOLE = form(part("user_id", "me \u732b"), part("file", FILE, filename="cat.png", kind="image/png"), part("after", ""))


async def arriving(body: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]
    yield b""


async def read(
    folder: Path, body: bytes, *, size: int = 10**9, kind: str = TYPE, largest: int = 10**6, begin: object = None
) -> tuple[Form, bytes]:
    async with Spool(folder, largest=largest) as spool:
        found = await read_form(kind, arriving(body, size), spool, begin=begin)  # type: ignore[arg-type]  # or None
        return found, (await spool.finish()).path.read_bytes()


async def error(folder: Path, body: bytes, **options: object) -> tuple[str, str | None]:
    with pytest.raises(ApiError) as raised:
        await read(folder, body, **options)  # type: ignore[arg-type]  # those of `read`
    return raised.value.code, raised.value.param


@pytest.mark.parametrize("size", [1, 2, 3, 5, 17, 100, 10**6])
async def test_a_form_is_the_same_however_it_is_cut(tmp_path: Path, size: int) -> None:
    found, data = await read(tmp_path, WHOLE, size=size)
    assert data == FILE
    assert found == Form({"user_id": "me \u732b", "after": ""}, "cat.png")


async def test_what_looks_like_a_boundary_in_the_file_is_part_of_it(tmp_path: Path) -> None:
    tricky = b"\r\n----x-\r\n----x\r----x--\n--\r\n"
    for size in (1, 4, 10**6):
        assert (await read(tmp_path, form(part("file", tricky)), size=size))[1] == tricky


async def test_the_file_needs_no_name_and_no_type_and_may_be_empty(tmp_path: Path) -> None:
    assert await read(tmp_path, form(part("file", b""))) == (Form(), b"")


async def test_files_of_other_names_are_passed_over(tmp_path: Path) -> None:
    other = part("other", bytes(100_000) + b"\xff", filename="other.png")
    assert await read(tmp_path, form(other, part("file", FILE), other)) == (Form(), FILE)
    assert await error(tmp_path, form(other)) == ("invalid_parameter", "file")


async def test_the_last_of_two_fields_with_one_name_counts(tmp_path: Path) -> None:
    found, _ = await read(tmp_path, form(part("a", "1"), part("file", FILE), part("a", "2")))
    assert found.fields == {"a": "2"}


async def test_the_fields_before_the_file_are_told_when_it_begins(tmp_path: Path) -> None:
    told: list[Mapping[str, str]] = []
    body = form(part("key", "k"), part("policy", "p"), part("file", FILE), part("later", "x"))
    await read(tmp_path, body, size=10, begin=lambda fields: told.append(dict(fields)))
    assert told == [{"key": "k", "policy": "p"}]


async def test_who_is_told_may_refuse_before_the_file_is_read(tmp_path: Path) -> None:
    def refuse(fields: Mapping[str, str]) -> None:
        raise InvalidRequest("no", code="empty_file")

    assert await error(tmp_path, form(part("file", bytes(10**6 + 1))), begin=refuse) == ("empty_file", None)


async def test_what_is_said_about_a_broken_form_is_for_people(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await read(tmp_path, form(part("file", FILE)).replace(b'name="file"', b'name="file"; filename="\xff"'))
    assert raised.value.message == "The form cannot be read: Segment header failed to decode"


async def test_a_form_has_one_file(tmp_path: Path) -> None:
    assert await error(tmp_path, form(part("user_id", "x"))) == ("invalid_parameter", "file")
    assert await error(tmp_path, form()) == ("invalid_parameter", "file")
    assert await error(tmp_path, form(part("file", "a"), part("file", "b"))) == ("invalid_parameter", "file")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        WHOLE[:-6],
        WHOLE[: len(WHOLE) // 2],
        form(part("file", FILE)).replace(b"----x--\r\n", b"----y--\r\n"),
        form(part("file", FILE)).replace(b"form-data", b"attachment"),
        form(part("file", FILE)).replace(b"Content-Disposition", b"X-Other"),
        b"----x--\r\nno colon\r\n\r\nx\r\n----x----\r\n",
        b"----x--\r\nContent-Disposition: form-data; name=" + b"n" * 9000 + b"\r\n\r\nx\r\n----x----\r\n",
        form(*(part(f"field{number}", "x") for number in range(70)), part("file", FILE)),
        form(part("bad", b"\xff\xfe"), part("file", FILE)),
    ],
)
@pytest.mark.parametrize("size", [1, 10**6])
async def test_a_form_that_is_broken_or_not_whole_is_refused(tmp_path: Path, body: bytes, size: int) -> None:
    assert (await error(tmp_path, body, size=size))[0] == "invalid_parameter"


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; x=y"])
async def test_a_form_without_a_boundary_is_refused(tmp_path: Path, kind: str) -> None:
    assert (await error(tmp_path, WHOLE, kind=kind))[0] == "invalid_parameter"


async def test_file_and_fields_and_the_rest_have_limits(tmp_path: Path) -> None:
    assert await error(tmp_path, WHOLE, largest=len(FILE) - 1) == ("max_size_exceeded", None)
    large = form(part("a", "x" * 20_000), part("file", FILE))
    assert await error(tmp_path, large, size=1000) == ("max_size_exceeded", "a")
    preamble = b"x" * (2 * 10**6 + 1024 * 1024)
    assert await error(tmp_path, preamble + b"\r\n" + WHOLE, size=65_536) == ("max_size_exceeded", None)


async def test_what_comes_after_the_end_is_ignored(tmp_path: Path) -> None:
    for size in (1, 10**6):
        assert (await read(tmp_path, WHOLE + b"\r\nepilogue", size=size))[1] == FILE


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (TYPE, True),
        ("Multipart/Form-Data", True),
        ("application/json", False),
        ("application/x-www-form-urlencoded", False),
        ("multipart/mixed; boundary=x", False),
        ("", False),
    ],
)
def test_a_form_is_known_by_its_type(kind: str, expected: bool) -> None:
    assert is_form(kind) is expected
