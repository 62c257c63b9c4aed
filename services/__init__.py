"""Jan Server: an OpenAI-compatible AI server made of gRPC services."""

__version__ = "0.1.0"
