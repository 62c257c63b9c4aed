"""File search: texts that users have had indexed, and the passages of them that answer a question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from services.mcp.documents.descriptions import DELETE, INDEX, QUERY
from services.mcp.documents.embeddings import Embedded, Embeddings
from services.mcp.documents.passages import passages_of
from services.mcp.documents.store import Document, DocumentStore, Passage, Question
from services.mcp.tool import Calling, Description, Json, Result, ToolFailed
from services.runtime import ids

LARGEST_TEXT = 2_000_000
"""Bytes of a document."""
LARGEST_METADATA = 16 * 1024
"""Bytes of its metadata, as JSON."""
DEEPEST_METADATA = 16
"""Levels of it: what is kept must fit into a result, and into messages of gRPC, which have at most a hundred."""

_MARGIN = 3.0  # seconds of a call that are kept for writing what was embedded, or a quarter of a short one


class FileSearchIndex:
    """Cuts texts into passages, has `embeddings` made of them and keeps both in `store`."""

    def __init__(
        self,
        store: DocumentStore,
        embeddings: Embeddings,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._embeddings = embeddings
        self._now = now

    @property
    def description(self) -> Description:
        return INDEX

    async def run(self, arguments: Json, calling: Calling) -> Result:
        """As CONTRACT 11.2. Raises `ToolFailed`: `empty_text`, `text_too_large`, `invalid_text`, `metadata_too_large`,
        `tool_timeout`; and the `ApiError` of whoever embeds."""
        text = _storable(arguments["text"], "text")
        _check_size(text)
        metadata = _checked_metadata(arguments["metadata"])
        tags = list(dict.fromkeys(_storable(tag, "tags") for tag in arguments["tags"]))
        texts = await asyncio.to_thread(passages_of, text)
        if not texts:
            raise ToolFailed("empty_text", "The text is empty. To remove a document, call file_search_delete")
        embedded = await self._embedded(texts, calling)
        document = Document(
            id=arguments.get("document_id") or ids.new_id("doc"),
            model=self._embeddings.model,
            token_count=embedded.token_count,
            passages=[Passage(*each) for each in zip(texts, embedded.vectors, strict=True)],
            tags=tags,
            metadata=metadata,
        )
        now = self._now()
        await self._store.put(calling.user_id, document, now=now)
        return Result(
            {
                "document_id": document.id,
                "status": "indexed",
                "indexed_at": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "token_count": document.token_count,
            }
        )

    async def _embedded(self, texts: Sequence[str], calling: Calling) -> Embedded:
        left = calling.deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(left - min(_MARGIN, left / 4)):
                return await self._embeddings.embed(texts, token=calling.token)
        except TimeoutError:
            raise ToolFailed(
                "tool_timeout",
                f"The {len(texts)} passages of this text could not be embedded in time: index it in parts, each as a "
                "document, or have TOOL_EXECUTION_TIMEOUT raised. Nothing was changed",
            ) from None


class FileSearchQuery:
    """Has the question embedded by `embeddings` and finds passages in `store`."""

    def __init__(self, store: DocumentStore, embeddings: Embeddings) -> None:
        self._store = store
        self._embeddings = embeddings

    @property
    def description(self) -> Description:
        return QUERY

    async def run(self, arguments: Json, calling: Calling) -> Result:
        """As CONTRACT 11.2; `results` are passages, of which several may be of one document. Raises `ToolFailed`:
        `empty_text`, `invalid_text`, `metadata_too_large`; and the `ApiError` of whoever embeds."""
        text = _storable(arguments["query"], "query").strip()
        if not text:
            raise ToolFailed("empty_text", "The query is empty")
        metadata = _checked_metadata(arguments["metadata"])
        tags = [_storable(tag, "tags") for tag in arguments["tags"]]
        embedded = await self._embeddings.embed([text], token=calling.token)
        question = Question(
            text=text,
            model=self._embeddings.model,
            embedding=embedded.vectors[0],
            top_k=arguments["top_k"],
            document_ids=arguments["document_ids"],
            tags=tags,
            metadata=metadata,
        )
        rows = await self._store.search(calling.user_id, question)
        results = [
            {
                "document_id": row["document_id"],
                "score": round(row["score"], 4),
                "text_preview": row["text"],
                "metadata": orjson.loads(row["metadata"]),
                "tags": list(row["tags"]),
            }
            for row in rows
        ]
        return Result({"query": arguments["query"], "top_k": question.top_k, "count": len(results), "results": results})


class FileSearchDelete:
    """Removes documents from `store`."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store

    @property
    def description(self) -> Description:
        return DELETE

    async def run(self, arguments: Json, calling: Calling) -> Result:
        """Says which documents there were: those that are not there, or not the caller's, are no error."""
        deleted = await self._store.delete(calling.user_id, arguments["document_ids"])
        return Result({"deleted": deleted, "count": len(deleted)})


def _check_size(text: str) -> None:
    size = len(text.encode())
    if size > LARGEST_TEXT:
        raise ToolFailed(
            "text_too_large",
            f"The text has {size:,} bytes; a document has at most {LARGEST_TEXT:,}. Index it in parts",
        )


def _storable(text: str, field: str) -> str:
    """The text, in which U+0000, which PDF readers leave behind and PostgreSQL cannot hold, became a blank."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ToolFailed("invalid_text", f"'{field}' is no valid Unicode: it has half of a surrogate pair") from None
    return text.replace("\0", " ")


def _checked_metadata(metadata: Json) -> Json:
    try:
        text = orjson.dumps(metadata)
    except TypeError:  # half of a surrogate pair, integers of more than 64 bits, or too deep
        raise ToolFailed("invalid_text", "'metadata' cannot be written as JSON") from None
    if b"\\u0000" in text.replace(b"\\\\", b""):
        raise ToolFailed("invalid_text", "'metadata' cannot have the character U+0000")
    if len(text) > LARGEST_METADATA:
        raise ToolFailed(
            "metadata_too_large", f"'metadata' has {len(text):,} bytes as JSON; at most {LARGEST_METADATA:,} are kept"
        )
    if _levels(metadata) > DEEPEST_METADATA:
        raise ToolFailed("metadata_too_large", f"'metadata' is nested more than {DEEPEST_METADATA} levels deep")
    return metadata


def _levels(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(_levels, inside), default=0)
