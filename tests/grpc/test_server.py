"""What every server has: health, reflection, status, request ids, a way down, and silence about its own faults."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from jan.common.v1 import status_pb2, status_pb2_grpc
from jan.llm.v1 import chat_pb2, chat_pb2_grpc
from prometheus_client import CollectorRegistry

from services import __version__
from services.runtime.door import Door
from services.runtime.identity import KeyFile, TokenVerifier
from services.runtime.metrics import Metrics
from services.runtime.policy import Policy
from services.runtime.server import Mounted, Server
from services.runtime.status import Check, StatusServicer
from tests.fake_upstream import FakeUpstream, stream
from tests.grpc.rig import SECONDS, Rig, details, running

METRICS = Metrics(CollectorRegistry())
SERVICES = ["jan.llm.v1.ChatService", "jan.llm.v1.ModelService", "jan.common.v1.StatusService"]


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path, "llm", jan_provider_configs=False) as rig:
        yield rig


async def check(rig: Rig, service: str) -> Any:
    health = health_pb2_grpc.HealthStub(rig.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(service=service), timeout=SECONDS)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


@pytest.mark.parametrize("service", ["", *SERVICES])
async def test_every_service_is_healthy_without_a_credential(rig: Rig, service: str) -> None:
    assert await check(rig, service) == "SERVING"


async def test_the_health_of_an_unknown_service_is_not_found(rig: Rig) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await check(rig, "jan.llm.v1.Nothing")
    assert error.value.code() == StatusCode.NOT_FOUND


async def reflected(rig: Rig, **request: Any) -> Any:
    reflection = reflection_pb2_grpc.ServerReflectionStub(rig.channel)
    call = reflection.ServerReflectionInfo(timeout=SECONDS)
    await call.write(reflection_pb2.ServerReflectionRequest(**request))
    await call.done_writing()
    return await call.read()


async def test_reflection_describes_the_api(rig: Rig) -> None:
    listed = await reflected(rig, list_services="")
    names = {each.name for each in listed.list_services_response.service}
    assert {*SERVICES, "jan.auth.v1.AuthService", "grpc.health.v1.Health"} <= names
    found = await reflected(rig, file_containing_symbol="jan.llm.v1.ChatService")
    file = FileDescriptorProto.FromString(found.file_descriptor_response.file_descriptor_proto[0])
    assert file.name == "jan/llm/v1/chat.proto"


async def test_reflection_is_off_in_production(tmp_path: Path) -> None:
    async with running(tmp_path, "llm", jan_provider_configs=False, environment="production") as rig:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await reflected(rig, list_services="")
    assert error.value.code() == StatusCode.UNIMPLEMENTED


async def test_the_version_is_public(rig: Rig) -> None:
    status = status_pb2_grpc.StatusServiceStub(rig.channel)
    answer = await status.GetVersion(
        status_pb2.GetVersionRequest(), timeout=SECONDS, metadata=(("x-request-id", "my-id"),)
    )
    assert (answer.data.version, answer.meta.request_id) == (__version__, "my-id")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("my-id", True), ("A.b:c_9-", True), ("x" * 128, True), ("x" * 129, False), ("no spaces", False), ("", False)],
)
async def test_a_request_id_is_kept_when_it_is_one(rig: Rig, given: str, kept: bool) -> None:
    status = status_pb2_grpc.StatusServiceStub(rig.channel)
    metadata = (("x-request-id", given),)
    answer = await status.GetVersion(status_pb2.GetVersionRequest(), timeout=SECONDS, metadata=metadata)
    assert (answer.meta.request_id == given) is kept
    assert kept or answer.meta.request_id.startswith("req_")


async def test_a_service_with_all_it_needs_is_ready(rig: Rig) -> None:
    status = status_pb2_grpc.StatusServiceStub(rig.channel)
    assert (await status.GetReadiness(status_pb2.GetReadinessRequest(), timeout=SECONDS)).status == "ready"


@asynccontextmanager
async def answering(**checks: Check) -> AsyncIterator[Any]:
    """A stub of a server that has nothing but its status, which depends on `checks`."""
    status = StatusServicer(checks, commit="abc")
    verifier = TokenVerifier(KeyFile(Path("/none")), issuer="", audience="", skew=0)
    door = Door(Policy(verifier, status_pb2.DESCRIPTOR.services_by_name.values()), METRICS, longest=SECONDS)
    mounted = Mounted("jan.common.v1.StatusService", status_pb2_grpc.add_StatusServiceServicer_to_server, status)
    server = Server("127.0.0.1:0", [mounted], status=status, door=door, max_message_bytes=1024, reflected=[])
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield status_pb2_grpc.StatusServiceStub(channel)
    await server.stop(0)


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


async def boom() -> bool:
    raise RuntimeError("password=hunter2 at db.internal")


async def test_a_service_that_misses_something_says_what_it_waits_for() -> None:
    async with answering(keys=yes, database=no) as status:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await status.GetReadiness(status_pb2.GetReadinessRequest(), timeout=SECONDS)
    assert (error.value.code(), error.value.details()) == (
        StatusCode.UNAVAILABLE,
        "The service is waiting for: database",
    )
    assert details(error.value)["RetryInfo"].retry_delay.seconds == 1


async def test_a_fault_of_ours_tells_the_log_and_not_the_client(caplog: pytest.LogCaptureFixture) -> None:
    metadata = (("x-request-id", "my-id"),)
    async with answering(database=boom) as status:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await status.GetReadiness(status_pb2.GetReadinessRequest(), timeout=SECONDS, metadata=metadata)
    assert error.value.code() == StatusCode.INTERNAL
    info = details(error.value)["ErrorInfo"]
    assert (info.reason, info.metadata["request_id"]) == ("SERVER_ERROR", "my-id")
    told = f"{error.value.details()} {error.value.trailing_metadata()}"
    assert "hunter2" not in told
    assert "RuntimeError" not in told
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "hunter2" in caplog.text
    assert record.__dict__["request_id"] == "my-id"


async def test_a_method_that_does_not_exist_is_unimplemented(rig: Rig) -> None:
    call = rig.channel.unary_unary("/jan.llm.v1.ChatService/Nothing")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(b"", timeout=SECONDS)
    assert error.value.code() == StatusCode.UNIMPLEMENTED


async def test_a_request_that_is_no_message_is_refused(rig: Rig) -> None:
    call = rig.channel.unary_unary("/jan.llm.v1.ModelService/GetModel")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(b"\xff\xff", timeout=SECONDS, metadata=rig.signed_in)
    assert error.value.code() == StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(b"\xff\xff", timeout=SECONDS)
    assert error.value.code() == StatusCode.UNAUTHENTICATED


async def test_a_message_above_the_limit_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, "llm", jan_provider_configs=False, max_body_bytes=1024) as rig:
        call = rig.channel.unary_unary("/jan.llm.v1.ModelService/GetModel")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call(bytes(128 * 1024), timeout=SECONDS, metadata=rig.signed_in)
    assert error.value.code() == StatusCode.RESOURCE_EXHAUSTED


async def test_on_stop_running_streams_finish_and_new_calls_are_turned_away(tmp_path: Path) -> None:
    with FakeUpstream() as upstream:
        file = tmp_path / "providers.yml"
        file.write_text(f"providers: {{default: [{{name: fake, url: '{upstream.url}', models: [m]}}]}}")
        gate = upstream.gate()
        upstream.script(stream("a", "b", gate=gate))
        async with running(tmp_path, "llm", jan_provider_configs_file=file) as rig:
            request = chat_pb2.CreateChatCompletionRequest(model="m")
            request.messages.add(role="user").content.string_value = "Hi"
            health = health_pb2_grpc.HealthStub(rig.channel).Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS)
            assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
            call = chat_pb2_grpc.ChatServiceStub(rig.channel).StreamChatCompletion(
                request, metadata=rig.signed_in, timeout=SECONDS
            )
            gate.release()
            chunks = [await call.read()]
            stopping = asyncio.create_task(rig.server.stop(grace=SECONDS))
            assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            health.cancel()
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await check(rig, "")
            assert error.value.code() in (StatusCode.UNAVAILABLE, StatusCode.CANCELLED)
            gate.release(10)
            chunks += [await call.read() for _ in range(2)]
            assert await call.read() is grpc.aio.EOF
            await stopping
    assert [each.choices[0].delta.content.string_value for each in chunks] == ["a", "b", ""]


async def test_readiness_and_health_follow_the_auth_room_of_another_process(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "auth") as auth,
        running(tmp_path / "worker", auth=f"127.0.0.1:{auth.server.port}") as worker,
    ):
        status = status_pb2_grpc.StatusServiceStub(worker.channel)  # type: ignore[no-untyped-call]
        health = health_pb2_grpc.HealthStub(worker.channel)
        asked = health_pb2.HealthCheckRequest(service="jan.auth.v1.AuthService")
        states = health_pb2.HealthCheckResponse
        assert (await status.GetReadiness(status_pb2.GetReadinessRequest(), timeout=SECONDS)).status == "ready"
        assert (await health.Check(asked, timeout=SECONDS)).status == states.SERVING
        await auth.server.stop(0)
        with pytest.raises(grpc.aio.AioRpcError, match="waiting for: auth"):
            await status.GetReadiness(status_pb2.GetReadinessRequest(), timeout=SECONDS)
        assert (await health.Check(asked, timeout=SECONDS)).status == states.NOT_SERVING
