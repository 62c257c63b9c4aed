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

class GetSettingsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetSettingsResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: UserSettings
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[UserSettings, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...

class UpdateSettingsRequest(_message.Message):
    __slots__ = ("profile_settings", "memory_config", "advanced_settings", "preferences", "enable_trace", "enable_tools")
    PROFILE_SETTINGS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_CONFIG_FIELD_NUMBER: _ClassVar[int]
    ADVANCED_SETTINGS_FIELD_NUMBER: _ClassVar[int]
    PREFERENCES_FIELD_NUMBER: _ClassVar[int]
    ENABLE_TRACE_FIELD_NUMBER: _ClassVar[int]
    ENABLE_TOOLS_FIELD_NUMBER: _ClassVar[int]
    profile_settings: ProfileChange
    memory_config: MemoryChange
    advanced_settings: AdvancedChange
    preferences: _struct_pb2.Struct
    enable_trace: bool
    enable_tools: bool
    def __init__(self, profile_settings: _Optional[_Union[ProfileChange, _Mapping]] = ..., memory_config: _Optional[_Union[MemoryChange, _Mapping]] = ..., advanced_settings: _Optional[_Union[AdvancedChange, _Mapping]] = ..., preferences: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., enable_trace: _Optional[bool] = ..., enable_tools: _Optional[bool] = ...) -> None: ...

class UpdateSettingsResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: UserSettings
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[UserSettings, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...

class GetPreferencesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetPreferencesResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: UserPreferences
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[UserPreferences, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...

class UpdatePreferencesRequest(_message.Message):
    __slots__ = ("preferences",)
    PREFERENCES_FIELD_NUMBER: _ClassVar[int]
    preferences: _struct_pb2.Struct
    def __init__(self, preferences: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class UpdatePreferencesResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: UserPreferences
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[UserPreferences, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...

class UserPreferences(_message.Message):
    __slots__ = ("preferences",)
    PREFERENCES_FIELD_NUMBER: _ClassVar[int]
    preferences: _struct_pb2.Struct
    def __init__(self, preferences: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class GetUsageRequest(_message.Message):
    __slots__ = ("to", "group_by")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    to: str
    group_by: str
    def __init__(self, to: _Optional[str] = ..., group_by: _Optional[str] = ..., **kwargs) -> None: ...

class GetUsageResponse(_message.Message):
    __slots__ = ("data", "meta")
    DATA_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    data: UsageReport
    meta: _meta_pb2.Meta
    def __init__(self, data: _Optional[_Union[UsageReport, _Mapping]] = ..., meta: _Optional[_Union[_meta_pb2.Meta, _Mapping]] = ...) -> None: ...

class UsageReport(_message.Message):
    __slots__ = ("requests", "prompt_tokens", "completion_tokens", "total_tokens", "groups")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    requests: int
    prompt_tokens: float
    completion_tokens: float
    total_tokens: float
    groups: _containers.RepeatedCompositeFieldContainer[UsageGroup]
    def __init__(self, requests: _Optional[int] = ..., prompt_tokens: _Optional[float] = ..., completion_tokens: _Optional[float] = ..., total_tokens: _Optional[float] = ..., groups: _Optional[_Iterable[_Union[UsageGroup, _Mapping]]] = ...) -> None: ...

class UsageGroup(_message.Message):
    __slots__ = ("key", "requests", "prompt_tokens", "completion_tokens", "total_tokens")
    KEY_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    key: str
    requests: int
    prompt_tokens: float
    completion_tokens: float
    total_tokens: float
    def __init__(self, key: _Optional[str] = ..., requests: _Optional[int] = ..., prompt_tokens: _Optional[float] = ..., completion_tokens: _Optional[float] = ..., total_tokens: _Optional[float] = ...) -> None: ...

class UserSettings(_message.Message):
    __slots__ = ("id", "object", "user_id", "profile_settings", "memory_config", "advanced_settings", "preferences", "enable_trace", "enable_tools", "created_at", "updated_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PROFILE_SETTINGS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_CONFIG_FIELD_NUMBER: _ClassVar[int]
    ADVANCED_SETTINGS_FIELD_NUMBER: _ClassVar[int]
    PREFERENCES_FIELD_NUMBER: _ClassVar[int]
    ENABLE_TRACE_FIELD_NUMBER: _ClassVar[int]
    ENABLE_TOOLS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    user_id: str
    profile_settings: ProfileSettings
    memory_config: MemoryConfig
    advanced_settings: AdvancedSettings
    preferences: _struct_pb2.Struct
    enable_trace: bool
    enable_tools: bool
    created_at: int
    updated_at: int
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., user_id: _Optional[str] = ..., profile_settings: _Optional[_Union[ProfileSettings, _Mapping]] = ..., memory_config: _Optional[_Union[MemoryConfig, _Mapping]] = ..., advanced_settings: _Optional[_Union[AdvancedSettings, _Mapping]] = ..., preferences: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., enable_trace: _Optional[bool] = ..., enable_tools: _Optional[bool] = ..., created_at: _Optional[int] = ..., updated_at: _Optional[int] = ...) -> None: ...

class ProfileSettings(_message.Message):
    __slots__ = ("base_style", "custom_instructions", "nick_name", "occupation", "more_about_you")
    BASE_STYLE_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    NICK_NAME_FIELD_NUMBER: _ClassVar[int]
    OCCUPATION_FIELD_NUMBER: _ClassVar[int]
    MORE_ABOUT_YOU_FIELD_NUMBER: _ClassVar[int]
    base_style: str
    custom_instructions: str
    nick_name: str
    occupation: str
    more_about_you: str
    def __init__(self, base_style: _Optional[str] = ..., custom_instructions: _Optional[str] = ..., nick_name: _Optional[str] = ..., occupation: _Optional[str] = ..., more_about_you: _Optional[str] = ...) -> None: ...

class ProfileChange(_message.Message):
    __slots__ = ("base_style", "custom_instructions", "nick_name", "occupation", "more_about_you", "nickname")
    BASE_STYLE_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    NICK_NAME_FIELD_NUMBER: _ClassVar[int]
    OCCUPATION_FIELD_NUMBER: _ClassVar[int]
    MORE_ABOUT_YOU_FIELD_NUMBER: _ClassVar[int]
    NICKNAME_FIELD_NUMBER: _ClassVar[int]
    base_style: str
    custom_instructions: str
    nick_name: str
    occupation: str
    more_about_you: str
    nickname: str
    def __init__(self, base_style: _Optional[str] = ..., custom_instructions: _Optional[str] = ..., nick_name: _Optional[str] = ..., occupation: _Optional[str] = ..., more_about_you: _Optional[str] = ..., nickname: _Optional[str] = ...) -> None: ...

class MemoryConfig(_message.Message):
    __slots__ = ("enabled", "observe_enabled", "inject_user_core", "inject_semantic", "inject_episodic", "max_items", "max_user_items", "max_project_items", "max_episodic_items", "min_similarity")
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    OBSERVE_ENABLED_FIELD_NUMBER: _ClassVar[int]
    INJECT_USER_CORE_FIELD_NUMBER: _ClassVar[int]
    INJECT_SEMANTIC_FIELD_NUMBER: _ClassVar[int]
    INJECT_EPISODIC_FIELD_NUMBER: _ClassVar[int]
    MAX_ITEMS_FIELD_NUMBER: _ClassVar[int]
    MAX_USER_ITEMS_FIELD_NUMBER: _ClassVar[int]
    MAX_PROJECT_ITEMS_FIELD_NUMBER: _ClassVar[int]
    MAX_EPISODIC_ITEMS_FIELD_NUMBER: _ClassVar[int]
    MIN_SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    enabled: bool
    observe_enabled: bool
    inject_user_core: bool
    inject_semantic: bool
    inject_episodic: bool
    max_items: int
    max_user_items: int
    max_project_items: int
    max_episodic_items: int
    min_similarity: float
    def __init__(self, enabled: _Optional[bool] = ..., observe_enabled: _Optional[bool] = ..., inject_user_core: _Optional[bool] = ..., inject_semantic: _Optional[bool] = ..., inject_episodic: _Optional[bool] = ..., max_items: _Optional[int] = ..., max_user_items: _Optional[int] = ..., max_project_items: _Optional[int] = ..., max_episodic_items: _Optional[int] = ..., min_similarity: _Optional[float] = ...) -> None: ...

class MemoryChange(_message.Message):
    __slots__ = ("enabled", "observe_enabled", "inject_user_core", "inject_semantic", "inject_episodic", "max_items", "max_user_items", "max_project_items", "max_episodic_items", "min_similarity")
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    OBSERVE_ENABLED_FIELD_NUMBER: _ClassVar[int]
    INJECT_USER_CORE_FIELD_NUMBER: _ClassVar[int]
    INJECT_SEMANTIC_FIELD_NUMBER: _ClassVar[int]
    INJECT_EPISODIC_FIELD_NUMBER: _ClassVar[int]
    MAX_ITEMS_FIELD_NUMBER: _ClassVar[int]
    MAX_USER_ITEMS_FIELD_NUMBER: _ClassVar[int]
    MAX_PROJECT_ITEMS_FIELD_NUMBER: _ClassVar[int]
    MAX_EPISODIC_ITEMS_FIELD_NUMBER: _ClassVar[int]
    MIN_SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    enabled: bool
    observe_enabled: bool
    inject_user_core: bool
    inject_semantic: bool
    inject_episodic: bool
    max_items: int
    max_user_items: int
    max_project_items: int
    max_episodic_items: int
    min_similarity: float
    def __init__(self, enabled: _Optional[bool] = ..., observe_enabled: _Optional[bool] = ..., inject_user_core: _Optional[bool] = ..., inject_semantic: _Optional[bool] = ..., inject_episodic: _Optional[bool] = ..., max_items: _Optional[int] = ..., max_user_items: _Optional[int] = ..., max_project_items: _Optional[int] = ..., max_episodic_items: _Optional[int] = ..., min_similarity: _Optional[float] = ...) -> None: ...

class AdvancedSettings(_message.Message):
    __slots__ = ("web_search_enabled", "code_execution_enabled", "web_search", "code_enabled")
    WEB_SEARCH_ENABLED_FIELD_NUMBER: _ClassVar[int]
    CODE_EXECUTION_ENABLED_FIELD_NUMBER: _ClassVar[int]
    WEB_SEARCH_FIELD_NUMBER: _ClassVar[int]
    CODE_ENABLED_FIELD_NUMBER: _ClassVar[int]
    web_search_enabled: bool
    code_execution_enabled: bool
    web_search: bool
    code_enabled: bool
    def __init__(self, web_search_enabled: _Optional[bool] = ..., code_execution_enabled: _Optional[bool] = ..., web_search: _Optional[bool] = ..., code_enabled: _Optional[bool] = ...) -> None: ...

class AdvancedChange(_message.Message):
    __slots__ = ("web_search_enabled", "code_execution_enabled", "web_search", "code_enabled")
    WEB_SEARCH_ENABLED_FIELD_NUMBER: _ClassVar[int]
    CODE_EXECUTION_ENABLED_FIELD_NUMBER: _ClassVar[int]
    WEB_SEARCH_FIELD_NUMBER: _ClassVar[int]
    CODE_ENABLED_FIELD_NUMBER: _ClassVar[int]
    web_search_enabled: bool
    code_execution_enabled: bool
    web_search: bool
    code_enabled: bool
    def __init__(self, web_search_enabled: _Optional[bool] = ..., code_execution_enabled: _Optional[bool] = ..., web_search: _Optional[bool] = ..., code_enabled: _Optional[bool] = ...) -> None: ...
