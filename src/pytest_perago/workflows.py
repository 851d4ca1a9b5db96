"""The generated tests of a workflow: check its wiring, compare its definition with its snapshot, and run its recorded
runs again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perago.taskdef import canonical_json
from perago.text import count
from perago.trees.cases import WORKFLOW, CaseFailed, Cause, read_tree, recorded_cases
from perago.trees.differences import AttemptResult
from pytest_perago.kinds import Case, Location, printable
from pytest_perago.kinds.run import location_of, read_case
from pytest_perago.options import Settings
from pytest_perago.session import Session
from pytest_perago.snapshots import SnapshotFile, compare_with_record

if TYPE_CHECKING:
    from perago.testing.workflow_run import WorkflowRun
    from perago.workflows import Workflow
    from perago.workflows.sdk import SdkWorkflow

_MOST_DIFFERENCES = 50


def workflow_cases(workflow: Workflow[Any, Any] | SdkWorkflow, session: Session) -> Iterator[Case]:
    """Yield the tests of one workflow."""
    location = Location(Path(workflow.file), workflow.line)

    def wiring(_: Session) -> None:
        _build(workflow)

    def definition(session: Session) -> None:
        _build(workflow)
        path = workflow_snapshot(workflow, session.settings)
        file = SnapshotFile(path, "workflow", session.settings, "--perago-snapshot-dir", session.rerun_command)
        expected = canonical_json(workflow.definition()).encode()
        session.add_snapshot(file.check(expected, lambda actual: _differing(file, actual, expected)))

    yield Case("", wiring, location, kind="wiring")
    yield Case("", definition, location, kind="definition")
    from perago.workflows import Workflow

    if session.settings.run != "off" and isinstance(workflow, Workflow):  # `perago capture` records no others
        for directory in recorded_cases(session.settings.cases_dir, workflow.name + WORKFLOW):
            yield Case(directory.name, partial(_run, workflow, directory), location_of(directory), kind="run")


def _run(workflow: Workflow[Any, Any], directory: Path, session: Session) -> None:
    """Run a recorded run again, and compare both."""
    from perago.testing import TaskRunner
    from perago.workflows.definition import complete_input

    case, record = read_case(directory)
    _build(workflow)
    tree = {path: file for path, file in read_tree(case.tree).items() if isinstance(file, bytes)}
    try:
        params = complete_input(workflow.definition(), case.params)
    except ValueError as error:
        raise CaseFailed(Cause.CONTRACT, f"the params of {case.label!r} are not valid: {error}") from None

    def result() -> AttemptResult:
        watch = session.watch()
        with watch.case(case.label), watch.user_code(), TaskRunner() as run:
            try:
                return _result(run.workflow(workflow, params, tree=tree, signals=case.signals), tree)
            except (LookupError, TypeError) as error:
                problem = f"the signals of {case.label!r} are not valid: {error}"
                raise CaseFailed(Cause.CONTRACT, problem) from None

    if record is not None:
        compare_with_record(session, case, record, result(), tree, result)


def _result(ran: WorkflowRun, tree: Mapping[str, bytes]) -> AttemptResult:
    """The outcome of a workflow, for a comparison with the recorded one."""
    if ran.status != "COMPLETED":
        reasons = [
            outcome.reason
            for outcome in ran.outcomes
            if outcome.reason and outcome.task["status"] != "COMPLETED_WITH_ERRORS"
        ]
        return AttemptResult("failed", reasons[-1] if reasons else ran.reason or f"it is {ran.status}")
    files = {path: content for path, content in ran.tree.items() if tree.get(path) != content}
    return AttemptResult("completed", "", ran.result, files, frozenset(tree.keys() - ran.tree.keys()))


def workflow_snapshot(workflow: Workflow[Any, Any] | SdkWorkflow, settings: Settings) -> Path:
    """Return the snapshot of a workflow, which is next to that of the task of its module."""
    return settings.snapshot_dir / workflow.module / f"{workflow.name}.workflow.json"


def _build(workflow: Workflow[Any, Any] | SdkWorkflow) -> None:
    from perago.workflows import WorkflowDefinitionError

    try:
        workflow._build()
    except WorkflowDefinitionError as error:
        summary = f"the wiring of workflow {workflow.name} has {count(len(error.problems), 'mistake')}"
        raise CaseFailed(Cause.MISTAKE, summary, details=[str(problem) for problem in error.problems]) from None


def _differing(file: SnapshotFile, actual: bytes, expected: bytes) -> CaseFailed:
    """Build the failure for a snapshot that differs from the definition."""
    from perago.workflows.registered import classify_workflows

    text, now = actual.decode(errors="replace"), expected.decode()
    try:
        old = json.loads(text)
    except ValueError as error:
        return file.failed(f"the snapshot is not JSON: {error}", details=[file.diff(text, now), file.accept])
    new = json.loads(now)
    changes = [printable(change.text) for change in classify_workflows(old, new)] if isinstance(old, dict) else []
    advice = ""
    if isinstance(old, dict) and old.get("version") == new["version"]:
        advice = "increase version= if this version is registered: running workflows keep the version that they have"
    facts = [("fix", advice)] if advice else []
    shown = "\n".join(changes[:_MOST_DIFFERENCES])
    return file.failed("the workflow differs from its snapshot", facts, [shown, file.diff(text, now), file.accept])
