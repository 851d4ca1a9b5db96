"""What a person waits for: `perago --help`, `check` and `extract` against importing the three libraries they stand on.

The base is a process that imports pydantic, pydantic-settings and typer and does nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial

from benchmarks.harness import Row, Target, arguments, interleave, median, print_table, ratio, seconds, under
from benchmarks.processes import run_command

MODULE = "benchmarks.tasks.editing"
BASE = "importing pydantic, pydantic-settings, typer"
LIMIT = 1.6
COMMANDS: dict[str, Sequence[str]] = {
    "an empty Python": ["-c", "pass"],
    BASE: ["-c", "import pydantic, pydantic_settings, typer"],
    "perago --help": ["-m", "perago", "--help"],
    "perago check MODULE": ["-m", "perago", "check", MODULE],
    "perago extract MODULE": ["-m", "perago", "extract", MODULE],
}


def main() -> None:
    """Run and print."""
    rounds = arguments(__doc__, rounds=9).rounds
    contestants = {name: partial(run_command, [sys.executable, *words]) for name, words in COMMANDS.items()}
    os.environ.pop("PERAGO_WORKER_ID", None)
    interleave(contestants, 1)  # byte code and disk cache
    costs = {name: median(found) for name, found in interleave(contestants, rounds).items()}
    base = costs[BASE]
    rows = []
    for name, cost in costs.items():
        target: Target | None = None
        if name.startswith("perago"):
            target = under(LIMIT, cost.wall / base.wall, f"under {LIMIT} x")
        values = [seconds(cost.wall), seconds(cost.cpu), ratio(cost.wall, base.wall), ratio(cost.cpu, base.cpu)]
        rows.append(Row(name, values, target))
    print_table(
        f"cold_start, median of {rounds} runs each, taking turns",
        ["wall", "cpu", "wall / base", "cpu / base"],
        rows,
        depends_on="processor speed, a warm file cache, a free core (`check` and `extract` import in a child process)",
    )


if __name__ == "__main__":
    main()
