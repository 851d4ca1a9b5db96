"""Type checkers know the package: mypy, without a plugin, finds the mistakes of authors in tasks and in workflows.

The types that fixtures give are in `testing/user_types.py`, which `make test` checks.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

TASKS = """
from pathlib import Path
from pydantic import BaseModel
from perago import Example, RetryPolicy, TaskControls, WorkspaceSpec, __version__, current, require_glob, task

class Params(BaseModel):
    n: int

class Result(BaseModel):
    n: int

BY_MODEL = Example(id="b", params=Params(n=1), result=Result(n=1))
@task(
    name="typed",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(prefix="/", pre=[require_glob(Path("raw") / "*.csv", min_count=1)]),
    controls=TaskControls(retry=RetryPolicy(count=1, logic="FIXED")),
    examples=[Example(id="a", params={"n": 1}, tree={"a": "", "b": None, "c": b""}), BY_MODEL],
)
def work(workspace: Path, params: Params) -> Result:
    current().log(__version__)
    return Result(n=params.n)

WorkspaceSpec(readonly=True)  # readonly
@task  # Too many positional arguments
def bare(params: Params) -> Result:
    return Result(n=1)
"""

WIRING = """
from datetime import UTC, datetime
from pydantic import BaseModel
from perago.workflows import FailedWorkflow, Flow, workflow
from tests.workflows.tasks import Found, Named, Round, Rounds, Split, Words, alone, count, split, write

class Given(BaseModel):
    text: str

class Report(BaseModel):
    weight: float

@workflow(name="a", version=1, owner_email="data@example.com")
def good(flow: Flow, given: Given) -> Report:
    words = flow.step("words", split, Words, text=given.text)
    parts = flow.fork("parts", ("a", "b"), lambda name: flow.step("part", write, Named, name=name))
    written = flow.map("each", words.result.words, lambda word: flow.step("file", write, Named, name=word))
    flow.map("again", written, lambda found: flow.step("copy", write, Named, name=found.kind))
    with flow.loop("rounds", at_most=3) as loop:
        counted = flow.step("count", count, Rounds, rounds=3)
        loop.until(counted.result.is_done)
    with flow.when("done", counted.result.rounds >= 2) as done:
        with done.then():
            flow.fail("few", "only {n}", n=counted.result.rounds)
        with done.otherwise():
            flow.step("more", split, Words, text="b")
    signal = flow.wait_for("signal", Words, timeout_minutes=5, on_timeout=Words(text="a"))
    flow.step("text", split, Words, text=signal.result.text)
    flow.sleep(minutes=counted.result.rounds)
    flow.sleep_until(datetime.now(UTC))
    return flow.value(Report, weight=parts[0].result.weight)

class FailedText(FailedWorkflow):
    text: str

@workflow(name="c", version=1, owner_email="data@example.com")
def cleanup(flow: Flow, failed: FailedText) -> None:
    flow.step("words", split, Words, text=failed.reason + failed.text)

@workflow(name="d", version=1, owner_email="data@example.com", on_failure=cleanup, timeout_seconds=60)
def handled(flow: Flow, given: Given) -> None:
    with flow.options(timeout_seconds=9):
        flow.step("words", split, Words, text=given.text)

@workflow(name="e", version=1, owner_email="data@example.com", on_failure=good)  # cannot be "Given"
def unhandled(flow: Flow, given: Given) -> None: ...

@workflow(name="b", version=1, owner_email="data@example.com")
def bad(flow: Flow, given: Given) -> Report:
    flow.step("one", alone, Named, nam="a")  # Unexpected keyword argument "nam"
    flow.step("two", alone, Named, name=3)  # incompatible type "int"; expected "str"
    flow.step("three", alone, Words, text="a")  # incompatible type
    flow.step("four", count, Rounds)  # Missing positional argument|Missing named argument
    found = flow.step("five", split, Words, text=given.txt)  # has no attribute "txt"
    flow.map("each", found.result.words, lambda word: flow.step("n", count, Rounds, rounds=word))  # expected "int"
    found.result.word  # has no attribute "word"
    part = flow.sub("six", good, Given, text=1)  # expected "str"
    part.result.heavy  # has no attribute "heavy"
    flow.map("nine", found.result.words, lambda word: flow.step("m", split, Words, text=word))[0].word  # no attribute
    flow.when("seven", found.result.words)  # expected "bool"
    flow.loop("eight", at_most=3, on_exhausted="stop")  # expected
    flow.wait_for("seven", Words).result.word  # has no attribute "word"
    flow.wait_for("eight", str)  # Value of type variable
    flow.sleep(minutes="3")  # expected "int"
    flow.sleep_until(given.text)  # expected "datetime"
    return flow.value(Report, weight="a")  # expected "float"
"""


@pytest.mark.parametrize("package", ["perago", "pytest_perago"])
def test_a_package_says_that_it_is_typed(package: str) -> None:
    assert files(package).joinpath("py.typed").is_file()


def test_mypy_reports_each_wrong_line_and_no_other(tmp_path: Path) -> None:
    """A comment at the end of a line is the error that mypy must report there."""
    sources = {"tasks": TASKS + "reveal_type(work)\n", "wiring": WIRING}
    for name, text in sources.items():
        (tmp_path / f"{name}.py").write_text(text)
    options = ["--config-file=", "--strict", "--no-error-summary", f"--cache-dir={tmp_path / 'cache'}"]
    command = [sys.executable, "-m", "mypy", *options, *(str(tmp_path / f"{name}.py") for name in sources)]
    root = Path(__file__).parents[1]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=False)

    errors: dict[tuple[str, int], str] = {}
    for name, line, text in re.findall(r"(\w+)\.py:(\d+): error: (.*)", ran.stdout):
        errors[name, int(line)] = f"{errors.get((name, int(line)), '')}{text} "
    expected = {
        (name, number): line.partition("  # ")[2]
        for name, text in sources.items()
        for number, line in enumerate(text.splitlines(), 1)
        if "  # " in line
    }
    assert errors.keys() == expected.keys(), ran.stdout
    for place, pattern in expected.items():
        assert re.search(pattern, errors[place]), errors[place]
    assert 'Revealed type is "def (workspace: pathlib.Path, params: tasks.Params) -> tasks.Result"' in ran.stdout
