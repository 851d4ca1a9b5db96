"""What every test of the plugin starts from."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def outside_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests mean the machine of a developer. Where these are set, no snapshot is written, hypothesis needs no
    seed, and pytest repeats the whole of a failure in its summary."""
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)
