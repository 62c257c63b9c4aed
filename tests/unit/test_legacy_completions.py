"""Text completions on models that only chat."""

from typing import Any

import pytest

from services.llm.providers.legacy import from_chat, to_chat
from services.runtime.errors import InvalidRequest
from tests.fake_upstream import USAGE, chunk, completion


@pytest.mark.parametrize("prompt", ["Once", ["Once"]])
def test_the_prompt_becomes_a_user_message(prompt: Any) -> None:
    body = {"model": "m", "prompt": prompt, "max_tokens": 5, "top_k": 40, "suffix": "", "best_of": 1, "echo": False}
    assert to_chat(body) == {
        "model": "m",
        "max_tokens": 5,
        "top_k": 40,
        "messages": [{"role": "user", "content": "Once"}],
    }


@pytest.mark.parametrize(
    ("param", "members"),
    [
        ("prompt", {"prompt": ["one", "two"]}),
        ("prompt", {"prompt": [1, 2]}),
        ("suffix", {"suffix": "the end"}),
        ("best_of", {"best_of": 2}),
        ("echo", {"echo": True}),
        ("logprobs", {"logprobs": 2}),
    ],
)
def test_what_a_chat_cannot_do_is_refused_by_name(param: str, members: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as error:
        to_chat({"model": "m", "prompt": "Once", **members})
    assert error.value.param == param


def test_an_answer_becomes_a_text_completion() -> None:
    assert from_chat(completion("there was", "upon")) == {
        "id": "chatcmpl-fake",
        "object": "text_completion",
        "created": 1760000000,
        "model": "fake",
        "choices": [
            {"index": 0, "text": "there was", "finish_reason": "stop", "logprobs": None},
            {"index": 1, "text": "upon", "finish_reason": "stop", "logprobs": None},
        ],
        "usage": USAGE,
    }


def test_a_chunk_becomes_a_part_of_one() -> None:
    choice = {"index": 1, "text": "there", "finish_reason": None, "logprobs": None}
    assert from_chat(chunk({"content": "there"}, index=1))["choices"] == [choice]
    assert from_chat(chunk({}, finish_reason="length"))["choices"][0]["text"] == ""


def test_a_usage_chunk_stays_without_choices() -> None:
    assert from_chat({**chunk({}), "choices": [], "usage": USAGE})["choices"] == []
