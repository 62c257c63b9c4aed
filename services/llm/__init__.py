"""The LLM API: chat completions and embeddings over any provider, and the models they offer."""
