"""Settings from the environment: what parses, what is refused, and that a refusal names its variable."""

import re
from pathlib import Path

import pytest

from services.runtime.config import ConfigError, Settings, load


def test_an_empty_environment_gives_the_defaults() -> None:
    assert load({}) == Settings()


def test_an_empty_variable_counts_as_not_given() -> None:
    assert load({"GATEWAY_PORT": "", "DATA_DIR": ""}) == Settings()


def test_each_variable_is_the_field_in_capitals() -> None:
    settings = load({"GATEWAY_PORT": "9000", "DATA_DIR": "/srv/jan", "BIND_ADDRESS": "0.0.0.0"})
    assert (settings.gateway_port, settings.data_dir, settings.bind_address) == (9000, Path("/srv/jan"), "0.0.0.0")


@pytest.mark.parametrize(
    ("text", "seconds"), [("15s", 15), ("5m", 300), ("720h", 2_592_000), ("1h30m", 5400), ("250ms", 0.25), ("7", 7)]
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert load({"SHUTDOWN_TIMEOUT": text}).shutdown_timeout == seconds


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GATEWAY_PORT", "70000"),
        ("GATEWAY_PORT", "http"),
        ("WORKERS", "0"),
        ("WORKERS", "1_000"),
        ("SHUTDOWN_TIMEOUT", "soon"),
        ("SHUTDOWN_TIMEOUT", "-5s"),
        ("AUTH_GUEST_ENABLED", "maybe"),
        ("ENVIRONMENT", "staging"),
        ("MODEL_ALIASES", "gpt-4"),
        ("MAX_BODY_BYTES", "32MB"),
        ("MAX_BODY_BYTES", "0"),
        ("MAX_BODY_BYTES", "-1"),
        ("TRUSTED_PROXIES", "-1"),
        ("MODEL_SYNC_INTERVAL_MINUTES", "0"),
        ("MODEL_SYNC_INTERVAL_MINUTES", "-5"),
        ("STREAM_TIMEOUT", "0"),
        ("STREAM_TIMEOUT", "0ms"),
        ("AUTH_REFRESH_TOKEN_TTL", "0"),
        ("AUTH_CLOCK_SKEW", "-1s"),
        ("API_KEY_PREFIX", "key_live"),
        ("API_KEY_PREFIX", "sk_Live"),
        ("API_KEY_MAX_PER_USER", "0"),
        ("DATA_SECRET", "too short"),
        ("RATE_LIMIT_MODE", "on"),
        ("RATE_LIMIT_PER_MINUTE", "0"),
        ("RATE_LIMIT_DEFAULT_TIER", "gold"),
        ("RATE_LIMIT_SERVICE", "limiter.internal"),
        ("OIDC_ISSUER_URL", "login.example.com"),
        ("JWKS_REFRESH_INTERVAL", "0"),
        ("BIND_ADDRESS", "jan.example.com"),
        ("BIND_ADDRESS", "[::1]"),
        ("BIND_ADDRESS", "127.0.0.1:8000"),
        ("PUBLIC_BASE_URL", "ai.example.com"),
        ("PUBLIC_BASE_URL", "https://"),
        ("PUBLIC_BASE_URL", "ftp://ai.example.com"),
        ("JAN_PROVIDER_CONFIGS_FILE", "/nowhere/providers.yml"),
        ("JAN_PROVIDER_CONFIGS_FILE", "/"),
    ],
)
def test_a_value_that_does_not_parse_is_refused_by_the_name_of_its_variable(variable: str, value: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{variable}={value!r}: ")):
        load({variable: value})


def test_lists_and_pairs_are_separated_by_commas() -> None:
    settings = load({"CORS_ALLOWED_ORIGINS": "https://a.test, https://b.test", "MODEL_ALIASES": "fast=small,best=big"})
    assert settings.cors_allowed_origins == ("https://a.test", "https://b.test")
    assert settings.model_aliases == {"fast": "small", "best": "big"}


def test_the_issuer_follows_the_public_address_until_it_is_set() -> None:
    assert load({"PUBLIC_BASE_URL": "https://jan.test"}).issuer == "https://jan.test"
    assert load({"PUBLIC_BASE_URL": "https://jan.test", "AUTH_ISSUER": "https://id.test"}).issuer == "https://id.test"


@pytest.mark.parametrize(
    ("variable", "value"), [("TRUSTED_PROXIES", "0"), ("SHUTDOWN_TIMEOUT", "0"), ("AUTH_CLOCK_SKEW", "0s")]
)
def test_none_is_a_number_where_it_means_something(variable: str, value: str) -> None:
    assert getattr(load({variable: value}), variable.lower()) == 0


@pytest.mark.parametrize(
    ("text", "address"), [("localhost", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("::1", "::1"), ("0:0::1", "::1")]
)
def test_the_gateway_is_given_an_ip_address(text: str, address: str) -> None:
    assert load({"BIND_ADDRESS": text}).bind_address == address


def test_a_providers_file_that_exists_may_be_named(tmp_path: Path) -> None:
    file = tmp_path / "providers.yml"
    file.touch()
    assert load({"JAN_PROVIDER_CONFIGS_FILE": str(file)}).jan_provider_configs_file == file


PRODUCTION = {"ENVIRONMENT": "production", "PUBLIC_BASE_URL": "https://ai.example.com"}


@pytest.mark.parametrize("url", ["", "http://localhost:8000", "https://127.0.0.1", "http://[::1]:8000"])
def test_production_needs_an_address_that_others_can_reach(url: str) -> None:
    with pytest.raises(ConfigError, match="ENVIRONMENT=production needs PUBLIC_BASE_URL"):
        load({**PRODUCTION, "PUBLIC_BASE_URL": url})


@pytest.mark.parametrize("url", ["https://ai.example.com", "http://ai.internal:8000"])
def test_production_takes_the_address_it_is_given(url: str) -> None:
    assert load({**PRODUCTION, "PUBLIC_BASE_URL": url}).issuer == url


def test_reflection_is_off_in_production_unless_asked_for() -> None:
    assert load({}).reflection
    assert not load(PRODUCTION).reflection
    assert load({**PRODUCTION, "GRPC_REFLECTION": "true"}).reflection


def test_limits_are_enforced_in_production_and_only_told_in_development() -> None:
    assert load({}).rate_limits == "report"
    assert load({**PRODUCTION}).rate_limits == "enforce"
    assert load({**PRODUCTION, "RATE_LIMIT_MODE": "off"}).rate_limits == "off"


@pytest.mark.parametrize(
    ("environ", "remedy"),
    [
        ({"ADMIN_EMAIL": "root@example.com"}, "set both or none"),
        ({"ADMIN_PASSWORD": "correct horse"}, "set both or none"),
        ({"ADMIN_EMAIL": "root@example.com", "ADMIN_PASSWORD": "short"}, "at least 8 characters"),
        ({**PRODUCTION, "ADMIN_EMAIL": "root@example.com", "ADMIN_PASSWORD": "eightchr"}, "at least 12 characters"),
        ({"OIDC_ISSUER_URL": "https://login.example.com"}, "needs OIDC_CLIENT_ID"),
    ],
)
def test_settings_that_make_no_sense_together_stop_the_start(environ: dict[str, str], remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        load(environ)


def test_what_an_external_provider_leaves_open_has_a_default() -> None:
    settings = load({"OIDC_ISSUER_URL": "https://login.example.com/realms/jan", "OIDC_CLIENT_ID": "jan"})
    assert settings.callback == "http://localhost:8000/auth/callback"
    assert settings.external_audience == "jan"
    assert settings.redirect_origins == settings.cors_allowed_origins
