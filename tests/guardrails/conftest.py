from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An empty workspace."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    return workspace
