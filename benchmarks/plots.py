"""Draws the pictures of docs/dev/benchmarks.md from recorded runs: python -m benchmarks.plots

A run is recorded by `--record benchmarks/results/NAME.jsonl` (`harness.record`). A bar is the median of the recorded
runs, with a line from the lowest to the highest; a dashed line is the limit. One set of records always gives the same
bytes, which a test compares with what is kept.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

RESULTS = Path(__file__).parent / "results"
IMAGES = Path(__file__).parents[1] / "docs" / "images"

_WIDTH, _LEFT, _RIGHT = 760, 220, 580
"""Of the picture; where bars begin, and where the longest one ends."""
_ROW, _HEAD, _EDGE = 24, 44, 16
_UNITS = {"ms": 0.001, "µs": 1e-6}
_FIGURE = re.compile(r"\+?([\d,.]+(?:e[+-]?\d+)?)\s*(\S*)")
_STYLE = """
    .back { fill: #ffffff } text { fill: #1f2430 } .other { fill: #a9b4c8 } .ours { fill: #2f7d4f }
    .span { stroke: #1f2430; stroke-width: 1.5 } .limit { stroke: #b3261e; stroke-width: 1.5; stroke-dasharray: 4 3 }
    .title { font-size: 15px; font-weight: 600 } .bound { fill: #b3261e }
    @media (prefers-color-scheme: dark) {
      .back { fill: #1b1f2a } text { fill: #e6e9f0 } .other { fill: #59657c } .ours { fill: #58b07f }
      .span { stroke: #e6e9f0 } .limit { stroke: #ff8a80 } .bound { fill: #ff8a80 }
    }
  """


@dataclass(frozen=True, slots=True)
class Bar:
    """One cell of a recorded table: `column` of the row `what`, in the runs of the file `record`."""

    label: str
    record: str
    what: str
    column: str
    ours: bool = True
    limit: float | None = None
    """In the unit of the cell; seconds for times."""
    limit_is: str = "at most"


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars that share a scale."""

    title: str
    bars: Sequence[Bar]


def _attempt(workspace: str, column: str, cold: float | None) -> tuple[Bar, ...]:
    def bar(label: str, way: str, *, ours: bool = True, limit: float | None = None) -> Bar:
        return Bar(label, "cache-local", f"{workspace}, {way}", column, ours, limit)

    return (
        bar("bare download with MD5", "bare download", ours=False),
        bar("cold, without a cache", "no cache", limit=cold),
        bar("cold, filling the cache", "filling it", limit=cold),
        bar("warm", "warm"),
        bar("cp of the cached files", "cp", ours=False),
    )


def _requests(workspace: str) -> tuple[Bar, ...]:
    def bar(label: str, way: str, limit: float | None = 30) -> Bar:
        record = "cache-s3" if "signed" in label else "cache-local"
        return Bar(label, record, f"{workspace}, {way}: requests", "wall", limit=limit)

    return (
        bar("cold", "filling it", None),
        bar("warm", "warm"),
        bar("cold, signed addresses", "filling it"),
        bar("warm, signed addresses", "warm"),
    )


def _large(column: str, *, alone: bool, limit: float | None = None) -> Iterator[Bar]:
    if not alone:
        yield Bar("cp", "large", "cp", column, ours=False)
        yield Bar("copy through a socket", "large", "socket", column, ours=False)
        yield Bar("bare download with MD5", "large", "bare download", column, ours=False)
    yield Bar("cold, without a cache", "large", "no cache", column, limit=limit)
    yield Bar("cold, filling the cache", "large", "filling it", column, limit=limit)
    yield Bar("warm", "large", "warm", column, limit=limit)


def _idle(what: str, limit: float) -> tuple[Bar, ...]:
    return (
        Bar("bare, 4 threads", "idle", what, "bare, 4 threads", ours=False),
        Bar("perago, 4 slots", "idle", what, "perago, 4 slots", limit=limit),
    )


def _throughput(column: str, limit: float, limit_is: str) -> Iterator[Bar]:
    for bare, ours in (("bare, 1 thread", "perago, 1 slot"), ("bare, 4 threads", "perago, 4 slots")):
        yield Bar(bare, "throughput", bare, column, ours=False)
        yield Bar(ours, "throughput", ours, column, limit=limit, limit_is=limit_is)


MANY, LARGE = "1,000 x 4 KiB, 10 changed", "3 x 100 MB, 1 changed"
SCALE = ("list", "make directories", "download", "scan", "scan after the function")
PICTURES: Mapping[str, Sequence[Panel]] = {
    "attempt.svg": (
        Panel(f"A whole attempt on {MANY}: time / bare download", _attempt(MANY, "wall / bare", 1.15)),
        Panel(f"A whole attempt on {LARGE}: time / bare download", _attempt(LARGE, "wall / bare", None)),
    ),
    "requests.svg": (
        Panel(f"Requests to lakeFS of an attempt on {MANY}", _requests(MANY)),
        Panel(f"Requests to lakeFS of an attempt on {LARGE}", _requests(LARGE)),
    ),
    "large.svg": (
        Panel("An attempt on 3 x 3.4 GB, one changed: time", tuple(_large("wall", alone=False))),
        Panel("Memory of its process", tuple(_large("memory", alone=True, limit=120))),
    ),
    "scale.svg": (
        Panel(
            "100,000 objects of 256 bytes: time / bare download",
            (
                Bar("bare download with MD5", "scale", "bare download", "wall / bare", ours=False),
                Bar("perago", "scale", "perago", "wall / bare", limit=1.5),
                *(Bar(f"of it: {step}", "scale", step, "wall / bare") for step in SCALE),
            ),
        ),
    ),
    "conductor.svg": (
        Panel(
            "A full queue of empty tasks: tasks a second / bare worker",
            tuple(_throughput("tasks/s / bare", 1.0, "at least")),
        ),
        Panel("Processor time for empty tasks / bare worker", tuple(_throughput("cpu / bare", 1.3, "at most"))),
        Panel("An idle worker: scheduled to started, median", _idle("idle: scheduled to started, median", 0.030)),
        Panel("Memory of an idle worker", _idle("memory of the tree (PSS)", 180)),
    ),
}
"""Name of the file, and what is in it."""


def main() -> None:
    """Draw all."""
    for name, panels in PICTURES.items():
        (IMAGES / name).write_text(picture(panels), encoding="utf-8")


def picture(panels: Sequence[Panel]) -> str:
    """The text of a picture.

    Raises:
        KeyError: nothing was recorded for one of its bars.
    """
    height, parts = _EDGE, list[str]()
    for panel in panels:
        parts += _drawn(panel, height)
        height += _HEAD + _ROW * len(panel.bars) + _EDGE
    said = escape("; ".join(panel.title for panel in panels))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            'font-family="system-ui, sans-serif" font-size="13" role="img" aria-labelledby="title">',
            f'  <title id="title">{said}</title>',
            f"  <style>{_STYLE}</style>",
            f'  <rect class="back" width="{_WIDTH}" height="{height}" rx="8"/>',
            *(f"  {part}" for part in parts),
            "</svg>\n",
        ]
    )


def _drawn(panel: Panel, top: int) -> Iterator[str]:
    found = [values(bar) for bar in panel.bars]
    most = max([max(each) for each, _ in found] + [bar.limit or 0.0 for bar in panel.bars])

    def x(value: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * value / most, 1)

    yield f'<text class="title" x="{_EDGE}" y="{top + 14}">{escape(panel.title)}</text>'
    for number, (bar, (each, unit)) in enumerate(zip(panel.bars, found, strict=True)):
        y, middle, end = top + 26 + _ROW * number, statistics.median(each), max(each)
        style, width, said = "ours" if bar.ours else "other", round(x(middle) - _LEFT, 1), shown(middle, unit)
        yield f'<text x="{_LEFT - 10}" y="{y + 14}" text-anchor="end">{escape(bar.label)}</text>'
        yield f'<rect class="{style}" x="{_LEFT}" y="{y + 2}" width="{width}" height="16" rx="2"/>'
        if len(each) > 1:
            yield f'<path class="span" d="M{x(min(each))} {y + 10}H{x(max(each))}"/>'
        if bar.limit is not None:
            yield f'<path class="limit" d="M{x(bar.limit)} {y - 1}v22"/>'
            end = max(end, bar.limit)
            said += f' <tspan class="bound">{bar.limit_is} {shown(bar.limit, unit)}</tspan>'
        yield f'<text x="{x(end) + 6:.1f}" y="{y + 14}">{said}</text>'


def values(bar: Bar) -> tuple[list[float], str]:
    """What all runs have in its cell, in the base unit, and that unit.

    Raises:
        KeyError: no run has it.
    """
    cells = [
        dict(zip(run["columns"], row["values"], strict=True))[bar.column]
        for run in runs(bar.record)
        for row in run["rows"]
        if row["what"] == bar.what
    ]
    if not cells:
        raise KeyError(f"{bar.record}: {bar.what}")
    found = [number(cell) for cell in cells]
    return [value for value, _ in found], found[0][1]


def runs(record: str) -> list[dict[str, Any]]:
    """The recorded runs of a file, oldest first."""
    return [json.loads(line) for line in (RESULTS / f"{record}.jsonl").read_text(encoding="utf-8").splitlines()]


def number(cell: str) -> tuple[float, str]:
    """A cell of a table as a number and its unit; times in seconds."""
    found = _FIGURE.match(cell)
    if found is None:
        raise ValueError(f"no figure: {cell!r}")
    value, unit = float(found[1].replace(",", "")), found[2]
    return (value * _UNITS[unit], "s") if unit in _UNITS else (value, unit)


def shown(value: float, unit: str) -> str:
    """A figure for a reader."""
    if unit == "s" and value < 1:
        return f"{value * 1000:.3g} ms"
    text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{text} {unit}".rstrip()


if __name__ == "__main__":
    main()
