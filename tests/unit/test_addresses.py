"""URLs of users: how they are read, and which addresses nobody reaches through us."""

import logging
import socket
from ipaddress import ip_address

import pytest

from services.runtime.addresses import Guard, is_public
from services.runtime.config import ConfigError
from services.runtime.errors import ApiError, InvalidRequest, UpstreamFailed
from services.runtime.urls import LONGEST, Url, parse


class Names:
    """A name server: what it says to the first question, the second, and so on; the last answer stays."""

    def __init__(self, **names: list[list[str]]) -> None:
        self._names = {name.replace("_", "."): answers for name, answers in names.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if host not in self._names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answers = self._names[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


# What is no URL, or could be understood in two ways

NO_URLS = [
    "",
    " ",
    "images.example",
    "//images.example/a.png",
    "/etc/passwd",
    "file:///etc/passwd",
    "ftp://images.example/a.png",
    "gopher://images.example:70/_GET",
    "data:image/png;base64,AAAA",
    "javascript:alert(1)",
    "jar:http://images.example!/a",
    "http:images.example",
    "http:/images.example",
    "http://",
    "http:///a.png",
    "https://?a",
    "http://#a",
    " http://images.example/",
    "http://images.example/ ",
    "http://images.example/\n",
    "http://ima\tges.example/",
    "http://images.example/a\r\nHost: localhost",
    "http://images.example/\x00",
    "http://images.example/\x85",
    "http://images.example\\@127.0.0.1/",
    "http:\\\\127.0.0.1\\",
    "http://images.example/\ud800",
    "http://user@images.example/",
    "http://user:secret@images.example/",
    "http://images.example@127.0.0.1/",
    "http://@127.0.0.1/",
    "http://127.0.0.1%2f@images.example/",
    "http://images.example:/",
    "http://images.example:0/",
    "http://images.example:65536/",
    "http://images.example:-1/",
    "http://images.example:80:80/",
    "http://images.example:http/",
    "http://images.example:\N{FULLWIDTH DIGIT EIGHT}0/",
    "http://ima ges.example/",
    "http://images..example/",
    "http://.images.example/",
    "http://images.example../",
    "http://images.%65xample/",
    "http://127%2e0.0.1/",
    "http://images.example,localhost/",
    "http://images.example;localhost/",
    "http://images.example&localhost/",
    "http://<images.example>/",
    "http://" + "a" * 64 + ".example/",
    "http://" + "a." * 127 + "example/",
    "http://images.example/" + "a" * LONGEST,
    "http://" + "ä" * 5000 + ".example/",
    "http://\N{ZERO WIDTH SPACE}/",
    "http://images\N{FULLWIDTH SOLIDUS}a.example/",
    "http://[::1/",
    "http://::1/",
    "http://[]/",
    "http://[::1]a/",
    "http://[fe80::1%eth0]/",
    "http://[fe80::1%25eth0]/",
    "http://[127.0.0.1]/",
    "http://[1::2::3]/",
    "http://[v1.a]/",
    "http://256.256.256.256/",
    "http://1.2.3.4.5/",
    "http://127.0.0.0x/",
    "http://example.0xg.1/",
]


@pytest.mark.parametrize("text", NO_URLS)
def test_what_is_no_http_url_is_invalid(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(text)
    assert refused.value.code == "invalid_url"


DISGUISED = [
    "http://2130706433/",
    "http://017700000001/",
    "http://0x7f000001/",
    "http://0x7F.0.0.1/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://0/",
    "http://127.0.0.01/",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://134744072/",
    "http://2130706433./",
    "http://\N{FULLWIDTH DIGIT ONE}\N{FULLWIDTH DIGIT TWO}\N{FULLWIDTH DIGIT SEVEN}.1/",
    "http://127\N{IDEOGRAPHIC FULL STOP}1/",
]


@pytest.mark.parametrize("text", DISGUISED)
def test_an_ipv4_address_in_disguise_is_not_allowed_whatever_it_means(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(text)
    assert refused.value.code == "url_not_allowed"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://images.example", Url("http", "images.example", 80, "/")),
        ("HTTPS://Images.EXAMPLE:443/A.png#top", Url("https", "images.example", 443, "/A.png")),
        ("https://images.example:8443?a=b", Url("https", "images.example", 8443, "/?a=b")),
        ("http://images.example./a", Url("http", "images.example", 80, "/a")),
        ("http://bücher.example/ä b?ö", Url("http", "xn--bcher-kva.example", 80, "/%C3%A4%20b?%C3%B6")),
        ("http://images.example/%2e%2e/a|b", Url("http", "images.example", 80, "/%2e%2e/a%7Cb")),
        ("http://my_bucket.s3.example/x?sig=a%2Fb+c", Url("http", "my_bucket.s3.example", 80, "/x?sig=a%2Fb+c")),
        ("http://8.8.8.8:8080/", Url("http", "8.8.8.8", 8080, "/")),
        ("http://8.8.8.8./", Url("http", "8.8.8.8", 80, "/")),
        ("http://[2606:4700:0::1111]/", Url("http", "2606:4700::1111", 80, "/")),
        ("http://images.example/a@b:c//d", Url("http", "images.example", 80, "/a@b:c//d")),
    ],
)
def test_a_url_is_read_in_one_way(text: str, url: Url) -> None:
    assert parse(text) == url
    assert parse(str(url)) == url


def test_host_and_port_are_written_as_the_host_header_has_them() -> None:
    assert parse("http://images.example:80/").authority == "images.example"
    assert parse("https://images.example:80/").authority == "images.example:80"
    assert parse("http://[2606:4700::1111]:81/").authority == "[2606:4700::1111]:81"


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/b.png", "https://images.example/b.png"),
        ("b.png?x=1", "https://images.example/a/b.png?x=1"),
        ("//cdn.example/b.png", "https://cdn.example/b.png"),
        ("https://cdn.example:8443/b c.png", "https://cdn.example:8443/b%20c.png"),
    ],
)
def test_a_redirect_is_read_from_where_it_stands(location: str, url: str) -> None:
    assert str(parse("https://images.example/a/x.png").joined(location)) == url


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("file:///etc/passwd", "invalid_url"),
        ("http://user@images.example/", "invalid_url"),
        ("http://[", "invalid_url"),
        ("//images.example\\@127.0.0.1/", "invalid_url"),
        ("https://2130706433/", "url_not_allowed"),
        ("http://images.example/b.png", "url_not_allowed"),
    ],
)
def test_a_redirect_to_what_is_no_url_or_away_from_https_is_refused(location: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse("https://images.example/a.png").joined(location)
    assert refused.value.code == code


# Addresses

CLOSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "4000::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]
OPEN = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "172.32.0.1", "192.0.1.1", "223.255.255.255", "2606:4700::1111"]
OPEN += ["2a00:1450::1", "2001:200::1", "64:ff9b::808:808"]


def literal(address: str) -> Url:
    return parse(f"http://[{address}]/" if ":" in address else f"http://{address}/")


async def code_of(guard: Guard, url: Url) -> str:
    with pytest.raises(ApiError) as refused:
        await guard.addresses(url)
    return refused.value.code


@pytest.mark.parametrize("address", CLOSED)
async def test_an_address_that_is_not_public_is_refused_written_out_and_behind_a_name(address: str) -> None:
    guard = Guard(resolve=Names(innocent_example=[[address]]))
    assert await code_of(guard, literal(address)) == "url_not_allowed"
    assert await code_of(guard, parse("http://innocent.example/")) == "url_not_allowed"


@pytest.mark.parametrize("address", OPEN)
async def test_public_addresses_are_dialled(address: str) -> None:
    guard = Guard(resolve=Names(images_example=[[address]]))
    assert is_public(ip_address(address))
    assert await guard.addresses(literal(address)) == [address]
    assert await guard.addresses(parse("http://images.example/")) == [address]


@pytest.mark.parametrize("addresses", [["8.8.8.8", "127.0.0.1"], ["::1", "8.8.8.8"], ["8.8.8.8", "fe80::1%2"]])
async def test_a_name_with_one_refused_address_is_refused_altogether(addresses: list[str]) -> None:
    guard = Guard(resolve=Names(mixed_example=[addresses]))
    assert await code_of(guard, parse("http://mixed.example/")) == "url_not_allowed"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost.", "db.localhost", "a.b.localhost."])
async def test_localhost_names_are_refused_without_asking_anybody(host: str) -> None:
    names = Names(localhost=[["8.8.8.8"]], db_localhost=[["8.8.8.8"]])
    assert await code_of(Guard(resolve=names), parse(f"http://{host}/")) == "url_not_allowed"
    assert names.asked == []


async def test_a_refusal_tells_the_log_what_the_operator_has_to_know_and_the_user_no_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guard = Guard(resolve=Names(intranet_example=[["10.1.2.3"]]))
    with caplog.at_level(logging.WARNING), pytest.raises(InvalidRequest) as refused:
        await guard.addresses(parse("http://intranet.example/?token=secret"))
    (record,) = caplog.records
    assert (record.host, record.addresses) == ("intranet.example", ["10.1.2.3"])  # type: ignore[attr-defined]  # fields
    assert "10.1.2.3" not in refused.value.message
    assert "secret" not in caplog.text


async def test_a_name_that_does_not_exist_is_a_failed_fetch() -> None:
    guard = Guard(resolve=Names())
    with pytest.raises(UpstreamFailed) as failed:
        await guard.addresses(parse("http://nowhere.example/"))
    assert failed.value.code == "fetch_failed"


# What the operator allows


async def test_a_listed_name_allows_whatever_it_resolves_to_and_no_other_name() -> None:
    guard = Guard(["MEDIA.internal."], resolve=Names(media_internal=[["10.1.2.3", "fd00::5"]]))
    assert await guard.addresses(parse("http://media.internal/")) == ["10.1.2.3", "fd00::5"]
    assert await code_of(guard, parse("http://10.1.2.3/")) == "url_not_allowed"
    assert await code_of(guard, parse("http://www.media.internal/")) == "fetch_failed"


@pytest.mark.parametrize("entry", ["10.1.0.0/16", "10.1.2.3", "10.1.2.3/32"])
async def test_a_listed_network_allows_its_addresses_and_names_that_resolve_to_them(entry: str) -> None:
    guard = Guard([entry], resolve=Names(media_internal=[["10.1.2.3"]], other_internal=[["10.2.2.3"]]))
    assert await guard.addresses(parse("http://10.1.2.3/")) == ["10.1.2.3"]
    assert await guard.addresses(parse("http://media.internal/")) == ["10.1.2.3"]
    assert await code_of(guard, parse("http://other.internal/")) == "url_not_allowed"


@pytest.mark.parametrize(
    ("entries", "addresses"),
    [
        (["localhost"], ["127.0.0.1", "::1"]),
        (["127.0.0.1"], ["127.0.0.1"]),
        (["127.0.0.0/8", "::1"], ["127.0.0.1", "::1"]),
        (["[::1]"], ["::1"]),
    ],
)
async def test_localhost_leads_to_those_loopback_addresses_that_are_allowed(
    entries: list[str], addresses: list[str]
) -> None:
    assert await Guard(entries).addresses(parse("http://localhost/")) == addresses


@pytest.mark.parametrize("entry", ["10.1.2.3/16", "*.internal", "http://internal", "internal:80", "0x7f.1", "a b", ""])
def test_an_entry_that_cannot_mean_anything_stops_the_start(entry: str) -> None:
    with pytest.raises(ConfigError, match="MEDIA_REMOTE_ALLOW_HOSTS"):
        Guard([entry])


# The system's resolver


async def test_names_are_looked_up_by_the_system() -> None:
    guard = Guard()
    own_name = socket.gethostname()
    try:
        expected = {row[4][0] for row in socket.getaddrinfo(own_name, 80, type=socket.SOCK_STREAM)}
    except socket.gaierror:
        pytest.skip("this machine does not know its own name")
    assert set(await Guard([own_name]).addresses(parse(f"http://{own_name}/"))) == expected
    guard.close()
