"""The pictures of docs/dev/benchmarks.md are what the recorded runs say."""

from __future__ import annotations

import pytest
from benchmarks.harness import ratio, seconds
from benchmarks.plots import IMAGES, PICTURES, number, picture, shown

from .blocks import ROOT


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_the_output_of_the_script_for_the_records(name: str) -> None:
    kept = (IMAGES / name).read_text(encoding="utf-8")
    assert kept == picture(PICTURES[name]), "run: python -m benchmarks.plots"


def test_each_picture_is_on_the_page_of_the_benchmarks() -> None:
    page = (ROOT / "docs" / "dev" / "benchmarks.md").read_text(encoding="utf-8")
    assert [name for name in PICTURES if f"](../images/{name})" not in page] == []


@pytest.mark.parametrize(
    ("cell", "value", "unit"),
    [
        (seconds(0.0142), 0.0142, "s"),
        (seconds(1234.0), 1234.0, "s"),
        (ratio(3.0, 2.0), 1.5, "x"),
        ("+8 MiB", 8.0, "MiB"),
        ("1,026", 1026.0, ""),
    ],
)
def test_a_cell_of_a_table_is_read_with_its_intended_type(cell: str, value: float, unit: str) -> None:
    found = number(cell)
    assert found[0] == pytest.approx(value)
    assert found[1] == unit


def test_figures_are_shown_short() -> None:
    assert [shown(0.0142, "s"), shown(73.41, "s"), shown(1026.0, ""), shown(1.15, "x")] == [
        "14.2 ms",
        "73.4 s",
        "1,026",
        "1.15 x",
    ]
