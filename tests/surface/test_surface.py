"""What users rely on stays as it is: names, signatures, options, exit codes, JSON documents, test ids, variables, logs,
metrics and commit metadata.

    WRITE_SURFACE=1 python -m pytest tests/surface

writes `public_surface.txt` again after an intended change, which needs a line in CHANGELOG.md. To enforce that, a
change is written only if the changelog differs from that of the last commit. Outside of a git checkout, it must differ
from the one whose checksum is in the first line of the file. That line also has a checksum of the other lines.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from perago.trees.cases import CASE

from ..cli.conftest import Project
from ..cli.dev_command import ready
from .leaks import leaks
from .listing import PUBLIC_MODULES, everything, shape_of

FILE = Path(__file__).with_name("public_surface.txt")
CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"


def checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


HEADER = FILE.read_text(encoding="utf-8").splitlines()[0]
"""As it was before these tests wrote anything."""

TASK = """
from pathlib import Path
from pydantic import BaseModel
from perago import Example, TaskTerminalError, WorkspaceSpec, require_glob, task

class Params(BaseModel):
    rows: int = 1

class Result(BaseModel):
    total: int

@task(
    name="features.build",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(pre=[require_glob("*.csv")]),
    examples=[Example(id="one", params={"rows": 1}, tree={"a.csv": "x"})],
)
def work(workspace: Path, params: Params) -> Result:
    print("counting")
    if params.rows < 0:
        raise TaskTerminalError("below zero")
    (workspace / "b.csv").write_text("y")
    return Result(total=params.rows)
"""


def compare(kinds: tuple[str, ...], actual: set[str]) -> None:
    """Compare the lines of these kinds with the file, or write them there."""
    lines = FILE.read_text(encoding="utf-8").splitlines()[1:]
    other_lines = [line for line in lines if line.split(" ", 1)[0] not in kinds]
    expected = sorted(line for line in lines if line.split(" ", 1)[0] in kinds)
    difference = [line for line in difflib.ndiff(expected, sorted(actual)) if line[0] in "+-"]
    changes = "\n".join(difference)
    if os.environ.get("WRITE_SURFACE"):
        changelog = checksum(CHANGELOG.read_text(encoding="utf-8"))
        if difference and changelog == (committed(CHANGELOG) or HEADER[-16:]):
            pytest.fail(
                f"the public surface has changed:\n{changes}\nfix: add a line to CHANGELOG.md first", pytrace=False
            )
        lines = sorted([*other_lines, *actual])
        FILE.write_text("\n".join([header(lines, changelog), *lines]) + "\n", encoding="utf-8")
    elif difference:
        pytest.fail(f"the public surface has changed:\n{changes}\nfix: {FIX}", pytrace=False)


FIX = "undo the change, or add a line to CHANGELOG.md and run: WRITE_SURFACE=1 python -m pytest tests/surface"


def committed(file: Path) -> str | None:
    """Return the checksum of a file in the last commit, or None outside of a git checkout."""
    if shutil.which("git") is None:
        return None
    command = ["git", "show", f"HEAD:./{file.name}"]
    done = subprocess.run(command, cwd=file.parent, capture_output=True, check=False, timeout=60)
    return None if done.returncode else checksum(done.stdout.decode())


def header(lines: list[str], changelog: str) -> str:
    return f"# lines {checksum(''.join(lines))} changelog {changelog}"


@pytest.mark.any_python
def test_names_options_tests_variables_logs_metrics_and_metadata() -> None:
    kinds = ("python", "cli", "exit", "plugin", "env", "log", "metric", "commit")
    compare(kinds, set(everything()))


@pytest.mark.any_python
def test_json_documents(project: Project) -> None:
    shapes = set[str]()
    project.module("features", TASK)
    sample = project.directory / "sample"
    sample.mkdir()
    (sample / "a.csv").write_text("x")
    with ready(project, "features", "--workspace", "sample") as dev:
        variables = dev.variables()

        def read(*arguments: str) -> None:
            ran = project.run(*arguments, "--json", **variables)
            shapes.update(f"json {arguments[0]} {line}" for line in shape_of(json.loads(ran.out)))

        def send(params: str) -> str:
            ran = project.run("send", "features", "--branch", "dev/main", "--params", params, "--follow", **variables)
            workflow = ran.err.splitlines()[0].removeprefix("started workflow ")
            return str(dev.get(f"/workflow/{workflow}")["tasks"][-1]["taskId"])

        failed, completed = send('{"rows": -1}'), send('{"rows": 2}')
        workflow = str(dev.get(f"/tasks/{failed}")["workflowInstanceId"])
        case = Path(project.run("capture", completed, "features", **variables).out.strip(), CASE)
        recorded = json.loads((project.directory / case).read_text())
        shapes.update(
            f"json {CASE} {line}" for line in shape_of({**recorded, "published": [*recorded["published"].values()]})
        )
        for task_id in (failed, completed):
            read("show", task_id)
            read("replay", task_id)
        read("backtest", "features", "--last", "2")
        read("log", "dev/main")
        read("status", "features")
        read("list")
        read("doctor", "features")
        read("diff", "features")
        read("check", "features")
        read("config")
        read("cache")
        read("fence", "status", "dev/main")
        read("gc", "dev")
        read("run", "features", "--workspace", "sample")
        project.module("broken", "raise RuntimeError('no')")
        read("check", "broken")
        for command in ("retry", "rerun"):
            read(command, workflow)
            dev.finished(workflow)
    log = [
        line
        for file in Path(project.environment["HOME"]).rglob("date=*.jsonl")
        for line in file.read_text().splitlines()
    ]
    shapes.update(f"json log-line {shape}" for line in log for shape in shape_of(json.loads(line) | {"steps": {}}))
    compare(("json",), shapes)


def test_the_page_on_compatibility_names_each_public_module() -> None:
    page = (CHANGELOG.parent / "docs/compatibility.md").read_text(encoding="utf-8")
    assert [name for name in PUBLIC_MODULES if f"`{name}`" not in page] == []


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_change_needs_a_changelog_line_in_its_own_commit(tmp_path: Path) -> None:
    file = tmp_path / "CHANGELOG.md"
    file.write_text("- A line of an earlier change.\n")
    assert committed(file) is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True, timeout=60)
    assert committed(file) == checksum(file.read_text())


def test_the_file_is_as_it_was_written_with_a_changelog_line() -> None:
    first, *lines = FILE.read_text(encoding="utf-8").splitlines()
    assert header(lines, first[-16:]) == first, "write it with WRITE_SURFACE=1"


# -------------------------------------------------------------------- types that public names give


LEAKY = """
from __future__ import annotations
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal
from perago.cache.objects import Ledger
from perago.driver import AttemptRecord
from perago.embedded.lakefs.values import BlobSink as Base
from perago.retry import BackOff
if TYPE_CHECKING:
    from perago.cache.objects import Shelf

__all__ = ["Public", "alias", "function"]

alias = tuple[AttemptRecord, Literal["text"]]

class Hidden: ...

def function(one: list[Shelf], _two: BackOff) -> Public: ...

class Public(Base):
    field: Hidden | None
    _field: BackOff

    def __init__(self, given: Ledger, _hidden: BackOff) -> None:
        self.given = given
        self.made: dict[str, Ledger] = {}
        self._made: BackOff = _hidden

    @property
    def name(self) -> Iterable[Hidden]: ...

    def _method(self) -> BackOff: ...
"""


NOT_FOR_TESTS = {"perago.ports.Trace": ["perago.testing.Delivery.__init__(trace)", "perago.testing.Delivery.trace"]}
"""Types of fields that tests have no use for: only exporters read the span of a delivery."""


@pytest.mark.any_python
def test_each_type_that_a_public_name_gives_can_be_imported() -> None:
    assert leaks() == NOT_FOR_TESTS, "export and document the type, or hide its place behind an underscore"


@pytest.mark.any_python
def test_the_walk_finds_types_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "perago_leaky.py").write_text(LEAKY)
    monkeypatch.syspath_prepend(tmp_path)
    assert leaks("perago_leaky") == {
        "perago.cache.objects.Ledger": [
            "perago_leaky.Public.__init__(given)",
            "perago_leaky.Public.given",
            "perago_leaky.Public.made",
        ],
        "perago.cache.objects.Shelf": ["perago_leaky.function(one)"],
        "perago.driver.runtime.AttemptRecord": ["perago_leaky.alias"],
        "perago.embedded.lakefs.values.Blob": ["perago_leaky.Public.finish"],
        "perago.embedded.lakefs.values.BlobSink": ["perago_leaky.Public (base)", "perago_leaky.Public.__enter__"],
        "perago_leaky.Hidden": ["perago_leaky.Public.field", "perago_leaky.Public.name"],
    }
