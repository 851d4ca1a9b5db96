"""Trees for tests: the smallest that satisfies some guardrails, ones that break exactly one, and trees on disk.

    smallest_tree([require_dir("raw"), require_glob("raw/**/*.csv", min_count=2)])
    {"raw/a.csv": "", "raw/b.csv": ""}

Trees are constructed, not searched for. A `Contradiction` is an exact statement: no tree at all satisfies its rules.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from perago.authoring.guardrails import CountConstraint, Guardrail
from perago.testing.building import Symlink, Tree, build
from perago.testing.oracle import concerns, is_sound, judge_tree
from perago.testing.pathsets import only
from perago.testing.solving import Undecided, directories_for, forbidden_by, needed, path_set, reserved_paths, solve
from perago.workspace.keys import Folding, find_collisions
from perago.workspace.view import EVERYTHING, View

__all__ = [
    "Contradiction",
    "Symlink",
    "Tree",
    "Undecided",
    "build",
    "satisfying_trees",
    "smallest_tree",
    "violating_tree",
]

ANY_DISK = Folding()


class Contradiction(Exception):
    """No tree does what is asked for. `rules` are the culprits, none of which can be left out."""

    def __init__(self, rules: Sequence[Guardrail], reason: str) -> None:
        super().__init__(f"{' and '.join(map(str, rules))}: {reason}")
        self.rules = tuple(rules)
        self.reason = reason


def smallest_tree(
    rules: Iterable[Guardrail], *, key_prefix: str = "", folding: Folding = ANY_DISK, view: View = EVERYTHING
) -> dict[str, str | bytes | None]:
    """The smallest tree that satisfies all rules; all files are empty, unless a rule says what they hold. A
    `@guardrail` of one's own may refuse it: what that wants cannot be told.

    `key_prefix` matters for `_lakefs_actions/`, which is never part of a workspace (docs/design/contract.md 2).
    `folding` is that of the disk: names that it takes for one contradict each other. All files are in `view`.

    Raises:
        Contradiction: there is none.
        Undecided: the rules are too intricate to tell.
    """
    wanted = _derivable(rules)
    constraints = _constraints(wanted)
    where = _Where(key_prefix, folding, view)
    found = _smallest(constraints, where)
    if found is None:
        culprits = _culprits(wanted, lambda part: _smallest(_constraints(part), where) is None)
        raise Contradiction(culprits, _why(_constraints(culprits), folding))
    return _filled(found, constraints, dict.fromkeys(wanted, True))


def satisfying_trees(
    rule: Guardrail, *, key_prefix: str = "", view: View = EVERYTHING
) -> list[dict[str, str | bytes | None]]:
    """Trees at the limits of one rule: the smallest, the fullest if there is one, and a file that holds what it must.

    Raises:
        Contradiction: there are none.
        Undecided: there may be some, but none was found.
    """
    trees, bounds = [], rule.constraint
    fuller = [replace(bounds, least=bounds.most)] if bounds.most else []
    if bounds.content is not None and not bounds.least:
        fuller.append(replace(bounds, least=1))
    problem: Exception | None = None
    for constraint in (bounds, *fuller):
        try:
            found = _smallest((constraint,), _Where(key_prefix, ANY_DISK, view))
        except Undecided as undecided:
            problem = undecided
            continue
        if found is None:
            problem = Contradiction([rule], _why([constraint], ANY_DISK))
        else:
            trees.append(_filled(found, (constraint,), {rule: True}))
    if problem and not trees:
        raise problem
    return trees


def violating_tree(
    rule: Guardrail,
    rules: Iterable[Guardrail],
    violation: str | None = None,
    *,
    key_prefix: str = "",
    folding: Folding = ANY_DISK,
    view: View = EVERYTHING,
) -> dict[str, str | bytes | None]:
    """A smallest tree that breaks `rule`, just so, and satisfies all the others of `rules`.

    Args:
        rule: the rule to break.
        rules: what else must hold; `rule` itself may be among them.
        violation: one of the rule's, by default its first: `missing` leaves out one file, `too-many` and `present` add
            one, or several if the other rules want it so.
        key_prefix: the prefix of the workspace with its slash; empty: all of the repository.
        folding: which names the disk takes for the same.
        view: what the task sees; all files are in it.

    Raises:
        Contradiction: what breaks this rule breaks one of the others, too; or it cannot be broken this way at all.
        Undecided: the rules are too intricate to tell.
        ValueError: the rule has no such violation.
    """
    possible = rule.violations()
    violation = violation or next(iter(possible), None)
    if violation is None or violation not in possible:
        raise ValueError(f"{rule} cannot be violated by {violation or 'any tree'}")
    ways = tuple(possible[violation])
    others = tuple(other for other in _derivable(rules) if other != rule)
    constraints = _constraints(others)
    where = _Where(key_prefix, folding, view)
    found = _violating(ways, constraints, where)
    if found is None:
        culprits = _culprits(others, lambda part: _violating(ways, _constraints(part), where) is None)
        reason = f"no tree breaks the first ({violation}) and satisfies the rest" if culprits else "always holds"
        raise Contradiction((rule, *culprits), reason)
    files, broken = found
    return _filled(files, [*constraints, rule.constraint], {rule: False} | dict.fromkeys(others, True), broken)


def _derivable(rules: Iterable[Guardrail]) -> tuple[Guardrail, ...]:
    """Each rule once; without functions of authors, of which nothing is known."""
    return tuple(dict.fromkeys(rule for rule in rules if rule.is_derivable))


def _constraints(rules: Iterable[Guardrail]) -> tuple[CountConstraint, ...]:
    return tuple(rule.constraint for rule in rules)


@dataclass(frozen=True, slots=True)
class _Where:
    """What a workspace can hold, whatever its rules."""

    key_prefix: str
    folding: Folding
    view: View


@lru_cache(maxsize=1024)
def _smallest(constraints: tuple[CountConstraint, ...], where: _Where) -> frozenset[str] | None:
    folding = where.folding
    if folding and find_collisions([path for constraint in constraints for path in needed(constraint)], folding):
        return None
    nowhere = [paths for constraint in constraints for paths in forbidden_by(constraint)]
    return solve(constraints, [*nowhere, *reserved_paths(where.key_prefix)], folding, where.view)


@lru_cache(maxsize=1024)
def _violating(
    ways: tuple[CountConstraint, ...], others: tuple[CountConstraint, ...], where: _Where
) -> tuple[frozenset[str], CountConstraint] | None:
    """Files that meet one of the ways and all others, and which way that is."""
    for broken in ways:
        directories = [only(directory) for directory in directories_for(broken)]
        nowhere = [*directories, *(paths for other in others for paths in forbidden_by(other))]
        found = solve([broken, *others], [*reserved_paths(where.key_prefix), *nowhere], where.folding, where.view)
        if found is not None:
            return found, broken
    return None


def _filled(
    files: frozenset[str],
    constraints: Sequence[CountConstraint],
    expected: Mapping[Guardrail, bool],
    broken: CountConstraint | None = None,
) -> dict[str, str | bytes | None]:
    """The files with what they must hold. As many as the broken rule needs hold what breaks it."""
    contents: dict[str, str | bytes] = {}
    for path in sorted(files):
        wanted = [each.content for each in constraints if each.content and path in path_set(each.files)]
        contents[path] = _suiting(path, sorted(wanted, key=len, reverse=True) or [""], expected)
    if broken is not None and broken.content is not None:
        breaking = [path for path in contents if path in path_set(broken.files)]
        for path in sorted(breaking, key=lambda path: len(contents[path]))[: broken.least]:
            contents[path] = broken.content
    _verify(contents, expected, certain=all(each.content is None for each in (*constraints, broken) if each))
    return dict(contents)


def _suiting(path: str, contents: Sequence[str | bytes], rules: Iterable[Guardrail]) -> str | bytes:
    """The first of the contents that suits all rules about the file, or the first of all."""
    about = [rule for rule in rules if concerns(rule, path)]

    def suits(content: str | bytes) -> bool:
        data = content.encode() if isinstance(content, str) else content
        return all(is_sound(rule, data) for rule in about)

    return next(filter(suits, contents), contents[0])


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


def _why(culprits: Sequence[CountConstraint], folding: Folding) -> str:
    if len(culprits) == 1:
        return "no tree can satisfy it: there are too few paths of that kind that a workspace can hold"
    if len(culprits) == 2 and any(constraint.most == 0 for constraint in culprits):
        return "the one forbids every file with which the other could be satisfied"
    if any(constraint.most for constraint in culprits):
        return "more files must match than may match"
    if any(constraint.most == 0 for constraint in culprits):
        return "too few files are left that are not forbidden"
    if folding and find_collisions([path for constraint in culprits for path in needed(constraint)], folding):
        return "the disk takes two of the names for one, or a path would have to be a file and a directory at once"
    return "a path would have to be a file and a directory at once"


def _verify(contents: Mapping[str, str | bytes], expected: Mapping[Guardrail, bool], *, certain: bool) -> None:
    """Ask the oracle. A wrong tree is a defect of this module, unless rules want different contents of one file."""
    for rule, satisfied in expected.items():
        if judge_tree(rule, contents).satisfied is not satisfied:
            if not certain:
                raise Undecided(f"no content was found for {', '.join(contents)} that suits all rules")
            raise RuntimeError(f"the tree {sorted(contents)} was made for {rule}, and does not fit it")
