"""Commands for which a person waits import little.

The golden file has the modules of perago that each of them imports, and the libraries. None of them imports the task
module itself. Run this file with
WRITE_GOLDEN=1 after an intended change, and measure the command (docs/dev/benchmarks.md#cold_start).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..golden import assert_golden
from .conftest import GOOD, PLAIN

LIBRARIES = {
    *("dotenv", "loguru", "platformdirs", "pydantic", "pydantic_settings", "rich", "typer", "urllib3", "xxhash"),
    *("conductor", "httpx", "lakefs", "lakefs_sdk"),
    *("jsonschema", "hypothesis", "jinja2", "pyarrow", "pytest", "starlette", "uvicorn"),
}
COMMAND = """
import atexit, sys
from pathlib import Path
atexit.register(lambda: Path("modules.txt").write_text("\\n".join(sys.modules)))
from perago.cli import main
main()
"""
CHILD = """
import os, sys
from pathlib import Path
def note(status, exit=os._exit):
    Path("modules.txt").write_text("\\n".join(sys.modules))
    exit(status)
os._exit = note  # a child that imports a task module ends with it
"""


def imported(directory: Path, *arguments: str, command: str = COMMAND) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PERAGO_", "OTEL_"))}
    subprocess.run(
        [sys.executable, "-c", command, *arguments],
        cwd=directory,
        env=environment | {"HOME": str(directory)},
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=60,
    )
    names = (directory / "modules.txt").read_text().splitlines()
    own = {name for name in names if name.partition(".")[0] in ("perago", "features")}
    return "\n".join(sorted(own | LIBRARIES.intersection(names)))


@pytest.mark.parametrize("command", ["--help", "check", "extract"])
def test_a_command_imports_only_what_it_needs(tmp_path: Path, command: str) -> None:
    (tmp_path / "features.py").write_text(GOOD.format(name="features.build"))
    modules = imported(tmp_path, command, *([] if command == "--help" else ["features"]))
    assert_golden(__file__, f"imported by perago {command}", modules)


def test_a_child_that_imports_a_module_imports_little_else(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(CHILD + PLAIN.format(name="plain"))
    modules = imported(tmp_path, "check", "plain", command="from perago.cli import main; main()")
    assert_golden(__file__, "imported by the child process of perago check", modules)
