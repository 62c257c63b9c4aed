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

class ListAdminToolsRequest(_message.Message):
    __slots__ = ("limit", "after", "offset", "order", "category", "enabled", "search")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    SEARCH_FIELD_NUMBER: _ClassVar[int]
    limit: int
    after: str
    offset: int
    order: str
    category: str
    enabled: bool
    search: str
    def __init__(self, limit: _Optional[int] = ..., after: _Optional[str] = ..., offset: _Optional[int] = ..., order: _Optional[str] = ..., category: _Optional[str] = ..., enabled: _Optional[bool] = ..., search: _Optional[str] = ...) -> None: ...

class ListAdminToolsResponse(_message.Message):
    __slots__ = ("object", "data", "first_id", "last_id", "has_more", "total_count", "next_after")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FIRST_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_ID_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[AdminTool]
    first_id: str
    last_id: str
    has_more: bool
    total_count: int
    next_after: str
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[AdminTool, _Mapping]]] = ..., first_id: _Optional[str] = ..., last_id: _Optional[str] = ..., has_more: _Optional[bool] = ..., total_count: _Optional[int] = ..., next_after: _Optional[str] = ...) -> None: ...

class GetAdminToolRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GetAdminToolResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: AdminTool
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[AdminTool, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...

class UpdateAdminToolRequest(_message.Message):
    __slots__ = ("id", "enabled", "is_active", "reason", "description", "category", "metadata", "disallowed_keywords", "content_filter")
    ID_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    IS_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    DISALLOWED_KEYWORDS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FILTER_FIELD_NUMBER: _ClassVar[int]
    id: str
    enabled: bool
    is_active: bool
    reason: str
    description: str
    category: str
    metadata: _struct_pb2.Struct
    disallowed_keywords: _struct_pb2.ListValue
    content_filter: ContentFilter
    def __init__(self, id: _Optional[str] = ..., enabled: _Optional[bool] = ..., is_active: _Optional[bool] = ..., reason: _Optional[str] = ..., description: _Optional[str] = ..., category: _Optional[str] = ..., metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., disallowed_keywords: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., content_filter: _Optional[_Union[ContentFilter, _Mapping]] = ...) -> None: ...

class UpdateAdminToolResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: AdminTool
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[AdminTool, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...

class SetToolFiltersRequest(_message.Message):
    __slots__ = ("id", "disallowed_keywords", "require_approval_for")
    ID_FIELD_NUMBER: _ClassVar[int]
    DISALLOWED_KEYWORDS_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_APPROVAL_FOR_FIELD_NUMBER: _ClassVar[int]
    id: str
    disallowed_keywords: _containers.RepeatedScalarFieldContainer[str]
    require_approval_for: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., disallowed_keywords: _Optional[_Iterable[str]] = ..., require_approval_for: _Optional[_Iterable[str]] = ...) -> None: ...

class SetToolFiltersResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: AdminTool
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[AdminTool, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...

class ContentFilter(_message.Message):
    __slots__ = ("disallowed_keywords", "require_approval_for")
    DISALLOWED_KEYWORDS_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_APPROVAL_FOR_FIELD_NUMBER: _ClassVar[int]
    disallowed_keywords: _containers.RepeatedScalarFieldContainer[str]
    require_approval_for: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, disallowed_keywords: _Optional[_Iterable[str]] = ..., require_approval_for: _Optional[_Iterable[str]] = ...) -> None: ...

class AdminTool(_message.Message):
    __slots__ = ("id", "object", "name", "tool_key", "description", "default_description", "category", "provider", "enabled", "is_active", "disallowed_keywords", "content_filter", "metadata", "created_at", "updated_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOOL_KEY_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    IS_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    DISALLOWED_KEYWORDS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FILTER_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    name: str
    tool_key: str
    description: str
    default_description: str
    category: str
    provider: str
    enabled: bool
    is_active: bool
    disallowed_keywords: _containers.RepeatedScalarFieldContainer[str]
    content_filter: ContentFilter
    metadata: _struct_pb2.Struct
    created_at: int
    updated_at: int
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., name: _Optional[str] = ..., tool_key: _Optional[str] = ..., description: _Optional[str] = ..., default_description: _Optional[str] = ..., category: _Optional[str] = ..., provider: _Optional[str] = ..., enabled: _Optional[bool] = ..., is_active: _Optional[bool] = ..., disallowed_keywords: _Optional[_Iterable[str]] = ..., content_filter: _Optional[_Union[ContentFilter, _Mapping]] = ..., metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., created_at: _Optional[int] = ..., updated_at: _Optional[int] = ...) -> None: ...
