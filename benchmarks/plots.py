"""Draw the pictures of docs/dev/benchmarks.md from recorded runs: python -m benchmarks.plots

`--record benchmarks/results/NAME.jsonl` records a run. A bar is the median of the recorded runs, with a line from the
lowest to the highest. A dashed line is the limit. The same records always give the same bytes, so a test compares them
with the checked-in pictures.
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
"""Width of the picture, left end of the bars, and right end of the longest one."""
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
PICTURES: Mapping[str, Sequence[Panel]] = {
    "attempt.svg": (
        Panel(f"A whole attempt on {MANY}: time / bare download", _attempt(MANY, "wall / bare", 1.15)),
        Panel(f"A whole attempt on {LARGE}: time / bare download", _attempt(LARGE, "wall / bare", None)),
    ),
    "requests.svg": (
        Panel(f"Requests to lakeFS of an attempt on {MANY}", _requests(MANY)),
        Panel(f"Requests to lakeFS of an attempt on {LARGE}", _requests(LARGE)),
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
"""Panels by the name of the file."""


def main() -> None:
    """Draw all pictures."""
    for name, panels in PICTURES.items():
        (IMAGES / name).write_text(picture(panels), encoding="utf-8")


def picture(panels: Sequence[Panel]) -> str:
    """Return the text of a picture.

    Raises:
        KeyError: the records have no value for a bar.
    """
    height, parts = _EDGE, list[str]()
    for panel in panels:
        parts += _drawn(panel, height)
        height += _HEAD + _ROW * len(panel.bars) + _EDGE
    title = escape("; ".join(panel.title for panel in panels))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            'font-family="system-ui, sans-serif" font-size="13" role="img" aria-labelledby="title">',
            f'  <title id="title">{title}</title>',
            f"  <style>{_STYLE}</style>",
            f'  <rect class="back" width="{_WIDTH}" height="{height}" rx="8"/>',
            *(f"  {part}" for part in parts),
            "</svg>\n",
        ]
    )


def _drawn(panel: Panel, top: int) -> Iterator[str]:
    recorded = [values(bar) for bar in panel.bars]
    most = max([max(figures) for figures, _ in recorded] + [bar.limit or 0.0 for bar in panel.bars])

    def x(value: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * value / most, 1)

    yield f'<text class="title" x="{_EDGE}" y="{top + 14}">{escape(panel.title)}</text>'
    for number, (bar, (figures, unit)) in enumerate(zip(panel.bars, recorded, strict=True)):
        y, middle, end = top + 26 + _ROW * number, statistics.median(figures), max(figures)
        style, width, text = "ours" if bar.ours else "other", round(x(middle) - _LEFT, 1), shown(middle, unit)
        yield f'<text x="{_LEFT - 10}" y="{y + 14}" text-anchor="end">{escape(bar.label)}</text>'
        yield f'<rect class="{style}" x="{_LEFT}" y="{y + 2}" width="{width}" height="16" rx="2"/>'
        if len(figures) > 1:
            yield f'<path class="span" d="M{x(min(figures))} {y + 10}H{x(max(figures))}"/>'
        if bar.limit is not None:
            yield f'<path class="limit" d="M{x(bar.limit)} {y - 1}v22"/>'
            end = max(end, bar.limit)
            text += f' <tspan class="bound">{bar.limit_is} {shown(bar.limit, unit)}</tspan>'
        yield f'<text x="{x(end) + 6:.1f}" y="{y + 14}">{text}</text>'


def values(bar: Bar) -> tuple[list[float], str]:
    """Return the values of a bar's cell in all runs, in the base unit, and that unit.

    Raises:
        KeyError: no run has the cell.
    """
    cells = [
        dict(zip(run["columns"], row["values"], strict=True))[bar.column]
        for run in runs(bar.record)
        for row in run["rows"]
        if row["what"] == bar.what
    ]
    if not cells:
        raise KeyError(f"{bar.record}: {bar.what}")
    figures = [number(cell) for cell in cells]
    return [figure for figure, _ in figures], figures[0][1]


def runs(record: str) -> list[dict[str, Any]]:
    """Read the recorded runs of a file, oldest first."""
    return [json.loads(line) for line in (RESULTS / f"{record}.jsonl").read_text(encoding="utf-8").splitlines()]


def number(cell: str) -> tuple[float, str]:
    """Read a cell of a table as a number and its unit. Times are in seconds."""
    match = _FIGURE.match(cell)
    if match is None:
        raise ValueError(f"no figure: {cell!r}")
    value, unit = float(match[1].replace(",", "")), match[2]
    return (value * _UNITS[unit], "s") if unit in _UNITS else (value, unit)


def shown(value: float, unit: str) -> str:
    """Format a figure."""
    if unit == "s" and value < 1:
        return f"{value * 1000:.3g} ms"
    text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{text} {unit}".rstrip()


if __name__ == "__main__":
    main()
