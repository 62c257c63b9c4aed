"""What this room asks of others over gRPC: to keep images, of the media room; vectors of texts, of the LLM room."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf import struct_pb2
from jan.llm.v1 import chat_pb2_grpc, embeddings_pb2
from jan.media.v1 import media_pb2, media_pb2_grpc

from services.mcp.documents.embeddings import Embedded
from services.runtime.errors import UpstreamFailed
from services.runtime.neighbours import Neighbours, ask

BUILT_IN_EMBEDDINGS = "all-minilm-l6-v2"
"""The embedding model that is always there."""

_PIECE = 64 * 1024  # bytes, of an image on its way
_TEXTS_AT_ONCE = 64


class MediaRoom:
    """Images of whoever a token belongs to."""

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours

    async def upload(self, name: str, data: bytes, *, token: str) -> str:
        """Keep an image, and say which URL shows it for a while. Raises the `ApiError` of the media room, also for what
        is no image."""
        stub: Any = media_pb2_grpc.MediaServiceStub  # the generated code is not annotated
        upload = stub(self._neighbours.channel("media")).UploadMedia
        media: media_pb2.Media = await ask(upload, _pieces(name, data), token=token)
        return media.presigned_url


async def _pieces(name: str, data: bytes) -> AsyncIterator[media_pb2.UploadMediaRequest]:
    yield media_pb2.UploadMediaRequest(info=media_pb2.UploadMediaInfo(filename=name[-255:]))
    for start in range(0, len(data), _PIECE):
        yield media_pb2.UploadMediaRequest(chunk=data[start : start + _PIECE])


class LlmRoom:
    """Embeddings of one model, by its id or alias there, of the LLM room, which also keeps account of them."""

    def __init__(self, neighbours: Neighbours, *, model: str = "") -> None:
        self._neighbours = neighbours
        self._model = model or BUILT_IN_EMBEDDINGS

    @property
    def model(self) -> str:
        """Which model it is."""
        return self._model

    async def embed(self, texts: Sequence[str], *, token: str) -> Embedded:
        """A vector for every text, in the name of whoever `token` belongs to. Raises the `ApiError` of the LLM room."""
        stub: Any = chat_pb2_grpc.ChatServiceStub  # see above
        create = stub(self._neighbours.channel("llm")).CreateEmbeddings
        vectors: list[list[float]] = []
        tokens = 0
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = texts[start : start + _TEXTS_AT_ONCE]
            wanted = struct_pb2.Value()
            wanted.list_value.extend(list(part))
            request = embeddings_pb2.CreateEmbeddingsRequest(model=self._model, input=wanted)
            answer: embeddings_pb2.CreateEmbeddingsResponse = await ask(create, request, token=token)
            found = {each.index: list(each.embedding) for each in answer.data}
            if sorted(found) != list(range(len(part))) or not all(found.values()):
                raise UpstreamFailed(f"The embedding model '{self._model}' did not answer with a vector for every text")
            vectors += [found[index] for index in range(len(part))]
            tokens += answer.usage.total_tokens
        return Embedded(vectors, tokens)
