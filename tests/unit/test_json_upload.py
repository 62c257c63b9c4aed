"""JSON bodies with a data URL in them, read piece by piece, however they are cut and written."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.media.data_url import DataUrl
from services.media.json_upload import MOST, read_upload
from services.media.spool import Spool
from services.runtime.errors import ApiError, InvalidRequest, TooLarge
from tests.pictures import data_url

DATA = bytes(range(256)) * 3
URL = data_url(DATA)


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


async def arriving(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def read(
    folder: Path, body: bytes | dict[str, Any], *, size: int = 10**9, largest: int = 10**9
) -> tuple[dict[str, Any], bytes | None]:
    """The members, and what is in the spool if the body says that it is an image."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with Spool(folder, largest=largest) as spool:
        members, is_here = await read_upload(arriving(cut(text, size)), spool)
        return members, (await spool.finish()).path.read_bytes() if is_here else None


async def error(folder: Path, body: bytes | dict[str, Any], **sizes: int) -> tuple[str, str | None]:
    with pytest.raises(ApiError) as raised:
        await read(folder, body, **sizes)
    return raised.value.code, raised.value.param


def upload(url: str = URL, **members: Any) -> dict[str, Any]:
    return {"source": {"type": "data_url", "data_url": url}, **members}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 10**6])
async def test_a_body_is_the_same_however_it_is_cut(tmp_path: Path, size: int) -> None:
    members, data = await read(tmp_path, upload(filename='a "cat"\\ \u732b.png', user_id="x"), size=size)
    assert data == DATA
    assert members == upload("", filename='a "cat"\\ \u732b.png', user_id="x")


@pytest.mark.parametrize("size", [1, 5, 10**6])
@pytest.mark.parametrize(
    "write",
    [
        lambda url: url.replace("/", "\\/"),
        lambda url: "".join(f"\\u{ord(each):04x}" for each in url),
        lambda url: url.replace("+", "\\u002B").replace("=", "\\u003d"),
        lambda url: url.replace(",", ",\\n  \\t"),
    ],
)
async def test_escapes_in_the_data_url_are_understood(tmp_path: Path, write: Any, size: int) -> None:
    body = b'{"source":{"type":"data_url","data_url":"%b"}}' % write(URL).encode()
    assert (await read(tmp_path, body, size=size))[1] == DATA


@pytest.mark.parametrize(
    "body",
    [
        '{"source":{"data_url":"URL","type":"data_url"}}',
        '{"filename":"x","source":{"url":null,"data_url" :\n "URL" , "type":"data_url"},"user_id":"y"}',
        '{"source":{"other":{"data_url":"x"},"data_url":"URL","type":"data_url"},"a":[{"source":{"data_url":"z"}}]}',
        '{"data_url":"top","source":{"data\\u005furl":"URL","type":"data_url"}}',
        '{"source":{"a":"\\"data_url\\":\\"","data_url":"URL","type":"data_url"}}',
        '{"source":{"a":["data_url","x"],"data_url":"URL","type":"data_url","b":{}}} \n',
    ],
)
@pytest.mark.parametrize("size", [1, 10**6])
async def test_the_order_of_members_and_what_else_there_is_do_not_matter(tmp_path: Path, body: str, size: int) -> None:
    assert (await read(tmp_path, body.replace("URL", URL).encode(), size=size))[1] == DATA


async def test_the_last_source_counts(tmp_path: Path) -> None:
    second = '"source":{"type":"remote_url","url":"http://x"}'
    members, data = await read(tmp_path, f'{{"source":{{"type":"data_url","data_url":"{URL}"}},{second}}}'.encode())
    assert (members["source"]["url"], data) == ("http://x", None)


async def test_a_data_url_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    body = b'{"source":{"type":"data_url","data_url":"data:;base64,AAAA","data_url":"data:;base64,AAAA"}}'
    assert await error(tmp_path, body) == ("invalid_parameter", "source.data_url")


async def test_a_data_url_that_nobody_asks_for_is_not_read(tmp_path: Path) -> None:
    for kind in ("remote_url", "bogus", None, 5):
        members, data = await read(tmp_path, {"source": {"data_url": "not one", "type": kind}})
        assert (members, data) == ({"source": {"data_url": "", "type": kind}}, None)


@pytest.mark.parametrize("value", [None, 5, True, [], ["x"], {}, {"data_url": "x"}])
async def test_a_data_url_that_is_no_string_is_left_for_the_typed_request_to_refuse(tmp_path: Path, value: Any) -> None:
    body = {"source": {"type": "data_url", "data_url": value}}
    assert await read(tmp_path, body) == (body, None)


async def test_an_empty_body_is_an_empty_object(tmp_path: Path) -> None:
    assert await read(tmp_path, b"") == ({}, None)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b'{"source":{"type":"data_url","data_url":"data:;base64,AAAA"}',
        b'{"source":{"type":"data_url","data_url":"data:;base64,AAAA',
        b'{"source":{"type":"data_url","data_url":"data:;base64,AAAA"}} x',
        b'{"source":{"type":"data_url","data_url":"data:;base64,AAAA"}}{}',
        b'{"source":{"type":"data_url","data_url":"data:;base64,AAAA" "b"}}',
        b'{"source":{"type":"data_url","data_url" "data:;base64,AAAA"}}',
        b'{"source":{"type":"data_url","data_url":"data:;base64,AA\nAA"}}',
        b'{"source":{"type":"data_url","data_url":"data:;base64,\\x41AAA"}}',
        b'{"source":{"type":"data_url","data_url":"data:;base64,\\u00zz1AAA"}}',
        b'{"source":{"type":"data_url","data_url":"data:;base64,AAAA",}}',
        b'{"source":{"type":\'data_url\'}}',
        b'{"filename":"\xff"}',
        b'{"a":' + b"[" * 300 + b"]" * 300 + b"}",
        b"]" * 20,
        b'{"a":1}}}},"source":{"data_url":"x"',
    ],
)
@pytest.mark.parametrize("size", [1, 10**6])
async def test_wrong_json_is_refused_as_such(tmp_path: Path, body: bytes, size: int) -> None:
    assert await error(tmp_path, body, size=size) == ("invalid_json", None)


@pytest.mark.parametrize("body", [b"[]", b"5", b'"data_url"', b"null"])
async def test_a_body_is_an_object(tmp_path: Path, body: bytes) -> None:
    assert await error(tmp_path, body) == ("invalid_parameter", None)


async def test_what_is_beside_the_data_url_has_a_limit_of_its_own(tmp_path: Path) -> None:
    assert (await read(tmp_path, upload(other="x" * (MOST - 200))))[1] == DATA
    assert await error(tmp_path, upload(other="x" * MOST), size=10_000) == ("max_size_exceeded", None)


async def test_the_limit_is_that_of_the_decoded_bytes(tmp_path: Path) -> None:
    assert (await read(tmp_path, upload(), largest=len(DATA)))[1] == DATA
    with pytest.raises(TooLarge, match=f"{len(DATA) - 1} bytes"):
        await read(tmp_path, upload(), largest=len(DATA) - 1)


async def test_a_large_image_arrives_whole(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    assert (await read(tmp_path, upload(data_url(data)), size=65_536))[1] == data


# --- the data URL itself


def decoded(url: bytes, size: int) -> bytes:
    decoder = DataUrl()
    return b"".join(decoder.feed(piece) for piece in cut(url, size)) + decoder.end()


@pytest.mark.parametrize("size", [1, 3, 10, 1000])
@pytest.mark.parametrize(
    "url",
    [
        f"data:image/png;base64,{base64.b64encode(DATA).decode()}",
        f"DATA:image/png;name=cat.png;BASE64,{base64.b64encode(DATA).decode()}",
        f"data:;base64,{base64.encodebytes(DATA).decode()}",
        f"data:;base64, {base64.b64encode(DATA).decode()} \r\n",
        f"data:;base64,{base64.b64encode(DATA).decode().replace('/', '%2F').replace('+', '%2b')}",
        f"data:;base64,{''.join(f'%{ord(each):02X}' for each in base64.b64encode(DATA).decode())}",
    ],
)
def test_a_data_url_is_decoded_however_it_is_cut(url: str, size: int) -> None:
    assert decoded(url.encode(), size) == DATA


def test_a_data_url_may_be_empty() -> None:
    assert decoded(b"data:;base64,", 1) == b""


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    "url",
    [
        b"",
        b"dat",
        b"http://example.com/a,b",
        b"data:image/png",
        b"data:image/png,AAAA",
        b"data:image/png;base64",
        b"data:image/png;base64;x,AAAA",
        b"data:" + b"x" * 2000 + b";base64,AAAA",
        b"data:;base64,A",
        b"data:;base64,AAA",
        b"data:;base64,AA",
        b"data:;base64,AA==AAAA",
        b"data:;base64,A=AA",
        b"data:;base64,====",
        b"data:;base64,AA-_",
        b"data:;base64,AA\xc3\xa4",
        b"data:;base64,AAA%",
        b"data:;base64,AAA%2",
        b"data:;base64,AAA%zz",
        b"data:;base64,AA%%",
        b"data:;base64,AA%3%44",
        b"data:;base64,AA%2 B",
        b"data:;base64,AA\0A",
    ],
)
def test_what_is_no_data_url_is_refused(url: bytes, size: int) -> None:
    with pytest.raises(InvalidRequest) as raised:
        decoded(url, size)
    assert (raised.value.code, raised.value.param) == ("invalid_data_url", "source.data_url")
