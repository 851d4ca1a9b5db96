"""The example file and the page list what the code reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from perago.settings import load_settings
from perago.settings.variables import VARIABLES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("variable", VARIABLES)
def test_every_variable_is_documented(variable: str) -> None:
    assert f"`{variable}`" in (ROOT / "docs" / "configuration.md").read_text()
    assert variable == "PERAGO_WORKER_ID" or f"{variable}=" in (ROOT / ".env.example").read_text()


def test_the_example_file_is_valid_as_it_is() -> None:
    Path(".env").write_text((ROOT / ".env.example").read_text())
    settings = load_settings()
    assert settings.require_conductor().server_url == "http://localhost:8080/api"
    assert settings.warnings == ()


def test_the_values_of_the_example_file_are_valid_and_mostly_the_defaults() -> None:
    defaults = load_settings()
    text = (ROOT / ".env.example").read_text()
    Path(".env").write_text(re.sub(r"^# (PERAGO_\w+=)", r"\1", text, flags=re.MULTILINE))
    settings = load_settings()
    assert settings.warnings == ()
    for name in ("log_file_max_size", "log_retention", "shutdown_grace", "publish_fence", "transfer_threads"):
        assert getattr(settings, name) == getattr(defaults, name)
    assert settings.max_result_bytes == defaults.max_result_bytes
