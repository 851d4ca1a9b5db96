"""What the runtime would report for a tree: a real attempt on services in memory, with a stand-in for the function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel

from perago.authoring import Task, TaskControls, WorkspaceSpec
from perago.authoring.context import Current
from perago.authoring.guardrails import Guardrail
from perago.driver import AttemptRecord, Returned
from perago.ports import TaskStatus
from perago.testing.building import write_tree
from perago.testing.failures import CaseFailed, Cause
from perago.testing.services import InMemoryServices

_Files = Mapping[str, str | None]


class _Nothing(BaseModel):
    """The params and the result of the stand-in, so that the author's models play no part."""


@dataclass(frozen=True, slots=True)
class Reported:
    """What came of a tree."""

    record: AttemptRecord
    called: bool
    """Whether the function would have been called."""
    published: bool
    """Whether the branch has moved."""

    @property
    def status(self) -> TaskStatus | None:
        """What Conductor would hear."""
        return self.record.report.status if self.record.report else None

    @property
    def violated(self) -> list[str | None]:
        """The texts of the rules that were found broken."""
        return [finding.rule for finding in self.record.findings if not finding.satisfied]


def check_accepted(task: Task, phase: str, rules: Sequence[Guardrail], tree: _Files) -> None:
    """The attempt with this tree must complete.

    Raises:
        CaseFailed: it does not.
    """
    reported = report(task, phase, rules, tree)
    if reported.status is not TaskStatus.COMPLETED or not reported.called:
        expected = "COMPLETED: the tree satisfies " + ("the rule" if len(rules) == 1 else "all rules")
        raise _misjudged(reported, phase, rules, tree, expected)


def check_rejected(task: Task, phase: str, rules: Sequence[Guardrail], broken: Guardrail, tree: _Files) -> None:
    """The attempt with this tree must fail because of the `broken` rule: for good before the function is called, and
    after it without a publication (docs/design/contract.md 2).

    Raises:
        CaseFailed: it does not.
    """
    reported = report(task, phase, rules, tree)
    wanted = TaskStatus.FAILED_WITH_TERMINAL_ERROR if phase == "pre" else TaskStatus.FAILED
    if (
        reported.status is not wanted
        or str(broken) not in reported.violated
        or reported.called is not (phase == "post")
        or reported.published
    ):
        where = "before the function is called" if phase == "pre" else "and nothing is published"
        raise _misjudged(reported, phase, [broken], tree, f"{wanted} {where}: the tree breaks the rule")


def report(task: Task, phase: str, rules: Sequence[Guardrail], tree: _Files) -> Reported:
    """Run an attempt of a stand-in for the task: the same workspace, but with these rules in one phase only. In phase
    `post` the stand-in writes the tree, unless the workspace is read-only."""
    spec = _spec_of(task).model_copy(update={"pre": (), "post": (), phase: tuple(rules)})
    writes = phase == "post" and not spec.read_only
    called = False

    def stand_in(_: Task, workspace: Path | None, __: BaseModel, ___: Current) -> Returned:
        nonlocal called
        called = True
        if writes and workspace is not None:
            write_tree(workspace, tree)
        return Returned(_Nothing())

    actor = replace(
        task, workspace=spec, controls=TaskControls(), examples=(), params_model=_Nothing, result_model=_Nothing
    )
    with InMemoryServices(call=stand_in) as services:
        ref = services.seed({} if writes else {spec.key_prefix + path: content for path, content in tree.items()})
        services.start(actor, {}, ref=ref)
        record = services.run_delivery(actor, services.take(actor))
        published = record.published_commit not in (None, ref)
    return Reported(record, called, published)


def _spec_of(task: Task) -> WorkspaceSpec:
    if task.workspace is None:
        raise ValueError("a task without a workspace has no guardrails")
    return task.workspace


def _misjudged(reported: Reported, phase: str, rules: Sequence[Guardrail], tree: _Files, expected: str) -> CaseFailed:
    outcome = reported.record.report
    actual = f"{outcome.status}: {outcome.reason}" if outcome and outcome.reason else str(reported.status)
    return CaseFailed(
        Cause.CONTRACT,
        f"a {phase} guardrail is not judged as documented",
        facts=[*(("rule", str(rule)) for rule in rules), ("expected", expected), ("actual", actual)],
        tree=tree,
    )
