"""The example file and the tables of the documentation are derived from the fields of `Settings`.

Run this file with WRITE_DOCS=1 after a change of a field.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from perago.settings import load_settings
from perago.settings.variables import DECLARED, Settings, about

from ..generated import assert_file, assert_table

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / ".env.example"
(CLASS,) = ast.parse(textwrap.dedent(inspect.getsource(Settings))).body
DESCRIPTIONS = {
    field.target.id: inspect.cleandoc(text.value.value)
    for field, text in pairwise(CLASS.body if isinstance(CLASS, ast.ClassDef) else ())
    if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
}
"""The text below each field."""
SECTIONS = list(dict.fromkeys(about(name, "section") for name in DECLARED))


def description(variable: str) -> str:
    (name,) = (name for name, field in Settings.model_fields.items() if field.validation_alias == variable)
    return " ".join(DESCRIPTIONS[name].split())


def variables(section: str) -> dict[str, str]:
    """The variables of a section, with their descriptions."""
    return {name: description(name) for name in DECLARED if about(name, "section") == section}


def rows(section: str) -> Iterator[tuple[str, str, str]]:
    for name, description in variables(section).items():
        default = about(name, "default")
        yield f"`{name}`", description, default if " " in default or not default else f"`{default}`"


def example_file() -> str:
    lines = [
        "# Copy to .env in the directory where you run perago. The process environment wins over this file.",
        "# A variable that is set but empty counts as unset. `perago help configuration` explains each.",
    ]
    for section in SECTIONS:
        lines += ["", f"# --- {section} ".ljust(96, "-")]
        for name, description in variables(section).items():
            if value := about(name, "example"):
                plain = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", description).replace("`", "")
                lines += textwrap.wrap(plain, 96, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
                lines.append(f"{name}={value}" if name == "CONDUCTOR_SERVER_URL" else f"# {name}={value}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_has_the_variables_of_each_section(section: str) -> None:
    assert_table("configuration.md", section, ("Variable", "Meaning", "Default"), rows(section))


def test_the_example_file_has_all_variables_with_valid_values() -> None:
    assert_file(EXAMPLE, example_file())
    Path(".env").write_text(re.sub(r"^# ([A-Z_]+=)", r"\1", example_file(), flags=re.MULTILINE), encoding="utf-8")
    settings = load_settings()
    assert settings.warnings == ()
    assert settings.require_conductor().server_url == "http://localhost:8080/api"


@pytest.mark.parametrize("variable", DECLARED)
def test_a_description_is_short_and_its_default_matches_the_words(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(re.sub(r"\(\S+\)", "", description(variable)).split()) <= 25
    default, field = about(variable, "default"), DECLARED[variable]
    if not (field.is_required() or field.default is None):
        before = load_settings()
        monkeypatch.setenv(variable, default.replace(",", ""))
        assert load_settings() == before, field
