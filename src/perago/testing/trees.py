"""Trees for tests: the smallest that satisfies some guardrails, ones that break exactly one, and trees on disk.

    smallest_tree([require_dir("raw"), require_glob("raw/**/*.csv", min_count=2)])
    {"raw/a.csv": "", "raw/b.csv": ""}

Trees are constructed, not searched for. A `Contradiction` is an exact statement: no tree at all satisfies its rules.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import lru_cache

from perago.authoring.guardrails import ForbidGlob, Guardrail, RequireFile, RequireGlob
from perago.testing.building import Symlink, Tree, build
from perago.testing.demands import Demand, demand_of, directories_for, forbidden_by, reserved_paths
from perago.testing.globs import only
from perago.testing.oracle import judge
from perago.testing.solving import Undecided, solve
from perago.workspace.keys import Folding, find_collisions

__all__ = [
    "Contradiction",
    "Symlink",
    "Tree",
    "Undecided",
    "Violation",
    "build",
    "smallest_tree",
    "violating_tree",
    "violations",
]

ANY_DISK = Folding()


class Contradiction(Exception):
    """No tree does what is asked for. `rules` are the culprits, none of which can be left out."""

    def __init__(self, rules: Sequence[Guardrail], reason: str) -> None:
        super().__init__(f"{' and '.join(map(str, rules))}: {reason}")
        self.rules = tuple(rules)
        self.reason = reason


class Violation(StrEnum):
    """The ways to break a rule."""

    MISSING = "missing"
    TOO_MANY = "too-many"
    PRESENT = "present"


def violations(rule: Guardrail) -> tuple[Violation, ...]:
    """How the rule can be broken. Not at all, if any number of files will do."""
    match rule:
        case ForbidGlob():
            return (Violation.PRESENT,)
        case RequireGlob(_, least, most):
            missing = (Violation.MISSING,) if least else ()
            return missing if most is None else (*missing, Violation.TOO_MANY)
        case _:
            return (Violation.MISSING,)


def smallest_tree(
    rules: Iterable[Guardrail], *, key_prefix: str = "", folding: Folding = ANY_DISK
) -> dict[str, str | None]:
    """The smallest tree that satisfies all rules; all files are empty.

    `key_prefix` matters for `_lakefs_actions/`, which is never part of a workspace (docs/design/contract.md 2).
    `folding` is that of the disk: names that it takes for one contradict each other.

    Raises:
        Contradiction: there is none.
        Undecided: the rules are too intricate to tell.
    """
    wanted = tuple(dict.fromkeys(rules))
    found = _smallest(wanted, key_prefix, folding)
    if found is None:
        culprits = _culprits(wanted, lambda part: _smallest(part, key_prefix, folding) is None)
        raise Contradiction(culprits, _why(culprits, folding))
    _verify(found, dict.fromkeys(wanted, True))
    return dict.fromkeys(sorted(found), "")


def violating_tree(
    rule: Guardrail,
    rules: Iterable[Guardrail],
    violation: Violation | None = None,
    *,
    key_prefix: str = "",
    folding: Folding = ANY_DISK,
) -> dict[str, str | None]:
    """A smallest tree that breaks `rule`, just so, and satisfies all the others of `rules`.

    With `MISSING` one file is missing and with the others one is too many, or several if the other rules want it so.

    Raises:
        Contradiction: who breaks this rule breaks one of the others, too; or it cannot be broken this way at all.
        Undecided: the rules are too intricate to tell.
        ValueError: the rule has no such violation.
    """
    possible = violations(rule)
    violation = violation or next(iter(possible), None)
    if violation is None or violation not in possible:
        raise ValueError(f"{rule} cannot be violated by {violation or 'any tree'}")
    others = tuple(other for other in dict.fromkeys(rules) if other != rule)
    found = _violating(rule, violation, others, key_prefix, folding)
    if found is None:
        culprits = _culprits(others, lambda part: _violating(rule, violation, part, key_prefix, folding) is None)
        reason = f"no tree breaks the first ({violation}) and satisfies the rest" if culprits else "always holds"
        raise Contradiction((rule, *culprits), reason)
    _verify(found, {rule: False} | dict.fromkeys(others, True))
    return dict.fromkeys(sorted(found), "")


@lru_cache(maxsize=1024)
def _smallest(rules: tuple[Guardrail, ...], key_prefix: str, folding: Folding) -> frozenset[str] | None:
    if folding and find_collisions([path for rule in rules for path in _needed(rule)], folding):
        return None
    nowhere = [paths for rule in rules for paths in forbidden_by(rule)]
    return solve([demand_of(rule) for rule in rules], [*nowhere, *reserved_paths(key_prefix)], folding)


@lru_cache(maxsize=1024)
def _violating(
    rule: Guardrail, violation: Violation, others: tuple[Guardrail, ...], key_prefix: str, folding: Folding
) -> frozenset[str] | None:
    nowhere = [*reserved_paths(key_prefix), *(paths for other in others for paths in forbidden_by(other))]
    if violation is not Violation.MISSING and isinstance(rule, RequireGlob | ForbidGlob):
        nowhere += [only(directory) for directory in directories_for(RequireGlob(rule.pattern, 1))]
    demands = [demand_of(other) for other in others]
    for broken in _broken(demand_of(rule), violation):
        found = solve([broken, *demands], nowhere, folding)
        if found is not None:
            return found
    return None


def _broken(demand: Demand, violation: Violation) -> tuple[Demand, ...]:
    """What breaks the demand: by one file, or else by any number."""
    if violation is Violation.MISSING:
        return replace(demand, least=demand.least - 1, most=demand.least - 1), replace(
            demand, least=0, most=demand.least - 1
        )
    more = (demand.most or 0) + 1
    return replace(demand, least=more, most=more), replace(demand, least=more, most=None)


def _needed(rule: Guardrail) -> list[str]:
    """The file that must be there, or some file in the deepest directory that must be there."""
    if isinstance(rule, RequireFile):
        return [rule.path]
    return [f"{directory}/*" for directory in directories_for(rule)[-1:]]


def _culprits(
    rules: tuple[Guardrail, ...], impossible: Callable[[tuple[Guardrail, ...]], bool]
) -> tuple[Guardrail, ...]:
    """A part of the rules that is impossible as the whole is, and would be possible without any one of them."""
    for size in (1, 2):  # the usual case, and small questions are quickly answered
        for few in itertools.combinations(rules, size):
            with contextlib.suppress(Undecided):
                if impossible(few):
                    return few
    part = rules
    for rule in rules:
        rest = tuple(other for other in part if other != rule)
        try:
            if impossible(rest):
                part = rest
        except Undecided:
            continue
    return part


def _why(culprits: Sequence[Guardrail], folding: Folding) -> str:
    if len(culprits) == 1:
        return "no tree can satisfy it: there are too few paths of that kind that a workspace can hold"
    if len(culprits) == 2 and any(isinstance(rule, ForbidGlob) for rule in culprits):
        return "the one forbids every file with which the other could be satisfied"
    if any(isinstance(rule, RequireGlob) and rule.max_count is not None for rule in culprits):
        return "more files must match than may match"
    if any(isinstance(rule, ForbidGlob) for rule in culprits):
        return "too few files are left that are not forbidden"
    if folding and find_collisions([path for rule in culprits for path in _needed(rule)], folding):
        return "the disk takes two of the names for one, or a path would have to be a file and a directory at once"
    return "a path would have to be a file and a directory at once"


def _verify(files: frozenset[str], expected: Mapping[Guardrail, bool]) -> None:
    """Ask the oracle: a tree that is not what it should be is a defect of this module."""
    for rule, satisfied in expected.items():
        if judge(rule, files).satisfied is not satisfied:
            raise RuntimeError(f"the tree {sorted(files)} was made for {rule}, and does not fit it")
