"""The file of other MCP servers: what it says, and that a mistake in it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.mcp.bridge_file import Provider, read
from services.runtime.config import ConfigError

ROOT = Path(__file__).parents[2]
ONE = "providers:\n  - {name: files, endpoint: 'https://files.test/mcp'"


def providers(tmp_path: Path, text: str, **environ: str) -> tuple[Provider, ...]:
    """What a file with that text says."""
    path = tmp_path / "mcp.yml"
    path.write_text(text)
    return read(path, environ)


def test_a_missing_file_an_empty_one_and_the_shipped_one_name_no_server(tmp_path: Path) -> None:
    assert read(tmp_path / "none.yml") == ()
    assert providers(tmp_path, "") == providers(tmp_path, "providers:\nsettings:\n") == ()
    assert read(ROOT / "deploy/config/mcp-providers.yml", {}) == ()


def test_the_example_of_the_shipped_file_is_right(tmp_path: Path) -> None:
    shipped = (ROOT / "deploy/config/mcp-providers.yml").read_text()
    example = shipped.replace("providers: []", "providers:").replace("\n  # ", "\n  ")
    (provider,) = providers(tmp_path, example, FILES_MCP_TOKEN="s3cret")
    assert provider.name == "files"
    assert provider.headers == {"Authorization": "Bearer s3cret"}
    assert provider.tools == ("search", "read")


def test_every_field_is_read(tmp_path: Path) -> None:
    text = """
providers:
  - name: files-2
    description: Ours
    enabled: true
    type: mcp-http
    endpoint: http://10.0.0.7:9000/mcp?tenant=a
    headers: {X-Key: "${KEY}", X-Number: 7}
    timeout: 1m30s
    tools: [search]
settings: {max_timeout: 2m, retry_attempts: 5, retry_delay: 250ms}
"""
    assert providers(tmp_path, text, KEY="k") == (
        Provider(
            name="files-2",
            endpoint="http://10.0.0.7:9000/mcp?tenant=a",
            description="Ours",
            headers={"X-Key": "k", "X-Number": "7"},
            timeout=90,
            tools=("search",),
            retries=5,
            retry_delay=0.25,
        ),
    )


def test_what_is_not_said_has_defaults(tmp_path: Path) -> None:
    (provider,) = providers(tmp_path, f"{ONE}, tools: []}}")
    assert (provider.timeout, provider.retries, provider.retry_delay) == (30, 3, 1)
    assert provider.tools is None
    assert provider.headers == {}


def test_no_timeout_is_longer_than_the_longest(tmp_path: Path) -> None:
    text = (
        f"{ONE}, timeout: 300}}\n  - {{name: b, endpoint: 'http://b/mcp', timeout: 5}}\nsettings: {{max_timeout: 60}}"
    )
    assert [provider.timeout for provider in providers(tmp_path, text)] == [60, 5]


@pytest.mark.parametrize("word", ["false", "'no'", "off", "'${UNSET}'", "'${UNSET:-false}'", "null"])
def test_what_is_switched_off_needs_nothing_else(tmp_path: Path, word: str) -> None:
    assert providers(tmp_path, f"providers: [{{name: idle, enabled: {word}}}]") == ()


def test_variables_have_defaults_and_an_unset_key_sends_no_header(tmp_path: Path) -> None:
    text = (
        "providers: [{name: a, endpoint: 'http://${HOST:-there}/mcp', headers: {X-Key: '${KEY}', X-Other: '${O:-o}'}}]"
    )
    (provider,) = providers(tmp_path, text)
    assert provider.endpoint == "http://there/mcp"
    assert provider.headers == {"X-Other": "o"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1]", "mcp.yml: expected `providers:`"),
        ("a: b: c", "mcp.yml is not valid YAML: line 1, column 5"),
        ("provider: []", "mcp.yml: 'provider' is none of providers, settings"),
        ("providers: {}\nsettings: [1]", "settings: expected"),
        ("providers: {a: b}", "providers: expected a list"),
        ("providers: [files]", r"providers\[0\].name: expected 1 to 32"),
        ("providers: [{name: Files}]", "got 'Files'"),
        ("providers: [{name: a/b}]", "got 'a/b'"),
        (f"providers: [{{name: {'a' * 33}}}]", "expected 1 to 32"),
        ("providers: [{name: 7}]", "expected 1 to 32"),
        ("providers: [{name: builtin}]", "'builtin' is the name of our own tools"),
        ("providers: [{name: a, enabled: off}, {name: a, enabled: off}]", "there are two with the name 'a'"),
        ("providers: [{name: a}]", "provider 'a'.endpoint: expected http"),
        ("providers: [{name: a, endpoint: 'ftp://b/'}]", "provider 'a'.endpoint"),
        ("providers: [{name: a, endpoint: 'http://:80/'}]", "provider 'a'.endpoint"),
        ("providers: [{name: a, endpoint: 'http://b:0/'}]", "provider 'a'.endpoint"),
        ("providers: [{name: a, endpoint: 'http://b:x/'}]", "provider 'a'.endpoint"),
        ("providers: [{name: a, endpoint: 'http://[::1/'}]", "provider 'a'.endpoint"),
        ("providers: [{name: a, endpoint: 'http://b/#c'}]", "provider 'a'.endpoint"),
        ("providers: [{name: a, endpoint: ['http://b/']}]", "provider 'a'.endpoint"),
        (f"{ONE}, enabled: perhaps}}", "provider 'files'.enabled: expected true or false"),
        (f"{ONE}, type: stdio}}", "provider 'files'.type: 'stdio' is not 'mcp-http'"),
        (f"{ONE}, description: [a]}}", "provider 'files'.description: expected text"),
        (f"{ONE}, timeout: soon}}", "provider 'files'.timeout: expected a duration"),
        (f"{ONE}, timeout: 0}}", "provider 'files'.timeout: expected more than 0"),
        (f"{ONE}, tools: search}}", "provider 'files'.tools: expected a list"),
        (f"{ONE}, tools: [1]}}", "provider 'files'.tools: expected a list"),
        (f"{ONE}, headers: [a]}}", "provider 'files'.headers: expected"),
        (f"{ONE}, headers: {{'a b': c}}}}", "provider 'files'.headers: 'a b' is no name of a header"),
        (f"{ONE}, headers: {{Host: c}}}}", "provider 'files'.headers.Host: the protocol itself"),
        (f"{ONE}, headers: {{Mcp-Session-Id: c}}}}", "headers.Mcp-Session-Id: the protocol itself"),
        (f'{ONE}, headers: {{a: "b\\nc"}}}}', "provider 'files'.headers.a: expected one line"),
        (f"{ONE}, headers: {{a: [b]}}}}", "provider 'files'.headers.a: expected one line"),
        (f"{ONE}, url: 'http://b'}}", "provider 'files': 'url' is none of name, description"),
        ("settings: {max_timeout: -1}", "settings.max_timeout: expected a duration"),
        ("settings: {retry_delay: 0s}", "settings.retry_delay: expected more than 0"),
        ("settings: {retry_attempts: 11}", "settings.retry_attempts: expected a whole number of 0 to 10"),
        ("settings: {retry_attempts: some}", "settings.retry_attempts: expected a whole number"),
        ("settings: {retries: 1}", "settings: 'retries' is none of"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        providers(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "providers: [{name: a, endpoint: 'http://user:s3cret@b/'}]",
        "providers: [{name: a, endpoint: 'http://b:x/?key=s3cret'}]",
        "providers: [{name: a, endpoint: 'http://b/', headers: {X-Key: \"s3cret\\n\"}}]",
        'providers: [{name: a, headers: {X-Key: "s3cret}]',
    ],
)
def test_what_may_be_a_key_is_not_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        providers(tmp_path, text)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None or "s3cret" not in str(caught.value.__cause__)


def test_a_provider_does_not_show_its_key(tmp_path: Path) -> None:
    (provider,) = providers(tmp_path, "providers: [{name: a, endpoint: 'http://b/?k=s3cret', headers: {X: s3cret}}]")
    assert "s3cret" not in repr(provider)
