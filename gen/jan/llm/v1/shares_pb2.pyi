from buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from jan.common.v1 import access_pb2 as _access_pb2
from jan.common.v1 import meta_pb2 as _meta_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateShareRequest(_message.Message):
    __slots__ = ("conversation_id", "expires_in", "read_only", "allow_feedback", "title", "item_id", "include_images", "request_id")
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_IMAGES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    expires_in: int
    read_only: bool
    allow_feedback: bool
    title: str
    item_id: str
    include_images: bool
    request_id: str
    def __init__(self, conversation_id: _Optional[str] = ..., expires_in: _Optional[int] = ..., read_only: _Optional[bool] = ..., allow_feedback: _Optional[bool] = ..., title: _Optional[str] = ..., item_id: _Optional[str] = ..., include_images: _Optional[bool] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateShareResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: Share
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[Share, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...

class ListConversationSharesRequest(_message.Message):
    __slots__ = ("conversation_id", "limit", "after", "offset", "order", "include_revoked")
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_REVOKED_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    limit: int
    after: str
    offset: int
    order: str
    include_revoked: bool
    def __init__(self, conversation_id: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ..., offset: _Optional[int] = ..., order: _Optional[str] = ..., include_revoked: _Optional[bool] = ...) -> None: ...

class ListSharesRequest(_message.Message):
    __slots__ = ("limit", "after", "offset", "order", "include_revoked")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_REVOKED_FIELD_NUMBER: _ClassVar[int]
    limit: int
    after: str
    offset: int
    order: str
    include_revoked: bool
    def __init__(self, limit: _Optional[int] = ..., after: _Optional[str] = ..., offset: _Optional[int] = ..., order: _Optional[str] = ..., include_revoked: _Optional[bool] = ...) -> None: ...

class ListSharesResponse(_message.Message):
    __slots__ = ("object", "data", "first_id", "last_id", "has_more", "total_count", "next_after")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FIRST_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_ID_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[Share]
    first_id: str
    last_id: str
    has_more: bool
    total_count: int
    next_after: str
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[Share, _Mapping]]] = ..., first_id: _Optional[str] = ..., last_id: _Optional[str] = ..., has_more: _Optional[bool] = ..., total_count: _Optional[int] = ..., next_after: _Optional[str] = ...) -> None: ...

class RevokeConversationShareRequest(_message.Message):
    __slots__ = ("conversation_id", "share_id")
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    SHARE_ID_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    share_id: str
    def __init__(self, conversation_id: _Optional[str] = ..., share_id: _Optional[str] = ...) -> None: ...

class RevokeShareRequest(_message.Message):
    __slots__ = ("share_id",)
    SHARE_ID_FIELD_NUMBER: _ClassVar[int]
    share_id: str
    def __init__(self, share_id: _Optional[str] = ...) -> None: ...

class RevokeShareResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetPublicShareRequest(_message.Message):
    __slots__ = ("slug",)
    SLUG_FIELD_NUMBER: _ClassVar[int]
    slug: str
    def __init__(self, slug: _Optional[str] = ...) -> None: ...

class GetPublicShareResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: PublicShare
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[PublicShare, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...

class Share(_message.Message):
    __slots__ = ("id", "object", "conversation_id", "item_id", "slug", "share_link", "share_url", "title", "read_only", "allow_feedback", "view_count", "created_at", "expires_at", "revoked_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    SLUG_FIELD_NUMBER: _ClassVar[int]
    SHARE_LINK_FIELD_NUMBER: _ClassVar[int]
    SHARE_URL_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    VIEW_COUNT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    REVOKED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    conversation_id: str
    item_id: str
    slug: str
    share_link: str
    share_url: str
    title: str
    read_only: bool
    allow_feedback: bool
    view_count: int
    created_at: int
    expires_at: int
    revoked_at: int
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., conversation_id: _Optional[str] = ..., item_id: _Optional[str] = ..., slug: _Optional[str] = ..., share_link: _Optional[str] = ..., share_url: _Optional[str] = ..., title: _Optional[str] = ..., read_only: _Optional[bool] = ..., allow_feedback: _Optional[bool] = ..., view_count: _Optional[int] = ..., created_at: _Optional[int] = ..., expires_at: _Optional[int] = ..., revoked_at: _Optional[int] = ...) -> None: ...

class PublicShare(_message.Message):
    __slots__ = ("object", "slug", "title", "read_only", "allow_feedback", "created_at", "expires_at", "items")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    SLUG_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    object: str
    slug: str
    title: str
    read_only: bool
    allow_feedback: bool
    created_at: int
    expires_at: int
    items: _containers.RepeatedCompositeFieldContainer[SharedItem]
    def __init__(self, object: _Optional[str] = ..., slug: _Optional[str] = ..., title: _Optional[str] = ..., read_only: _Optional[bool] = ..., allow_feedback: _Optional[bool] = ..., created_at: _Optional[int] = ..., expires_at: _Optional[int] = ..., items: _Optional[_Iterable[_Union[SharedItem, _Mapping]]] = ...) -> None: ...

class SharedItem(_message.Message):
    __slots__ = ("id", "type", "role", "content", "created_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    type: str
    role: str
    content: _struct_pb2.Value
    created_at: int
    def __init__(self, id: _Optional[str] = ..., type: _Optional[str] = ..., role: _Optional[str] = ..., content: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., created_at: _Optional[int] = ...) -> None: ...
