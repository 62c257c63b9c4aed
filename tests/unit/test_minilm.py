"""The built-in embedding model: right numbers, OpenAI's shape, and a child process that starts once and may die."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import struct
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse

from services.llm.providers.minilm import MiniLmProvider
from services.runtime.errors import InvalidRequest, Unavailable, UpstreamTimeout

REFERENCE = json.loads((Path(__file__).with_name("minilm_reference.json")).read_text())["rows"]

COUNTING_PROGRAM = """
import struct, sys
from pathlib import Path
with Path(__file__).with_name("starts").open("a") as log:
    log.write("started\\n")
while length := sys.stdin.buffer.read(4):
    sys.stdin.buffer.read(*struct.unpack("<I", length))
    sys.stdout.buffer.write(struct.pack("<II384f", 384 * 4, 7, *[0.5] * 384))
    sys.stdout.buffer.flush()
"""
DYING_PROGRAM = COUNTING_PROGRAM.replace("    sys.stdout.buffer.write", "    sys.exit(3)\n    sys.stdout.buffer.write")
MUTE_PROGRAM = "import sys; sys.stdin.buffer.read()"


@pytest.fixture
async def minilm() -> AsyncGenerator[MiniLmProvider, None]:
    provider = MiniLmProvider()
    yield provider
    await provider.aclose()


def program(directory: Path, source: str) -> Path:
    path = directory / "model.py"
    path.write_text(source)
    return path


def soon() -> float:
    return asyncio.get_running_loop().time() + 60


async def embed(provider: MiniLmProvider, **body: Any) -> dict[str, Any]:
    return await provider.embed({"model": "all-minilm-l6-v2", **body}, deadline=soon())


def vectors(answer: dict[str, Any]) -> list[list[float]]:
    return [row["embedding"] for row in answer["data"]]


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_its_numbers_are_those_of_the_original(minilm: MiniLmProvider) -> None:
    answer = await embed(minilm, input=[row["text"] for row in REFERENCE])

    expected = [struct.unpack("<384f", base64.b64decode(row["vector"])) for row in REFERENCE]
    for ours, theirs in zip(vectors(answer), expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    assert answer["usage"]["prompt_tokens"] == sum(row["tokens"] for row in REFERENCE)


async def test_a_text_gets_the_same_vector_alone_and_among_others(minilm: MiniLmProvider) -> None:
    alone = await embed(minilm, input="hello")
    among = await embed(minilm, input=["a much longer text than that " * 30, "hello", "x"])

    assert vectors(among)[1] == pytest.approx(vectors(alone)[0], abs=1e-6)


async def test_similar_sentences_are_nearer_than_unrelated_ones(minilm: MiniLmProvider) -> None:
    eating, bread, baby = vectors(
        await embed(
            minilm,
            input=["A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby."],
        )
    )

    assert cosine(eating, bread) > 0.7 > 0.2 > cosine(eating, baby)


async def test_the_answer_has_openai_s_shape(minilm: MiniLmProvider) -> None:
    answer = await embed(minilm, input="hello")

    CreateEmbeddingResponse.model_validate(answer, strict=True)
    [vector] = vectors(answer)
    assert answer == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": vector}],
        "model": "all-minilm-l6-v2",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    assert math.hypot(*vector) == pytest.approx(1)


async def test_base64_holds_the_same_numbers_as_little_endian_floats(minilm: MiniLmProvider) -> None:
    [encoded] = vectors(await embed(minilm, input="hello", encoding_format="base64"))

    [plain] = vectors(await embed(minilm, input="hello", encoding_format="float"))
    assert list(struct.unpack("<384f", base64.b64decode(str(encoded)))) == plain


async def test_fewer_dimensions_are_the_first_ones_scaled_to_length_one(minilm: MiniLmProvider) -> None:
    [short] = vectors(await embed(minilm, input="hello", dimensions=8))

    [whole] = vectors(await embed(minilm, input="hello"))
    length = math.hypot(*whole[:8])
    assert short == pytest.approx([number / length for number in whole[:8]], abs=1e-6)


async def test_more_texts_than_one_group_come_back_in_their_order(minilm: MiniLmProvider) -> None:
    texts = [f"{number} " * (number % 7 * 40 + 1) for number in range(40)]

    answer = await embed(minilm, input=texts)

    assert [row["index"] for row in answer["data"]] == list(range(40))
    assert vectors(answer)[23] == pytest.approx(vectors(await embed(minilm, input=texts[23]))[0], abs=1e-6)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [1, 2, 3]}, "input"),
        ({"input": [[1, 2], [3]]}, "input"),
        ({"input": ["x"] * 2049}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 7]}, "input[1]"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 385}, "dimensions"),
        ({"input": "a", "dimensions": True}, "dimensions"),
        ({"input": "a", "dimensions": 1.5}, "dimensions"),
    ],
)
async def test_what_it_cannot_embed_is_refused_and_the_field_is_named(
    tmp_path: Path, body: dict[str, Any], param: str
) -> None:
    provider = MiniLmProvider(program=tmp_path / "never-started.py")

    with pytest.raises(InvalidRequest) as refused:
        await embed(provider, **body)

    assert refused.value.param == param


async def test_concurrent_first_calls_start_the_model_once(tmp_path: Path) -> None:
    provider = MiniLmProvider(program=program(tmp_path, COUNTING_PROGRAM))

    answers = await asyncio.gather(*(embed(provider, input="hello") for _ in range(20)))

    assert [answer["usage"]["prompt_tokens"] for answer in answers] == [7] * 20
    assert (tmp_path / "starts").read_text() == "started\n"
    await provider.aclose()


async def test_a_cancelled_call_leaves_the_answers_of_others_in_place(minilm: MiniLmProvider) -> None:
    cancelled = asyncio.create_task(embed(minilm, input=["long text " * 100] * 50))
    other = asyncio.create_task(embed(minilm, input="hello"))
    await asyncio.wait_for(other, 60)

    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled

    assert await embed(minilm, input="hello") == other.result()


async def test_a_model_that_dies_is_unavailable_and_started_anew_by_the_next_call(tmp_path: Path) -> None:
    path = program(tmp_path, DYING_PROGRAM)
    provider = MiniLmProvider(program=path)
    with pytest.raises(Unavailable, match="exit code 3"):
        await embed(provider, input="hello")
    path.write_text(COUNTING_PROGRAM)

    answer = await embed(provider, input="hello")

    assert vectors(answer) == [[0.5] * 384]
    await provider.aclose()


async def test_a_call_past_its_deadline_is_an_upstream_timeout(tmp_path: Path) -> None:
    provider = MiniLmProvider(program=program(tmp_path, MUTE_PROGRAM))

    with pytest.raises(UpstreamTimeout):
        await provider.embed({"input": "hello"}, deadline=asyncio.get_running_loop().time())

    await provider.aclose()


async def test_closing_fails_calls_under_way_and_refuses_new_ones(tmp_path: Path) -> None:
    provider = MiniLmProvider(program=program(tmp_path, COUNTING_PROGRAM))
    await embed(provider, input="hello")
    under_way = asyncio.create_task(embed(provider, input=["a" * 4000] * 2000))
    await asyncio.sleep(0)

    await provider.aclose()

    with pytest.raises(Unavailable):
        await under_way
    with pytest.raises(Unavailable, match="shutting down"):
        await embed(provider, input="hello")


async def test_closing_what_never_started_is_quiet() -> None:
    await MiniLmProvider().aclose()


async def test_it_says_that_it_cannot_chat() -> None:
    provider = MiniLmProvider()

    with pytest.raises(InvalidRequest, match="cannot chat"):
        await provider.chat({"messages": []}, deadline=soon())
    with pytest.raises(InvalidRequest, match="cannot chat"):
        await anext(provider.stream_chat({"messages": []}, deadline=soon()))
    assert await provider.list_models(deadline=soon()) == []
