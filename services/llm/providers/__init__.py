"""Adapters to model providers. All of them speak OpenAI's JSON to the engine; each speaks its upstream's outside."""
