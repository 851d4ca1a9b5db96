"""Kind `guardrail`: each rule accepts what it should and rejects what it should, and the rules of a phase go together.

Trees are constructed from the rules, and judged by a real attempt in which a stand-in takes the place of the task's
function: no code of the author is executed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import pytest

from perago.authoring import Task
from perago.authoring.guardrails import ForbidGlob, Guardrail, RequireDir, RequireFile, RequireGlob
from perago.testing.failures import CaseFailed, Cause
from perago.testing.trees import Contradiction, Undecided, Violation, smallest_tree, violating_tree, violations
from pytest_perago.cases import Case
from pytest_perago.settings import Settings


def cases_guardrail(task: Task, _: Settings) -> Iterable[Case]:
    """Cases for each rule, and one for each phase that has rules."""
    for phase, rules in phases_of(task):
        for rule in rules:
            name = f"{phase}:{rule_label(rule)}"
            yield Case("guardrail", f"{name}:satisfied", partial(_satisfied, task, phase, rule))
            for violation in violations(rule):
                call = partial(_violated, task, phase, rules, rule, violation)
                yield Case("guardrail", f"{name}:{violation}", call)
        yield Case("guardrail", f"{phase}:consistent", partial(_consistent, task, phase, rules))


def phases_of(task: Task) -> Iterator[tuple[str, tuple[Guardrail, ...]]]:
    """The phases that have rules, and the rules."""
    if task.workspace is not None:
        for phase, rules in (("pre", task.workspace.pre), ("post", task.workspace.post)):
            if rules:
                yield phase, rules


def rule_label(rule: Guardrail) -> str:
    """A rule in the name of a test."""
    match rule:
        case RequireFile(path):
            return f"require_file({path})"
        case RequireDir(path):
            return f"require_dir({path})"
        case RequireGlob(pattern):
            return f"require_glob({pattern})"
        case ForbidGlob(pattern):
            return f"forbid_glob({pattern})"


def _satisfied(task: Task, phase: str, rule: Guardrail) -> None:
    """The rule alone accepts the smallest tree and, with a `max_count`, the fullest."""
    from pytest_perago.guarding import check_accepted

    wanted = [rule]
    if isinstance(rule, RequireGlob) and rule.max_count is not None:
        wanted.append(RequireGlob(rule.pattern, rule.max_count, rule.max_count))
    trees = []
    for bound in wanted:
        try:
            trees.append(smallest_tree([bound], key_prefix=_key_prefix(task)))
        except (Contradiction, Undecided) as error:
            reason = str(error)
    if not trees:
        pytest.skip(f"no tree can be made: {reason}")
    for tree in trees:
        check_accepted(task, phase, [rule], tree)


def _violated(task: Task, phase: str, rules: Sequence[Guardrail], rule: Guardrail, violation: Violation) -> None:
    """The rules reject a tree in which this one is broken, and no other if that is possible."""
    from pytest_perago.guarding import check_rejected

    others = list(rules)
    while True:
        try:
            tree = violating_tree(rule, others, violation, key_prefix=_key_prefix(task))
            break
        except Contradiction as contradiction:
            entangled = set(contradiction.rules) - {rule}
            if not entangled:
                pytest.skip(f"no tree breaks it this way: {contradiction}")
            others = [other for other in others if other not in entangled]
        except Undecided as undecided:
            pytest.skip(f"no tree can be made: {undecided}")
    check_rejected(task, phase, rules, rule, tree)


def _consistent(task: Task, phase: str, rules: Sequence[Guardrail]) -> None:
    """There is a tree that satisfies all rules, and they accept it. What a task only reads is the same tree in both
    phases, so it has to satisfy the rules of both."""
    from pytest_perago.guarding import check_accepted

    words = f"the {phase} rules"
    if task.workspace and task.workspace.read_only and phase == "post":
        words = "both the pre and the post rules, and the task is read-only"
        rules = [*task.workspace.pre, *rules]
    try:
        tree = smallest_tree(rules, key_prefix=_key_prefix(task))
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
