from buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from jan.common.v1 import access_pb2 as _access_pb2
from jan.common.v1 import meta_pb2 as _meta_pb2
from jan.llm.v1 import models_pb2 as _models_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListProviderModelsRequest(_message.Message):
    __slots__ = ("limit", "after", "offset", "order", "provider", "provider_id", "enabled", "capability", "family", "search")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_ID_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    SEARCH_FIELD_NUMBER: _ClassVar[int]
    limit: int
    after: str
    offset: int
    order: str
    provider: str
    provider_id: str
    enabled: bool
    capability: str
    family: str
    search: str
    def __init__(self, limit: _Optional[int] = ..., after: _Optional[str] = ..., offset: _Optional[int] = ..., order: _Optional[str] = ..., provider: _Optional[str] = ..., provider_id: _Optional[str] = ..., enabled: _Optional[bool] = ..., capability: _Optional[str] = ..., family: _Optional[str] = ..., search: _Optional[str] = ...) -> None: ...

class ListProviderModelsResponse(_message.Message):
    __slots__ = ("object", "data", "first_id", "last_id", "has_more", "total_count", "next_after")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FIRST_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_ID_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[ProviderModel]
    first_id: str
    last_id: str
    has_more: bool
    total_count: int
    next_after: str
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[ProviderModel, _Mapping]]] = ..., first_id: _Optional[str] = ..., last_id: _Optional[str] = ..., has_more: _Optional[bool] = ..., total_count: _Optional[int] = ..., next_after: _Optional[str] = ...) -> None: ...

class GetProviderModelRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GetProviderModelResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: ProviderModel
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[ProviderModel, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...

class UpdateProviderModelRequest(_message.Message):
    __slots__ = ("id", "enabled", "default_temperature", "rate_limit", "tags", "name", "family", "context_window", "max_output_tokens", "capabilities", "pricing", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_WINDOW_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    PRICING_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: str
    enabled: bool
    default_temperature: _struct_pb2.Value
    rate_limit: RateLimit
    tags: _struct_pb2.ListValue
    name: str
    family: str
    context_window: int
    max_output_tokens: int
    capabilities: _struct_pb2.ListValue
    pricing: Pricing
    reason: str
    def __init__(self, id: _Optional[str] = ..., enabled: _Optional[bool] = ..., default_temperature: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., rate_limit: _Optional[_Union[RateLimit, _Mapping]] = ..., tags: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., name: _Optional[str] = ..., family: _Optional[str] = ..., context_window: _Optional[int] = ..., max_output_tokens: _Optional[int] = ..., capabilities: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., pricing: _Optional[_Union[Pricing, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class UpdateProviderModelResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: ProviderModel
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[ProviderModel, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...

class BulkToggleProviderModelsRequest(_message.Message):
    __slots__ = ("model_ids", "enabled", "reason", "request_id")
    MODEL_IDS_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    model_ids: _containers.RepeatedScalarFieldContainer[str]
    enabled: bool
    reason: str
    request_id: str
    def __init__(self, model_ids: _Optional[_Iterable[str]] = ..., enabled: _Optional[bool] = ..., reason: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class BulkToggleProviderModelsResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: Toggled
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[Toggled, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...

class ListAdminCatalogsRequest(_message.Message):
    __slots__ = ("limit", "after", "offset", "order", "provider", "enabled", "status", "family", "search", "capability")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    SEARCH_FIELD_NUMBER: _ClassVar[int]
    CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    limit: int
    after: str
    offset: int
    order: str
    provider: str
    enabled: bool
    status: str
    family: str
    search: str
    capability: str
    def __init__(self, limit: _Optional[int] = ..., after: _Optional[str] = ..., offset: _Optional[int] = ..., order: _Optional[str] = ..., provider: _Optional[str] = ..., enabled: _Optional[bool] = ..., status: _Optional[str] = ..., family: _Optional[str] = ..., search: _Optional[str] = ..., capability: _Optional[str] = ...) -> None: ...

class ListAdminCatalogsResponse(_message.Message):
    __slots__ = ("object", "data", "first_id", "last_id", "has_more", "total_count", "next_after")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FIRST_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_ID_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[AdminCatalog]
    first_id: str
    last_id: str
    has_more: bool
    total_count: int
    next_after: str
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[AdminCatalog, _Mapping]]] = ..., first_id: _Optional[str] = ..., last_id: _Optional[str] = ..., has_more: _Optional[bool] = ..., total_count: _Optional[int] = ..., next_after: _Optional[str] = ...) -> None: ...

class GetAdminCatalogRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GetAdminCatalogResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: AdminCatalog
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[AdminCatalog, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...

class UpdateAdminCatalogRequest(_message.Message):
    __slots__ = ("id", "name", "description", "enabled", "tags", "capabilities", "context_window", "family", "experimental", "notes", "supported_parameters", "architecture", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_WINDOW_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENTAL_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    SUPPORTED_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    description: str
    enabled: bool
    tags: _struct_pb2.ListValue
    capabilities: _struct_pb2.ListValue
    context_window: int
    family: str
    experimental: bool
    notes: str
    supported_parameters: _models_pb2.SupportedParameters
    architecture: _models_pb2.Architecture
    reason: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., description: _Optional[str] = ..., enabled: _Optional[bool] = ..., tags: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., capabilities: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., context_window: _Optional[int] = ..., family: _Optional[str] = ..., experimental: _Optional[bool] = ..., notes: _Optional[str] = ..., supported_parameters: _Optional[_Union[_models_pb2.SupportedParameters, _Mapping]] = ..., architecture: _Optional[_Union[_models_pb2.Architecture, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class UpdateAdminCatalogResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: AdminCatalog
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[AdminCatalog, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...

class BulkToggleCatalogsRequest(_message.Message):
    __slots__ = ("catalog_ids", "enabled", "reason", "request_id")
    CATALOG_IDS_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    catalog_ids: _containers.RepeatedScalarFieldContainer[str]
    enabled: bool
    reason: str
    request_id: str
    def __init__(self, catalog_ids: _Optional[_Iterable[str]] = ..., enabled: _Optional[bool] = ..., reason: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class BulkToggleCatalogsResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: Toggled
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[Toggled, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...

class Toggled(_message.Message):
    __slots__ = ("count", "changed_count", "not_found")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    CHANGED_COUNT_FIELD_NUMBER: _ClassVar[int]
    NOT_FOUND_FIELD_NUMBER: _ClassVar[int]
    count: int
    changed_count: int
    not_found: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, count: _Optional[int] = ..., changed_count: _Optional[int] = ..., not_found: _Optional[_Iterable[str]] = ...) -> None: ...

class ProviderModel(_message.Message):
    __slots__ = ("id", "object", "model_id", "upstream_id", "name", "provider", "provider_id", "catalog_id", "enabled", "available", "context_window", "max_output_tokens", "capabilities", "default_temperature", "rate_limit", "tags", "family", "pricing", "created_at", "updated_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_ID_FIELD_NUMBER: _ClassVar[int]
    CATALOG_ID_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_WINDOW_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    PRICING_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    model_id: str
    upstream_id: str
    name: str
    provider: str
    provider_id: str
    catalog_id: str
    enabled: bool
    available: bool
    context_window: int
    max_output_tokens: int
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    default_temperature: float
    rate_limit: RateLimit
    tags: _containers.RepeatedScalarFieldContainer[str]
    family: str
    pricing: Pricing
    created_at: int
    updated_at: int
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., model_id: _Optional[str] = ..., upstream_id: _Optional[str] = ..., name: _Optional[str] = ..., provider: _Optional[str] = ..., provider_id: _Optional[str] = ..., catalog_id: _Optional[str] = ..., enabled: _Optional[bool] = ..., available: _Optional[bool] = ..., context_window: _Optional[int] = ..., max_output_tokens: _Optional[int] = ..., capabilities: _Optional[_Iterable[str]] = ..., default_temperature: _Optional[float] = ..., rate_limit: _Optional[_Union[RateLimit, _Mapping]] = ..., tags: _Optional[_Iterable[str]] = ..., family: _Optional[str] = ..., pricing: _Optional[_Union[Pricing, _Mapping]] = ..., created_at: _Optional[int] = ..., updated_at: _Optional[int] = ...) -> None: ...

class RateLimit(_message.Message):
    __slots__ = ("requests_per_minute", "tokens_per_minute")
    REQUESTS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    requests_per_minute: int
    tokens_per_minute: int
    def __init__(self, requests_per_minute: _Optional[int] = ..., tokens_per_minute: _Optional[int] = ...) -> None: ...

class Pricing(_message.Message):
    __slots__ = ("prompt", "completion", "currency")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    prompt: float
    completion: float
    currency: str
    def __init__(self, prompt: _Optional[float] = ..., completion: _Optional[float] = ..., currency: _Optional[str] = ...) -> None: ...

class AdminCatalog(_message.Message):
    __slots__ = ("id", "object", "public_id", "name", "provider", "description", "available", "capabilities", "context_window", "family", "tags", "experimental", "supported_parameters", "architecture", "created_at", "updated_at", "enabled", "status", "models", "notes", "total_requests", "total_tokens", "total_cost")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_WINDOW_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENTAL_FIELD_NUMBER: _ClassVar[int]
    SUPPORTED_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COST_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    public_id: str
    name: str
    provider: str
    description: str
    available: bool
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    context_window: int
    family: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    experimental: bool
    supported_parameters: _models_pb2.SupportedParameters
    architecture: _models_pb2.Architecture
    created_at: int
    updated_at: int
    enabled: bool
    status: str
    models: _containers.RepeatedScalarFieldContainer[str]
    notes: str
    total_requests: float
    total_tokens: float
    total_cost: float
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., public_id: _Optional[str] = ..., name: _Optional[str] = ..., provider: _Optional[str] = ..., description: _Optional[str] = ..., available: _Optional[bool] = ..., capabilities: _Optional[_Iterable[str]] = ..., context_window: _Optional[int] = ..., family: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., experimental: _Optional[bool] = ..., supported_parameters: _Optional[_Union[_models_pb2.SupportedParameters, _Mapping]] = ..., architecture: _Optional[_Union[_models_pb2.Architecture, _Mapping]] = ..., created_at: _Optional[int] = ..., updated_at: _Optional[int] = ..., enabled: _Optional[bool] = ..., status: _Optional[str] = ..., models: _Optional[_Iterable[str]] = ..., notes: _Optional[str] = ..., total_requests: _Optional[float] = ..., total_tokens: _Optional[float] = ..., total_cost: _Optional[float] = ...) -> None: ...
