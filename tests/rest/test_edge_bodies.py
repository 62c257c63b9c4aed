"""Bodies that services read as they arrive, and files that they send, through the gateway."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from edge_backend import key
from jan.media.v1 import media_pb2, media_pb2_grpc

from tests.rest.edge_rig import NO_ROUTE, TOO_LARGE, UNAUTHORIZED, Rig, error, refused, running

STUB: Any = media_pb2_grpc.MediaServiceStub  # the generated code is not annotated
MIB = 1024 * 1024
PIECE = 160 * 1024
IMAGE = bytes(range(251)) * 80_000  # 20 MB
HEADERS = {
    "content-length": "300000",
    "etag": '"abc"',
    "accept-ranges": "bytes",
    "cache-control": "private, max-age=60",
    "content-disposition": "inline; filename=\"K_.png\"; filename*=UTF-8''K%C3%A4.png",
    "x-content-type-options": "nosniff",
}


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """A gateway whose one worker is asked what became of the calls before."""
    with running(rate_limit_mode="off") as rig:
        yield rig


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
async def http(rig: Rig, request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    second = request.param == "HTTP/2"
    async with httpx.AsyncClient(base_url=rig.url, timeout=20, http1=not second, http2=second) as http:
        yield http


async def in_chunks(size: int, chunk: int = 100_000) -> AsyncGenerator[bytes, None]:
    """A body whose length nobody says."""
    for start in range(0, size, chunk):
        yield bytes(min(chunk, size - start))


# --- requests


async def test_a_body_arrives_in_pieces(http: httpx.AsyncClient, rig: Rig) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x", **rig.bearer(sub="usr_7")}
    answer = await http.post("/v1/media/upload?a=b", content=IMAGE, headers=headers)
    told = answer.json()
    assert told["sha256"] == hashlib.sha256(IMAGE).hexdigest()
    assert max(told["sizes"]) <= PIECE
    assert told["types"][0] == "multipart/form-data; boundary=x"
    assert set(told["types"][1:]) == {""}
    assert told["metadata"]["x-envoy-original-path"] == "/v1/media/upload?a=b"
    assert (told["caller"], answer.headers["x-user-id"]) == ("usr_7", "usr_7")


async def test_an_empty_body_is_one_empty_piece(http: httpx.AsyncClient, rig: Rig) -> None:
    answer = await http.post("/v1/media", headers={"content-type": "image/png", **rig.bearer()})
    assert (answer.json()["sizes"], answer.json()["types"]) == ([0], ["image/png"])


async def test_a_body_of_unknown_length_passes_up_to_the_limit(http: httpx.AsyncClient, rig: Rig) -> None:
    answer = await http.post("/v1/media", content=in_chunks(10_000_000), headers=rig.bearer())
    assert answer.json()["size"] == 10_000_000


async def test_a_longer_body_is_413(rig: Rig) -> None:
    async with httpx.AsyncClient(base_url=rig.url, timeout=20) as http:
        answer = await http.post("/v1/media", content=in_chunks(40_000_000), headers=rig.bearer())
    assert error(answer) == TOO_LARGE


async def test_a_body_that_calls_itself_grpc_is_read_all_the_same(http: httpx.AsyncClient, rig: Rig) -> None:
    answer = await http.post("/v1/media", content=b"x", headers={"content-type": "application/grpc", **rig.bearer()})
    assert answer.json()["types"] == ["application/json"]


@pytest.mark.parametrize("prefix", ["", "/media", "/api/media"])
async def test_an_upload_has_its_id_in_the_path(http: httpx.AsyncClient, prefix: str) -> None:
    path = f"{prefix}/v1/media/uploads/jan_1?exp=1&sig=a"
    told = (await http.put(path, content=b"bytes", headers={"content-type": "image/png"})).json()
    assert (told["size"], told["caller"], told["types"]) == (5, None, ["image/png"])
    assert told["metadata"]["x-envoy-original-path"] == path
    for wrong in ("/v1/media/uploads/", "/v1/media/uploads/a/b"):
        assert error(await http.put(prefix + wrong, content=b"bytes")) == NO_ROUTE


@pytest.mark.parametrize("status", [200, 201, 204])
async def test_an_upload_may_be_answered_with_any_success(http: httpx.AsyncClient, status: int) -> None:
    answer = await http.post("/v1/media/uploads", params={"status": status}, content=b"bytes")
    assert (answer.status_code, bool(answer.content)) == (status, status != 204)
    assert not [name for name in answer.headers if name.startswith(("grpc-", "x-http-", "x-content-length"))]


@pytest.mark.parametrize(
    ("fail", "expected"),
    [
        ("TooLarge", TOO_LARGE),
        ("InvalidRequest", (400, "invalid_request_error", "invalid_parameter")),
        ("Unauthenticated", UNAUTHORIZED),
    ],
)
async def test_a_refusal_in_the_middle_reaches_a_client_who_still_sends(
    http: httpx.AsyncClient, fail: str, expected: tuple[int, str, str]
) -> None:
    answer = await http.post("/v1/media/uploads", params={"stop": 1, "fail": fail}, content=IMAGE)
    assert error(answer) == expected


@pytest.mark.parametrize("flags", [(), ("--http2-prior-knowledge",)])
async def test_curl_sends_forms_and_waits_for_100_continue(rig: Rig, tmp_path: Path, flags: Sequence[str]) -> None:
    (tmp_path / "image").write_bytes(IMAGE)
    for query, code in (("", b"200"), ("?stop=1&fail=TooLarge", b"413")):
        argv = (*flags, "-F", f"file=@{tmp_path}/image", f"{rig.url}/v1/media/uploads{query}")
        curl = await asyncio.create_subprocess_exec(
            "curl", "-sS", "-w", "%{http_code}", *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        output, errors = await curl.communicate()
        assert (output[-3:], errors) == (code, b"")


async def test_without_a_credential_nothing_is_read(rig: Rig) -> None:
    async with httpx.AsyncClient(base_url=rig.url, timeout=20) as http:
        assert error(await http.post("/v1/media?name=nobody", content=b"x" * MIB)) == UNAUTHORIZED
        http.headers.update(rig.bearer())
        assert await became(http, "nobody") == (0, "")


async def became(http: httpx.AsyncClient, name: str) -> tuple[int, str]:
    """How many bytes of a call were seen, and how it ended."""
    answer = (await http.get(f"/v1/media/{name}")).json()
    return answer["bytes"], answer["mime"]


@pytest.mark.parametrize("way", ["content-length: 3000000", "transfer-encoding: chunked"])
@pytest.mark.parametrize("end", ["close", "abort"])
async def test_a_client_that_hangs_up_cancels_the_call(rig: Rig, way: str, end: str) -> None:
    name = f"{way[:7]}-{end}"
    async with httpx.AsyncClient(base_url=rig.url, headers=rig.bearer(), timeout=20) as http, asyncio.timeout(20):
        _, writer = await asyncio.open_connection("127.0.0.1", rig.settings.gateway_port)
        writer.write(f"POST /v1/media/uploads?name={name} HTTP/1.1\r\nhost: x\r\n{way}\r\n\r\n".encode())
        writer.write(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
        while (await became(http, name))[0] < 100_000:
            pass
        getattr(writer if end == "close" else writer.transport, end)()
        while not (found := await became(http, name))[1]:
            pass
    assert found[1] == "cancelled"


async def test_a_native_client_that_hangs_up_cancels_the_call(rig: Rig) -> None:
    async def requests() -> AsyncGenerator[media_pb2.UploadMediaRequest, None]:
        yield media_pb2.UploadMediaRequest(info=media_pb2.UploadMediaInfo(filename="native"))
        yield media_pb2.UploadMediaRequest(chunk=b"x" * 1000)
        await asyncio.Event().wait()

    async with (
        httpx.AsyncClient(base_url=rig.url, headers=rig.bearer(), timeout=20) as http,
        grpc.aio.insecure_channel(rig.target) as channel,
        asyncio.timeout(20),
    ):
        stub = STUB(channel)
        call = stub.UploadMedia(requests(), metadata=tuple(rig.bearer().items()))
        while (await became(http, "native"))[0] < 1000:
            pass
        call.cancel()
        while not (found := await became(http, "native"))[1]:
            pass
    assert found == (1000, "cancelled")


async def sent_until_full(writer: asyncio.StreamWriter) -> int:
    """How many bytes the other side takes before it takes none for a second."""
    taken = 0
    with suppress(TimeoutError):
        while True:
            writer.write(bytes(PIECE))
            async with asyncio.timeout(1):
                await writer.drain()
            taken += PIECE
    return taken


async def test_a_service_that_reads_slowly_slows_its_clients_down(rig: Rig) -> None:
    async with httpx.AsyncClient(base_url=rig.url, headers=rig.bearer(), timeout=20) as http:
        _, writer = await asyncio.open_connection("127.0.0.1", rig.settings.gateway_port)
        writer.write(b"POST /v1/media/uploads?name=slow&hold=1 HTTP/1.1\r\nhost: x\r\ncontent-length: 30000000\r\n\r\n")
        writer.transport.set_write_buffer_limits(high=0)
        taken = await sent_until_full(writer)
        assert taken < 12 * MIB  # most of it in the kernel
        assert (await became(http, "slow"))[0] <= PIECE
        writer.transport.abort()


# --- answers


def content(size: int, name: str = "", **headers: str) -> str:
    said = json.dumps(HEADERS | {"content-length": str(size)} | {k.replace("_", "-"): v for k, v in headers.items()})
    return str(httpx.URL(f"/v1/media/{size}/content", params={"exp": name, "sig": said}))


@pytest.mark.parametrize("size", [1, 300_000, 20_000_000])
async def test_a_file_passes_with_its_headers_and_its_length(http: httpx.AsyncClient, size: int) -> None:
    answer = await http.get(content(size))
    assert (answer.status_code, len(answer.content)) == (200, size)
    expected = HEADERS | {"content-type": "image/png", "content-length": str(size)}
    assert {name: answer.headers.get_list(name) for name in expected} == {k: [v] for k, v in expected.items()}
    assert "transfer-encoding" not in answer.headers
    assert not [name for name in answer.headers if name.startswith(("grpc-", "x-http-", "x-content-length"))]


async def test_a_part_of_a_file_passes(http: httpx.AsyncClient) -> None:
    answer = await http.get(content(1000, status="206", content_range="bytes 0-999/5000"))
    assert (answer.status_code, len(answer.content)) == (206, 1000)
    assert (answer.headers["content-range"], answer.headers["content-length"]) == ("bytes 0-999/5000", "1000")


async def test_what_has_not_changed_has_no_body(http: httpx.AsyncClient) -> None:
    answer = await http.get(content(0, status="304"))
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"abc"')
    assert "content-type" not in answer.headers
    assert (await http.get(content(1000))).status_code == 200


async def test_a_redirect_passes(http: httpx.AsyncClient) -> None:
    answer = await http.get(content(0, status="302", location="https://store.test/x?a=b"))
    assert (answer.status_code, answer.headers["location"]) == (302, "https://store.test/x?a=b")


async def test_a_part_that_is_not_there_is_416_with_the_length(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/media/1/content?exp=416")
    assert error(answer) == (416, "invalid_request_error", "range_not_satisfiable")
    assert answer.headers["content-range"] == "bytes */1000"
    head = await http.head("/v1/media/1/content?exp=416")
    assert (head.status_code, head.content, head.headers["content-range"]) == (416, b"", "bytes */1000")


async def test_a_head_has_the_headers_and_the_connection_stays_in_step(rig: Rig) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.settings.gateway_port)
    async with asyncio.timeout(20):
        for verb, size in (("HEAD", 0), ("GET", 5000), ("HEAD", 0), ("GET", 70_000)):
            target = content(size, content_length=str(size or 300_000))
            writer.write(f"{verb} {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            assert head.startswith("HTTP/1.1 200 OK\r\n")
            assert f"content-length: {size or 300_000}\r\n" in head
            await reader.readexactly(size)
    writer.close()


async def test_a_file_that_breaks_off_does_not_look_whole(http: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await http.get(content(300_000, "break", content_length="500000"))


async def test_a_file_that_breaks_before_its_first_byte_is_an_error(http: httpx.AsyncClient) -> None:
    assert error(await http.get(content(0, "break"))) == (502, "upstream_error", "upstream_error")


async def test_readers_who_stop_do_not_stop_others(rig: Rig) -> None:
    stopped = [await asyncio.open_connection("127.0.0.1", rig.settings.gateway_port, limit=1) for _ in range(50)]
    for _, writer in stopped:
        writer.write(f"GET {content(20_000_000, 'stopped')} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    async with httpx.AsyncClient(base_url=rig.url, headers=rig.bearer(), timeout=20) as http, asyncio.timeout(20):
        seen = -1
        while (now := (await became(http, "stopped"))[0]) != seen or not now:
            seen = now
        assert (await http.get("/v1/models")).status_code == 200
        assert len((await http.get(content(20_000_000))).content) == 20_000_000
        for _, writer in stopped:
            writer.transport.abort()
        while (await became(http, "stopped"))[1].count("closed") < len(stopped):
            pass


async def test_a_reader_who_stops_stops_the_service(rig: Rig) -> None:
    async with httpx.AsyncClient(base_url=rig.url, headers=rig.bearer(), timeout=20) as http, asyncio.timeout(20):
        async with http.stream("GET", content(200_000_000, "unread")) as answer:
            await anext(answer.aiter_raw())
            seen = -1
            while (now := (await became(http, "unread"))[0]) != seen:
                seen = now
            assert seen < 20 * MIB
        while not (found := await became(http, "unread"))[1]:
            pass
    assert found[1] == "closed"


async def test_what_a_reader_says_about_parts_reaches_the_service(http: httpx.AsyncClient) -> None:
    sent = {"range": "bytes=1-2", "if-none-match": '"x", W/"y"', "if-range": '"z"'}
    told = (await http.get("/v1/media/1/content?exp=metadata", headers=sent)).json()
    assert {name: told["metadata"][name] for name in sent} == sent


# --- who may


async def test_a_stranger_passes_where_a_credential_is_optional(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/media/1/content?exp=metadata")
    assert (answer.status_code, answer.json()["caller"]) == (200, None)
    assert not {"x-user-id", "x-principal-id", "x-auth-method"} & set(answer.headers)


async def test_a_good_credential_names_the_caller_there(http: httpx.AsyncClient, rig: Rig) -> None:
    token = rig.keys.token(sub="usr_9", auth_method="api_key", sid="key_1", hits="1000000")
    for headers, method in (
        (rig.bearer(sub="usr_9"), "jwt"),
        ({"x-api-key": key(token=token)}, "api_key"),
        ({"authorization": f"Bearer {key(token=token)}"}, "api_key"),
    ):
        answer = await http.get("/media/v1/media/1/content?exp=metadata", headers=headers)
        assert answer.json()["caller"] == "usr_9"
        assert (answer.headers["x-user-id"], answer.headers["x-auth-method"]) == ("usr_9", method)
        assert "x-api-key" not in answer.json()["metadata"]


@pytest.mark.parametrize("sent", ["Bearer x", "bearer x", "Bearer", "Basic x", "x", "Bearer a.b.c", "Basic Bearer x"])
async def test_a_bad_credential_is_refused_there(http: httpx.AsyncClient, sent: str) -> None:
    answer = await http.get(
        "/v1/media/1/content?exp=metadata", headers={"authorization": sent, "origin": "https://x.test"}
    )
    assert error(answer) == UNAUTHORIZED
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_expired_and_refused_credentials_are_refused_there(http: httpx.AsyncClient, rig: Rig) -> None:
    for headers, code in (
        (rig.bearer(exp=1), "token_expired"),
        ({"x-api-key": key(fail="Unauthenticated")}, "unauthorized"),
        ({"x-api-key": "nonsense"}, "unauthorized"),
    ):
        answer = await http.get("/v1/media/1/content?exp=metadata", headers=headers)
        assert error(answer) == (401, "auth_error", code)


async def test_any_web_page_may_show_an_image(http: httpx.AsyncClient) -> None:
    page = {"origin": "https://any.test"}
    for answer in (
        await http.get(content(1000), headers=page),
        await http.get("/v1/media/1/content?exp=416", headers=page),
    ):
        assert answer.headers.get_list("access-control-allow-origin") == ["*"]
        assert answer.headers["access-control-expose-headers"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
    asked = {"access-control-request-method": "GET", "access-control-request-headers": "authorization,range", **page}
    preflight = await http.options("/media/v1/media/1/content", headers=asked)
    assert preflight.headers["access-control-allow-origin"] == "*"
    allowed = preflight.headers["access-control-allow-headers"].split(", ")
    assert {"authorization", "if-none-match", "if-range", "range"} <= set(allowed)


async def test_native_calls_are_let_in_and_refused_alike(rig: Rig) -> None:
    async with grpc.aio.insecure_channel(rig.target) as channel:
        stub = STUB(channel)
        asked = media_pb2.GetMediaContentRequest(id="1", exp="metadata")
        for metadata, caller in (((), None), (tuple(rig.bearer(sub="usr_9").items()), "usr_9")):
            (first, *_) = [each async for each in stub.GetMediaContentHttp(asked, metadata=metadata)]
            assert json.loads(first.data)["caller"] == caller
        for bad in ("Bearer x", "Basic x"):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                [each async for each in stub.GetMediaContentHttp(asked, metadata=(("authorization", bad),))]
            assert refused(failed.value)[:2] == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHORIZED")
