"""The gateway's routes, made from descriptors, and the template that they are put into."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jan.auth.v1 import auth_pb2
from jan.common.v1 import status_pb2
from jan.llm.v1 import chat_pb2, models_pb2
from jan.media.v1 import media_pb2

from services.runtime import edge
from services.runtime.api import APIS
from services.runtime.config import ConfigError, Settings
from services.runtime.routes import (
    GRPC,
    Access,
    AmbiguousRoute,
    Operation,
    Route,
    aliases,
    operations,
    pattern,
    routes,
)
from services.runtime.template import fill

FILES = {
    "auth": (auth_pb2.DESCRIPTOR,),
    "worker": (chat_pb2.DESCRIPTOR, media_pb2.DESCRIPTOR, models_pb2.DESCRIPTOR, status_pb2.DESCRIPTOR),
}
ENDPOINTS = {"auth": ["unix:/run/a.sock"], "worker": ["unix:/run/w0.sock", "unix:/run/w1.sock"]}


def chosen(table: list[Route], verb: str, path: str) -> Route | None:
    """The route Envoy takes: the first that matches."""
    matching = (each for each in table if each.verb == verb and (each.path == path or re.fullmatch(each.regex, path)))
    return next(matching, None)


def operation(verb: str, path: str, *, access: Access = "user", cluster: str = "worker", prefix: str = "") -> Operation:
    return Operation(verb, path, cluster, access, generation=False, prefix=prefix)


def test_every_method_is_reachable_as_grpc_and_by_its_http_rules() -> None:
    table = operations(FILES)
    assert Operation("POST", "/auth/guest-login", "auth", "public", False) in table
    assert Operation("GET", "/v1/users/me", "auth", "user", False) in table
    assert Operation("POST", "/v1/chat/completions", "worker", "user", True) in table
    assert Operation("PUT", "/v1/media/uploads/*", "worker", "public", True, pieces=True) in table
    assert Operation("HEAD", "/v1/media/{id}/content", "worker", "optional", True) in table
    assert Operation(GRPC, "/GetJwks", "auth", "public", False, prefix="/jan.auth.v1.AuthService") in table
    methods = [m for files in FILES.values() for f in files for s in f.services_by_name.values() for m in s.methods]
    assert len([each for each in table if each.verb == GRPC]) == len(methods)


@pytest.mark.parametrize(
    ("template", "matches", "others"),
    [
        ("/v1/models", ["/v1/models"], ["/v1/models/", "/v1/model", "/v1/modelsx", "/x/v1/models"]),
        ("/v1/items/{id}", ["/v1/items/a", "/v1/items/a.b"], ["/v1/items/", "/v1/items", "/v1/items/a/b"]),
        ("/v1/models/{id=**}", ["/v1/models/a", "/v1/models/a/b"], ["/v1/models", "/v1/models/", "/v1/models/a/"]),
        ("/v1/a/*", ["/v1/a/x", "/v1/a/x.y"], ["/v1/a", "/v1/a/", "/v1/a/x/y"]),
        ("/v1/a/{id}/b", ["/v1/a/x/b"], ["/v1/a/b", "/v1/a/x/y/b"]),
        ("/v1/a/{id}:cancel", ["/v1/a/x:cancel"], ["/v1/a/x"]),
        ("/.well-known/x", ["/.well-known/x"], ["/awell-known/x"]),
    ],
)
def test_a_path_template_becomes_a_regex(template: str, matches: list[str], others: list[str]) -> None:
    regex = re.compile(pattern(template))
    assert [path for path in matches if not regex.fullmatch(path)] == []
    assert [path for path in others if regex.fullmatch(path)] == []


def test_a_route_knows_cluster_access_and_kind() -> None:
    own = operations(FILES)
    table = routes([*own, *aliases(own, ["/llm", "/api/llm"])], exact=["/v1/chat/completions"])
    assert table[0] == Route("POST", "worker", "user", True, path="/v1/chat/completions")
    for path, cluster, access in (
        ("/auth/me", "auth", "user"),
        ("/api/llm/auth/me", "auth", "user"),
        ("/v1/models", "worker", "user"),
        ("/llm/v1/models/org/name", "worker", "user"),
        ("/llm/readyz", "worker", "public"),
        ("/llm/v1/media/jan_1/content", "worker", "optional"),
        ("/v1/media/jan_1/presign", "worker", "user"),
    ):
        route = chosen(table, "GET", path)
        assert route
        assert (route.cluster, route.access) == (cluster, access)
    alias = chosen(table, "POST", "/llm/v1/chat/completions")
    assert alias
    assert alias.generation
    for verb, path in (("POST", "/v1/models"), ("GET", "/llm/llm/v1/models"), ("GET", "/jan.llm.v1.ModelService/X")):
        assert chosen(table, verb, path) is None


def test_what_may_take_long_is_not_cut_off_by_the_gateway() -> None:
    (tools,) = (api for api in APIS if api.name == "mcp-tools")
    slow = {each.prefix + each.path: each.generation for each in operations(tools.files) if each.verb == GRPC}
    assert slow["/jan.mcp.v1.ToolService/CallTool"]
    assert slow["/jan.mcp.v1.McpService/PostHttp"]
    assert not slow["/jan.mcp.v1.AdminToolService/UpdateAdminTool"]


@pytest.mark.parametrize("prefix", ["", "/media"])
def test_requests_that_are_streams_have_routes_of_their_own(prefix: str) -> None:
    own = operations(FILES)
    table = routes([*own, *aliases(own, ["/media"])])
    for verb, path, pieces in (
        ("POST", "/v1/media", True),
        ("POST", "/v1/media/upload", True),
        ("POST", "/v1/media/uploads", True),
        ("PUT", "/v1/media/uploads/jan_1", True),
        ("POST", "/v1/media/resolve", False),
        ("GET", "/v1/media", False),
    ):
        route = chosen(table, verb, prefix + path)
        assert route
        assert (path, route.pieces) == (path, pieces)


def test_few_routes_cover_many_operations() -> None:
    own = [operation("GET", f"/v1/things{n}/{{id}}", prefix=prefix) for n in range(100) for prefix in ("", "/a", "/b")]
    table = routes(own)
    assert len(table) == 1
    assert len(table[0].regex) < 3000
    assert chosen(table, "GET", "/b/v1/things42/x") == table[0]


def test_fixed_segments_win_over_variables() -> None:
    table = routes([operation("GET", "/v1/things/{id}"), operation("GET", "/v1/things/special", cluster="other")])
    assert getattr(chosen(table, "GET", "/v1/things/special"), "cluster", "") == "other"
    assert getattr(chosen(table, "GET", "/v1/things/normal"), "cluster", "") == "worker"


def test_a_public_path_may_lie_within_a_private_pattern() -> None:
    table = routes([operation("GET", "/v1/things/{id=**}"), operation("GET", "/v1/things/shared/all", access="public")])
    assert getattr(chosen(table, "GET", "/v1/things/shared/all"), "access", None) == "public"
    assert getattr(chosen(table, "GET", "/v1/things/shared/mine"), "access", None) == "user"


@pytest.mark.parametrize("closed", ["/v1/things/mine", "/v1/things/{id}", "/v1/things/{id}/secret"])
@pytest.mark.parametrize(("wide", "narrow"), [("public", "user"), ("public", "optional"), ("optional", "user")])
def test_a_pattern_over_a_path_for_fewer_stops_the_start(closed: str, wide: Access, narrow: Access) -> None:
    for template in ("/v1/things/{id=**}", "/v1/things/**"):
        with pytest.raises(AmbiguousRoute):
            routes([operation("GET", closed, access=narrow), operation("GET", template, access=wide)])
        routes([operation("POST", closed, access=narrow), operation("GET", template, access=wide)])


def test_the_first_operation_of_a_path_counts() -> None:
    table = routes([operation("GET", "/readyz", cluster="first"), operation("GET", "/readyz", cluster="second")])
    assert [each.cluster for each in table] == ["first"]


def test_fill_replaces_values_and_repeats_items() -> None:
    template = {
        "port": "${port}",
        "text": "at ${host}:${port}",
        "list": [{"$each": "rows", "name": "${name}", "port": "${port}"}, "last"],
        "inline": [{"$each": [{"n": "${port}"}, {"n": 2}], "value": "${n}"}],
    }
    values = {"port": 80, "host": "h", "rows": [{"name": "a"}, {"name": "b", "port": 81}]}
    assert fill(template, values) == {
        "port": 80,
        "text": "at h:80",
        "list": [{"name": "a", "port": 80}, {"name": "b", "port": 81}, "last"],
        "inline": [{"value": 80}, {"value": 2}],
    }
    with pytest.raises(KeyError, match="unknown"):
        fill("${unknown}", values)


def _http(config: dict[str, Any]) -> dict[str, Any]:
    chain: dict[str, Any] = config["static_resources"]["listeners"][0]["filter_chains"][0]
    return chain["filters"][0]["typed_config"]


def test_the_gateway_and_each_service_have_a_port(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, gateway_port=1000, llm_api_port=1001, media_api_port=1002)
    own = {each.name: [str(each.port(settings))] for each in APIS}
    config = edge.render(settings, ENDPOINTS, tmp_path)
    hosts = {each["name"]: each["domains"] for each in _http(config)["route_config"]["virtual_hosts"]}
    assert hosts == {"gateway": ["1000"], **own}
    assert (own["llm-api"], own["media-api"]) == (["1001"], ["1002"])
    assert list(tmp_path.iterdir()) == []


def test_every_route_needs_a_jwt_unless_it_is_public(tmp_path: Path) -> None:
    config = edge.render(Settings(data_dir=tmp_path), ENDPOINTS, tmp_path)
    for host in _http(config)["route_config"]["virtual_hosts"]:
        assert host["typed_per_filter_config"]["envoy.filters.http.jwt_authn"]["requirement_name"] == "user"
        table = [
            each for served in APIS if host["name"] in ("gateway", served.name) for each in operations(served.files)
        ]
        found = []
        for route in (each for each in host["routes"] if "route" in each and "OPTIONS" not in str(each["match"])):
            jwt = route.get("typed_per_filter_config", {}).get("envoy.filters.http.jwt_authn", {})
            access = "public" if jwt.get("disabled") else jwt.get("requirement_name", "user")
            covered = [each for each in table if covers(route["match"], each)]
            assert [each for each in covered if each.access != access] == []
            found += covered
        assert set(found) == set(table)


def test_what_arrives_in_pieces_is_not_kept_whole_for_another_attempt(tmp_path: Path) -> None:
    config = edge.render(Settings(data_dir=tmp_path), ENDPOINTS, tmp_path)
    for host in _http(config)["route_config"]["virtual_hosts"]:
        for route in (each for each in host["routes"] if "route" in each):
            for each in operations(FILES):
                if each.pieces and covers(route["match"], each):
                    assert route["request_body_buffer_limit"] == 65536


def covers(match: dict[str, Any], each: Operation) -> bool:
    """Whether a route takes calls of an operation."""
    path = re.sub(r"\{[^}]+\}|\*+", "x", each.prefix + each.path)
    native = "content-type" in str(match.get("headers"))
    verb = native if each.verb == GRPC else f"'exact': '{each.verb}'" in str(match.get("headers"))
    regex = match.get("safe_regex", {}).get("regex", re.escape(match.get("path", "")))
    return verb and re.fullmatch(regex, path) is not None


def test_a_service_ends_a_stream_before_the_gateway_cuts_it_off(tmp_path: Path) -> None:
    for seconds in (20.0, 600.0):
        config = edge.render(Settings(data_dir=tmp_path, stream_timeout=seconds), ENDPOINTS, tmp_path)
        routes_ = [each for host in _http(config)["route_config"]["virtual_hosts"] for each in host["routes"]]
        chat = next(each["route"] for each in routes_ if each["match"].get("path") == "/v1/chat/completions")
        timeout, idle = (float(chat[name].removesuffix("s")) for name in ("timeout", "idle_timeout"))
        assert timeout == seconds + 5
        assert idle >= timeout


def test_reflection_can_be_switched_off(tmp_path: Path) -> None:
    on = Settings(data_dir=tmp_path, environment="development")
    off = replace(on, environment="production")
    assert "grpc.reflection" in str(edge.render(on, ENDPOINTS, tmp_path))
    assert "grpc.reflection" not in str(edge.render(off, ENDPOINTS, tmp_path))


def test_endpoints_are_sockets_or_hosts(tmp_path: Path) -> None:
    config = edge.render(Settings(data_dir=tmp_path), {"auth": ["auth:1"], "worker": ["unix:/w.sock"]}, tmp_path)
    clusters = {each["name"]: each for each in config["static_resources"]["clusters"]}
    assert (clusters["auth"]["type"], clusters["worker"]["type"]) == ("STRICT_DNS", "STATIC")
    with pytest.raises(ConfigError, match="nonsense"):
        edge.render(Settings(data_dir=tmp_path), {"auth": ["nonsense"]}, tmp_path)
