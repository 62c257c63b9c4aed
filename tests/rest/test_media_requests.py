"""The Media API over REST, as its clients meet it at the gateway."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.pictures import data_url, gif, jpeg, png
from tests.rest.server import JanServer, eventually

MEGABYTE = 1024 * 1024
NOBODY = "jan_01k9x4zz01k9x4zz01k9x4zz01"


class Pictures(BaseHTTPRequestHandler):
    """Somebody else's server."""

    def do_GET(self) -> None:
        data = {"/cat.png": png(7, 7), "/page": b"<html></html>", "/large": png(tail=bytes(21 * MEGABYTE))}.get(
            self.path
        )
        self.send_response(200 if data else 404)
        self.send_header("content-type", "image/jpeg")
        self.send_header("content-length", str(len(data or b"")))
        self.end_headers()
        with suppress(ConnectionError):  # it is not read to its end when it is too large
            self.wfile.write(data or b"")

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def media_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JanServer]:
    """A server that fetches from this machine, too."""
    server = JanServer(tmp_path_factory.mktemp("media"), MEDIA_REMOTE_ALLOW_HOSTS="127.0.0.1")
    server.settings["PUBLIC_BASE_URL"] = server.url
    with server:
        yield server


@pytest.fixture
def ada(media_server: JanServer) -> Iterator[httpx.Client]:
    yield from _somebody(media_server)


@pytest.fixture
def bob(media_server: JanServer) -> Iterator[httpx.Client]:
    yield from _somebody(media_server)


def _somebody(server: JanServer) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {server.token()}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
        yield client


def fresh() -> bytes:
    """An image that nobody has brought yet."""
    return png(tail=os.urandom(16))


def upload(data: bytes, **members: Any) -> dict[str, Any]:
    return {"source": {"type": "data_url", "data_url": data_url(data)}, **members}


def brought(client: httpx.Client, data: bytes, **members: Any) -> Any:
    answer = client.post("/v1/media", json=upload(data, **members))
    assert answer.status_code == 200, answer.text
    return answer.json()


def error(answer: httpx.Response) -> tuple[int, str, str | None]:
    said = answer.json()["error"]
    return answer.status_code, said["code"], said["param"]


def incoming(server: JanServer) -> list[Path]:
    """What has not arrived whole yet."""
    return list((server.data_dir / "media/incoming").glob("*.in_*"))


# --- coming in


@pytest.mark.parametrize("path", ["/v1/media", "/v1/media/upload", "/media/v1/media", "/api/media/v1/media/upload"])
def test_an_image_comes_as_json_on_every_path(ada: httpx.Client, path: str) -> None:
    data = fresh()
    answer = ada.post(path, json=upload(data, filename="cat.png"))
    assert answer.status_code == 200, answer.text
    media = answer.json()
    assert media.keys() == {"id", "mime", "bytes", "deduped", "presigned_url", "expires_at", "created_at"}
    assert (media["mime"], media["bytes"], media["deduped"]) == ("image/png", len(data), False)
    assert httpx.get(media["presigned_url"]).content == data


@pytest.mark.parametrize("path", ["/v1/media", "/v1/media/upload", "/media/v1/media/upload"])
def test_an_image_comes_as_a_form_with_its_fields_before_or_after_it(ada: httpx.Client, path: str) -> None:
    data = fresh()
    answer = ada.post(path, data={"user_id": "label"}, files={"file": ("../cat.png", data, "text/html")})
    assert answer.status_code == 200, answer.text
    assert answer.json()["mime"] == "image/png"
    assert ada.get(f"/v1/media/{answer.json()['id']}").json()["filename"] == "cat.png"
    other = fresh()
    files = [("file", ("cat.png", other)), ("filename", (None, "named.png"))]
    answer = ada.post(path, files=files)
    assert ada.get(f"/v1/media/{answer.json()['id']}").json()["filename"] == "named.png"


def test_the_content_type_of_json_does_not_matter(ada: httpx.Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        body = json.dumps(upload(fresh()))
        assert ada.post("/v1/media", content=body, headers={"content-type": kind}).status_code == 200


def test_the_same_bytes_have_the_same_id_in_whatever_way_they_come(
    ada: httpx.Client, bob: httpx.Client, media_server: JanServer
) -> None:
    data = fresh()
    first = brought(ada, data)
    second = bob.post("/v1/media/upload", files={"file": data}).json()
    assert (second["id"], second["deduped"]) == (first["id"], True)
    digest = hashlib.sha256(data).hexdigest()
    assert len(list((media_server.data_dir / "media").rglob(f"{digest}/*"))) == 1


def test_an_image_comes_from_a_url(ada: httpx.Client, elsewhere: str) -> None:
    source = {"type": "remote_url", "url": f"{elsewhere}/cat.png"}
    answer = ada.post("/v1/media", json={"source": source})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["mime"], answer.json()["bytes"]) == ("image/png", len(png(7, 7)))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ELSEWHERE/absent", (502, "fetch_failed", None)),
        ("ELSEWHERE/page", (400, "unsupported_media_type", None)),
        ("ELSEWHERE/large", (413, "max_size_exceeded", None)),
        ("http://10.0.0.1/cat.png", (400, "url_not_allowed", "source.url")),
        ("http://192.168.0.1:1/cat.png", (400, "url_not_allowed", "source.url")),
        ("http://[::1]/cat.png", (400, "url_not_allowed", "source.url")),
        ("file:///etc/passwd", (400, "invalid_url", "source.url")),
        ("cat.png", (400, "invalid_url", "source.url")),
        ("", (400, "invalid_parameter", "source.url")),
        (5, (400, "invalid_parameter", "source.url")),
    ],
)
def test_a_url_that_leads_to_no_image_is_refused(
    ada: httpx.Client, elsewhere: str, url: Any, expected: tuple[int, str, str | None]
) -> None:
    url = url.replace("ELSEWHERE", elsewhere) if isinstance(url, str) else url
    answer = ada.post("/v1/media", json={"source": {"type": "remote_url", "url": url}})
    assert error(answer) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "invalid_parameter", "source")),
        (b"{}", (400, "invalid_parameter", "source")),
        (b"{", (400, "invalid_json", None)),
        (b"{} x", (400, "invalid_json", None)),
        (b"[]", (400, "invalid_parameter", None)),
        (b'{"source":5}', (400, "invalid_parameter", "source")),
        (b'{"source":{}}', (400, "invalid_parameter", "source.type")),
        (b'{"source":{"type":5}}', (400, "invalid_parameter", "source.type")),
        (b'{"source":{"type":"floppy"}}', (400, "invalid_source_type", "source.type")),
        (b'{"source":{"type":"data_url"}}', (400, "invalid_parameter", "source.data_url")),
        (b'{"source":{"type":"data_url","data_url":5}}', (400, "invalid_parameter", "source.data_url")),
        (b'{"source":{"type":"data_url","data_url":""}}', (400, "invalid_data_url", "source.data_url")),
        (
            b'{"source":{"type":"data_url","data_url":"data:image/png;base64,@"}}',
            (400, "invalid_data_url", "source.data_url"),
        ),
        (b'{"source":{"type":"data_url","data_url":"data:image/png;base64,"}}', (400, "empty_file", None)),
        (
            b'{"source":{"type":"data_url","data_url":"data:image/png;base64,AAAA"}}',
            (400, "unsupported_media_type", None),
        ),
        (b'{"source":{"data_url":"x","type":"floppy"}}', (400, "invalid_source_type", "source.type")),
        (
            b'{"filename":5,"source":{"type":"data_url","data_url":"data:;base64,AAAA"}}',
            (400, "invalid_parameter", "filename"),
        ),
    ],
)
def test_what_is_wrong_with_a_body_is_said(
    ada: httpx.Client, body: bytes, expected: tuple[int, str, str | None]
) -> None:
    for path in ("/v1/media", "/v1/media/upload"):
        assert error(ada.post(path, content=body)) == expected


def test_a_source_that_there_is_not_begins_its_message(ada: httpx.Client) -> None:
    answer = ada.post("/v1/media", json={"source": {"type": "floppy"}})
    assert answer.json()["error"]["message"].startswith("unknown source type")


def test_what_is_wrong_with_a_form_is_said(ada: httpx.Client) -> None:
    path = "/v1/media/upload"
    assert error(ada.post(path, files={"other": fresh()})) == (400, "invalid_parameter", "file")
    assert error(ada.post(path, files=[("file", fresh()), ("file", fresh())])) == (400, "invalid_parameter", "file")
    assert error(ada.post(path, files={"file": b""})) == (400, "empty_file", None)
    assert error(ada.post(path, files={"file": b"<svg/>"})) == (400, "unsupported_media_type", None)
    large = {"data": {"user_id": "x" * 257}, "files": {"file": fresh()}}
    assert error(ada.post(path, **large)) == (400, "invalid_parameter", "user_id")
    broken = ada.post(path, content=b"--b\r\nbroken", headers={"content-type": "multipart/form-data; boundary=b"})
    assert error(broken)[:2] == (400, "invalid_parameter")


def test_twenty_megabytes_are_taken_and_a_byte_more_is_not(ada: httpx.Client, media_server: JanServer) -> None:
    exact = png(tail=os.urandom(8)).ljust(20 * MEGABYTE, b"\0")
    assert brought(ada, exact)["bytes"] == 20 * MEGABYTE
    for answer in (
        ada.post("/v1/media", json=upload(exact + b"\0")),
        ada.post("/v1/media/upload", files={"file": exact + b"\0"}),
    ):
        assert error(answer)[:2] == (413, "max_size_exceeded")
        assert "20MB" in answer.json()["error"]["message"]
        assert answer.json()["error"]["type"] == "size_error"
    assert incoming(media_server) == []


def test_without_a_credential_nothing_is_taken(media_server: JanServer) -> None:
    with httpx.Client(base_url=media_server.url) as nobody:
        for path in ("/v1/media", "/v1/media/upload", "/v1/media/prepare-upload", "/v1/media/resolve"):
            assert error(nobody.post(path, json=upload(fresh()))) == (401, "unauthorized", None)
        for path in ("/v1/media", f"/v1/media/{NOBODY}", f"/v1/media/{NOBODY}/content"):
            assert error(nobody.get(path))[0] == 401


def test_a_client_that_goes_in_the_middle_leaves_nothing(ada: httpx.Client, media_server: JanServer) -> None:
    head = (
        f"POST /v1/media/upload HTTP/1.1\r\nHost: x\r\nAuthorization: {ada.headers['authorization']}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9000000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
    )
    with socket.create_connection(("127.0.0.1", media_server.port)) as client:
        client.sendall(head.encode() + png() + bytes(2_000_000))
        eventually(lambda: incoming(media_server))
    eventually(lambda: not incoming(media_server))


def test_many_images_arrive_at_once(ada: httpx.Client, media_server: JanServer) -> None:
    images = [png(tail=os.urandom(2 * MEGABYTE)) for _ in range(12)]

    def send(index: int) -> str:
        if index % 2:
            return str(brought(ada, images[index])["id"])
        return str(ada.post("/v1/media/upload", files={"file": images[index]}).json()["id"])

    with ThreadPoolExecutor(12) as threads:
        ids = list(threads.map(send, range(12)))
    assert len(set(ids)) == 12
    assert ada.get(f"/v1/media/{ids[7]}/content").content == images[7]
    assert incoming(media_server) == []


# --- reading


def test_an_image_is_described(ada: httpx.Client) -> None:
    media = brought(ada, jpeg() + os.urandom(9), filename="cat.jpg")
    for path in (f"/v1/media/{media['id']}", f"/media/v1/media/{media['id'].upper()}"):
        got = ada.get(path).json()
        assert got.keys() == {
            *("id", "mime", "bytes", "filename", "deduped", "created_at", "presigned_url", "url", "expires_at")
        }
        assert (got["id"], got["mime"], got["filename"]) == (media["id"], "image/jpeg", "cat.jpg")
        assert (got["deduped"], got["created_at"]) == (False, media["created_at"])
        assert got["url"] == got["presigned_url"]
    signed = ada.get(f"/v1/media/{media['id']}/presign").json()
    assert signed.keys() == {"id", "url", "expires_in", "expires_at"}
    assert (signed["id"], signed["expires_in"]) == (media["id"], 300)


def test_an_image_is_listed_with_the_envelope_of_every_list(ada: httpx.Client) -> None:
    ids = [brought(ada, fresh())["id"] for _ in range(3)]
    page = ada.get("/v1/media", params={"limit": 2}).json()
    assert page["data"][0].keys() >= {"id", "object", "mime", "bytes", "created_at"}
    assert [each["id"] for each in page["data"]] == ids[:0:-1]
    assert (page["object"], page["total_count"], page["has_more"]) == ("list", 3, True)
    assert (page["first_id"], page["last_id"], page["next_after"]) == (ids[2], ids[1], ids[1])
    assert [each["id"] for each in ada.get("/v1/media", params={"after": ids[1]}).json()["data"]] == ids[:1]
    assert error(ada.get("/v1/media?limit=x")) == (400, "invalid_parameter", "limit")
    assert error(ada.get(f"/v1/media?after={NOBODY}")) == (400, "invalid_cursor", "after")


def test_the_bytes_come_with_what_a_browser_wants_to_know(ada: httpx.Client) -> None:
    data = fresh()
    path = f"/v1/media/{brought(ada, data, filename='Katze ä.png')['id']}/content"
    answer = ada.get(path)
    assert (answer.status_code, answer.content) == (200, data)
    headers = answer.headers
    assert (headers["content-type"], headers["content-length"]) == ("image/png", str(len(data)))
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"].startswith("inline")
    part = ada.get(path, headers={"range": "bytes=3-9"})
    assert (part.status_code, part.content) == (206, data[3:10])
    assert part.headers["content-range"] == f"bytes 3-9/{len(data)}"
    beyond = ada.get(path, headers={"range": f"bytes={len(data)}-"})
    assert error(beyond) == (416, "range_not_satisfiable", None)
    same = ada.get(path, headers={"if-none-match": headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    head = ada.head(path)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(data)), b"")


def test_a_signed_url_shows_the_image_to_anybody_and_a_changed_one_to_nobody(ada: httpx.Client) -> None:
    data = fresh()
    media = brought(ada, data)
    url = httpx.URL(media["presigned_url"])
    assert httpx.get(url).content == data
    assert httpx.head(url).headers["content-type"] == "image/png"
    for wrong in ({"sig": "x" * 43}, {"exp": "9999999999"}, {"exp": ""}, {"sig": ""}, {"exp": "1"}):
        assert error(httpx.get(url.copy_merge_params(wrong)))[:2] == (401, "invalid_signature"), wrong
    other = brought(ada, fresh())
    assert error(httpx.get(str(url).replace(media["id"], other["id"])))[:2] == (401, "invalid_signature")


def test_ids_and_payloads_are_resolved(ada: httpx.Client, bob: httpx.Client) -> None:
    media = brought(ada, fresh())
    answer = ada.post("/v1/media/resolve", json={"ids": [NOBODY, media["id"]]}).json()
    assert answer["missing"] == [NOBODY]
    assert answer["media"][0].keys() == {"id", "presigned_url", "expires_at", "mime", "bytes"}
    payload = {"messages": [{"content": [{"image_url": {"url": f"data:image/png;base64,{media['id']}"}}, 5, None]}]}
    resolved = ada.post("/v1/media/resolve", json={"payload": payload}).json()["payload"]
    assert httpx.get(resolved["messages"][0]["content"][0]["image_url"]["url"]).status_code == 200
    assert resolved["messages"][0]["content"][1:] == [5, None]
    refused = bob.post("/v1/media/resolve", json={"payload": payload})
    assert error(refused) == (404, "media_not_found", "payload.messages[0].content[0].image_url.url")
    assert error(ada.post("/v1/media/resolve", json={})) == (400, "invalid_parameter", "ids")


def test_somebody_else_gets_nothing(ada: httpx.Client, bob: httpx.Client) -> None:
    media_id = brought(ada, fresh())["id"]
    for path in (f"/v1/media/{media_id}", f"/v1/media/{media_id}/presign", f"/v1/media/{media_id}/content"):
        assert error(bob.get(path)) == (404, "not_found", None)
    assert error(bob.delete(f"/v1/media/{media_id}")) == (404, "not_found", None)
    assert error(bob.post("/v1/media/presigned-url", json={"id": media_id})) == (404, "media_not_found", "id")
    assert bob.get("/v1/media").json()["data"] == []


@pytest.mark.parametrize("media_id", [NOBODY, "nonsense", "..%2f..", "x" * 3000, "%F0%9F%90%88"])
def test_what_is_no_readable_id_is_absent(ada: httpx.Client, media_id: str) -> None:
    for path in (f"/v1/media/{media_id}", f"/v1/media/{media_id}/presign", f"/v1/media/{media_id}/content"):
        assert ada.get(path).status_code == 404, path


def test_a_deleted_image_is_gone(ada: httpx.Client) -> None:
    media_id = brought(ada, fresh())["id"]
    answer = ada.delete(f"/v1/media/{media_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert error(ada.get(f"/v1/media/{media_id}")) == (404, "not_found", None)
    assert error(ada.delete(f"/v1/media/{media_id}")) == (404, "not_found", None)


# --- direct uploads


@pytest.mark.parametrize(
    "path", ["/v1/media/prepare-upload", "/v1/media/presigned-url", "/media/v1/media/prepare-upload"]
)
def test_an_image_is_uploaded_with_the_form(ada: httpx.Client, path: str) -> None:
    prepared = ada.post(path, json={"content_type": "image/png", "filename": "cat.png"}).json()
    assert error(ada.get(f"/v1/media/{prepared['id']}")) == (409, "upload_pending", None)
    data, form = fresh(), prepared["presigned_post"]
    answer = httpx.post(form["url"], data=form["fields"], files={"file": data})
    assert (answer.status_code, answer.content) == (204, b"")
    got = ada.get(f"/v1/media/{prepared['id']}").json()
    assert (got["id"], got["mime"], got["bytes"], got["filename"]) == (
        *(prepared["jan_id"], "image/png", len(data), "cat.png"),
    )
    assert httpx.get(got["url"]).content == data


def test_an_image_is_uploaded_with_put(ada: httpx.Client, bob: httpx.Client) -> None:
    prepared = ada.post("/v1/media/prepare-upload", json={"mime_type": "image/gif"}).json()
    data = gif() + os.urandom(9)
    answer = httpx.put(prepared["upload_url"], content=data, headers={"content-type": "image/gif"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert error(bob.get(f"/v1/media/{prepared['id']}")) == (404, "not_found", None)
    assert ada.get(f"/v1/media/{prepared['id']}/content").content == data


def test_an_upload_without_its_signature_is_refused(ada: httpx.Client) -> None:
    prepared = ada.post("/v1/media/prepare-upload", json={"mime_type": "image/png"}).json()
    url = httpx.URL(prepared["upload_url"])
    for wrong in (url.copy_set_param("sig", "x"), url.copy_set_param("exp", "1"), url.copy_with(query=None)):
        assert error(httpx.put(wrong, content=fresh()))[:2] == (401, "invalid_signature")
    form = prepared["presigned_post"]
    fields = {**form["fields"], "key": f"images/{NOBODY}"}
    assert httpx.post(form["url"], data=fields, files={"file": fresh()}).status_code in (400, 401)


def test_an_upload_that_is_no_image_is_gone_after_its_first_use(ada: httpx.Client) -> None:
    prepared = ada.post("/v1/media/prepare-upload", json={"mime_type": "image/png"}).json()
    assert httpx.put(prepared["upload_url"], content=b"no image").status_code == 204
    assert error(ada.get(f"/v1/media/{prepared['id']}"))[:2] == (400, "unsupported_media_type")
    assert error(ada.get(f"/v1/media/{prepared['id']}")) == (404, "not_found", None)


def test_repeating_a_preparation_with_its_key_gives_the_first_answer(ada: httpx.Client) -> None:
    def ask() -> Any:
        headers = {"idempotency-key": "one"}
        return ada.post("/v1/media/prepare-upload", json={"mime_type": "image/png"}, headers=headers).json()

    assert ask() == ask()


def test_an_image_keeps_its_id_over_a_restart_of_the_server(tmp_path: Path) -> None:
    with JanServer(tmp_path / "server") as server:
        headers = {"authorization": f"Bearer {server.token()}"}
        data = fresh()
        media = httpx.post(f"{server.url}/v1/media", json=upload(data), headers=headers).json()
        assert server.stop() == 0
        server.start()
        assert httpx.get(f"{server.url}/v1/media/{media['id']}/content", headers=headers).content == data
