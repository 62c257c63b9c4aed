"""What is looked for when no provider is configured: vendors whose API key is set, and engines on this machine."""

from __future__ import annotations

from collections.abc import Mapping

from services.llm.providers.entries import BASE_URLS, Address, Entry
from services.runtime.config import Settings

# The variable each vendor's own SDK reads.
KEY_VARIABLES = {
    "ANTHROPIC_API_KEY": "anthropic",
    "CO_API_KEY": "cohere",
    "DEEPINFRA_API_KEY": "deepinfra",
    "GEMINI_API_KEY": "google",
    "GROQ_API_KEY": "groq",
    "HF_TOKEN": "huggingface",
    "MISTRAL_API_KEY": "mistral",
    "OPENAI_API_KEY": "openai",
    "OPENROUTER_API_KEY": "openrouter",
    "PERPLEXITY_API_KEY": "perplexity",
    "TOGETHER_API_KEY": "togetherai",
}
# The default port of each local engine's OpenAI-compatible API.
LOCAL_ENGINES = {"ollama": 11434, "lm-studio": 1234, "jan": 1337, "llama.cpp": 8080, "vllm": 8000}


def vendors(environ: Mapping[str, str]) -> list[Entry]:
    """An entry for each vendor whose API key is in the environment."""
    return [
        Entry(name=vendor, type=vendor, addresses=(Address(BASE_URLS[vendor]),), api_key=environ[variable])
        for variable, vendor in KEY_VARIABLES.items()
        if environ.get(variable)
    ]


def local_engines(settings: Settings) -> list[Entry]:
    """An entry for each place a local engine may listen at. All but a default node that was set are guesses."""
    own = {settings.gateway_port, settings.llm_api_port, settings.metrics_port}
    node = Entry(
        "default-node",
        "jan",
        (Address(settings.jan_default_node_url),),
        settings.jan_default_node_api_key,
        discovered=settings.jan_default_node_url == Settings.jan_default_node_url,
    )
    guesses = [
        Entry(name, "custom", (Address(f"http://127.0.0.1:{port}/v1"),), discovered=True)
        for name, port in LOCAL_ENGINES.items()
        if port not in own
    ]
    return [node, *guesses]
