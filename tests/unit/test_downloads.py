"""How an image is handed out: ranges, conditions and headers."""

from __future__ import annotations

import hashlib
from email.message import Message
from urllib.parse import unquote

import pytest

from services.media.downloads import Answer, File, Part, answer, disposition, has_already, part_asked_for
from services.runtime.errors import NotSatisfiable

SHA = hashlib.sha256(b"image").digest()
FILE = File(SHA, "image/png", 1000, "cat.png")
ETAG = f'"{SHA.hex()}"'
ALWAYS = {"etag": ETAG, "cache-control": "private, no-cache"}
WHOLE = ALWAYS | {
    "content-type": "image/png",
    "content-length": "1000",
    "content-disposition": 'inline; filename="cat.png"',
    "accept-ranges": "bytes",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "cross-origin",
}
FIRST_TEN = WHOLE | {"content-length": "10", "content-range": "bytes 0-9/1000"}


def got(method: str = "GET", *, seconds: int | None = None, **asked: str | bytes) -> Answer:
    headers = {name.replace("_", "-"): value for name, value in asked.items()}
    return answer(FILE, method, headers, seconds=seconds)


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=0-0", 0, 1),
        ("bytes=999-999", 999, 1000),
        ("bytes=10-", 10, 1000),
        ("bytes=0-", 0, 1000),
        ("bytes=-10", 990, 1000),
        ("bytes=-1000", 0, 1000),
        ("bytes=-5000", 0, 1000),
        ("bytes=990-5000", 990, 1000),
        ("bytes=0-" + "9" * 5000, 0, 1000),
        ("bytes=-" + "9" * 5000, 0, 1000),
        ("bytes=" + "0" * 5000 + "5-9", 5, 10),
        ("Bytes=0-9", 0, 10),
        ("bytes= 0-9", 0, 10),
        ("bytes=0-9, ", 0, 10),
        ("bytes=,,0-9,", 0, 10),
    ],
)
def test_one_range_is_a_part(header: str, start: int, end: int) -> None:
    assert part_asked_for(header, 1000) == Part(start, end)


@pytest.mark.parametrize(
    "header",
    [
        "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=9-0", "bytes=1", "bytes=1-2-3", "bytes=--1", "bytes=+1-2",
        "bytes=0x1-2", "bytes=1.0-2", "bytes=\u0661-\u0662", "bytes=\u00b2-", "bytes=0-9,20-29", "bytes=0-9, 0-9",
        "items=0-9", "0-9", "bytes:0-9", "=0-9", "bytes=0 -9", "bytes=2000-1000",
    ],
)  # fmt: skip
def test_a_range_that_is_malformed_or_several_is_none(header: str) -> None:
    assert part_asked_for(header, 1000) is None


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-2000", "bytes=-0", "bytes=" + "9" * 5000 + "-"])
def test_a_range_behind_the_end_is_refused_with_the_length(header: str) -> None:
    with pytest.raises(NotSatisfiable) as refused:
        part_asked_for(header, 1000)
    assert refused.value.code == "range_not_satisfiable"
    assert refused.value.kind.http == 416
    assert refused.value.headers == (("content-range", "bytes */1000"),)


def test_without_conditions_everything_is_sent() -> None:
    assert got() == Answer(200, WHOLE, Part(0, 1000))


def test_a_part_says_which_it_is() -> None:
    assert got(range="bytes=0-9") == Answer(206, FIRST_TEN, Part(0, 10))


def test_a_head_is_the_same_without_bytes_and_knows_no_ranges() -> None:
    assert got("HEAD") == Answer(200, WHOLE, None)
    assert got("HEAD", range="bytes=0-9") == Answer(200, WHOLE, None)
    assert got("HEAD", range="bytes=5000-") == Answer(200, WHOLE, None)
    assert got("HEAD", if_none_match=ETAG) == Answer(304, ALWAYS, None)


@pytest.mark.parametrize(
    "header", [ETAG, f"W/{ETAG}", "*", " * ", f'"x", {ETAG}', f'W/"x",W/{ETAG},"y"', f'"a,b", {ETAG}']
)
def test_what_the_client_has_is_not_sent_again(header: str) -> None:
    assert got(if_none_match=header) == Answer(304, ALWAYS, None)
    assert got(if_none_match=header, range="bytes=5000-") == Answer(304, ALWAYS, None)


@pytest.mark.parametrize(
    "header", ["", '""', '"x"', ETAG.strip('"'), ETAG[:-1], f'"*", "{ETAG[1:9]}"', "**", "nonsense"]
)
def test_another_tag_is_no_match(header: str) -> None:
    assert not has_already(header, ETAG)
    assert got(if_none_match=header).status == 200


def test_a_part_is_only_continued_of_the_same_bytes() -> None:
    assert got(if_range=ETAG, range="bytes=0-9") == Answer(206, FIRST_TEN, Part(0, 10))
    for other in ('"x"', f"W/{ETAG}", "Fri, 20 Nov 2026 22:00:00 GMT", ""):
        assert got(if_range=other, range="bytes=0-9") == Answer(200, WHOLE, Part(0, 1000))
        assert got(if_range=other, range="bytes=5000-").status == 200


def test_headers_that_are_no_text_are_not_there() -> None:
    assert got(range=b"bytes=0-9", if_none_match=b"*") == Answer(200, WHOLE, Part(0, 1000))


@pytest.mark.parametrize(
    ("seconds", "said"), [(300, "max-age=300"), (1, "max-age=1"), (0, "max-age=0"), (-5, "max-age=0")]
)
def test_a_signed_url_is_kept_as_long_as_it_lives(seconds: int, said: str) -> None:
    for found in (got(seconds=seconds), got(seconds=seconds, if_none_match="*")):
        assert found.headers["cache-control"] == f"private, {said}"


NAMES = [
    "cat.png", "my cat (1).png", "Kätzchen.png", "猫.png", '"; evil=1; x="', "a\r\nset-cookie: x=1\r\n\r\n<html>",
    "a\\b.png",
    "../../etc/passwd", "%41.png", "a%22b.png", "x" * 255, "😀" * 255, "\u202egnp.exe", "a\x00b", "a;b,c=d.png",
    "'quoted'",
    "\ud800.png", "~`{}|[]", "\x7f", "\u0085next", "\u2028line",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_file_name_stays_in_its_place(name: str) -> None:
    header = disposition(name)
    assert header.isascii()
    assert header.isprintable()
    parsed = Message()
    parsed["content-disposition"] = header
    assert parsed.get_content_disposition() == "inline"
    assert {key for key, _ in parsed.get_params([], header="content-disposition")} <= {"inline", "filename"}
    plain = header.partition('filename="')[2].partition('"')[0]
    assert not set(plain) & set('"\\/%\r\n\x00')
    _, _, exact = header.partition("filename*=UTF-8''")
    if exact:
        assert unquote(exact) == "".join(each if each.isprintable() and each not in "/\\" else "_" for each in name)
    else:
        assert plain.replace("_", "") == name.replace("_", "") or "_" in plain


@pytest.mark.parametrize("name", [None, ""])
def test_without_a_name_there_is_none(name: str | None) -> None:
    assert disposition(name) == "inline"


def test_a_name_beyond_ascii_is_told_in_both_ways() -> None:
    assert disposition("Kätzchen.png") == "inline; filename=\"K_tzchen.png\"; filename*=UTF-8''K%C3%A4tzchen.png"
