"""The gateway's own refusals: each says the same in its three ways."""

from __future__ import annotations

import base64

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from jan.common.v1 import error_reason_pb2

from services.runtime import edge_filters
from services.runtime.config import Settings
from services.runtime.refusals import denials, refusals, retry_details

ROWS = refusals(1000)
CODES = {code.value[0]: code for code in grpc.StatusCode}


def status(details: str) -> status_pb2.Status:
    return status_pb2.Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4)))


@pytest.mark.parametrize("row", ROWS, ids=[row["code"] + row["status"] for row in ROWS])
def test_details_name_the_same_code_reason_and_words(row: dict[str, str]) -> None:
    found = status(row["details"])
    info = error_details_pb2.ErrorInfo()
    assert found.details[0].Unpack(info)
    assert (str(found.code), found.message) == (row["grpc_status"], row["words"])
    assert (info.domain, info.metadata["type"]) == ("jan.server", row["type"])
    assert info.reason == row["code"].upper()
    assert error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{info.reason}")
    assert row["connect"] == CODES[found.code].name.lower()


def test_the_last_row_leaves_nothing_out() -> None:
    assert ROWS[-1]["when"] == "response.code >= 400"
    assert [row["when"] for row in ROWS].index("response.code >= 500") == len(ROWS) - 2


def test_rows_of_the_auth_room_have_a_status_each() -> None:
    assert [row["status"] for row in denials()] == ["401", "403", "429", "503", "500"]
    assert all(row["when"].endswith(row["status"]) for row in denials())


def test_there_are_details_for_every_second_of_a_minute() -> None:
    for seconds, details in enumerate(retry_details(), 1):
        retry = error_details_pb2.RetryInfo()
        assert status(details).details[1].Unpack(retry)
        assert retry.retry_delay.ToSeconds() == seconds
    assert len(retry_details()) == 60


def test_only_with_an_external_issuer_is_there_a_second_provider() -> None:
    alone = edge_filters.issuers(Settings())
    assert (list(alone["providers"]), alone["requirement"]) == (["own"], {"provider_name": "own"})
    both = edge_filters.issuers(Settings(oidc_issuer_url="https://login.test", oidc_client_id="jan"))
    places = {name: each["payload_in_metadata"] for name, each in both["providers"].items()}
    assert places == {"own": "jwt", "external": "external"}
    assert both["providers"]["external"]["audiences"] == ["jan"]


@pytest.mark.parametrize(
    ("settings", "own", "shared"),
    [
        (Settings(rate_limit_mode="off"), False, False),
        (Settings(rate_limit_mode="off", rate_limit_service="limits:1"), False, False),
        (Settings(rate_limit_mode="report"), True, False),
        (Settings(rate_limit_mode="enforce", rate_limit_service="limits:1"), False, True),
    ],
)
def test_one_counts_or_nobody(settings: Settings, own: bool, shared: bool) -> None:
    limits = edge_filters.limits(settings)
    assert (bool(limits["own_limits"]), bool(limits["shared_limits"])) == (own, shared)
    assert limits["enforced"] == (100 if settings.rate_limits == "enforce" else 0)
    assert bool(limits["told"]) == (own or shared)
