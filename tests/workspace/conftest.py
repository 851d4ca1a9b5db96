from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """An empty workspace, deleted by `rm`: pytest's own clean-up cannot delete trees as deep as these."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    yield workspace
    subprocess.run(["rm", "-rf", "--", workspace], check=True, timeout=60)


@pytest.fixture
def ordinary_user() -> Iterator[Path]:
    """A directory that belongs to a user who is not root; the test runs as that user, so that permissions count."""
    directory = Path(tempfile.mkdtemp()).resolve()
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(directory, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield directory
    finally:
        if is_root:
            os.seteuid(0)
        subprocess.run(["chmod", "-R", "u+rwX", "--", directory], check=True, timeout=60)
        subprocess.run(["rm", "-rf", "--", directory], check=True, timeout=60)
