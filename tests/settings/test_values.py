"""Single values: units, addresses, identifiers."""

from __future__ import annotations

from pathlib import Path

import pytest

from perago.settings import (
    ALL_UPKEEP,
    ConfigurationError,
    LogFormat,
    PublishFence,
    Upkeep,
    default_worker_id_prefix,
    load_settings,
)
from perago.settings.variables import Settings, parse_age


def test_an_empty_environment_gives_defaults_without_servers_and_limits(tmp_path: Path) -> None:
    settings = load_settings()
    assert (settings.conductor, settings.lakefs) == (None, None)
    assert (settings.worker_id_prefix, settings.worker_id) == (None, None)
    assert (settings.max_workspace_bytes, settings.cache_max_bytes) == (None, None)
    assert settings.warnings == ()
    home = tmp_path / "home"
    assert settings.workspace_root.is_relative_to(home)
    assert "perago" in settings.workspace_root.parts
    assert settings.log_root.is_relative_to(home)
    assert "perago" in settings.log_root.parts


VALID: dict[str, dict[str, object]] = {
    "PERAGO_LOG_FILE_MAX_SIZE": {
        "100MB": 100_000_000,
        "2gb": 2_000_000_000,
        "1KiB": 1024,
        "1.5 MiB": 1_572_864,
        ".5MB": 500_000,
        "  7  KB  ": 7000,
    },
    "PERAGO_LOG_RETENTION": {"30d": 30, "1 d": 1, "365D": 365, "36500d": 36_500},
    "PERAGO_SHUTDOWN_GRACE": {"30s": 30.0, "0s": 0.0, "1.5 m": 90.0, "500ms": 0.5, "1h": 3600.0},
    "PERAGO_MAX_RESULT_BYTES": {"1048576": 1_048_576, "5 MiB": 5 * 2**20, "1": 1},
    "PERAGO_MAX_WORKSPACE_BYTES": {"5 MiB": 5 * 2**20},
    "PERAGO_MAX_WORKSPACE_OBJECTS": {"250000": 250_000},
    "PERAGO_CACHE_MAX_BYTES": {"20GiB": 20 * 2**30, "1000": 1000, "0": 0, "00": 0},
    "PERAGO_WORKER_ID_PREFIX": {"features1": "features1", "A": "A", "0": "0"},
    "PERAGO_PUBLISH_FENCE": {policy.value: policy for policy in PublishFence},
    "PERAGO_LOG_FORMAT": {form.value: form for form in LogFormat},
    "PERAGO_TIME_ZONE": {zone: zone for zone in ("UTC", "Europe/Berlin", "UTC+08:00", "-03:30", "+0530")},
    "PERAGO_LOG_FILES": {"on": True, "off": False},
    "PERAGO_ALLOWED_WORKSPACES": {"audio-*/main, lab/[ab]*": ("audio-*/main", "lab/[ab]*")},
    "PERAGO_MAINTENANCE": {
        "all": ALL_UPKEEP,
        "none": frozenset(),
        "logs": frozenset({Upkeep.LOGS}),
        "cache, directories": frozenset({Upkeep.CACHE, Upkeep.DIRECTORIES}),
    },
}


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [(variable, text, value) for variable, values in VALID.items() for text, value in values.items()],
)
def test_a_valid_value_is_understood(monkeypatch: pytest.MonkeyPatch, variable: str, text: str, value: object) -> None:
    monkeypatch.setenv(variable, text)
    assert getattr(load_settings(), variable.removeprefix("PERAGO_").lower()) == value


INVALID: dict[str, dict[str, tuple[str, ...]]] = {
    "PERAGO_LOG_FILE_MAX_SIZE": {
        "not a size. Write a number with KB, MB, GB, KiB, MiB or GiB, such as 100MB or 1.5 GiB.": (
            *("100", "100 ", "MB", "1,5MB", "-1MB", "1e3MB", "1.MB", "10TB", "10B", "10Mb/s", "٣MB"),
        ),
        "smaller than one byte": ("0MB",),
    },
    "PERAGO_LOG_RETENTION": {
        "not a number of days": ("30", "1.5d", "2w", "48h", "-1d", "d"),
        "must be between 1d and 36500d": ("0d", "36501d", "9999999999999d"),
    },
    "PERAGO_SHUTDOWN_GRACE": {"not a duration": ("30", "-1s", "s", "1 day"), "longer than seven days": ("999h",)},
    "PERAGO_MAX_WORKSPACE_OBJECTS": {
        "must be a whole number from 1": ("0", "-1", "1MiB", "many", "1e6", "9" * 13),
    },
    "PERAGO_CACHE_MAX_BYTES": {"not a number of bytes": ("-1", "a lot", "0.0", "off")},
    "PERAGO_MAX_RESULT_BYTES": {"not a number of bytes": ("-5", "many", "1.5"), "must be at least 1": ("0",)},
    "PERAGO_WORKER_ID_PREFIX": {
        "must be the name of a pod or up to 200": ("-a", ".a", "a b", " a", "a/b", "a@b", "wörker", "a" * 201, "a\n"),
    },
    "PERAGO_ALLOWED_WORKSPACES": {
        "must be patterns repository/branch, separated by commas. Write them like team-*/main,lab/*.": (
            *("lab", "lab/", "/main", "lab/main,", "a/b/c", ",", " / ", '["lab/main"]/'),
        ),
    },
    "PERAGO_MAINTENANCE": {
        "must be all, none, or of directories, branches, cache, logs, separated": ("cache,all",),
    },
    "PERAGO_PUBLISH_FENCE": {
        "must be auto, required or off.": ("never", "if-installed"),
    },
    "PERAGO_TRANSFER_THREADS": {"must be a whole number from 1 to 256": ("0", "257", "four")},
    "PERAGO_TIME_ZONE": {
        "Write a name such as Europe/Berlin": ("Europe/Berlni", "berlin", "europe/berlin"),
        "not a time zone of the IANA list": ("Moon/Base", "../../etc/passwd", "/etc/localtime", "Europe", "8"),
        "more than 14 hours from UTC": ("UTC+15:00", "-23:00"),
    },
    "PERAGO_WORKER_ID": {"must be the name of a pod or up to 200": ("a/b",)},
    "PERAGO_LOG_ROOT": {
        "no such home directory": ("~nobody-of-that-name/logs",),
        "control characters": ("/logs\n",),
    },
    "CONDUCTOR_SERVER_URL": {
        "must begin with http:// or https://": ("localhost:8080", "ftp://localhost"),
        "names no host": ("http://", "http://:8080/api"),
        "not a valid address": ("http://localhost:port/api", "http://localhost:99999/api", "http://[::1/api"),
        "white space": ("http://local host/api",),
        "query or fragment": ("http://localhost/#/workflows", "http://localhost/api?x=1"),
    },
}


TESTED_ELSEWHERE = {
    "CONDUCTOR_AUTH_KEY",
    "CONDUCTOR_AUTH_SECRET",
    "LAKECTL_SERVER_ENDPOINT_URL",
    "LAKECTL_CREDENTIALS_ACCESS_KEY_ID",
    "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY",
    "PERAGO_WORKSPACE_ROOT",
}
"""By the other tests of this folder, because they belong together or are created."""


def test_each_setting_has_a_value_that_is_understood_or_refused() -> None:
    variables = {field.validation_alias for field in Settings.model_fields.values()} - {None}
    assert variables == VALID.keys() | INVALID.keys() | TESTED_ELSEWHERE, "add values to VALID and INVALID of this file"


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        (variable, text, message)
        for variable, messages in INVALID.items()
        for message, texts in messages.items()
        for text in texts
    ],
)
def test_anything_else_is_refused_with_its_variable_and_reason(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, message: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    (problem,) = caught.value.problems
    assert problem.startswith(f"{variable} (environment): ")
    assert message in problem


@pytest.mark.parametrize(
    ("module", "prefix"),
    [("features.build_all", "featuresbuildall"), ("tasks.v2", "tasksv2"), ("größe", "gre"), ("ü._", "worker")],
)
def test_the_default_prefix_comes_from_the_module_path(module: str, prefix: str) -> None:
    assert default_worker_id_prefix(module) == prefix


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://localhost:8080/api", "http://localhost:8080/api"),
        ("https://conductor.example.com/api/", "https://conductor.example.com/api"),
        ("http://[::1]:8080/api", "http://[::1]:8080/api"),
    ],
)
def test_an_address_loses_its_trailing_slash_only(monkeypatch: pytest.MonkeyPatch, text: str, address: str) -> None:
    monkeypatch.setenv("CONDUCTOR_SERVER_URL", text)
    conductor = load_settings().conductor
    assert conductor is not None
    assert conductor.server_url == address
    assert (conductor.auth_key, conductor.auth_secret) == (None, None)


def test_roots_may_be_relative_or_below_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERAGO_WORKSPACE_ROOT", "scratch")
    monkeypatch.setenv("PERAGO_LOG_ROOT", "~/logs")
    settings = load_settings()
    assert settings.workspace_root == tmp_path / "here" / "scratch"
    assert settings.log_root == tmp_path / "home" / "logs"


AGES = {"90s": 90, "15 m": 900, "12h": 43_200, "1d": 86_400, "1.5D": 129_600, "0s": 0}


@pytest.mark.parametrize(("text", "seconds"), AGES.items())
def test_an_age_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "d", "1w", "-1d", "1d2h", "36501d", "٣d"])
def test_anything_else_is_not_an_age(text: str) -> None:
    with pytest.raises(ValueError, match="such as 12h or 1d"):
        parse_age(text)


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        ("http://lakefs.example.com:8000", True),
        ("http://10.0.0.7", True),
        ("http://[fe80::1]:8000", True),
        ("http://localhost.example.com", True),
        ("http://127.0.0.1.example.com", True),
        ("https://lakefs.example.com", False),
        ("http://localhost:8000", False),
        ("http://api.localhost", False),
        ("http://127.1.2.3:8000", False),
        ("http://[::1]:8000", False),
    ],
)
def test_unencrypted_credentials_cause_one_warning_for_each_service(
    monkeypatch: pytest.MonkeyPatch, host: str, warned: bool
) -> None:
    monkeypatch.setenv("LAKECTL_SERVER_ENDPOINT_URL", host)
    monkeypatch.setenv("LAKECTL_CREDENTIALS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("CONDUCTOR_SERVER_URL", host)
    assert [text.partition(" ")[0] for text in load_settings().warnings] == ["LAKECTL_SERVER_ENDPOINT_URL"] * warned
    monkeypatch.setenv("CONDUCTOR_AUTH_KEY", "key")
    monkeypatch.setenv("CONDUCTOR_AUTH_SECRET", "secret")
    warnings = load_settings().warnings
    assert len(warnings) == 2 * warned
    assert all("without encryption" in text and "secret" not in text for text in warnings)
