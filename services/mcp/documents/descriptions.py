"""What models are told about the tools of file search."""

from __future__ import annotations

from typing import Any

from services.mcp.tool import Description, Json

# Before a line break at the very end there is a `$`, too, in Python.
_ID: Json = {"type": "string", "pattern": r"^[A-Za-z0-9_.:\-]{1,128}$(?!\n)"}
_IDS: Json = {"type": "array", "items": _ID, "maxItems": 100}
_TAGS: Json = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 64}, "maxItems": 32}
_METADATA: Json = {"type": "object", "maxProperties": 256}


def _said(schema: Json, text: str, **more: Any) -> Json:
    return {**schema, "description": text, **more}


INDEX = Description(
    name="file_search_index",
    title="Index a text",
    text=(
        "Keeps a text of the user so that file_search_query finds passages of it later. A document_id that exists "
        "already is replaced."
    ),
    category="file_search",
    input_schema={
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "The whole text, at most 2,000,000 bytes."},
            "document_id": _said(_ID, "Name of the document, by which it can be replaced. Default: a new one."),
            "metadata": _said(_METADATA, "What is to come back with its passages.", default={}),
            "tags": _said(_TAGS, "Words to narrow a search by.", default=[]),
        },
        "required": ["text"],
    },
    output_schema={
        "type": "object",
        "properties": {
            "document_id": {"type": "string"},
            "status": {"type": "string"},
            "indexed_at": {"type": "string"},
            "token_count": {"type": "integer"},
        },
        "required": ["document_id", "status", "indexed_at", "token_count"],
    },
    annotations={"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False, "openWorldHint": False},
)
QUERY = Description(
    name="file_search_query",
    title="Search indexed texts",
    text=(
        "Finds the passages of the user's own indexed texts that answer a question, best first. Ask in whole words; "
        "names, codes and numbers are found as they are written."
    ),
    category="file_search",
    input_schema={
        "type": "object",
        "properties": {
            "query": {"type": "string", "minLength": 1, "maxLength": 8192, "description": "What is looked for."},
            "top_k": {"type": "integer", "minimum": 1, "maximum": 20, "default": 5, "description": "Most passages."},
            "document_ids": _said(_IDS, "Only these documents. Default: all.", default=[]),
            "tags": _said(_TAGS, "Only documents with all of these tags.", default=[]),
            "metadata": _said(_METADATA, "Only documents whose metadata contains this.", default={}),
        },
        "required": ["query"],
    },
    output_schema={
        "type": "object",
        "properties": {
            "query": {"type": "string"},
            "top_k": {"type": "integer"},
            "count": {"type": "integer"},
            "results": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "document_id": {"type": "string"},
                        "score": {"type": "number"},
                        "text_preview": {"type": "string"},
                        "metadata": {"type": "object"},
                        "tags": {"type": "array", "items": {"type": "string"}},
                    },
                    "required": ["document_id", "score", "text_preview", "metadata", "tags"],
                },
            },
        },
        "required": ["query", "top_k", "count", "results"],
    },
    annotations={"readOnlyHint": True, "openWorldHint": False},
)
DELETE = Description(
    name="file_search_delete",
    title="Delete indexed texts",
    text="Removes documents of the user from file search, for good.",
    category="file_search",
    input_schema={
        "type": "object",
        "properties": {"document_ids": _said(_IDS, "The documents.", minItems=1)},
        "required": ["document_ids"],
    },
    output_schema={
        "type": "object",
        "properties": {"deleted": {"type": "array", "items": {"type": "string"}}, "count": {"type": "integer"}},
        "required": ["deleted", "count"],
    },
    annotations={"readOnlyHint": False, "destructiveHint": True, "idempotentHint": True, "openWorldHint": False},
)
