"""The tables of options in docs/testing/reference.md are derived from the declarations.

Run this file with WRITE_OPTIONS=1 after a change of an option.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pytest_perago.options import OPTIONS, Option

PAGE = Path(__file__).parents[2] / "docs" / "testing" / "reference.md"


def flag_row(option: Option) -> str:
    return f"| `{option.option}` | {option.help} |"


def ini_row(option: Option) -> str:
    meaning = option.help if option.flag is None else f"as `{option.option}`"
    default = f"`{option.default}`" if option.default else "none"
    return f"| `{option.name}` | {default} | {meaning} |"


@pytest.mark.parametrize("section", ["Command line", "Ini values"])
def test_the_page_has_the_options_as_they_are_declared(section: str) -> None:
    if section == "Command line":
        rows = [flag_row(option) for option in OPTIONS.values() if option.flag is not None]
    else:
        rows = [ini_row(option) for option in OPTIONS.values() if option.default is not None]
    page = PAGE.read_text(encoding="utf-8")
    pattern = re.compile(rf"(\n## {section}\n\n\|.*?\n\|[-|]+\n)(.*?)(?=\n\n)", re.DOTALL)
    written = pattern.sub(lambda match: match[1] + "\n".join(rows), page)
    if "WRITE_OPTIONS" in os.environ:
        PAGE.write_text(written, encoding="utf-8")
    assert written == page, "run this file with WRITE_OPTIONS=1"
