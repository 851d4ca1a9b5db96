"""What the processes that tests start can import: the same perago as the tests, and packages that a test installs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def problem_of_children(ours: str | None) -> str:
    """Return one line if a child process imports another perago than the file `ours`; otherwise nothing."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    code = "import importlib.util as u; found = u.find_spec('perago'); print(found.origin if found else 'nowhere')"
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=60, check=True)
    theirs = done.stdout.strip()
    if ours is not None and Path(ours).resolve() == Path(theirs).resolve():
        return ""
    fix = f"{sys.executable} -m pip install -e {Path(__file__).parents[1]}"
    return f"the tests import perago from {ours}, but their child processes from {theirs}; fix: {fix}"


def install(directory: Path, name: str, entry_points: str, **modules: str) -> None:
    """Put a package into a directory of packages, as an installer does."""
    for module, text in modules.items():
        (directory / f"{module}.py").write_text(text, encoding="utf-8")
    metadata = directory / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points)
