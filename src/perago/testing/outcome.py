"""The outcomes of attempts and of races, for tests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from perago.authoring import Task
from perago.authoring.context import Measured
from perago.driver import AttemptRecord, Delivered
from perago.guardrails.evaluation import Finding
from perago.ports import Delivery, Report, TaskStatus
from perago.text import shortened
from perago.trees.cases import fact_lines
from perago.trees.differences import PublishedTree
from perago.workspace.changes import Changes

_LONGEST = 200
_MOST_LINES = 20


class AttemptLog:
    """The attempts since the log was opened. The pytest plugin opens one for each test."""

    def __init__(self) -> None:
        self.outcomes: deque[Outcome] = deque(maxlen=10)
        """The last outcomes, which a failed test shows."""
        self.tried: set[tuple[str, ...]] = set()
        """Entries of module and task: with `function` if the author's function was called, and with phase, rule and
        `satisfied` or `violated` for each verdict of a guardrail."""

    def add_call(self, task: Task) -> None:
        """Log a call of a task's function."""
        self.tried.add((task.module, task.name, "function"))

    def add_findings(self, task: Task, findings: Iterable[Finding]) -> None:
        """Log the verdicts of a task's guardrails."""
        for finding in findings:
            if not finding.is_defect:
                phase, verdict = finding.message.partition(" ")[0], "satisfied" if finding.satisfied else "violated"
                self.tried.add((task.module, task.name, phase, finding.rule or "", verdict))


_logs = [AttemptLog()]


def attempt_log() -> AttemptLog:
    """Return the current log of attempts."""
    return _logs[-1]


@contextmanager
def logging_attempts() -> Iterator[AttemptLog]:
    """Open a log of the attempts in the block."""
    log = AttemptLog()
    _logs.append(log)
    try:
        yield log
    finally:
        _logs.remove(log)


@dataclass(frozen=True, slots=True, repr=False)
class Outcome:
    """One attempt, with its state in Conductor and lakeFS. Its `str` shows everything, in several lines."""

    _record: AttemptRecord
    _delivered: Delivered | None
    """The delivery of the report; None if there was no report to send."""
    task: Mapping[str, Any]
    """The task's row in Conductor after the report, in Conductor's spelling."""
    log: tuple[str, ...]
    """Lines of `current().log`."""
    traceback: str = ""
    """The traceback of the exception that the function raised."""
    _read: Callable[[str], PublishedTree] | None = field(default=None, compare=False)
    """The workspace at a commit; None: the task has no workspace."""

    def __post_init__(self) -> None:
        attempt_log().outcomes.append(self)

    def __repr__(self) -> str:
        return f"<Outcome {self.headline}>"

    def __str__(self) -> str:
        facts = fact_lines([(label, text) for label, text in self._facts() if text])
        return "\n".join([self.headline, *facts, self.traceback.rstrip("\n")]).rstrip("\n")

    @property
    def headline(self) -> str:
        """Task, status and reason in one line."""
        why = " ".join((self.reason or self.lost_reason or "").split())
        why = why if len(why) <= _LONGEST else f"{why[:_LONGEST]}…"
        return f"{self.title}: {why}" if why else self.title

    @property
    def title(self) -> str:
        """Task and status."""
        status = self.status or ("lost" if self.lost_reason else "not reported")
        return f"{self.delivery.task_name} {status}"

    def assert_completed(self) -> Outcome:
        """Return this outcome, if the attempt completed.

        Raises:
            AssertionError: the attempt did not complete. The message has status, reason, guardrails, changed files, the
                end of the log and the traceback.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        if self.status is not TaskStatus.COMPLETED:
            raise AssertionError(str(self))
        return self

    def _facts(self) -> Iterator[tuple[str, str]]:
        if len(self.reason or "") > _LONGEST or "\n" in (self.reason or ""):
            yield "reason", str(self.reason)
        yield "result", "" if self.result is None else repr(self.result)
        yield "violated", _listed(self.violations)
        if self.violations:
            yield "satisfied", _listed([finding.message for finding in self.findings if finding.satisfied])
        signs = (("+", self.changes.added), ("~", self.changes.changed), ("-", self.changes.removed))
        yield "files", _listed([f"{sign} {file.path}" for sign, files in signs for file in files])
        yield "left", _listed(self.left_files)
        yield "notes", _listed(self.notes)
        earlier = [f"... {len(self.log) - _MOST_LINES:,} earlier lines"] if len(self.log) > _MOST_LINES else []
        yield "log", "\n".join([*earlier, *self.log[-_MOST_LINES:]])

    @property
    def status(self) -> TaskStatus | None:
        """The reported status; None for a lost delivery or a report that did not arrive."""
        return self._report.status if self._report else None

    @property
    def reason(self) -> str | None:
        """Why it failed, as Conductor shows it."""
        return self._report.reason if self._report else None

    @property
    def output(self) -> Mapping[str, Any]:
        """The output that Conductor has."""
        output: Mapping[str, Any] = self.task.get("outputData", {})
        return output

    @property
    def result(self) -> Any:
        """The JSON of the task's result; None unless the attempt completed."""
        return self.output.get("result")

    @property
    def commit(self) -> str | None:
        """The commit that now holds the workspace."""
        return self._record.published_commit

    @property
    def tree(self) -> PublishedTree:
        """The complete workspace at `commit`: the published files and the unchanged ones.

        Raises:
            LookupError: there is no such commit, because the attempt failed, was lost or has no workspace.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        if self._read is None or self.commit is None:
            what = "the task has no workspace" if self._read is None else f"nothing was published: {self.headline}"
            raise LookupError(f"{self.delivery.task_name} has no published tree, because {what}")
        return self._read(self.commit)

    @property
    def delivery(self) -> Delivery:
        """The delivery of the attempt, with its ids and its input."""
        return self._record.delivery

    @property
    def input_ref(self) -> str | None:
        """The commit that the function got; None if the attempt ended before, or the task has no workspace."""
        return self._record.input_ref

    @property
    def adopted_commit(self) -> str | None:
        """The publication of an earlier attempt that this attempt adopted. Then no function ran."""
        return self._record.adopted_commit

    @property
    def superseded_commits(self) -> tuple[str, ...]:
        """The publications of earlier attempts that this attempt undid, newest first."""
        return self._record.superseded_commits

    @property
    def rebased_onto(self) -> str | None:
        """The head of another client on which the publication was built, if the task allows that."""
        return self._record.rebased_onto

    @property
    def changes(self) -> Changes:
        """The changes of the function to its workspace."""
        return self._record.changes

    @property
    def changed_files(self) -> tuple[str, ...]:
        """The files that the function added or changed, sorted; relative to the workspace."""
        return tuple(sorted(file.path for file in (*self.changes.added, *self.changes.changed)))

    @property
    def removed_files(self) -> tuple[str, ...]:
        """The files that the function removed, sorted."""
        return tuple(sorted(file.path for file in self.changes.removed))

    @property
    def left_files(self) -> tuple[str, ...]:
        """The files that the function left in its current directory, sorted; they are removed and never published."""
        return self._record.left_files

    @property
    def lost_reason(self) -> str | None:
        """The reason why there is no report: the delivery was lost before, during or after the publication."""
        return self._delivered.lost_reason if self._delivered else self._record.lost_reason

    @property
    def _report(self) -> Report | None:
        got_through = self._delivered == Delivered()
        return self._record.report if got_through else None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The verdicts of the guardrails that were evaluated, `pre` before `post`."""
        return self._record.findings

    @property
    def metrics(self) -> Mapping[str, Measured]:
        """The values that the function has reported by `current().count`, `.gauge` and `.observe`, by name."""
        return {measured.name: measured for measured in self._record.metrics}

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes that did not change the outcome, such as keys of the params that their model ignores."""
        return self._record.notes

    @property
    def violations(self) -> tuple[str, ...]:
        """The messages of the violated guardrails; empty if all hold."""
        return tuple(finding.message for finding in self.findings if not finding.satisfied)


@dataclass(frozen=True, slots=True)
class Race:
    """The result of `TaskRunner.race`, which is the same for every run."""

    tree: PublishedTree
    """The workspace as it was published."""
    results: tuple[Any, ...]
    """The JSON of the results, in the order of the branches."""
    orders: int
    """The number of orders of publication."""
    runs: int
    """The number of forks that were run: each order in two ways."""


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(shortened(lines, _MOST_LINES))
