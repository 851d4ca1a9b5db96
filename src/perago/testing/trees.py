"""Trees for tests: from mappings, directories and zips; and from guardrails, the smallest that satisfies them and trees
that break exactly one.

    smallest_tree([require_dir("raw"), require_glob("raw/**/*.csv", min_count=2)])
    {"raw/a.csv": "", "raw/b.csv": ""}

Trees are constructed. The sets of the constraints divide all paths into areas: the paths of an area are in the same
sets. First each area gets a number of files, then the files get names. A `Contradiction` is exact: all ways were tried,
and no tree satisfies its rules.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from perago.authoring.workspace import Guardrail
from perago.guardrails.require_table import RequireTable
from perago.testing.constraints import (
    MOST_BYTES,
    TOO_INTRICATE,
    CountConstraint,
    Kind,
    NoSuchTable,
    Paths,
    PathSet,
    Undecided,
    constraint_of,
    contradictory_tables,
    path_set,
    recipe_of,
    table_for,
    violations_of,
)
from perago.testing.oracle import concerns, is_sound, judge_tree
from perago.testing.tasks import TaskFunction, task_of
from perago.text import size
from perago.trees import FileSource, Symlink, Tree, as_bytes, build, read_sources
from perago.workspace.keys import ACTIONS, EVERYTHING, View, directories_above

MOST_FILES = 500
_MOST_WAYS = 4_000
_MOST_NAMES = 2_000
_MOST_AREAS = 100


class Contradiction(Exception):
    """No tree satisfies the request. `rules` are the causes, and all of them are needed for the contradiction."""

    def __init__(self, rules: Sequence[Guardrail], reason: str) -> None:
        super().__init__(f"{' and '.join(map(str, rules))}: {reason}")
        self.rules: tuple[Guardrail, ...] = tuple(rules)
        self.reason = reason


TreeSource: TypeAlias = FileSource | TaskFunction
"""A mapping; the path of a directory or of a zip; or a task function, for the smallest tree that its `pre` guardrails
accept."""


def tree_of(*sources: TreeSource) -> dict[str, str | bytes | Symlink | None]:
    """Return one tree of all sources, as a mapping of relative paths to contents. None is a directory. Later sources
    override earlier ones.

    So `tree_of(build_features, {"raw/a.csv": "x\\n"})` is the smallest tree that the task accepts, with some content.

    Raises:
        BadTree: a path is absolute, contains `..` or is not a valid file name; a file is also a directory; a directory
            contains links; a zip is damaged, encrypted or larger than 256 MiB.
        TypeError: a source is not one of the four, or a function without `@task`.
        Contradiction: no tree satisfies the guardrails of the task.
    """
    return read_sources(_smallest_tree_of(source) if callable(source) else source for source in sources)


def _smallest_tree_of(function: TaskFunction) -> Tree:
    spec = task_of(function).workspace
    return {} if spec is None else smallest_tree(spec.pre, key_prefix=spec.key_prefix, _view=View.of(spec))


@contextmanager
def build_tree(*sources: TreeSource) -> Iterator[Path]:
    """Create the tree on disk, in its own directory, until the end of the `with` block.

    Raises:
        BadTree, TypeError, Contradiction: as `tree_of`.
    """
    with build(tree_of(*sources)) as path:
        yield path


class TreeBuilder:
    """Builds trees, and removes them at the end of its `with` block. The fixture `perago_tree` is one."""

    def __init__(self) -> None:
        self._built = ExitStack()

    def __call__(self, *sources: TreeSource) -> Path:
        """Create the tree on disk, in its own directory; see `tree_of` for the sources and errors."""
        return self._built.enter_context(build_tree(*sources))

    def mapping(self, *sources: TreeSource) -> dict[str, str | bytes | Symlink | None]:
        """Return the tree as a mapping, as `tree_of` does."""
        return tree_of(*sources)

    def __enter__(self) -> TreeBuilder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._built.close()


def smallest_tree(
    rules: Iterable[Guardrail], *, key_prefix: str = "", _view: View = EVERYTHING
) -> dict[str, str | bytes | None]:
    """Return the smallest tree that satisfies all rules. All files are empty, unless a rule needs a content. An
    author's `@guardrail` can refuse it, because its demands are unknown.

    `key_prefix` matters for `_lakefs_actions/`, which is never part of a workspace. All files are in `_view`.

    Raises:
        Contradiction: no such tree exists.
        Undecided: the rules are too complex.
    """
    constraints = constraints_of(rules)
    where = (key_prefix, _view)
    placement = _smallest(tuple(constraints.values()), *where)
    if placement is None:
        culprits = _culprits(constraints, lambda part: _smallest(part, *where) is None)
        raise Contradiction(tuple(culprits), _why(tuple(culprits.values())))
    for *pair, reason in contradictory_tables(constraints):
        raise Contradiction(pair, reason)
    return _filled(placement, list(constraints.values()), dict.fromkeys(constraints, True))


def satisfying_trees(
    rule: Guardrail, *, key_prefix: str = "", view: View = EVERYTHING
) -> list[dict[str, str | bytes | None]]:
    """Return trees at the limits of one rule: the smallest, the fullest if there is one, and a file with the required
    content.

    Raises:
        Contradiction: no such tree exists.
        Undecided: the rules are too complex.
        ValueError: the rule is unknown.
    """
    bounds = constraint_of(rule)
    trees = [smallest_tree([rule], key_prefix=key_prefix, _view=view)]
    fuller = [replace(bounds, least=bounds.most)] if bounds.most else []
    if bounds.content is not None and not bounds.least:
        fuller.append(replace(bounds, least=1))
    for constraint in fuller:
        with contextlib.suppress(Undecided):
            if (placement := _smallest((constraint,), key_prefix, view)) is not None:
                trees.append(_filled(placement, [constraint], {rule: True}))
    return trees


def violating_tree(
    rule: Guardrail,
    rules: Iterable[Guardrail],
    violation: str | None = None,
    *,
    key_prefix: str = "",
    _view: View = EVERYTHING,
) -> dict[str, str | bytes | None]:
    """Return a smallest tree that breaks `rule` in one way, and satisfies all the others of `rules`.

    Args:
        rule: the rule to break.
        rules: the rules that must hold; `rule` itself can be among them.
        violation: one of the rule's, by default its first: `missing` leaves out one file, `too-many` and `present` add
            one, or several because of other rules.
        key_prefix: the prefix of the workspace with its slash; empty for the complete repository.
        _view: the files that the task sees; all files of the tree are in it.

    Raises:
        Contradiction: each tree that breaks this rule also breaks another one; or the rule cannot be broken this way.
        Undecided: the rules are too complex.
        ValueError: the rule has no such violation.
    """
    possible = violations_of(rule)
    violation = violation or next(iter(possible), None)
    if violation is None or violation not in possible:
        raise ValueError(f"{rule} cannot be violated by {violation or 'any tree'}")
    others = constraints_of(other for other in rules if other != rule)
    where = (key_prefix, _view)
    constraints, expected = [*others.values(), constraint_of(rule)], {rule: False, **dict.fromkeys(others, True)}
    problem: Undecided | None = None
    for broken in possible[violation]:
        try:
            placement = _smallest((broken, *others.values()), *where)
            if placement is not None:
                return _filled(placement, constraints, expected, broken)
        except Undecided as undecided:
            problem = undecided
    if problem is not None:
        raise problem
    culprits = _culprits(
        others, lambda part: all(_smallest((broken, *part), *where) is None for broken in possible[violation])
    )
    reason = f"no tree breaks only the first rule ({violation})" if culprits else "always holds"
    raise Contradiction((rule, *culprits), reason)


def entangled_violation(
    rule: Guardrail, rules: Iterable[Guardrail], violation: str, *, key_prefix: str = "", view: View = EVERYTHING
) -> dict[str, str | bytes | None]:
    """Return a tree like `violating_tree`. If `rule` cannot be violated alone, it violates as few others as possible.

    Raises:
        Contradiction: it cannot be violated in this way at all.
        Undecided: the rules are too complex.
    """
    others = tuple(rules)
    while True:
        try:
            return violating_tree(rule, others, violation, key_prefix=key_prefix, _view=view)
        except Contradiction as contradiction:
            entangled = set(contradiction.rules) - {rule}
            if not entangled:
                raise
            others = tuple(other for other in others if other not in entangled)


def constraints_of(rules: Iterable[Guardrail]) -> dict[Guardrail, CountConstraint]:
    """Return the constraint of each rule, without the functions of authors, which are unknown."""
    return {rule: recipe.constraint for rule in rules if (recipe := recipe_of(rule))}


@lru_cache(maxsize=1024)
def _smallest(constraints: tuple[CountConstraint, ...], key_prefix: str, view: View) -> frozenset[str] | None:
    """The files of a smallest tree; None if no tree meets the constraints.

    Raises:
        Undecided: this cannot be decided within the limits.
    """
    nowhere = [paths for constraint in constraints for paths in _forbidden_by(constraint)]
    nowhere += [path_set(constraint.files) for constraint in constraints if constraint.most == 0]
    if not key_prefix:
        nowhere += [PathSet.only(ACTIONS), PathSet.matching("**", below=ACTIONS)]
    counted = [constraint for constraint in constraints if constraint.most != 0]
    if sum(constraint.least for constraint in counted) > MOST_FILES:
        raise Undecided(f"the rules ask for more than {MOST_FILES} files")
    areas = _areas([path_set(constraint.files) for constraint in counted], nowhere, view)
    while (numbers := _fewest(counted, areas)) is not None:
        names = _named(areas, numbers)
        if names is not None:
            return names
    return None


def _needed(constraint: CountConstraint) -> str:
    """The file that must be there, or `*` below the deepest directory that must be there."""
    files = constraint.files
    if constraint.least and not files.pattern:
        return files.name
    directories = files.name.split("/") if files.name and constraint.least else []
    for name in files.pattern.split("/")[:-1] if constraint.least else ():
        if any(place.kind is not Kind.EXACTLY for place in PathSet.matching(name).places):
            break
        directories.append(name)
    return "/".join([*directories, "*"])


def _forbidden_by(constraint: CountConstraint) -> Iterator[PathSet]:
    """Yield the sets that can contain no file, because the constraint needs a directory there or a file above."""
    if constraint.least and not constraint.files.pattern:
        yield PathSet.matching("**", below=constraint.files.name)
    yield from map(PathSet.only, directories_above(_needed(constraint)))


# ------------------------------------------------------------------- as few files as possible, or the proof of none


@dataclass(slots=True)
class _Area:
    """The paths in the sets of the `inside` constraints and in those of no others."""

    inside: frozenset[int]
    paths: Paths
    room: int = MOST_FILES
    """The number of paths, as far as is known."""


def _areas(sets: Sequence[PathSet], nowhere: Sequence[PathSet], view: View) -> list[_Area]:
    """Return every area with a path that is in `view`, in none of `nowhere`, and in at least one of the sets."""
    included = list(map(PathSet.matching, view.include))
    parts = [([paths], included[:number]) for number, paths in enumerate(included)] or [([], [])]  # without overlap
    areas = []
    for within, others in parts:
        outside = [*nowhere, *others, *map(PathSet.matching, view.exclude)]
        chosen: list[list[int]] = [[]]
        for number in range(len(sets)):
            grown = [[*inside, number] for inside in chosen]
            chosen += [
                combination
                for combination in grown
                if Paths([*within, *(sets[index] for index in combination)], outside).exist()
            ]
            if len(chosen) > _MOST_AREAS:
                raise Undecided(TOO_INTRICATE)
        for inside in chosen[1:]:
            rest = [paths for index, paths in enumerate(sets) if index not in inside]
            paths = Paths([*within, *(sets[index] for index in inside)], [*outside, *rest])
            if paths.exist():
                areas.append(_Area(frozenset(inside), paths))
    return areas


def _fewest(constraints: Sequence[CountConstraint], areas: Sequence[_Area]) -> tuple[int, ...] | None:
    """Return the smallest numbers of files in the areas that meet all constraints, or None.

    In a smallest tree, some constraint needs each file. So it is enough to add files for one constraint that lacks
    files. The constraint with the fewest areas leaves the fewest ways.

    Raises:
        Undecided: too many ways.
    """
    pending: list[tuple[int, int, int, tuple[int, ...]]] = [(0, 0, 0, (0,) * len(areas))]
    tried = set()
    while pending:
        *_, numbers = heapq.heappop(pending)
        counts = _counts(numbers, areas, len(constraints))
        missing = [constraint.least - number for constraint, number in zip(constraints, counts, strict=True)]
        lacking = [index for index, number in enumerate(missing) if number > 0]
        if not lacking:
            return numbers
        hardest = min(lacking, key=lambda index: sum(index in area.inside for area in areas))
        for place, area in enumerate(areas):
            slack = [most - counts[index] for index in area.inside if (most := constraints[index].most) is not None]
            amount = min(area.room - numbers[place], max(missing[index] for index in area.inside), *slack)
            for added in {amount, 1} if hardest in area.inside and amount > 0 else ():
                more = (*numbers[:place], numbers[place] + added, *numbers[place + 1 :])
                if more not in tried:
                    tried.add(more)
                    heapq.heappush(pending, (*_promise(more, constraints, areas), more))
        if len(tried) > _MOST_WAYS:
            raise Undecided("there are too many ways to combine the rules")
    return None


def _counts(numbers: Sequence[int], areas: Sequence[_Area], constraints: int) -> list[int]:
    """Return the number of files that each constraint counts."""
    pairs = list(zip(areas, numbers, strict=True))
    return [sum(number for area, number in pairs if index in area.inside) for index in range(constraints)]


def _promise(
    numbers: Sequence[int], constraints: Sequence[CountConstraint], areas: Sequence[_Area]
) -> tuple[int, int, int]:
    """Return the least size of a tree with these files, the number of missing files, and how often files are counted.
    The search continues with the smallest."""
    counts = _counts(numbers, areas, len(constraints))
    missing = [max(constraint.least - number, 0) for constraint, number in zip(constraints, counts, strict=True)]
    total, covered = sum(numbers), set[int]()
    for index in sorted(range(len(constraints)), key=lambda index: -missing[index]):
        if index not in covered:  # constraints without an area in common need files of their own
            total += missing[index]
            covered.update(*(area.inside for area in areas if index in area.inside))
    return total, sum(missing), sum(counts)


def _named(areas: Sequence[_Area], numbers: Sequence[int]) -> frozenset[str] | None:
    """Return files for the numbers; None if an area is too small, which is then recorded.

    Raises:
        Undecided: enough paths exist, but not enough were found that can be next to each other.
    """
    names: set[str] = set()
    for area, number in sorted(zip(areas, numbers, strict=True), key=lambda pair: -len(pair[0].inside)):
        paths = itertools.islice(area.paths, _MOST_NAMES)
        tried: list[str] = []
        total = len(names) + number
        while len(names) < total:
            path = next(paths, None)
            if path is None:
                if len(tried) < min(number, _MOST_NAMES) and area.paths.are_all(tried):
                    area.room = len(tried)
                    return None
                raise Undecided("not enough names were found that can be in one tree")
            tried.append(path)
            if _can_join(path, names):
                names.add(path)
    return frozenset(names)


def _can_join(path: str, others: Collection[str]) -> bool:
    """Whether a file at `path` can be in one tree with the others."""
    above = any(directory in others for directory in directories_above(path))
    return not (path in others or above or any(other.startswith(f"{path}/") for other in others))


# ----------------------------------------------------------------------------------- contents, and contradictions


def _filled(
    files: frozenset[str],
    constraints: Sequence[CountConstraint],
    expected: Mapping[Guardrail, bool],
    broken: CountConstraint | None = None,
) -> dict[str, str | bytes | None]:
    """Return the files with their required contents. If a content breaks the rule, one file has it.

    Raises:
        Undecided: rules want different contents of one file, or the tree would be too large.
    """
    contents: dict[str, str | bytes] = {}
    for path in sorted(files):
        required = [
            constraint.content
            for constraint in constraints
            if constraint.content and path in path_set(constraint.files)
        ]
        about = [rule for rule in expected if concerns(rule, path)]
        tables = [rule for rule in about if isinstance(rule, RequireTable)]
        options = sorted(required, key=len, reverse=True) or [""]
        with contextlib.suppress(NoSuchTable):
            options += [table for table in [table_for(tables) if len(tables) > 1 else None] if table is not None]
        suiting = (content for content in options if all(is_sound(rule, as_bytes(content)) for rule in about))
        contents[path] = next(suiting, options[0])
    if (total := sum(map(len, contents.values()))) > MOST_BYTES:
        raise Undecided(f"its files would have {size(total)}, and generated trees have at most {size(MOST_BYTES)}")
    candidates = [contents]
    if broken is not None and broken.least and broken.content is not None:
        breaking = [path for path in contents if path in path_set(broken.files)]
        candidates = [
            {**contents, path: broken.content} for path in sorted(breaking, key=lambda path: len(contents[path]))
        ]
    for tree in candidates:
        if all(judge_tree(rule, tree).satisfied is satisfied for rule, satisfied in expected.items()):
            return dict(tree)
    if any(constraint.content is not None for constraint in (*constraints, broken) if constraint):
        raise Undecided(f"no content was found for {', '.join(contents)} that suits all rules")
    raise RuntimeError(f"the tree {sorted(contents)} was made for {', '.join(map(str, expected))}, but does not fit")


def _culprits(
    rules: Mapping[Guardrail, CountConstraint], impossible: Callable[[tuple[CountConstraint, ...]], bool]
) -> dict[Guardrail, CountConstraint]:
    """Return a minimal subset of the rules that is impossible."""
    for number in (1, 2):  # the usual case, and small questions are quickly answered
        for subset in itertools.combinations(rules.items(), number):
            with contextlib.suppress(Undecided):
                if impossible(tuple(constraint for _, constraint in subset)):
                    return dict(subset)
    part = dict(rules)
    for rule in rules:
        rest = {other: constraint for other, constraint in part.items() if other != rule}
        with contextlib.suppress(Undecided):
            if impossible(tuple(rest.values())):
                part = rest
    return part


def _why(culprits: Sequence[CountConstraint]) -> str:
    if len(culprits) == 1:
        return "no tree can satisfy it, because a workspace can hold too few such paths"
    if len(culprits) == 2 and any(constraint.most == 0 for constraint in culprits):
        return "one rule forbids every file that the other one needs"
    if any(constraint.most for constraint in culprits):
        return "more files must match than are allowed"
    if any(constraint.most == 0 for constraint in culprits):
        return "the rules forbid too many of the files that must match"
    return "a path would have to be a file and a directory at once"
