"""The descriptors that Envoy's transcoder works by: aliases, and nothing that a body or a query could fill in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api import annotations_pb2, http_pb2, httpbody_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from jan.auth.v1 import api_keys_pb2, auth_pb2
from jan.common.v1 import status_pb2
from jan.llm.v1 import chat_pb2, models_pb2

from services.runtime import edge
from services.runtime.config import Settings
from services.runtime.routes import http_rules, verb_and_path
from services.runtime.transcoder import HTTP_BODY, UnservableRule, descriptor_set

SERVED = [each.DESCRIPTOR for each in (auth_pb2, api_keys_pb2, chat_pb2, models_pb2, status_pb2)]


def rules(files: FileDescriptorSet) -> Iterator[tuple[str, str, str]]:
    """Verb, path with its own names of variables, and where the body goes."""
    for method in (method for file in files.file for service in file.service for method in service.method):
        for rule in http_rules(method.options):
            verb, path = verb_and_path(rule)
            yield verb, path.replace("_x", ""), rule.body


def pool(*files: FileDescriptorProto) -> DescriptorPool:
    """A pool with these files and what they import."""
    found = DescriptorPool()
    for each in descriptor_set([annotations_pb2.DESCRIPTOR, httpbody_pb2.DESCRIPTOR], []).file:
        found.AddSerializedFile(each.SerializeToString())
    for each in files:
        found.AddSerializedFile(each.SerializeToString())
    return found


def notes(*rules: http_pb2.HttpRule) -> FileDescriptor:
    """A service with one rpc, whose input has an id, a map, an optional title and a file, and which has these rules."""
    file = FileDescriptorProto(name="notes.proto", package="notes", syntax="proto3")
    file.dependency[:] = [annotations_pb2.DESCRIPTOR.name, httpbody_pb2.DESCRIPTOR.name]
    note = file.message_type.add(name="Note")
    optional: dict[str, Any] = {"type": "TYPE_STRING", "label": "LABEL_OPTIONAL"}
    note.field.add(name="id", number=1, **optional)
    tags = ".notes.Note.TagsEntry"
    note.field.add(name="tags", number=2, type="TYPE_MESSAGE", label="LABEL_REPEATED", type_name=tags)
    note.field.add(name="title", number=3, proto3_optional=True, oneof_index=0, **optional)
    note.oneof_decl.add(name="_title")
    note.field.add(name="file", number=4, type="TYPE_MESSAGE", label="LABEL_OPTIONAL", type_name=f".{HTTP_BODY}")
    entry = note.nested_type.add(name="TagsEntry")
    entry.options.map_entry = True
    for number, name in enumerate(("key", "value"), 1):
        entry.field.add(name=name, number=number, **optional)
    method = file.service.add(name="Notes").method.add(name="Do", input_type=".notes.Note", output_type=".notes.Note")
    rule = method.options.Extensions[annotations_pb2.http]
    rule.CopyFrom(rules[0])
    rule.additional_bindings.extend(rules[1:])
    return pool(file).FindFileByName(file.name)


def narrowed(*rules: http_pb2.HttpRule, prefixes: tuple[str, ...] = ()) -> MethodDescriptor:
    """The rpc as the transcoder knows it, with the secret `x`."""
    (found,) = [each for each in descriptor_set([notes(*rules)], prefixes, secret="x").file if each.service]
    return pool(found).FindMethodByName("notes.Notes.Do")


def fields(method: MethodDescriptor) -> dict[str, int]:
    return {field.name: field.number for field in method.input_type.fields}


def test_the_descriptors_repeat_every_rule_behind_every_prefix() -> None:
    plain, aliased = (descriptor_set(SERVED, prefixes, secret="x") for prefixes in ([], ["/llm", "/api/llm"]))
    expected = {(verb, prefix + path, body) for verb, path, body in rules(plain) for prefix in ("", "/llm", "/api/llm")}
    assert set(rules(aliased)) == expected
    assert len(list(rules(aliased))) == len(expected)


def test_imports_come_before_who_imports_them() -> None:
    files = descriptor_set(SERVED, []).file
    names = [file.name for file in files]
    assert len(names) == len(set(names))
    for file in files:
        assert set(file.dependency) <= set(names[: names.index(file.name)])


def test_the_descriptors_can_be_read_as_a_whole() -> None:
    found = DescriptorPool()
    for file in descriptor_set(SERVED, ["/llm"], secret="x").file:
        found.AddSerializedFile(file.SerializeToString())
    assert found.FindMethodByName("jan.auth.v1.KeyService.UpdateApiKey").input_type.name.endswith("_Input")


def test_the_descriptors_of_this_process_stay_as_they_are() -> None:
    before = descriptor_set(SERVED, []).SerializeToString()
    descriptor_set(SERVED, ["/llm"], secret="x")
    assert descriptor_set(SERVED, []).SerializeToString() == before


def test_the_transcoder_may_fill_in_the_path_and_nothing_else() -> None:
    method = narrowed(http_pb2.HttpRule(get="/v1/notes/{id=**}"), prefixes=("/a",))
    assert fields(method) == {"id_x": 1, "unread_body_x": 2**29 - 2}
    assert [field.name for field in method.output_type.fields] == ["id", "tags", "title", "file"]
    paths = [verb_and_path(rule)[1] for rule in http_rules(method.GetOptions())]
    assert paths == ["/v1/notes/{id_x=**}", "/a/v1/notes/{id_x=**}"]


def test_a_variable_that_is_optional_keeps_its_number() -> None:
    found = fields(narrowed(http_pb2.HttpRule(post="/v1/{title}/{id}", body="*")))
    assert found == {"id_x": 1, "title_x": 3, "raw_body_x": 2**29 - 1}


def test_the_paths_of_a_method_may_have_different_variables() -> None:
    method = narrowed(http_pb2.HttpRule(get="/v1/notes"), http_pb2.HttpRule(get="/v1/{title}/notes/{id}"))
    assert fields(method) == {"id_x": 1, "title_x": 3, "unread_body_x": 2**29 - 2}
    paths = [verb_and_path(rule)[1] for rule in http_rules(method.GetOptions())]
    assert paths == ["/v1/notes", "/v1/{title_x}/notes/{id_x}"]


def test_a_body_passes_as_it_came() -> None:
    update = http_pb2.HttpRule(patch="/v1/notes/{id}", body="*"), http_pb2.HttpRule(post="/v1/notes/{id}", body="*")
    method = narrowed(*update, prefixes=("/a",))
    assert fields(method) == {"id_x": 1, "raw_body_x": 2**29 - 1}
    body = method.input_type.fields_by_name["raw_body_x"].message_type
    assert body
    assert body.full_name == HTTP_BODY
    found = http_rules(method.GetOptions())
    assert [rule.body for rule in found] == ["raw_body_x"] * 4
    assert [verb_and_path(rule)[0] for rule in found] == ["PATCH", "POST", "PATCH", "POST"]


def test_a_field_that_takes_raw_bytes_keeps_taking_them() -> None:
    method = narrowed(http_pb2.HttpRule(put="/v1/notes/{id}/file", body="file"))
    assert fields(method) == {"id_x": 1, "file_x": 4}
    assert method.GetOptions().Extensions[annotations_pb2.http].body == "file_x"


def test_a_method_that_takes_nothing_but_bytes_stays_as_it_is() -> None:
    (chat,) = [each for each in descriptor_set(SERVED, []).file if each.name == chat_pb2.DESCRIPTOR.name]
    (method,) = [each for each in chat.service[0].method if each.name == "CreateChatCompletionHttp"]
    assert method.input_type == f".{HTTP_BODY}"
    assert method.options.Extensions[annotations_pb2.http].body == "*"


def test_a_method_without_http_rule_stays_as_it_is() -> None:
    (chat,) = [each for each in descriptor_set(SERVED, []).file if each.name == chat_pb2.DESCRIPTOR.name]
    (method,) = [each for each in chat.service[0].method if each.name == "StreamChatCompletion"]
    assert method.input_type == ".jan.llm.v1.CreateChatCompletionRequest"


def test_a_custom_verb_is_repeated_too() -> None:
    custom = http_pb2.CustomHttpPattern(kind="HEAD", path="/v1/notes/{id}")
    found = http_rules(narrowed(http_pb2.HttpRule(custom=custom), prefixes=("/a",)).GetOptions())
    assert [verb_and_path(rule) for rule in found] == [("HEAD", "/v1/notes/{id_x}"), ("HEAD", "/a/v1/notes/{id_x}")]


@pytest.mark.parametrize(
    "rules",
    [
        [http_pb2.HttpRule(get="/v1/notes/{nothing}")],
        [http_pb2.HttpRule(get="/v1/notes/{note.id}")],
        [http_pb2.HttpRule(get="/v1/notes/{tags}")],
        [http_pb2.HttpRule(get="/v1/notes/{file}")],
        [http_pb2.HttpRule(post="/v1/notes", body="title")],
        [http_pb2.HttpRule(post="/v1/notes", body="tags")],
        [http_pb2.HttpRule(post="/v1/notes", body="nothing")],
    ],
    ids=str,
)
def test_a_rule_that_the_transcoder_would_read_its_own_way_stops_the_start(rules: list[http_pb2.HttpRule]) -> None:
    with pytest.raises(UnservableRule):
        descriptor_set([notes(*rules)], [])


def test_one_method_may_have_rules_with_a_body_and_without() -> None:
    method = narrowed(http_pb2.HttpRule(get="/v1/notes"), http_pb2.HttpRule(post="/v1/find", body="*"))
    assert [rule.body for rule in http_rules(method.GetOptions())] == ["unread_body_x", "raw_body_x"]


def test_the_gateway_writes_another_name_at_every_start(tmp_path: Path) -> None:
    contents = set()
    for _ in range(2):
        edge.write(Settings(data_dir=tmp_path), {"auth": ["unix:/run/a.sock"], "worker": ["unix:/w.sock"]}, tmp_path)
        contents.add((tmp_path / "envoy" / "edge.pb").read_bytes())
    assert len(contents) == 2
