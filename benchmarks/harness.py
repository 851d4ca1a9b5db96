"""Turns, medians, targets and the table of every benchmark.

Machines differ and are shared, so a benchmark never fails on a number. Contestants take turns, because a slow minute
must slow all of them, and their ratio within one run is what counts.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, TypeVar

Figures = TypeVar("Figures", bound=Any)

_record_to: list[Path] = []
"""The file of `--record`, if that option is set."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of one measurement. `cpu` counts all processes of the contestant."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Target:
    """A bound, and whether this run keeps to it. `limit` is in the unit of the measured value: seconds for times."""

    text: str
    met: bool
    limit: float | None = None

    def __str__(self) -> str:
        return f"{self.text}: {'met' if self.met else 'MISSED'}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table, with a value for each column."""

    what: str
    values: Sequence[str]
    target: Target | None = None


def interleave(contestants: Mapping[str, Callable[[], Cost]], rounds: int) -> dict[str, list[Cost]]:
    """Let each contestant run once a round, and return the costs of each."""
    costs: dict[str, list[Cost]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            costs[name].append(run())
    return costs


def timed(action: Callable[[], object]) -> Cost:
    """Measure a call in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def median(runs: Sequence[Figures]) -> Figures:
    """Return the median of each figure of the runs, which are dataclasses."""
    kind: Callable[..., Figures] = type(runs[0])
    return kind(*(statistics.median(figures) for figures in zip(*map(astuple, runs), strict=True)))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def under(limit: float, value: float, text: str) -> Target:
    """Return a target that is met below `limit`."""
    return Target(text, value < limit, limit)


def at_most(limit: float, value: float, text: str) -> Target:
    """Return a target that is met up to `limit`."""
    return Target(text, value <= limit, limit)


def at_least(limit: float, value: float, text: str) -> Target:
    """Return a target that is met from `limit` on."""
    return Target(text, value >= limit, limit)


def seconds(value: float) -> str:
    """Format a duration with three significant digits."""
    if value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} s" if value < 1000 else f"{value:.0f} s"


def ratio(value: float, base: float) -> str:
    """Format a multiple of `base`."""
    return f"{value / base:.2f} x" if base else "-"


def cost_values(cost: Cost, base: Cost) -> list[str]:
    """Format both figures of a cost, and their ratios to a base."""
    return [seconds(cost.wall), seconds(cost.cpu), ratio(cost.wall, base.wall), ratio(cost.cpu, base.cpu)]


def print_table(title: str, columns: Sequence[str], rows: Sequence[Row], *, depends_on: str) -> None:
    """Print the table of a run, and the property of the machine that its figures depend on."""
    lines = [["", *columns, "target"]]
    lines += [[row.what, *row.values, str(row.target or "")] for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    print(f"\n{title}")
    for number, line in enumerate(lines):
        cells = [text.rjust(width) for text, width in zip(line[1:-1], widths[1:-1], strict=True)]
        print("  ".join([line[0].ljust(widths[0]), *cells, line[-1]]).rstrip())
        if number == 0:
            print("-" * (sum(widths) + 2 * len(widths) - 2))
    print(f"Depends on: {depends_on}")
    for path in _record_to:
        run = {"on": time.strftime("%Y-%m-%d", time.gmtime()), "machine": machine(), "title": title}
        table = {"columns": list(columns), "rows": [_record_of(row) for row in rows]}
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(run | table)}\n")


def _record_of(row: Row) -> dict[str, object]:
    record: dict[str, object] = {"what": row.what.strip(), "values": list(row.values)}
    if row.target is not None:
        record |= {"target": row.target.text, "met": row.target.met, "limit": row.target.limit}
    return record


def rounds_option(description: str | None, default: int) -> int:
    """Read the command line of a benchmark whose only option is the number of rounds."""
    parser = command_line(description)
    parser.add_argument(
        "--rounds", type=int, default=default, help="measurements of each contestant (default %(default)s)"
    )
    rounds: int = options(parser).rounds
    return rounds


def command_line(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the option of every benchmark."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, metavar="FILE", help="append the result to this file, as JSON")
    return parser


def options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line, and print the machine: figures mean nothing without it."""
    namespace = parser.parse_args()
    if namespace.record:
        _record_to.append(namespace.record)
    print(machine())
    return namespace


def machine() -> str:
    """Describe the machine in one line."""
    load = ", load " + " ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{load}, Python {sys.version.split()[0]}"
