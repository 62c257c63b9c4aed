"""Anthropic's Messages API: OpenAI's requests and answers translated both ways (docs/anthropic.md)."""
