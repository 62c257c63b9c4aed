from google.api import annotations_pb2 as _annotations_pb2
from google.api import httpbody_pb2 as _httpbody_pb2
from jan.common.v1 import access_pb2 as _access_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class RefuseHttpRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RefuseHttpResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
