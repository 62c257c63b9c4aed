"""Settings from the environment: what parses, what is refused, and that a refusal names its variable."""

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
    ],
)
def test_a_value_that_does_not_parse_is_refused_by_the_name_of_its_variable(variable: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{variable}={value!r}"):
        load({variable: value})


def test_lists_and_pairs_are_separated_by_commas() -> None:
    settings = load({"CORS_ALLOWED_ORIGINS": "https://a.test, https://b.test", "MODEL_ALIASES": "fast=small,best=big"})
    assert settings.cors_allowed_origins == ("https://a.test", "https://b.test")
    assert settings.model_aliases == {"fast": "small", "best": "big"}


def test_the_issuer_follows_the_public_address_until_it_is_set() -> None:
    assert load({"PUBLIC_BASE_URL": "https://jan.test"}).issuer == "https://jan.test"
    assert load({"PUBLIC_BASE_URL": "https://jan.test", "AUTH_ISSUER": "https://id.test"}).issuer == "https://id.test"


def test_reflection_is_off_in_production_unless_asked_for() -> None:
    assert load({}).reflection
    assert not load({"ENVIRONMENT": "production"}).reflection
    assert load({"ENVIRONMENT": "production", "GRPC_REFLECTION": "true"}).reflection
