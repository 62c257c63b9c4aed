"""What the name of a model tells of it: upstreams list models of every kind and seldom say which is which."""

from __future__ import annotations

import re

_NOT_FOR_CHAT = re.compile(
    r"embed|minilm|whisper|transcribe|dall-e|moderation|rerank|image|realtime|babbage|davinci"
    r"|(?<![a-z])(bge|tts|gte|e5|sora|veo)(?![a-z])",
    re.IGNORECASE,
)


def is_for_chat(name: str) -> bool:
    """Whether a model of that name may be one to chat with; False for embeddings, speech, images, moderation and the
    like. A guess for choosing a default: never a reason to refuse a request."""
    return _NOT_FOR_CHAT.search(name) is None
