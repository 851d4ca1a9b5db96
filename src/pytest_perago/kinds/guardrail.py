"""Kind `guardrail`: each rule accepts and rejects the right trees, and the rules of a phase do not contradict each
other.

Trees are generated from the rules, and the rules judge them on a disk, as in an attempt, but without one. No trees can
be generated for a `@guardrail` function, so it judges the trees of the examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial

import pytest

from perago.authoring import Task, WorkspaceSpec
from perago.authoring.workspace import Guardrail
from perago.guardrails.evaluation import ContentGuardrail, Finding, Phase, check_tree, evaluate, naming_hidden
from perago.ports import TaskStatus
from perago.testing.constraints import Undecided, recipe_of, too_large, violations_of
from perago.testing.outcome import attempt_log
from perago.testing.trees import Contradiction, entangled_violation, satisfying_trees, smallest_tree
from perago.trees import build
from perago.trees.cases import CaseFailed, Cause, case_of_example, read_tree
from perago.workspace.keys import EVERYTHING, View
from perago.workspace.scan import scan_tree
from pytest_perago.kinds import Case
from pytest_perago.session import Session

_Files = Mapping[str, str | bytes | None]
_REJECTED = {
    "pre": (TaskStatus.FAILED_WITH_TERMINAL_ERROR, "before the function is called"),
    "post": (TaskStatus.FAILED, "and nothing is published"),
}
"""The status of an attempt whose tree breaks a rule of the phase, and its moment."""


def cases_guardrail(task: Task, _: Session) -> Iterable[Case]:
    """Yield cases for each rule, and one for each phase that has rules. If contents matter, examples are tried, too."""
    for phase, rules in phases_of(task):
        if phase == "pre" and task.examples and any(isinstance(rule, ContentGuardrail) for rule in rules):
            yield Case("pre:examples", partial(_examples, task, rules))
        for rule in rules:
            missing = rule.missing() if isinstance(rule, ContentGuardrail) else None
            if reason := ": ".join(missing or ()) or too_large(rule):
                yield Case(f"{phase}:{rule.label}", partial(_skip, reason))
        yield from _constructed(task, phase, tuple(rule for rule in rules if recipe_of(rule)))


def _constructed(task: Task, phase: str, rules: Sequence[Guardrail]) -> Iterator[Case]:
    for rule in rules:
        name = f"{phase}:{rule.label}"
        yield Case(f"{name}:satisfied", partial(_satisfied, task, phase, rule))
        for violation in violations_of(rule):
            check = partial(_violated, task, phase, rules, rule, violation)
            yield Case(f"{name}:{violation}", check)
    if rules:
        yield Case(f"{phase}:consistent", partial(_consistent, task, phase, rules))


def _skip(reason: str, _: Session) -> None:
    pytest.skip(reason)


def phases_of(task: Task) -> Iterator[tuple[str, tuple[Guardrail, ...]]]:
    """Yield the phases that have rules, with their rules."""
    if task.workspace is not None:
        for phase, rules in (("pre", task.workspace.pre), ("post", task.workspace.post)):
            if rules:
                yield phase, rules


def _examples(task: Task, rules: Sequence[Guardrail], session: Session) -> None:
    """Check that the pre guardrails accept the tree of each example, unless the example expects a violation."""
    for example in task.examples:
        case = case_of_example(task, example)
        tree = read_tree(case.tree)
        session.memory(task.module).restore()  # the `faults` tests report a guardrail that keeps state
        violated = _violations(task, "pre", rules, tree)
        if bool(violated) is not (case.expect == "pre"):
            expected = "a guardrail refuses it" if case.expect == "pre" else "all guardrails accept it"
            summary = f"the pre guardrails do not judge the tree of {case.label!r} as it expects"
            facts = [("expected", expected), ("actual", _ending("pre", violated))]
            raise CaseFailed(Cause.RULE, summary, *facts, tree=tree)


def _satisfied(task: Task, phase: str, rule: Guardrail, _: Session) -> None:
    """Check that the rule alone accepts the trees at its limits."""
    try:
        trees = satisfying_trees(rule, key_prefix=spec_of(task).key_prefix, view=View.of(spec_of(task)))
    except (Contradiction, Undecided) as error:
        pytest.skip(f"no tree can be made: {error}")
    for tree in trees:
        if violated := _violations(task, phase, [rule], tree):
            expected = "COMPLETED: the tree satisfies the rule"
            raise _misjudged(phase, [rule], tree, expected, _ending(phase, violated))


def _violated(task: Task, phase: str, rules: Sequence[Guardrail], rule: Guardrail, violation: str, _: Session) -> None:
    """Check that the rules reject a tree that breaks this rule, and if possible only this rule."""
    spec, others = spec_of(task), list(rules)
    while True:
        try:
            tree = entangled_violation(rule, others, violation, key_prefix=spec.key_prefix, view=View.of(spec))
            break
        except Contradiction as contradiction:
            pytest.skip(f"no tree breaks it this way: {contradiction}")
        except Undecided as undecided:
            fewer = [other for other in others if other == rule or not isinstance(other, ContentGuardrail)]
            if len(fewer) == len(others):
                pytest.skip(f"no tree can be made: {undecided}")
            others = fewer  # two rules may want different contents of one file
    violated = _violations(task, phase, rules, tree)
    if str(rule) not in [finding.rule for finding in violated]:
        if isinstance(rule, ContentGuardrail) and violated:  # contents are judged only if all names are right
            pytest.skip(f"no tree breaks this rule alone: {violated[0].message}")
        status, when = _REJECTED[phase]
        expected = f"{status} {when}: the tree breaks the rule"
        raise _misjudged(phase, [rule], tree, expected, _ending(phase, violated))


def _consistent(task: Task, phase: str, rules: Sequence[Guardrail], _: Session) -> None:
    """Check that a tree exists that satisfies all rules, and that they accept it. A read-only task has the same tree in
    both phases, so the tree must satisfy the rules of both."""
    spec = spec_of(task)
    subject = f"the {phase} rules"
    if spec.read_only and phase == "post":
        subject = "both the pre and the post rules, and the task is read-only"
        rules = [*(rule for rule in spec.pre if recipe_of(rule)), *rules]
    view = View.of(spec)
    try:
        tree = smallest_tree(rules, key_prefix=spec.key_prefix, _view=view)
    except Contradiction as contradiction:
        reason = contradiction.reason
        with suppress(Contradiction, Undecided):
            if smallest_tree(contradiction.rules, key_prefix=spec.key_prefix) and view != EVERYTHING:
                reason = f"the task does not see such files: {view}"
        facts = [("rule", str(rule)) for rule in contradiction.rules]
        raise CaseFailed(Cause.MISTAKE, f"no tree satisfies {subject}: {reason}", *facts) from None
    except Undecided as undecided:
        pytest.skip(f"it is unknown whether the {phase} rules go together: {undecided}")
    if violated := _violations(task, phase, rules, tree):
        expected = "COMPLETED: the tree satisfies " + ("the rule" if len(rules) == 1 else "all rules")
        raise _misjudged(phase, rules, tree, expected, _ending(phase, violated))


def spec_of(task: Task) -> WorkspaceSpec:
    """Return the workspace of a task that has guardrails."""
    if task.workspace is None:
        raise ValueError("a task without a workspace has no guardrails")
    return task.workspace


# --------------------------------------------------------------------------- how a tree is judged


def _violations(task: Task, phase: str, rules: Sequence[Guardrail], tree: _Files) -> list[Finding]:
    """Judge a tree on a disk, as an attempt does that downloads or leaves it. Returns the violations."""
    spec = spec_of(task)
    view = View.of(spec) if phase == "pre" else EVERYTHING
    with build({path: content for path, content in tree.items() if view.sees(path)}) as root:
        scan = scan_tree(root)
        always = check_tree(scan, spec.key_prefix, View.of(spec)) if phase == "post" else ()
        findings = evaluate(rules, scan.listing, phase=Phase(phase), disk=None if always else scan)
    findings = (*always, *naming_hidden(findings, rules, [path for path in tree if not view.sees(path)], view))
    attempt_log().add_findings(task, findings)
    return [finding for finding in findings if not finding.satisfied]


def _ending(phase: str, violated: Sequence[Finding]) -> str:
    """Describe the end of an attempt with these violations."""
    if not violated:
        return TaskStatus.COMPLETED
    is_retried = all(finding.is_defect for finding in violated)  # a later attempt can have a better guardrail
    status = TaskStatus.FAILED if is_retried else _REJECTED[phase][0]
    return f"{status}: {'; '.join(finding.message for finding in violated)}"


def _misjudged(phase: str, rules: Sequence[Guardrail], tree: _Files, expected: str, actual: str) -> CaseFailed:
    facts = [*(("rule", str(rule)) for rule in rules), ("expected", expected), ("actual", actual)]
    summary = f"a {phase} guardrail gives a different verdict than documented"
    return CaseFailed(Cause.CONTRACT, summary, *facts, tree=tree)
