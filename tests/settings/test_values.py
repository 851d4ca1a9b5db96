"""Single values: units, addresses, identifiers."""

from __future__ import annotations

from pathlib import Path

import pytest

from perago.settings import ALL_UPKEEP, ConfigurationError, PublishFence, default_worker_id_prefix, load_settings
from perago.settings.units import parse_age


def problems() -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    return caught.value.problems


def test_an_empty_environment_gives_the_documented_defaults(tmp_path: Path) -> None:
    settings = load_settings()
    assert (settings.conductor, settings.lakefs) == (None, None)
    assert (settings.log_file_max_size, settings.log_retention) == (100_000_000, 30)
    assert (settings.worker_id_prefix, settings.worker_id) == (None, None)
    assert (settings.publish_fence, settings.shutdown_grace) == (PublishFence.AUTO, 30.0)
    assert settings.transfer_threads == 16
    assert (settings.max_result_bytes, settings.max_workspace_bytes) == (1024 * 1024, None)
    assert (settings.cache_max_bytes, settings.max_workspace_objects) == (None, 10_000_000)
    assert settings.warnings == ()
    home = tmp_path / "home"
    assert settings.workspace_root.is_relative_to(home)
    assert "perago" in settings.workspace_root.parts
    assert settings.log_root.is_relative_to(home)
    assert "perago" in settings.log_root.parts


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("100MB", 100_000_000),
        ("1KB", 1000),
        ("2gb", 2_000_000_000),
        ("1KiB", 1024),
        ("1.5 MiB", 1_572_864),
        ("2 GiB", 2 * 2**30),
        (".5MB", 500_000),
        ("  7  KB  ", 7000),
    ],
)
def test_a_log_size_is_a_number_with_a_unit(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("PERAGO_LOG_FILE_MAX_SIZE", text)
    assert load_settings().log_file_max_size == size


@pytest.mark.parametrize(
    "text", ["100", "100 ", "MB", "1,5MB", "-1MB", "1e3MB", "1.MB", "10TB", "10B", "10Mb/s", "٣MB"]
)
def test_anything_else_is_no_log_size(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PERAGO_LOG_FILE_MAX_SIZE", text)
    assert problems() == (
        "PERAGO_LOG_FILE_MAX_SIZE (environment): not a size. "
        "Write a number with KB, MB, GB, KiB, MiB or GiB, such as 100MB or 1.5 GiB.",
    )


def test_a_log_size_of_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERAGO_LOG_FILE_MAX_SIZE", "0MB")
    assert "smaller than one byte" in problems()[0]


@pytest.mark.parametrize(("text", "days"), [("30d", 30), ("1 d", 1), ("365D", 365), ("36500d", 36_500)])
def test_a_retention_is_in_whole_days(monkeypatch: pytest.MonkeyPatch, text: str, days: int) -> None:
    monkeypatch.setenv("PERAGO_LOG_RETENTION", text)
    assert load_settings().log_retention == days


@pytest.mark.parametrize("text", ["30", "1.5d", "2w", "48h", "-1d", "d", "0d", "36501d", "9999999999999d"])
def test_anything_else_is_no_retention(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PERAGO_LOG_RETENTION", text)
    (problem,) = problems()
    assert problem.startswith("PERAGO_LOG_RETENTION (environment): ")


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30.0), ("0s", 0.0), ("1.5 m", 90.0), ("500ms", 0.5), ("1h", 3600.0)]
)
def test_a_grace_is_a_duration(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    monkeypatch.setenv("PERAGO_SHUTDOWN_GRACE", text)
    assert load_settings().shutdown_grace == seconds


@pytest.mark.parametrize("text", ["30", "-1s", "s", "1 day", "999h"])
def test_anything_else_is_no_grace(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PERAGO_SHUTDOWN_GRACE", text)
    assert problems()[0].startswith("PERAGO_SHUTDOWN_GRACE (environment): ")


@pytest.mark.parametrize(("text", "count"), [("1048576", 1_048_576), ("5 MiB", 5 * 2**20), ("1", 1)])
def test_a_limit_in_bytes_takes_a_plain_number_or_a_size(
    monkeypatch: pytest.MonkeyPatch, text: str, count: int
) -> None:
    monkeypatch.setenv("PERAGO_MAX_RESULT_BYTES", text)
    monkeypatch.setenv("PERAGO_MAX_WORKSPACE_BYTES", text)
    settings = load_settings()
    assert (settings.max_result_bytes, settings.max_workspace_bytes) == (count, count)


def test_the_objects_of_a_workspace_are_a_plain_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERAGO_MAX_WORKSPACE_OBJECTS", "250000")
    assert load_settings().max_workspace_objects == 250_000


@pytest.mark.parametrize("text", ["0", "-1", "1MiB", "many", "1e6", "9" * 13])
def test_anything_else_is_no_number_of_objects(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PERAGO_MAX_WORKSPACE_OBJECTS", text)
    assert problems()[0].startswith("PERAGO_MAX_WORKSPACE_OBJECTS (environment): must be a whole number from 1")


@pytest.mark.parametrize(("text", "count"), [("20GiB", 20 * 2**30), ("1000", 1000), ("0", 0), ("00", 0)])
def test_the_cache_may_be_of_any_size_or_none(monkeypatch: pytest.MonkeyPatch, text: str, count: int) -> None:
    monkeypatch.setenv("PERAGO_CACHE_MAX_BYTES", text)
    assert load_settings().cache_max_bytes == count


@pytest.mark.parametrize("text", ["-1", "a lot", "0.0", "off"])
def test_anything_else_is_no_size_of_a_cache(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PERAGO_CACHE_MAX_BYTES", text)
    assert problems()[0].startswith("PERAGO_CACHE_MAX_BYTES (environment): ")


@pytest.mark.parametrize("text", ["0", "-5", "many", "1.5"])
def test_anything_else_is_no_limit(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PERAGO_MAX_RESULT_BYTES", text)
    assert problems()[0].startswith("PERAGO_MAX_RESULT_BYTES (environment): ")


@pytest.mark.parametrize("text", ["features1", "A", "0"])
def test_a_worker_id_prefix_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PERAGO_WORKER_ID_PREFIX", text)
    assert load_settings().worker_id_prefix == text


@pytest.mark.parametrize("text", ["a-b", "a b", " a", "a.b", "wörker", "a" * 101, "a\n"])
def test_a_worker_id_prefix_is_never_normalised(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PERAGO_WORKER_ID_PREFIX", text)
    assert "ASCII letters and digits" in problems()[0]


@pytest.mark.parametrize(
    ("module", "prefix"),
    [("features.build_all", "featuresbuildall"), ("tasks.v2", "tasksv2"), ("größe", "gre"), ("ü._", "worker")],
)
def test_the_default_prefix_comes_from_the_module_path(module: str, prefix: str) -> None:
    assert default_worker_id_prefix(module) == prefix


@pytest.mark.parametrize("text", ["auto", "required", "off"])
def test_the_publish_fence_has_three_policies(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PERAGO_PUBLISH_FENCE", text)
    assert load_settings().publish_fence is PublishFence(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("all", {"directories", "branches", "cache", "logs"}),
        ("none", set()),
        ("logs", {"logs"}),
        ("cache, directories", {"cache", "directories"}),
    ],
)
def test_maintenance_is_all_or_none_or_some(monkeypatch: pytest.MonkeyPatch, text: str, names: set[str]) -> None:
    assert load_settings().maintenance == ALL_UPKEEP
    monkeypatch.setenv("PERAGO_MAINTENANCE", text)
    assert load_settings().maintenance == names


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("PERAGO_MAINTENANCE", "cache,all", "must be all, none, or of directories, branches, cache, logs, separated"),
        ("PERAGO_PUBLISH_FENCE", "never", "must be auto, required or off."),
        ("PERAGO_PUBLISH_FENCE", "if-installed", "`auto` has taken the place of `if-installed`"),
        ("PERAGO_TRANSFER_THREADS", "0", "must be a whole number from 1 to 256"),
        ("PERAGO_TRANSFER_THREADS", "257", "must be a whole number from 1 to 256"),
        ("PERAGO_TRANSFER_THREADS", "four", "must be a whole number from 1 to 256"),
        ("PERAGO_WORKER_ID", "a/b", "must be up to 100 ASCII letters and digits"),
        ("PERAGO_LOG_ROOT", "~nobody-of-that-name/logs", "no such home directory"),
        ("PERAGO_LOG_ROOT", "/logs\n", "control characters"),
    ],
)
def test_a_bad_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, message: str
) -> None:
    monkeypatch.setenv(variable, text)
    (problem,) = problems()
    assert problem.startswith(f"{variable} (environment): ")
    assert message in problem


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("localhost:8080", "must begin with http:// or https://"),
        ("ftp://localhost", "must begin with http:// or https://"),
        ("http://", "names no host"),
        ("http://:8080/api", "names no host"),
        ("http://localhost:port/api", "not a valid address"),
        ("http://localhost:99999/api", "not a valid address"),
        ("http://[::1/api", "not a valid address"),
        ("http://local host/api", "white space"),
        ("http://localhost/#/workflows", "query or fragment"),
        ("http://localhost/api?x=1", "query or fragment"),
    ],
)
def test_a_bad_address_is_refused_with_its_reason(monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.setenv("CONDUCTOR_SERVER_URL", text)
    (problem,) = problems()
    assert problem.startswith("CONDUCTOR_SERVER_URL (environment): ")
    assert message in problem


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
def test_anything_else_is_no_age(text: str) -> None:
    with pytest.raises(ValueError, match="such as 12h or 1d"):
        parse_age(text)


def test_allowed_workspaces_are_patterns_between_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERAGO_ALLOWED_WORKSPACES", "audio-*/main, lab/[ab]*")
    assert load_settings().allowed_workspaces == ("audio-*/main", "lab/[ab]*")


@pytest.mark.parametrize("text", ["lab", "lab/", "/main", "lab/main,", "a/b/c", ",", " / ", '["lab/main"]/'])
def test_anything_else_is_no_pattern_of_a_workspace(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PERAGO_ALLOWED_WORKSPACES", text)
    assert problems() == (
        "PERAGO_ALLOWED_WORKSPACES (environment): must be patterns repository/branch, separated by commas. "
        "Write them like team-*/main,lab/*.",
    )


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
def test_credentials_that_leave_the_machine_in_the_clear_are_warned_about_once_per_service(
    monkeypatch: pytest.MonkeyPatch, host: str, warned: bool
) -> None:
    monkeypatch.setenv("LAKECTL_SERVER_ENDPOINT_URL", host)
    monkeypatch.setenv("LAKECTL_CREDENTIALS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("CONDUCTOR_SERVER_URL", host)
    assert [text.partition(" ")[0] for text in load_settings().warnings] == ["LAKECTL_SERVER_ENDPOINT_URL"] * warned
    monkeypatch.setenv("CONDUCTOR_AUTH_KEY", "key")
    monkeypatch.setenv("CONDUCTOR_AUTH_SECRET", "secret")
    found = load_settings().warnings
    assert len(found) == 2 * warned
    assert all("without encryption" in text and "secret" not in text for text in found)
