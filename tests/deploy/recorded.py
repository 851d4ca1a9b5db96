"""Recorded scrapes of workers, and their series."""

from __future__ import annotations

import re
from pathlib import Path

SCRAPES = Path(__file__).parent / "scrapes"
Series = tuple[str, tuple[tuple[str, str], ...]]
"""Name and labels."""


class Samples(dict[Series, float]):
    """The values of a scrape, and its lines."""

    text = ""


def samples_of(text: str) -> Samples:
    """Read perago's own samples. Those of the process and of the version differ between machines, and no rule
    needs those of steps."""
    found = Samples()
    lines = [line for line in text.splitlines() if re.match(r"perago_(?!info|step)", line)]
    for line in lines:
        series, value = line.rsplit(" ", 1)
        name, _, labels = series.partition("{")
        found[name, tuple(sorted(re.findall(r'(\w+)="([^"]*)"', labels)))] = float(value)
    found.text = "".join(f"{line}\n" for line in lines)
    return found
