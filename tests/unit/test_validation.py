"""Rules of the proto files as the door checks them."""

import pytest
from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from jan.llm.v1 import models_pb2

from services.runtime.errors import InvalidRequest
from services.runtime.validation import validate

Field = descriptor_pb2.FieldDescriptorProto


def made() -> tuple[type[Message], type[Message]]:
    """`Part {id: at least 1 character; parts: Part...}` and `Whole {parts: Part...}`, which has no rule of its own."""
    file = descriptor_pb2.FileDescriptorProto(name="test/rules.proto", package="test", syntax="proto3")
    file.dependency.append("buf/validate/validate.proto")
    part, whole = file.message_type.add(name="Part"), file.message_type.add(name="Whole")
    identifier = part.field.add(name="id", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    identifier.options.Extensions[validate_pb2.field].string.min_len = 1
    for owner in (part, whole):
        owner.field.add(
            name="parts", number=2, type=Field.TYPE_MESSAGE, type_name=".test.Part", label=Field.LABEL_REPEATED
        )
    pool = descriptor_pool.Default()
    found = pool.AddSerializedFile(file.SerializeToString())
    types = found.message_types_by_name
    return message_factory.GetMessageClass(types["Part"]), message_factory.GetMessageClass(types["Whole"])


PART, WHOLE = made()


def test_a_rule_deep_inside_names_its_path() -> None:
    with pytest.raises(InvalidRequest, match=r"^Parameter 'parts\[1\]\.parts\[0\]\.id' must be") as error:
        validate(WHOLE(parts=[PART(id="a"), PART(id="b", parts=[PART()])]))
    assert error.value.param == "parts[1].parts[0].id"


def test_a_message_that_keeps_its_rules_passes() -> None:
    validate(WHOLE(parts=[PART(id="a")]))
    validate(models_pb2.ListModelsRequest())


def test_the_rules_of_the_api_are_checked() -> None:
    validate(models_pb2.GetModelRequest(id="org/model"))
    for wrong in ("", "x" * 257):
        with pytest.raises(InvalidRequest) as error:
            validate(models_pb2.GetModelRequest(id=wrong))
        assert error.value.param == "id"
