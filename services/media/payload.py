"""JSON values with images in them: a string that is an id, or a data URL with an id in the place of its bytes, stands
for that image wherever it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from google.protobuf.struct_pb2 import Value

from services.media.names import mentioned


def mentions(value: Value, path: str = "payload") -> Iterator[tuple[str, str]]:
    """Every id that a value mentions, with the path of its string, such as `payload.messages[0].content`."""
    for text, where in _strings(value, path):
        media_id = mentioned(text.string_value)
        if media_id is not None:
            yield media_id, where


def replace(value: Value, urls: Mapping[str, str]) -> None:
    """Put the URL of an image in the place of every mention of it."""
    for text, _ in _strings(value, ""):
        media_id = mentioned(text.string_value)
        if media_id is not None:
            text.string_value = urls[media_id]


def _strings(value: Value, path: str) -> Iterator[tuple[Value, str]]:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        yield value, path
    elif kind == "struct_value":
        for name in sorted(value.struct_value.fields):
            yield from _strings(value.struct_value.fields[name], f"{path}.{name[:64]}")
    elif kind == "list_value":
        for index, each in enumerate(value.list_value.values):
            yield from _strings(each, f"{path}[{index}]")
