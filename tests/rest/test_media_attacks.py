"""What strangers try on the Media API at the gateway: other people's images, signatures for something else, addresses
of the server's own network, files that are no images, and bodies that no client would send."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from tests.pictures import data_url, gif, png
from tests.rest.server import JanServer, eventually

MEGABYTE = 1024 * 1024
ELSEWHERE = "127.0.0.3"
"""An address that may be fetched from, of this machine."""
INSIDE = [
    "http://localhost/",
    "http://a.localhost/",
    "http://LOCALHOST./",
    "http://0.0.0.0/",
    "http://0/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://127.0.0.2/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:a00:1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/",
    "http://[ff02::1]/",
    "http://[2001:db8::1]/",
    "http://169.254.169.254/latest/",
    "http://100.100.100.200/",
    "http://192.0.0.192/",
    "http://168.63.129.16/",
    "http://10.0.0.1/",
    "http://172.31.0.1/",
    "http://192.168.1.1/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://⑩.0.0.1/",
    "http://10。0。0。1/",
    "http://ⓛocalhost/",
    "http://10.0.0.1#@example.com/",
]
NO_URLS = [
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_x",
    "javascript:1",
    "//127.0.0.1/",
    "http:127.0.0.1",
    "http://",
    "http://user:pw@10.0.0.1/",
    "http://example.com@10.0.0.1/",
    "http://10.0.0.1\\@example.com/",
    "http://%31%30.0.0.1/",
    "http://10.0.0.1:0/",
    "http://10.0.0.1:99999/",
    "http://10.0.0.1:80:80/",
    "http://[fe80::1%25eth0]/",
    "http://[/",
    "http://a..b/",
]


class Misleading(BaseHTTPRequestHandler):
    """A server that leads elsewhere: to what comes behind the `?`."""

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("location", self.path.partition("?")[2])
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture(scope="module")
def misleading() -> Iterator[str]:
    with ThreadingHTTPServer((ELSEWHERE, 0), Misleading) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{ELSEWHERE}:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JanServer]:
    server = JanServer(tmp_path_factory.mktemp("attacked"), MEDIA_REMOTE_ALLOW_HOSTS=ELSEWHERE)
    server.settings["PUBLIC_BASE_URL"] = server.url
    with server:
        yield server


@pytest.fixture
def ann(attacked: JanServer) -> Iterator[httpx.Client]:
    yield from _somebody(attacked)


@pytest.fixture
def eve(attacked: JanServer) -> Iterator[httpx.Client]:
    yield from _somebody(attacked)


def _somebody(server: JanServer) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {server.token()}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
        yield client


def image() -> bytes:
    return png(tail=os.urandom(16))


def upload(client: httpx.Client, data: bytes) -> Any:
    return client.post("/v1/media/upload", files={"file": data}).json()


def prepared(client: httpx.Client) -> Any:
    return client.post("/v1/media/prepare-upload", json={"content_type": "image/png"}).json()


def error(answer: httpx.Response) -> tuple[int, str, str | None]:
    said = answer.json()["error"]
    return answer.status_code, said["code"], said["param"]


def incoming(server: JanServer) -> int:
    """How many bodies have not arrived whole yet."""
    return len(list((server.data_dir / "media/incoming").iterdir()))


def test_an_image_or_an_upload_of_somebody_else_is_absent_everywhere(ann: httpx.Client, eve: httpx.Client) -> None:
    image_id, upload_id, arrived = upload(ann, image())["id"], prepared(ann)["id"], prepared(ann)
    assert httpx.put(arrived["upload_url"], content=image()).status_code == 204
    for media_id in (image_id, upload_id, arrived["id"]):
        path = f"/v1/media/{media_id}"
        for answer in (eve.get(path), eve.get(f"{path}/presign"), eve.get(f"{path}/content"), eve.delete(path)):
            assert error(answer) == (404, "not_found", None)
        for name in ("id", "jan_id", "media_id"):
            answer = eve.post("/v1/media/presigned-url", json={name: media_id})
            assert error(answer) == (404, "media_not_found", name)
        assert eve.post("/v1/media/resolve", json={"ids": [media_id]}).json() == {"media": [], "missing": [media_id]}
        answer = eve.post("/v1/media/resolve", json={"payload": {"a": ["x", f"data:image/png;{media_id}"]}})
        assert error(answer) == (404, "media_not_found", "payload.a[1]")
        assert error(eve.get("/v1/media", params={"after": media_id})) == (400, "invalid_cursor", "after")
        shown = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": media_id.upper()}}]}]
        answer = eve.post("/v1/chat/completions", json={"model": "jan-demo", "messages": shown})
        assert error(answer) == (404, "media_not_found", "messages[0].content[0].image_url.url")
    assert ann.get(f"/v1/media/{arrived['id']}").status_code == 200
    assert eve.get("/v1/media").json()["data"] == []


def test_a_signature_is_good_for_one_purpose_one_id_and_one_time(ann: httpx.Client) -> None:
    media, target = upload(ann, image()), prepared(ann)
    shows, takes = httpx.URL(media["url" if "url" in media else "presigned_url"]), httpx.URL(target["upload_url"])
    swapped = [
        httpx.get(shows.copy_with(query=takes.query)),
        httpx.get(takes.copy_with(path=f"/v1/media/{target['id']}/content")),
        httpx.put(takes.copy_with(query=shows.query), content=image()),
        httpx.put(shows.copy_with(path=f"/v1/media/uploads/{media['id']}"), content=image()),
        httpx.put(takes.copy_with(path=f"/v1/media/uploads/{media['id']}"), content=image()),
        httpx.get(shows.copy_set_param("exp", f"0{shows.params['exp']}")),
        httpx.get(shows.copy_set_param("exp", "9" * 5000)),
        httpx.get(shows.copy_set_param("exp", "\u0661")),
    ]
    assert {error(answer)[:2] for answer in swapped} == {(401, "invalid_signature")}


def test_no_field_of_a_form_can_be_changed_and_none_added(ann: httpx.Client) -> None:
    target, other = prepared(ann)["presigned_post"], prepared(ann)["presigned_post"]
    policy = json.loads(base64.b64decode(target["fields"]["policy"]))
    policy["conditions"][-1][-1] = 10**9
    grown = base64.b64encode(json.dumps(policy).encode()).decode()
    for change in (
        {"key": other["fields"]["key"]},
        {"key": "images/../../keys/jwks.json"},
        {"policy": other["fields"]["policy"]},
        {"policy": grown},
        {"x-amz-date": "20200101T000000Z"},
        {"x-amz-signature": "0" * 64},
    ):
        answer = httpx.post(target["url"], data={**target["fields"], **change}, files={"file": image()})
        assert error(answer)[:2] == (401, "invalid_signature"), change
    answer = httpx.post(target["url"], data={**target["fields"], "acl": "public-read"}, files={"file": image()})
    assert error(answer) == (400, "invalid_parameter", "acl")


def test_a_finished_upload_takes_nothing_more(ann: httpx.Client) -> None:
    target, data = prepared(ann), image()
    form = target["presigned_post"]
    assert httpx.post(form["url"], data=form["fields"], files={"file": data}).status_code == 204
    assert ann.get(f"/v1/media/{target['id']}").status_code == 200
    again = httpx.post(form["url"], data=form["fields"], files={"file": image()})
    assert error(again)[:2] == error(httpx.put(target["upload_url"], content=image()))[:2] == (401, "invalid_signature")
    assert ann.get(f"/v1/media/{target['id']}/content").content == data


@pytest.mark.parametrize("url", INSIDE)
def test_nothing_is_fetched_from_inside(ann: httpx.Client, url: str) -> None:
    source = {"type": "remote_url", "url": url}
    assert error(ann.post("/v1/media", json={"source": source})) == (400, "url_not_allowed", "source.url")


@pytest.mark.parametrize("location", ["http://10.0.0.1/", "http://localhost/", "//[::1]/", "http://169.254.169.254/"])
def test_nobody_is_led_inside_by_a_redirect(ann: httpx.Client, misleading: str, location: str) -> None:
    source = {"type": "remote_url", "url": f"{misleading}/?{location}"}
    assert error(ann.post("/v1/media", json={"source": source})) == (400, "url_not_allowed", "source.url")


def test_a_ring_of_redirects_ends(ann: httpx.Client, misleading: str) -> None:
    source = {"type": "remote_url", "url": f"{misleading}/?{misleading}/?/?/?/?/?/"}
    assert error(ann.post("/v1/media", json={"source": source})) == (502, "fetch_failed", None)


@pytest.mark.parametrize("url", NO_URLS)
def test_what_is_no_url_of_the_web_is_refused(ann: httpx.Client, url: str) -> None:
    answer = ann.post("/v1/media", json={"source": {"type": "remote_url", "url": url}})
    assert error(answer) == (400, "invalid_url", "source.url")


@pytest.mark.parametrize(
    "data",
    [
        b"<html><script>alert(1)</script></html>",
        b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
        b"GIF89a<script>alert(1)</script>",  # as an image, of 29500 x 29283 pixels
        b"\n" + png(),
        b"\xef\xbb\xbf" + png(),
        b"PK\3\4" + png(),
        b"%PDF-1.4\n",
        png()[:20],
        png(0, 5),
        png(20_000, 20_000),
        png(2**32 - 1, 2**32 - 1),
        gif(0, 0),
        b"\xff\xd8" + b"\xff" * MEGABYTE,
        b"\xff\xd8" + b"\xff\xe0\0\2" * 100_000,
        b"II*\0\xff\xff\xff\xff",
        bytes(1000),
    ],
    ids=range(16),
)
def test_what_is_no_image_or_claims_to_be_a_huge_one_is_refused(
    attacked: JanServer, ann: httpx.Client, data: bytes
) -> None:
    sent = {"type": "data_url", "data_url": data_url(data)}
    target = prepared(ann)
    assert httpx.put(target["upload_url"], content=data, headers={"content-type": "image/png"}).status_code == 204
    for answer in (
        ann.post("/v1/media/upload", files={"file": ("cat.png", data, "image/png")}),
        ann.post("/v1/media", json={"source": sent}),
        ann.get(f"/v1/media/{target['id']}"),
    ):
        assert error(answer) == (400, "unsupported_media_type", None)
    assert incoming(attacked) == 0


def part(name: bytes, value: bytes, more: bytes = b"") -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="' + name + b'"' + more + b"\r\n\r\n" + value + b"\r\n"


FILE = part(b"file", png())
END = b"--b--\r\n"


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("", FILE + END, (400, "invalid_parameter", None)),
        ("; boundary=", FILE + END, (400, "invalid_parameter", None)),
        ("; boundary=other", FILE + END, (400, "invalid_parameter", None)),
        ("; boundary=b", b"", (400, "invalid_parameter", None)),
        ("; boundary=b", END, (400, "invalid_parameter", "file")),
        ("; boundary=b", FILE, (400, "invalid_parameter", None)),
        ("; boundary=b", FILE + FILE + END, (400, "invalid_parameter", "file")),
        ("; boundary=b", part(b"n" * MEGABYTE, b"") + FILE + END, (400, "invalid_parameter", None)),
        ("; boundary=b", part(b"a", b"b") * 100_000 + FILE + END, (400, "invalid_parameter", None)),
        ("; boundary=b", part(b"a", bytes(MEGABYTE)) + FILE + END, (413, "max_size_exceeded", "a")),
        ("; boundary=b", part(b"file", png(), b"\r\nX: y" * 100_000) + END, (400, "invalid_parameter", None)),
        ("; boundary=b", part(b"user_id", b"\xff") + FILE + END, (400, "invalid_parameter", "user_id")),
        ("; boundary=b", part(b"user_id", b"a\0b") + FILE + END, (400, "invalid_parameter", "user_id")),
        ("; boundary=b", part(b"file", png(), b'; filename="\xff"') + END, (400, "invalid_parameter", None)),
        ("; boundary=b", bytes(22 * MEGABYTE) + b"\r\n" + FILE + END, (413, "max_size_exceeded", None)),
    ],
    ids=range(15),
)
def test_a_form_that_no_client_sends_is_refused(
    attacked: JanServer, ann: httpx.Client, kind: str, body: bytes, expected: tuple[int, str, str | None]
) -> None:
    headers = {"content-type": f"multipart/form-data{kind}"}
    answer = ann.post("/v1/media/upload", content=body, headers=headers)
    assert error(answer) == expected
    assert "Error(" not in answer.text
    assert incoming(attacked) == 0


BEFORE = b'{"source": {"type": "data_url", "data_url": "'
DOT = data_url(png()).encode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (bytes([0xEF, 0xBB, 0xBF]) + BEFORE + DOT + b'"}}', (400, "invalid_json", None)),
        (BEFORE + DOT + b'"}}{}', (400, "invalid_json", None)),
        (BEFORE + DOT, (400, "invalid_json", None)),
        (BEFORE + DOT + b'\n"}}', (400, "invalid_json", None)),
        (b"[" * MEGABYTE, (400, "invalid_json", None)),
        (b'{"a":' * 100_000, (400, "invalid_json", None)),
        (b" " * 30 * MEGABYTE + b"{}", (413, "max_size_exceeded", None)),
        (b'{"a": [' + b"0," * MEGABYTE, (413, "max_size_exceeded", None)),
        (BEFORE + b" " * 28 * MEGABYTE + b'"}}', (400, "invalid_data_url", "source.data_url")),
        (BEFORE + DOT + b'", "data_url": "x"}}', (400, "invalid_parameter", "source.data_url")),
        (BEFORE + DOT + b'"}, "user_id": "a\\u0000b"}', (400, "invalid_parameter", "user_id")),
        (BEFORE + DOT + b'"}, "user_id": "\\ud800"}', (400, "invalid_json", None)),
    ],
    ids=range(12),
)
def test_json_that_no_client_sends_is_refused(
    attacked: JanServer, ann: httpx.Client, body: bytes, expected: tuple[int, str, str | None]
) -> None:
    assert error(ann.post("/v1/media", content=body)) == expected
    assert incoming(attacked) == 0


@pytest.mark.parametrize("between", [b" ", b"\\n", b"%20", b"\\u0020"])
def test_much_space_in_a_data_url_is_no_harm(ann: httpx.Client, between: bytes) -> None:
    head, encoded = DOT.split(b",")
    spaces = between * (24 * MEGABYTE // len(between))
    answer = ann.post("/v1/media", content=BEFORE + head + b"," + spaces + encoded + b'"}}')
    assert (answer.status_code, answer.json()["bytes"]) == (200, len(png()))


def test_clients_that_stall_keep_nobody_else_waiting_and_leave_nothing(attacked: JanServer, ann: httpx.Client) -> None:
    head = (
        f"POST /v1/media/upload HTTP/1.1\r\nHost: x\r\nAuthorization: {ann.headers['authorization']}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9000000\r\n\r\n"
    ).encode()
    with ExitStack() as stalled:
        for _ in range(40):
            client = stalled.enter_context(socket.create_connection(("127.0.0.1", attacked.port)))
            client.sendall(head + part(b"file", bytes(200_000))[:-2])
        eventually(lambda: incoming(attacked) == 40)
        began = time.monotonic()
        assert upload(ann, png(tail=os.urandom(MEGABYTE)))["mime"] == "image/png"
        assert time.monotonic() - began < 10
    eventually(lambda: incoming(attacked) == 0)


def test_heads_and_parts_on_one_connection_stay_in_step(attacked: JanServer, ann: httpx.Client) -> None:
    data = image()
    path = f"/v1/media/{upload(ann, data)['id']}/content"
    line = f"{path} HTTP/1.1\r\nHost: x\r\nAuthorization: {ann.headers['authorization']}\r\n"
    asked = [
        f"HEAD {line}",
        f"GET {line}Range: bytes=0-3\r\n",
        f"HEAD {line}Range: bytes=0-3\r\n",
        f"HEAD {line}If-None-Match: *\r\n",
        f"GET {line}If-None-Match: *\r\n",
        f"HEAD {line.replace('jan_', 'ian_')}",
        f"GET {line}Range: bytes=999-\r\n",
        f"GET {line}Connection: close\r\n",
    ]
    with socket.create_connection(("127.0.0.1", attacked.port), timeout=30) as client:
        client.sendall("".join(f"{each}\r\n" for each in asked).encode())
        answers = b"".join(iter(lambda: client.recv(65536), b""))
    statuses = [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", answers)]
    assert statuses == [200, 206, 200, 304, 304, 404, 416, 200]
    assert answers.endswith(data)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "C:\\a\\b.png", "a\r\nX-Evil: 1", 'a";b.png', "日本\u202egnp.exe", "..", "x" * 255]
)
def test_a_file_name_stays_a_name(ann: httpx.Client, name: str) -> None:
    body = {"source": {"type": "data_url", "data_url": data_url(image())}, "filename": name}
    media = ann.post("/v1/media", json=body).json()
    kept = ann.get(f"/v1/media/{media['id']}").json().get("filename", "")
    assert not set(kept) & set("/\\\r\n\u202e")
    headers = ann.get(f"/v1/media/{media['id']}/content").headers
    assert "x-evil" not in headers
    assert headers["content-disposition"].startswith("inline")


def test_a_key_is_ignored_where_images_arrive_in_pieces(ann: httpx.Client) -> None:
    data, headers = image(), {"idempotency-key": "one"}
    first = ann.post("/v1/media/upload", files={"file": data}, headers=headers)
    again = ann.post("/v1/media/upload", files={"file": data}, headers=headers)
    other = ann.post("/v1/media/upload", files={"file": image()}, headers=headers)
    assert first.json()["id"] == again.json()["id"] != other.json()["id"]
    assert [answer.json()["deduped"] for answer in (first, again)] == [False, True]
    assert "idempotent-replayed" not in again.headers
