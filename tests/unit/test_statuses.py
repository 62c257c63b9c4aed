"""One error with two faces: google.rpc details for gRPC, the finished envelope for REST."""

import json
from typing import Any

import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from services.runtime import errors, statuses
from services.runtime.errors import ApiError, InvalidRequest, NotFound, RateLimited, Unavailable

DETAILS = {
    each.DESCRIPTOR.full_name: each
    for each in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo)
}


def unpacked(detail: any_pb2.Any) -> Any:
    message = DETAILS[detail.TypeName()]()
    detail.Unpack(message)
    return message


def rendered(error: ApiError) -> tuple[dict[str, Any], status_pb2.Status, list[Any]]:
    """The trailing metadata, and the status and details inside it."""
    metadata = dict(statuses.trailers(error, "req_1", rest=True))
    status = status_pb2.Status.FromString(metadata.pop("grpc-status-details-bin"))  # type: ignore[arg-type]  # bytes
    return metadata, status, [unpacked(each) for each in status.details]


def test_a_wrong_parameter() -> None:
    metadata, status, details = rendered(InvalidRequest("Parameter 'n' is wrong", param="n"))
    assert metadata["x-http-status"] == "400"
    assert json.loads(metadata["x-error-json"]) == {
        "error": {
            "type": "invalid_request_error",
            "code": "invalid_parameter",
            "message": "Parameter 'n' is wrong",
            "param": "n",
            "request_id": "req_1",
        }
    }
    assert (status.code, status.message) == (StatusCode.INVALID_ARGUMENT.value[0], "Parameter 'n' is wrong")
    violation = error_details_pb2.BadRequest.FieldViolation(field="n", description="Parameter 'n' is wrong")
    assert details == [
        error_details_pb2.ErrorInfo(
            reason="INVALID_PARAMETER",
            domain="jan.server",
            metadata={"type": "invalid_request_error", "request_id": "req_1", "param": "n"},
        ),
        error_details_pb2.BadRequest(field_violations=[violation]),
    ]


@pytest.mark.parametrize(("seconds", "header"), [(2.0, "2"), (0.25, "1"), (1.2, "2"), (0.0, "1")])
def test_a_wait_is_exact_for_grpc_and_whole_seconds_for_http(seconds: float, header: str) -> None:
    metadata, _, details = rendered(RateLimited("slow down", retry_after=seconds))
    assert metadata["retry-after"] == header
    assert details[-1].retry_delay.ToTimedelta().total_seconds() == seconds


def test_an_unavailable_service_always_says_when_to_come_again() -> None:
    metadata, _, details = rendered(Unavailable("down"))
    assert metadata["retry-after"] == "1"
    assert isinstance(details[-1], error_details_pb2.RetryInfo)


def test_a_grpc_client_gets_the_status_only() -> None:
    ((key, _),) = statuses.trailers(RateLimited("slow down", retry_after=2), "req_1", rest=False)
    assert key == "grpc-status-details-bin"


def test_a_missing_object_has_its_own_reason() -> None:
    _, _, (info,) = rendered(NotFound("There is no such model", code="model_not_found", param="model"))
    assert (info.reason, info.metadata["param"]) == ("MODEL_NOT_FOUND", "model")


KINDS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, ApiError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_error_can_be_rendered(kind: type[ApiError]) -> None:
    metadata, status, (info, *_) = rendered(kind("words"))
    assert (metadata["x-http-status"], status.code) == (str(kind.kind.http), kind.kind.grpc.value[0])
    assert (info.reason, info.metadata["type"]) == (kind.kind.code.upper(), kind.kind.type)


@pytest.mark.parametrize("letter", ["x", "é", "中", "😀", '"', "\n", "\0"])
def test_a_long_message_never_makes_the_metadata_too_large(letter: str) -> None:
    error = InvalidRequest(letter * 5000, param=letter * 5000, retry_after=1)
    metadata = statuses.trailers(error, "r" * 128, rest=True)
    size = sum(len(key) + len(value) * (4 / 3 if isinstance(value, bytes) else 1) + 32 for key, value in metadata)
    grpc_message = 3 * len(statuses.message(error).encode())  # percent-encoded
    assert size + grpc_message < 8 * 1024
    body = json.loads(dict(metadata)["x-error-json"])["error"]["message"]
    assert body
    assert error.message.startswith(body)
