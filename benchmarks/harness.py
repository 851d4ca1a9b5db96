"""What every benchmark shares: interleaved measurements, medians and the table.

Machines differ and are shared, so nothing here fails on a number. Contestants take turns, because a slow minute must
hit them alike, and what counts is their ratio within one run.
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
from dataclasses import dataclass
from pathlib import Path

_record_to: list[Path] = []
"""The file of `--record`, where it was given."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one measurement took, in seconds. `cpu` counts every process that took part on our side."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Target:
    """A bound from the project's plan, and whether this run keeps to it."""

    text: str
    met: bool
    limit: float | None = None
    """The bound as a number, in the unit of the value that it is held against: seconds for times."""

    def __str__(self) -> str:
        return f"{self.text}: {'met' if self.met else 'MISSED'}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: what was measured, one value for each contestant, and the target if there is one."""

    what: str
    values: Sequence[str]
    target: Target | None = None


def interleave(contestants: Mapping[str, Callable[[], Cost]], rounds: int) -> dict[str, list[Cost]]:
    """Let each contestant run once a round; returns what each took."""
    costs: dict[str, list[Cost]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            costs[name].append(run())
    return costs


def timed(action: Callable[[], object]) -> Cost:
    """What `action` takes in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def median(costs: Sequence[Cost]) -> Cost:
    """The median of each figure by itself."""
    return Cost(statistics.median(cost.wall for cost in costs), statistics.median(cost.cpu for cost in costs))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def under(limit: float, value: float, text: str) -> Target:
    """A target that `value` keeps to by staying below `limit`."""
    return Target(text, value < limit, limit)


def at_most(limit: float, value: float, text: str) -> Target:
    """A target that `value` keeps to by not exceeding `limit`."""
    return Target(text, value <= limit, limit)


def at_least(limit: float, value: float, text: str) -> Target:
    """A target that `value` keeps to by reaching `limit`."""
    return Target(text, value >= limit, limit)


def seconds(value: float) -> str:
    """A duration with three significant digits."""
    if value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} s" if value < 1000 else f"{value:.0f} s"


def ratio(value: float, base: float) -> str:
    """How many times `base` it is."""
    return f"{value / base:.2f} x" if base else "-"


def print_table(title: str, contestants: Sequence[str], rows: Sequence[Row], *, depends_on: str) -> None:
    """Print the result of a run, and what property of the machine it hangs on."""
    lines = [["", *contestants, "target"]]
    lines += [[row.what, *row.values, str(row.target or "")] for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    print(f"\n{title}")
    for number, line in enumerate(lines):
        cells = [text.rjust(width) for text, width in zip(line[1:-1], widths[1:-1], strict=True)]
        print("  ".join([line[0].ljust(widths[0]), *cells, line[-1]]).rstrip())
        if number == 0:
            print("-" * (sum(widths) + 2 * len(widths) - 2))
    print(f"Depends on: {depends_on}")
    if _record_to:
        record(_record_to[-1], title, contestants, rows)


def record(path: Path, title: str, contestants: Sequence[str], rows: Sequence[Row]) -> None:
    """Append a table to a file of recorded runs, one JSON object a line: what `benchmarks.plots` draws from."""
    run = {
        "on": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "title": title,
        "columns": list(contestants),
        "rows": [
            {"what": row.what.strip(), "values": list(row.values), **(_of_target(row.target) if row.target else {})}
            for row in rows
        ],
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps(run)}\n")


def _of_target(target: Target) -> dict[str, object]:
    return {"target": target.text, "met": target.met, "limit": target.limit}


def arguments(description: str | None, *, rounds: int) -> argparse.Namespace:
    """The command line of a benchmark: how many rounds, and where `print_table` records them."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=rounds, help="measurements of each contestant (default %(default)s)"
    )
    parser.add_argument("--record", type=Path, metavar="FILE", help="append the result to this file, as JSON")
    found = parser.parse_args()
    if found.record:
        _record_to.append(found.record)
    print_machine()
    return found


def machine() -> str:
    """One line about where this runs: figures mean nothing without it."""
    load = ", load " + " ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{load}, Python {sys.version.split()[0]}"


def print_machine() -> None:
    """Say where this runs."""
    print(machine())
