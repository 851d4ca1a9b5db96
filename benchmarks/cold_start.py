"""The start of `perago --help`, `check` and `extract`, compared with the import of the three libraries below them.

The base is a process that imports pydantic, pydantic-settings and typer and does nothing. The imports of the official
SDKs are measured next to it, because perago's commands do without them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial

from benchmarks.harness import Row, cost_values, interleave, median, print_table, rounds_option, under
from benchmarks.processes import run_command

MODULE = "benchmarks.tasks.editing"
PYTEST = ["-m", "pytest", "-c", os.devnull, "--help"]
BASE = "importing pydantic, pydantic-settings, typer"
LIMIT = 1.5
COMMANDS: dict[str, Sequence[str]] = {
    "an empty Python": ["-c", "pass"],
    BASE: ["-c", "import pydantic, pydantic_settings, typer"],
    "perago --help": ["-m", "perago", "--help"],
    "perago check MODULE": ["-m", "perago", "check", MODULE],
    "perago extract MODULE": ["-m", "perago", "extract", MODULE],
    "importing conductor-python": ["-c", "import conductor.client.orkes_clients"],
    "importing lakefs": ["-c", "import lakefs"],
    "importing httpx": ["-c", "import httpx"],
    "pytest --help": [*PYTEST, "-p", "no:conductor-agents-testing"],
    "pytest --help with the plugin of conductor-python": PYTEST,
}


def main() -> None:
    """Run and print."""
    rounds = rounds_option(__doc__, 9)
    contestants = {name: partial(run_command, [sys.executable, *arguments]) for name, arguments in COMMANDS.items()}
    os.environ.pop("PERAGO_WORKER_ID", None)
    interleave(contestants, 1)  # byte code and disk cache
    costs = {name: median(runs) for name, runs in interleave(contestants, rounds).items()}
    base = costs[BASE]
    rows = [
        Row(
            name,
            cost_values(cost, base),
            under(LIMIT, cost.wall / base.wall, f"under {LIMIT} x") if name.startswith("perago") else None,
        )
        for name, cost in costs.items()
    ]
    print_table(
        f"cold_start, median of {rounds} runs each, taking turns",
        ["wall", "cpu", "wall / base", "cpu / base"],
        rows,
        depends_on="processor speed, a warm file cache, a free core (`check` and `extract` import in a child process)",
    )


if __name__ == "__main__":
    main()
