"""File search on a real PostgreSQL with pgvector: who finds what, what replaces what, and how well it is ranked."""

from __future__ import annotations

import asyncio
import json
import math
import operator
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # the library is not annotated
import pytest
import pytest_asyncio

from services.llm.providers.minilm import MiniLmProvider
from services.mcp.arguments import WrongArguments, fitting
from services.mcp.builtin.file_search import FileSearchDelete, FileSearchIndex, FileSearchQuery
from services.mcp.documents.descriptions import DELETE
from services.mcp.documents.embeddings import Embedded
from services.mcp.documents.opening import opened
from services.mcp.documents.store import EXACT, Document, DocumentStore, Passage, Question
from services.mcp.documents.words import words_of
from services.mcp.peers import LlmRoom
from services.mcp.tool import Calling, Json, Tool, ToolFailed
from services.runtime import call as calls
from services.runtime.call import Call
from services.runtime.config import ConfigError
from services.runtime.db import Database, connect
from services.runtime.errors import NotFound, Unavailable
from services.runtime.neighbours import Neighbours
from services.runtime.postgres import EmbeddedPostgres
from tests.grpc.keys import guest
from tests.grpc.rig import running

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
SET = json.loads((Path(__file__).parents[1] / "file_search_set/set.json").read_text())
TEA, ENGINE = "Green tea is brewed at eighty degrees.", "The engine of the boat needs oil."
BAG = 64


class BagOfWords:
    """Vectors of texts are alike when their words are. Keeps what it was asked, and waits when it is told to."""

    def __init__(self, *, model: str = "bag", size: int = BAG) -> None:
        self.model = model
        self.size = size
        self.asked: list[tuple[list[str], str]] = []
        self.held: asyncio.Event | None = None

    async def embed(self, texts: Sequence[str], *, token: str) -> Embedded:
        self.asked.append((list(texts), token))
        if self.held is not None:
            await self.held.wait()
        return Embedded([self._vector(text) for text in texts], sum(len(text.split()) for text in texts))

    def _vector(self, text: str) -> list[float]:
        vector = [0.0] * self.size
        for word in words_of(text):
            vector[zlib.crc32(word.encode()) % self.size] += 1.0
        return vector


class MiniLm:
    """The built-in model, without the LLM room around it."""

    model = "all-minilm-l6-v2"

    def __init__(self, provider: MiniLmProvider) -> None:
        self._provider = provider

    async def embed(self, texts: Sequence[str], *, token: str) -> Embedded:
        deadline = asyncio.get_running_loop().time() + 60
        answer = await self._provider.embed({"input": list(texts)}, deadline=deadline)
        return Embedded([each["embedding"] for each in answer["data"]], answer["usage"]["total_tokens"])


class Person:
    """Somebody who calls the three tools, as the registry would for her."""

    def __init__(self, store: DocumentStore, embeddings: Any, user_id: str) -> None:
        self.user_id = user_id
        self._index = FileSearchIndex(store, embeddings, now=lambda: NOW)
        self._query = FileSearchQuery(store, embeddings)
        self._delete = FileSearchDelete(store)

    async def index(self, text: str, *, seconds: float = 60, **arguments: Any) -> Json:
        return await self._call(self._index, {"text": text, **arguments}, seconds)

    async def query(self, query: str, **arguments: Any) -> Json:
        return await self._call(self._query, {"query": query, **arguments})

    async def delete(self, *document_ids: str) -> Json:
        return await self._call(self._delete, {"document_ids": list(document_ids)})

    async def found(self, query: str, **arguments: Any) -> list[str]:
        return [each["document_id"] for each in (await self.query(query, **arguments))["results"]]

    async def _call(self, tool: Tool, arguments: Json, seconds: float = 60) -> Json:
        deadline = asyncio.get_running_loop().time() + seconds
        described = tool.description
        calling = Calling(self.user_id, f"token of {self.user_id}", deadline)
        result = await tool.run(fitting(arguments, described.input_schema), calling)
        assert result.structured is not None
        assert described.output_schema is not None
        jsonschema.validate(result.structured, described.output_schema)
        return result.structured


@pytest.fixture
def embeddings() -> BagOfWords:
    return BagOfWords()


@pytest.fixture
def store(database: Database) -> DocumentStore:
    return DocumentStore(database)


@pytest.fixture
def person(store: DocumentStore, embeddings: BagOfWords) -> Callable[[str], Person]:
    return lambda user_id: Person(store, embeddings, user_id)


@pytest.fixture
def ada(person: Callable[[str], Person]) -> Person:
    return person("usr_ada")


@pytest.fixture
def ben(person: Callable[[str], Person]) -> Person:
    return person("usr_ben")


# What comes out


async def test_a_text_is_indexed_and_its_passage_found(ada: Person, embeddings: BagOfWords) -> None:
    indexed = await ada.index(TEA, document_id="tea", metadata={"page": 3, "by": {"name": "Ada"}}, tags=["drinks"])
    assert indexed == {
        "document_id": "tea",
        "status": "indexed",
        "indexed_at": "2026-11-20T12:00:00Z",
        "token_count": 7,
    }
    answer = await ada.query("How is green tea brewed?")
    score = answer["results"][0].pop("score")
    assert 0 < score <= 1
    assert answer == {
        "query": "How is green tea brewed?",
        "top_k": 5,
        "count": 1,
        "results": [
            {
                "document_id": "tea",
                "text_preview": TEA,
                "metadata": {"page": 3, "by": {"name": "Ada"}},
                "tags": ["drinks"],
            }
        ],
    }
    assert [token for _, token in embeddings.asked] == ["token of usr_ada"] * 2


async def test_a_document_without_a_name_gets_one_of_its_own(ada: Person) -> None:
    first, second = await ada.index(TEA), await ada.index(TEA)
    assert first["document_id"].startswith("doc_")
    assert first["document_id"] != second["document_id"]
    assert sorted(await ada.found("tea")) == sorted([first["document_id"], second["document_id"]])


async def test_the_best_come_first_and_no_more_than_asked_for(ada: Person) -> None:
    for number in range(8):
        await ada.index("tea " + "filler " * number, document_id=f"doc{number}")
    answer = await ada.query("tea", top_k=3)
    scores = [each["score"] for each in answer["results"]]
    assert (answer["count"], answer["results"][0]["document_id"]) == (3, "doc0")
    assert scores == sorted(scores, reverse=True)
    assert len(await ada.found("tea", top_k=20)) == 8


async def test_the_same_words_score_one_and_others_none(ada: Person) -> None:
    await ada.index("tea", document_id="same")
    await ada.index("engine", document_id="other")
    scores = {each["document_id"]: each["score"] for each in (await ada.query("tea"))["results"]}
    assert scores == {"same": 1.0, "other": 0.0}


async def test_the_passage_that_answers_is_shown_of_a_long_document(ada: Person) -> None:
    filler = "\n\n".join(
        f"Paragraph {number} is about something else entirely, as are others. " * 8 for number in range(9)
    )
    await ada.index(f"{filler}\n\nThe password of the safe is Rosebud.\n\n{filler}", document_id="long")
    best = (await ada.query("password safe rosebud", top_k=1))["results"][0]
    assert "Rosebud" in best["text_preview"]
    assert len(best["text_preview"]) < 1500


async def test_a_code_is_found_among_others_that_look_like_it(store: DocumentStore) -> None:
    class Alike(BagOfWords):
        def _vector(self, text: str) -> list[float]:
            return [1.0] * self.size

    ada = Person(store, Alike(), "usr_ada")
    for number in range(1040, 1060):
        await ada.index(f"Error E-{number}: restart the boiler", document_id=f"e{number}")
    assert (await ada.found("What does error e-1047 mean?"))[0] == "e1047"


async def test_nothing_is_found_where_nothing_is(ada: Person) -> None:
    assert await ada.query("tea") == {"query": "tea", "top_k": 5, "count": 0, "results": []}


# Whose it is


async def test_nobody_finds_replaces_or_deletes_what_is_another_users(ada: Person, ben: Person) -> None:
    await ada.index(TEA, document_id="notes")
    assert await ben.found("green tea") == []
    assert await ben.found("green tea", document_ids=["notes"]) == []
    assert await ben.delete("notes") == {"deleted": [], "count": 0}
    await ben.index(ENGINE, document_id="notes")
    assert (await ada.query("tea"))["results"][0]["text_preview"] == TEA
    assert (await ben.query("tea"))["results"][0]["text_preview"] == ENGINE
    assert await ben.delete("notes") == {"deleted": ["notes"], "count": 1}
    assert await ada.found("tea") == ["notes"]


@pytest.mark.parametrize("exact", [EXACT, 0], ids=["all compared", "by the index"])
async def test_a_user_with_few_passages_among_many_of_others_finds_hers(database: Database, exact: int) -> None:
    store = DocumentStore(database, exact=exact)
    vectors = [[math.sin(number * place) for place in range(1, 385)] for number in range(1, 1501)]
    await store.put("usr_many", _document("many", vectors), now=NOW)
    await store.put("usr_few", _document("few", [vectors[0], vectors[700]]), now=NOW)
    question = Question("?", "waves", vectors[5], top_k=2)
    assert [row["document_id"] for row in await store.search("usr_few", question)] == ["few", "few"]
    assert (await store.search("usr_many", question))[0]["number"] == 5


async def test_with_the_index_words_and_filters_count_too(database: Database) -> None:
    store = DocumentStore(database, exact=0)
    for number in range(30):
        document = _document(
            f"d{number}", [[1.0] + [0.01 * number] * 383], text=f"Part X{number}", tags=[f"t{number % 3}"]
        )
        await store.put("usr_1", document, now=NOW)
    question = Question("Where is part X17?", "waves", [1.0] * 384, tags=["t2"])
    rows = await store.search("usr_1", question)
    assert rows[0]["document_id"] == "d17"
    assert {int(row["document_id"][1:]) % 3 for row in rows} == {2}


def _document(name: str, vectors: Sequence[Sequence[float]], *, text: str = "x", tags: Sequence[str] = ()) -> Document:
    return Document(name, "waves", 1, [Passage(text, vector) for vector in vectors], tags)


# Narrowing


async def test_ids_tags_and_metadata_narrow_a_search(ada: Person) -> None:
    await ada.index(TEA, document_id="a", tags=["drinks", "green"], metadata={"year": 2026, "by": {"name": "Ada"}})
    await ada.index(TEA, document_id="b", tags=["drinks"], metadata={"year": 2025})
    await ada.index(TEA, document_id="c")

    async def found(**conditions: Any) -> str:
        return "".join(sorted(await ada.found("tea", **conditions)))

    assert await found() == await found(document_ids=[], tags=[], metadata={}) == "abc"
    assert await found(document_ids=["c", "a", "nobody"]) == "ac"
    assert await found(tags=["drinks"]) == "ab"
    assert await found(tags=["drinks", "green"]) == "a"
    assert await found(metadata={"year": 2025}) == "b"
    assert await found(metadata={"by": {"name": "Ada"}}) == "a"
    assert await found(metadata={"year": "2025"}) == ""
    assert await found(tags=["drinks"], document_ids=["b", "c"], metadata={"year": 2025}) == "b"


# Replacing and deleting


async def test_the_same_document_again_replaces_all_of_it(ada: Person, database: Database) -> None:
    await ada.index("\n\n".join(f"Tea number {number}. " * 60 for number in range(5)), document_id="x", tags=["old"])
    await ada.index(ENGINE, document_id="x", metadata={"new": True})
    (only,) = (await ada.query("tea"))["results"]
    assert (only["text_preview"], only["tags"], only["metadata"]) == (ENGINE, [], {"new": True})
    assert await database.fetchval("SELECT count(*) FROM document_passages") == 1


async def test_of_documents_indexed_at_once_one_wins_whole(ada: Person, database: Database) -> None:
    texts = [
        "\n\n".join(f"{letter}{letter} " * 200 for _ in range(length)) for length, letter in enumerate("abcdef", 3)
    ]
    await asyncio.gather(*(ada.index(text, document_id="x", tags=[text[0]]) for text in texts))
    rows = await database.fetch("SELECT number, left(text, 1) AS letter FROM document_passages ORDER BY number")
    (tag,) = await database.fetchval("SELECT tags FROM documents")
    assert {row["letter"] for row in rows} == {tag}
    assert [row["number"] for row in rows] == list(range(len(rows)))
    assert await database.fetchval("SELECT passage_count FROM documents") == len(rows)


async def test_searches_during_a_replacement_see_the_one_or_the_other(ada: Person) -> None:
    await ada.index("old one. " * 200, document_id="x")

    async def replace() -> None:
        for word in ("new", "old") * 5:
            await ada.index(f"{word} one. " * 200, document_id="x")

    writing = asyncio.create_task(replace())
    while not writing.done():
        results = (await ada.query("one", top_k=20))["results"]
        assert len({each["text_preview"][:3] for each in results}) == 1
    await writing


async def test_what_is_deleted_is_gone_with_all_its_passages(ada: Person, database: Database) -> None:
    await ada.index("tea " * 500, document_id="x")
    await ada.index(TEA, document_id="y")
    assert await ada.delete("x", "nobody", "x") == {"deleted": ["x"], "count": 1}
    assert await ada.found("tea") == ["y"]
    assert await ada.delete("x") == {"deleted": [], "count": 0}
    assert await database.fetchval("SELECT count(*) FROM document_passages") == 1


async def test_another_model_sees_only_what_it_made_until_it_is_indexed_again(
    store: DocumentStore, ada: Person
) -> None:
    await ada.index(TEA, document_id="tea")
    for other in (BagOfWords(model="other"), BagOfWords(size=20)):
        later = Person(store, other, ada.user_id)
        assert await later.found("green tea") == []
        await later.index(TEA, document_id="tea")
        assert await later.found("green tea") == ["tea"]
        assert await ada.found("green tea") == []
        await ada.index(TEA, document_id="tea")


async def test_documents_are_there_after_a_restart(database: Database, ada: Person, embeddings: BagOfWords) -> None:
    await ada.index(TEA, document_id="tea")
    assert await Person(DocumentStore(database), embeddings, ada.user_id).found("tea") == ["tea"]


# What is refused


def nested(levels: int) -> dict[str, Any]:
    """Objects in one another, every second in an array."""
    value: Any = {}
    for level in range(2, levels + 1):
        value = [value] if level % 2 else {"a": value}
    return value if isinstance(value, dict) else {"a": value[0]}


async def test_metadata_comes_back_at_whatever_depth_it_may_have(ada: Person) -> None:
    await ada.index(TEA, document_id="tea", metadata=nested(16))
    assert (await ada.query("tea"))["results"][0]["metadata"] == nested(16)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"text": ""}, "empty_text"),
        ({"text": " \n\t\u00a0"}, "empty_text"),
        ({"text": "\0"}, "empty_text"),
        ({"text": "x" * 2_000_001}, "text_too_large"),
        ({"text": "ä" * 1_000_001}, "text_too_large"),
        ({"text": "\ud800"}, "invalid_text"),
        ({"text": TEA, "tags": ["\udfff"]}, "invalid_text"),
        ({"text": TEA, "metadata": {"a": "\0"}}, "invalid_text"),
        ({"text": TEA, "metadata": {"a\0": 1}}, "invalid_text"),
        ({"text": TEA, "metadata": {"a": "\ud800"}}, "invalid_text"),
        ({"text": TEA, "metadata": {"a": 2**70}}, "invalid_text"),
        ({"text": TEA, "metadata": {"a": "x" * 16 * 1024}}, "metadata_too_large"),
        ({"text": TEA, "metadata": nested(17)}, "metadata_too_large"),
        ({"text": TEA, "metadata": nested(250)}, "metadata_too_large"),
    ],
)
async def test_what_cannot_be_indexed_is_said_and_changes_nothing(
    ada: Person, embeddings: BagOfWords, arguments: Mapping[str, Any], code: str
) -> None:
    await ada.index(ENGINE, document_id="x")
    embeddings.asked.clear()
    with pytest.raises(ToolFailed) as failure:
        await ada.index(**{"document_id": "x", **arguments})
    assert failure.value.code == code
    assert len(failure.value.message) < 200
    assert embeddings.asked == [], "nothing is paid for what is refused"
    assert (await ada.query("oil"))["results"][0]["text_preview"] == ENGINE


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        *(("document_id", each) for each in ("", "a b", "x" * 129, "ä", "a\0", "a\n", 3, ["a"])),
        *(("tags", each) for each in ("a", [""], ["x" * 65], ["a"] * 33, [1])),
        *(("metadata", each) for each in ("a", ["a"], 1)),
        *(("text", each) for each in (1, ["a"], None)),
    ],
)
async def test_wrong_arguments_of_an_index_are_named(ada: Person, field: str, wrong: object) -> None:
    with pytest.raises(WrongArguments) as refused:
        await ada.index(**{"text": TEA, field: wrong})  # type: ignore[arg-type]  # on purpose
    assert refused.value.field.split(".")[0] == field


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        *(("top_k", each) for each in (0, -1, 21, 2.5, "5", True)),
        *(("query", each) for each in ("", "x" * 8193, 1)),
        *(("document_ids", each) for each in ("a", ["a b"], ["\0"], ["a"] * 101)),
        *(("tags", each) for each in ("a", [1])),
        ("metadata", [1]),
    ],
)
async def test_wrong_arguments_of_a_query_are_named(ada: Person, field: str, wrong: object) -> None:
    with pytest.raises(WrongArguments) as refused:
        await ada.query(**{"query": "tea", field: wrong})  # type: ignore[arg-type]  # on purpose
    assert refused.value.field.split(".")[0] == field


@pytest.mark.parametrize("wrong", [[], "a", ["a b"], [1], None])
async def test_wrong_arguments_of_a_deletion_are_named(wrong: object) -> None:
    with pytest.raises(WrongArguments) as refused:
        fitting({"document_ids": wrong}, DELETE.input_schema)
    assert refused.value.field.split(".")[0] == "document_ids"


@pytest.mark.parametrize("query", [" ", "\0", "\n"])
async def test_an_empty_query_is_refused(ada: Person, query: str) -> None:
    with pytest.raises(ToolFailed) as failure:
        await ada.query(query)
    assert failure.value.code == "empty_text"


@pytest.mark.parametrize(
    "text",
    [
        "Größe 🚀 naïve 東京",
        "a\0b tea",
        "it's \\ 'quoted' & | ! ( ) <-> :*",
        "½ ª x² ǅ ﬁ İ",
        "'; DROP TABLE documents; --",
        "— … !?",
    ],
)
async def test_any_text_can_be_indexed_and_asked_for(ada: Person, text: str) -> None:
    await ada.index(
        text, document_id="x", tags=[text.replace("\0", " ")[:64]], metadata={"text": text.replace("\0", "")}
    )
    result = (await ada.query(text, tags=[text[:64]]))["results"][0]
    assert result["text_preview"] == text.replace("\0", " ")


async def test_metadata_may_speak_of_the_escape_of_the_character_it_cannot_have(ada: Person) -> None:
    await ada.index(TEA, metadata={"note": "write \\u0000"})
    assert (await ada.query("tea"))["results"][0]["metadata"] == {"note": "write \\u0000"}


async def test_a_question_of_hundreds_of_words_is_answered(ada: Person) -> None:
    await ada.index(TEA, document_id="tea")
    assert await ada.found(" ".join(f"word{number}" for number in range(700))) == ["tea"]


async def test_a_model_that_makes_nothing_but_zeros_ranks_by_words(store: DocumentStore) -> None:
    class Zeros(BagOfWords):
        def _vector(self, text: str) -> list[float]:
            return [0.0] * self.size

    ada = Person(store, Zeros(), "usr_ada")
    await ada.index(TEA, document_id="tea")
    await ada.index(ENGINE, document_id="engine")
    assert await ada.found("green tea") == ["tea", "engine"]


async def test_a_text_that_takes_too_long_says_so_and_the_old_one_stays(ada: Person, embeddings: BagOfWords) -> None:
    await ada.index(TEA, document_id="x")
    embeddings.held = asyncio.Event()
    with pytest.raises(ToolFailed, match="index it in parts") as failure:
        await ada.index(ENGINE, document_id="x", seconds=0.02)
    assert failure.value.code == "tool_timeout"
    embeddings.held = None
    assert (await ada.query("tea"))["results"][0]["text_preview"] == TEA


# Where it is kept


async def test_the_tables_are_made_once_by_however_many_processes(bare_database: Database) -> None:
    await asyncio.gather(*(DocumentStore(bare_database).prepare() for _ in range(4)))
    assert await bare_database.fetchval("SELECT count(*) FROM schema_migrations WHERE room = 'documents'") == 1


async def test_a_database_without_pgvector_is_refused_with_the_remedy(
    postgres: EmbeddedPostgres, bare_database: Database
) -> None:
    name = await bare_database.fetchval("SELECT current_database()")
    superuser = await connect(postgres.url_of(name, role="postgres"), max_size=1)
    await superuser.execute("DROP EXTENSION vector")
    await superuser.close()
    with pytest.raises(ConfigError) as refused:
        await DocumentStore(bare_database).prepare()
    assert "permission denied to create extension" in str(refused.value)
    assert "a superuser run CREATE EXTENSION vector" in str(refused.value)
    assert "MCP_ENABLE_FILE_SEARCH=false" in str(refused.value)


async def test_a_database_that_is_away_is_no_end_and_the_tables_are_made_when_it_is_back(
    bare_database: Database,
) -> None:
    class Away:
        """The database, which is not there for the first one who asks."""

        def __init__(self) -> None:
            self.tried = False

        def __getattr__(self, name: str) -> Any:
            if not self.tried:
                self.tried = True
                raise Unavailable("not reachable")
            return getattr(bare_database, name)

    store: Any = DocumentStore(Away())  # type: ignore[arg-type]  # all that is asked of it
    with pytest.raises(Unavailable):
        await store.prepare()
    assert await store.delete("usr_1", ["x"]) == []


async def test_documents_may_have_a_database_of_their_own(database: Database, bare_database_url: str) -> None:
    async with AsyncExitStack() as stack:
        ada = Person(await opened(bare_database_url, database, stack), BagOfWords(), "usr_ada")
        await ada.index(TEA, document_id="tea")
        assert await ada.found("tea") == ["tea"]
        assert await Person(await opened("", database, stack), BagOfWords(), "usr_ada").found("tea") == []


async def test_a_database_of_their_own_that_cannot_be_used_is_named_without_its_password(database: Database) -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigError, match="VECTOR_STORE_URL") as refused:
            await opened("postgresql://jan:secret#x@host/jan", database, stack)
        assert "secret" not in str(refused.value)


async def test_the_room_starts_while_that_database_is_away(database: Database) -> None:
    async with AsyncExitStack() as stack:
        store = await opened("postgresql://jan@127.0.0.1:1/jan", database, stack)
        with pytest.raises(Unavailable):
            await store.delete("usr_ada", ["tea"])


# Ranking, with the built-in model


@pytest_asyncio.fixture
async def minilm() -> AsyncIterator[MiniLm]:
    provider = MiniLmProvider()
    yield MiniLm(provider)
    await provider.aclose()


@pytest.mark.parametrize("exact", [EXACT, 0], ids=["all compared", "by the index"])
async def test_recall_on_the_labelled_set_is_what_the_documents_say(
    database: Database, minilm: MiniLm, exact: int
) -> None:
    ada = Person(DocumentStore(database, exact=exact), minilm, "usr_ada")
    for each in SET["documents"]:
        await ada.index(each["text"], document_id=each["id"])
    found = {each["question"]: await ada.found(each["question"]) for each in SET["questions"]}
    assert {kind: recall(found, kind) for kind in RECALL} == RECALL


async def test_vectors_alone_find_less_of_the_labelled_set(minilm: MiniLm) -> None:
    documents = (await minilm.embed([each["text"] for each in SET["documents"]], token="")).vectors
    questions = (await minilm.embed([each["question"] for each in SET["questions"]], token="")).vectors
    found = {}
    for question, asked in zip(SET["questions"], questions, strict=True):
        alike = [sum(map(operator.mul, asked, vector)) for vector in documents]
        best = sorted(range(len(alike)), key=alike.__getitem__, reverse=True)[:5]
        found[question["question"]] = [SET["documents"][number]["id"] for number in best]
    assert recall(found, "") < RECALL[""] - 0.05


RECALL = {"": 1.0, "meaning": 1.0, "exact": 1.0}
"""Recall among the first five, as docs/tools.md says: of all questions, and of those of each kind."""


def recall(found: Mapping[str, Sequence[str]], kind: str) -> float:
    """The share of the relevant documents that was found, at the mean of the questions of a kind ('' for all)."""
    asked = [each for each in SET["questions"] if kind in ("", each["kind"])]
    shares = [len({*found[each["question"]]} & {*each["relevant"]}) / len(each["relevant"]) for each in asked]
    return round(sum(shares) / len(shares), 3)


def test_the_labelled_set_is_whole() -> None:
    known = [each["id"] for each in SET["documents"]]
    assert len(known) == len(set(known)) >= 60
    assert len(SET["questions"]) >= 40
    assert {name for each in SET["questions"] for name in each["relevant"]} <= set(known)


# The LLM room


async def test_the_llm_room_embeds_with_the_token_of_the_caller(tmp_path: Path, database_url: str) -> None:
    async with running(tmp_path, "auth", "llm", database_url=database_url) as rig:
        account = await guest(rig)
        neighbours = Neighbours({"llm": f"127.0.0.1:{rig.server.port}"})
        calls.enter(Call("req_1", asyncio.get_running_loop().time() + 30, None))
        texts = [f"text {number}" for number in range(70)]
        embedded = await LlmRoom(neighbours).embed(texts, token=account.token)
        assert [len(vector) for vector in embedded.vectors] == [384] * 70
        assert embedded.token_count == 70 * 4
        with pytest.raises(NotFound):
            await LlmRoom(neighbours, model="no-such-model").embed(texts, token=account.token)
        await neighbours.close()
