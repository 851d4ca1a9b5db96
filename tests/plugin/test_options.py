"""The tables of options in docs/testing/reference.md are made from the declarations.

Run this file with WRITE_DOCS=1 after a change of an option.
"""

from __future__ import annotations

from pytest_perago.options import OPTIONS

from ..generated import assert_table

PAGE = "testing/reference.md"


def test_the_page_has_the_flags_as_they_are_declared() -> None:
    rows = [(f"`{option.option}`", option.help) for option in OPTIONS.values() if option.flag is not None]
    assert_table(PAGE, "Command line", ("Flag", "Meaning"), rows)


def test_the_page_has_the_ini_values_as_they_are_declared() -> None:
    rows = []
    for option in OPTIONS.values():
        if option.default is not None:
            default = f"`{option.default}`" if option.default else "none"
            rows.append((f"`{option.name}`", default, option.help if option.flag is None else f"as `{option.option}`"))
    assert_table(PAGE, "Ini values", ("Value", "Default", "Meaning"), rows)
