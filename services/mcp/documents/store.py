"""Documents and their passages in PostgreSQL with pgvector."""

from __future__ import annotations

from asyncio import Lock
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import orjson

from services.mcp.documents.ranking import THOROUGH, search
from services.mcp.documents.words import words_of
from services.mcp.tool import Json
from services.runtime import migrations
from services.runtime.config import ConfigError
from services.runtime.db import Connection, Database, Row

EXACT = 20_000
"""Passages that are all compared with a question; of more, only those that the index says are near."""
WORDS_ASKED = 64
"""Different words of a question that are looked for."""

_AT_ONCE = 50  # passages in a statement, whose words take some 10 ms to find
_SERVICES = Path(__file__).resolve().parents[1]  # where `migrate` finds documents/migrations


@dataclass(frozen=True)
class Passage:
    """A part of a document with its vector."""

    text: str
    embedding: Sequence[float] = field(repr=False)


@dataclass(frozen=True)
class Document:
    """A text that was embedded, ready to be kept."""

    id: str
    model: str
    token_count: int
    passages: Sequence[Passage]
    tags: Sequence[str] = ()
    metadata: Json = field(default_factory=dict)

    @property
    def space(self) -> str:
        """Where its vectors are."""
        return _space(self.model, self.passages[0].embedding)


@dataclass(frozen=True)
class Question:
    """What is looked for, and in which documents: those with one of these ids, all of these tags and this metadata.
    Empty is no condition."""

    text: str
    model: str
    embedding: Sequence[float] = field(repr=False)
    top_k: int = 5
    document_ids: Sequence[str] = ()
    tags: Sequence[str] = ()
    metadata: Json = field(default_factory=dict)


class DocumentStore:
    """The documents of all users; every method sees those of one."""

    def __init__(self, database: Database, *, exact: int = EXACT) -> None:
        self._database = database
        self._exact = exact
        self._preparing = Lock()
        self._prepared = False

    async def prepare(self) -> None:
        """Bring the tables up to date, once; every other method does so, too. Raises `ConfigError` where the database
        has no pgvector, and `Unavailable`."""
        async with self._preparing:
            if self._prepared:
                return
            try:
                await migrations.migrate(self._database, _SERVICES)
            except migrations.MigrationError as error:
                raise ConfigError(f"file search cannot have its tables: {error}. {_REMEDY}") from error
            self._prepared = True

    async def put(self, user_id: str, document: Document, *, now: datetime) -> None:
        """Keep a document in the place of the one of that id. Whoever searches sees either the one or the other."""
        await self.prepare()
        async with self._database.transaction() as connection:
            await self._put_document(connection, user_id, document, now)  # from here on we are the only one to write it
            await connection.execute(
                "DELETE FROM document_passages WHERE user_id = $1 AND document_id = $2", user_id, document.id
            )
            for first in range(0, len(document.passages), _AT_ONCE):
                await self._put_passages(connection, user_id, document, first)

    async def delete(self, user_id: str, document_ids: Sequence[str]) -> list[str]:
        """Remove documents for good, and return the ids of those that there were."""
        await self.prepare()
        rows = await self._database.fetch(
            "DELETE FROM documents WHERE user_id = $1 AND id = ANY($2) RETURNING id", user_id, list(document_ids)
        )
        gone = {row["id"] for row in rows}
        return [each for each in dict.fromkeys(document_ids) if each in gone]

    async def search(self, user_id: str, question: Question) -> list[Row]:
        """The passages that fit best, best first: `document_id, number, text, score, metadata` (JSON) and `tags`."""
        await self.prepare()
        words = words_of(question.text, most=WORDS_ASKED)
        arguments = (*_scope(user_id, question), _vector(question.embedding), question.top_k)
        async with self._database.transaction() as connection:
            exact = await self._passages_in_scope(connection, user_id, question) <= self._exact
            if not exact:
                await connection.execute(THOROUGH)
            sql = search(len(question.embedding), len(words), exact=exact)
            lexemes = [[f"'{word}'" for word in words]] if words else []  # letters and digits only
            return await connection.fetch(sql, *arguments, *lexemes)

    async def _passages_in_scope(self, connection: Connection, user_id: str, question: Question) -> int:
        count: int = await connection.fetchval(_COUNT, *_scope(user_id, question))
        return count

    async def _put_document(self, connection: Connection, user_id: str, document: Document, now: datetime) -> None:
        await connection.execute(
            """
            INSERT INTO documents (user_id, id, space, passage_count, token_count, tags, metadata, indexed_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8)
            ON CONFLICT (user_id, id) DO UPDATE SET
                space = excluded.space, passage_count = excluded.passage_count, token_count = excluded.token_count,
                tags = excluded.tags, metadata = excluded.metadata, indexed_at = excluded.indexed_at
            """,
            *(user_id, document.id, document.space, len(document.passages), document.token_count),
            *(list(document.tags), orjson.dumps(document.metadata).decode(), now),
        )

    async def _put_passages(self, connection: Connection, user_id: str, document: Document, first: int) -> None:
        passages = document.passages[first : first + _AT_ONCE]
        await connection.execute(
            """
            INSERT INTO document_passages (user_id, document_id, space, number, text, words, embedding)
            SELECT $1, $2, $3, $4 + row.number, row.text, array_to_tsvector(string_to_array(row.words, ' ')),
                row.embedding::halfvec
            FROM unnest($5::text[], $6::text[], $7::text[]) WITH ORDINALITY AS row (text, words, embedding, number)
            """,
            *(user_id, document.id, document.space, first - 1),
            [each.text for each in passages],
            [" ".join(words_of(each.text)) for each in passages],
            [_vector(each.embedding) for each in passages],
        )


_REMEDY = (
    "It needs the extension `vector` (pgvector 0.8 or later) in the PostgreSQL of VECTOR_STORE_URL or DATABASE_URL: "
    "have it installed and a superuser run CREATE EXTENSION vector there, or set MCP_ENABLE_FILE_SEARCH=false"
)
_COUNT = """
    SELECT coalesce(sum(passage_count), 0)::int FROM documents d
    WHERE d.user_id = $1 AND d.space = $2
        AND (cardinality($3::text[]) = 0 OR d.id = ANY($3::text[])) AND d.tags @> $4::text[] AND d.metadata @> $5::jsonb
"""


def _scope(user_id: str, question: Question) -> tuple[object, ...]:
    metadata = orjson.dumps(question.metadata).decode()
    return (
        user_id,
        _space(question.model, question.embedding),
        list(question.document_ids),
        list(question.tags),
        metadata,
    )


def _space(model: str, embedding: Sequence[float]) -> str:
    return f"{model}:{len(embedding)}"


def _vector(numbers: Sequence[float]) -> str:
    return orjson.dumps(list(numbers)).decode()
