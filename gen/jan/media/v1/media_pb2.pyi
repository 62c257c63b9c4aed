from buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.api import httpbody_pb2 as _httpbody_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from jan.common.v1 import access_pb2 as _access_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListMediaRequest(_message.Message):
    __slots__ = ("limit", "after", "offset", "order")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    limit: int
    after: str
    offset: int
    order: str
    def __init__(self, limit: _Optional[int] = ..., after: _Optional[str] = ..., offset: _Optional[int] = ..., order: _Optional[str] = ...) -> None: ...

class ListMediaResponse(_message.Message):
    __slots__ = ("object", "data", "first_id", "last_id", "has_more", "total_count", "next_after")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FIRST_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_ID_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[ListedMedia]
    first_id: str
    last_id: str
    has_more: bool
    total_count: int
    next_after: str
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[ListedMedia, _Mapping]]] = ..., first_id: _Optional[str] = ..., last_id: _Optional[str] = ..., has_more: _Optional[bool] = ..., total_count: _Optional[int] = ..., next_after: _Optional[str] = ...) -> None: ...

class ListedMedia(_message.Message):
    __slots__ = ("id", "object", "mime", "bytes", "filename", "created_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    MIME_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    mime: str
    bytes: int
    filename: str
    created_at: str
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., mime: _Optional[str] = ..., bytes: _Optional[int] = ..., filename: _Optional[str] = ..., created_at: _Optional[str] = ...) -> None: ...

class CreateMediaRequest(_message.Message):
    __slots__ = ("source", "user_id", "filename", "request_id")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    source: MediaSource
    user_id: str
    filename: str
    request_id: str
    def __init__(self, source: _Optional[_Union[MediaSource, _Mapping]] = ..., user_id: _Optional[str] = ..., filename: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class MediaSource(_message.Message):
    __slots__ = ("type", "url", "data_url")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    DATA_URL_FIELD_NUMBER: _ClassVar[int]
    type: str
    url: str
    data_url: str
    def __init__(self, type: _Optional[str] = ..., url: _Optional[str] = ..., data_url: _Optional[str] = ...) -> None: ...

class UploadMediaRequest(_message.Message):
    __slots__ = ("info", "chunk")
    INFO_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    info: UploadMediaInfo
    chunk: bytes
    def __init__(self, info: _Optional[_Union[UploadMediaInfo, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class UploadMediaInfo(_message.Message):
    __slots__ = ("user_id", "filename")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    filename: str
    def __init__(self, user_id: _Optional[str] = ..., filename: _Optional[str] = ...) -> None: ...

class Media(_message.Message):
    __slots__ = ("id", "mime", "bytes", "deduped", "presigned_url", "expires_at", "created_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    MIME_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    DEDUPED_FIELD_NUMBER: _ClassVar[int]
    PRESIGNED_URL_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    mime: str
    bytes: int
    deduped: bool
    presigned_url: str
    expires_at: str
    created_at: str
    def __init__(self, id: _Optional[str] = ..., mime: _Optional[str] = ..., bytes: _Optional[int] = ..., deduped: _Optional[bool] = ..., presigned_url: _Optional[str] = ..., expires_at: _Optional[str] = ..., created_at: _Optional[str] = ...) -> None: ...

class PrepareUploadRequest(_message.Message):
    __slots__ = ("content_type", "mime_type", "user_id", "filename", "request_id")
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    mime_type: str
    user_id: str
    filename: str
    request_id: str
    def __init__(self, content_type: _Optional[str] = ..., mime_type: _Optional[str] = ..., user_id: _Optional[str] = ..., filename: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class PreparedUpload(_message.Message):
    __slots__ = ("jan_id", "id", "content_type", "mime_type", "presigned_url", "upload_url", "presigned_post", "expires_in", "expires_at")
    JAN_ID_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    PRESIGNED_URL_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_URL_FIELD_NUMBER: _ClassVar[int]
    PRESIGNED_POST_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    jan_id: str
    id: str
    content_type: str
    mime_type: str
    presigned_url: str
    upload_url: str
    presigned_post: PresignedPost
    expires_in: int
    expires_at: str
    def __init__(self, jan_id: _Optional[str] = ..., id: _Optional[str] = ..., content_type: _Optional[str] = ..., mime_type: _Optional[str] = ..., presigned_url: _Optional[str] = ..., upload_url: _Optional[str] = ..., presigned_post: _Optional[_Union[PresignedPost, _Mapping]] = ..., expires_in: _Optional[int] = ..., expires_at: _Optional[str] = ...) -> None: ...

class PresignedPost(_message.Message):
    __slots__ = ("url", "fields")
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    URL_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    url: str
    fields: _containers.ScalarMap[str, str]
    def __init__(self, url: _Optional[str] = ..., fields: _Optional[_Mapping[str, str]] = ...) -> None: ...

class CreatePresignedUrlRequest(_message.Message):
    __slots__ = ("content_type", "mime_type", "user_id", "filename", "id", "jan_id", "media_id", "request_id")
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    JAN_ID_FIELD_NUMBER: _ClassVar[int]
    MEDIA_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    mime_type: str
    user_id: str
    filename: str
    id: str
    jan_id: str
    media_id: str
    request_id: str
    def __init__(self, content_type: _Optional[str] = ..., mime_type: _Optional[str] = ..., user_id: _Optional[str] = ..., filename: _Optional[str] = ..., id: _Optional[str] = ..., jan_id: _Optional[str] = ..., media_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreatePresignedUrlResponse(_message.Message):
    __slots__ = ("id", "jan_id", "content_type", "mime_type", "presigned_url", "upload_url", "presigned_post", "url", "expires_in", "expires_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    JAN_ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    PRESIGNED_URL_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_URL_FIELD_NUMBER: _ClassVar[int]
    PRESIGNED_POST_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    jan_id: str
    content_type: str
    mime_type: str
    presigned_url: str
    upload_url: str
    presigned_post: PresignedPost
    url: str
    expires_in: int
    expires_at: str
    def __init__(self, id: _Optional[str] = ..., jan_id: _Optional[str] = ..., content_type: _Optional[str] = ..., mime_type: _Optional[str] = ..., presigned_url: _Optional[str] = ..., upload_url: _Optional[str] = ..., presigned_post: _Optional[_Union[PresignedPost, _Mapping]] = ..., url: _Optional[str] = ..., expires_in: _Optional[int] = ..., expires_at: _Optional[str] = ...) -> None: ...

class ResolveMediaRequest(_message.Message):
    __slots__ = ("ids", "payload")
    IDS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    payload: _struct_pb2.Value
    def __init__(self, ids: _Optional[_Iterable[str]] = ..., payload: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...

class ResolveMediaResponse(_message.Message):
    __slots__ = ("media", "missing", "payload")
    MEDIA_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    media: _containers.RepeatedCompositeFieldContainer[ResolvedMedia]
    missing: _containers.RepeatedScalarFieldContainer[str]
    payload: _struct_pb2.Value
    def __init__(self, media: _Optional[_Iterable[_Union[ResolvedMedia, _Mapping]]] = ..., missing: _Optional[_Iterable[str]] = ..., payload: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...

class ResolvedMedia(_message.Message):
    __slots__ = ("id", "presigned_url", "expires_at", "mime", "bytes")
    ID_FIELD_NUMBER: _ClassVar[int]
    PRESIGNED_URL_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    MIME_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    id: str
    presigned_url: str
    expires_at: str
    mime: str
    bytes: int
    def __init__(self, id: _Optional[str] = ..., presigned_url: _Optional[str] = ..., expires_at: _Optional[str] = ..., mime: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...

class GetMediaRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class MediaDetails(_message.Message):
    __slots__ = ("id", "mime", "bytes", "filename", "deduped", "created_at", "presigned_url", "url", "expires_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    MIME_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    DEDUPED_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    PRESIGNED_URL_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    mime: str
    bytes: int
    filename: str
    deduped: bool
    created_at: str
    presigned_url: str
    url: str
    expires_at: str
    def __init__(self, id: _Optional[str] = ..., mime: _Optional[str] = ..., bytes: _Optional[int] = ..., filename: _Optional[str] = ..., deduped: _Optional[bool] = ..., created_at: _Optional[str] = ..., presigned_url: _Optional[str] = ..., url: _Optional[str] = ..., expires_at: _Optional[str] = ...) -> None: ...

class PresignMediaRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class PresignedMedia(_message.Message):
    __slots__ = ("id", "url", "expires_in", "expires_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    url: str
    expires_in: int
    expires_at: str
    def __init__(self, id: _Optional[str] = ..., url: _Optional[str] = ..., expires_in: _Optional[int] = ..., expires_at: _Optional[str] = ...) -> None: ...

class DownloadMediaRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class DownloadMediaResponse(_message.Message):
    __slots__ = ("info", "chunk")
    INFO_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    info: DownloadedMedia
    chunk: bytes
    def __init__(self, info: _Optional[_Union[DownloadedMedia, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class DownloadedMedia(_message.Message):
    __slots__ = ("id", "mime", "bytes")
    ID_FIELD_NUMBER: _ClassVar[int]
    MIME_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    id: str
    mime: str
    bytes: int
    def __init__(self, id: _Optional[str] = ..., mime: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...

class GetMediaContentRequest(_message.Message):
    __slots__ = ("id", "exp", "sig")
    ID_FIELD_NUMBER: _ClassVar[int]
    EXP_FIELD_NUMBER: _ClassVar[int]
    SIG_FIELD_NUMBER: _ClassVar[int]
    id: str
    exp: str
    sig: str
    def __init__(self, id: _Optional[str] = ..., exp: _Optional[str] = ..., sig: _Optional[str] = ...) -> None: ...

class DeleteMediaRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class DeleteMediaResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
