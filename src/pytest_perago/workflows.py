"""The generated tests of a workflow: check its wiring, and compare its definition with its snapshot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perago.taskdef import canonical_json
from perago.testing.tasks import CaseFailed, Cause
from perago.text import count
from pytest_perago.options import Settings
from pytest_perago.session import Case, Location, Session, printable
from pytest_perago.snapshots import SnapshotFile

if TYPE_CHECKING:
    from perago.workflows import Workflow

_MOST_DIFFERENCES = 50


def workflow_cases(workflow: Workflow[Any, Any]) -> Iterator[Case]:
    """Yield the tests of one workflow."""
    location = Location(Path(workflow.location.file), workflow.location.line)

    def wiring(_: Session) -> None:
        _build(workflow)

    def definition(session: Session) -> None:
        _build(workflow)
        path = workflow_snapshot(workflow, session.settings)
        file = SnapshotFile(path, "workflow", session.settings, "--perago-snapshot-dir", session.rerun_command)
        expected = canonical_json(workflow.definition()).encode()
        session.add_snapshot(file.check(expected, lambda found: _differing(file, found, expected)))

    yield Case("wiring", "", wiring, location)
    yield Case("definition", "", definition, location)


def workflow_snapshot(workflow: Workflow[Any, Any], settings: Settings) -> Path:
    """Return the snapshot of a workflow, which is next to that of the task of its module."""
    return settings.snapshot_dir / workflow.module / f"{workflow.name}.workflow.json"


def _build(workflow: Workflow[Any, Any]) -> None:
    from perago.workflows import WorkflowDefinitionError

    try:
        workflow.build()
    except WorkflowDefinitionError as error:
        summary = f"the wiring of workflow {workflow.name} has {count(len(error.problems), 'mistake')}"
        raise CaseFailed(Cause.MISTAKE, summary, details=[str(one) for one in error.problems]) from None


def _differing(file: SnapshotFile, found: bytes, expected: bytes) -> CaseFailed:
    """Build the failure for a snapshot that differs from the definition."""
    from perago.workflows.registered import classify_workflows

    text, now = found.decode(errors="replace"), expected.decode()
    if text.replace("\r\n", "\n") == now:
        return file.failed("the snapshot differs only in its line ends", file.ending_in_crlf(), [file.accept])
    try:
        old = json.loads(text)
    except ValueError as error:
        return file.failed(f"the snapshot is not JSON: {error}", details=[file.diff(text, now), file.accept])
    new = json.loads(now)
    changes = [printable(one.text) for one in classify_workflows(old, new)] if isinstance(old, dict) else []
    advice = ""
    if isinstance(old, dict) and old.get("version") == new["version"]:
        advice = "increase version= if this version is registered: running workflows keep the version that they have"
    facts = [("fix", advice)] if advice else []
    shown = "\n".join(changes[:_MOST_DIFFERENCES])
    return file.failed("the workflow differs from its snapshot", facts, [shown, file.diff(text, now), file.accept])
