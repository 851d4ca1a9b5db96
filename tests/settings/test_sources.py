"""The environment, `.env`, groups of variables, and reporting everything at once."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from perago.settings import ConfigurationError, load_settings, mask_secrets, take_from_environment

LAKEFS = {
    "LAKECTL_SERVER_ENDPOINT_URL": "http://localhost:8000",
    "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": "lakefs-secret-value",
}


def problems() -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    return caught.value.problems


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PERAGO_TRANSFER_THREADS=4\nPERAGO_LOG_RETENTION=7d\n")
    monkeypatch.setenv("PERAGO_TRANSFER_THREADS", "8")
    settings = load_settings()
    assert (settings.transfer_threads, settings.log_retention) == (8, 7)


def test_variables_taken_from_the_environment_stay_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perago.settings.sources._taken", {})
    monkeypatch.setenv("CONDUCTOR_SERVER_URL", "http://localhost:8080/api")
    monkeypatch.setenv("CONDUCTOR_AUTH_SECRET", "no-key-for-it")
    take_from_environment(["CONDUCTOR_SERVER_URL", "CONDUCTOR_AUTH_SECRET"])
    assert not [name for name in os.environ if name.startswith("CONDUCTOR_")]
    assert mask_secrets("no-key-for-it") == "***"
    assert problems() == (
        "CONDUCTOR_AUTH_KEY: not set, but CONDUCTOR_AUTH_SECRET (environment) is. Set all of them or none.",
    )
    monkeypatch.setenv("CONDUCTOR_AUTH_KEY", "key")
    assert load_settings().require_conductor().server_url == "http://localhost:8080/api"


def test_set_but_empty_counts_as_unset_in_both_places(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PERAGO_TRANSFER_THREADS=4\nPERAGO_LOG_RETENTION=\nPERAGO_SHUTDOWN_GRACE\n")
    for name in ("PERAGO_TRANSFER_THREADS", "CONDUCTOR_SERVER_URL", "CONDUCTOR_AUTH_KEY", *LAKEFS):
        monkeypatch.setenv(name, "")
    settings = load_settings()
    assert (settings.transfer_threads, settings.log_retention, settings.shutdown_grace) == (4, 30, 30.0)
    assert (settings.conductor, settings.lakefs) == (None, None)


def test_a_file_is_parsed_as_python_dotenv_does() -> None:
    Path(".env").write_bytes(
        b"\xef\xbb\xbf# settings of this project\r\n"
        b"\r\n"
        b"  export LAKECTL_SERVER_ENDPOINT_URL = http://localhost:8000   # the local one\r\n"
        b"LAKECTL_CREDENTIALS_ACCESS_KEY_ID='AKIA#EXAMPLE'\r\n"
        b'LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY="with \\"quotes\\" and # hash"\r\n'
        b"THREADS=3\r\n"
        b"PERAGO_TRANSFER_THREADS=${THREADS}2\r\n"
        b"PERAGO_LOG_RETENTION=1d\r\n"
        b"PERAGO_LOG_RETENTION=2d\r\n"
    )
    settings = load_settings()
    assert settings.lakefs is not None
    assert settings.lakefs.endpoint_url == "http://localhost:8000"
    assert settings.lakefs.access_key_id == "AKIA#EXAMPLE"
    assert settings.lakefs.secret_access_key.get_secret_value() == 'with "quotes" and # hash'
    assert (settings.transfer_threads, settings.log_retention) == (32, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: file.symlink_to("nowhere"), "is a symlink to nowhere, which is not a file"),
        (lambda file: file.symlink_to(".env"), "is a symlink to .env, which is not a file"),
        (os.mkfifo, "is not a file"),
        (lambda file: file.write_bytes(b"PERAGO_LOG_ROOT=/tmp/\xff\n"), "not UTF-8"),
    ],
    ids=["a link to nothing", "a link to itself", "a pipe", "not UTF-8"],
)
def test_a_file_that_cannot_be_read_is_not_passed_over(make: Callable[[Path], object], message: str) -> None:
    make(Path(".env"))
    (problem,) = problems()
    assert problem.startswith(f".env (.env): {message}. ")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_a_problem_names_the_line_of_the_file(newline: str) -> None:
    lines = ["# first", "", "", "PERAGO_LOG_RETENTION=30", "not an assignment", "", "PERAGO_TRANSFER_THREADS='x'", ""]
    Path(".env").write_text(newline.join(lines), newline="")
    assert [problem.split(": ")[0] for problem in problems()] == [
        ".env (.env:5)",
        "PERAGO_LOG_RETENTION (.env:4)",
        "PERAGO_TRANSFER_THREADS (.env:7)",
    ]


def test_bad_lines_are_reported_by_number_and_never_quoted(caplog: pytest.LogCaptureFixture) -> None:
    Path(".env").write_text("PERAGO_LOG_RETENTION=1d\nCONDUCTOR_AUTH_SECRET hunter2\nKEY='hunter2\nA=1\n")
    with caplog.at_level(logging.DEBUG):
        reported = problems()
    assert [problem.partition(": ")[0] for problem in reported] == [".env (.env:2)", ".env (.env:3)"]
    assert "Write NAME=value" in reported[0]
    assert "hunter2" not in "".join(reported)
    assert caplog.text == ""


def test_only_the_file_of_this_directory_is_read_and_not_exported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text("PERAGO_TRANSFER_THREADS=4\n")
    assert load_settings().transfer_threads == 4
    assert "PERAGO_TRANSFER_THREADS" not in os.environ
    Path("below").mkdir()
    monkeypatch.chdir("below")
    assert load_settings().transfer_threads == 16
    Path(".env").mkdir()
    assert load_settings().transfer_threads == 16, "a directory is somebody's virtual environment"


@pytest.mark.parametrize("missing", LAKEFS)
def test_lakefs_variables_are_all_or_none(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    Path(".env").write_text("".join(f"{name}={value}\n" for name, value in LAKEFS.items() if name != missing))
    (problem,) = problems()
    first, second = (name for name in LAKEFS if name != missing)
    assert problem == f"{missing}: not set, but {first} (.env:1) and {second} (.env:2) are. Set all of them or none."
    monkeypatch.setenv(missing, LAKEFS[missing])
    assert load_settings().lakefs is not None


@pytest.mark.parametrize(
    ("present", "missing"),
    [("CONDUCTOR_AUTH_KEY", "CONDUCTOR_AUTH_SECRET"), ("CONDUCTOR_AUTH_SECRET", "CONDUCTOR_AUTH_KEY")],
)
def test_conductor_credentials_are_both_or_neither(monkeypatch: pytest.MonkeyPatch, present: str, missing: str) -> None:
    monkeypatch.setenv("CONDUCTOR_SERVER_URL", "http://localhost:8080/api")
    monkeypatch.setenv(present, "a-value")
    assert problems() == (f"{missing}: not set, but {present} (environment) is. Set all of them or none.",)


def test_all_problems_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("no assignment\nPERAGO_LOG_RETENTION=30\n")
    monkeypatch.setenv("CONDUCTOR_SERVER_URL", "nonsense")
    monkeypatch.setenv("CONDUCTOR_AUTH_KEY", "key")
    monkeypatch.setenv("LAKECTL_SERVER_ENDPOINT_URL", "http://localhost:8000")
    reported = problems()
    assert [problem.replace(":", " ").split()[0] for problem in reported] == [
        ".env",
        "CONDUCTOR_SERVER_URL",
        "PERAGO_LOG_RETENTION",
        "CONDUCTOR_AUTH_SECRET",
        "LAKECTL_CREDENTIALS_ACCESS_KEY_ID",
        "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY",
    ]


def test_a_local_command_ignores_variables_that_it_does_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKECTL_SERVER_ENDPOINT_URL", "localhost")
    monkeypatch.setenv("CONDUCTOR_AUTH_KEY", "key")
    monkeypatch.setenv("PERAGO_LOG_RETENTION", "30")
    settings = load_settings(local=True)
    assert (settings.lakefs, settings.conductor_auth_key, settings.log_retention) == (None, None, 30)
    (warning,) = settings.warnings
    assert warning.startswith("PERAGO_LOG_RETENTION (environment): not a number of days")
    assert warning.endswith("This command uses the default.")
    monkeypatch.setenv("PERAGO_MAX_RESULT_BYTES", "much")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(local=True)
    assert [problem.variable for problem in caught.value.details] == ["PERAGO_MAX_RESULT_BYTES"]


def test_unknown_variables_are_warned_about_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("\nPERAGO_LOG_RETENTON=1d\n")
    monkeypatch.setenv("PERAGO_SOMETHING_ELSE_ENTIRELY", "1")
    assert load_settings().warnings == (
        "PERAGO_LOG_RETENTON (.env:2): perago knows no such variable and ignores it. "
        "Did you mean PERAGO_LOG_RETENTION?",
        "PERAGO_SOMETHING_ELSE_ENTIRELY (environment): perago knows no such variable and ignores it.",
    )


def test_settings_and_their_errors_survive_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LAKEFS.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert pickle.loads(pickle.dumps(settings)) == settings
    monkeypatch.delenv("LAKECTL_CREDENTIALS_ACCESS_KEY_ID")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems
