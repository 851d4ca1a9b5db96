"""No secret ever shows: not in `repr`, not in an error, not in a traceback."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from perago.settings import ConfigurationError, load_settings, mask_secrets

SECRET = "hunter2-hunter2"

VALID = {
    "CONDUCTOR_SERVER_URL": "http://localhost:8080/api",
    "CONDUCTOR_AUTH_KEY": "key",
    "CONDUCTOR_AUTH_SECRET": SECRET,
    "LAKECTL_SERVER_ENDPOINT_URL": "http://localhost:8000",
    "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": SECRET,
}


def test_valid_settings_hide_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VALID.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert SECRET not in repr(settings) + str(settings)
    assert "AKIAEXAMPLE" not in repr(settings)
    assert settings.require_lakefs().secret_access_key.get_secret_value() == SECRET


@pytest.mark.parametrize("where", ["environment", "file"])
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        pytest.param("CONDUCTOR_AUTH_SECRET", f" {SECRET}", id="blank before"),
        pytest.param("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", f"{SECRET}\n", id="line break after"),
        pytest.param("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", f"{SECRET}\x07x", id="control character"),
        pytest.param("LAKECTL_SERVER_ENDPOINT_URL", f"http://user:{SECRET}@localhost:8000", id="in an address"),
        pytest.param("CONDUCTOR_SERVER_URL", f"user:{SECRET}@localhost:8000", id="in a bad address"),
        pytest.param("CONDUCTOR_SERVER_URL", f"http://user:{SECRET}@[::1", id="in a broken address"),
        pytest.param("CONDUCTOR_SERVER_URL", f"http://localhost/?token={SECRET}", id="in a query"),
        pytest.param("PERAGO_TRANSFER_THREADS", SECRET, id="as a number"),
        pytest.param("PERAGO_MAX_RESULT_BYTES", SECRET, id="as a limit"),
        pytest.param("PERAGO_LOG_FILE_MAX_SIZE", SECRET, id="as a size"),
        pytest.param("PERAGO_LOG_RETENTION", SECRET, id="as a retention"),
        pytest.param("PERAGO_SHUTDOWN_GRACE", SECRET, id="as a duration"),
        pytest.param("PERAGO_PUBLISH_FENCE", SECRET, id="as a policy"),
        pytest.param("PERAGO_WORKER_ID_PREFIX", SECRET, id="as a prefix"),
        pytest.param("PERAGO_LOG_ROOT", f"~{SECRET}", id="as a directory"),
    ],
)
def test_no_error_shows_a_secret(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], variable: str, value: str, where: str
) -> None:
    for name in VALID:
        monkeypatch.setenv(name, VALID[name])
    monkeypatch.delenv(variable, raising=False)
    if where == "environment":
        monkeypatch.setenv(variable, value)
    else:
        Path(".env").write_text(f'{variable}="{value}"\n')
    with pytest.raises(ConfigurationError, match=variable) as caught:
        load_settings()
    output = "".join(capfd.readouterr())
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(caught.value) + output


def test_foreign_text_is_masked_even_while_the_configuration_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY=other-secret-value\nno assignment\n")
    monkeypatch.setenv("CONDUCTOR_AUTH_SECRET", SECRET)
    text = mask_secrets(f"KeyError: '{SECRET}' other-secret-value")
    assert text == "KeyError: '***' ***"
