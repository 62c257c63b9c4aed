"""What this room asks of others over gRPC: images, of the media room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jan.media.v1 import media_pb2, media_pb2_grpc

from services.llm.generation.pictures import Picture
from services.runtime.errors import Conflict, NotFound
from services.runtime.neighbours import Neighbours, ask, listen

_AT_ONCE = 100  # ids that the media room takes in one request


class MediaRoom:
    """The images of the caller, or of whoever `token` acts for."""

    def __init__(self, neighbours: Neighbours, *, token: str = "") -> None:
        self._neighbours = neighbours
        self._token = token

    async def find(self, ids: Sequence[str]) -> Mapping[str, Picture]:
        """Those of these images that can be read, by their ids."""
        found = {}
        for start in range(0, len(ids), _AT_ONCE):
            request = media_pb2.ResolveMediaRequest(ids=ids[start : start + _AT_ONCE])
            answer = await ask(self._stub().ResolveMedia, request, token=self._token)
            for each in answer.media:
                found[each.id] = Picture(each.id, each.mime, each.bytes, each.presigned_url)
        return found

    async def awaits(self, media_id: str) -> bool:
        """Whether the image is announced, and its bytes have not come yet."""
        try:
            await ask(self._stub().GetMedia, media_pb2.GetMediaRequest(id=media_id), token=self._token)
        except (Conflict, NotFound) as error:
            return error.code == "upload_pending"
        return False

    async def load(self, picture: Picture) -> bytes:
        """The bytes of an image."""
        pieces = listen(self._stub().DownloadMedia, media_pb2.DownloadMediaRequest(id=picture.id), token=self._token)
        return b"".join([piece.chunk async for piece in pieces])

    def _stub(self) -> Any:
        stub: Any = media_pb2_grpc.MediaServiceStub  # the generated code is not annotated
        return stub(self._neighbours.channel("media"))
