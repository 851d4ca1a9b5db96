"""Trees for tests: the smallest that satisfies some guardrails, and trees that break exactly one.

The sets of the constraints cut all paths into areas: the paths that are in exactly these sets. First it is decided how
many files each area gets, then files are named. That there is no solution is said only if every way was tried. The
first functions say what one constraint means for paths: the sets it counts, and where no file can be because of it.

    smallest_tree([require_dir("raw"), require_glob("raw/**/*.csv", min_count=2)])
    {"raw/a.csv": "", "raw/b.csv": ""}

Trees are constructed, not searched for. A `Contradiction` is an exact statement: no tree at all satisfies its rules.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from perago.authoring.workspace import CountConstraint, FileSelection, Guardrail
from perago.testing.oracle import concerns, is_sound, judge_tree
from perago.testing.pathsets import Kind, Paths, PathSet, TooComplex, below, matching, name_places, only
from perago.testing.tree_files import Symlink, Tree, build
from perago.workspace.keys import EVERYTHING, Folding, View, find_collisions

RESERVED = "_lakefs_actions"
"""The directory of lakeFS hooks."""
MOST_FILES = 500
_MOST_TRIES = 4_000
_MOST_NAMES = 2_000
_MOST_AREAS = 100


def path_set(files: FileSelection, *, plainly: bool = False) -> PathSet:
    """The paths of the selection; `plainly` gives a part of them that people like to read."""
    if not files.pattern:
        return only(files.name)
    above = only(f"{files.name}/").places if files.name else ()
    return PathSet((*above, *matching(files.pattern, plainly=plainly).places))


def forbidden_by(constraint: CountConstraint) -> Iterator[PathSet]:
    """Where no file can be, because the constraint needs a directory there, or a file above."""
    if constraint.least and not constraint.files.pattern:
        yield below(constraint.files.name)
    for directory in directories_for(constraint):
        yield only(directory)


def directories_for(constraint: CountConstraint) -> list[str]:
    """The directories that must be there for the constraint to hold, the outermost first."""
    if not constraint.least:
        return []
    names = constraint.files.name.split("/") if constraint.files.name else []
    for segment in constraint.files.pattern.split("/") if constraint.files.pattern else ():
        names.append(segment)
        if segment == "**" or any(place.kind is not Kind.EXACTLY for place in name_places(segment)):
            break
    return ["/".join(names[:depth]) for depth in range(1, len(names))]


def needed(constraint: CountConstraint) -> list[str]:
    """The file that must be there, or some file in the deepest directory that must be there."""
    if constraint.least and not constraint.files.pattern:
        return [constraint.files.name]
    return [f"{directory}/*" for directory in directories_for(constraint)[-1:]]


def reserved_paths(key_prefix: str) -> Sequence[PathSet]:
    """What is never part of a workspace (docs/design/contract.md 2)."""
    return () if key_prefix else (only(RESERVED), below(RESERVED))


class Undecided(Exception):
    """Whether there is such a tree could not be found out within reason; the message says why."""


@dataclass(slots=True)
class _Area:
    """The paths in the sets of the `inside` constraints and in those of no others."""

    inside: frozenset[int]
    paths: Paths
    plain: Paths
    room: int | None = None
    """How many paths there are; None while more may come."""


def seen_paths(view: View) -> list[tuple[list[PathSet], list[PathSet]]]:
    """The parts of what a task sees, none of which overlap: the sets that all paths of a part are in, and those that
    none of them is in."""
    included = [matching(pattern) for pattern in view.include]
    excluded = [matching(pattern) for pattern in view.exclude]
    parts = [([paths], included[:number]) for number, paths in enumerate(included)] or [([], [])]
    return [(within, [*others, *excluded]) for within, others in parts]


def solve(
    constraints: Sequence[CountConstraint], nowhere: Iterable[PathSet], folding: Folding, view: View = EVERYTHING
) -> frozenset[str] | None:
    """The paths of as few files as possible; None if no tree meets the constraints. No file is in a set of
    `nowhere` or out of `view`, and all can stand on one disk.

    Raises:
        Undecided: see there.
    """
    forbidden = [path_set(constraint.files) for constraint in constraints if constraint.most == 0]
    none_there = [*nowhere, *forbidden]
    counted = [constraint for constraint in constraints if constraint.most != 0]
    if sum(constraint.least for constraint in counted) > MOST_FILES:
        raise Undecided(f"the rules ask for more than {MOST_FILES} files")
    try:
        parts = [(within, [*none_there, *others]) for within, others in seen_paths(view)]
        areas = [area for part in parts for area in _areas(counted, *part)]
        while True:
            numbers = _Counting(counted, areas).fewest()
            if numbers is None:
                return None
            names = _named(areas, numbers, folding)
            if names is not None:
                return names
    except TooComplex:
        raise Undecided("the patterns of the rules are too intricate together") from None


def _areas(
    constraints: Sequence[CountConstraint], within: Sequence[PathSet], nowhere: Sequence[PathSet]
) -> list[_Area]:
    """Every area that holds a path and that a constraint is about. All files are in the sets of `within`, and none in
    one of `nowhere`."""
    sets = [path_set(constraint.files) for constraint in constraints]
    plain_sets = [path_set(constraint.files, plainly=True) for constraint in constraints]
    chosen: list[list[int]] = [[]]
    for number in range(len(sets)):
        grown = [[*inside, number] for inside in chosen]
        chosen += [inside for inside in grown if Paths([*within, *(sets[index] for index in inside)], nowhere).exist()]
        if len(chosen) > _MOST_AREAS:
            raise TooComplex
    areas = []
    for inside in chosen[1:]:
        outside = [paths for index, paths in enumerate(sets) if index not in inside] + [*nowhere]
        paths = Paths([*within, *(sets[index] for index in inside)], outside)
        if paths.exist():
            plain = Paths([*within, *(plain_sets[index] for index in inside)], outside)
            areas.append(_Area(frozenset(inside), paths, plain))
    return areas


@dataclass(slots=True)
class _Counting:
    """The search for the number of files in each area."""

    constraints: Sequence[CountConstraint]
    areas: Sequence[_Area]
    tries: int = 0
    dead_ends: set[tuple[int, tuple[int, ...]]] = field(default_factory=set)

    def fewest(self) -> list[int] | None:
        """The smallest numbers that meet all constraints, None if none do.

        Raises:
            Undecided: too many ways.
        """
        if any(
            constraint.least and not any(index in area.inside for area in self.areas)
            for index, constraint in enumerate(self.constraints)
        ):
            return None
        for total in range(self._at_least(), sum(constraint.least for constraint in self.constraints) + 1):
            self.dead_ends.clear()
            found = self._with(total, [0] * len(self.areas))
            if found is not None:
                return found
        return None

    def _at_least(self) -> int:
        """No tree is smaller: constraints that have no area in common need files of their own."""
        total, covered = 0, set[int]()
        for index, constraint in sorted(enumerate(self.constraints), key=lambda item: -item[1].least):
            if index not in covered:
                total += constraint.least
                covered.update(*(area.inside for area in self.areas if index in area.inside))
        return total

    def _with(self, left: int, numbers: list[int]) -> list[int] | None:
        """Add files, `left` at most, until nothing is missing. In a smallest tree every file is one that some
        constraint misses when the others are there, so adding to the first such constraint loses none."""
        missing = [constraint.least - self._count(index, numbers) for index, constraint in enumerate(self.constraints)]
        lacking = next((index for index, number in enumerate(missing) if number > 0), None)
        if lacking is None:
            return numbers
        state = (left, tuple(numbers))
        if max(missing) > left or state in self.dead_ends:
            return None
        self.tries += 1
        if self.tries > _MOST_TRIES:
            raise Undecided("there are too many ways to combine the rules")
        for place in self._by_use(lacking, missing):
            most = min(left, self._room(place, numbers), max(missing[index] for index in self.areas[place].inside))
            for amount in sorted({most, 1}, reverse=True):
                if 0 < amount <= most:
                    more = [number + (amount if index == place else 0) for index, number in enumerate(numbers)]
                    found = self._with(left - amount, more)
                    if found is not None:
                        return found
        self.dead_ends.add(state)
        return None

    def _by_use(self, lacking: int, missing: Sequence[int]) -> list[int]:
        """The areas of a constraint, those first that meet the most others and are counted by the fewest."""
        places = [place for place, area in enumerate(self.areas) if lacking in area.inside]
        return sorted(
            places,
            key=lambda place: (
                -sum(missing[index] > 0 for index in self.areas[place].inside),
                len(self.areas[place].inside),
            ),
        )

    def _room(self, place: int, numbers: Sequence[int]) -> int:
        """How many more files the area can take."""
        area = self.areas[place]
        rooms = [
            most - self._count(index, numbers)
            for index in area.inside
            if (most := self.constraints[index].most) is not None
        ]
        if area.room is not None:
            rooms.append(area.room - numbers[place])
        return min(rooms, default=MOST_FILES)

    def _count(self, index: int, numbers: Sequence[int]) -> int:
        return sum(number for area, number in zip(self.areas, numbers, strict=True) if index in area.inside)


def _named(areas: Sequence[_Area], numbers: Sequence[int], folding: Folding) -> frozenset[str] | None:
    """Files for the numbers; None if an area turned out to be too small, which it then knows.

    Raises:
        Undecided: enough paths exist, but not enough were found that can stand beside each other.
    """
    names: set[str] = set()
    for area, number in sorted(zip(areas, numbers, strict=True), key=lambda pair: -len(pair[0].inside)):
        if number and not _add_names(area, number, names, folding):
            return None
    return frozenset(names)


def _add_names(area: _Area, number: int, names: set[str], folding: Folding) -> bool:
    wanted = len(names) + number
    tried: list[str] = []
    for path in itertools.islice(_candidates(area), _MOST_NAMES):
        tried.append(path)
        if path not in names and can_join(path, names, folding):
            names.add(path)
        if len(names) == wanted:
            return True
    distinct = set(tried)
    if len(tried) < _MOST_NAMES and len(distinct) < number and area.paths.is_every_one(distinct):
        area.room = len(distinct)
        return False
    raise Undecided("not enough names were found that can stand beside each other")


def _candidates(area: _Area) -> Iterable[str]:
    """Paths of the area, readable ones first; some come more than once."""
    return itertools.chain(
        itertools.islice(area.plain.shortest_first(readable=True), _MOST_NAMES // 3),
        itertools.islice(area.paths.shortest_first(readable=True), _MOST_NAMES // 3),
        area.paths.shortest_first(),
    )


def can_join(path: str, others: Collection[str], folding: Folding) -> bool:
    """Whether a file at `path` can stand in one tree with the others."""
    if path in others:
        return True
    above = path.split("/")
    if any("/".join(above[:depth]) in others for depth in range(1, len(above))):
        return False
    if any(other.startswith(f"{path}/") for other in others):
        return False
    return not folding or not find_collisions([*others, path], folding)


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
