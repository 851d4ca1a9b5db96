"""Compare texts that users see with the golden file of their area, so that each text is asserted once.

An area is a directory of tests. Its `golden.txt` holds one section for each text: a line `== name`, then the text.

    WRITE_GOLDEN=1 python -m pytest tests/cli -n 0

writes the sections again after an intended change. Read the difference aloud before you commit it.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest


def assert_golden(area: str, name: str, text: str, replace: Mapping[str, str] | None = None) -> None:
    """Fail if a text differs from its section in the golden file of an area.

    Parameters
    ----------
    area : str
        `__file__` of the calling test, or another path in the directory of its golden file.
    name : str
        Name of the section, unique in the file.
    text : str
        The text as the user sees it.
    replace : mapping, optional
        What differs between two runs, such as a temporary directory, and the word that the golden file has for it.
    """
    for variable_part, replacement in (replace or {}).items():
        text = text.replace(variable_part, replacement)
    text = "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
    file = Path(area).with_name("golden.txt")
    sections = _read(file)
    if "WRITE_GOLDEN" in os.environ:
        _write(file, {**sections, name: text})
        return
    if name not in sections:
        pytest.fail(
            f"{file} has no section '== {name}'. Run the test again with WRITE_GOLDEN=1 and -n 0.", pytrace=False
        )
    if text != sections[name]:
        lines = difflib.unified_diff(sections[name].splitlines(), text.splitlines(), "golden", "now", lineterm="")
        pytest.fail(f"'{name}' differs from {file}:\n" + "\n".join(lines), pytrace=False)


def _read(file: Path) -> dict[str, str]:
    parts = re.split(r"^== (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE) if file.exists() else [""]
    return {name: body.strip("\n") for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def _write(file: Path, sections: Mapping[str, str]) -> None:
    file.write_text("\n\n".join(f"== {name}\n{sections[name]}" for name in sorted(sections)) + "\n", encoding="utf-8")
