"""Settings: one dataclass field per environment variable, parsed once at start.

The variable's name is the field's name in capitals. A value that does not parse stops the start with one clear line.
`docs/configuration.md` names every field; a test holds it to that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
"""Where metrics are served, whatever `bind_address` is."""

SHORTEST_PASSWORD, LONG_PASSWORD = 8, 12
"""Characters of a password that is accepted, and of one that is in production."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


class ConfigError(Exception):
    """A setting or a configuration file that cannot be used; the message names it and the remedy."""


def _text(value: str) -> str:
    return value


def _integer(value: str) -> int:
    if not re.fullmatch(r"-?\d+", value):
        raise ValueError("expected a whole number")
    return int(value)


def _count(value: str) -> int:
    count = _integer(value)
    if count < 1:
        raise ValueError("expected at least 1")
    return count


def _number(value: str) -> int:
    count = _integer(value)
    if count < 0:
        raise ValueError("expected 0 or more")
    return count


def _port(value: str) -> int:
    port = _integer(value)
    if not 0 < port < 65536:
        raise ValueError("a port is between 1 and 65535")
    return port


def _boolean(value: str) -> bool:
    lowered = value.lower()
    if lowered not in _TRUE | _FALSE:
        raise ValueError("expected true or false")
    return lowered in _TRUE


def _duration(value: str) -> float:
    """Seconds from `15s`, `5m`, `720h`, `1h30m`; a bare number is seconds."""
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h|d))+", value):
        raise ValueError("expected a duration such as 15s, 5m or 720h")
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m|h|d)", value))


def life(value: str) -> float:
    """A duration of more than nothing."""
    seconds = _duration(value)
    if seconds <= 0:
        raise ValueError("expected more than 0 seconds")
    return seconds


def _address(value: str) -> str:
    """An IP address: the gateway takes no names. `localhost` is the one name whose meaning is known."""
    try:
        return str(ip_address("127.0.0.1" if value == "localhost" else value))
    except ValueError:
        raise ValueError("expected an IP address such as 127.0.0.1, 0.0.0.0 or ::1") from None


def _base_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is none, half an IPv6 address
        known = False
    if not known:
        raise ValueError("expected an address such as https://ai.example.com")
    return value


def _file(value: str) -> Path:
    """A file that was asked for by name has to be there."""
    if not Path(value).is_file():
        raise ValueError("there is no such file")
    return Path(value)


def _words(value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


def _pairs(value: str) -> dict[str, str]:
    """A mapping from `alias=target,alias=target`."""
    pairs = dict(word.split("=", 1) for word in _words(value) if "=" in word)
    if len(pairs) != len(_words(value)):
        raise ValueError("expected name=target pairs separated by commas")
    return pairs


def _optional_url(value: str) -> str:
    return _base_url(value) if value else value


def _key_prefix(value: str) -> str:
    """What an API key begins with must tell it from a JWT."""
    if not re.fullmatch(r"sk_[a-z0-9_]{1,20}", value):
        raise ValueError("expected sk_ and up to 20 more of a-z, 0-9 and _")
    return value


def _secret(value: str) -> str:
    if len(value) < 32:
        raise ValueError("expected at least 32 characters, such as `openssl rand -hex 32` prints")
    return value


def _endpoint(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("expected host:port")
    return value


def _one_of(*allowed: str) -> Any:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"expected one of {', '.join(allowed)}")
        return value

    return parse


def _setting(default: Any, parse: Any, meaning: str) -> Any:
    """A field with its default, parser and one-line meaning (which the documentation repeats)."""
    metadata = {"parse": parse, "meaning": meaning}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Everything an operator can set. Durations are seconds, sizes are bytes."""

    environment: str = _setting(
        "development",
        _one_of("development", "production"),
        "`production` demands a PUBLIC_BASE_URL and switches gRPC reflection off",
    )
    public_base_url: str = _setting(
        "http://localhost:8000", _base_url, "base of absolute links and of the token issuer"
    )

    bind_address: str = _setting("127.0.0.1", _address, "IP address the listeners bind to")
    gateway_port: int = _setting(8000, _port, "gateway: every REST path and every gRPC service")
    llm_api_port: int = _setting(8080, _port, "LLM API: identity, chat, models")
    media_api_port: int = _setting(8285, _port, "Media API: images")
    mcp_tools_http_port: int = _setting(8091, _port, "MCP Tools: search, scrape, file search, python")
    metrics_port: int = _setting(9091, _port, "Prometheus metrics, on loopback only")
    trusted_proxies: int = _setting(0, _number, "how many proxies in front may set X-Forwarded-For")
    cors_allowed_origins: tuple[str, ...] = _setting(
        ("http://localhost:3000", "http://localhost:8000"), _words, "browser origins that may call the API; * for all"
    )

    data_dir: Path = _setting(Path(".data"), Path, "where all state lives")
    database_url: str = _setting("", _text, "PostgreSQL to use instead of the embedded one")
    data_secret: str = _setting("", _secret, "what stored answers are encrypted with; empty: made in DATA_DIR/keys")
    workers: int = _setting(max(1, (os.cpu_count() or 2) - 1), _count, "worker processes on one machine")

    max_body_bytes: int = _setting(32 * 1024 * 1024, _count, "largest request body")
    stream_timeout: float = _setting(600.0, life, "longest life of one generation")
    shutdown_timeout: float = _setting(30.0, _duration, "how long running requests may take to finish on stop")

    log_level: str = _setting("info", _one_of("debug", "info", "warning", "error"), "least severe level logged")
    log_format: str = _setting("json", _one_of("json", "text"), "one JSON object a line, or text")
    grpc_reflection: bool | None = _setting(None, _boolean, "gRPC reflection; unset: on except in production")

    auth_issuer: str = _setting("", _text, "`iss` of our tokens; empty: PUBLIC_BASE_URL")
    auth_audience: str = _setting("jan-server", _text, "`aud` of our tokens")
    auth_signing_alg: str = _setting("ES256", _one_of("ES256", "RS256", "EdDSA"), "signature algorithm of new keys")
    auth_signing_key_file: str = _setting("", _text, "PEM private key; empty: made in DATA_DIR/keys")
    auth_access_token_ttl: float = _setting(300.0, life, "life of an access token; those of guests live 300 s")
    auth_refresh_token_ttl: float = _setting(720 * 3600.0, life, "life of a refresh token")
    auth_clock_skew: float = _setting(60.0, _duration, "tolerated difference between clocks")
    auth_guest_enabled: bool = _setting(True, _boolean, "whether POST /auth/guest-login makes guest accounts")

    admin_email: str = _setting("", _text, "mail address of the first administrator, made at start when there is none")
    admin_password: str = _setting("", _text, "password of the first administrator")

    api_key_prefix: str = _setting("sk_live", _key_prefix, "what new API keys begin with")
    api_key_max_per_user: int = _setting(5, _count, "how many active API keys one account may have")
    api_key_default_ttl: float = _setting(2160 * 3600.0, life, "life of an API key that asks for none")
    api_key_max_ttl: float = _setting(8760 * 3600.0, life, "longest life of an API key")

    rate_limit_mode: str = _setting(
        "",
        _one_of("off", "report", "enforce"),
        "`report` only tells, `enforce` refuses; unset: report in development, enforce in production",
    )
    rate_limit_per_minute: int = _setting(100, _count, "requests a minute of one account, API key or anonymous address")
    rate_limit_default_tier: str = _setting("", _one_of("free", "pro", "enterprise"), "tier of API keys that have none")
    rate_limit_service: str = _setting(
        "",
        _endpoint,
        "host:port of an Envoy rate limit service that counts for several gateways; empty: each for itself",
    )

    oidc_issuer_url: str = _setting("", _optional_url, "external OpenID Connect provider; empty: none")
    oidc_client_id: str = _setting("", _text, "our client id there")
    oidc_client_secret: str = _setting("", _text, "our client secret there; empty for a public client")
    oidc_redirect_uri: str = _setting("", _optional_url, "our callback; empty: PUBLIC_BASE_URL/auth/callback")
    oidc_audience: str = _setting("", _text, "`aud` of its access tokens; empty: OIDC_CLIENT_ID")
    oidc_scopes: str = _setting("openid profile email", _text, "what a sign-in asks for")
    oidc_roles_claim: str = _setting("realm_access.roles", _text, "dotted path of the claim with the roles")
    oidc_admin_role: str = _setting("admin", _text, "role there that makes an administrator here")
    jwks_refresh_interval: float = _setting(300.0, life, "how often its keys are read again")
    oauth_redirect_allowlist: tuple[str, ...] = _setting(
        (), _words, "origins a sign-in may return to; empty: CORS_ALLOWED_ORIGINS"
    )

    jan_provider_configs: bool = _setting(True, _boolean, "whether the providers file is read")
    jan_provider_configs_file: Path = _setting(
        Path("deploy/config/providers.yml"), _file, "the providers file; the default one may be missing"
    )
    jan_provider_config_set: str = _setting("default", _text, "which set of the providers file is used")
    jan_default_node_setup: bool = _setting(
        True, _boolean, "whether JAN_DEFAULT_NODE_URL and well-known local engines are looked for"
    )
    jan_default_node_url: str = _setting("http://localhost:8101/v1", _text, "the default OpenAI-compatible upstream")
    jan_default_node_api_key: str = _setting("", _text, "its API key")
    model_sync_enabled: bool = _setting(True, _boolean, "whether upstream model lists are read")
    model_sync_interval_minutes: int = _setting(60, _count, "minutes between two readings")
    model_provider_secret: str = _setting(
        "",
        _secret,
        "what API keys of providers made by administrators are encrypted with; empty: as DATA_SECRET says",
    )
    model_aliases: dict[str, str] = _setting({}, _pairs, "further model names: alias=model pairs")

    conversation_sharing_enabled: bool = _setting(True, _boolean, "whether conversations can be shared by a link")
    profile_prompt_enabled: bool = _setting(
        False, _boolean, "whether the profile in the settings of users is told to the models"
    )

    media_storage_backend: str = _setting(
        "s3", _one_of("s3", "local"), "where images are kept; `s3` without a bucket is `local` in development"
    )
    media_max_bytes: int = _setting(20 * 1024 * 1024, _count, "largest image")
    media_allowed_types: tuple[str, ...] = _setting(
        ("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff"),
        _words,
        "media types that are taken, of these six",
    )
    media_retention_days: int = _setting(30, _count, "days that an image is kept after it was last brought")
    media_s3_presign_ttl: float = _setting(300.0, life, "life of signed URLs, of either backend; at most 7 days")
    media_proxy_download: bool = _setting(True, _boolean, "whether bytes come through this server or from the store")
    media_remote_fetch_timeout: float = _setting(15.0, life, "how long fetching an image from a URL may take")
    media_remote_allow_hosts: tuple[str, ...] = _setting(
        (), _words, "hosts of private networks that URLs of users may lead to: names, addresses or networks"
    )
    media_local_storage_path: str = _setting("", _text, "directory of the `local` backend; empty: DATA_DIR/media")
    media_url_secret: str = _setting("", _secret, "what signs its URLs; empty: as DATA_SECRET says")
    media_s3_endpoint: str = _setting("", _optional_url, "address of the object store; empty: AWS")
    media_s3_public_endpoint: str = _setting(
        "", _optional_url, "address of it that clients reach, for signed URLs; empty: MEDIA_S3_ENDPOINT"
    )
    media_s3_region: str = _setting("us-east-1", _text, "its region")
    media_s3_bucket: str = _setting("", _text, "its bucket, which must exist")
    media_s3_access_key_id: str = _setting("", _text, "its access key; empty: as the environment says (AWS_…)")
    media_s3_secret_access_key: str = _setting("", _text, "its secret key")
    media_s3_use_path_style: bool = _setting(True, _boolean, "whether the bucket is in the path instead of the host")
    mcp_search_engine: str = _setting(
        "", _one_of("serper", "searxng", "offline"), "search engine; unset: Serper with a key, else SearXNG, else none"
    )
    serper_api_key: str = _setting("", _text, "API key for Serper (google.serper.dev)")
    serper_url: str = _setting("https://google.serper.dev", _base_url, "address of Serper")
    searxng_url: str = _setting("", _optional_url, "address of a SearXNG that answers in JSON")
    serper_domain_filter: tuple[str, ...] = _setting((), _words, "domains that results may come from; empty: all")
    serper_location_hint: str = _setting("", _text, "location that searches without one have")
    serper_offline_mode: bool = _setting(False, _boolean, "whether searches are answered without asking anybody")
    mcp_enable_file_search: bool = _setting(True, _boolean, "whether there are file_search_index and file_search_query")
    mcp_embedding_model: str = _setting("", _text, "model that embeds their texts; empty: the built-in one")
    vector_store_url: str = _setting("", _text, "PostgreSQL with pgvector for their texts; empty: DATABASE_URL")
    mcp_enable_python_exec: bool = _setting(True, _boolean, "whether there is python_exec")
    sandbox_fusion_url: str = _setting("", _optional_url, "address of a SandboxFusion; empty: the built-in sandbox")
    sandbox_cache_dir: Path | None = _setting(
        None, Path, "where the compiled sandbox is kept, 300 MB; empty: DATA_DIR/sandbox"
    )
    mcp_sandbox_require_approval: bool = _setting(False, _boolean, "whether python_exec needs `approved: true`")
    mcp_max_snippet_chars: int = _setting(5000, _count, "longest snippet of a search result, in characters")
    mcp_max_scrape_preview_chars: int = _setting(5000, _count, "longest preview of a scraped page, in characters")
    mcp_max_scrape_text_chars: int = _setting(50000, _count, "longest text of a scraped page, in characters")
    mcp_providers_file: Path = _setting(
        Path("deploy/config/mcp-providers.yml"), _file, "other MCP servers; the default file may be missing"
    )
    tool_execution_timeout: float = _setting(45.0, life, "how long one tool may run")
    mcp_service: str = _setting("", _endpoint, "host:port of the MCP room; empty: this process has it")
    llm_service: str = _setting("", _endpoint, "host:port of the LLM room; empty: this process has it")
    media_service: str = _setting("", _endpoint, "host:port of the media room; empty: this process has it")

    @property
    def issuer(self) -> str:
        return self.auth_issuer or self.public_base_url

    @property
    def rate_limits(self) -> str:
        """`off`, `report` or `enforce`."""
        return self.rate_limit_mode or ("enforce" if self.environment == "production" else "report")

    @property
    def callback(self) -> str:
        return self.oidc_redirect_uri or f"{self.public_base_url.rstrip('/')}/auth/callback"

    @property
    def external_audience(self) -> str:
        return self.oidc_audience or self.oidc_client_id

    @property
    def redirect_origins(self) -> tuple[str, ...]:
        return self.oauth_redirect_allowlist or self.cors_allowed_origins

    @property
    def reflection(self) -> bool:
        return self.environment != "production" if self.grpc_reflection is None else self.grpc_reflection


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; empty variables count as not given. Raises `ConfigError` naming the variable."""
    values: dict[str, Any] = {}
    for each in fields(Settings):
        raw = environ.get(each.name.upper(), "")
        if not raw:
            continue
        try:
            values[each.name] = each.metadata["parse"](raw.strip())
        except ValueError as error:
            raise ConfigError(f"{each.name.upper()}={raw!r}: {error}") from error
    settings = Settings(**values)
    _check_production(settings)
    _check_identity(settings)
    return settings


def _check_production(settings: Settings) -> None:
    host = urlsplit(settings.public_base_url).hostname
    if settings.environment == "production" and host in ("localhost", "127.0.0.1", "::1"):
        raise ConfigError(
            "ENVIRONMENT=production needs PUBLIC_BASE_URL, the address under which clients reach this server, "
            f"such as https://ai.example.com; it is {settings.public_base_url}"
        )
    if settings.environment == "production" and settings.admin_email and len(settings.admin_password) < LONG_PASSWORD:
        raise ConfigError(f"ENVIRONMENT=production needs an ADMIN_PASSWORD of at least {LONG_PASSWORD} characters")


def _check_identity(settings: Settings) -> None:
    if settings.oidc_issuer_url and not settings.oidc_client_id:
        raise ConfigError("OIDC_ISSUER_URL needs OIDC_CLIENT_ID, the id that this server has there")
    if settings.oidc_issuer_url == settings.issuer:
        raise ConfigError("OIDC_ISSUER_URL is the issuer of our own tokens: it must be that of another server")
    if settings.environment == "production" and urlsplit(settings.oidc_issuer_url).scheme == "http":
        raise ConfigError("ENVIRONMENT=production needs an OIDC_ISSUER_URL that begins with https://")
    if bool(settings.admin_email) != bool(settings.admin_password):
        raise ConfigError("ADMIN_EMAIL and ADMIN_PASSWORD make the first administrator together: set both or none")
    if settings.admin_email and len(settings.admin_password) < SHORTEST_PASSWORD:
        raise ConfigError(f"ADMIN_PASSWORD needs at least {SHORTEST_PASSWORD} characters")
