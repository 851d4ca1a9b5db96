"""An attempt as a person sees it: what happens while it runs, guardrails, changes and the outcome; then its commits.

The same text goes to a terminal, with colours and a moving status line, and into a pipe, without them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.markup import escape as escape_markup
from rich.status import Status

from perago.authoring.metrics import metrics_json
from perago.ports import TaskStatus
from perago.worker import events
from perago.workspace.text import one_line

if TYPE_CHECKING:
    from perago.driver import AttemptRecord
    from perago.guardrails.evaluation import Finding
    from perago.ports import Commit
    from perago.workspace.changes import ChangedFile


STEPS = {
    "ValidateInput": "validating the input",
    "ResolveJoin": "looking for the commit that continues the others",
    "ReadBranch": "looking at the branch",
    "FindLeftovers": "looking for what earlier deliveries left",
    "ReadLineage": "reading the attempts whose commits were found",
    "ReadWorkflows": "reading the workflows whose commits were found",
    "CompareWithOthers": "comparing with what others have changed",
    "FindCommits": "looking for the commits in the way",
    "AwaitTurn": "waiting for its turn to publish",
    "CarryChanges": "bringing the staged changes to the new head",
    "ValidateRecordedResult": "validating the result of an earlier attempt",
    "ListObjects": "listing the workspace",
    "Fetch": "downloading the workspace",
    "CheckGuardrails": "checking guardrails",
    "RunFunction": "running the function",
    "ValidateResult": "validating the result",
    "DetectChanges": "looking for changes",
    "CheckDelivery": "asking whether the attempt is still wanted",
    "CreateStagingBranch": "creating the staging branch",
    "ReadAdopted": "reading the publication to adopt",
    "RevertStale": "undoing stale publications",
    "StageChanges": "uploading changes",
    "CommitStaging": "committing",
    "VerifyStaging": "comparing the commit with the changes",
    "CheckPublishFence": "looking for the publish fence",
    "StageFence": "bringing the publish fence along",
    "TryPublishFence": "trying the publish fence",
    "Merge": "publishing",
    "ReadPublication": "verifying the publication",
    "RemoveStagingBranches": "removing the staging branch",
    "RemoveDirectory": "cleaning up",
}
_SHOWN_FILES = 40
_PROGRESS_INTERVAL = 0.5
"""Seconds between two lines of progress where there is no status line to move; the end is always shown."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the attempt ended: Conductor's row, and the driver's record unless the process died."""

    row: Mapping[str, Any]
    record: AttemptRecord | None

    @property
    def completed(self) -> bool:
        """Whether it was a success."""
        return bool(self.row["status"] == "COMPLETED")

    @property
    def result(self) -> Any:
        """The task's result."""
        return self.row.get("outputData", {}).get("result")

    @property
    def ref(self) -> str | None:
        """The commit that now holds the workspace, for a completed task with one."""
        workspace = self.row.get("outputData", {}).get("workspace")
        return workspace["ref"] if workspace else None

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        record = self.record
        return {
            "task": self.row["taskDefName"],
            "status": self.row["status"],
            "reason": self.row.get("reasonForIncompletion"),
            "result": self.result,
            "ref": self.ref,
            "guardrails": [_finding_json(finding) for finding in record.findings] if record else [],
            "changes": _changes_json(record),
            "remarks": list(record.remarks) if record else [],
            "rebased_onto": record.rebased_onto if record else None,
            "lost_races": record.lost_races if record else 0,
            "metrics": metrics_json(record.metrics) if record else {},
            "steps": [{"name": step.name, "seconds": round(step.seconds, 6)} for step in record.steps]
            if record
            else [],
        }


class AttemptView:
    """A listener that shows attempts one after the other. Use it as a context manager around the run.

    Args:
        stream: Where they are shown.
        brief: Leave out transfers and guardrails that hold, and tell tasks apart by their reference names: for a whole
            workflow on one screen.
    """

    def __init__(self, stream: TextIO, *, brief: bool = False) -> None:
        self._brief = brief
        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._next_progress = 0.0
        self._records: dict[str, AttemptRecord] = {}

    def __enter__(self) -> AttemptView:
        if self._console.is_terminal:
            self._status = self._console.status("starting a worker process")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def __call__(self, event: events.Event) -> None:
        """Show `event`, if it is of interest to a person who runs one attempt."""
        match event:
            case events.AttemptReceived(delivery, _):
                reference = f" as {_shown(delivery.reference_name)}" if self._brief else ""
                self._console.print(f"[bold]{_shown(delivery.task_name)}[/]{reference}")
            case events.StepStarted(_, name):
                self._now(STEPS.get(name, name))
            case events.Transferred():
                self._transferred(event)
            case events.FunctionSaid(_, text):
                for line in text.rstrip("\n").splitlines():
                    self._console.print(f"[dim]  | [/]{_shown(line)}")
            case events.FunctionProgress(_, done, total):
                self._progress(done, total)
            case events.WaitingForLakeFS(_, text):
                self._console.print(f"[yellow]{_shown(text)}[/]")
            case events.AttemptRecorded(_, record):
                task_id = record.delivery.task_id
                self._records[task_id] = events.joined(self._records.get(task_id), record)
            case events.AttemptEnded(_, _, events.Ending.REPORTED):
                self._reported(event)
            case events.AttemptEnded(_, _, events.Ending.LOST, _, reason):
                self._console.print(f"[bold red]lost:[/] {_shown(reason or '')}")
            case events.SlotStartFailed(_, reason, _):
                self._console.print(f"[bold red]the worker process cannot start:[/] {_shown(reason)}")
            case events.SlotDied(_, pid, reason, _):
                self._console.print(f"[bold red]worker process {pid}:[/] {_shown(reason)}")

    def outcome(self, row: Mapping[str, Any]) -> Outcome:
        """Conductor's `row` of an attempt, together with what was seen of it."""
        return Outcome(row, self._records.get(row["taskId"]))

    # ------------------------------------------------------------------------- while it runs

    def _now(self, text: str) -> None:
        if self._status is not None:
            self._status.update(_shown(text))

    def _transferred(self, event: events.Transferred) -> None:
        verb = "downloaded" if event.direction == "download" else "uploaded"
        if event.objects < event.total_objects:
            self._now(f"{verb} {event.objects:,} of {event.total_objects:,} files, {size(event.size)}")
        elif event.total_objects and not self._brief:
            self._console.print(f"{verb} {files(event.total_objects)}, {size(event.total_size)}")

    def _progress(self, done: int, total: int) -> None:
        if self._status is not None:
            self._now(f"running the function: {done:,} of {total:,}")
        elif done == total or time.monotonic() >= self._next_progress:
            self._next_progress = time.monotonic() + _PROGRESS_INTERVAL
            self._console.print(f"  | progress {done:,} of {total:,}")

    # ---------------------------------------------------------------------------- afterwards

    def _reported(self, event: events.AttemptEnded) -> None:
        record = self._records.get(event.delivery.task_id)
        if record is not None:
            self._show_guardrails(record.findings)
            self._show_changes(record)
            for one in record.metrics:
                often = f" in {one.count:,} values" if one.kind == "histogram" else ""
                self._console.print(f"[dim]{one.kind}[/] {_shown(one.name)} {one.value:g}{often}")
            for note in record.notes:
                self._console.print(f"[yellow]note:[/] {_shown(note)}")
        if event.completed:
            where = f", workspace at commit {event.published_commit[:12]}" if event.published_commit else ""
            self._console.print(f"[bold green]completed[/] in {event.seconds:.2f} s{where}\n")
        else:
            final = "" if event.status is TaskStatus.FAILED else " for good (a retry could not succeed)"
            self._console.print(f"[bold red]failed{final}:[/] {_shown(event.reason or 'no reason was given')}")

    def _show_guardrails(self, findings: tuple[Finding, ...]) -> None:
        if self._brief:
            held = len([finding for finding in findings if finding.satisfied])
            self._console.print(f"guardrails: {held} of {len(findings)} hold")
            findings = tuple(finding for finding in findings if not finding.satisfied)
        elif findings:
            self._console.print("guardrails")
        for finding in findings:
            mark = "[bold red]defect[/]" if finding.is_defect else "[bold red]broken[/]"
            mark = "[green]ok    [/]" if finding.satisfied else mark
            self._console.print(f"  {mark} {_shown(finding.message)}")

    def _show_changes(self, record: AttemptRecord) -> None:
        if record.input_ref is None or record.report is None or record.report.reason is not None:
            return
        changes = record.changes
        if not changes:
            self._console.print("no changes: nothing to publish")
            return
        if not self._brief:
            self._console.print("changes")
        parts = (("green", "+", changes.added), ("yellow", "~", changes.changed), ("red", "-", changes.removed))
        lines = [(colour, sign, file) for colour, sign, changed in parts for file in changed]
        for colour, sign, file in lines[:_SHOWN_FILES]:
            amount = "" if sign == "-" else f"  {size(file.size)}"
            self._console.print(f"  [{colour}]{sign}[/] {_shown(file.path)}{amount}")
        if len(lines) > _SHOWN_FILES:
            self._console.print(f"  and {len(lines) - _SHOWN_FILES:,} more")


def _shown(text: str) -> str:
    """Text from outside, as part of a line for rich."""
    return escape_markup(one_line(text))


def size(number: int) -> str:
    """Bytes as people read them."""
    if number < 1000:
        return f"{number} B"
    amount = float(number)
    for unit in ("KB", "MB", "GB"):
        amount /= 1000
        if amount < 1000:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1000:.1f} TB"


def files(number: int) -> str:
    """A number of files in words."""
    return "1 file" if number == 1 else f"{number:,} files"


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "satisfied": finding.satisfied,
        "defect": finding.is_defect,
        "matched": finding.matched,
        "message": finding.message,
    }


def _changes_json(record: AttemptRecord | None) -> dict[str, list[dict[str, Any]]]:
    if record is None:
        return {"added": [], "changed": [], "removed": []}

    def listed(changed: tuple[ChangedFile, ...]) -> list[dict[str, Any]]:
        return [{"path": file.path, "size": file.size} for file in changed]

    changes = record.changes
    return {
        "added": listed(changes.added),
        "changed": listed(changes.changed),
        "removed": [{"path": file.path} for file in changes.removed],
    }


def show_line(commits: Sequence[Commit], stream: TextIO) -> None:
    """Print commits, oldest first: who published each, its id, what it changed, and the commit that its task read."""
    console = Console(file=stream, highlight=False, soft_wrap=True)
    console.print("\ncommits of branch main, oldest first")
    width = max((len(_publisher(commit)) for commit in commits), default=0)
    for commit in commits:
        read = commit.metadata.get("perago.input_ref")
        based = f", read {_shown(read[:12])}" if read else ""
        words = commit.message.partition(" (workflow ")[0] if read else commit.message
        name = _shown(_publisher(commit).ljust(width))
        console.print(f"  o {name}  [yellow]{commit.id[:12]}[/]  {_shown(words)}[dim]{based}[/]")


def _publisher(commit: Commit) -> str:
    """The reference name of the task, or the committer where no task published."""
    return one_line(commit.metadata.get("perago.reference_name", commit.committer))
