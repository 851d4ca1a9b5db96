"""Show an attempt that runs on this machine: its steps, guardrails, changes and outcome, and the commits of its branch.
Also decide whether it runs in a debugger."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from perago.attempt import publication
from perago.attempt.commands import COMMANDS
from perago.authoring.context import metrics_json
from perago.cli import messages
from perago.cli.messages import Colour
from perago.cli.rendering import Renderer
from perago.conductor_json import published_commit
from perago.ports import TaskStatus
from perago.processes import INTERRUPTED
from perago.text import count, lines_of, one_line, short, size
from perago.worker import events
from perago.workspace.changes import Changes

if TYPE_CHECKING:
    from perago.driver import AttemptRecord
    from perago.guardrails.evaluation import Finding
    from perago.history.running import Debugging
    from perago.ports import Commit


_WORDS = {kind.__name__: declared.words for kind, declared in COMMANDS.items()}
_SHOWN_FILES = 40
_PROGRESS_INTERVAL = 0.5
"""Seconds between two lines of progress, if there is no status line. The end is always shown."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an attempt: Conductor's row, and the driver's record unless the process died."""

    row: Mapping[str, Any]
    record: AttemptRecord | None

    @property
    def completed(self) -> bool:
        """Whether the attempt completed."""
        return bool(self.row["status"] == "COMPLETED")

    @property
    def result(self) -> Any:
        """The task's result."""
        return self.row.get("outputData", {}).get("result")

    @property
    def ref(self) -> str | None:
        """The commit that holds the workspace of a completed task; None for a task without a workspace."""
        return published_commit(self.row)

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as JSON."""
        record = self.record
        steps = record.steps if record else ()
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
            "steps": [{"name": step.name, "seconds": round(step.seconds, 6)} for step in steps],
        }


class AttemptView:
    """A listener that shows attempts one after the other. Use it as a context manager around the run.

    Args:
        stream: the stream to print to.
        brief: show a workflow on one screen, with reference names, and without transfers and satisfied guardrails.
    """

    def __init__(self, stream: TextIO, *, brief: bool = False) -> None:
        self._brief = brief
        self._out = Renderer(stream)
        self._next_progress = 0.0
        self._records: dict[str, AttemptRecord] = {}

    def __enter__(self) -> AttemptView:
        self._out.begin("starting a worker process")
        return self

    def __exit__(self, *_: object) -> None:
        self._out.end()

    def __call__(self, event: events.Event) -> None:
        """Show an event if it interests a person who runs one attempt."""
        line, paint = self._out.line, self._out.paint
        match event:
            case events.AttemptReceived(delivery, _):
                reference = f" as {one_line(delivery.reference_name)}" if self._brief else ""
                line(f"{paint(one_line(delivery.task_name), Colour.BOLD)}{reference}")
            case events.StepStarted(_, name):
                self._out.doing(_WORDS.get(name, name))
            case events.Transferred():
                self._transferred(event)
            case events.FunctionSaid(_, text):
                for output_line in text.rstrip("\n").splitlines():
                    line(f"{paint('  | ', Colour.DIM)}{one_line(output_line)}")
            case events.FunctionProgress(_, done, total):
                self._progress(done, total)
            case events.WaitingForLakeFS(_, text):
                line(paint(one_line(text), Colour.YELLOW))
            case events.LakeFSBack(_, text):
                line(one_line(text))
            case events.AttemptRecorded(_, record):
                task_id = record.delivery.task_id
                self._records[task_id] = events.joined(self._records.get(task_id), record)
            case events.AttemptEnded(_, _, events.Ending.REPORTED):
                self._reported(event)
            case events.AttemptEnded(_, _, events.Ending.LOST, _, reason) if reason != INTERRUPTED:
                line(f"{paint('lost:', Colour.RED)} {_indented(reason or '')}")
            case events.SlotStartFailed(reason=reason):
                line(f"{paint('the worker process cannot start:', Colour.RED)} {_indented(reason)}")
            case events.SlotDied(_, pid, reason, _):
                line(f"{paint(f'worker process {pid}:', Colour.RED)} {_indented(reason)}")

    def outcome(self, row: Mapping[str, Any]) -> Outcome:
        """Return Conductor's `row` of an attempt, together with its record."""
        return Outcome(row, self._records.get(row["taskId"]))

    def _transferred(self, event: events.Transferred) -> None:
        verb = "downloaded" if event.direction == "download" else "uploaded"
        if event.objects < event.total_objects:
            self._out.doing(f"{verb} {event.objects:,} of {event.total_objects:,} files, {size(event.size)}")
        elif event.total_objects and not self._brief:
            self._out.line(f"{verb} {count(event.total_objects, 'file')}, {size(event.total_size)}")

    def _progress(self, done: int, total: int) -> None:
        if self._out.has_status_line:
            self._out.doing(f"running the function: {done:,} of {total:,}")
        elif done == total or time.monotonic() >= self._next_progress:
            self._next_progress = time.monotonic() + _PROGRESS_INTERVAL
            self._out.line(f"  | progress {done:,} of {total:,}")

    def _reported(self, event: events.AttemptEnded) -> None:
        line, paint = self._out.line, self._out.paint
        record = self._records.get(event.delivery.task_id)
        if record is not None:
            self._show_guardrails(record.findings)
            self._show_changes(record)
            for metric in record.metrics:
                often = f" in {metric.count:,} values" if metric.kind == "histogram" else ""
                line(f"{paint(metric.kind, Colour.DIM)} {one_line(metric.name)} {metric.value:g}{often}")
            for note in record.notes:
                line(f"{paint('note:', Colour.YELLOW)} {_indented(note)}")
        if event.completed:
            where = f", workspace at commit {short(event.published_commit)}" if event.published_commit else ""
            line(f"{paint('completed', Colour.GREEN)} in {event.seconds:.2f} s{where}\n")
        else:
            final = "" if event.status is TaskStatus.FAILED else " for good (a retry could not succeed)"
            line(f"{paint(f'failed{final}:', Colour.RED)} {_indented(event.reason or 'no reason given')}")

    def _show_guardrails(self, findings: tuple[Finding, ...]) -> None:
        if self._brief:
            held = len([finding for finding in findings if finding.satisfied])
            self._out.line(f"guardrails: {held} of {len(findings)} hold")
            findings = tuple(finding for finding in findings if not finding.satisfied)
        elif findings:
            self._out.line("guardrails")
        for finding in findings:
            word = "ok    " if finding.satisfied else "defect" if finding.is_defect else "broken"
            colour = Colour.GREEN if finding.satisfied else Colour.RED
            self._out.line(f"  {self._out.paint(word, colour)} {_indented(finding.message)}")

    def _show_changes(self, record: AttemptRecord) -> None:
        if record.input_ref is None or record.report is None or record.report.reason is not None:
            return
        changes = record.changes
        if not changes:
            self._out.line(
                "the newest commit of the branch, for a schedule"
                if record.only_reads_head
                else "no changes, so there is nothing to publish"
            )
            return
        if not self._brief:
            self._out.line("changes")
        parts = (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed))
        files = [(kind, file) for kind, changed in parts for file in changed]
        for kind, file in files[:_SHOWN_FILES]:
            self._out.line(f"  {self._out.file(kind, file.path, None if kind == 'removed' else file.size)}")
        if len(files) > _SHOWN_FILES:
            self._out.line(f"  and {len(files) - _SHOWN_FILES:,} more")


def _indented(text: str) -> str:
    return "\n    ".join(lines_of(text))


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "satisfied": finding.satisfied,
        "defect": finding.is_defect,
        "matched": finding.matched,
        "message": finding.message,
    }


def _changes_json(record: AttemptRecord | None) -> dict[str, list[dict[str, Any]]]:
    changes = record.changes if record else Changes()
    return {
        "added": [{"path": file.path, "size": file.size} for file in changes.added],
        "changed": [{"path": file.path, "size": file.size} for file in changes.changed],
        "removed": [{"path": file.path} for file in changes.removed],
    }


def note_tree(output: Path | None, commit: str | None) -> None:
    """Report whether the tree of the publication `commit`, if there is one, was written to `--output`."""
    if output is not None:
        written = f"wrote the published tree to {output}"
        messages.note(written if commit else f"nothing was published, so perago did not write {output}")


def show_line(commits: Sequence[Commit], stream: TextIO) -> None:
    """Print commits, oldest first: publisher, id, changes, and the commit that the task read."""
    out = Renderer(stream)
    out.line("\ncommits of branch main, oldest first")
    # the reference name of the task, or the committer if no task published
    names = [one_line(commit.metadata.get(publication.REFERENCE_NAME, commit.committer)) for commit in commits]
    width = max(map(len, names), default=0)
    for commit, name in zip(commits, names, strict=True):
        read = commit.metadata.get(publication.INPUT_REF)
        based = out.paint(f", read {one_line(short(read))}", Colour.DIM) if read else ""
        subject = commit.message.partition(" (workflow ")[0] if read else commit.message
        out.line(f"  o {name:{width}}  {out.paint(short(commit.id), Colour.YELLOW)}  {one_line(subject)}{based}")


def debugging_of(files: Sequence[str], params: str | None, *, pdb: bool) -> Debugging | None:
    """Return how the function runs in this process, with the terminal; None if it runs in a worker process.

    Args:
        files: the module's source files, which can have a breakpoint.
        params: the value of `--params`.
        pdb: whether a debugger was asked for.

    Raises:
        typer.BadParameter: standard input cannot be both the params and the debugger's terminal.
    """
    from perago.history.running import Debugging, breakpoint_in

    place = breakpoint_in(files)
    if not pdb and place is None:
        return None
    if params == "-":
        raise typer.BadParameter("the debugger needs standard input; use @FILE.", param_hint="'--params'")
    if not pdb:
        messages.note(f"the task runs in this process, because of the breakpoint at {place}")
    return Debugging(post_mortem=pdb, all_frames=messages.tracebacks_wanted())
