"""The cost of the pytest plugin: installed but idle, collecting many task modules, running cases, and fuzzing.

The base of a table is pytest on the same empty test without the plugin (`-p no:perago`). Plugins of other packages are
off in both. Collecting is compared with importing the same modules in a bare Python: below a directory that pytest
walks, and next to its arguments, where each module is a file argument. Running counts attempts: a case with a workspace
makes three (one, one again, and one after the lost report of the second). Fuzzing is compared with hypothesis alone: as
many tests, which draw small trees and do nothing with them.
"""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.harness import (
    Cost,
    Row,
    at_most,
    cost_values,
    interleave,
    median,
    print_table,
    rounds_option,
    seconds,
    under,
)
from benchmarks.processes import run_command

MODULES = 200
FUZZED = 20
FUZZ_TESTS_A_MODULE = 4
ATTEMPTS_A_CASE = 3
PLAIN = "pytest without the plugin"
IDLE = "the plugin, idle"
IMPORTS = f"importing {MODULES} task modules"
COLLECT = f"collecting {MODULES} task modules"
COLLECT_BESIDE = "the same next to the tests"
COLLECT_RUN = "collecting their cases alone"
RUN = f"running {MODULES} cases"
COLLECT_FUZZ = f"collecting the fuzz tests of {FUZZED} modules"
FUZZ = f"fuzzing {FUZZED} modules"
DRAW = "as many tests of hypothesis alone"

OTHERS = ("hypothesispytest", "conductor-agents-testing", "anyio", "xdist", "platformdirs", "cacheprovider")
PYTEST = [sys.executable, "-m", "pytest", "-q", *(option for name in OTHERS for option in ("-p", f"no:{name}"))]

HYPOTHESIS = """
import pytest
from hypothesis import given, settings, strategies as st

@pytest.mark.parametrize("number", range({tests}))
@settings(max_examples=25, database=None)
@given(tree=st.dictionaries(st.text(min_size=1), st.binary(max_size=8), max_size=5))
def test_draw(number, tree): pass
"""

TASK = """
from pathlib import Path
from pydantic import BaseModel
from perago import Example, WorkspaceSpec, require_glob, task

class Params(BaseModel):
    factor: int = 1

class Result(BaseModel):
    size: int

@task(
    name="bench.task{number}",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(pre=[require_glob("in/*.csv")], post=[require_glob("out/*.csv")]),
    examples=[Example(id="one", params={{"factor": 2}}, tree={{"in/a.csv": "x"}}, result={{"size": 2}})],
)
def work(workspace: Path, params: Params) -> Result:
    target = workspace / "out" / "a.csv"
    target.parent.mkdir()
    target.write_text((workspace / "in" / "a.csv").read_text() * params.factor)
    return Result(size=target.stat().st_size)
"""


def main() -> None:
    """Run and print."""
    rounds = rounds_option(__doc__, 3)
    with tempfile.TemporaryDirectory() as directory:
        write_project(Path(directory))
        measure(Path(directory), rounds)


def write_project(directory: Path) -> None:
    """Write many task modules, one empty test, and the tests of hypothesis alone."""
    package = directory / "bench_tasks"
    package.mkdir()
    (package / "__init__.py").touch()
    for number in range(MODULES):
        (package / f"task{number:03}.py").write_text(TASK.format(number=number))
    (directory / "test_empty.py").write_text("def test_empty(): pass\n")
    (directory / "hypothesis_alone.py").write_text(HYPOTHESIS.format(tests=FUZZED * FUZZ_TESTS_A_MODULE))


def measure(directory: Path, rounds: int) -> None:
    """Let the contestants take turns, and print the table."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(directory), *sys.path])}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling is not what pytest does at every start
    environment["PYTHONPYCACHEPREFIX"] = str(directory / ".bytecode")
    empty = [*PYTEST, "--rootdir", str(directory), str(directory / "test_empty.py")]
    walked = [*PYTEST, "--rootdir", str(directory), "--perago-modules", "bench_tasks", str(directory)]
    beside = [*walked[:-1], str(directory / "test_empty.py")]
    names = [f"bench_tasks.task{number:03}" for number in range(MODULES)]
    fuzzed = [*PYTEST, "--rootdir", str(directory), "--perago-kinds", "fuzz"]
    fuzzed += ["--perago-modules", ",".join(names[:FUZZED]), str(directory / "test_empty.py")]
    commands = {
        PLAIN: [*empty, "-p", "no:perago"],
        IDLE: empty,
        IMPORTS: [sys.executable, "-c", f"import pytest, {', '.join(names)}"],
        COLLECT: [*walked, "--collect-only"],
        COLLECT_BESIDE: [*beside, "--collect-only"],
        COLLECT_RUN: [*walked, "--perago-kinds", "run", "--collect-only"],
        RUN: [*walked, "--perago-kinds", "run"],
        COLLECT_FUZZ: [*fuzzed, "--collect-only"],
        FUZZ: fuzzed,
        DRAW: [*PYTEST, "-p", "no:perago", "--rootdir", str(directory), str(directory / "hypothesis_alone.py")],
    }
    contestants = {name: partial(run_command, command, environment) for name, command in commands.items()}
    interleave(contestants, 1)
    runs = interleave(contestants, rounds)
    costs = {name: median(taken) for name, taken in runs.items()}
    idle = median([over(idle, plain) for idle, plain in zip(runs[IDLE], runs[PLAIN], strict=True)])
    collecting = over(costs[COLLECT], costs[IMPORTS])
    running = over(costs[RUN], costs[COLLECT_RUN])
    attempts = 10_000 * running.cpu / (MODULES * ATTEMPTS_A_CASE)
    fuzzing = over(costs[FUZZ], costs[COLLECT_FUZZ]).wall / FUZZED
    targets = {
        IDLE: at_most(0.008, idle.cpu, f"at most 8 ms of processor time over plain: {seconds(max(idle.cpu, 0))}"),
        COLLECT: under(2, collecting.cpu, f"under 2 s beyond the imports: {seconds(collecting.cpu)}"),
        FUZZ: under(1, fuzzing, f"under 1 s a module: {seconds(fuzzing)}"),
        RUN: under(60, attempts, f"10,000 attempts under 60 s: {seconds(attempts)}"),
    }
    rows = [Row(name, cost_values(cost, costs[PLAIN]), targets.get(name)) for name, cost in costs.items()]
    print_table(
        f"plugin, median of {rounds} runs each, taking turns",
        ["wall", "cpu", "wall / plain", "cpu / plain"],
        rows,
        depends_on="processor speed, a warm file cache, and for the cases small files in memory (/dev/shm)",
    )


def over(cost: Cost, base: Cost) -> Cost:
    """Return the difference to a base."""
    return Cost(cost.wall - base.wall, cost.cpu - base.cpu)


if __name__ == "__main__":
    main()
