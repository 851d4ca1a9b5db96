"""Kind `guardrail`: each rule accepts what it should and rejects what it should, and the rules of a phase go together.

Trees are constructed from the rules, and judged by a real attempt in which a stand-in takes the place of the task's
function: no code of the author is executed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import pytest

from perago.authoring import Task
from perago.authoring.guardrails import Guardrail
from perago.testing.failures import CaseFailed, Cause
from perago.testing.trees import Contradiction, Undecided, satisfying_trees, smallest_tree, violating_tree
from pytest_perago.cases import Case
from pytest_perago.settings import Settings


def cases_guardrail(task: Task, _: Settings) -> Iterable[Case]:
    """Cases for each rule, and one for each phase that has rules."""
    for phase, rules in phases_of(task):
        for rule in rules:
            name = f"{phase}:{rule.label}"
            yield Case("guardrail", f"{name}:satisfied", partial(_satisfied, task, phase, rule))
            for violation in rule.violations():
                call = partial(_violated, task, phase, rules, rule, violation)
                yield Case("guardrail", f"{name}:{violation}", call)
        yield Case("guardrail", f"{phase}:consistent", partial(_consistent, task, phase, rules))


def phases_of(task: Task) -> Iterator[tuple[str, tuple[Guardrail, ...]]]:
    """The phases that have rules, and the rules."""
    if task.workspace is not None:
        for phase, rules in (("pre", task.workspace.pre), ("post", task.workspace.post)):
            if rules:
                yield phase, rules


def _satisfied(task: Task, phase: str, rule: Guardrail) -> None:
    """The rule alone accepts the trees at its limits."""
    from pytest_perago.guarding import check_accepted

    try:
        trees = satisfying_trees(rule, key_prefix=_key_prefix(task))
    except (Contradiction, Undecided) as error:
        pytest.skip(f"no tree can be made: {error}")
    for tree in trees:
        check_accepted(task, phase, [rule], tree)


def _violated(task: Task, phase: str, rules: Sequence[Guardrail], rule: Guardrail, violation: str) -> None:
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
