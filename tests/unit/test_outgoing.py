"""Fetching what users name, from real servers that do whatever servers can do wrong."""

import asyncio
import datetime
import gzip
import ipaddress
import ssl
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.runtime.addresses import Guard
from services.runtime.errors import ApiError, InvalidRequest, TooLarge, UpstreamFailed, UpstreamTimeout
from services.runtime.fetched import Answer, Limits
from services.runtime.outgoing import Fetcher
from tests.unit.test_addresses import Names

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
LIMITS = Limits(seconds=10, most=100_000)
HURRIED = Limits(seconds=0.3, most=100_000)
OK = b"HTTP/1.1 200 OK\r\n"
STALL = None
"""A step: nothing more, until the client hangs up."""
Act = Sequence[bytes | None]


def whole(content: bytes, *headers: str) -> Act:
    """A plain answer."""
    return [
        OK,
        *(f"{each}\r\n".encode() for each in headers),
        f"Content-Length: {len(content)}\r\n\r\n".encode(),
        content,
    ]


def moved(location: str, status: int = 302) -> Act:
    """A redirect, with a body that nobody wants."""
    return [f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 4\r\n\r\nthere".encode()]


@dataclass
class Site:
    """A server that plays one act per connection, the last one again and again, and remembers what it was asked."""

    script: list[Act]
    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await self._request(reader))
            act = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            for step in act:
                await self._play(step, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            self.hung_up.set()
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        sizes = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return head + (await reader.readexactly(int(sizes[0])) if sizes else b"")

    async def _play(self, step: bytes | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if step is None:
            await reader.read()
            self.hung_up.set()
        else:
            writer.write(step)
            await writer.drain()

    def url(self, host: str = "127.0.0.1", path: str = "/a.png") -> str:
        return f"http://{host}:{self.port}{path}"

    def headers(self, index: int = 0) -> dict[str, str]:
        lines = self.requests[index].partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


@asynccontextmanager
async def site(*script: Act, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    started = Site(list(script) or [whole(b"hello")])
    server = await asyncio.start_server(started.serve, host, 0, ssl=tls)
    started.port = server.sockets[0].getsockname()[1]
    try:
        yield started
    finally:
        server.close()


def fetcher(*allow: str, tls: ssl.SSLContext | None = None, **names: Any) -> Fetcher:
    """One that may reach the servers of these tests; `names` as `Names` has them, or one address."""
    answers = {name: [[each]] if isinstance(each, str) else each for name, each in names.items()}
    return Fetcher(Guard(allow or ("127.0.0.1",), resolve=Names(**answers)), user_agent="jan-server", tls=tls or PLAIN)


PLAIN = ssl.create_default_context()  # made once: it reads every certificate authority


async def got(fetch: Fetcher, url: str, limits: Limits = LIMITS, **options: Any) -> tuple[Answer, bytes]:
    """The answer and its body."""
    async with fetch.get(url, param="source.url", limits=limits, **options) as answer:
        return answer, b"".join([piece async for piece in answer.body])


async def error_of(fetch: Fetcher, url: str, limits: Limits = LIMITS) -> ApiError:
    with pytest.raises(ApiError) as failed:
        await got(fetch, url, limits)
    assert "127.0.0.1" not in failed.value.message
    return failed.value


# What is sent


async def test_an_answer_has_its_status_its_headers_and_where_it_came_from() -> None:
    async with site(whole(b"hello", "Content-Type: image/png", "X-Two: a", "x-two: b")) as server:
        answer, content = await got(fetcher(), server.url())
    assert (answer.status, content, str(answer.url)) == (200, b"hello", server.url())
    assert answer.headers == {"content-type": "image/png", "x-two": "a, b", "content-length": "5"}


async def test_a_request_tells_nothing_but_what_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with site(whole(b"", "Set-Cookie: a=b")) as server:
        fetch = fetcher(images_example="127.0.0.1")
        for _ in range(2):
            await got(fetch, server.url("images.example", "/ä b?x=1#top"))
    assert [request.split(b"\r\n")[0] for request in server.requests] == [b"GET /%C3%A4%20b?x=1 HTTP/1.1"] * 2
    expected = {"user-agent": "jan-server", "accept": "*/*", "accept-encoding": "identity", "connection": "close"}
    assert server.headers(1) == {"host": f"images.example:{server.port}", **expected}


async def test_a_caller_adds_headers_but_not_those_that_frame_the_message() -> None:
    added = {"Accept": "image/*", "X-Own": "1", "Host": "evil.example", "Transfer-Encoding": "chunked"}
    async with site() as server:
        await got(fetcher(), server.url(), headers=added)
    sent = server.headers()
    assert (sent["accept"], sent["x-own"], sent["host"]) == ("image/*", "1", f"127.0.0.1:{server.port}")
    assert "transfer-encoding" not in sent


async def test_json_is_posted_and_its_answer_is_read() -> None:
    async with (
        site(whole(b'{"ok":true}')) as server,
        fetcher().post(server.url(), b'{"a":1}', param="url", limits=LIMITS) as answer,
    ):
        assert b"".join([piece async for piece in answer.body]) == b'{"ok":true}'
    assert server.requests[0].endswith(b'\r\n\r\n{"a":1}')
    assert server.headers()["content-type"] == "application/json"


async def test_a_redirect_of_a_post_is_an_answer_and_not_followed() -> None:
    async with (
        site(moved("/other", 307)) as server,
        fetcher().post(server.url(), b"{}", param="url", limits=LIMITS) as answer,
    ):
        assert answer.status == 307
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [200, 204, 299])
async def test_success_is_a_status_of_200_to_299(status: int) -> None:
    async with site([f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()]) as server:
        answer, _ = await got(fetcher(), server.url())
    answer.require_success()
    assert answer.status == status


@pytest.mark.parametrize("status", [300, 304, 400, 404, 500, 599])
async def test_another_status_is_told_and_an_error_for_who_needs_success(status: int) -> None:
    async with site([f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()]) as server:
        answer, _ = await got(fetcher(), server.url())
    with pytest.raises(UpstreamFailed) as failed:
        answer.require_success()
    assert (answer.status, failed.value.code, failed.value.kind.http) == (status, "fetch_failed", 502)


# Where it goes


async def test_a_refused_url_names_the_parameter_that_it_came_in() -> None:
    for url, code in (("ftp://a.example/", "invalid_url"), ("http://10.0.0.1/", "url_not_allowed")):
        error = await error_of(fetcher(), url)
        assert isinstance(error, InvalidRequest)
        assert (error.code, error.param, error.kind.http) == (code, "source.url", 400)


async def test_a_refused_address_is_not_even_dialled() -> None:
    async with site() as server:
        for fetch, host in (
            (fetcher("10.0.0.0/8"), "127.0.0.1"),
            (fetcher("10.0.0.0/8", evil_example="127.0.0.1"), "evil.example"),
            (fetcher("10.0.0.0/8", mixed_example=[["8.8.8.8", "127.0.0.1"]]), "mixed.example"),
            (fetcher("10.0.0.0/8"), "localhost"),
            (fetcher("10.0.0.0/8"), "2130706433"),
        ):
            assert (await error_of(fetch, server.url(host))).code == "url_not_allowed"
    assert server.requests == []


async def test_a_name_is_resolved_once_and_what_was_checked_is_dialled() -> None:
    names = Names(rebinding_example=[["127.0.0.1"], ["10.0.0.1"], ["169.254.169.254"]])
    fetch = Fetcher(Guard(["127.0.0.1"], resolve=names), user_agent="jan-server")
    async with site() as server:
        assert (await got(fetch, server.url("rebinding.example")))[1] == b"hello"
        assert names.asked == ["rebinding.example"]
        assert (await error_of(fetch, server.url("rebinding.example"))).code == "url_not_allowed"
    assert len(server.requests) == 1


async def test_the_next_address_of_a_name_is_tried_when_one_does_not_answer() -> None:
    async with site() as server:
        fetch = fetcher("127.0.0.0/8", images_example=[["127.0.0.2", "127.0.0.1"]])
        assert (await got(fetch, server.url("images.example")))[1] == b"hello"


async def test_only_the_first_addresses_of_a_name_are_tried() -> None:
    async with site() as server:
        many = [f"127.0.0.{last}" for last in range(2, 6)]
        fetch = fetcher("127.0.0.0/8", images_example=[[*many, "127.0.0.1"]])
        assert (await error_of(fetch, server.url("images.example"))).code == "fetch_failed"


async def test_ipv6_is_spoken() -> None:
    async with site(host="::1") as server:
        assert (await got(fetcher("::1"), server.url("[::1]")))[1] == b"hello"
        assert (await error_of(fetcher("127.0.0.1"), server.url("[::1]"))).code == "url_not_allowed"
    assert server.headers()["host"] == f"[::1]:{server.port}"


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(status: int) -> None:
    async with site(moved("b.png?x=1", status), whole(b"hello")) as server:
        answer, content = await got(fetcher(), server.url(path="/a/a.png"))
    assert (content, str(answer.url)) == (b"hello", server.url(path="/a/b.png?x=1"))


async def test_three_redirects_are_followed_and_not_four() -> None:
    async with site(moved("/1"), moved("/2"), moved("/3"), whole(b"hello")) as server:
        assert (await got(fetcher(), server.url()))[1] == b"hello"
    async with site(moved("/loop")) as server:
        assert (await error_of(fetcher(), server.url())).code == "fetch_failed"
        assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("http://127.0.0.2/", "url_not_allowed"),
        ("http://169.254.169.254/latest/meta-data/", "url_not_allowed"),
        ("http://internal.example/", "url_not_allowed"),
        ("http://localhost/", "url_not_allowed"),
        ("http://[::1]/", "url_not_allowed"),
        ("http://0x7f.1/", "url_not_allowed"),
        ("file:///etc/passwd", "invalid_url"),
        ("gopher://127.0.0.1/", "invalid_url"),
        ("http://user:secret@images.example/", "invalid_url"),
        ("http://[", "invalid_url"),
        ("\\\\127.0.0.2\\", "invalid_url"),
        ("http://nowhere.example/", "fetch_failed"),
    ],
)
async def test_every_place_on_the_way_is_checked(location: str, code: str) -> None:
    async with site(moved(location)) as server:
        fetch = fetcher("images.example", images_example="127.0.0.1", internal_example="10.0.0.1")
        assert (await error_of(fetch, server.url("images.example"))).code == code
    assert len(server.requests) == 1


async def test_a_redirect_without_a_place_is_an_answer() -> None:
    async with site([b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"]) as server:
        assert (await got(fetcher(), server.url()))[0].status == 302


async def test_headers_of_the_caller_stay_with_the_server_that_they_are_for() -> None:
    secrets = {"Authorization": "Bearer secret", "Cookie": "a=b", "Accept": "image/*"}
    async with site(whole(b"hello")) as other, site(moved("/same"), moved(other.url())) as server:
        await got(fetcher(), server.url(), headers=secrets)
    assert server.headers(1)["authorization"] == "Bearer secret"
    assert other.headers()["accept"] == "image/*"
    assert {"authorization", "cookie", "referer"} & other.headers().keys() == set()


# Limits


async def test_a_body_at_its_limit_is_read_and_one_above_is_refused() -> None:
    async with site(whole(b"x" * 1000)) as server:
        assert len((await got(fetcher(), server.url(), Limits(seconds=10, most=1000)))[1]) == 1000
        error = await error_of(fetcher(), server.url(), Limits(seconds=10, most=999))
    assert isinstance(error, TooLarge)
    assert "999 bytes" in error.message


async def test_the_limit_is_said_in_megabytes() -> None:
    async with site([OK, b"Content-Length: 20971521\r\n\r\n", STALL]) as server:
        error = await error_of(fetcher(), server.url(), Limits(seconds=10, most=20 * 1024**2))
    assert "20MB" in error.message


async def test_an_endless_body_is_left_as_soon_as_it_is_too_large() -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    async with site([OK, b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 1000]) as server:
        assert (await error_of(fetcher(), server.url())).code == "max_size_exceeded"
        await asyncio.wait_for(server.hung_up.wait(), 5)


async def test_a_body_may_be_cut_at_the_limit_instead() -> None:
    async with site([OK, b"Content-Length: 9000000\r\n\r\n", b"x" * 200_000, STALL]) as server:
        for most in (0, 1, 65_536, 100_000):
            assert len((await got(fetcher(), server.url(), Limits(seconds=10, most=most, cut=True)))[1]) == most


@pytest.mark.parametrize(
    "act",
    [
        [OK, b"Content-Length: 10\r\n\r\nhello"],
        [OK, b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"],
        [OK, b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n"],
        [OK, b"Content-Length: ten\r\n\r\nhello"],
        [OK, b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"],
        [OK],
        [],
        [b"SSH-2.0-OpenSSH_9.6\r\n"],
        [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"],
        [b"HTTP/0.9\r\n\r\n"],
        [OK, b"X-Endless: ", *[b"x" * 10_000] * 50],
        [OK, *[b"X-Many: abcdefghijklmnopqrstuvwxyz\r\n"] * 10_000],
        [OK, b"Transfer-Encoding: chunked\r\n\r\n5;", *[b"x" * 10_000] * 50],
        [b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000],
        [OK, b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000],
        [OK, b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"],
        [OK, b"Content-Encoding: br\r\nContent-Length: 5\r\n\r\nhello"],
    ],
)
async def test_answers_that_break_off_or_that_nobody_asked_for_are_failed_fetches(act: Act) -> None:
    async with site(act) as server:
        assert (await error_of(fetcher(), server.url())).code == "fetch_failed"


@pytest.mark.parametrize(
    ("begin", "crumb"),
    [(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n")],
)
async def test_a_flood_of_next_to_nothing_is_left_long_before_the_deadline(begin: bytes, crumb: bytes) -> None:
    async with site([begin, *[crumb * 10_000] * 1000]) as server:
        assert (await error_of(fetcher(), server.url(), Limits(seconds=50, most=10**9))).code == "fetch_failed"
        await asyncio.wait_for(server.hung_up.wait(), 5)


async def test_many_small_chunks_are_an_honest_answer() -> None:
    chunks = b"".join(b"50\r\n" + b"x" * 0x50 + b"\r\n" for _ in range(5000))
    async with site([OK, b"Transfer-Encoding: chunked\r\n\r\n", chunks, b"0\r\n\r\n"]) as server:
        assert len((await got(fetcher(), server.url(), Limits(seconds=10, most=10**6)))[1]) == 400_000


async def test_more_than_was_announced_is_not_read() -> None:
    async with site([OK, b"Content-Length: 5\r\n\r\nhello, and more"]) as server:
        assert (await got(fetcher(), server.url()))[1] == b"hello"


async def test_a_body_without_length_ends_with_the_connection() -> None:
    async with site([OK, b"\r\nhel", b"lo"]) as server:
        assert (await got(fetcher(), server.url()))[1] == b"hello"


async def test_nobody_at_the_port_is_a_failed_fetch() -> None:
    async with site() as server:
        pass
    assert (await error_of(fetcher(), server.url())).code == "fetch_failed"


# Packed bodies

UNPACKING = Limits(seconds=10, most=100_000, unpack=True)


async def test_gzip_is_asked_for_and_unpacked_when_the_caller_wants_that() -> None:
    content = bytes(range(256)) * 300
    async with site(whole(gzip.compress(content), "Content-Encoding: gzip")) as server:
        assert (await got(fetcher(), server.url(), UNPACKING))[1] == content
    assert server.headers()["accept-encoding"] == "gzip"


async def test_a_plain_body_is_fine_where_a_packed_one_would_be() -> None:
    async with site(whole(b"hello")) as server:
        assert (await got(fetcher(), server.url(), UNPACKING))[1] == b"hello"


async def test_the_limit_counts_what_was_unpacked_and_a_bomb_is_never_whole_in_memory() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert len(bomb) < UNPACKING.most
    async with site(whole(bomb, "Content-Encoding: gzip")) as server:
        assert (await error_of(fetcher(), server.url(), UNPACKING)).code == "max_size_exceeded"
        async with fetcher().get(
            server.url(), param="url", limits=Limits(seconds=10, most=10**9, unpack=True)
        ) as answer:
            sizes = [len(piece) async for piece in answer.body]
    assert (max(sizes), sum(sizes)) == (65536, 50_000_000)


async def test_nothing_packed_endlessly_is_refused() -> None:
    packer = zlib.compressobj(wbits=31)
    empty = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH) + b"\0\0\0\xff\xff" * 100_000
    async with site([OK, b"Content-Encoding: gzip\r\n\r\n", empty, STALL]) as server:
        assert (await error_of(fetcher(), server.url(), UNPACKING)).code == "max_size_exceeded"


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b"hello")[:-6], b"", b"hello", gzip.compress(b"hello")[:-4] + b"fail"],
    ids=["cut off", "nothing", "not packed", "a wrong sum"],  # packed bytes hold the time
)
async def test_what_does_not_unpack_is_a_failed_fetch(content: bytes) -> None:
    async with site(whole(content, "Content-Encoding: gzip")) as server:
        assert (await error_of(fetcher(), server.url(), UNPACKING)).code == "fetch_failed"


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip", "compress"])
async def test_other_encodings_are_refused(encoding: str) -> None:
    async with site(whole(b"hello", f"Content-Encoding: {encoding}")) as server:
        assert (await error_of(fetcher(), server.url(), UNPACKING)).code == "fetch_failed"


# Time


@pytest.mark.parametrize(
    "act",
    [
        [STALL],
        [OK, STALL],
        [b"HTTP/1.1 100 Continue\r\n\r\n", STALL],
        [OK, b"Content-Length: 10\r\n\r\nhello", STALL],
        [OK, b"Transfer-Encoding: chunked\r\n\r\n", STALL],
        [OK, b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"hello")[:12], STALL],
    ],
)
async def test_a_server_that_falls_silent_is_left_at_the_deadline(act: Act) -> None:
    async with site(act) as server:
        error = await error_of(fetcher(), server.url(), Limits(seconds=0.3, most=1000, unpack=True))
        assert isinstance(error, UpstreamTimeout)
        assert (error.code, error.kind.http) == ("fetch_timeout", 504)
        await asyncio.wait_for(server.hung_up.wait(), 5)


class Dribble(Site):
    """Sends one byte at a time, always just in time for a timeout that would count silence only."""

    async def _play(self, step: bytes | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert step is not None
        for index in range(len(step)):
            await super()._play(step[index : index + 1], reader, writer)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(self.hung_up.wait(), 0.02)


async def test_a_server_that_dribbles_is_left_at_the_deadline() -> None:
    dribble = Dribble([[OK + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000]])
    server = await asyncio.start_server(dribble.serve, "127.0.0.1", 0)
    dribble.port = server.sockets[0].getsockname()[1]
    started = asyncio.get_running_loop().time()
    assert (await error_of(fetcher(), dribble.url(), Limits(seconds=0.7, most=10_000))).code == "fetch_timeout"
    assert asyncio.get_running_loop().time() - started < 5
    await asyncio.wait_for(dribble.hung_up.wait(), 5)
    server.close()


async def test_redirects_share_one_deadline_with_what_they_lead_to() -> None:
    async with site(moved("/1"), moved("/2"), [STALL]) as server:
        assert (await error_of(fetcher(), server.url(), HURRIED)).code == "fetch_timeout"


async def test_a_slow_name_server_is_left_at_the_deadline() -> None:
    async def never(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        raise AssertionError

    fetch = Fetcher(Guard(resolve=never), user_agent="jan-server", tls=PLAIN)
    assert (await error_of(fetch, "http://images.example/", HURRIED)).code == "fetch_timeout"


async def test_a_caller_that_is_cancelled_hangs_up() -> None:
    async with site([OK, b"Content-Length: 10\r\n\r\nhello", STALL]) as server:
        begun = asyncio.Event()

        async def read() -> None:
            async with fetcher().get(server.url(), param="url", limits=LIMITS) as answer:
                async for _ in answer.body:
                    begun.set()

        reading = asyncio.create_task(read())
        await begun.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.wait_for(server.hung_up.wait(), 5)


async def test_a_caller_that_does_not_read_to_the_end_hangs_up() -> None:
    async with site([OK, b"Content-Length: 10\r\n\r\nhello", STALL]) as server:
        async with fetcher().get(server.url(), param="url", limits=LIMITS) as answer:
            async for piece in answer.body:
                assert piece == b"hello"
                break
        await asyncio.wait_for(server.hung_up.wait(), 5)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of its own for `images.example` and 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "images.example")])
    names = [x509.DNSName("images.example"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "images.example.pem"
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    path.write_bytes(key.private_bytes(pem, pkcs8, plain) + made.public_bytes(pem))
    return path


def serving(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


def believing(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


async def test_the_certificate_is_that_of_the_name_while_the_checked_address_is_dialled(certificate: Path) -> None:
    context = serving(certificate)
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    fetch = fetcher(tls=believing(certificate), images_example="127.0.0.1")
    async with site(tls=context) as server:
        url = server.url("images.example").replace("http", "https")
        assert (await got(fetch, url))[1] == b"hello"
    assert asked == ["images.example"]
    assert server.headers()["host"] == f"images.example:{server.port}"


async def test_an_address_needs_a_certificate_too(certificate: Path) -> None:
    async with site(tls=serving(certificate)) as server:
        assert (await got(fetcher(tls=believing(certificate)), server.url().replace("http", "https")))[1] == b"hello"


async def test_a_certificate_of_another_name_or_of_nobody_is_a_failed_fetch(certificate: Path) -> None:
    async with site(tls=serving(certificate)) as server:
        url = server.url("other.example").replace("http", "https")
        fetch = fetcher(tls=believing(certificate), other_example="127.0.0.1")
        assert (await error_of(fetch, url)).code == "fetch_failed"
        unknown = fetcher(images_example="127.0.0.1")
        assert (await error_of(unknown, url.replace("other", "images"))).code == "fetch_failed"
    assert server.requests == []


async def test_a_server_without_tls_is_a_failed_fetch_over_https() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert (await error_of(fetcher(), f"https://127.0.0.1:{port}/")).code == "fetch_failed"
    server.close()


async def test_https_is_not_left_for_http(certificate: Path) -> None:
    async with site() as plain, site(moved(plain.url()), tls=serving(certificate)) as server:
        error = await error_of(fetcher(tls=believing(certificate)), server.url().replace("http", "https"))
        assert error.code == "url_not_allowed"
    assert plain.requests == []
