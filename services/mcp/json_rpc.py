"""JSON-RPC 2.0 as MCP speaks it over HTTP (CONTRACT 11.1): what a body asks, and the bodies that answer.

A request belongs to one of two eras. One that names the revision in its `_meta`, or a recent revision in a header, is
*modern*: it stands alone, and headers repeat parts of it, which are compared. All others are of the *handshake* era,
whose session is optional here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import mcp_types as types
import orjson
from mcp.shared.inbound import (
    MCP_PROTOCOL_VERSION_HEADER,
    InboundLadderRejection,
    classify_inbound_request,
    find_duplicated_routing_header,
)
from mcp_types.version import LATEST_HANDSHAKE_VERSION, MODERN_PROTOCOL_VERSIONS

from services.mcp.tool import Json
from services.runtime.httpbody import DEEPEST
from services.runtime.typed_json import MOST, refuse_many

HANDSHAKE_VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26")
VERSIONS = (*MODERN_PROTOCOL_VERSIONS, *HANDSHAKE_VERSIONS)
_REVISION = re.compile(r"\d{4}-\d{2}-\d{2}")

Id = str | int | None


@dataclass(frozen=True)
class Headers:
    """Headers of a request, names in lower case; one may be there twice."""

    pairs: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, metadata: Iterable[Any]) -> Headers:
        """Those in the metadata of a call, without what is binary."""
        return cls(tuple((str(key), value) for key, value in metadata if isinstance(value, str)))

    @cached_property
    def first(self) -> Mapping[str, str]:
        """The first value of each."""
        return dict(reversed(self.pairs))


@dataclass(frozen=True)
class Request:
    """What a client asks, as far as it can be answered at all. Without `id` it is answered with null all the same."""

    method: str
    params: Json | None
    id: Id
    version: str
    """The revision whose rules hold."""
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)
    """What came with a modern request, which repeats arguments there (`Mcp-Param-…`)."""

    @property
    def modern(self) -> bool:
        """Whether it stands alone."""
        return self.version in MODERN_PROTOCOL_VERSIONS

    @property
    def meta(self) -> Json:
        """What it says besides its parameters."""
        meta = (self.params or {}).get("_meta")
        return meta if isinstance(meta, dict) else {}

    @property
    def progress_token(self) -> str | int | None:
        """How the client recognises what it is told about the progress of this request, if it wants to know."""
        token = self.meta.get("progressToken")
        return token if isinstance(token, str | int) and not isinstance(token, bool) else None

    @property
    def is_notification(self) -> bool:
        """Whether nobody waits for an answer."""
        return self.id is None and self.method.startswith("notifications/")


@dataclass(frozen=True)
class Reply:
    """The answer to a request: one message, and the status of HTTP that goes with it."""

    body: bytes
    status: int = 200


def read(data: bytes, headers: Headers) -> Request | Reply:
    """What is asked, or the error that says why that cannot be told. Raises `InvalidRequest` for too many values."""
    try:
        message = _parsed(data)
    except ValueError as error:
        return fault(types.PARSE_ERROR, f"The body is not valid JSON: {error}", status=400)
    if not isinstance(message, dict):
        return fault(types.INVALID_REQUEST, "The body must be one JSON-RPC request, not a batch", status=400)
    asked = message.get("id")
    if message.get("jsonrpc") != "2.0" or not isinstance(message.get("method"), str) or not _is_id(asked):
        text = "A request has 'jsonrpc': \"2.0\", a 'method' and an 'id' that is a string or an integer"
        return fault(types.INVALID_REQUEST, text, id=asked if _is_id(asked) else None, status=400)
    if not isinstance(message.get("params", {}), dict | None):
        return fault(types.INVALID_PARAMS, "'params' must be an object", id=asked, data={"field": "params"})
    named = headers.first.get(MCP_PROTOCOL_VERSION_HEADER)
    if _names_version(message) or _is_recent(named):
        return _modern(message, headers)
    if named is not None and named not in HANDSHAKE_VERSIONS:
        return _unsupported(named, asked)
    return Request(message["method"], message.get("params"), asked, named or LATEST_HANDSHAKE_VERSION)


def result(id: Id, value: Json) -> Reply:
    """The answer of a method that was done."""
    return Reply(orjson.dumps({"jsonrpc": "2.0", "id": id, "result": value}))


def fault(code: int, message: str, *, id: Id = None, data: Any = None, status: int = 200) -> Reply:
    """The answer to what could not be done."""
    error = {"code": code, "message": message} | ({} if data is None else {"data": data})
    return Reply(orjson.dumps({"jsonrpc": "2.0", "id": id, "error": error}), status)


def notification(method: str, params: Mapping[str, Any]) -> bytes:
    """A message that nobody answers."""
    return orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params})


def _parsed(data: bytes) -> Any:
    value = orjson.loads(data)
    if data.count(b"[") + data.count(b"{") > DEEPEST:
        try:
            orjson.dumps(value)
        except orjson.JSONEncodeError as error:  # it reads deeper nesting than it writes
            raise ValueError(f"more than {DEEPEST} levels deep") from error
    if isinstance(value, dict) and len(data) > MOST:
        refuse_many(value)
    return value


def _is_id(value: Any) -> bool:
    return value is None or (isinstance(value, str | int) and not isinstance(value, bool))


def _names_version(message: Json) -> bool:
    meta = (message.get("params") or {}).get("_meta")
    return isinstance(meta, dict) and types.PROTOCOL_VERSION_META_KEY in meta


def _is_recent(version: str | None) -> bool:
    return bool(version and _REVISION.fullmatch(version) and version >= MODERN_PROTOCOL_VERSIONS[0])


def _modern(message: Json, headers: Headers) -> Request | Reply:
    """A modern request whose headers say the same as its body."""
    method, asked = message["method"], message.get("id")
    named = headers.first.get(MCP_PROTOCOL_VERSION_HEADER)
    if asked is None and method.startswith("notifications/"):  # has no `_meta`
        version = named or ""
        return Request(method, None, None, version) if version in VERSIONS else _unsupported(version, None)
    if named is not None and not _names_version(message) and named not in MODERN_PROTOCOL_VERSIONS:
        return _unsupported(named, asked)
    twice = find_duplicated_routing_header(headers.pairs)
    if twice is not None:
        return fault(types.HEADER_MISMATCH, f"The header {twice} is there more than once", id=asked, status=400)
    verdict = classify_inbound_request(message, headers=headers.first)
    if not isinstance(verdict, InboundLadderRejection):
        return Request(method, message["params"], asked, verdict.protocol_version, headers.first)
    if verdict.code == types.UNSUPPORTED_PROTOCOL_VERSION:
        return _unsupported(verdict.data["requested"], asked)
    data = {"field": "_meta"} if verdict.code == types.INVALID_PARAMS else None
    return fault(verdict.code, verdict.message, id=asked, data=data, status=400)


def _unsupported(requested: str, asked: Id) -> Reply:
    data = {"supported": list(VERSIONS), "requested": requested}
    return fault(types.UNSUPPORTED_PROTOCOL_VERSION, "Unsupported protocol version", id=asked, data=data, status=400)
