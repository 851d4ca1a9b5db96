"""No secret ever shows: not in `repr`, not in an error, not in a traceback."""

from __future__ import annotations

import base64
import json
import re
import traceback
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest

from perago.settings import ConfigurationError, Mask, load_settings, mask_secrets
from perago.settings.mask import secrets_in

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
        pytest.param("PERAGO_WORKER_ID_PREFIX", f"{SECRET}/", id="as a prefix"),
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


def test_a_token_in_the_path_of_an_address_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    token = "0123456789abcdef"
    for name, value in {**VALID, "CONDUCTOR_SERVER_URL": f"http://localhost:8080/gate/{token}/api"}.items():
        monkeypatch.setenv(name, value)
    conductor = load_settings().require_conductor()
    assert token not in repr(conductor)
    assert conductor.shown == "http://localhost:8080/gate/***/api"
    assert mask_secrets(f"GET /gate/{token}/api/tasks") == "GET /gate/***/api/tasks"
    assert secrets_in("http://proxy:8080/conductor-service/api") == [""], "a long name is not a token"
    monkeypatch.setenv("LAKECTL_SERVER_ENDPOINT_URL", f"https://user:{SECRET}x@lakefs.example.com")
    assert mask_secrets(f"os.environ: {SECRET}x") == "os.environ: ***", "also in an address that is refused"


HARD = "qT7/hünter2+\"hunter2'\\=="
ENCODED: list[Callable[[str], str]] = [
    str,
    repr,
    json.dumps,
    lambda text: json.dumps(text, ensure_ascii=False),
    urllib.parse.quote,
    urllib.parse.quote_plus,
    lambda text: urllib.parse.quote(text, safe=""),
    lambda text: re.sub("%..", lambda escape: escape[0].lower(), urllib.parse.quote(text, safe="")),
    lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    *(lambda text, user=user: base64.b64encode(f"{user}:{text}!".encode()).decode() for user in ("a", "ab", "abc")),
]


@pytest.mark.parametrize("encode", ENCODED)
@pytest.mark.parametrize("secret", [SECRET, HARD, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"])
def test_a_secret_is_struck_out_in_every_usual_form(encode: Callable[[str], str], secret: str) -> None:
    text = Mask([secret])(f"Authorization: {encode(secret)}; the end")
    assert text.startswith("Authorization: ")
    assert text.endswith("; the end")
    assert "***" in text
    assert len(text) < len("Authorization: ***; the end") + 16  # what base64 makes of the text around it stays


def test_text_without_a_secret_stays_as_it_is() -> None:
    assert Mask([SECRET])("hunter2 is no secret") == "hunter2 is no secret"
    assert Mask(["abc", ""])("abc") == "abc"  # too short: it would strike out words
    assert SECRET not in repr(Mask([SECRET]))
