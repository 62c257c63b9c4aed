from buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from jan.common.v1 import access_pb2 as _access_pb2
from jan.common.v1 import meta_pb2 as _meta_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateApiKeyRequest(_message.Message):
    __slots__ = ("name", "expires_in_days", "scopes", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_DAYS_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    expires_in_days: int
    scopes: _containers.RepeatedScalarFieldContainer[str]
    request_id: str
    def __init__(self, name: _Optional[str] = ..., expires_in_days: _Optional[int] = ..., scopes: _Optional[_Iterable[str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateApiKeyResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: ApiKey
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[ApiKey, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...

class ApiKey(_message.Message):
    __slots__ = ("id", "object", "name", "prefix", "suffix", "scopes", "status", "is_active", "tier", "created_at", "expires_at", "last_used_at", "revoked_at", "key", "user_id", "requests_per_minute", "requests_per_day")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    SUFFIX_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    IS_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_USED_AT_FIELD_NUMBER: _ClassVar[int]
    REVOKED_AT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_DAY_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    name: str
    prefix: str
    suffix: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    status: str
    is_active: bool
    tier: str
    created_at: str
    expires_at: str
    last_used_at: str
    revoked_at: str
    key: str
    user_id: str
    requests_per_minute: int
    requests_per_day: int
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., name: _Optional[str] = ..., prefix: _Optional[str] = ..., suffix: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., status: _Optional[str] = ..., is_active: _Optional[bool] = ..., tier: _Optional[str] = ..., created_at: _Optional[str] = ..., expires_at: _Optional[str] = ..., last_used_at: _Optional[str] = ..., revoked_at: _Optional[str] = ..., key: _Optional[str] = ..., user_id: _Optional[str] = ..., requests_per_minute: _Optional[int] = ..., requests_per_day: _Optional[int] = ...) -> None: ...

class ListApiKeysRequest(_message.Message):
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

class ListApiKeysResponse(_message.Message):
    __slots__ = ("object", "data", "first_id", "last_id", "has_more", "total_count", "next_after")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FIRST_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_ID_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[ApiKey]
    first_id: str
    last_id: str
    has_more: bool
    total_count: int
    next_after: str
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[ApiKey, _Mapping]]] = ..., first_id: _Optional[str] = ..., last_id: _Optional[str] = ..., has_more: _Optional[bool] = ..., total_count: _Optional[int] = ..., next_after: _Optional[str] = ...) -> None: ...

class UpdateApiKeyRequest(_message.Message):
    __slots__ = ("id", "name", "scopes")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ...) -> None: ...

class UpdateApiKeyResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: ApiKey
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[ApiKey, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...

class RevokeApiKeyRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class RevokeApiKeyResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AdminListApiKeysRequest(_message.Message):
    __slots__ = ("limit", "after", "offset", "order", "user_id")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    limit: int
    after: str
    offset: int
    order: str
    user_id: str
    def __init__(self, limit: _Optional[int] = ..., after: _Optional[str] = ..., offset: _Optional[int] = ..., order: _Optional[str] = ..., user_id: _Optional[str] = ...) -> None: ...

class AdminListApiKeysResponse(_message.Message):
    __slots__ = ("object", "data", "first_id", "last_id", "has_more", "total_count", "next_after")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FIRST_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_ID_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[ApiKey]
    first_id: str
    last_id: str
    has_more: bool
    total_count: int
    next_after: str
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[ApiKey, _Mapping]]] = ..., first_id: _Optional[str] = ..., last_id: _Optional[str] = ..., has_more: _Optional[bool] = ..., total_count: _Optional[int] = ..., next_after: _Optional[str] = ...) -> None: ...

class AdminUpdateApiKeyRequest(_message.Message):
    __slots__ = ("id", "tier", "requests_per_minute", "requests_per_day", "revoked")
    ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_DAY_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    id: str
    tier: str
    requests_per_minute: int
    requests_per_day: int
    revoked: bool
    def __init__(self, id: _Optional[str] = ..., tier: _Optional[str] = ..., requests_per_minute: _Optional[int] = ..., requests_per_day: _Optional[int] = ..., revoked: _Optional[bool] = ...) -> None: ...

class AdminUpdateApiKeyResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: ApiKey
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[ApiKey, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...
