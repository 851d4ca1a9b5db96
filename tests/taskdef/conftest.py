"""The sample project of `fixtures/tasks` on the import path, and tasks made on the spot."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[2] / "fixtures" / "tasks"


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty project on the import path, beside the samples; what it made importable is forgotten afterwards."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(str(SAMPLES))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - known:
        module = sys.modules[name]
        places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", ())]
        if any(place.startswith((str(SAMPLES), str(tmp_path))) for place in places):
            del sys.modules[name]
