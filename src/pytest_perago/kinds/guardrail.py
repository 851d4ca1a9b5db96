"""Kind `guardrail`: each rule accepts what it should and rejects what it should, and the rules of a phase go together.

Trees are constructed from the rules, and judged by a real attempt in which a stand-in takes the place of the task's
function. A `@guardrail` of the author's is no rule that trees can be constructed from: it judges those of the examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from perago.authoring import Task, TaskControls, WorkspaceSpec
from perago.authoring.context import Current
from perago.authoring.workspace import Guardrail
from perago.guardrails.evaluation import ContentGuardrail
from perago.ports import TaskStatus
from perago.testing.cases import case_of_example, read_tree
from perago.testing.constraints import recipe_of, violations_of
from perago.testing.failures import CaseFailed, Cause
from perago.testing.tree_files import write_tree
from perago.testing.trees import Contradiction, Undecided, entangled_violation, satisfying_trees, smallest_tree
from perago.workspace.keys import EVERYTHING, View
from pytest_perago.session import Case
from pytest_perago.settings import Settings

if TYPE_CHECKING:
    from perago.driver import AttemptRecord

_Files = Mapping[str, str | bytes | None]


def cases_guardrail(task: Task, _: Settings) -> Iterable[Case]:
    """Cases for each rule, and one for each phase that has rules. Where contents matter, examples are tried, too."""
    for phase, rules in phases_of(task):
        if phase == "pre" and task.examples and any(isinstance(rule, ContentGuardrail) for rule in rules):
            yield Case("guardrail", "pre:examples", partial(_examples, task, rules))
        for rule in rules:
            if isinstance(rule, ContentGuardrail) and (missing := rule.missing()):
                yield Case("guardrail", f"{phase}:{rule.label}", partial(pytest.skip, ": ".join(missing)))
        yield from _constructed(task, phase, tuple(rule for rule in rules if recipe_of(rule)))


def _constructed(task: Task, phase: str, rules: Sequence[Guardrail]) -> Iterator[Case]:
    for rule in rules:
        name = f"{phase}:{rule.label}"
        yield Case("guardrail", f"{name}:satisfied", partial(_satisfied, task, phase, rule))
        for violation in violations_of(rule):
            call = partial(_violated, task, phase, rules, rule, violation)
            yield Case("guardrail", f"{name}:{violation}", call)
    if rules:
        yield Case("guardrail", f"{phase}:consistent", partial(_consistent, task, phase, rules))


def phases_of(task: Task) -> Iterator[tuple[str, tuple[Guardrail, ...]]]:
    """The phases that have rules, and the rules."""
    if task.workspace is not None:
        for phase, rules in (("pre", task.workspace.pre), ("post", task.workspace.post)):
            if rules:
                yield phase, rules


def _examples(task: Task, rules: Sequence[Guardrail]) -> None:
    """The pre guardrails accept the tree of each example, unless it expects that they do not."""
    for example in task.examples:
        case = case_of_example(task, example)
        tree = read_tree(case.tree)
        reported = report(task, "pre", rules, tree)
        wanted = TaskStatus.FAILED_WITH_TERMINAL_ERROR if case.expect == "pre" else TaskStatus.COMPLETED
        if reported.status is not wanted:
            expected = "a guardrail refuses it" if case.expect == "pre" else "all guardrails accept it"
            raise CaseFailed(
                Cause.RULE,
                f"the pre guardrails judge the tree of {case.label!r} otherwise than it expects",
                facts=[("expected", expected), ("actual", _actual(reported))],
                tree=tree,
            )


def _satisfied(task: Task, phase: str, rule: Guardrail) -> None:
    """The rule alone accepts the trees at its limits."""
    try:
        trees = satisfying_trees(rule, key_prefix=_key_prefix(task), view=_view(task))
    except (Contradiction, Undecided) as error:
        pytest.skip(f"no tree can be made: {error}")
    for tree in trees:
        check_accepted(task, phase, [rule], tree)


def _violated(task: Task, phase: str, rules: Sequence[Guardrail], rule: Guardrail, violation: str) -> None:
    """The rules reject a tree in which this one is broken, and no other if that is possible."""
    others = list(rules)
    while True:
        try:
            tree = entangled_violation(rule, others, violation, key_prefix=_key_prefix(task), view=_view(task))
            break
        except Contradiction as contradiction:
            pytest.skip(f"no tree breaks it this way: {contradiction}")
        except Undecided as undecided:
            fewer = [other for other in others if other == rule or not isinstance(other, ContentGuardrail)]
            if len(fewer) == len(others):
                pytest.skip(f"no tree can be made: {undecided}")
            others = fewer  # two rules may want different contents of one file
    check_rejected(task, phase, rules, rule, tree)


def _consistent(task: Task, phase: str, rules: Sequence[Guardrail]) -> None:
    """There is a tree that satisfies all rules, and they accept it. What a task only reads is the same tree in both
    phases, so it has to satisfy the rules of both."""
    words = f"the {phase} rules"
    if task.workspace and task.workspace.read_only and phase == "post":
        words = "both the pre and the post rules, and the task is read-only"
        rules = [*(rule for rule in task.workspace.pre if recipe_of(rule)), *rules]
    try:
        tree = smallest_tree(rules, key_prefix=_key_prefix(task), view=_view(task))
    except Contradiction as contradiction:
        raise CaseFailed(
            Cause.MISTAKE,
            f"no tree satisfies {words}: {contradiction.reason}",
            facts=[("rule", str(rule)) for rule in contradiction.rules],
        ) from None
    except Undecided as undecided:
        pytest.skip(f"cannot tell whether the {phase} rules go together: {undecided}")
    check_accepted(task, phase, rules, tree)


def _key_prefix(task: Task) -> str:
    return task.workspace.key_prefix if task.workspace else ""


def _view(task: Task) -> View:
    return View.of(task.workspace) if task.workspace else EVERYTHING


# ------------------------------------------------------- what the runtime would report for a tree


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
    """The attempt with this tree must complete. Arguments as for `report`.

    Raises:
        CaseFailed: it does not.
    """
    reported = report(task, phase, rules, tree)
    if reported.status is not TaskStatus.COMPLETED or not reported.called:
        expected = "COMPLETED: the tree satisfies " + ("the rule" if len(rules) == 1 else "all rules")
        raise _misjudged(reported, phase, rules, tree, expected)


def check_rejected(task: Task, phase: str, rules: Sequence[Guardrail], broken: Guardrail, tree: _Files) -> None:
    """The attempt with this tree must fail because of the `broken` rule: for good before the function is called, and
    after it without a publication (docs/design/contract.md 2). Other arguments as for `report`.

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
    `post` the stand-in writes the tree, unless the workspace is read-only. The services are loaded when something runs.

    Args:
        task: whose workspace it is.
        phase: `pre` or `post`.
        rules: the only rules of the attempt.
        tree: contents by path, None for a directory.
    """
    from perago.driver import Returned
    from perago.testing.services import InMemoryServices

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
    return CaseFailed(
        Cause.CONTRACT,
        f"a {phase} guardrail is not judged as documented",
        facts=[*(("rule", str(rule)) for rule in rules), ("expected", expected), ("actual", _actual(reported))],
        tree=tree,
    )


def _actual(reported: Reported) -> str:
    outcome = reported.record.report
    return f"{outcome.status}: {outcome.reason}" if outcome and outcome.reason else str(reported.status)
