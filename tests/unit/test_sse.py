"""The splitter of server-sent events: the same events however the network cuts them."""

import pytest

from services.llm.providers.sse import LARGEST_EVENT, Events

STREAM = (
    b": a comment\n\n"
    b'data: {"one": 1}\n\n'
    b"event: named\nid: 7\nretry: 10\ndata:no space\n\n"
    b"data: two\ndata: lines\n\n"
    b"event: without data\n\n"
    b"data:\n\n"
    b"data:  kept space\n\n"
    b'data: {"text": "\xc3\xa9\xe2\x82\xac"}\n\n'
    b"data: [DONE]\n\n"
)
PAYLOADS = [
    b'{"one": 1}',
    b"no space",
    b"two\nlines",
    b"",
    b" kept space",
    b'{"text": "\xc3\xa9\xe2\x82\xac"}',
    b"[DONE]",
]
NEWLINES = [pytest.param(b"\n", id="LF"), pytest.param(b"\r\n", id="CRLF"), pytest.param(b"\r", id="CR")]


def split(*parts: bytes) -> list[bytes]:
    events = Events()
    return [payload for part in parts for payload in events.feed(part)] + events.finish()


@pytest.mark.parametrize("newline", NEWLINES)
def test_only_data_lines_make_payloads(newline: bytes) -> None:
    assert split(STREAM.replace(b"\n", newline)) == PAYLOADS


@pytest.mark.parametrize("newline", NEWLINES)
def test_a_stream_gives_the_same_events_wherever_it_is_cut_in_two(newline: bytes) -> None:
    data = STREAM.replace(b"\n", newline)
    for cut in range(len(data)):
        assert split(data[:cut], data[cut:]) == PAYLOADS, f"cut at byte {cut}"


@pytest.mark.parametrize("newline", NEWLINES)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_a_stream_gives_the_same_events_in_packets_of_any_size(newline: bytes, size: int) -> None:
    data = STREAM.replace(b"\n", newline)
    assert split(*(data[at : at + size] for at in range(0, len(data), size))) == PAYLOADS


def test_an_event_is_given_as_soon_as_its_blank_line_is_there() -> None:
    events = Events()
    assert events.feed(b"data: a\n") == []
    assert events.feed(b"\ndata: b") == [b"a"]
    assert events.feed(b"\r\n\r\n") == [b"b"]


def test_a_last_event_without_its_blank_line_is_given_at_the_end() -> None:
    events = Events()
    assert events.feed(b"data: a\n\ndata: [DONE]\r\n") == [b"a"]
    assert events.finish() == [b"[DONE]"]
    assert events.finish() == []


def test_a_byte_order_mark_in_front_of_the_stream_is_not_part_of_it() -> None:
    assert split(b"\xef\xbb\xbfdata: a\n\n") == [b"a"]


def test_an_event_that_never_ends_is_refused() -> None:
    events = Events()
    events.feed(b"data: ")
    with pytest.raises(ValueError, match="larger than 16 MiB"):
        events.feed(b"x" * LARGEST_EVENT)


def test_a_long_event_costs_no_more_in_small_packets() -> None:
    events = Events()
    for _ in range(2000):
        assert events.feed(b"x" * 4096) == []
