"""Which models are taken for chat models by their names."""

import pytest

from services.llm.providers.names import is_for_chat

CHAT = (
    "chatgpt-4o-latest",
    "claude-sonnet-5",
    "deepseek-r1:8b",
    "gemini-2.5-flash",
    "gpt-4o-mini",
    "jan-demo",
    "llama3.2:1b-instruct",
    "o3",
    "org/wattson-7b",
    "Qwen/Qwen3-32B",
)
OTHER = (
    "all-minilm-l6-v2",
    "BAAI/bge-m3",
    "babbage-002",
    "dall-e-3",
    "gemini-2.5-flash-image",
    "gpt-4o-mini-tts",
    "gpt-4o-transcribe",
    "gpt-image-1",
    "intfloat/multilingual-e5-large",
    "jina-reranker-v2",
    "mxbai-embed-large",
    "omni-moderation-latest",
    "text-embedding-3-small",
    "tts-1-hd",
    "Whisper-1",
)


@pytest.mark.parametrize("name", CHAT)
def test_a_chat_model_is_one(name: str) -> None:
    assert is_for_chat(name)


@pytest.mark.parametrize("name", OTHER)
def test_a_model_for_something_else_is_not_for_chat(name: str) -> None:
    assert not is_for_chat(name)
