"""What the gateway's filters are told that depends on settings: whose tokens pass, and who is counted by what."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from services.runtime.config import Settings
from services.runtime.identity import EXTERNAL_JWKS, JWKS
from services.runtime.limits import BUCKET
from services.runtime.refusals import retry_details, too_large_details

_CLAIMS = "envoy.filters.http.jwt_authn"  # where that filter puts them, under `jwt` and `external`

_TOKEN = {"safe_regex": {"regex": ".*[Bb]earer .*"}}
_NO_TOKEN = {"string_match": _TOKEN, "invert_match": True, "treat_missing_header_as_empty": True}


def key_files(settings: Settings) -> list[str]:
    """The key sets that Envoy reads."""
    return [JWKS, EXTERNAL_JWKS] if settings.oidc_issuer_url else [JWKS]


def issuers(settings: Settings) -> dict[str, Any]:
    """Whose tokens pass. The claims of each issuer have a place of their own: those of another are never ours."""
    own = _provider(settings, settings.issuer, settings.auth_audience, JWKS, "jwt")
    if not settings.oidc_issuer_url:
        return {"providers": {"own": own}, **_requirements(["own"]), "external": []}
    external = _provider(settings, settings.oidc_issuer_url, settings.external_audience, EXTERNAL_JWKS, "external")
    providers = {"own": own, "external": external}
    return {"providers": providers, **_requirements(list(providers)), "external": [{}]}


def _requirements(providers: list[str]) -> dict[str, Any]:
    """What a `user` route asks for, and an `optional` one: there no token is as good as a good one."""
    good: list[dict[str, Any]] = [{"provider_name": name} for name in providers]
    any_of, or_none = ({"requires_any": {"requirements": each}} for each in (good, [*good, {"allow_missing": {}}]))
    return {"requirement": any_of if len(good) > 1 else good[0], "optional_requirement": or_none}


def _provider(settings: Settings, issuer: str, audience: str, keys: str, claims: str) -> dict[str, Any]:
    return {
        "issuer": issuer,
        "audiences": [audience],
        "forward": True,  # services verify it again and trust nothing else
        "require_expiration": True,  # without it a token with no `exp` lives for ever
        "clock_skew_seconds": math.ceil(settings.auth_clock_skew),
        "from_headers": [  # naming them also closes ?access_token=
            {"name": "authorization", "value_prefix": scheme} for scheme in ("Bearer ", "bearer ")
        ],
        "payload_in_metadata": claims,
        "jwt_cache_config": {"jwt_cache_size": 4096},
        "remote_jwks": {  # a local file would never be read again; see the listener `jwks`
            "http_uri": {"uri": f"http://jwks/{keys}", "cluster": "jwks", "timeout": "2s"},
            "cache_duration": "2s",
            "async_fetch": {"fast_listener": True, "failed_refetch_duration": "1s"},
        },
    }


def limits(settings: Settings) -> dict[str, Any]:
    """What is counted, by this gateway or by a service that several share."""
    on, shared = settings.rate_limits != "off", settings.rate_limit_service
    host, _, port = shared.rpartition(":")
    address = {"socket_address": {"address": host, "port_value": int(port or 0)}}
    told = [("x-edge-start", "%START_TIME(%s)%"), ("x-edge-hits", f"%DYNAMIC_METADATA({_CLAIMS}:jwt:hits)%")]
    return {
        "own_limits": [{}] if on and not shared else [],
        "shared_limits": [{"limits_address": address}] if on and shared else [],
        "told": [{"header": header, "value": value} for header, value in told] if on else [],
        "enforced": 100 if settings.rate_limits == "enforce" else 0,
        "per_minute": settings.rate_limit_per_minute,
        "units": BUCKET,
        "counted": [_shared(row) if shared else _own(row) for row in _callers()],
    }


def _callers() -> list[dict[str, Any]]:
    """Kinds of callers, as actions of Envoy's rate limits: a request is counted by the row whose claims it has."""
    route = {"key": "limits", "path": [{"key": "caller"}]}
    address = {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}  # who has one IPv6 address has 2**64
    anonymous = [
        {"metadata": {"descriptor_key": "caller", "source": "ROUTE_ENTRY", "metadata_key": route}},
        {"masked_remote_address": address},
    ]
    # A route where a credential is optional has the header; what jwt_authn takes for a token it has verified.
    unknown = [{"name": "x-edge-stranger", "present_match": True}, {"name": "authorization", **_NO_TOKEN}]
    stranger = {"descriptor_key": "caller", "descriptor_value": "address", "headers": unknown}
    method = _claim("caller", "jwt", "auth_method", default="jwt")
    external = {"generic_key": {"descriptor_key": "caller", "descriptor_value": "external"}}
    return [
        {"actions": anonymous},
        {"actions": [{"header_value_match": stranger}, {"masked_remote_address": address}]},
        {"actions": [external, _claim("account", "external", "sub")]},
        {"actions": [method, _claim("account", "jwt", "sub")]},
        {"actions": [_claim("caller", "jwt", "auth_method"), _claim("api_key", "jwt", "sid")], "key": True},
    ]


def _claim(entry: str, *path: str, default: str = "") -> dict[str, Any]:
    where = {"key": _CLAIMS, "path": [{"key": each} for each in path]}
    return {"metadata": {"descriptor_key": entry, "default_value": default, "source": "DYNAMIC", "metadata_key": where}}


def _own(row: dict[str, Any]) -> dict[str, Any]:
    """Envoy's buckets fill up all the time; with the minute in its name each is a window of its own."""
    minute = {"request_headers": {"descriptor_key": "minute", "header_name": "x-edge-minute"}}
    hits = {"hits_addend": {"format": f"%DYNAMIC_METADATA({_CLAIMS}:jwt:hits)%"}} if "key" in row else {}
    return {"actions": [*row["actions"], minute], **hits}


def _shared(row: dict[str, Any]) -> dict[str, Any]:
    where = {"key": _CLAIMS, "path": [{"key": "jwt"}, {"key": "limit"}]}
    limit = {"limit": {"dynamic_metadata": {"metadata_key": where}}} if "key" in row else {}
    return {"actions": row["actions"], **limit}


def script(path: Path) -> str:
    """The Lua at `path`, behind the values that it shares with us."""
    details = ",\n".join(f'"{each}"' for each in retry_details())
    too_large = f'local TOO_LARGE = "{too_large_details()}"'
    return f"local UNITS = {BUCKET}\n{too_large}\nlocal RETRY_IN = {{\n{details}\n}}\n\n{path.read_text()}"
